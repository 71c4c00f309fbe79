//! What is told of mistakes: the message, the place, the help.

use async_trait::async_trait;
use rb_diag::{ErrorKind, SourceMap};
use rb_dockerfile::plan;
use rb_frontend::{
    Answer, Effect, Gateway, GitFacts, ImageRequest, Query, RecordingGateway, RepositoryRequest,
    ResolvedImage, WorldError,
};
use rb_llb::State;

use crate::bench::{Bench, now};

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
            "circular dependency detected on stage: one",
            "COPY --from=two /x /",
            "a stage cannot take files from itself",
        ),
        (
            "FROM a\nCOPY --from=0 /x /",
            "circular dependency detected on stage: stage-0",
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
            "Builder",
            "did you mean `builder`?",
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
        (
            "FROM a\nWORKDIR it's",
            "unexpected end of statement while looking for matching single-quote",
            "it's",
            "close it; a `'` that is no quote is written `\\'`",
        ),
        (
            "FROM a\nWORKDIR a\"b",
            "unexpected end of statement while looking for matching double-quote",
            "a\"b",
            "close it; a `\"` that is no quote is written `\\\"`",
        ),
    ]);
    let (message, _, help) = Bench::of("FROM a").option("build-arg:SOURCE_DATE_EPOCH", "soon").error();
    assert_eq!(message, "invalid SOURCE_DATE_EPOCH: soon");
    assert!(help.starts_with("write seconds since 1970"));
}

/// Returns `text at the place: message (help)` of each error.
fn all(bench: &Bench) -> Vec<String> {
    bench.errors().into_iter().map(|(message, at, help)| format!("{at}: {message} ({help})")).collect()
}

