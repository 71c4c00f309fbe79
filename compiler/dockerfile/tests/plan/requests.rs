//! Questions about a file: its targets, what a target takes, what the checks say.

use rb_diag::SourceMap;
use rb_dockerfile::{Options, check, outline, plan_telling, targets};

use crate::bench::{Bench, now};

const FILE: &str = "\
# VERSION of everything
ARG VERSION=1.0
ARG UNUSED=1
ARG TAG=$VERSION-x

# build makes the program
FROM golang:$TAG AS build
# MODE is debug or release
ARG MODE=debug
ARG VERSION
ARG NOTHING
RUN --mount=type=secret,id=token,required --mount=type=ssh make $MODE

FROM --platform=linux/amd64 alpine
ARG OTHER=1
COPY --from=build /o /o
RUN --mount=type=secret,id=token x
";

#[test]
fn targets_are_listed() {
    let sources = SourceMap::default();
    let bench = Bench::of(FILE);
    let list = now(targets(&bench.gateway(&sources), &bench.options(), &sources)).expect("is read");
    assert_eq!(list.text(), "TARGET    DESCRIPTION\nbuild     makes the program\n(default) \n");
    let json = serde_json::to_value(&list).expect("is JSON");
    assert_eq!(json["targets"][0]["base"], "golang:$TAG");
    assert_eq!(json["targets"][0]["location"]["ranges"][0]["start"]["line"], 7);
    assert_eq!(json["targets"][1]["default"], true);
    assert_eq!(json["targets"][1]["platform"], "linux/amd64");
}

#[test]
fn an_outline_is_what_a_target_takes() {
    let sources = SourceMap::default();
    let bench = Bench::of(FILE).option("target", "build").option("build-arg:MODE", "release");
    let outline = now(outline(&bench.gateway(&sources), &bench.options(), &sources)).expect("is planned");
    let lines = [
        "TARGET:      build",
        "DESCRIPTION: makes the program",
        "",
        "BUILD ARG   VALUE     DESCRIPTION",
        "VERSION     1.0       of everything",
        "TAG         1.0-x     ",
        "MODE        release   is debug or release",
        "NOTHING               ",
        "",
        "SECRET   REQUIRED",
        "token    true",
        "",
        "SSH       REQUIRED",
        "default   ",
        "",
    ];
    // To the last blank as BuildKit writes it.
    assert_eq!(outline.text(), lines.map(|line| format!("{line}\n")).concat());
}

#[test]
fn an_outline_holds_what_the_stages_below_take() {
    let sources = SourceMap::default();
    let bench = Bench::of(FILE);
    let outline = now(outline(&bench.gateway(&sources), &bench.options(), &sources)).expect("is planned");
    let names: Vec<&str> = outline.args.iter().map(|arg| arg.name.as_str()).collect();
    assert_eq!(names, ["VERSION", "TAG", "MODE", "NOTHING", "OTHER"]);
    // The target's own wish comes first.
    assert!(!outline.secrets[0].required);
    let json = serde_json::to_value(&outline).expect("is JSON");
    assert_eq!(json["args"][0]["description"], "of everything");
    assert_eq!(json["args"][2]["location"]["ranges"][0]["start"]["line"], 9);
    assert!(json.get("name").is_none());
}

#[test]
fn checks_look_at_every_stage_and_tell_what_they_found_before_an_error() {
    let sources = SourceMap::default();
    let file = "FROM a AS one\nRUN x\nCMD no-list\nFROM b\nENV A=$NONE\nSTOPSIGNAL no";
    let bench = Bench::of(file);
    let checked = now(check(&bench.gateway(&sources), &bench.options(), &sources));
    let rules: Vec<&str> = checked.findings.iter().map(|found| found.rule.name()).collect();
    assert_eq!(rules, ["JSONArgsRecommended", "UndefinedVar"]);
    assert_eq!(checked.errors[0].message, "invalid signal: no");
    // Named, the target alone counts.
    let bench = bench.option("target", "one");
    let checked = now(check(&bench.gateway(&sources), &bench.options(), &sources));
    assert_eq!((checked.findings.len(), checked.errors.len()), (1, 0));
}

#[test]
fn a_file_may_say_that_findings_stop_the_build() {
    let bench = Bench::of("# check=error=true\nFROM a\nENV A=$NONE");
    let (message, at, _) = bench.error();
    assert_eq!(message, "lint violation found for rules: UndefinedVar");
    assert_eq!(at, "ENV A=$NONE");
    let skipped = bench.option("build-arg:BUILDKIT_DOCKERFILE_CHECK", "skip=all").outcome();
    assert_eq!(skipped.findings(), [""; 0]);
}

#[test]
fn what_the_checks_found_is_there_where_a_build_fails() {
    let sources = SourceMap::default();
    let told = |file: &str, shown: Option<&str>| {
        let bench = Bench::of(file);
        let options = Options { shown: shown.map(ToOwned::to_owned), ..bench.options() };
        let mut findings = Vec::new();
        let planned = now(plan_telling(&bench.gateway(&sources), &options, &sources, &mut findings));
        let error = planned.expect_err("cannot be built").remove(0);
        let at = error.labels[0].span.source;
        let file = sources.get(at).expect("is known").name.clone();
        (findings.iter().map(|found| found.rule.name()).collect::<Vec<_>>(), file)
    };
    let (found, file) = told("FROM a as x\nENV A=$NONE\nSTOPSIGNAL no", None);
    assert_eq!((found, file.as_str()), (vec!["FromAsCasing", "UndefinedVar"], "Dockerfile"));
    let (found, file) = told("FROM a as x\nCOPYY b c", Some("app/Dockerfile"));
    assert_eq!((found, file.as_str()), (vec!["FromAsCasing"], "app/Dockerfile"));
    // What a file wants to hear nothing of is left out there, too.
    let (found, _) = told("# check=skip=FromAsCasing\nFROM a as x\nCOPYY b c", None);
    assert_eq!(found, [""; 0]);
    let (found, _) = told("# check=skip=all\nFROM a as x\nENV", None);
    assert_eq!(found, [""; 0]);
}
