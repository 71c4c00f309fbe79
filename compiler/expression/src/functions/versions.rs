//! Functions of versions, as semver.org says. Requirements are those of Cargo.

use semver::{Version, VersionReq};

use super::Arguments;
use super::texts::shown;
use crate::{ExpressionErrorKind, Stop, Value};

type Outcome = Result<Value, Stop>;

fn version(arguments: &Arguments<'_>, at: usize) -> Result<Version, Stop> {
    let text = arguments.text(at)?;
    Version::parse(text.strip_prefix('v').unwrap_or(text))
        .map_err(|error| arguments.bad(at, format!("`{}` is no version: {error}", shown(text))))
}

/// Compares by precedence: what follows `+` does not count.
pub(super) fn compare(arguments: &Arguments<'_>) -> Outcome {
    let order = version(arguments, 0)?.cmp_precedence(&version(arguments, 1)?);
    Ok(Value::Int(i64::from(order as i8)))
}

pub(super) fn matches(arguments: &Arguments<'_>) -> Outcome {
    let (version, text) = (version(arguments, 0)?, arguments.text(1)?);
    let requirement = VersionReq::parse(text)
        .map_err(|error| arguments.bad(1, format!("`{}` is no requirement: {error}", shown(text))))?;
    Ok(Value::Bool(requirement.matches(&version)))
}

pub(super) fn major(arguments: &Arguments<'_>) -> Outcome {
    number(arguments, version(arguments, 0)?.major)
}

pub(super) fn minor(arguments: &Arguments<'_>) -> Outcome {
    number(arguments, version(arguments, 0)?.minor)
}

pub(super) fn patch(arguments: &Arguments<'_>) -> Outcome {
    number(arguments, version(arguments, 0)?.patch)
}

fn number(arguments: &Arguments<'_>, number: u64) -> Outcome {
    i64::try_from(number).map(Value::Int).map_err(|_| arguments.error(ExpressionErrorKind::NumberTooLarge))
}
