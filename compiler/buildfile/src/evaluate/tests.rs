//! Sharing by the arguments that were read changes nothing: random programs give the same with it and without.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use rb_diag::Diagnostics;
use rb_frontend::{
    BuildOptions, BuildPlan, BuildRequest, MapWorld, ProjectRef, TargetOutput, TargetRef, TargetRequest,
};
use rb_oci::Platform;

use super::Evaluator;
use crate::project::ProjectConfig;
use crate::resolve;

const TARGETS: usize = 5;
const NAMES: [&str; 3] = ["a", "b", "c"];

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

/// Numbers that a program is made of; behind their end there are only zeros, so fewer of them mean a smaller program.
struct Tape<'a>(&'a [u8]);

impl Tape<'_> {
    fn below(&mut self, limit: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % limit
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.below(NAMES.len())]
    }
}

/// Writes statements of target `at`, which call targets behind it only.
struct Writer<'t, 'a> {
    tape: &'t mut Tape<'a>,
    at: usize,
    /// This is the second file.
    lib: bool,
    declared: BTreeSet<&'static str>,
}

impl Writer<'_, '_> {
    fn statements(&mut self, count: usize, indent: usize, out: &mut String) {
        for _ in 0..count {
            let _ = write!(out, "{}", " ".repeat(indent));
            let callee = self.at + 1 + self.tape.below(3);
            match (self.tape.below(10), callee < TARGETS) {
                (0 | 1, _) => {
                    let name = self.tape.name();
                    match self.declared.insert(name) {
                        true if self.tape.below(2) == 0 => writeln!(out, "ARG {name}"),
                        true => writeln!(out, "ARG {name}=d{}", self.tape.below(2)),
                        false => writeln!(out, "RUN again ${name}"),
                    }
                    .expect("writes to memory");
                }
                (2, _) => {
                    let _ = writeln!(out, "RUN make $a $b $c");
                }
                (3, true) => {
                    let (flag, callee, arguments) = (self.flag(), self.callee(callee), self.arguments(true));
                    let _ = writeln!(out, "BUILD{flag} {callee}{arguments}");
                }
                (4, true) => {
                    let (flag, callee, arguments) = (self.flag(), self.callee(callee), self.arguments(false));
                    let _ = writeln!(out, "FROM{flag} {callee}{arguments}");
                }
                (5, true) => {
                    let (flag, callee, arguments) = (self.flag(), self.callee(callee), self.arguments(false));
                    let _ = writeln!(out, "COPY{flag} ({callee}/x{arguments}) /");
                }
                (6, _) if indent < 12 => {
                    let (name, value) = (self.tape.name(), self.tape.below(2));
                    let _ = writeln!(out, "IF [ \"${name}\" = \"{value}\" ]");
                    let before = self.declared.clone();
                    self.statements(1, indent + 4, out);
                    // Whether they are declared behind the block is open, so nothing declares them again.
                    self.declared.extend(before);
                    let _ = writeln!(out, "{}END", " ".repeat(indent));
                }
                (7, _) => {
                    let place = if self.lib || self.tape.below(2) == 0 { "" } else { "./lib" };
                    let (flag, arguments) = (self.flag(), self.arguments(false));
                    let _ = writeln!(out, "DO{flag} {place}+F{arguments}");
                }
                (8, _) => {
                    let _ = writeln!(out, "ENV {}=e$e", self.tape.name());
                }
                _ => {
                    let _ = writeln!(out, "SAVE ARTIFACT out x{}", self.tape.below(2));
                }
            }
        }
    }

    fn callee(&mut self, at: usize) -> String {
        match self.tape.below(3) {
            0 if !self.lib => format!("./lib+t{at}"),
            1 if !self.lib => format!("l+t{at}"),
            _ => format!("+t{at}"),
        }
    }

    fn flag(&mut self) -> &'static str {
        if self.tape.below(4) == 0 { " --pass-args" } else { "" }
    }

    /// Arguments of a call; with a matrix also the same twice.
    fn arguments(&mut self, matrix: bool) -> String {
        let mut text = String::new();
        let mut named = BTreeSet::new();
        for _ in 0..self.tape.below(3) {
            let name = self.tape.name();
            if named.insert(name) || matrix {
                let value = match self.tape.below(3) {
                    0 => "0".to_owned(),
                    1 => "1".to_owned(),
                    _ => format!("${}", self.tape.name()),
                };
                let _ = write!(text, " --{name}={value}");
            }
        }
        text
    }
}

