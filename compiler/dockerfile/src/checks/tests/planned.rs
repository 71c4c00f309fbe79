//! What is found while a whole file is planned: each rule that needs values, and those that must stay silent.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rb_diag::SourceMap;
use rb_frontend::RecordingGateway;

use crate::{Checked, Finding, Options, check, plan};

/// A file, its options, and what lies beside it.
#[derive(Default)]
struct Case<'a> {
    dockerfile: &'a str,
    ignore: &'a str,
    options: &'a [(&'a str, &'a str)],
    all_stages: bool,
}

impl Case<'_> {
    /// Looks at it; returns what was found, and the errors.
    fn look(&self) -> (Vec<String>, Vec<String>) {
        self.ask(async |gateway, options, sources| {
            let Checked { findings, errors } = check(gateway, options, sources).await;
            (told(&findings, sources), errors.iter().map(|error| error.message.clone()).collect())
        })
    }

    /// Plans it; returns what was found, or the first error.
    fn plan(&self) -> Result<Vec<String>, String> {
        self.ask(async |gateway, options, sources| match plan(gateway, options, sources).await {
            Ok(planned) => Ok(told(&planned.findings, sources)),
            Err(errors) => Err(errors[0].message.clone()),
        })
    }

    fn ask<T>(&self, asks: impl AsyncFnOnce(&RecordingGateway, &Options, &SourceMap) -> T) -> T {
        let sources = SourceMap::default();
        let (dockerfile, ignore) = (self.dockerfile.to_owned(), self.ignore.to_owned());
        let read = move |_: &str, path: &str| match path {
            "Dockerfile" => Some(dockerfile.clone().into_bytes()),
            ".dockerignore" => Some(ignore.clone().into_bytes()),
            _ => None,
        };
        let gateway = RecordingGateway::new(sources.clone(), Box::new(read));
        let options: BTreeMap<String, String> =
            self.options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let build_platform = "linux/amd64".parse().unwrap();
        let start = Options { build_platform, all_stages: self.all_stages, ..Options::default() };
        let options = Options::read(&options, start).unwrap();
        let asked = asks(&gateway, &options, &sources);
        match pin!(asked).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(told) => told,
            Poll::Pending => panic!("a recording answers at once"),
        }
    }
}

fn told(findings: &[Finding], sources: &SourceMap) -> Vec<String> {
    let told = findings.iter().map(|finding| {
        let line = sources.get(finding.span.source).unwrap().position(finding.span.start).line;
        format!("{line} {}: {}", finding.rule.name(), finding.message)
    });
    told.collect()
}

/// Returns what is found in a file.
fn found(dockerfile: &str) -> Vec<String> {
    Case { dockerfile, ..Case::default() }.plan().unwrap()
}

fn is_silent(dockerfiles: &[&str]) {
    for dockerfile in dockerfiles {
        assert_eq!(found(dockerfile), [""; 0], "{dockerfile}");
    }
}

#[test]
fn json_is_recommended_where_nobody_chose_a_shell() {
    assert_eq!(
        found("FROM a\nCMD b\nENTRYPOINT c\n"),
        [
            "2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            "3 JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
        ]
    );
    is_silent(&[
        "FROM a\nSHELL [\"s\"]\nCMD b\n",
        "FROM a AS b\nSHELL [\"s\"]\nFROM b\nENTRYPOINT c\n",
        "FROM a\nCMD [\"b\"]\nRUN c\nHEALTHCHECK CMD d\n",
        "FROM a\n# check=skip=JSONArgsRecommended\nCMD b\n",
    ]);
}

