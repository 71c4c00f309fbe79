//! What build checks find in the text alone.
//!
//! In: a line as it was read, and what it says. Out: findings, in the order in which BuildKit tells them: empty lines,
//! then instruction by instruction, then names of stages, then the case of keywords.
//! Source: BuildKit's frontend/dockerfile/instructions/parse.go and dockerfile2llb/validations.go.

use std::collections::BTreeSet;

use super::report::Report;
use crate::checks::{Control, Finding, Rule};
use crate::lines::Joined;
use crate::{Dockerfile, Instruction, Stage, Step, go};

/// An empty line within an instruction; it is told where the instruction ends.
pub(super) fn empty_continuation(line: &Joined, report: &mut Report) {
    if line.has_empty_line {
        let end = rb_diag::Span { start: line.span.end, ..line.span };
        report.empty_lines.push(Finding::new(Rule::NoEmptyContinuation, end, "Empty continuation line"));
    }
}

/// What `FROM` says.
pub(super) fn of_stage(stage: &Stage, typed_name: Option<&str>, line: &Joined, report: &mut Report) {
    let Some((word, name)) = &stage.name else { return };
    let mut found = Vec::new();
    if let Some(typed) = typed_name.filter(|typed| *typed != name.value) {
        let message = format!("Stage name '{typed}' should be lowercase");
        found.push(Finding::new(Rule::StageNameCasing, stage.span, message));
    }
    let keyword = &stage.keyword.value;
    let matches = match casing(keyword) {
        Some(Casing::Lower) => word.value == word.value.to_lowercase(),
        Some(Casing::Upper) => word.value == word.value.to_uppercase(),
        None => true,
    };
    if !matches {
        let message = format!("'{}' and '{keyword}' keywords' casing do not match", word.value);
        found.push(Finding::new(Rule::FromAsCasing, stage.span, message));
    }
    found.extend(description("FROM", &[&name.value], line, stage.span));
    add(report, stage.check.as_ref(), found);
}

/// What another instruction says.
pub(super) fn of_step(step: &Step, line: &Joined, report: &mut Report) {
    let found = match &step.instruction {
        Instruction::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label";
            Some(Finding::new(Rule::MaintainerDeprecated, step.span, message))
        }
        Instruction::Arg(definitions) => {
            let names: Vec<&str> =
                definitions.iter().map(|definition| definition.name.value.as_str()).collect();
            description("ARG", &names, line, step.span)
        }
        _ => None,
    };
    add(report, step.check.as_ref(), found);
}

/// A comment right above that describes something else.
fn description(instruction: &str, names: &[&str], line: &Joined, span: rb_diag::Span) -> Option<Finding> {
    let first = line.comments.last()?.text.split(' ').next().unwrap_or_default();
    let example = match names {
        [] => return None,
        names if names.contains(&first) => return None,
        [name] => name,
        _ => "<arg_key>",
    };
    let message = format!("Comment for {instruction} should follow the format: `# {example} <description>`");
    Some(Finding::new(Rule::InvalidDefinitionDescription, span, message))
}

/// Adds findings that no comment at the place turns off.
fn add(report: &mut Report, check: Option<&Control>, found: impl IntoIterator<Item = Finding>) {
    let wanted = |finding: &Finding| {
        finding.rule.is_experimental() || check.is_none_or(|check| check.says(finding.rule))
    };
    report.findings.extend(found.into_iter().filter(wanted));
}

/// What all stages say together.
pub(super) fn of_file(file: &Dockerfile, report: &mut Report) {
    let mut names = BTreeSet::new();
    for stage in &file.stages {
        let Some((_, name)) = &stage.name else { continue };
        if matches!(name.value.as_str(), "context" | "scratch") {
            let message = format!(
                "Stage name should not use the same name as reserved stage {}",
                go::quote(&name.value)
            );
            report.findings.push(Finding::new(Rule::ReservedStageName, stage.span, message));
        }
        if !names.insert(&name.value) {
            let message =
                format!("Duplicate stage name {}, stage names should be unique", go::quote(&name.value));
            report.findings.push(Finding::new(Rule::DuplicateStageName, stage.span, message));
        }
    }
    keywords(file, report);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Casing {
    Lower,
    Upper,
}

/// Returns the one case that all letters of a keyword are in.
fn casing(keyword: &str) -> Option<Casing> {
    match keyword {
        lower if lower == lower.to_lowercase() => Some(Casing::Lower),
        upper if upper == upper.to_uppercase() => Some(Casing::Upper),
        _ => None,
    }
}

/// Keywords in another case than most of them.
fn keywords(file: &Dockerfile, report: &mut Report) {
    let keywords: Vec<_> = file
        .stages
        .iter()
        .flat_map(|stage| {
            let steps = stage.steps.iter().map(|step| (&step.keyword.value, step.span));
            std::iter::once((&stage.keyword.value, stage.span)).chain(steps)
        })
        .collect();
    let count = |wanted| keywords.iter().filter(|(keyword, _)| casing(keyword) == Some(wanted)).count();
    let lower = count(Casing::Lower) > count(Casing::Upper);
    let (wanted, name) = if lower { (Casing::Lower, "lowercase") } else { (Casing::Upper, "uppercase") };
    for (keyword, span) in keywords {
        if casing(keyword) != Some(wanted) {
            let message =
                format!("Command '{keyword}' should match the case of the command majority ({name})");
            report.findings.push(Finding::new(Rule::ConsistentInstructionCasing, span, message));
        }
    }
}
