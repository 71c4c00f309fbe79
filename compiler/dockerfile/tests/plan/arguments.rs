//! Where an `ARG` holds.

use crate::bench::Bench;

#[test]
fn a_global_argument_holds_in_from_alone_until_a_stage_takes_it_over() {
    let file = "ARG V=1\nARG W=${V}2\nFROM a:$V\nRUN x\nARG V\nARG W=own-$V\nRUN y";
    let outcome = Bench::of(file).outcome();
    assert_eq!(outcome.environment(), ["V=1", "W=own-1"]);
    assert!(outcome.dump().contains("docker-image://docker.io/library/a:1@"));
    assert_eq!(outcome.history()[0], "RUN /bin/sh -c x # buildkit");
    assert_eq!(outcome.history()[3], "RUN |2 V=1 W=own-1 /bin/sh -c y # buildkit");
}

#[test]
fn what_is_given_wins_everywhere() {
    let file = "ARG BASE=a\nFROM $BASE\nARG V=1\nRUN x";
    let outcome = Bench::of(file).option("build-arg:V", "7").option("build-arg:BASE", "b").outcome();
    assert_eq!(outcome.environment(), ["V=7"]);
    assert!(outcome.dump().contains("library/b:latest@"));
    // What nobody declares is no variable.
    let outcome = Bench::of("FROM a\nRUN x").option("build-arg:V", "7").outcome();
    assert_eq!(outcome.environment(), [""; 0]);
}

#[test]
fn arguments_pass_on_to_stages_that_start_from_this_one_alone() {
    let file = "FROM a AS one\nARG V=1\nENV E=$V\nRUN x\nFROM one AS two\nRUN y $V\nFROM a\nCOPY --from=two /o /o\nRUN z $V";
    let outcome = Bench::of(file).outcome();
    assert_eq!(outcome.environment(), [""; 0]);
    let two = Bench::of(file).option("target", "two").outcome();
    assert_eq!(two.environment(), ["V=1", "E=1"]);
    assert_eq!(two.history().last().map(String::as_str), Some("RUN |1 V=1 /bin/sh -c y $V # buildkit"));
}

#[test]
fn an_instruction_sees_the_values_from_before_it_but_for_arguments() {
    let file = "FROM a\nENV A=old\nENV A=new B=$A\nARG X=1 Y=$X\nRUN x";
    let outcome = Bench::of(file).outcome();
    assert_eq!(outcome.environment(), ["A=new", "B=old", "X=1", "Y=1"]);
}

#[test]
fn env_and_arg_overwrite_each_other_in_order() {
    let outcome = Bench::of("FROM a\nARG V=arg\nENV V=env\nRUN x").outcome();
    assert_eq!(outcome.environment(), ["V=env"]);
    assert_eq!(outcome.history().last().map(String::as_str), Some("RUN |1 V=env /bin/sh -c x # buildkit"));
    let outcome = Bench::of("FROM a\nENV V=env\nARG V=arg\nRUN x").outcome();
    assert_eq!(outcome.environment(), ["V=arg"]);
    assert_eq!(outcome.image().config.config.env("V"), Some("env"));
}

#[test]
fn predefined_arguments_are_declared_to_be_seen() {
    let file = "FROM --platform=$BUILDPLATFORM a AS b\nARG TARGETARCH TARGETVARIANT TARGETSTAGE BUILDOS\nRUN x $TARGETOS";
    let outcome = Bench::of(file).option("platform", "linux/arm/v7").outcome();
    assert_eq!(
        outcome.environment(),
        ["TARGETARCH=arm", "TARGETVARIANT=v7", "TARGETSTAGE=b", "BUILDOS=linux"]
    );
    assert!(outcome.dump().starts_with("platform = linux/amd64"));
    let overridden =
        Bench::of("FROM a\nARG TARGETARCH\nRUN x").option("build-arg:TARGETARCH", "z80").outcome();
    assert_eq!(overridden.environment(), ["TARGETARCH=z80"]);
}

#[test]
fn proxies_reach_commands_and_neither_config_nor_history() {
    let outcome = Bench::of("FROM a\nRUN x").option("build-arg:https_proxy", "http://p").outcome();
    assert_eq!(outcome.environment(), [""; 0]);
    assert!(outcome.dump().contains("http://p"), "{}", outcome.dump());
    assert_eq!(outcome.history(), ["RUN /bin/sh -c x # buildkit"]);
}