#[test]
fn what_is_written_twice_is_told_at_the_first() {
    let told = |name: &str, line: u32| {
        format!(
            "{line} MultipleInstructionsDisallowed: Multiple {name} instructions should not be used in the same stage because only the last one will be used"
        )
    };
    assert_eq!(
        found(
            "FROM a\nCMD [\"b\"]\nENTRYPOINT [\"c\"]\nHEALTHCHECK NONE\nRUN x\nCMD []\nENTRYPOINT []\nHEALTHCHECK CMD d\n"
        ),
        [told("CMD", 2), told("ENTRYPOINT", 3), told("HEALTHCHECK", 4)]
    );
    is_silent(&["FROM a AS b\nCMD [\"b\"]\nFROM b\nCMD [\"c\"]\n"]);
}

#[test]
fn keys_and_their_values() {
    assert_eq!(
        found("FROM a\nENV b c\nLABEL d e\nENV API_KEY=1 f=2\nARG TOKEN\n"),
        [
            "2 LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            "3 LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format",
            "4 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"API_KEY\")",
            "5 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"TOKEN\")",
        ]
    );
    is_silent(&[
        "FROM a\n# check=skip=all\nENV TOKEN x\n",
        // Global arguments are not of any stage.
        "ARG TOKEN\nFROM a\n",
    ]);
}

#[test]
fn variables_that_nobody_set() {
    assert_eq!(
        found("FROM a\nCOPY $b .\nARG b=c DIRS\nCOPY $b $DIRS .\nWORKDIR /$DIR\nENV PATH=$PAHT:/x\n"),
        [
            "2 UndefinedVar: Usage of undefined variable '$b'",
            "5 UndefinedVar: Usage of undefined variable '$DIR'",
            "6 UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)",
        ]
    );
    is_silent(&[
        "FROM a\nRUN echo $b\n",
        "FROM a AS b\nARG c=d\nFROM b\nCOPY $c .\n",
        "FROM a\nARG TARGETARCH\nCOPY $TARGETARCH .\n",
        "FROM a\nCOPY <<'E' /x\n$y\nE\n",
        "FROM a\nENV A=b\nCOPY $A ${PATH} .\n",
    ]);
}

#[test]
fn stages_that_are_not_needed_are_looked_at_if_all_are_wanted() {
    let dockerfile = "FROM a AS b\nCOPY $c .\nFROM a\nCOPY $d .\n";
    let told = |all_stages| Case { dockerfile, all_stages, ..Case::default() }.plan().unwrap();
    assert_eq!(told(false), ["4 UndefinedVar: Usage of undefined variable '$d'"]);
    assert_eq!(
        told(true),
        [
            "2 UndefinedVar: Usage of undefined variable '$c'",
            "4 UndefinedVar: Usage of undefined variable '$d'"
        ]
    );
}

#[test]
fn arguments_in_from() {
    assert_eq!(
        found("ARG tag=1\nFROM a:${tag}${version}\n"),
        ["2 UndefinedArgInFrom: FROM argument 'version' is not declared"]
    );
    assert_eq!(
        found("ARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH:-arm64} a\n"),
        ["2 UndefinedArgInFrom: FROM argument 'MYARCH' is not declared (did you mean MY_ARCH?)"]
    );
    is_silent(&[
        "FROM --platform=$BUILDPLATFORM a\n",
        "ARG X\nFROM a${X}\n",
        "ARG X=\"\"\nFROM a${X-@bogus}\n",
    ]);
}

#[test]
fn defaults_of_arguments_in_from() {
    let dockerfile = "ARG TAG\nFROM a:$TAG\n";
    let case = Case { dockerfile, options: &[("build-arg:TAG", "1")], ..Case::default() };
    assert_eq!(
        case.plan().unwrap(),
        [
            "2 InvalidDefaultArgInFrom: Default value for ARG a:$TAG results in empty or invalid base image name"
        ]
    );
    // Beside what is wrong with another line, too; a line that is wrong may be what sets it.
    let case = Case { dockerfile: "ARG TAG\nFROM a:$TAG\nCOPY --bogus a b\n", ..Case::default() };
    let (findings, errors) = case.look();
    assert_eq!(
        findings,
        [
            "2 InvalidDefaultArgInFrom: Default value for ARG a:$TAG results in empty or invalid base image name"
        ]
    );
    assert!(errors.iter().any(|error| error.contains("bogus")), "{errors:?}");
    let case = Case { dockerfile: "ARG TAG=\"x\nFROM a:$TAG\nCOPY a b\n", ..Case::default() };
    let (findings, errors) = case.look();
    assert!(findings.is_empty() && !errors.is_empty(), "{findings:?} {errors:?}");
    is_silent(&["ARG TAG=\"\"\nFROM a:b${TAG}\n", "FROM scratch\nCOPY a b\n", "FROM a AS b\nFROM b\n"]);
}

