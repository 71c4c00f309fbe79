//! A real registry that wants to be trusted or to know who asks: pulled from, built on and pushed to by the real `rb`.

use std::path::PathBuf;
use std::process::Command;

use super::support::docker_registry::{DockerRegistry, Wants};
use crate::env::TestEnv;
use crate::push::{folder, noise};

/// A file in the home of an environment's user.
fn write_at_home(env: &TestEnv, path: &str, text: &str) -> PathBuf {
    let path = env.project().parent().expect("has one").join("home").join(path);
    std::fs::create_dir_all(path.parent().expect("lies at home")).expect("makes folders");
    std::fs::write(&path, text).expect("writes");
    path
}

/// Pushes an image, pulls it, and builds on it, as users whom `prepare` tells about the registry; it returns the options
/// of each command.
fn there_and_back(host: &str, prepare: impl Fn(&TestEnv) -> Vec<String>) {
    let run = |env: &TestEnv, args: &[&str]| {
        let mut all = prepare(env);
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        env.rb(all).expect(0)
    };
    let name = format!("{host}/team/app:1");
    let data = noise(3, 300_000);
    let pull = |name: &str| {
        let env = TestEnv::new();
        let mut args = vec!["image".to_owned(), "pull".to_owned(), "-q".to_owned(), name.to_owned()];
        args.extend(prepare(&env));
        let pulled = env.rb(args).expect(0);
        assert!(
            pulled.stdout.trim().parse::<rb_oci::Digest>().is_ok() && pulled.stderr.is_empty(),
            "{pulled:?}"
        );
        env.write(
            "Buildfile",
            format!("VERSION 1\nt:\n    FROM {name}\n    SAVE ARTIFACT /data AS LOCAL out\n"),
        );
        run(&env, &["+t"]);
        assert!(std::fs::read(env.project().join("out")).expect("reads") == data);
    };
    let env = TestEnv::new();
    env.write("data", &data);
    let image = |from: &str, rest: &str, name: &str| {
        format!("VERSION 1\nimage:\n    FROM {from}\n{rest}    SAVE IMAGE --push {name}\n")
    };
    env.write("Buildfile", image("scratch", "    COPY data /data\n", &name));
    run(&env, &["--push", "+image"]).says(&format!("pushed {name}"));

    pull(&name);
    // On top of it, from an empty store: its layer is pulled, or mounted where it is pushed to.
    let env = TestEnv::new();
    let more = "    COPY more /more\n    SAVE ARTIFACT /data AS LOCAL out\n";
    env.write("more", "more");
    env.write("Buildfile", image(&name, more, &format!("{host}/team/more:1")));
    run(&env, &["--push", "+image"]).says(&format!("pushed {host}/team/more:1"));
    assert!(std::fs::read(env.project().join("out")).expect("reads") == data);
    pull(&format!("{host}/team/more:1"));
}

fn registry(wants: &Wants) -> Option<(tempfile::TempDir, DockerRegistry)> {
    let folder = folder();
    let registry = DockerRegistry::start(&folder.path().join("registry"), wants)?;
    Some((folder, registry))
}

#[test]
fn an_authority_of_ones_own_is_trusted_by_option_or_settings() {
    let wants = Wants { tls: true, ..Wants::default() };
    let Some((_folder, registry)) = registry(&wants) else { return };
    let ca = registry.ca().display().to_string();
    there_and_back(&registry.host, |_| vec!["--ca".to_owned(), ca.clone()]);
    there_and_back(&registry.host, |env| {
        let settings = format!("[registry.\"{}\"]\nca = [\"{ca}\"]\n", registry.host);
        write_at_home(env, ".config/rb/config.toml", &settings);
        Vec::new()
    });
}

#[test]
fn commands_that_ask_a_registry_trust_an_authority_by_option() {
    let wants = Wants { tls: true, password: true, realm: None };
    let Some((_folder, registry)) = registry(&wants) else { return };
    let ca = registry.ca().display().to_string();
    let env = TestEnv::new();
    let name = format!("{}/team/app:1", registry.host);
    env.write("f", "f");
    env.write("Buildfile", "VERSION 1\nt:\n    FROM scratch\n    COPY f /f\n    SAVE IMAGE app:1\n");
    env.rb(["+t"]).expect(0);
    let login = ["login", registry.host.as_str(), "-u", "rb", "-p", "secret"];
    env.rb(login).expect(2).says("cannot be trusted").says("--ca");
    let at = format!("docker://{name}");
    let copy = format!("docker://{}/team/copy:1", registry.host);
    for command in [
        &login[..],
        &["image", "push", "app:1", &name],
        &["image", "copy", &at, &copy],
        &["image", "inspect", &at],
        &["image", "inspect", "--remote", &name],
        &["image", "pull", &name],
    ] {
        env.rb(command.iter().copied().chain(["--ca", &ca])).expect(0);
    }
    env.rb(["image", "pull", &name]).expect(2).says("cannot be trusted");
    let missing = env.rb(["image", "pull", &name, "--ca", "/nonexistent/ca.pem"]);
    assert!(missing.code != 0 && missing.stderr.contains("/nonexistent/ca.pem"), "{missing:?}");
    env.rb(["login", &registry.host, "-u", "rb", "-p", "secret", "--ca", "/nonexistent/ca.pem"]).expect(2);
}

