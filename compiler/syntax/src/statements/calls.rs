//! `BUILD` and `DO`: references with what is passed along. COPY and FROM use the same.

use rb_diag::{Diagnostic, Span, Spanned};

use super::text::{cut, is_open, quote_around, split_pair};
use super::{Reader, is_identifier, reference};
use crate::commands::Command;
use crate::flags::{
    Flag, FlagTable, Flags, looks_like_flag, refuse_late_flags, split_flag, tables, take_flags,
};
use crate::report::shown;
use crate::{Call, CallArg, Do, Edition, Parsed, Toggle, Word, codes};

/// What flags in front of references say of a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Passing {
    pub(crate) args: Vec<CallArg>,
    pub(crate) platforms: Vec<Word>,
    pub(crate) pass_args: bool,
    pub(crate) allow_privileged: bool,
    pub(crate) auto_skip: Toggle,
}

impl Passing {
    /// Returns how many bytes a copy of it takes, about.
    pub(crate) fn size(&self) -> usize {
        let args = self.args.iter().map(|arg| {
            arg.name.value.len()
                + arg.value.as_ref().map_or(0, |value| value.raw.len())
                + size_of::<CallArg>()
        });
        let platforms = self.platforms.iter().map(|word| word.raw.len() + size_of::<Word>());
        args.chain(platforms).sum()
    }
}

impl Reader<'_> {
    /// Reads `BUILD [flags] +target [--ARG=value]…`.
    pub(crate) fn build(&mut self, mut words: Vec<Word>) -> Option<Call<Parsed>> {
        let flags = take_flags(&tables::BUILD, self.edition, &mut words, self.report);
        let passing = self.passing(&flags);
        if words.is_empty() {
            self.missing("`BUILD` needs a target", "`BUILD +target`");
            return None;
        }
        let target = words.remove(0);
        self.call(target, words, passing)
    }

    /// Reads `DO [flags] +FUNCTION [--ARG=value]…`.
    pub(crate) fn call_function(&mut self, mut words: Vec<Word>) -> Option<Do<Parsed>> {
        let flags = take_flags(&tables::DO, self.edition, &mut words, self.report);
        if words.is_empty() {
            self.missing("`DO` needs a function", "`DO +FUNCTION`");
            return None;
        }
        let function = words.remove(0);
        let checked = self.check_function(&function);
        let args = self.call_args(words);
        checked?;
        Some(Do {
            span: function.span,
            function,
            args,
            pass_args: flags.is_on("pass-args"),
            allow_privileged: flags.is_on("allow-privileged"),
        })
    }

    /// Turns flags in front of references into what they say of a call.
    pub(crate) fn passing(&mut self, flags: &Flags) -> Passing {
        Passing {
            args: self.pairs(flags.values("build-arg")),
            platforms: flags.values("platform"),
            pass_args: flags.is_on("pass-args"),
            allow_privileged: flags.is_on("allow-privileged"),
            auto_skip: flags.toggle("auto-skip"),
        }
    }

    /// Reads `NAME` and `NAME=value`.
    pub(crate) fn pairs(&mut self, words: Vec<Word>) -> Vec<CallArg> {
        let mut args = Vec::new();
        for word in words {
            let (name, value) = split_pair(&word);
            let name = Spanned::new(settled_name(&name.raw).to_owned(), name.span);
            if self.check_arg_name(&name) {
                args.push(CallArg { name, value });
            }
        }
        args
    }

    /// Reads a reference to a target and its arguments.
    pub(crate) fn call(&mut self, target: Word, args: Vec<Word>, passing: Passing) -> Option<Call<Parsed>> {
        let checked = self.check_target(&target);
        let span = target.span;
        let call = self.passed(target, span, args, passing);
        checked?;
        Some(call)
    }

    /// Reads a reference to an artifact, `+target/path`, and its arguments; `span` is all of it.
    pub(crate) fn artifact(
        &mut self,
        word: &Word,
        args: Vec<Word>,
        span: Span,
        passing: Passing,
    ) -> Option<(Call<Parsed>, Word)> {
        let (target, path) = reference::split_artifact(word);
        let Some(path) = path else {
            let message = format!("`{}` names a target, not one of its artifacts", shown(&word.raw));
            let diagnostic = Diagnostic::error(codes::BAD_REFERENCE, message).with_label(word.span, "");
            let help = if reference::plus(&word.raw) == Some(0) {
                format!("write `{}/path`, or `{0}/` for all of them", shown(&word.raw))
            } else {
                "write `+target/path`; a plus in the name of a file is written `\\+`".to_owned()
            };
            self.report.push(diagnostic.with_help(help));
            return None;
        };
        let checked = self.check_target(&target);
        let call = self.passed(target, span, args, passing);
        checked?;
        Some((call, path))
    }

    fn passed(&mut self, target: Word, span: Span, words: Vec<Word>, passing: Passing) -> Call<Parsed> {
        let Passing { mut args, platforms, pass_args, allow_privileged, auto_skip } = passing;
        args.extend(self.call_args(words));
        Call { target, span, args, platforms, pass_args, allow_privileged, auto_skip }
    }

    /// Reads `--NAME=value` and `--NAME value`.
    pub(crate) fn call_args(&mut self, words: Vec<Word>) -> Vec<CallArg> {
        let mut args = Vec::new();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            let Some(flag) = split_arg(&word, self.edition) else {
                self.no_argument(&word);
                continue;
            };
            let table = self.flags_of_calls();
            let is_flag = table.find(&flag.name, self.edition).is_some();
            if is_flag && !is_identifier(&flag.name) {
                refuse_late_flags(table, self.edition, std::slice::from_ref(&word), self.report);
                continue;
            }
            let value = flag.value.or_else(|| words.next_if(|next| !next.raw.starts_with("--")));
            let Some(value) = value else {
                let name = shown(&flag.name);
                let message = format!("the argument `--{name}` has no value");
                let diagnostic = Diagnostic::error(codes::MISSING_VALUE, message).with_label(word.span, "");
                self.report.push(diagnostic.with_help(format!("write `--{name}=value`")));
                continue;
            };
            if is_flag && flag.name == "platform" {
                let message = "behind the reference `--platform` is an argument of that name";
                let diagnostic =
                    Diagnostic::warning(codes::MISPLACED_FLAG, message).with_label(flag.name_span, "");
                let help = format!("for the platform write `{} --platform=… +target`", table.owner);
                self.report.push(diagnostic.with_help(help));
            }
            let start = (flag.name_span.start + 2).min(flag.name_span.end);
            let name = Spanned::new(flag.name, Span { start, ..flag.name_span });
            if self.check_arg_name(&name) {
                args.push(CallArg { name, value: Some(value) });
            }
        }
        args
    }

    fn no_argument(&mut self, word: &Word) {
        let kind = if self.command == Command::Do { "function" } else { "target" };
        let message = format!("`{}` is no argument for the {kind}", shown(&word.raw));
        let diagnostic = Diagnostic::error(codes::UNEXPECTED_WORD, message).with_label(word.span, "");
        let help = match self.command {
            Command::Build | Command::Do if reference::plus(&word.raw).is_some() => {
                format!("write a `{}` of its own for each {kind}", self.command.name())
            }
            _ if settled_name(&word.raw).contains('=') && !word.raw.starts_with('-') => {
                format!("arguments are written with two dashes: `--{}`", shown(&word.raw))
            }
            _ => "arguments are written `--NAME=value`".to_owned(),
        };
        self.report.push(diagnostic.with_help(help));
    }

    /// Returns the flags that might rather be meant for the command than for the target.
    fn flags_of_calls(&self) -> &'static FlagTable {
        match self.command {
            Command::From => &tables::FROM,
            Command::FromDockerfile => &tables::FROM_DOCKERFILE,
            Command::FromBuildpacks => &tables::FROM_BUILDPACKS,
            Command::Copy => &tables::COPY,
            Command::Do => &tables::DO,
            _ => &tables::BUILD,
        }
    }

    /// Reports the name of an argument that no ARG can have.
    fn check_arg_name(&mut self, name: &Spanned<String>) -> bool {
        let valid = is_identifier(&name.value);
        if valid {
            return true;
        }
        let unsettled = is_open(&name.value) || name.value.contains(['"', '\'', '\\']);
        if unsettled || self.edition >= Edition::One {
            let help = unsettled.then(|| "the name of an argument is written out, without quotes".to_owned());
            self.bad_name(name, help);
            return false;
        }
        // Earthly passes anything on, and nobody reads it.
        let message = format!("no `ARG` can be called `{}`, so this has no effect", shown(&name.value));
        let diagnostic = Diagnostic::warning(codes::NO_EFFECT, message).with_label(name.span, "");
        let help = "names of arguments hold letters, digits and `_`, and start with no digit";
        self.report.push(diagnostic.with_help(help));
        false
    }
}

