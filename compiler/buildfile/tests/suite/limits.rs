//! Large and deep files.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_buildfile::BuildfileFrontend;
use rb_frontend::{Frontend, MapWorld};

use crate::harness::{block_on, request};

/// A chain in which each target starts from the next.
fn chain(length: usize) -> String {
    let mut text = "VERSION 1\n".to_owned();
    for at in 0..length {
        let _ = writeln!(text, "t{at}:\n    FROM +t{}\n    RUN make {at}", at + 1);
    }
    let _ = writeln!(text, "t{length}:\n    FROM scratch");
    text
}

#[test]
fn three_hundred_targets_are_planned_quickly() {
    let mut text = "VERSION 1\nARG --global mode=debug\nFROM scratch\nall:\n".to_owned();
    (0..300).for_each(|at| text.push_str(&format!("    BUILD +t{at} --n={at}\n")));
    for at in 0..300 {
        let _ = write!(text, "t{at}:\n    ARG n\n    ARG name=\"${{mode}}-${{n:-none}}\"\n");
        let _ = write!(
            text,
            "    RUN --network=none make $name $n\n    ENV N=$n\n    SAVE ARTIFACT /out $name\n"
        );
        text.push_str("    SAVE IMAGE app:$name\n");
        if at > 0 {
            let _ = writeln!(text, "    COPY (+t{}/*  --n={}) /in/", at - 1, at - 1);
        }
    }
    let world = MapWorld::default().with_file("Buildfile", text);
    let start = Instant::now();
    let plan = block_on(BuildfileFrontend.plan(&world, &request("+all"))).expect("plans");
    assert_eq!(plan.target().builds.len(), 300);
    assert_eq!(plan.outputs.len(), 300);
    // Forty times what it takes on a machine of 2024, unoptimised.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// A tree of targets; `conditions` says how many stand in target `at`, one half for the shell, one in `{{ }}`.
fn with_conditions(targets: usize, conditions: impl Fn(usize) -> usize) -> String {
    let mut text = "VERSION 1\nARG --global mode=release\nall:\n".to_owned();
    (0..targets).for_each(|at| text.push_str(&format!("    BUILD +t{at} --os=linux --n={at}\n")));
    for at in 0..targets {
        let _ =
            write!(text, "t{at}:\n    ARG os\n    ARG n: int = 0\n    LET size = small\n    FROM scratch\n");
        for each in 0..conditions(at) {
            let condition = match each % 2 {
                0 => "[ \"$mode\" = \"release\" ] && [ \"$os\" != mac ]".to_owned(),
                _ => format!("{{{{ mode == 'release' and n < {} }}}}", at + 1),
            };
            let _ = write!(
                text,
                "    IF {condition}\n        SET size = big{each}\n    ELSE\n        RUN never\n    END\n"
            );
        }
        let _ = write!(text, "    RUN make $size $n\n    SAVE ARTIFACT /out\n");
        if at > 0 {
            let _ = writeln!(text, "    COPY +t{}/out /in/", at - 1);
        }
    }
    text
}

/// Plans `+all` and returns how long that took, reading included; the world holds one file.
fn time_to_plan(text: String) -> Duration {
    let world = MapWorld::default().with_file("Buildfile", text);
    let start = Instant::now();
    let plan = block_on(BuildfileFrontend.plan(&world, &request("+all"))).expect("plans");
    assert_eq!(plan.target().builds.len(), 300);
    assert!(world.asked().is_empty(), "{:?}", world.asked());
    start.elapsed()
}

/// Returns a limit for a build with optimisation, and a generous one for any other.
fn limit(optimised: Duration) -> Duration {
    if cfg!(debug_assertions) { optimised * 300 } else { optimised }
}

#[test]
fn conditions_on_known_values_are_decided_quickly() {
    // Took 56 ms on two busy cores, November 2026.
    let taken = time_to_plan(with_conditions(300, |at| usize::from(at % 8 == 0) + usize::from(at < 2)));
    assert!(taken < limit(Duration::from_millis(100)), "{taken:?}");
}

#[test]
fn forty_conditions_in_each_target_are_decided_quickly() {
    let taken = time_to_plan(with_conditions(300, |_| 40));
    assert!(taken < limit(Duration::from_secs(1)), "{taken:?}");
}

#[test]
fn a_deep_chain_fits_the_stack() {
    let world = MapWorld::default().with_file("Buildfile", chain(900));
    let plan = block_on(BuildfileFrontend.plan(&world, &request("+t0"))).expect("plans");
    assert_eq!(plan.target().config.history.len(), 900);
}

#[test]
fn a_deep_chain_of_builds_fits_the_stack() {
    let world = MapWorld::default()
        .with_file("Buildfile", chain(900).replace("FROM +", "BUILD +").replace("RUN", "#"));
    let plan = block_on(BuildfileFrontend.plan(&world, &request("+t0"))).expect("plans");
    assert_eq!(plan.target().builds.len(), 1);
}

#[test]
fn a_chain_without_end_is_refused() {
    let world = MapWorld::default().with_file("Buildfile", chain(3_000));
    let errors = block_on(BuildfileFrontend.plan(&world, &request("+t0"))).expect_err("is too deep");
    assert_eq!(errors[0].code, "rb::evaluate::nesting");
}

/// A target that is called in many ways is evaluated once for each set of arguments it reads.
#[test]
fn keys_keep_only_what_a_target_reads() {
    let text = "VERSION 1\nall:\n    BUILD +a --x=1 --x=2 --x=3\n    BUILD +b\na:\n    ARG x\n    BUILD +b\nb:\n    FROM scratch\n";
    let world = MapWorld::default().with_file("Buildfile", text);
    let plan = block_on(BuildfileFrontend.plan(&world, &request("+all"))).expect("plans");
    let keys: Vec<_> = plan.target().builds.iter().map(|target| target.key.to_string()).collect();
    assert_eq!(keys, ["+a --x=1", "+a --x=2", "+a --x=3", "+b"]);
    let below = |at: usize| std::sync::Arc::as_ptr(&plan.target().builds[at].builds[0]);
    assert_eq!(below(0), std::sync::Arc::as_ptr(&plan.target().builds[3]));
    assert_eq!(below(0), below(2));
}

/// Runs something on a thread with the stack of a worker.
fn on_two_mebibytes<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().expect("fits the stack")
}