#[test]
fn an_authority_that_nobody_trusts_is_named_as_the_reason() {
    let wants = Wants { tls: true, ..Wants::default() };
    let Some((folder, registry)) = registry(&wants) else { return };
    let name = format!("{}/team/app:1", registry.host);
    let env = TestEnv::new();
    let unknown = |run: crate::env::Run| {
        run.expect(2).says(&registry.host).says("cannot be trusted").says("authority");
    };
    unknown(env.rb(["image", "pull", &name]));
    let other = DockerRegistry::start(&folder.path().join("other"), &wants).expect("starts as the first");
    let wrong = other.ca().display().to_string();
    env.write("Buildfile", format!("VERSION 1\nt:\n    FROM {name}\n    SAVE IMAGE --push {name}\n"));
    unknown(env.rb(["--push", "+t"]));
    unknown(env.rb(["--ca", &wrong, "+t"]));
    env.write("Buildfile", format!("VERSION 1\nt:\n    FROM scratch\n    SAVE IMAGE --push {name}\n"));
    unknown(env.rb(["--push", "+t"]));
    let missing = env.rb(["--ca", "/nonexistent/ca.pem", "+t"]);
    assert!(missing.code != 0 && missing.stderr.contains("/nonexistent/ca.pem"), "{missing:?}");
}

#[test]
fn a_password_is_asked_for_and_taken() {
    let wants = Wants { tls: true, password: true, realm: None };
    let Some((_folder, registry)) = registry(&wants) else { return };
    let ca = registry.ca().display().to_string();
    let name = format!("{}/team/app:1", registry.host);
    let env = TestEnv::new();
    env.write("Buildfile", format!("VERSION 1\nt:\n    FROM {name}\n    RUN true\n"));
    let stranger = env.rb(["--ca", &ca, "+t"]).expect(2);
    stranger.says("wants to know who asks").says("rb login");
    there_and_back(&registry.host, |env| {
        let settings = format!("[registry.\"{}\"]\nca = [\"{ca}\"]\n", registry.host);
        write_at_home(env, ".config/rb/config.toml", &settings);
        env.rb(["login", &registry.host, "-u", "rb", "-p", "secret"]).expect(0).hides("secret");
        Vec::new()
    });
    let auths = |password: &str| {
        format!(
            "{{\"auths\": {{\"{}\": {{\"username\": \"rb\", \"password\": \"{password}\"}}}}}}",
            registry.host
        )
    };
    write_at_home(&env, ".docker/config.json", &auths("hunter2"));
    env.rb(["--ca", &ca, "+t"]).expect(2).says("rb login").hides("hunter2");
}

#[test]
fn tokens_are_fetched_where_the_registry_says() {
    let folder = folder();
    let place = folder.path().join("registry");
    let (service, realm) = DockerRegistry::token_service(&place);
    let wants = Wants { realm: Some(realm), ..Wants::default() };
    let Some(registry) = DockerRegistry::start(&place, &wants) else { return };
    let name = format!("{}/team/app:1", registry.host);
    let env = TestEnv::new();
    env.rb(["image", "pull", &name]).expect(2).says("incorrect username or password");
    there_and_back(&registry.host, |env| {
        let auth = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"cmI6c2VjcmV0\"}}}}}}", registry.host);
        write_at_home(env, ".docker/config.json", &auth);
        Vec::new()
    });
    // What a token has to allow is asked for, and no more.
    let asked = service.lines();
    assert!(
        asked.iter().any(|line| line.contains("team%2Fapp%3Apull") || line.contains("team/app:pull")),
        "{asked:?}"
    );
    assert!(!asked.iter().any(|line| line.contains("delete") || line.contains("catalog")), "{asked:?}");
    env.rb(["login", &registry.host, "-u", "rb", "-p", "wrong"]).expect(2).hides("wrong");
    env.rb(["login", &registry.host, "-u", "rb", "-p", "secret"]).expect(0);
    env.rb(["image", "pull", &name]).expect(0);
}

#[test]
fn another_tool_agrees_on_what_was_pushed() {
    let wants = Wants { tls: true, password: true, realm: None };
    let Some((folder, registry)) = registry(&wants) else { return };
    let ca = registry.ca().display().to_string();
    there_and_back(&registry.host, |env| {
        let auth = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"cmI6c2VjcmV0\"}}}}}}", registry.host);
        write_at_home(env, ".docker/config.json", &auth);
        vec!["--ca".to_owned(), ca.clone()]
    });
    let certificates = folder.path().join("certificates");
    std::fs::create_dir(&certificates).expect("makes");
    std::fs::copy(&ca, certificates.join("ca.crt")).expect("copies");
    let inspected = Command::new("skopeo")
        .args(["inspect", "--creds", "rb:secret", "--cert-dir"])
        .arg(&certificates)
        .arg(format!("docker://{}/team/more:1", registry.host))
        .output();
    let Ok(inspected) = inspected else {
        eprintln!("stepped aside: needs the program `skopeo`");
        return;
    };
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
    let text: serde_json::Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
    assert_eq!(text["Layers"].as_array().map(Vec::len), Some(2), "{text}");
}
