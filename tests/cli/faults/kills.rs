//! `rb` killed at any instant, one or two at a time: what it was writing is old or new, nothing of it is left, and the
//! next build is right.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rb_oci::Digest;

use super::{Dice, LAYOUT, Project, check_nothing_left, names, rounds};

/// When a round kills.
#[derive(Clone, Copy, Debug)]
enum Instants {
    /// Some time after the start.
    After(Duration),
    /// As soon as something half written lies beside an output.
    Exporting,
}

impl Instants {
    fn any(dice: &mut Dice, whole: Duration) -> Self {
        let below = |dice: &mut Dice, whole: Duration| {
            Self::After(Duration::from_micros(
                dice.below(u64::try_from(whole.as_micros()).expect("is short")),
            ))
        };
        match dice.below(6) {
            0 => below(dice, Duration::from_millis(30)),
            1 => Self::Exporting,
            _ => below(dice, whole),
        }
    }

    fn wait(self, project: &Project, child: &mut Child) {
        match self {
            Self::After(time) => std::thread::sleep(time),
            Self::Exporting => {
                while child.try_wait().expect("asks").is_none() && !is_exporting(project) {
                    std::hint::spin_loop();
                }
            }
        }
    }
}

fn is_exporting(project: &Project) -> bool {
    let half_made =
        |folder: &Path| names(folder).iter().any(|name| name.starts_with('.') && name.contains(".rb-"));
    let top = project.env.project();
    half_made(&top.join("out")) || half_made(&top)
}

/// Panics if an output is neither what it was nor what it is now.
fn check_whole(
    before: &BTreeMap<&str, Digest>,
    then: &BTreeMap<&str, Digest>,
    now: &BTreeMap<&str, Digest>,
    round: &str,
) {
    for (output, digest) in then {
        let whole = before[output] == *digest || now[output] == *digest;
        assert!(whole, "{round}: {output} was half written when rb was killed");
    }
}

#[test]
fn killed_at_any_instant_the_next_build_is_right_and_nothing_is_left() {
    let mut dice = Dice::of("kills");
    let mut project = Project::new();
    let started = Instant::now();
    project.build();
    let mut whole = started.elapsed();
    let (count, mut killed) = (rounds(3), 0);
    let mut round = 0;
    // On a fast day all of a few rounds may end before their instant: then there are some more.
    while round < count || (killed == 0 && round < 20 * count) {
        project.edit(&mut dice);
        let before = project.outputs();
        let two = dice.below(3) == 0;
        let mut children = vec![project.env.spawn(LAYOUT)];
        if two {
            std::thread::sleep(Duration::from_millis(dice.below(40)));
            children.push(project.env.spawn(LAYOUT));
        }
        let instant = Instants::any(&mut dice, whole);
        let survives = two && dice.below(2) == 0;
        let told = format!("round {round}, {instant:?}, two {two}, one survives {survives}");
        instant.wait(&project, &mut children[0]);
        if survives {
            // Either one.
            let last = children.swap_remove(usize::from(dice.below(2) == 0));
            children.iter_mut().for_each(|child| child.kill().expect("kills"));
            let output = last.wait_with_output().expect("ends");
            assert!(output.status.success(), "{told}: {}", String::from_utf8_lossy(&output.stderr));
            project.check();
        }
        children.iter_mut().for_each(|child| child.kill().expect("kills"));
        for child in children {
            let output = child.wait_with_output().expect("ends");
            killed += u64::from(output.status.code().is_none());
            let ended = output.status.code().unwrap_or(0);
            assert_eq!(ended, 0, "{told}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let then = project.outputs();
        let begun = Instant::now();
        let run = project.env.rb(LAYOUT);
        assert_eq!(run.code, 0, "{told}:\n{}", run.stderr);
        assert!(!run.stderr.contains("damaged"), "{told}:\n{}", run.stderr);
        // Cold builds take longest; the instants follow what a round really takes.
        whole = (whole * 3 + begun.elapsed()) / 4 + Duration::from_millis(20);
        project.check();
        check_whole(&before, &then, &project.outputs(), &told);
        check_nothing_left(&project.env.state());
        round += 1;
        if round % 10 == 0 || round == count {
            project.check_against_fresh_state();
        }
    }
    eprintln!("kills: {killed} runs of {round} rounds were killed before their end");
    assert!(killed > 0, "no run was killed before its end");
}
