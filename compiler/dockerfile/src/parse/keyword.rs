//! The instructions there are: their names, the flags they take, and how they are written.
//!
//! In: the first word of a line. Out: a [`Keyword`], or what is near.
//! Source: BuildKit's frontend/dockerfile/command and instructions/parse.go.

use std::fmt;

use rb_diag::Diagnostic;

use super::report::{Report, shown, with_names};
use crate::codes;
use crate::lines::Part;

/// Makes the enum, its names and their forms.
macro_rules! keywords {
    ($($keyword:ident $name:literal $form:literal;)+) => {
        /// The name of an instruction.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Keyword { $($keyword),+ }

        impl Keyword {
            pub(crate) const ALL: &[Self] = &[$(Self::$keyword),+];

            /// Returns it in capitals.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$keyword => $name),+ }
            }

            /// Returns what is to be written behind it.
            fn form(self) -> &'static str {
                match self { $(Self::$keyword => $form),+ }
            }
        }
    };
}

keywords! {
    Add "ADD" "SOURCE… DESTINATION";
    Arg "ARG" "NAME[=DEFAULT]";
    Cmd "CMD" "COMMAND";
    Copy "COPY" "SOURCE… DESTINATION";
    Entrypoint "ENTRYPOINT" "COMMAND";
    Env "ENV" "KEY=VALUE…";
    Expose "EXPOSE" "PORT[/PROTOCOL]…";
    From "FROM" "IMAGE [AS NAME]";
    Healthcheck "HEALTHCHECK" "CMD COMMAND` or `HEALTHCHECK NONE";
    Label "LABEL" "KEY=VALUE…";
    Maintainer "MAINTAINER" "NAME";
    Onbuild "ONBUILD" "INSTRUCTION";
    Run "RUN" "COMMAND";
    Shell "SHELL" "[\"PROGRAM\", \"ARGUMENT\"]";
    Stopsignal "STOPSIGNAL" "SIGNAL";
    User "USER" "USER[:GROUP]";
    Volume "VOLUME" "PATH";
    Workdir "WORKDIR" "PATH";
}

impl fmt::Display for Keyword {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `=true` or `=false`.
    Switch,
    /// A value.
    Value,
    /// A value, as often as one likes.
    Values,
}

impl Keyword {
    /// Reads a word, in whichever case.
    pub(crate) fn read(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|keyword| keyword.name().eq_ignore_ascii_case(word))
    }

    /// Reads the first word of an instruction, and says so if it is none.
    pub(crate) fn read_or_tell(word: Part<'_>, report: &mut Report) -> Option<Self> {
        let keyword = Self::read(word.text());
        if keyword.is_none() {
            report.add_with(|| unknown(word));
        }
        keyword
    }

    /// Returns the flags that it takes.
    pub(crate) fn flags(self) -> &'static [(&'static str, Takes)] {
        use Takes::{Switch, Value, Values};
        match self {
            Self::From => &[("platform", Value)],
            Self::Run => &[("mount", Values), ("network", Value), ("security", Value), ("device", Values)],
            Self::Copy => &[
                ("from", Value),
                ("chown", Value),
                ("chmod", Value),
                ("link", Switch),
                ("parents", Switch),
                ("exclude", Values),
            ],
            Self::Add => &[
                ("chown", Value),
                ("chmod", Value),
                ("link", Switch),
                ("exclude", Values),
                ("checksum", Value),
                ("keep-git-dir", Switch),
                ("unpack", Switch),
            ],
            Self::Healthcheck => &[
                ("interval", Value),
                ("timeout", Value),
                ("start-period", Value),
                ("start-interval", Value),
                ("retries", Value),
            ],
            _ => &[],
        }
    }

    /// Returns the instructions that take a flag.
    pub(crate) fn with_flag(flag: &str) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |keyword| keyword.flags().iter().any(|(name, _)| *name == flag))
    }

    /// Says that something is missing behind a place.
    pub(crate) fn missing(self, behind: rb_diag::Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(codes::ARGUMENTS, message)
            .with_label(behind, "something is missing behind this")
            .with_help(format!("write `{self} {}`", self.form()))
    }
}

fn unknown(word: Part<'_>) -> Diagnostic {
    if word.is_empty() {
        return Diagnostic::error(codes::UNKNOWN_INSTRUCTION, "an escape sign continues nothing")
            .with_label(word.span(), "no instruction here")
            .with_help("take the escape sign away");
    }
    let message = format!("unknown instruction: {}", shown(word.text()));
    let error =
        Diagnostic::error(codes::UNKNOWN_INSTRUCTION, message).with_label(word.span(), "not an instruction");
    let what = "if this line belongs to the one above, end that one with the escape sign; instructions";
    with_names(error, word.text(), what, Keyword::ALL.iter().map(|keyword| keyword.name()))
}