#[test]
fn everything_that_can_be_known_is_told_at_once_by_line() {
    let file = "FROM golang:nope AS build
RNU make
COPY --form=x a /
EXPOSE eighty
FROM --platform=$NONE alpine AS test
STOPSIGNAL SIGTREM
FROM alpine
COPY --from=biuld /o /
COPY --from=9 /o /
RUN --mount=type=bind,from=tset,target=/t x
COPY --from=build /x /x
VOLUME \"\"";
    let bench = ["golang:nope", "biuld:latest", "tset:latest"]
        .iter()
        .fold(Bench::of(file), |bench, name| bench.without_image(&format!("docker.io/library/{name}")));
    let told = all(&bench.option("target", "").with(|options| options.all_stages = true));
    let expected = [
        "golang:nope: the image `docker.io/library/golang:nope` does not exist ()",
        "RNU: unknown instruction: RNU (did you mean `RUN`?)",
        "--form=x: unknown flag: --form (did you mean `--from`?)",
        "eighty: invalid containerPort: eighty (write `EXPOSE 80`, `EXPOSE 53/udp` or `EXPOSE 8000-8010`)",
        "$NONE: empty platform value from expression $NONE (write such as `--platform=linux/arm64`, or `--platform=$BUILDPLATFORM`)",
        "SIGTREM: invalid signal: SIGTREM (did you mean `SIGTERM`?)",
        "biuld: the image `docker.io/library/biuld:latest` does not exist (did you mean `build`?)",
        "9: invalid stage index 9 (stages are numbered from 0 to 2)",
        "tset: the image `docker.io/library/tset:latest` does not exist (did you mean `test`?)",
        "\"\": VOLUME specified can not be an empty string (name a folder of the image, such as `VOLUME /data`)",
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_is_only_wrong_because_of_something_else_is_not_told() {
    for (file, expected) in [
        // The port may be one of the image's variables.
        ("FROM gone\nEXPOSE $PORT\nEXPOSE x", &["gone: ", "x: invalid containerPort"][..]),
        // The base is what the first ARG would have said.
        ("ARG A=${B:?which}\nFROM $A\nSTOPSIGNAL x", &["${B:?which}: ", "x: invalid signal"]),
        // What the stage is called is not known, nor what comes of it.
        ("FROM a AS\nFROM b\nCOPY --from=x /x /", &["AS: FROM requires"]),
        ("FORM a AS\nFROM b\nCOPY --from=x /x /", &["FORM: unknown instruction"]),
        ("FROM b\nENV A=${B:?which}\nEXPOSE $A\nSTOPSIGNAL x", &["${B:?which}: ", "x: invalid signal"]),
        ("FROM b\nENV A\nEXPOSE $A\nSTOPSIGNAL x", &["A: ENV must have two", "x: invalid signal"]),
        // Nobody needs the first stage.
        ("FROM gone\nEXPOSE x\nFROM b\nSTOPSIGNAL x", &["x: invalid signal"]),
    ] {
        let told = all(&Bench::of(file).without_image("docker.io/library/gone:latest"));
        let begins = told.iter().zip(expected).all(|(told, start)| told.starts_with(start));
        assert!(begins && told.len() == expected.len(), "{file}: {told:?}");
    }
}

#[test]
fn platforms_tell_the_same_once_and_no_more_than_one_reads() {
    let file = format!("FROM a\n{}", "EXPOSE x\n".repeat(33));
    let told = all(&Bench::of(&file).option("platform", "linux/amd64,linux/arm64"));
    assert_eq!(told.len(), 21);
    assert_eq!(told[20], ": and 13 more errors (mend the first ones)");
    // Those that reading did not list are counted, too.
    for (lines, more) in [(21, "1 more error"), (1200, "1180 more errors")] {
        let told = all(&Bench::of(&format!("FROM a\n{}", "CPOY x\n".repeat(lines))));
        assert_eq!(
            (told.len(), told[20].as_str()),
            (21, format!(": and {more} (mend the first ones)").as_str())
        );
    }
}

#[test]
fn a_target_that_is_not_there_hides_nothing() {
    for (file, expected) in [
        (
            "FROM gone AS build\nSTOPSIGNAL x\nFROM gone\nEXPOSE y",
            &["x: invalid signal", "y: invalid", ": target stage"][..],
        ),
        ("FROM gone AS build", &[": target stage"]),
        // It may be the one whose name is not known.
        ("FROM gone AS\nSTOPSIGNAL x", &["AS: FROM requires", "x: invalid signal"]),
    ] {
        let bench = Bench::of(file).without_image("docker.io/library/gone:latest").option("target", "biuld");
        let told = all(&bench);
        let begins = told.iter().zip(expected).all(|(told, start)| told.starts_with(start));
        assert!(begins && told.len() == expected.len(), "{file}: {told:#?}");
    }
}

#[test]
fn a_mount_of_no_kind_is_told_once() {
    for mount in ["type=foo", "type=foo,size=1,mode=7", "target=/,Type=foo"] {
        let told = all(&Bench::of(&format!("FROM a\nRUN --mount={mount} x")));
        assert_eq!(
            told,
            ["foo: unsupported mount type \"foo\" (one of: bind, cache, tmpfs, secret, ssh)"],
            "{mount}"
        );
    }
}

/// Registries of it answer only who has the time.
struct Slow(RecordingGateway);

#[async_trait]
impl Gateway for Slow {
    async fn resolve_image(&self, _: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        panic!("a registry is waited for")
    }

    async fn glance_at_image(&self, _: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        Err(WorldError::Failed { kind: ErrorKind::Environment, message: "silent".to_owned() })
    }

    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        self.0.resolve_repository(request).await
    }

    async fn query(&self, state: &State, query: Query) -> Result<Answer, WorldError> {
        self.0.query(state, query).await
    }

    async fn settle(&self, effects: &[Effect]) -> Result<(), WorldError> {
        self.0.settle(effects).await
    }
}

#[test]
fn what_only_a_base_can_say_is_not_wrong_without_it() {
    // Its working folder is what is mounted over.
    let file = "FROM a\nRUN --mount=target=. x\nRUN --mount=type=cache,target=cache x";
    let outcome = Bench::of(file)
        .image("docker.io/library/a:latest", |config| config.config.working_dir = Some("/app".to_owned()));
    outcome.outcome();
    let told = all(&Bench::of(file).without_image("docker.io/library/a:latest"));
    assert!(told.len() == 1 && told[0].starts_with("a: the image"), "{told:?}");
}

#[test]
fn no_registry_is_waited_for_where_something_is_wrong_already() {
    for (file, expected) in [
        ("FROM a\nRNU x", "unknown instruction: RNU"),
        ("FROM a\nSTOPSIGNAL x", "invalid signal: x"),
        ("FROM a AS b\nCOPY --from=b /x /", "circular dependency detected on stage: b"),
        ("FROM a\nRUN --mount=target=/ x", "invalid mount target \"/\""),
    ] {
        let (sources, bench) = (SourceMap::default(), Bench::of(file));
        let gateway = Slow(bench.gateway(&sources));
        let errors = now(plan(&gateway, &bench.options(), &sources)).expect_err(file);
        let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        assert_eq!(messages, [expected], "{file}");
    }
}

#[test]
fn a_name_that_is_wrong_in_several_lines_is_told_once_with_each() {
    let file = "FROM a AS build\nFROM a\nCOPY --from=biuld /a /\nCOPY --from=biuld /b /";
    let bench = Bench::of(file).without_image("docker.io/library/biuld:latest");
    let Err((errors, _)) = bench.plan() else { panic!("nothing is wrong") };
    assert_eq!((errors.len(), errors[0].labels.len()), (1, 2));
}

#[test]
fn all_that_is_wrong_on_one_line_is_told() {
    for (line, expected) in [
        (
            "COPY --form=x --chwon=y --chmod=99 ${A:?b} ${C:?d} /",
            &["--form=x: ", "--chwon=y: ", "99: ", "${A:?b}: A: b", "${C:?d}: C: d"][..],
        ),
        ("ADD --checksum=x --chmod=99 a git@h.io:a/b?x=1 /", &["x: ", "99: ", "git@"]),
        ("COPY https://h.io/a git@h.io:b/c.git /", &["https://h.io/a: ", "git@h.io:b/c.git: "]),
        ("COPY --from=$X --chmod=99 /a /", &["$X: variable expansion is not", "99: "]),
        (
            "RUN --mount=from=$X,target=/ true",
            &["$X: 'from' doesn't", "from=$X,target=/: invalid mount target"],
        ),
        ("ENV A=${B:?b}${C:?c} D=${E", &["${B:?b}${C:?c}: B: b", "${B:?b}${C:?c}: C: c", "${E: "]),
        ("ENV =1 A=${B:?b} C", &["=1: ENV names", "${B:?b}: ", "C: Syntax error"]),
        ("ARG =1 A=${B:?b} C=${D:?d}", &["=1: ARG names", "${B:?b}: ", "${D:?d}: "]),
        ("LABEL a=${B:?b} ${C:?c}=d", &["${B:?b}: ", "${C:?c}: "]),
        ("EXPOSE x 80 y ${A", &["x: ", "y: ", "${A: "]),
        ("VOLUME [\"$NONE\", \"${A:?b}\"]", &["\"$NONE\": VOLUME", "\"${A:?b}\": "]),
        ("CMD [1, \"a\", true]", &["1: ", "true: "]),
        ("HEALTHCHECK --interval=x --retries=y CDM z", &["x: ", "y: ", "CDM: "]),
        (
            "RUN --mount=type=$T,target=/ --mount=target=/c,type=cache,mode=$M,uid=$M --network=x true",
            &["x: ", "$T: ", "$M: ", "$M: "],
        ),
    ] {
        let told = all(&Bench::of(&format!("FROM a\nARG T=tmfps M=q\n{line}")));
        let sorted = |texts: Vec<&str>| {
            let mut texts = texts;
            texts.sort_unstable();
            texts.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let (told, expected) = (sorted(told.iter().map(String::as_str).collect()), sorted(expected.to_vec()));
        let begins = told.iter().zip(&expected).all(|(told, start)| told.starts_with(start));
        assert!(begins && told.len() == expected.len(), "{line}: {told:#?}");
    }
}

#[test]
fn a_line_that_is_wrong_hides_only_what_needs_it() {
    for (file, expected) in [
        // Which variables the lines set is known, or which do not.
        ("FROM b\nRNU x\nENV A=${B:?b}\nEXPOSE ${C", &["RNU: ", "${B:?b}: ", "${C: "][..]),
        (
            "FROM b\nENV A=${B:?b} C=1\nRUN --mount=type=$A,target=/ x\nVOLUME $NONE",
            &["${B:?b}: ", "$NONE: "],
        ),
        ("FROM b\nENV A=${B:?b}\nENV C=$A\nEXPOSE $C\nENV A=x\nEXPOSE $A", &["${B:?b}: ", "$A: "]),
        ("ARG A=${B:?b} C=x\nFROM b\nARG A\nARG C\nEXPOSE $A\nEXPOSE $C", &["${B:?b}: ", "$C: "]),
        ("FROM b\nMAKE x\nEXPOSE $A\nEXPOSE x", &["MAKE: ", "x: "]),
        // Stages keep their numbers and names.
        (
            "FROM a AS 1b\nSTOPSIGNAL x\nFROM b\nCOPY --from=0 /x /\nCOPY --from=9 /x /",
            &["1b: ", "x: ", "9: "],
        ),
        (
            "FORM a AS build\nSTOPSIGNAL x\nFROM b\nCOPY --from=build /x /\nSTOPSIGNAL y",
            &["FORM: ", "x: ", "y: "],
        ),
        ("FROM --platfrom=c a AS x\nFROM x\nSTOPSIGNAL y", &["--platfrom=c: ", "y: "]),
        // Its name may be the one.
        ("FROM a b AS x\nFROM gone\nCOPY --from=gone /x /\nSTOPSIGNAL y", &["b: ", "y: "]),
        (
            "# check=skpi=all;eror=true\nFROM b\nSTOPSIGNAL y",
            &["skpi=all;eror=true: ", "skpi=all;eror=true: ", "y: "],
        ),
    ] {
        let told = all(&Bench::of(file).without_image("docker.io/library/gone:latest"));
        let begins = told.iter().zip(expected).all(|(told, start)| told.starts_with(start));
        assert!(begins && told.len() == expected.len(), "{file}: {told:#?}");
    }
}

#[test]
fn a_platform_that_no_image_is_made_for_is_told_before_a_registry_is_asked() {
    let message =
        |text: &str, name: &str| format!("there are no images for {text}: `{name}` is no architecture");
    told(&[
        (
            "FROM --platform=linux/amd46 a",
            &message("linux/amd46", "amd46"),
            "linux/amd46",
            "did you mean `linux/amd64`?",
        ),
        (
            "ARG P=linxu/arm64\nFROM --platform=$P a",
            "there are no images for linxu/arm64: `linxu` is no operating system",
            "$P",
            "did you mean `linux/arm64`?",
        ),
        (
            "FROM --platform=linux/x9000 a",
            &message("linux/x9000", "x9000"),
            "linux/x9000",
            "platforms are such as linux/amd64",
        ),
    ]);
    // One mistake, however many images; and nothing keeps anybody from building from nothing.
    let told = all(&Bench::of("FROM a AS x\nFROM b\nCOPY --from=x /a /").option("platform", "linux/amd46"));
    assert_eq!(told.len(), 1, "{told:?}");
    Bench::of("FROM scratch\nCOPY a /").option("platform", "linux/x9000").outcome();
}
