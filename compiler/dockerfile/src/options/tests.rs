use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Options, Vec<String>> {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Options::from_map(&pairs).map_err(|errors| errors.into_iter().map(|error| error.message).collect())
}

#[test]
fn every_option_is_read() {
    let options = read(&[
        ("target", "app"),
        ("platform", "linux/amd64,arm64"),
        ("filename", "docker/Dockerfile"),
        ("build-arg:V", "7"),
        ("label:a", "b"),
        ("add-hosts", "Db=10.0.0.1,v6=::1"),
        ("hostname", "h"),
        ("force-network-mode", "none"),
        ("cgroup-parent", "x"),
        ("shm-size", "1024"),
        ("ulimit", "nofile=1024:2048,nproc=7"),
        ("memory", "1000"),
        ("memswap", "-1"),
        ("cpushares", "2"),
        ("cpuperiod", "3"),
        ("cpuquota", "4"),
        ("cpusetcpus", "0-3,5"),
        ("cpusetmems", "0"),
        ("image-resolve-mode", "pull"),
        ("no-cache", "a,b"),
        ("contextkey", "main"),
        ("main", "https://h.io/a.git"),
        ("contextsubdir", "sub"),
        ("dockerfilekey", "df"),
        ("context:base::linux/arm64", "docker-image://alpine"),
        ("sharedkey:localdir:base", "k"),
        ("local-sessionid:context", "s"),
        ("cache-imports", r#"[{"Type":"local","Attrs":{"src":"d"}}]"#),
        ("cache-from", "a,b"),
        ("attest:sbom", ""),
        ("requestid", "frontend.outline"),
        ("source", "docker/dockerfile"),
        ("cmdline", "docker/dockerfile x"),
        ("frontend.caps", "moby.buildkit.frontend.contexts+forward"),
    ])
    .expect("all is well");
    assert_eq!(options.platforms.len(), 2);
    assert!(options.multi_platform);
    assert_eq!(options.context.as_deref(), Some("https://h.io/a.git"));
    assert_eq!(options.add_hosts[0].host, "db");
    assert_eq!((options.ulimits[0].soft, options.ulimits[0].hard, options.ulimits[1].hard), (1024, 2048, 7));
    let limits = options.resources.as_ref().expect("there are limits");
    assert_eq!((limits.memory_bytes, limits.memory_swap_bytes, limits.cpu_quota_us), (1000, -1, 4));
    assert!(options.no_cache.covers("A") && !options.no_cache.covers("c"));
    let imports: Vec<&str> = options.cache_imports.iter().map(|import| import.kind.as_str()).collect();
    assert_eq!(imports, ["registry", "registry", "local"]);
    assert_eq!((options.resolve_mode, options.network), (ResolveMode::Pull, NetworkMode::None));
}

#[test]
fn empty_values_are_no_values() {
    let names = ["target", "platform", "shm-size", "ulimit", "memory", "add-hosts", "force-network-mode"];
    let options = read(&names.map(|name| (name, ""))).expect("all is well");
    assert_eq!((options.target, options.resources, options.platforms.len()), (None, None, 0));
    assert_eq!(read(&[("no-cache", "")]).expect("all is well").no_cache, NoCache::All);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let told = read(&[
        ("add-hosts", "x"),
        ("build-arg:BUILDKIT_MULTI_PLATFORM", "no"),
        ("cpusetcpus", "3-1"),
        ("memory", "0"),
        ("platfrom", "linux/amd64"),
        ("platform", "a/b/c/d"),
        ("shm-size", "64m"),
        ("ulimit", "nofil=1"),
        ("image-resolve-mode", "always"),
    ]);
    assert_eq!(
        told.expect_err("much is wrong"),
        [
            "the option `add-hosts` is wrong: `x` is not `NAME=ADDRESS`",
            "the option `cpusetcpus` is wrong: `3-1` is not a list such as `0-3,5`",
            "the option `image-resolve-mode` is wrong: `always` is neither `default`, `pull` nor `local`",
            "the option `memory` is wrong: `0` is not a number above 0",
            "the option `platform` is wrong: `a/b/c/d` is not a platform: expected os/architecture[/variant], such as \
             linux/amd64",
            "there is no option `platfrom`",
            "the option `shm-size` is wrong: `64m` is not a number of bytes",
            "the option `ulimit` is wrong: there is no limit `nofil` (did you mean `nofile`?)",
            "the option `build-arg:BUILDKIT_MULTI_PLATFORM` is wrong: `no` is neither `true` nor `false`",
        ]
    );
    let several = read(&[("platform", "linux/amd64,linux/arm64"), ("multi-platform", "false")]);
    assert_eq!(
        several.expect_err("one index cannot be none"),
        ["the option `multi-platform` is wrong: several platforms are asked for"]
    );
}

#[test]
fn near_names_are_proposed() {
    let pairs = [("built-arg:".to_owned(), String::new())].into();
    let errors = Options::from_map(&pairs).expect_err("there is no such option");
    assert_eq!(errors[0].help.as_deref(), Some("did you mean `build-arg:`?"));
}