#[test]
fn the_epoch_dates_the_history_and_made_folders() {
    let file = "ARG SOURCE_DATE_EPOCH=5\nFROM a\nARG SOURCE_DATE_EPOCH\nWORKDIR /w\nRUN x";
    let outcome = Bench::of(file).outcome();
    assert_eq!(outcome.image().epoch, Some(5));
    assert_eq!(outcome.environment(), ["SOURCE_DATE_EPOCH=5"]);
    assert!(
        outcome
            .image()
            .config
            .history
            .iter()
            .all(|entry| entry.created.as_deref() == Some("1970-01-01T00:00:05Z"))
    );
    assert!(outcome.dump().contains("5000000000"), "{}", outcome.dump());
    // A folder has no moment, so the word stands for nothing.
    let outcome = Bench::of("FROM a\nARG SOURCE_DATE_EPOCH\nRUN x")
        .option("build-arg:SOURCE_DATE_EPOCH", "context")
        .outcome();
    assert_eq!((outcome.image().epoch, outcome.environment().len()), (None, 0));
}

#[test]
fn checks_know_what_is_declared() {
    let file = "FROM a\nARG EMPTY\nRUN --mount=type=cache,target=/c$WHAT x\nENV A=$EMPTY B=$PAHT\nLABEL x=$A";
    assert_eq!(
        Bench::of(file).outcome().findings(),
        [
            "UndefinedVar: Usage of undefined variable '$WHAT'",
            "UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)",
        ]
    );
}

#[test]
fn the_epoch_may_be_that_of_a_stage_or_of_a_further_context() {
    let of = |file: &str| Bench::of(file).option("build-arg:SOURCE_DATE_EPOCH", "SRC");
    let stage = |lines: &str| of(&format!("ARG REPO=b\nFROM scratch AS src\n{lines}\nFROM a"));
    let asked = "the repository `https://h.io/a/b.git` does not exist";
    let (message, at, _) = stage("ADD https://h.io/a/$REPO.git#v1 /x").error();
    assert_eq!((message.as_str(), at.as_str()), (asked, "ADD https://h.io/a/$REPO.git#v1 /x"));
    let (message, ..) = of("FROM a").option("context:src", "https://h.io/a/b.git").error();
    // Names of contexts are those of images.
    assert_eq!(message, "invalid SOURCE_DATE_EPOCH: SRC");
    let named = Bench::of("FROM a").option("build-arg:SOURCE_DATE_EPOCH", "src");
    let (message, ..) = named.option("context:src", "https://h.io/a/b.git").error();
    assert_eq!(message, asked);
    let image = Bench::of("FROM a").option("build-arg:SOURCE_DATE_EPOCH", "src");
    assert_eq!(image.option("context:src", "docker-image://b").outcome().image().epoch, None);
    for (lines, reason) in [
        ("RUN x", "neither ARG nor ADD"),
        ("ARG A", "it has no ADD"),
        ("ADD a b /", "more than one source"),
        ("ADD https://h.io/a.git /\nADD https://h.io/b.git /", "more than one ADD"),
        ("ADD file /", "neither a repository nor a file of the web"),
    ] {
        let (message, place, _) = stage(lines).error();
        assert!(message.contains(reason) && !place.is_empty(), "{lines}: {message} at {place}");
    }
    let (message, ..) = of("FROM b AS src\nADD https://h.io/a.git /\nFROM a").error();
    assert!(message.contains("does not start FROM scratch"), "{message}");
}

#[test]
fn the_epoch_of_a_file_of_the_web_is_when_it_was_changed() {
    let epoch = |bench: Bench| bench.outcome().image().epoch;
    let stage = |name: &str| {
        let file = "FROM scratch AS src\nADD https://h.io/f.tgz /\nFROM a";
        Bench::of(file).option("build-arg:SOURCE_DATE_EPOCH", name)
    };
    assert_eq!(epoch(stage("src").moment("https://h.io/f.tgz", 1_000)), Some(1_000));
    // Who does not say when has no time.
    assert_eq!(epoch(stage("src")), None);
    let named = || stage("other").option("context:other", "https://h.io/o");
    assert_eq!(epoch(named().moment("https://h.io/o", 7)), Some(7));
    let context = Bench::default()
        .file("https://h.io/Dockerfile/context", "FROM a\nWORKDIR /x")
        .option("context", "https://h.io/Dockerfile")
        .option("build-arg:SOURCE_DATE_EPOCH", "context");
    assert_eq!(epoch(context.moment("https://h.io/Dockerfile", 9)), Some(9));
}
