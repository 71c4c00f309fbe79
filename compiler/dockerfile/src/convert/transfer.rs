//! `COPY` and `ADD`: files of the context, of stages, of the web and of the file itself.
//!
//! One instruction is one file operation with an action for each source; with `--link` it works on the empty tree and is
//! laid over what was there. `paths` of the context and of stages are noted as they are named.

use bytes::Bytes;
use rb_diag::{Diagnostic, Span};
use rb_llb::{CopyAction, CopyMode, FileBuilder, MkfileAction, NodeMeta, Owner, ProgressGroup, State};

use super::{Work, chmod};
use crate::checks::steps;
use crate::contexts::internal;
use crate::failure::Fallible;
use crate::git_reference::GitReference;
use crate::image::Layer;
use crate::words::Lexer;
use crate::{Heredoc, Transfer, TransferSource, Word, codes, paths};

pub(super) use chmod::owner;

/// An instruction with the values that its variables have.
pub(super) struct Expanded<'a> {
    pub(super) transfer: &'a Transfer,
    pub(super) is_add: bool,
    /// Paths and addresses, in order, each as it stands in the file and as it is meant.
    pub(super) sources: Vec<(&'a Word, String)>,
    /// Texts of the file, in order.
    pub(super) texts: Vec<(&'a Heredoc, String)>,
    pub(super) destination: String,
    pub(super) chown: Option<String>,
    pub(super) chmod: Option<String>,
    pub(super) checksum: Option<String>,
}

/// What all actions of an instruction have in common.
pub(super) struct Common {
    pub(super) dest: String,
    owner: Option<Owner>,
    mode: CopyMode,
    excludes: Vec<String>,
    /// What the instruction is called.
    pub(super) name: String,
}

impl Common {
    /// Returns an action of the instruction that copies `src`.
    pub(super) fn copy(&self, src: &str) -> CopyAction {
        CopyAction {
            src: src.to_owned(),
            dest: rb_llb::absolute_path("/", &self.dest, true),
            owner: self.owner.clone(),
            mode: self.mode.clone(),
            create_dest_path: true,
            exclude_patterns: self.excludes.clone(),
            ..CopyAction::default()
        }
    }
}

impl Work<'_> {
    pub(super) fn transfer(&mut self, transfer: &Transfer, is_add: bool) -> Fallible<()> {
        let mut expanded = self.expand_transfer(transfer, is_add);
        let mode = chmod::mode(expanded.chmod.as_deref().unwrap_or_default())
            .map_err(|reason| wrong(reason, transfer.chmod.as_ref().map_or(self.at(), |chmod| chmod.span)));
        let mode = self.heard(mode).unwrap_or_default();
        let is_whole = expanded.sources.len() + expanded.texts.len() == transfer.sources.len();
        if !is_whole || self.heard(expanded.check_checksum()).is_none() {
            expanded.checksum = None;
        }
        let text = self.shown_code(self.shared.lexer);
        let common = Common {
            dest: paths::destination(&self.state.files.folder, &expanded.destination),
            owner: expanded.chown.as_deref().filter(|owner| !owner.is_empty()).map(owner),
            mode,
            excludes: transfer.excludes.iter().map(|pattern| pattern.value.clone()).collect(),
            name: self.next_name(&text),
        };
        let is_linked = transfer.link.as_ref().is_some_and(|link| link.value)
            && expanded.chmod.as_deref().is_none_or(str::is_empty);
        let base = if is_linked { State::scratch() } else { self.state.files.tree.clone() };
        let mut actions = base.files();
        for (word, source) in &expanded.sources {
            let found = self.source(&expanded, &common, word, source);
            if let Some((tree, copy)) = self.heard(found) {
                actions = actions.copy(&tree, copy);
            }
        }
        self.settled()?;
        for (heredoc, content) in &expanded.texts {
            actions = inline(actions, &common, heredoc, content);
        }
        self.state.files.tree = match is_linked {
            true => self.linked(actions, &common, &text),
            false => actions.finish(self.file_meta(common.name.clone())),
        };
        self.note_taken(&expanded);
        self.record(expanded.history(), Layer::Told);
        Ok(())
    }

    /// Fills variables in: first those of flags, then of sources, of the destination, of texts.
    fn expand_transfer<'t>(&mut self, transfer: &'t Transfer, is_add: bool) -> Expanded<'t> {
        let mut optional = |word: &Option<Word>| word.as_ref().and_then(|word| self.heard_word(word));
        let (chown, chmod) = (optional(&transfer.chown), optional(&transfer.chmod));
        let checksum = optional(&transfer.checksum);
        let (mut sources, mut heredocs) = (Vec::new(), Vec::new());
        for source in &transfer.sources {
            match source {
                TransferSource::Path(word) => {
                    sources.extend(self.heard_word(word).map(|source| (word, source)));
                }
                TransferSource::Heredoc(heredoc) => heredocs.push(heredoc),
            }
        }
        let destination = self.heard_word(&transfer.destination).unwrap_or_default();
        let mut texts = Vec::new();
        for heredoc in heredocs {
            let content = match heredoc.expands {
                true => {
                    let text = Word::new(heredoc.content.clone(), heredoc.span);
                    let found = self.expanded(&text, Lexer::heredoc());
                    self.heard(found).unwrap_or_default().text
                }
                false => heredoc.content.clone(),
            };
            texts.push((heredoc, content));
        }
        Expanded { transfer, is_add, sources, texts, destination, chown, chmod, checksum }
    }

    /// Returns a source's tree, and how it is copied from there.
    fn source(
        &mut self,
        expanded: &Expanded<'_>,
        common: &Common,
        word: &Word,
        source: &str,
    ) -> Fallible<(State, CopyAction)> {
        let repository = GitReference::parse(source).map_err(|reason| wrong(reason, word.span))?;
        if let Some(repository) = repository {
            return self.repository(expanded, common, repository, word.span);
        }
        if is_web(source) {
            return self.web_file(expanded, common, source, word.span);
        }
        let from = self.command.sources.first().copied().flatten();
        let tree = match from {
            Some(from) => self.tree_of(from),
            None => {
                let ignored = self.shared.ignored;
                let found =
                    steps::ignored_file(self.at(), expanded.is_add, source, ignored.hides_all, |path| {
                        ignored.hides(path)
                    });
                self.check(found);
                self.shared.context.clone()
            }
        };
        Ok((tree, expanded.local(common, source)))
    }

    /// Lays what was copied over the tree, which it does not depend on.
    fn linked(&mut self, actions: FileBuilder, common: &Common, text: &str) -> State {
        let platform = self.shared.options.multi_platform.then_some(&self.state.platform);
        let link = format!("LINK {}", super::names::upper_case(text));
        let link = self.state.names.same(&link, platform, &self.state.files.environment);
        let id = format!("{}-{}-{}", self.state.platform, self.id, self.state.names.shown);
        let group = |weak| Some(ProgressGroup { id: id.clone(), name: common.name.clone(), weak });
        let copy = NodeMeta { progress_group: group(true), ..self.file_meta(common.name.clone()) };
        let merge = NodeMeta { progress_group: group(false), ..self.file_meta(link) };
        State::merge(vec![self.state.files.tree.clone(), actions.finish(copy)], None, merge)
    }

    fn file_meta(&self, name: String) -> NodeMeta {
        let ignore_cache = self.shared.graph.nodes[self.id].no_cache;
        NodeMeta { ignore_cache, ..NodeMeta::named(name).at(self.at()) }
    }

    /// Notes what is taken of the context or of a stage.
    fn note_taken(&mut self, expanded: &Expanded<'_>) {
        let from = self.command.sources.first().copied().flatten();
        for (_, source) in &expanded.sources {
            match from {
                Some(from) => self.converted.taken.take(self.shared.graph.root(from), source),
                // An address of ssh counts as a path here, as it does in BuildKit.
                None if source.starts_with("http://") || source.starts_with("https://") => {}
                None => drop(self.converted.taken.context.insert(rb_path::join("/", source))),
            }
        }
    }
}

