//! Which rules are looked at: `# check=skip=RuleA,RuleB;error=true`.
//!
//! In: the options of a directive, of a comment above an instruction, or of the build argument
//! `BUILDKIT_DOCKERFILE_CHECK`, which takes the directive's place. Out: [`Control`].
//! Source: BuildKit's frontend/dockerfile/linter, `ParseLintOptions`.

use std::collections::BTreeSet;

use rb_diag::{Diagnostic, Diagnostics, Span, nearest};

use super::Rule;
use crate::directives::assignment;
use crate::{Directives, codes, go};

/// Rules of a list, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    all: bool,
    names: BTreeSet<String>,
}

impl Rules {
    fn read(text: &str) -> Self {
        let text = text.trim();
        if text == "all" {
            return Self { all: true, names: BTreeSet::new() };
        }
        Self { all: false, names: text.split(',').map(|name| name.trim().to_owned()).collect() }
    }

    fn contains(&self, rule: Rule) -> bool {
        self.all || self.names.contains(rule.name())
    }
}

/// What is looked at, and whether it stops the build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    skipped: Rules,
    experimental: Rules,
    strict: bool,
}

impl Control {
    /// Reads the options of a file, or those of a build, which replace them.
    pub fn of(directives: &Directives, build_argument: Option<&str>) -> (Self, Diagnostics) {
        let (options, place) = match (build_argument, &directives.check) {
            (Some(options), _) => (options, None),
            (None, Some(check)) => (check.value.as_str(), Some(check.span)),
            (None, None) => return Default::default(),
        };
        let (control, wrong) = Self::read(options);
        (control, wrong.iter().map(|reason| bad(place, reason)).collect())
    }

    /// Reads options; an error is in words, the first one.
    pub fn parse(options: &str) -> Result<Self, String> {
        let (control, wrong) = Self::read(options);
        wrong.into_iter().next().map_or(Ok(control), Err)
    }

    /// Reads options, and says of each that is wrong why.
    fn read(options: &str) -> (Self, Vec<String>) {
        let (mut control, mut wrong) = (Self::default(), Vec::new());
        let options = options.trim();
        for part in options.splitn(3, ';').filter(|_| !options.is_empty()) {
            match part.split_once('=').map(|(key, value)| (key.trim(), value)) {
                Some(("skip", value)) => control.skipped = Rules::read(value),
                Some(("experimental", value)) => control.experimental = Rules::read(value),
                Some(("error", value)) => match go::parse_bool(value.trim()) {
                    Some(strict) => control.strict = strict,
                    None => wrong.push(format!("failed to parse check option {}", go::quote(part))),
                },
                Some((other, _)) => wrong.push(format!("invalid check option {}", go::quote(other))),
                None => wrong.push(format!("invalid check option {}", go::quote(part))),
            }
        }
        (control, wrong)
    }

    /// Reads the comments above an instruction; the first `check=` counts, and one that is wrong is a comment.
    pub(crate) fn of_comments<'a>(comments: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut directives = comments.into_iter().filter_map(assignment);
        let (_, options) = directives.find(|(name, _)| name == "check")?;
        Self::parse(options.split(' ').next().unwrap_or_default()).ok()
    }

    /// Returns whether it lets a rule speak, or of an experimental one, asks for it.
    pub(crate) fn says(&self, rule: Rule) -> bool {
        if rule.is_experimental() { self.experimental.contains(rule) } else { !self.skipped.contains(rule) }
    }

    /// Returns whether a finding stops the build.
    pub fn is_strict(&self) -> bool {
        self.strict
    }
}

fn bad(place: Option<Span>, reason: &str) -> Diagnostic {
    let error =
        Diagnostic::error(codes::BAD_CHECK_OPTION, format!("failed to parse check options: {reason}"));
    let error = match place {
        Some(span) => error.with_label(span, ""),
        None => error,
    };
    let written = reason.split('"').nth(1).unwrap_or_default();
    match nearest(written.split('=').next().unwrap_or_default(), ["skip", "error", "experimental"]) {
        Some(near) => error.with_nearest(Some(near)),
        None => error.with_help(
            "write `skip=RuleA,RuleB`, `skip=all`, `error=true` or `experimental=all`, joined by `;`",
        ),
    }
}