#[test]
fn platforms_in_from() {
    assert_eq!(
        found("FROM --platform=${TARGETPLATFORM} a\n"),
        [
            "1 RedundantTargetPlatform: Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior"
        ]
    );
    assert_eq!(
        found("FROM --platform=linux/arm64 a AS b\n"),
        [
            "1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/arm64\""
        ]
    );
    is_silent(&[
        "FROM --platform=linux/arm64 a AS b_arm64\n",
        "# check=skip=RedundantTargetPlatform\nFROM --platform=$TARGETPLATFORM a\n",
        "ARG P=linux/arm64\nFROM --platform=$P a\n",
    ]);
}

#[test]
fn working_directories() {
    assert_eq!(
        found("FROM a\nWORKDIR app/\nWORKDIR x\n"),
        [
            "2 WorkdirRelativePath: Relative workdir \"app/\" can have unexpected results if the base image changes"
        ]
    );
    is_silent(&["FROM a\nWORKDIR /b\nWORKDIR c\n", "FROM a AS b\nWORKDIR /b\nFROM b\nWORKDIR c\n"]);
}

#[test]
fn ports() {
    assert_eq!(
        found("FROM a\nARG P=80/TCP\nEXPOSE $P 1:2\n"),
        [
            "3 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
            "3 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '1:2'",
        ]
    );
}

#[test]
fn files_that_the_context_does_not_have() {
    let told = |dockerfile, ignore| Case { dockerfile, ignore, ..Case::default() }.plan().unwrap();
    assert_eq!(
        told("FROM a\nCOPY b/c .\nADD b /x\nCOPY d .\n", "b\n"),
        [
            "2 CopyIgnoredFile: Attempting to Copy file \"b/c\" that is excluded by .dockerignore",
            "3 CopyIgnoredFile: Attempting to Add file \"b\" that is excluded by .dockerignore",
        ]
    );
    assert_eq!(
        told("FROM a\nCOPY . .\n", "*\n"),
        ["2 CopyIgnoredFile: Attempting to Copy file \".\" that is excluded by .dockerignore"]
    );
    for (dockerfile, ignore) in [
        ("FROM a\nCOPY . .\n", ".*\n"),
        ("FROM a\nCOPY ./b .\n", "**\n!b\n"),
        ("FROM a AS b\nFROM a\nCOPY --from=b /c /d\n", "c\n"),
        ("FROM a\nCOPY b .\n", ""),
        ("FROM a\nADD https://example.com/b /c\n", "**\n"),
    ] {
        assert_eq!(told(dockerfile, ignore), [""; 0], "{dockerfile}");
    }
}

#[test]
fn a_file_or_a_build_can_make_them_errors() {
    let dockerfile = "# check=skip=ConsistentInstructionCasing;error=true\nFROM a as b\ncopy c .\n";
    let told = |options| Case { dockerfile, options, ..Case::default() }.plan();
    assert_eq!(told(&[]), Err("lint violation found for rules: FromAsCasing".to_owned()));
    assert_eq!(told(&[("build-arg:BUILDKIT_DOCKERFILE_CHECK", "skip=all")]), Ok(Vec::new()));
    assert_eq!(
        told(&[("build-arg:BUILDKIT_DOCKERFILE_CHECK", "error=true")]),
        Err("lint violation found for rules: ConsistentInstructionCasing, FromAsCasing".to_owned())
    );
}
