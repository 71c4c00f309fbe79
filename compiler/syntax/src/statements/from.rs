//! `FROM` and `LOCALLY`: what a recipe starts from.

use rb_diag::{Diagnostic, Span};

use super::calls::Passing;
use super::text::is_open;
use super::{Reader, reference};
use crate::entries::Part;
use crate::flags::{FlagTable, Flags, looks_like_flag, refuse_late_flags, split_flag, tables, take_flags};
use crate::report::{nearest, shown};
use crate::{Base, FileSource, FromBuildpacks, FromDockerfile, FromStmt, Locally, Parsed, Word, codes};

/// Flags that only mean something for a target.
const OF_TARGETS: [&str; 3] = ["allow-privileged", "pass-args", "build-arg"];

impl Reader<'_> {
    pub(crate) fn from(&mut self, mut words: Vec<Word>) -> Option<FromStmt<Parsed>> {
        let flags = take_flags(&tables::FROM, self.edition, &mut words, self.report);
        let platform = flags.value("platform");
        let mut words = words.into_iter();
        let Some(base) = words.next() else {
            let example = "`FROM scratch`, `FROM alpine`, `FROM +target` or `FROM @host`";
            self.missing("`FROM` needs something to start from", example);
            return None;
        };
        let rest: Vec<Word> = words.collect();
        // Only a target takes arguments, so a word with variables and arguments behind it names one.
        let called = is_open(&base.raw) && rest.first().is_some_and(looks_like_flag);
        let base = if called || reference::plus(&base.raw).is_some() {
            if let Some(word) = rest.first().filter(|word| word.raw.eq_ignore_ascii_case("as")) {
                self.takes_no_as(word);
                return None;
            }
            let mut passing = self.passing(&flags);
            passing.platforms.clear();
            Base::Target(self.call(base, rest, passing)?)
        } else if base.raw.starts_with('@') {
            self.host_base(&base, rest, &flags)?
        } else {
            self.no_effect(&flags, &OF_TARGETS, "on an image");
            self.behind_image(&rest);
            if base.raw == "scratch" { Base::Scratch } else { Base::Image(base) }
        };
        Some(FromStmt { base, platform })
    }

    /// Reads `FROM DOCKERFILE [flags] context [--NAME=value]…`.
    pub(crate) fn dockerfile_base(&mut self, parts: Vec<Part>) -> Option<FromStmt<Parsed>> {
        let (mut words, calls) = words_and_calls(parts);
        for word in words.iter_mut().take_while(|word| word.raw != "--") {
            if let Some(rest) =
                word.raw.strip_prefix("-f").filter(|rest| rest.is_empty() || rest.starts_with('='))
            {
                word.raw = format!("--file{rest}");
            }
        }
        let table = &tables::FROM_DOCKERFILE;
        let flags = take_flags(table, self.edition, &mut words, self.report);
        let mut passing = self.passing(&flags);
        if words.is_empty() {
            self.missing("`FROM DOCKERFILE` needs the folder that it is built from", "`FROM DOCKERFILE .`");
            return None;
        }
        let context = words.remove(0);
        // A statement has one platform, the last.
        passing.platforms.drain(..passing.platforms.len().saturating_sub(1));
        let of_artifacts = Passing { args: Vec::new(), ..passing.clone() };
        let context = self.file_source(context, &calls, of_artifacts.clone());
        let file = flags.value("file").map(|word| self.file_source(word, &calls, of_artifacts));
        passing.args.extend(self.call_args(words));
        let file = match file {
            Some(file) => Some(file?),
            None => None,
        };
        let platform = passing.platforms.pop();
        let (target, allow_privileged) = (flags.value("target"), passing.allow_privileged);
        let from = FromDockerfile { context: context?, file, target, args: passing.args, allow_privileged };
        Some(FromStmt { base: Base::Dockerfile(Box::new(from)), platform })
    }

    /// Reads `FROM BUILDPACKS [flags] folder`.
    pub(crate) fn buildpacks_base(&mut self, parts: Vec<Part>) -> Option<FromStmt<Parsed>> {
        let (mut words, calls) = words_and_calls(parts);
        let table = &tables::FROM_BUILDPACKS;
        let flags = take_flags(table, self.edition, &mut words, self.report);
        if words.is_empty() {
            let example = "`FROM BUILDPACKS --builder=IMAGE .`";
            self.missing("`FROM BUILDPACKS` needs the folder of the app", example);
            return None;
        }
        let app = words.remove(0);
        self.nothing_more(table, &words);
        let environment = self.pairs(flags.values("env"));
        // What makes an artifact is for the platform that the statement is for.
        let passing = self.passing(&flags);
        let platform = passing.platforms.last().cloned();
        let passing = Passing { platforms: platform.iter().cloned().collect(), ..passing };
        let app = self.file_source(app, &calls, passing.clone());
        let descriptor =
            flags.value("descriptor").map(|word| self.file_source(word, &calls, passing.clone()));
        let launcher = flags.value("launcher").map(|word| self.file_source(word, &calls, passing.clone()));
        let buildpacks: Vec<Option<FileSource<Parsed>>> = flags
            .values("buildpack")
            .into_iter()
            .map(|word| self.file_source(word, &calls, passing.clone()))
            .collect();
        let descriptor = match descriptor {
            Some(descriptor) => Some(descriptor?),
            None => None,
        };
        let launcher = match launcher {
            Some(launcher) => Some(launcher?),
            None => None,
        };
        let from = FromBuildpacks {
            app: app?,
            builder: flags.value("builder"),
            buildpacks: buildpacks.into_iter().collect::<Option<_>>()?,
            environment,
            descriptor,
            run_image: flags.value("run-image"),
            launcher,
        };
        Some(FromStmt { base: Base::Buildpacks(Box::new(from)), platform })
    }

    /// Reads a path or an artifact; `calls` are those in parentheses.
    fn file_source(
        &mut self,
        word: Word,
        calls: &[(Span, Vec<Word>)],
        passing: Passing,
    ) -> Option<FileSource<Parsed>> {
        let (first, args) = match calls.iter().find(|(span, _)| *span == word.span) {
            Some((_, words)) => match words.split_first() {
                Some((first, args)) if reference::plus(&first.raw).is_some() => {
                    (first.clone(), args.to_vec())
                }
                _ => {
                    let message = "parentheses hold an artifact and its arguments";
                    let diagnostic =
                        Diagnostic::error(codes::BAD_REFERENCE, message).with_label(word.span, "");
                    self.report.push(diagnostic.with_help("for example `(+target/path --NAME=value)`"));
                    return None;
                }
            },
            None if reference::plus(&word.raw).is_some() => (word.clone(), Vec::new()),
            None => return Some(FileSource::Path(word)),
        };
        let (call, path) = self.artifact(&first, args, word.span, passing)?;
        Some(FileSource::Artifact { call, path })
    }

    /// Reads `@host` and its own flags.
    fn host_base(&mut self, base: &Word, mut rest: Vec<Word>, flags: &Flags) -> Option<Base<Parsed>> {
        if base.raw != "@host" {
            let message = format!("there is no base `{}`", shown(&base.raw));
            let diagnostic = Diagnostic::error(codes::BAD_REFERENCE, message).with_label(base.span, "");
            self.report.push(match nearest(&base.raw, ["@host"]) {
                Some(near) => diagnostic.with_help(format!("did you mean `{near}`?")),
                None => diagnostic.with_help("the machine's own tools are `FROM @host`"),
            });
            return None;
        }
        self.no_effect(flags, &OF_TARGETS, "on `@host`");
        let flags = take_flags(&tables::FROM_HOST, self.edition, &mut rest, self.report);
        self.nothing_more(&tables::FROM_HOST, &rest);
        Some(Base::Host { binds: flags.values("bind"), fingerprints: flags.values("fingerprint") })
    }

    /// Reports words behind an image.
    fn behind_image(&mut self, rest: &[Word]) {
        let Some(word) = rest.first() else { return };
        if word.raw.eq_ignore_ascii_case("as") {
            self.takes_no_as(word);
        } else if looks_like_flag(word) {
            if tables::FROM.find(&split_flag(word).name, self.edition).is_some() {
                refuse_late_flags(&tables::FROM, self.edition, rest, self.report);
            } else {
                let diagnostic = Diagnostic::error(codes::UNEXPECTED_WORD, "an image takes no arguments");
                let help = "only a target does: `FROM +target`";
                self.report.push(diagnostic.with_label(word.span, "").with_help(help));
            }
        } else {
            self.nothing_more(&FlagTable::none("FROM"), rest);
        }
    }

    fn takes_no_as(&mut self, word: &Word) {
        let diagnostic = Diagnostic::error(codes::UNEXPECTED_WORD, "`FROM` takes no `AS`");
        let help = "a target is named by its header: `name:`";
        self.report.push(diagnostic.with_label(word.span, "").with_help(help));
    }

    pub(crate) fn locally(&mut self, mut words: Vec<Word>) -> Locally {
        let table = FlagTable::none("LOCALLY");
        take_flags(&table, self.edition, &mut words, self.report);
        self.nothing_more(&table, &words);
        Locally {}
    }
}

/// Parentheses, by where they stand, with the words in them.
type Calls = Vec<(Span, Vec<Word>)>;

/// Takes `(+target/path …)` as one word: parentheses stand where a word may, and flags take words.
fn words_and_calls(parts: Vec<Part>) -> (Vec<Word>, Calls) {
    let (mut words, mut calls) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::Word(word) => words.push(word),
            Part::Call { words: inner, span } => {
                let raw = inner.iter().map(|word| word.raw.as_str()).collect::<Vec<_>>().join(" ");
                words.push(Word { raw: format!("({raw})"), span });
                calls.push((span, inner));
            }
            Part::FlagsEnd
            | Part::Key(_)
            | Part::Equals
            | Part::Text(_)
            | Part::Exec(_)
            | Part::Heredoc(_) => {}
        }
    }
    (words, calls)
}
