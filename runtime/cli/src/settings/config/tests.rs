use crate::environment::tests::environment;

use super::*;

fn read_both(own: &str, system: &str) -> Result<Config, Diagnostics> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let files = ["own.toml", "system.toml"].map(|name| dir.path().join(name));
    for (file, text) in files.iter().zip([own, system]) {
        std::fs::write(file, text).expect("writes");
    }
    let read = load_from(Some(&files[0]), true, &files[1], Some(Path::new("/h")));
    let plain = |path: &mut PathBuf| {
        if let Ok(rest) = path.strip_prefix(dir.path()) {
            *path = Path::new("/etc").join(rest);
        }
    };
    read.map(|mut config| {
        for host in config.hosts.values_mut() {
            host.ca.iter_mut().for_each(plain);
            if let Some((certificate, key)) = &mut host.client_certificate {
                plain(certificate);
                plain(key);
            }
        }
        config
    })
}

fn refused(text: &str) -> Vec<(String, &'static str, String)> {
    let errors = parse(Path::new("/c.toml"), text, None).map(|_| ()).expect_err(text);
    errors.into_iter().map(|error| (error.message, error.code, error.help.unwrap_or_default())).collect()
}

#[test]
fn the_users_file_counts_before_the_machines_key_by_key() {
    let own = "jobs = 3\n[network]\nhttps_proxy = ''\n[registry.'docker.io']\nmirrors = ['m.example/hub']\n\
               [registry.'r.example:5000']\nca = ['ca.pem', '/x/ca.pem', '~/ca.pem']\ninsecure = false\n\
               [[registry.'r.example:5000'.keypair]]\nkey = 'key.pem'\ncert = 'cert.pem'\n";
    let system = "jobs = 9\nroot = '~/state'\n[network]\nhttps_proxy = 'http://p'\nno_proxy = 'a'\n\
                  [registry.'index.docker.io']\nmirrors = ['other']\nhttp = true\n\
                  [registry.'r.example:5000']\ninsecure = true\n[registry.plain]\n";
    let config = read_both(own, system).expect("is well formed");
    assert_eq!((config.files.len(), config.jobs.map(NonZeroUsize::get)), (2, Some(3)));
    assert_eq!(config.root.as_deref(), Some(Path::new("/h/state")));
    let some = |text: &str| Some(text.to_owned());
    let network =
        Network { http_proxy: None, https_proxy: some(""), no_proxy: some("a"), ca: None, steps: None };
    assert!(config.network == network);
    let hub =
        HostOptions { mirrors: vec!["m.example/hub".to_owned()], plain_http: true, ..HostOptions::default() };
    let own = HostOptions {
        ca: vec!["/etc/ca.pem".into(), "/x/ca.pem".into(), "/h/ca.pem".into()],
        client_certificate: Some(("/etc/cert.pem".into(), "/etc/key.pem".into())),
        ..HostOptions::default()
    };
    let expected =
        [("docker.io", hub), ("plain", HostOptions::default()), ("r.example:5000", own)].into_iter();
    assert_eq!(config.hosts, expected.map(|(host, said)| (host.to_owned(), said)).collect());
}

#[test]
fn mistakes_have_a_place_and_a_near_name() {
    let text = "job = 3\n[network]\nhttp-proxy = ''\n[registry.a]\nplain = 1\nkeypair = [{ key = 'k', crt = 'c' }]\n";
    let told: Vec<_> = refused(text).into_iter().map(|(message, _, help)| (message, help)).collect();
    let expected = [
        ("/c.toml:1:1: there is no key `job`", "did you mean `jobs`?"),
        ("/c.toml:3:1: there is no key `http-proxy` in [network]", "did you mean `http_proxy`?"),
        (
            "/c.toml:5:1: there is no key `plain` in [registry.\"a\"]",
            "known keys: mirrors, http, insecure, ca, keypair",
        ),
        ("/c.toml:6:12: `cert` is missing", ""),
        ("/c.toml:6:25: there is no key `crt` of a keypair", "did you mean `cert`?"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((message, help), (expected, expected_help)) in told.iter().zip(expected) {
        assert_eq!(message, expected);
        assert!(help.contains(expected_help), "{help}");
    }
}

#[test]
fn wrong_values_have_a_place() {
    for (text, start) in [
        ("jobs = 0", "/c.toml:1:8: this is a number, at least 1, not the number 0"),
        ("root = 'state'", "/c.toml:1:8: `state` is not an absolute path"),
        ("jobs =", "/c.toml:1:"),
        ("[registry.'https://a']", "/c.toml:1:11: `https://a` is not a registry: it has a scheme"),
        ("[registry.'a/b']", "/c.toml:1:11: `a/b` is not a registry: it has a path"),
        ("[registry.a]\nmirrors = ['b c']", "/c.toml:2:12: `b c` is not a registry: it has a space"),
        ("[registry.a]\nmirrors = ['http://u:hunter2@b']", "/c.toml:2:12: `…` is not a registry"),
        ("[registry.a]\nmirrors = ['http://b:1/c', 'ftp://b']", "/c.toml:2:28: `ftp://b` is not a registry"),
        ("[registry.a]\nhttp = 'http://u:hunter2@a'", "/c.toml:2:8: this is `true` or `false`, not a text"),
        (
            "[registry.'docker.io']\n[registry.'index.docker.io']",
            "/c.toml:2:11: `docker.io` has another table",
        ),
        (
            "[registry.a]\nkeypair = [{ key = 'k', cert = 'c' }, { key = 'k', cert = 'c' }]",
            "/c.toml:2:11: a registry is shown one certificate",
        ),
    ] {
        let errors = refused(text);
        let (message, code, _) = errors.first().expect("has an error");
        assert!(*code == BAD_VALUE && message.starts_with(start), "{text}: {errors:?}");
        assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
    }
}

#[test]
fn the_file_lies_where_the_environment_says() {
    let place = |variables: &[(&'static str, &str)]| usual_place(&environment(variables));
    assert_eq!(place(&[]), None);
    assert_eq!(place(&[("HOME", "/h")]), Some("/h/.config/rb/config.toml".into()));
    assert_eq!(place(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "rel")]), place(&[("HOME", "/h")]));
    assert_eq!(place(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")]), Some("/c/rb/config.toml".into()));
    let errors = load(&environment(&[("RB_CONFIG", "no/such.toml")])).expect_err("is named");
    assert_eq!(errors[0].message, "`/ws/no/such.toml` is not there");
    let nowhere = Path::new("/nonexistent/config.toml");
    assert_eq!(load_from(Some(nowhere), false, nowhere, None), Ok(Config::default()));
}
