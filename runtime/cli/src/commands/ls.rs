//! `rb ls`: what can be built in a folder, sorted; the base recipe first, functions apart.

use rb_buildfile::TargetSummary;

use super::describe::{self, Offers};
use crate::args::LsArgs;
use crate::environment::Environment;
use crate::report::{self, Failure};
use crate::world::Place;

/// Prints targets and functions.
pub(super) fn execute(environment: &Environment, ls: &LsArgs) -> Result<u8, Failure> {
    let offers = match &ls.dir {
        Some(dir) => describe::offers_of(environment, &dir.to_string_lossy())?,
        None => describe::offers(&environment.cwd, Place::here(&environment.cwd)?)?,
    };
    let text = match ls.json {
        true => format!("{:#}\n", describe::as_json(&offers)),
        false => list(&offers, ls, &describe::prefix(&environment.cwd, ls.dir.as_deref())),
    };
    report::print(text.as_bytes()).map(|()| 0)
}

fn list(offers: &Offers, ls: &LsArgs, prefix: &str) -> String {
    let show = |targets: &[TargetSummary]| match (ls.long, ls.args) {
        (true, _) => {
            targets.iter().map(|target| describe::long(target, prefix)).collect::<Vec<_>>().join("\n")
        }
        (false, true) => targets.iter().map(|target| describe::with_arguments(target, prefix)).collect(),
        (false, false) => describe::lines(targets, prefix, ""),
    };
    let gap = if ls.long { "\n" } else { "" };
    // A Dockerfile has stages and nothing above them.
    let is_dockerfile = rb_syntax::dockerfile_of(prefix).is_some();
    let mut out = if is_dockerfile { String::new() } else { format!("{prefix}+base\n") };
    for part in [(&offers.targets, gap), (&offers.functions, "\n")] {
        let (targets, gap) = part;
        if !targets.is_empty() {
            if !out.is_empty() {
                out.push_str(gap);
            }
            out.push_str(&show(targets));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::describe::tests::listed;

    #[test]
    fn base_is_first_and_functions_stand_apart() {
        let ls = |long, args| LsArgs { args, long, json: false, dir: None };
        insta::assert_snapshot!(list(&listed(), &ls(false, false), ""), @r"
        +base
        +all
        +image  puts the program into an image of its own.

        +COMPILE  runs the compiler.
        ");
        let long = list(&listed(), &ls(true, false), "");
        assert!(long.starts_with("+base\n\n+all\n") && long.contains("\n\n+COMPILE\n"), "{long}");
        let args = list(&listed(), &ls(false, true), "./a");
        assert!(
            args.contains("./a+image\n  --TAG\n") && args.ends_with("\n\n./a+COMPILE\n  --FLAGS\n"),
            "{args}"
        );
    }
}
