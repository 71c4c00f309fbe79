//! Large and deep files.

use std::fmt::Write as _;

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
    let start = std::time::Instant::now();
    let plan = block_on(BuildfileFrontend.plan(&world, &request("+all"))).expect("plans");
    assert_eq!(plan.target.builds.len(), 300);
    assert_eq!(plan.outputs.len(), 300);
    // Forty times what it takes on a machine of 2024, unoptimised.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_deep_chain_fits_the_stack() {
    let world = MapWorld::default().with_file("Buildfile", chain(900));
    let plan = block_on(BuildfileFrontend.plan(&world, &request("+t0"))).expect("plans");
    assert_eq!(plan.target.config.history.len(), 900);
}

#[test]
fn a_deep_chain_of_builds_fits_the_stack() {
    let world = MapWorld::default()
        .with_file("Buildfile", chain(900).replace("FROM +", "BUILD +").replace("RUN", "#"));
    let plan = block_on(BuildfileFrontend.plan(&world, &request("+t0"))).expect("plans");
    assert_eq!(plan.target.builds.len(), 1);
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
    let keys: Vec<_> = plan.target.builds.iter().map(|target| target.key.to_string()).collect();
    assert_eq!(keys, ["+a --x=1", "+a --x=2", "+a --x=3", "+b"]);
    let below = |at: usize| std::sync::Arc::as_ptr(&plan.target.builds[at].builds[0]);
    assert_eq!(below(0), std::sync::Arc::as_ptr(&plan.target.builds[3]));
    assert_eq!(below(0), below(2));
}
