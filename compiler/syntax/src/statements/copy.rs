//! `COPY`: paths of the project or artifacts of targets.

use rb_diag::{Diagnostic, Span};

use super::{Reader, reference};
use crate::entries::Part;
use crate::flags::{self, refuse_late_flags, take_flags};
use crate::report::shown;
use crate::{CopySource, CopyStmt, Parsed, Word, codes};

impl Reader<'_> {
    pub(crate) fn copy(&mut self, parts: Vec<Part>) -> Option<CopyStmt<Parsed>> {
        // Flags come first and are words; parenthesised calls can only come behind them.
        let first_call =
            parts.iter().position(|part| matches!(part, Part::Call { .. })).unwrap_or(parts.len());
        let mut words = Vec::new();
        let mut items = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            match part {
                Part::Word(word) if index < first_call => words.push(word),
                Part::Word(word) => items.push(Item::Word(word)),
                Part::Call { words, span } => items.push(Item::Call { words, span }),
                Part::FlagsEnd | Part::Key(_) | Part::Equals | Part::Text(_) | Part::Exec(_) => {}
            }
        }
        let flags = take_flags("COPY", flags::COPY, &mut words, self.report);
        let mut items: Vec<Item> = words.into_iter().map(Item::Word).chain(items).collect();

        let destination = items.pop();
        let late: Vec<Word> = items.iter().chain(&destination).filter_map(Item::late_flag).cloned().collect();
        if !late.is_empty() {
            refuse_late_flags("COPY", flags::COPY, &late, self.report);
            return None;
        }
        let destination = match destination {
            Some(Item::Word(destination)) if !items.is_empty() => destination,
            Some(Item::Call { span, .. }) if !items.is_empty() => {
                let diagnostic =
                    Diagnostic::error(codes::MISSING_WORDS, "the last word of `COPY` is the destination");
                self.report
                    .push(diagnostic.with_label(span, "").with_help("for example `COPY (+target/path) ./`"));
                return None;
            }
            _ => {
                self.missing("`COPY` needs at least one source and a destination", "`COPY src ./`");
                return None;
            }
        };
        let mut sources = Vec::new();
        let mut whole = true;
        for item in items {
            match self.source(item) {
                Some(source) => sources.push(source),
                None => whole = false,
            }
        }
        self.check_kinds(&sources);
        if !whole {
            return None;
        }
        Some(CopyStmt {
            sources,
            destination,
            dir: flags.is_on("dir"),
            if_exists: flags.is_on("if-exists"),
            keep_times: flags.is_on("keep-ts"),
            keep_owner: flags.is_on("keep-own"),
            symlink_no_follow: flags.is_on("symlink-no-follow"),
            chmod: flags.value("chmod"),
            chown: flags.value("chown"),
        })
    }

    fn source(&mut self, item: Item) -> Option<CopySource<Parsed>> {
        match item {
            Item::Word(word) if reference::plus(&word.raw).is_some() => {
                let (call, path) = self.artifact(&word, Vec::new(), word.span)?;
                Some(CopySource::Artifact { call, path })
            }
            Item::Word(word) => Some(CopySource::Path(word)),
            Item::Call { mut words, span } => {
                if words.first().is_none_or(|word| reference::plus(&word.raw).is_none()) {
                    let message = "parentheses hold an artifact and its arguments";
                    let diagnostic = Diagnostic::error(codes::BAD_REFERENCE, message).with_label(span, "");
                    self.report.push(diagnostic.with_help("for example `(+target/path --NAME=value)`"));
                    return None;
                }
                let word = words.remove(0);
                let (call, path) = self.artifact(&word, words, span)?;
                Some(CopySource::Artifact { call, path })
            }
        }
    }

    /// Reports paths among artifacts.
    fn check_kinds(&mut self, sources: &[CopySource<Parsed>]) {
        let artifact = sources.iter().find_map(|source| match source {
            CopySource::Artifact { call, .. } => Some(call),
            CopySource::Path(_) => None,
        });
        let path = sources.iter().find_map(|source| match source {
            CopySource::Path(path) => Some(path),
            CopySource::Artifact { .. } => None,
        });
        if let (Some(artifact), Some(path)) = (artifact, path) {
            let message = format!("`{}` is a path among artifacts", shown(&path.raw));
            let diagnostic = Diagnostic::error(codes::MIXED_SOURCES, message)
                .with_label(path.span, "a path of the project")
                .with_label(artifact.span, "an artifact");
            self.report.push(diagnostic.with_help("write two `COPY`, one for paths and one for artifacts"));
        }
    }
}

/// A word of `COPY` behind its flags.
enum Item {
    Word(Word),
    Call { words: Vec<Word>, span: Span },
}

impl Item {
    /// Returns the word if it looks like a flag.
    fn late_flag(&self) -> Option<&Word> {
        match self {
            Self::Word(word) if word.raw.starts_with("--") && word.raw != "--" => Some(word),
            Self::Word(_) | Self::Call { .. } => None,
        }
    }
}