/// Blocks of all kinds within one another, `depth` deep, the target's own body counted.
fn nested(depth: usize, edition: &str) -> String {
    let kinds = ["IF true", "FOR x IN a", "WAIT", "IF false\n    ELSE"];
    let open: String = (1..depth)
        .map(|at| format!("    {}\n", kinds[at % kinds.len()].replace(" x ", &format!(" x{at} "))))
        .collect();
    format!(
        "VERSION {edition}\napp:\n    FROM scratch\n{open}    COPY a /\n{}",
        "    END\n".repeat(depth - 1)
    )
}

/// Functions that call one another, each from blocks within one another, so that all of it is `depth` deep.
fn functions(depth: usize, blocks: usize) -> String {
    let call = |next: usize| {
        let open: String = (0..blocks).map(|at| ["    IF [ a = a ]\n", "    WAIT\n"][at % 2]).collect();
        format!("{open}    DO +F{next}\n{}", "    END\n".repeat(blocks))
    };
    let last = depth / (blocks + 1);
    let mut text = format!("VERSION 0.8\napp:\n    FROM scratch\n{}", call(1));
    for at in 1..last {
        let _ = write!(text, "F{at}:\n    FUNCTION\n    ARG v=$(echo {at})\n{}", call(at + 1));
    }
    let _ = writeln!(text, "F{last}:\n    FUNCTION\n    RUN innermost");
    text
}

fn plan(text: String) -> Result<rb_frontend::BuildPlan, rb_diag::Diagnostics> {
    on_two_mebibytes(|| {
        let world = MapWorld::default().with_file("Buildfile", text).with_file("a", "");
        block_on(BuildfileFrontend.plan(&world, &request("+app")))
    })
}

#[test]
fn as_many_blocks_as_can_be_read_fit_the_stack() {
    for edition in ["0.8", "1"] {
        assert_eq!(plan(nested(65, edition)).expect("plans").target().config.history.len(), 1);
        let error = plan(nested(66, edition)).expect_err("is too deep").remove(0);
        assert_eq!(error.code, "rb::syntax::nested_too_deeply");
    }
}

#[test]
fn a_hundred_blocks_and_functions_fit_the_stack() {
    for blocks in [0, 1, 3] {
        let target = Arc::clone(plan(functions(99, blocks)).expect("plans").target());
        assert_eq!(target.config.history.len(), 1, "{blocks}");
        let error = plan(functions(108, blocks)).expect_err("is too deep").remove(0);
        assert_eq!(error.code, "rb::evaluate::nesting");
        assert_eq!(error.trail.len(), 22, "{:?}", error.trail);
    }
}
