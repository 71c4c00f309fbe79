//! What is wrong, where, why and what to type instead.

use crate::Span;

/// Who has to act, and so which exit code ends the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// The user's own command failed: exit 1.
    Build,
    /// What the user wrote or typed is wrong: exit 2.
    Input,
    /// Network, disk or kernel: exit 3.
    Environment,
    /// Our bug: exit 70.
    Internal,
}

impl ErrorKind {
    /// Returns the exit code of `rb` for this kind (DESIGN, "The command line").
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Build => 1,
            Self::Input => 2,
            Self::Environment => 3,
            Self::Internal => 70,
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth a look; the build goes on.
    Warning,
    /// The build cannot go on.
    Error,
}

/// A place with a word about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is to be said of it; may be empty.
    pub text: String,
}

/// One finding. Messages are lower case, name the thing and end without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Who has to act.
    pub kind: ErrorKind,
    /// Stable code, such as `rb::resolve::unknown_target`.
    pub code: &'static str,
    /// One line.
    pub message: String,
    /// Places, the main one first.
    pub labels: Vec<Label>,
    /// What to type instead.
    pub help: Option<String>,
    /// How the build got there, innermost first: `in +app --MODE=debug`, `called from +all`.
    pub trail: Vec<String>,
}

impl Diagnostic {
    /// Makes an error the user has to mend ([`ErrorKind::Input`]).
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            kind: ErrorKind::Input,
            code,
            message: message.into(),
            labels: Vec::new(),
            help: None,
            trail: Vec::new(),
        }
    }

    /// Makes a warning.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Sets who has to act.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds a place.
    #[must_use]
    pub fn with_label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Sets the help line.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a "did you mean" help line if there is a near name; otherwise changes nothing.
    #[must_use]
    pub fn with_nearest(self, nearest: Option<&str>) -> Self {
        match nearest {
            Some(name) => self.with_help(format!("did you mean `{name}`?")),
            None => self,
        }
    }

    /// Adds one step of how the build got here, outermost last.
    #[must_use]
    pub fn with_trail(mut self, step: impl Into<String>) -> Self {
        self.trail.push(step.into());
        self
    }
}

/// Several findings; never empty where it stands as an error.
pub type Diagnostics = Vec<Diagnostic>;
