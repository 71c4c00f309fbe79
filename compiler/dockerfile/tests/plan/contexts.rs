//! Where files come from.

use rb_dockerfile::Input;
use rb_llb::{MkfileAction, NodeMeta, State};

use crate::bench::{Bench, platform};

fn file(name: &str, text: &str) -> State {
    let action = MkfileAction {
        path: format!("/{name}"),
        mode: 0o644,
        data: text.as_bytes().to_vec().into(),
        ..MkfileAction::default()
    };
    State::scratch().mkfile(action, NodeMeta::default())
}

#[test]
fn a_dockerfile_may_be_written_small_or_lie_elsewhere() {
    let outcome = Bench::default().file("dockerfile/dockerfile", "FROM a").outcome();
    assert!(outcome.dump().contains("library/a"));
    let outcome = Bench::default()
        .file("df/docker/app.Dockerfile", "FROM a\nCOPY x /")
        .file("df/docker/app.Dockerfile.dockerignore", "!y\n")
        .option("filename", "docker/app.Dockerfile")
        .option("dockerfilekey", "df")
        .outcome();
    assert!(outcome.dump().contains(r#"excludepatterns=["!y"]"#), "{}", outcome.dump());
    // The context's own ignore file is not asked for then.
    assert_eq!(outcome.asked.solved.len(), 1);
    let (message, _, help) = Bench::default().error();
    assert_eq!(message, "failed to read dockerfile: `Dockerfile` does not exist");
    assert!(help.contains("--file"));
}

#[test]
fn a_repository_is_context_and_dockerfile() {
    let address = "https://h.io/r.git#v1:sub";
    let bench = Bench::default()
        .file("git://h.io/r.git#v1:sub/Dockerfile", "FROM a\nCOPY x /")
        .option("context", address)
        .option("build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR", "1");
    let dump = bench.outcome().dump();
    assert!(dump.contains("copy v1.0:/x -> v0.0:/"), "{dump}");
    assert!(dump.contains("git://h.io/r.git#v1:sub") && dump.contains("keepgitdir=true"), "{dump}");
    assert!(!dump.contains("local://"), "{dump}");
    let own = bench.file("mine/Dockerfile", "FROM b\nCOPY x /").option("dockerfilekey", "mine").outcome();
    assert!(own.dump().contains("library/b"));
}

#[test]
fn a_file_of_the_web_is_the_dockerfile_or_an_archive() {
    let address = "https://h.io/x";
    let text = Bench::default()
        .file(&format!("{address}/context"), "FROM a\nCOPY x /")
        .option("context", address)
        .outcome();
    assert!(text.dump().contains("copy v1.0:/x -> v0.0:/"), "{}", text.dump());
    // What is in the archive is asked of the tree that it is unpacked into.
    let archive = Bench::default().file(&format!("{address}/context"), "BZh91AY").option("context", address);
    let (message, _, _) = archive.error();
    assert!(message.contains("does not exist"), "{message}");
}

#[test]
fn states_can_be_handed_in() {
    let outcome = Bench::of("FROM a\nCOPY x /\nCOPY --from=other y /")
        .option("context:other", "input:o")
        .option("contextsubdir", "sub")
        .with(|options| {
            options.inputs.insert("context".to_owned(), Input { state: file("x", "1"), config: None });
            options.inputs.insert("o".to_owned(), Input { state: file("y", "2"), config: None });
        })
        .outcome();
    let dump = outcome.dump();
    assert!(!dump.contains("local://") && dump.contains("mkfile") && dump.contains("/sub"), "{dump}");
    let (message, _, help) = Bench::of("FROM n")
        .option("context:n", "input:contxt")
        .with(|options| {
            options.inputs.insert("context".to_owned(), Input { state: file("x", "1"), config: None });
        })
        .error();
    assert_eq!(message, "the context `n` cannot be used: there is no input `contxt`");
    assert_eq!(help, "did you mean `context`?");
}

#[test]
fn a_context_takes_the_place_of_an_image_for_its_platform() {
    let bench = Bench::of("FROM alpine:3.20\nRUN x")
        .option("context:alpine:3.20::linux/arm64", "docker-image://mine:arm")
        .option("context:alpine:3.20", "docker-image://mine:any")
        .option("platform", "linux/amd64,linux/arm64");
    let outcome = bench.outcome();
    let asked: Vec<String> = outcome
        .asked
        .images
        .keys()
        .map(|(name, platform)| format!("{} {platform}", name.rsplit('/').next().unwrap_or_default()))
        .collect();
    assert_eq!(asked, ["mine:any linux/amd64", "mine:arm linux/arm64"]);
    // `latest` is no part of a context's name.
    let latest =
        Bench::of("FROM docker.io/library/alpine:latest").option("context:alpine", "docker-image://b");
    assert!(latest.outcome().dump().contains("docker-image://docker.io/library/b:latest"));
}

#[test]
fn a_context_takes_the_place_of_a_stage() {
    let file = "FROM a AS base\nRUN no\nFROM base\nRUN yes\nCOPY --from=base /x /x";
    let outcome = Bench::of(file)
        .option("context:base", "docker-image://b")
        .image("docker.io/library/b:latest", |config| config.config.set_env("B", "1"))
        .outcome();
    assert!(!outcome.dump().contains("no"), "{}", outcome.dump());
    assert_eq!(outcome.environment(), ["B=1"]);
    let asked: Vec<&str> = outcome.asked.images.keys().map(|(name, _)| name.as_str()).collect();
    assert_eq!(asked, ["docker-image://docker.io/library/b:latest"]);
}

#[test]
fn of_a_folder_with_a_name_only_what_is_taken_is_asked_for() {
    let outcome = Bench::of(
        "FROM a\nCOPY --from=docs /b /\nRUN --mount=type=bind,from=docs,source=c,target=/c x\nCOPY main /",
    )
    .file("handbook/.dockerignore", "*.tmp\n")
    .option("context:docs", "local:handbook")
    .option("sharedkey:localdir:docs", "k")
    .option("local-sessionid:handbook", "s")
    .outcome();
    let dump = outcome.dump();
    let line = dump.lines().find(|line| line.contains("local://handbook")).expect("is a source");
    for part in [
        r#"excludepatterns=["*.tmp"]"#,
        r#"followpaths=["b","c"]"#,
        "session=s",
        "sharedkeyhint=context:docs-k",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let main = dump.lines().find(|line| line.contains("local://context")).expect("is a source");
    assert!(main.contains(r#"followpaths=["main"]"#), "{main}");
}

#[test]
fn a_layout_is_lent_as_a_store() {
    let digest = format!("sha256:{}", "7".repeat(64));
    let outcome = Bench::of("FROM base\nRUN x")
        .option("context:base", &format!("oci-layout://store:tag@{digest}"))
        .outcome();
    let dump = outcome.dump();
    assert!(
        dump.contains(&format!("oci-layout://docker.io/library/base:latest@{digest} store=store")),
        "{dump}"
    );
    assert!(dump.contains("PATH="), "{dump}");
    let (message, _, help) = Bench::of("FROM base").option("context:base", "oci-layout://store:tag").error();
    assert_eq!(message, "the context `base` cannot be used: an image of a layout is named by its digest");
    assert!(help.contains("oci-layout://STORE@sha256"));
}

#[test]
fn addresses_are_contexts_too() {
    let with = |source: &str| {
        Bench::of("FROM scratch\nCOPY --from=x /a /").option("context:x", source).outcome().dump()
    };
    assert!(with("https://h.io/r.git#main").contains("git://h.io/r.git#main"));
    assert!(with("git@h.io:o/r").contains("git://h.io/o/r"));
    assert!(with("https://h.io/a.tar").contains("https://h.io/a.tar filename=context"));
    assert!(with("docker-image://scratch").starts_with("v0 = file"));
    let (message, _, help) = Bench::of("FROM x").option("context:x", "docker-imgae://a").error();
    assert_eq!(message, "the context `x` cannot be used: `docker-imgae` is no kind of source");
    assert_eq!(help, "did you mean `docker-image`?");
}

#[test]
fn an_input_with_a_config_is_an_image() {
    let outcome = Bench::of("FROM base\nRUN x")
        .option("context:base", "input:b")
        .with(|options| {
            let mut config = rb_oci::ImageConfig::scratch(&platform("linux/amd64"));
            config.config.env.push("B=1".to_owned());
            config.config.working_dir = Some("/w".to_owned());
            options.inputs.insert("b".to_owned(), Input { state: file("x", "1"), config: Some(config) });
        })
        .outcome();
    assert_eq!(outcome.environment(), ["B=1"]);
    assert!(outcome.dump().contains("cwd=/w"), "{}", outcome.dump());
}
