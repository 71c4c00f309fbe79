//! What is told on the way, as pack tells it, and why a build came to nothing.

use rb_buildpacks::extend::ImageKind;
use rb_buildpacks::frontend::{FrontendError, Told};
use rb_buildpacks::{GroupElement, ModuleKey, ModuleKind};
use rb_diag::{Diagnostic, SourceMap};
use rb_frontend::WorldError;

use crate::commands::gateway::BuildGateway;
use crate::progress::{Progress, clean};
use crate::report::{self, Failure};
use crate::settings::{Display, ProgressMode};

/// Tells on stderr how far it is, where people or scripts read that.
pub(super) fn tell(progress: &Progress, display: Display, told: &Told) {
    if !matches!(display.mode, ProgressMode::Plain | ProgressMode::Live) {
        return;
    }
    let text = match told {
        Told::Analyzing => "===> ANALYZING\n".to_owned(),
        Told::Detecting => "===> DETECTING\n".to_owned(),
        Told::Extending(ImageKind::Build) => "===> EXTENDING (BUILD)\n".to_owned(),
        Told::Extending(ImageKind::Run) => "===> EXTENDING (RUN)\n".to_owned(),
        Told::Restoring => "===> RESTORING\n".to_owned(),
        Told::Building => "===> BUILDING\n".to_owned(),
        Told::Exporting => "===> EXPORTING\n".to_owned(),
        Told::Builds(_) => return,
        Told::Warning(line) => format!("warning: {}\n", clean(line, false)),
        Told::Detected { of, group } => {
            // As the lifecycle counts: extensions are among them.
            let all: Vec<_> = group.extensions.iter().chain(&group.buildpacks).collect();
            let width = all.iter().map(|one| one.id.chars().count()).max().unwrap_or(0);
            let line = |one: &&GroupElement| format!("{:width$} {}\n", one.id, one.version);
            let lines: String = all.iter().map(line).collect();
            format!("{} of {of} buildpacks participating\n{lines}", all.len())
        }
    };
    progress.say(&text);
}

/// Makes a failure of what the frontend says. A step that failed on the way is told better by itself; detections that
/// chose nothing are told with all that was tried.
pub(super) fn failed(
    error: FrontendError,
    gateway: &BuildGateway,
    sources: &SourceMap,
    display: Display,
) -> Failure {
    if let FrontendError::Extension { errors, .. } = &error
        && errors.iter().next().is_some()
    {
        let told = |one: &Diagnostic| one.clone().with_trail(error.to_string());
        return Failure::Diagnostics { items: errors.iter().map(told).collect(), sources: sources.clone() };
    }
    if let FrontendError::World(WorldError::Step { .. }) = &error {
        let mut of_steps = gateway.failures();
        if !of_steps.is_empty() {
            return of_steps.remove(0);
        }
    }
    if let FrontendError::Detect { explanation, outputs, .. } = &error
        && matches!(display.mode, ProgressMode::Plain | ProgressMode::Live)
    {
        report::tell(&cleaned(&explanation.to_string()));
        report::tell(&self::outputs(outputs));
    }
    Failure::Said { kind: error.kind(), message: error.to_string(), help: error.help() }
}

/// Says a failure in pack's words: options of `rb build` have other names here.
pub(super) fn in_words_of_pack(failure: Failure) -> Failure {
    match failure {
        Failure::Said { kind, message, help } => {
            Failure::Said { kind, message: reworded(&message), help: help.map(|help| reworded(&help)) }
        }
        Failure::Diagnostics { items, sources } => {
            let one = |item: Diagnostic| Diagnostic {
                message: reworded(&item.message),
                help: item.help.as_deref().map(reworded),
                ..item
            };
            Failure::Diagnostics { items: items.into_iter().map(one).collect(), sources }
        }
        Failure::With { failure, about } => {
            Failure::With { failure: Box::new(in_words_of_pack(*failure)), about }
        }
        Failure::Several(all) => Failure::Several(all.into_iter().map(in_words_of_pack).collect()),
        // A step that failed is told by what it is.
        other @ (Failure::Solve { .. } | Failure::Interrupted(_) | Failure::Unheard) => other,
    }
}

fn reworded(text: &str) -> String {
    let pairs = [
        ("--pull=missing", "--pull-policy if-not-present"),
        ("--pull=never", "--pull-policy never"),
        ("--pull=always", "--pull-policy always"),
    ];
    pairs.into_iter().fold(text.to_owned(), |text, (of_build, of_pack)| text.replace(of_build, of_pack))
}

/// Returns what strangers wrote as a terminal may have it, line by line.
pub(super) fn cleaned(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", clean(line, false))).collect()
}

/// Tells what modules wrote, each under its name.
pub(super) fn outputs(outputs: &[(ModuleKey, String)]) -> String {
    let one = |(key, text): &(ModuleKey, String)| {
        let kind = if key.kind == ModuleKind::Extension { "extension " } else { "" };
        format!("======== Output: {kind}{key} ========\n{}\n", cleaned(text).trim_end())
    };
    outputs.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use rb_diag::ErrorKind;

    use super::*;

    #[test]
    fn options_have_the_names_of_pack() {
        let said = Failure::Said {
            kind: ErrorKind::Input,
            message: "a is not here, and --pull=never asks no registry".to_owned(),
            help: Some("`--pull=missing`".to_owned()),
        };
        match in_words_of_pack(Failure::Several(vec![said])) {
            Failure::Several(all) => match all.as_slice() {
                [Failure::Said { message, help, .. }] => {
                    assert_eq!(message, "a is not here, and --pull-policy never asks no registry");
                    assert_eq!(help.as_deref(), Some("`--pull-policy if-not-present`"));
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}
