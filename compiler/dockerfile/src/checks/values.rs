//! What is likely wrong with variables and platforms, once they have their values.
//!
//! In: what a word came to. Out: findings at the instruction it stands in.
//! Source: BuildKit's frontend/dockerfile/dockerfile2llb/validations.go.

use std::collections::BTreeSet;

use rb_diag::Span;
use rb_oci::{Platform, Reference};

use super::{Finding, Rule};
use crate::go;
use crate::words::Expanded;

/// Variables that are set for scanners and never seen by steps.
const OUTSIDE: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Says which variables of a stage's instruction nobody has set.
///
/// `declared` are the names of `ARG`s without a value, `known` those of all variables that are set, in their order.
pub fn undefined_variables(
    span: Span,
    unmatched: &BTreeSet<String>,
    declared: impl Fn(&str) -> bool,
    known: &[&str],
) -> Vec<Finding> {
    let unset = unmatched.iter().filter(|name| !declared(name) && !OUTSIDE.contains(&name.as_str()));
    let told = unset.map(|name| {
        let near = near(name, known).map_or_else(String::new, |near| format!(" (did you mean ${near}?)"));
        Finding::new(Rule::UndefinedVar, span, format!("Usage of undefined variable '${name}'{near}"))
    });
    told.collect()
}

/// Says which variables of a `FROM` no `ARG` above declares; `known` are the names of all there are.
pub fn undefined_in_from(span: Span, unmatched: &BTreeSet<String>, known: &[&str]) -> Vec<Finding> {
    let unset = unmatched.iter().filter(|name| !known.contains(&name.as_str()));
    let told = unset.map(|name| {
        let near = near(name, known).map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
        Finding::new(Rule::UndefinedArgInFrom, span, format!("FROM argument '{name}' is not declared{near}"))
    });
    told.collect()
}

/// Says that a base is no image's name where arguments have their defaults alone; `base` is given as written.
pub fn invalid_default(span: Span, base: &str, with_defaults: &str) -> Option<Finding> {
    let message = format!("Default value for ARG {base} results in empty or invalid base image name");
    let is_name = with_defaults.parse::<Reference>().is_ok();
    (!is_name).then(|| Finding::new(Rule::InvalidDefaultArgInFrom, span, message))
}

/// Says that `--platform` names the platform that is built for anyway; `flag` is given as written.
pub fn redundant_platform(span: Span, flag: &str, value: &Expanded, target: &str) -> Option<Finding> {
    let alone =
        value.matched.len() == 1 && value.matched.contains("TARGETPLATFORM") && value.unmatched.is_empty();
    let message =
        format!("Setting platform to predefined {flag} in FROM is redundant as this is the default behavior");
    (alone && value.text == target).then(|| Finding::new(Rule::RedundantTargetPlatform, span, message))
}

/// Says that `--platform` is the same for every platform; a stage that names it in its own name means it so.
pub fn constant_platform(span: Span, stage: &str, value: &Expanded, platform: &Platform) -> Option<Finding> {
    let varies = !value.matched.is_empty() || !value.unmatched.is_empty();
    let named = stage.contains(&platform.os) || stage.contains(&platform.architecture);
    let message = format!("FROM --platform flag should not use constant value {}", go::quote(&value.text));
    (!varies && !named).then(|| Finding::new(Rule::FromPlatformFlagConstDisallowed, span, message))
}

/// Says that a base image is for another platform than it was asked for; BuildKit's sentence names them the wrong way
/// round, and so does this one.
pub fn base_platform(span: Span, image: &str, expected: &Platform, actual: &Platform) -> Option<Finding> {
    let same = expected.os == actual.os && expected.architecture == actual.architecture;
    let message = format!(
        "Base image {image} was pulled with platform {}, expected {} for current build",
        go::quote(&actual.to_string()),
        go::quote(&expected.to_string())
    );
    (!same).then(|| Finding::new(Rule::InvalidBaseImagePlatform, span, message))
}

/// Returns the first of the nearest names that differs in at most two letters.
///
/// Not [`rb_diag::nearest`]: the sentences of checks are BuildKit's, and so is what they propose.
fn near<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let mut nearest = None;
    let mut least = 3;
    for known in known {
        let distance = strsim::levenshtein(name, known);
        if distance < least {
            (nearest, least) = (Some(*known), distance);
        }
    }
    nearest
}
