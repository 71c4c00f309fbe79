//! Rules that conversion asks, and which of them are wanted.

use std::collections::BTreeSet;

use rb_diag::{SourceId, Span};

use super::{Checks, Control, Finding, Rule, steps, values};
use crate::words::Expanded;

mod planned;

const AT: Span = Span { source: SourceId(0), start: 1, end: 2 };

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn messages(findings: impl IntoIterator<Item = Finding>) -> Vec<String> {
    findings.into_iter().map(|finding| format!("{}: {}", finding.rule.name(), finding.message)).collect()
}

#[test]
fn there_are_all_rules_and_their_pages() {
    assert_eq!(Rule::ALL.len(), 22);
    let pages = Rule::ALL.iter().filter_map(|rule| rule.url()).collect::<BTreeSet<_>>();
    assert_eq!(pages.len(), 21);
    assert_eq!(
        Rule::JSONArgsRecommended.url().as_deref(),
        Some("https://docs.docker.com/go/dockerfile/rule/json-args-recommended/")
    );
    assert_eq!(Rule::InvalidBaseImagePlatform.url(), None);
}

#[test]
fn names_of_secrets_are_found() {
    for name in ["SECRET_PASSPHRASE", "SUPER_Secret", "password", "auth", "apikey", "git_key", "GITHUB_TOKEN"]
    {
        assert!(steps::secret(AT, "ENV", name).is_some(), "{name}");
    }
    for name in
        ["sunflower", "PUBLIC_KEY", "public_token", "password_file", "AUTH_MODULE_VERSION", "monkey", "KEYS"]
    {
        assert!(steps::secret(AT, "ENV", name).is_none(), "{name}");
    }
    assert_eq!(
        messages(steps::secret(AT, "ARG", "auth")),
        ["SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"auth\")"]
    );
}

#[test]
fn ports_are_looked_at() {
    let told = |port| messages(steps::exposed_port(AT, port));
    for port in ["80", "80/tcp", "80-90/udp", "80/"] {
        assert_eq!(told(port), [""; 0], "{port}");
    }
    assert_eq!(
        told("127.0.0.1:80:80/TCP"),
        [
            "ExposeProtoCasing: Defined protocol '127.0.0.1:80:80/TCP' in EXPOSE instruction should be lowercase",
            "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80/TCP'",
        ]
    );
    assert_eq!(told("[::1]:80:80").len(), 1);
    assert_eq!(told("80:80").len(), 1);
}

#[test]
fn files_that_are_ignored_are_told() {
    let told =
        |path, hides_all| messages(steps::ignored_file(AT, false, path, hides_all, |path| path != "kept"));
    assert_eq!(
        told("./a//b/", false),
        ["CopyIgnoredFile: Attempting to Copy file \"a/b\" that is excluded by .dockerignore"]
    );
    assert_eq!(told("kept", false), [""; 0]);
    assert_eq!(told(".", false), [""; 0]);
    assert_eq!(told("/", true).len(), 1);
    let added = steps::ignored_file(AT, true, "a", false, |_| true);
    assert_eq!(
        messages(added),
        ["CopyIgnoredFile: Attempting to Add file \"a\" that is excluded by .dockerignore"]
    );
}

#[test]
fn steps_are_told_in_the_words_of_buildkit() {
    assert_eq!(
        messages([
            steps::legacy_pair(AT, "env"),
            steps::json_recommended(AT, "CMD"),
            steps::overridden(AT, "CMD"),
            steps::relative_workdir(AT, "a\"b"),
        ]),
        [
            "LegacyKeyValueFormat: \"env key=value\" should be used instead of legacy \"env key value\" format",
            "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            "WorkdirRelativePath: Relative workdir \"a\\\"b\" can have unexpected results if the base image changes",
        ]
    );
}

#[test]
fn variables_that_nobody_set_are_told_with_a_near_name() {
    let unmatched = set(&["DIR", "NMAE", "own", "BUILDKIT_SBOM_SCAN_STAGE"]);
    assert_eq!(
        messages(values::undefined_variables(
            AT,
            &unmatched,
            |name| name == "own",
            &["DIRS", "NAME", "DIRX"]
        )),
        [
            "UndefinedVar: Usage of undefined variable '$DIR' (did you mean $DIRS?)",
            "UndefinedVar: Usage of undefined variable '$NMAE' (did you mean $NAME?)",
        ]
    );
    assert_eq!(
        messages(values::undefined_in_from(AT, &set(&["A", "tag", "TAGS"]), &["A", "tags"])),
        [
            "UndefinedArgInFrom: FROM argument 'TAGS' is not declared",
            "UndefinedArgInFrom: FROM argument 'tag' is not declared (did you mean tags?)",
        ]
    );
}

