//! `COPY`: paths of the project, artifacts of targets, or texts.

use rb_diag::{Diagnostic, Span, Spanned};

use super::calls::Passing;
use super::{Reader, reference};
use crate::entries::Part;
use crate::flags::{has_late_flags, refuse_late_flags, tables, take_flags};
use crate::report::shown;
use crate::{CopySource, CopyStmt, Heredoc, Parsed, Word, codes};

/// What flags pass is kept once for each source; together that may take this much.
const MAX_PASSED_BYTES: usize = 16 << 20;

impl Reader<'_> {
    pub(crate) fn copy(&mut self, parts: Vec<Part>) -> Option<CopyStmt<Parsed>> {
        // Flags come first and are words; all else can only come behind them.
        let first_other = parts.iter().position(|part| !matches!(part, Part::Word(_))).unwrap_or(parts.len());
        let mut words = Vec::new();
        let mut items = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            match part {
                Part::Word(word) if index < first_other => words.push(word),
                Part::Word(word) => items.push(Item::Word(word)),
                Part::Call { words, span } => items.push(Item::Call { words, span }),
                Part::Heredoc(heredoc) => items.push(Item::Heredoc(heredoc)),
                Part::FlagsEnd | Part::Key(_) | Part::Equals | Part::Text(_) | Part::Exec(_) => {}
            }
        }
        let flags = take_flags(&tables::COPY, self.edition, &mut words, self.report);
        let mut passing = self.passing(&flags);
        // A COPY has one platform, the last.
        passing.platforms.drain(..passing.platforms.len().saturating_sub(1));
        let mut items: Vec<Item> = words.into_iter().map(Item::Word).chain(items).collect();

        let destination = items.pop();
        let words: Vec<Word> = items.iter().chain(&destination).filter_map(Item::word).cloned().collect();
        if has_late_flags(&flags, &words) {
            refuse_late_flags(&tables::COPY, self.edition, &words, self.report);
            return None;
        }
        let destination = self.destination(destination, items.is_empty())?;
        if passing.size().saturating_mul(items.len()) > MAX_PASSED_BYTES {
            let message = "the flags pass too much to too many sources";
            let diagnostic = Diagnostic::error(codes::UNEXPECTED_WORD, message).with_label(self.keyword, "");
            self.report.push(diagnostic.with_help("write several `COPY`"));
            return None;
        }
        let mut sources = Vec::new();
        let mut whole = true;
        for item in items {
            match self.source(item, &passing) {
                Some(source) => sources.push(source),
                None => whole = false,
            }
        }
        if !whole {
            return None;
        }
        self.check_kinds(&sources);
        if !sources.iter().any(|source| matches!(source, CopySource::Artifact { .. })) {
            let of_targets = ["platform", "allow-privileged", "pass-args", "build-arg"];
            self.no_effect(&flags, &of_targets, "on files of the project");
        }
        Some(CopyStmt {
            sources,
            destination,
            dir: flags.is_on("dir"),
            parents: flags.is_on("parents"),
            link: flags.is_on("link"),
            if_exists: flags.is_on("if-exists"),
            keep_times: flags.is_on("keep-ts"),
            keep_owner: flags.is_on("keep-own"),
            symlink_no_follow: flags.is_on("symlink-no-follow"),
            chmod: flags.value("chmod"),
            chown: flags.value("chown"),
        })
    }

    /// Reads the last word; `alone` says that there is no source before it.
    fn destination(&mut self, item: Option<Item>, alone: bool) -> Option<Word> {
        let span = match item {
            Some(Item::Word(word)) if !alone => {
                if word.raw.trim_start_matches(['"', '\'']).starts_with('~') {
                    let message = format!("`~` in `{}` is no home directory here", shown(&word.raw));
                    let diagnostic =
                        Diagnostic::warning(codes::HOME_DIRECTORY, message).with_label(word.span, "");
                    self.report
                        .push(diagnostic.with_help("write the path out, such as `/root/`, or `$HOME/`"));
                }
                return Some(word);
            }
            Some(Item::Call { span, .. } | Item::Heredoc(Heredoc { name: Spanned { span, .. }, .. }))
                if !alone =>
            {
                span
            }
            _ => {
                self.missing("`COPY` needs at least one source and a destination", "`COPY src ./`");
                return None;
            }
        };
        let diagnostic =
            Diagnostic::error(codes::MISSING_WORDS, "the last word of `COPY` is the destination");
        self.report.push(diagnostic.with_label(span, "").with_help("for example `COPY (+target/path) ./`"));
        None
    }

    fn source(&mut self, item: Item, passing: &Passing) -> Option<CopySource<Parsed>> {
        match item {
            Item::Word(word) if reference::plus(&word.raw).is_some() => {
                let (call, path) = self.artifact(&word, Vec::new(), word.span, passing.clone())?;
                Some(CopySource::Artifact { call, path })
            }
            Item::Word(word) => Some(CopySource::Path(word)),
            Item::Call { mut words, span } => {
                let names = |word: &Word| reference::plus(&word.raw).is_some() || word.raw.starts_with('$');
                if !words.first().is_some_and(names) {
                    let message = "parentheses hold an artifact and its arguments";
                    let diagnostic = Diagnostic::error(codes::BAD_REFERENCE, message).with_label(span, "");
                    self.report.push(diagnostic.with_help("for example `(+target/path --NAME=value)`"));
                    return None;
                }
                let word = words.remove(0);
                let (call, path) = self.artifact(&word, words, span, passing.clone())?;
                Some(CopySource::Artifact { call, path })
            }
            Item::Heredoc(heredoc) => Some(CopySource::Heredoc(heredoc)),
        }
    }

    /// Reports paths among artifacts.
    fn check_kinds(&mut self, sources: &[CopySource<Parsed>]) {
        let artifact = sources.iter().find_map(|source| match source {
            CopySource::Artifact { call, .. } => Some(call.span),
            CopySource::Path(_) | CopySource::Heredoc(_) => None,
        });
        let other = sources.iter().find_map(|source| match source {
            CopySource::Path(path) => Some((&path.raw, path.span, "a path of the project")),
            CopySource::Heredoc(text) => Some((&text.name.value, text.name.span, "a text")),
            CopySource::Artifact { .. } => None,
        });
        if let (Some(artifact), Some((name, span, kind))) = (artifact, other) {
            let message = format!("`{}` is {kind} among artifacts", shown(name));
            let diagnostic = Diagnostic::error(codes::MIXED_SOURCES, message)
                .with_label(span, kind)
                .with_label(artifact, "an artifact");
            self.report.push(diagnostic.with_help("write two `COPY`, one of them for artifacts"));
        }
    }
}

/// A word of `COPY` behind its flags.
enum Item {
    Word(Word),
    Call { words: Vec<Word>, span: Span },
    Heredoc(Heredoc),
}

impl Item {
    fn word(&self) -> Option<&Word> {
        match self {
            Self::Word(word) => Some(word),
            Self::Call { .. } | Self::Heredoc(_) => None,
        }
    }
}
