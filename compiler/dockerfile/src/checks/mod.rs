//! Build checks: what is allowed and still likely wrong.
//!
//! In: instructions, and what their words came to as they were converted. Out: [`Finding`]s, in BuildKit's words and
//! under BuildKit's names, so that a pipeline that reads the one reads the other. The walk: `parse` finds what stands in
//! the text alone, [`steps`] and [`values`] what conversion knows; [`Checks`] leaves out what a file or a build turned
//! off, and [`report`] shows the rest as text, JSON or SARIF.
//! **Invariant:** a finding never stops a build by itself; `error=true` of [`Control`] does.
//! Source: BuildKit's frontend/dockerfile/linter.

use rb_diag::{Diagnostic, Diagnostics, ErrorKind, Span};

mod control;
pub mod report;
mod rules;
pub mod steps;
pub mod values;

#[cfg(test)]
mod tests;

pub use control::Control;
pub use rules::Rule;

use crate::codes;

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The instruction; of an empty line, the last line of its instruction.
    pub span: Span,
    /// What was found, in one line.
    pub message: String,
}

impl Finding {
    /// Makes one.
    pub(crate) fn new(rule: Rule, span: Span, message: impl Into<String>) -> Self {
        Self { rule, span, message: message.into() }
    }
}

/// The findings of one build, without those that nobody wants.
#[derive(Clone, Debug)]
pub struct Checks {
    control: Control,
    found: Vec<Finding>,
    /// What is wrong, which is gathered on the same walk.
    errors: Diagnostics,
}

impl Checks {
    /// Begins to gather.
    pub fn new(control: Control) -> Self {
        Self { control, found: Vec::new(), errors: Diagnostics::new() }
    }

    /// Adds findings at an instruction, of which a comment above may turn off some.
    pub fn add(&mut self, local: Option<&Control>, findings: impl IntoIterator<Item = Finding>) {
        let wanted = |finding: &Finding| {
            let enabled = [Some(&self.control), local].into_iter().flatten();
            let mut enabled = enabled.map(|control| control.says(finding.rule));
            if finding.rule.is_experimental() { enabled.any(|on| on) } else { enabled.all(|on| on) }
        };
        let findings: Vec<Finding> = findings.into_iter().filter(wanted).collect();
        self.found.extend(findings);
    }

    /// Adds what ends the build, so that the rest can still be looked at.
    pub(crate) fn tell(&mut self, error: Diagnostic) {
        self.errors.push(error);
    }

    /// Tells whether something ends the build.
    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Tells whether something ends it that is the user's to mend.
    pub(crate) fn has_mistakes(&self) -> bool {
        self.errors.iter().any(|error| error.kind == ErrorKind::Input)
    }

    /// Returns what ends the build.
    pub(crate) fn take_errors(&mut self) -> Diagnostics {
        std::mem::take(&mut self.errors)
    }

    /// Returns what was found, in the order in which it was added.
    pub fn findings(&self) -> &[Finding] {
        &self.found
    }

    /// Returns what was found.
    pub fn into_findings(self) -> Vec<Finding> {
        self.found
    }

    /// Returns the error that ends a build in which something was found, if the file or the build wants it so.
    pub fn error(&self) -> Option<Diagnostic> {
        if !self.control.is_strict() || self.found.is_empty() {
            return None;
        }
        let mut rules: Vec<&str> = self.found.iter().map(|finding| finding.rule.name()).collect();
        rules.sort_unstable();
        rules.dedup();
        let message = format!("lint violation found for rules: {}", rules.join(", "));
        let error = Diagnostic::error(codes::CHECKS, message);
        let error =
            self.found.iter().fold(error, |error, finding| error.with_label(finding.span, &finding.message));
        Some(error.with_help("mend them, or take `error=true` out of `# check=`"))
    }
}