#[test]
fn platforms_are_looked_at() {
    let value = |text: &str, matched: &[&str], unmatched: &[&str]| Expanded {
        text: text.to_owned(),
        words: Vec::new(),
        matched: set(matched),
        unmatched: set(unmatched),
    };
    let target = value("linux/amd64", &["TARGETPLATFORM"], &[]);
    assert_eq!(
        messages(values::redundant_platform(AT, "$TARGETPLATFORM", &target, "linux/amd64")),
        [
            "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
        ]
    );
    for value in [
        value("linux/amd64/v2", &["TARGETPLATFORM"], &[]),
        value("linux/amd64", &["BUILDPLATFORM"], &[]),
        value("linux/amd64", &["TARGETPLATFORM", "x"], &[]),
        value("linux/amd64", &["TARGETPLATFORM"], &["x"]),
    ] {
        assert_eq!(values::redundant_platform(AT, "x", &value, "linux/amd64"), None);
    }
    let platform = |text: &str| text.parse().unwrap();
    let constant = value("linux/amd64", &[], &[]);
    assert_eq!(
        messages(values::constant_platform(AT, "build", &constant, &platform("linux/amd64"))),
        [
            "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\""
        ]
    );
    assert_eq!(values::constant_platform(AT, "build_amd64", &constant, &platform("linux/amd64")), None);
    assert_eq!(values::constant_platform(AT, "b", &target, &platform("linux/amd64")), None);
    assert_eq!(
        messages(values::base_platform(AT, "a", &platform("linux/amd64"), &platform("linux/arm/v7"))),
        [
            "InvalidBaseImagePlatform: Base image a was pulled with platform \"linux/arm/v7\", expected \"linux/amd64\" for current build"
        ]
    );
    assert_eq!(values::base_platform(AT, "a", &platform("linux/arm/v6"), &platform("linux/arm/v7")), None);
}

#[test]
fn defaults_make_names_of_images() {
    assert_eq!(
        messages(values::invalid_default(AT, "busybox:$TAG", "busybox:")),
        [
            "InvalidDefaultArgInFrom: Default value for ARG busybox:$TAG results in empty or invalid base image name"
        ]
    );
    assert!(values::invalid_default(AT, "", "").is_some());
    for name in [
        "busybox",
        "scratch",
        "build-stage",
        "a.b/c:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ] {
        assert_eq!(values::invalid_default(AT, "x", name), None, "{name}");
    }
}

#[test]
fn options_are_read() {
    let control = |options| Control::parse(options).unwrap();
    assert_eq!(control(""), Control::default());
    assert!(control("error=true").is_strict() && !control(" error = 0 ").is_strict());
    assert!(!control("skip= UndefinedVar , StageNameCasing").says(Rule::StageNameCasing));
    assert!(control("skip=UndefinedVar").says(Rule::StageNameCasing));
    assert!(!control("skip=all;error=true").says(Rule::UndefinedVar));
    assert!(control("experimental=all").says(Rule::InvalidDefinitionDescription));
    for (options, reason) in [
        ("skip", "invalid check option \"skip\""),
        ("skp=all", "invalid check option \"skp\""),
        ("error=maybe", "failed to parse check option \"error=maybe\""),
    ] {
        assert_eq!(Control::parse(options), Err(reason.to_owned()));
    }
}

#[test]
fn what_is_turned_off_is_left_out_and_the_rest_may_stop_the_build() {
    let mut checks = Checks::new(Control::parse("skip=JSONArgsRecommended;error=true").unwrap());
    checks.add(None, [steps::json_recommended(AT, "CMD")]);
    assert_eq!(checks.error(), None);
    let local = Control::parse("skip=LegacyKeyValueFormat").unwrap();
    checks.add(
        Some(&local),
        [steps::legacy_pair(AT, "ENV"), steps::overridden(AT, "CMD"), steps::overridden(AT, "CMD")],
    );
    checks.add(None, [steps::legacy_pair(AT, "ENV")]);
    assert_eq!(checks.findings().len(), 3);
    let error = checks.error().unwrap();
    assert_eq!(
        error.message,
        "lint violation found for rules: LegacyKeyValueFormat, MultipleInstructionsDisallowed"
    );
    assert_eq!(error.labels.len(), 3);
}
