//! What is told of mistakes: the message, the place, the help.

use crate::bench::Bench;

/// Checks `(file, message, text at the place, beginning of the help)`.
#[track_caller]
fn told(cases: &[(&str, &str, &str, &str)]) {
    for (file, message, place, help) in cases {
        let (own_message, own_place, own_help) = Bench::of(file).error();
        assert_eq!((own_message.as_str(), own_place.as_str()), (*message, *place), "{file}");
        assert!(own_help.starts_with(help), "{file}: {own_help}");
    }
}

#[test]
fn stages() {
    told(&[
        (
            "FROM a AS one\nCOPY --from=two /x /\nFROM b AS two\nFROM one",
            "cannot copy from stage \"two\", it needs to be defined before current stage \"one\"",
            "COPY --from=two /x /",
            "move stage \"two\" above stage \"one\"",
        ),
        (
            "FROM a AS one\nCOPY --from=two /x /\nFROM b AS two\nCOPY --from=one /x /",
            "circular dependency detected on stage: \"one\"",
            "COPY --from=two /x /",
            "a stage cannot take files from itself",
        ),
        (
            "FROM a\nCOPY --from=0 /x /",
            "circular dependency detected on stage: \"stage-0\"",
            "COPY --from=0 /x /",
            "a stage cannot take files from itself",
        ),
        ("FROM a\nCOPY --from=3 /x /", "invalid stage index 3", "3", "the only stage is number 0"),
        (
            "FROM a\nFROM b\nCOPY --from=7 /x /",
            "invalid stage index 7",
            "7",
            "stages are numbered from 0 to 1",
        ),
        (
            "FROM a AS Builder\nFROM Builder",
            "failed to parse stage name \"Builder\": `Builder` is not the name of an image: a repository is written in lower case: `builder`",
            "FROM Builder",
            "FROM takes an image, a stage above it (in lower case)",
        ),
    ]);
    let (message, _, help) = Bench::of("FROM a AS build\nFROM b AS test").option("target", "biuld").error();
    assert_eq!(message, "target stage \"biuld\" could not be found");
    assert_eq!(help, "did you mean `build`?");
    let (_, _, help) = Bench::of("FROM a AS build\nFROM b AS test").option("target", "x").error();
    assert_eq!(help, "stages that have a name: build, test");
    let (_, _, help) = Bench::of("FROM a").option("target", "x").error();
    assert_eq!(help, "no stage has a name: write `FROM … AS NAME`");
}

#[test]
fn bases() {
    told(&[
        (
            "FROM $BASE",
            "base name ($BASE) should not be blank",
            "$BASE",
            "nothing gives `BASE` a value: write `ARG NAME=value` above the first FROM",
        ),
        ("FROM ${V:?which}", "V: which", "${V:?which}", "give it a value, such as `--build-arg V=…`"),
        ("FROM --platform=$P a", "empty platform value from expression $P", "$P", "write such as"),
        (
            "ARG P=linux/amd64/v2/x\nFROM --platform=$P a",
            "failed to parse platform $P: `linux/amd64/v2/x` is not a platform: expected os/architecture[/variant], such as linux/amd64",
            "$P",
            "write such as",
        ),
        (
            "FROM --platform=$BUILDPLATFROM a",
            "empty platform value from expression $BUILDPLATFROM",
            "$BUILDPLATFROM",
            "did you mean `BUILDPLATFORM`?",
        ),
    ]);
}

#[test]
fn copies() {
    told(&[
        (
            "FROM a\nCOPY https://h.io/f /",
            "source can't be a URL for COPY",
            "https://h.io/f",
            "ADD takes files",
        ),
        (
            "FROM a\nCOPY git@h.io:a/b.git /",
            "source can't be a git ref for COPY",
            "git@h.io:a/b.git",
            "ADD takes",
        ),
        (
            "FROM a\nCOPY --chmod=99 f /",
            "invalid chmod parameter: '99'. it should be octal string and between 0 and 07777",
            "99",
            "",
        ),
        ("FROM a\nADD --checksum=sha256:0 f /", "checksum requires HTTP(S) or Git sources", "sha256:0", ""),
        (
            "FROM a\nADD --checksum=sha256:0 https://h.io/a https://h.io/b /",
            "checksum can't be specified for multiple sources",
            "sha256:0",
            "",
        ),
        (
            "FROM a\nADD --checksum=sha256:0 https://h.io/a /",
            "`sha256:0` is not a digest: expected `sha256:` and 64 lower-case hex digits",
            "sha256:0",
            "",
        ),
        (
            "FROM a\nADD --keep-git-dir=false https://h.io/a.git?keep-git-dir=true /",
            "inconsistent keep-git-dir configuration",
            "https://h.io/a.git?keep-git-dir=true",
            "say it once",
        ),
        (
            "FROM a\nADD https://h.io/a.git?tga=1 /",
            "`https://h.io/a.git?tga=1`: `tga` means nothing in its query (did you mean `tag`?)",
            "https://h.io/a.git?tga=1",
            "",
        ),
    ]);
}

#[test]
fn values() {
    told(&[
        ("FROM a\nSTOPSIGNAL SIGTREM", "invalid signal: SIGTREM", "SIGTREM", "did you mean `SIGTERM`?"),
        ("FROM a\nARG P=x\nEXPOSE $P", "invalid containerPort: x", "$P", "write `EXPOSE 80`"),
        ("FROM a\nVOLUME $NONE", "VOLUME specified can not be an empty string", "$NONE", "name a folder"),
        (
            "FROM a\nRUN --mount=type=cache,target=/ x",
            "invalid mount target \"/\"",
            "type=cache,target=/",
            "mount it at a folder",
        ),
        (
            "FROM a\nARG T=cahce\nRUN --mount=type=$T,target=/c x",
            "unsupported mount type \"cahce\"",
            "$T",
            "did you mean `cache`?",
        ),
        ("FROM a\nARG M=9\nRUN --mount=type=cache,target=/c,mode=$M x", "invalid value 9 for mode", "$M", ""),
        ("FROM a\nENV A=${B:?needed}", "B: needed", "${B:?needed}", "give it a value"),
    ]);
    let (message, _, help) = Bench::of("FROM a").option("build-arg:SOURCE_DATE_EPOCH", "soon").error();
    assert_eq!(message, "invalid SOURCE_DATE_EPOCH: soon");
    assert!(help.starts_with("write seconds since 1970"));
}