/// Reads a word as an argument; `"--NAME=value"` is `--NAME="value"`.
///
/// Before `VERSION 1` one dash does as well.
fn split_arg(word: &Word, edition: Edition) -> Option<Flag> {
    if edition < Edition::One
        && word.raw.starts_with('-')
        && word.raw.len() > 1
        && !word.raw.starts_with("--")
    {
        let mut longer = word.clone();
        longer.raw.insert(0, '-');
        let Flag { name, value, .. } = split_flag(&longer);
        let equals = word.raw.len() - value.as_ref().map_or(0, |value| value.raw.len() + 1);
        let value = value.map(|_| cut(word, equals + 1, word.raw.len()));
        let mut name_span = cut(word, 0, equals).span;
        // The name is taken from behind two dashes.
        name_span.start = name_span.start.saturating_sub(1);
        return Some(Flag { name, name_span, value });
    }
    let quoted = quote_around(&word.raw).is_some();
    if quoted && word.raw.get(1..).is_some_and(|inner| inner.starts_with("--")) && word.raw.contains('=') {
        let (name, value) = split_pair(word);
        let name_span = name.span;
        let name = name.raw.strip_prefix("--").unwrap_or_default().to_owned();
        return Some(Flag { name, name_span, value });
    }
    looks_like_flag(word).then(|| split_flag(word))
}

/// Returns a name without the quotes around it, if nothing in it varies.
fn settled_name(raw: &str) -> &str {
    if is_open(raw) { raw } else { raw.trim_matches(['"', '\'']) }
}