impl Expanded<'_> {
    fn check_checksum(&self) -> Fallible<()> {
        let Some(flag) = self.transfer.checksum.as_ref().filter(|_| self.has_checksum()) else {
            return Ok(());
        };
        let reason = match self.sources.as_slice() {
            [(_, source)] if is_web(source) || matches!(GitReference::parse(source), Ok(Some(_))) => {
                return Ok(());
            }
            [_] => "checksum requires HTTP(S) or Git sources",
            _ => "checksum can't be specified for multiple sources",
        };
        Err(wrong(reason.to_owned(), flag.span))
    }

    fn has_checksum(&self) -> bool {
        self.checksum.as_ref().is_some_and(|checksum| !checksum.is_empty())
    }

    /// Returns the action that copies a path of the context or of a stage.
    fn local(&self, common: &Common, source: &str) -> CopyAction {
        let (mut source, mut include, mut required) = (source.to_owned(), Vec::new(), Vec::new());
        if self.transfer.parents.as_ref().is_some_and(|parents| parents.value) {
            // `a/./b` keeps `b` alone.
            let (pivot, pattern) = match source.split_once("/./") {
                Some((pivot, pattern)) => (pivot.to_owned(), pattern.to_owned()),
                None => ("/".to_owned(), source.clone()),
            };
            let pattern = paths::absolute("/", &pattern);
            if !has_wildcards(&pivot) && !has_wildcards(&pattern) {
                required.push(paths::absolute("/", &rb_path::join(&pivot, &pattern)));
            }
            include.push(pattern.strip_prefix('/').unwrap_or(&pattern).to_owned());
            source = pivot;
        }
        let unpack = self.transfer.unpack.as_ref().map(|unpack| unpack.value);
        CopyAction {
            follow_symlink: true,
            dir_copy_contents: true,
            include_patterns: include,
            required_paths: required,
            attempt_unpack: unpack.unwrap_or(self.is_add),
            allow_wildcard: true,
            allow_empty_wildcard: true,
            ..common.copy(&rb_path::clean(&paths::absolute("/", &source)))
        }
    }

    /// Writes the instruction as the history has it.
    fn history(&self) -> String {
        let mut text = String::from(if self.is_add { "ADD" } else { "COPY" });
        if self.transfer.parents.as_ref().is_some_and(|parents| parents.value) {
            text.push_str(" --parents");
        }
        for (flag, value) in [("chown", &self.chown), ("chmod", &self.chmod)] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                text.push_str(&format!(" --{flag}={value}"));
            }
        }
        self.sources.iter().for_each(|(_, source)| text.push_str(&format!(" {source}")));
        self.texts.iter().for_each(|(heredoc, _)| text.push_str(&format!(" <<{}", heredoc.name)));
        text + " " + &self.destination
    }
}

/// Adds the action that copies a text of the file.
fn inline(actions: FileBuilder, common: &Common, heredoc: &Heredoc, content: &str) -> FileBuilder {
    let path = rb_llb::absolute_path("/", &heredoc.name, false);
    let file = MkfileAction {
        path: path.clone(),
        mode: 0o644,
        data: Bytes::copy_from_slice(content.as_bytes()),
        ..MkfileAction::default()
    };
    let meta = NodeMeta::named(internal("preparing inline document"));
    actions.copy(&State::scratch().mkfile(file, meta), common.copy(&path))
}

/// Tells whether a text is the address of a file of the web; that of a repository has been told before.
fn is_web(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

fn has_wildcards(path: &str) -> bool {
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '*' | '?' | '[' => return true,
            '\\' => drop(letters.next()),
            _ => {}
        }
    }
    false
}

/// Tells that a flag or source cannot be.
pub(super) fn wrong(reason: String, at: Span) -> Diagnostic {
    Diagnostic::error(codes::BAD_SOURCE, reason).with_label(at, "")
}
