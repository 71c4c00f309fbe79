//! `rb doc` and `rb +target --help`: what targets are for, what they take and what they make.

use rb_buildfile::TargetSummary;
use rb_diag::nearest;

use super::describe::{self, Offers};
use crate::args::DocArgs;
use crate::environment::Environment;
use crate::report::{self, Failure};

/// Prints the documentation of one target, or of all that have some.
pub(super) fn execute(environment: &Environment, doc: &DocArgs) -> Result<u8, Failure> {
    let word = doc.word.as_deref().unwrap_or_default();
    if word.contains('+') {
        return of_target(environment, &[word.to_owned()]);
    }
    let offers = describe::offers_of(environment, word)?;
    let prefix = describe::prefix(&environment.cwd, Some(word.as_ref()));
    let text = overview(&offers, doc.long, &prefix);
    if text.is_empty() {
        return Err(undocumented(word));
    }
    report::print(text.as_bytes()).map(|()| 0)
}

fn undocumented(word: &str) -> Failure {
    let (place, list) = match word {
        "" => ("here".to_owned(), "rb ls".to_owned()),
        word => (format!("in `{word}`"), format!("rb ls {word}")),
    };
    let help = format!("a comment above a target that begins with its name documents it; `{list}` lists all");
    Failure::input(format!("no target {place} has a comment"), Some(help))
}

fn overview(offers: &Offers, long: bool, prefix: &str) -> String {
    let all = offers.targets.iter().chain(&offers.functions);
    let documented = all.filter(|target| long || !describe::documentation(target).is_empty());
    let text = |target: &TargetSummary| match long {
        true => describe::long(target, prefix),
        false => {
            let alone = TargetSummary {
                args: Vec::new(),
                saves_images: Vec::new(),
                saves_artifacts: Vec::new(),
                ..target.clone()
            };
            describe::long(&alone, prefix)
        }
    };
    documented.map(text).collect::<Vec<_>>().join("\n")
}

/// Prints all that is known of the target that the first word names.
pub(super) fn of_target(environment: &Environment, words: &[String]) -> Result<u8, Failure> {
    let word = words.first().map(String::as_str).unwrap_or_default();
    let (dir, name) = word.rsplit_once('+').unwrap_or((word, ""));
    if name.is_empty() {
        return Err(Failure::input(format!("`{word}` names no target: write `{dir}+NAME`"), None));
    }
    let offers = describe::offers_of(environment, dir)?;
    let all = || offers.targets.iter().chain(&offers.functions);
    let base = base(&offers);
    let Some(target) = all().chain([&base]).find(|target| target.name == name) else {
        let near = nearest(name, all().map(|target| target.name.as_str()));
        let help = near.map(|near| format!("did you mean `{dir}+{near}`?"));
        return Err(Failure::input(format!("there is no target `{word}`"), help));
    };
    let how = match target.is_function {
        true => format!("DO {dir}+{name}"),
        false => format!("rb {dir}+{name}"),
    };
    let arguments = if target.args.is_empty() { "" } else { " [--NAME=VALUE]..." };
    let text = format!("Usage: {how}{arguments}\n\n{}", describe::long(target, dir));
    report::print(text.as_bytes()).map(|()| 0)
}

/// What stands above the first target can be built as a target itself.
fn base(offers: &Offers) -> TargetSummary {
    let of_file = |target: &TargetSummary| target.args.iter().filter(|arg| arg.global).cloned().collect();
    TargetSummary {
        name: "base".to_owned(),
        doc: Some("what stands above the first target; every target begins with it".to_owned()),
        args: offers.targets.first().map(of_file).unwrap_or_default(),
        saves_images: Vec::new(),
        saves_artifacts: Vec::new(),
        is_function: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::describe::tests::listed;

    #[test]
    fn what_lists_the_others_is_a_command_that_can_be_typed() {
        let said = |word| match undocumented(word) {
            Failure::Said { message, help, .. } => (message, help.unwrap_or_default()),
            other => panic!("{other:?}"),
        };
        let (message, help) = said("");
        assert!(
            message.ends_with("no target here has a comment") && help.contains("; `rb ls` lists all"),
            "{help}"
        );
        let (message, help) = said("./lib");
        assert!(message.contains("in `./lib`") && help.contains("; `rb ls ./lib` lists all"), "{help}");
    }

    #[test]
    fn what_has_a_comment_is_shown() {
        insta::assert_snapshot!(overview(&listed(), false, "./app"), @r"
        ./app+image
            puts the program into an image of its own.
            It needs no base.

        ./app+COMPILE
            runs the compiler.
        ");
        assert!(overview(&listed(), true, "").contains("+all\n"));
    }
}