fn file(tape: &mut Tape<'_>, lib: bool) -> String {
    let mut text = "VERSION 0.8\n".to_owned();
    if !lib {
        text.push_str(if tape.below(2) == 0 {
            "IMPORT ./lib AS l\n"
        } else {
            "IMPORT --pass-args ./lib AS l\n"
        });
    }
    match tape.below(3) {
        0 => {}
        1 => text.push_str("ARG --global b=g\n"),
        _ => text.push_str("ARG --global b=g\nARG c=base\nFROM scratch\nRUN base $b $c\n"),
    }
    if !lib {
        text.push_str("all:\n");
        text.push_str("    BUILD +t0 --a=0 --a=1 --b=0 --b=1\n    BUILD +t0 --c=1\n    BUILD +t0\n");
    }
    for at in 0..TARGETS {
        let _ = write!(text, "t{at}:\n    FROM scratch\n");
        let count = 1 + tape.below(5);
        Writer { tape, at, lib, declared: BTreeSet::new() }.statements(count, 4, &mut text);
        text.push_str("    SAVE ARTIFACT out x\n");
    }
    text.push_str("F:\n    FUNCTION\n");
    let mut writer = Writer { tape, at: TARGETS - 2, lib: true, declared: BTreeSet::new() };
    let mut body = String::new();
    writer.statements(3, 4, &mut body);
    // A function that calls itself is no subject here.
    let body: String =
        body.lines().filter(|line| !line.contains("DO ")).map(|line| format!("{line}\n")).collect();
    text.push_str(&body);
    text
}

fn plan(main: &str, lib: &str, exact: bool) -> Result<BuildPlan, Diagnostics> {
    let world = MapWorld::default().with_file("Earthfile", main).with_file("lib/Earthfile", lib);
    let platform: Platform = "linux/amd64".parse().expect("is a platform");
    let project = ProjectRef::Local { dir: String::new() };
    let request = BuildRequest {
        targets: vec![TargetRequest::one(
            TargetRef { project, name: "all".to_owned() },
            [("a", "1")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        )],
        keep_going: false,
        defaults: [("c", "0")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        platforms: vec![platform.clone()],
        user_platform: platform.clone(),
        native_platform: platform,
        options: BuildOptions::default(),
    };
    block_on(async {
        let (program, targets) = resolve::resolve(&world, &request.targets).await?;
        let evaluator = Evaluator::new(&world, program, ProjectConfig::default(), &request, targets);
        evaluator.desk.lock().expect("nobody panics").memo.exact = exact;
        evaluator.plan().await
    })
}

/// Writes down all that a target gives, with what it BUILDs; its key may differ, for one may stand for several.
fn shown(target: &TargetOutput) -> String {
    let artifacts: Vec<_> =
        target.artifacts.iter().map(|artifact| (&artifact.path, artifact.state.digest())).collect();
    format!(
        "{} {:?} {:?} {:?} {artifacts:?}\n{}",
        target.key.target,
        target.state.digest(),
        target.artifact_tree.digest(),
        target.config,
        target.builds.iter().map(|target| shown(target)).collect::<String>()
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn sharing_changes_nothing(tape in prop::collection::vec(any::<u8>(), 40..240)) {
        let mut tape = Tape(&tape);
        let (main, lib) = (file(&mut tape, false), file(&mut tape, true));
        match (plan(&main, &lib, false), plan(&main, &lib, true)) {
            (Ok(shared), Ok(apart)) => {
                prop_assert_eq!(shown(shared.target()), shown(apart.target()), "{}\n--- lib\n{}", main, lib);
            }
            (Err(shared), Err(apart)) => {
                let codes = |errors: &Diagnostics| errors.iter().map(|error| error.code).collect::<Vec<_>>();
                prop_assert_eq!(codes(&shared), codes(&apart), "{}\n--- lib\n{}", main, lib);
            }
            (shared, apart) => {
                let errors = shared.err().or(apart.err());
                return Err(TestCaseError::fail(format!("{errors:?}\n{main}\n--- lib\n{lib}")));
            }
        }
    }
}
