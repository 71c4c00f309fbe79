//! `Buildfile<Parsed>` → `Buildfile<Resolved>`: the same tree with its references settled by their text.

use rb_diag::Diagnostics;
use rb_frontend::ProjectRef;
use rb_syntax::{Base, Buildfile, Call, CopySource, CopyStmt, Parsed, Recipe, Stmt, StmtKind, Word};

use super::{Reference, Resolved, parse_reference};
use crate::word::{Escapes, Template};

/// Settles every reference. One that is refused is reported and stays a word.
pub(super) fn resolve(
    buildfile: Buildfile<Parsed>,
    project: &ProjectRef,
    found: &mut Diagnostics,
) -> Buildfile<Resolved> {
    let mut tree = Tree { project, found };
    Buildfile {
        version: buildfile.version,
        base: tree.body(buildfile.base),
        targets: buildfile
            .targets
            .into_iter()
            .map(|recipe| Recipe { name: recipe.name, doc: recipe.doc, body: tree.body(recipe.body) })
            .collect(),
    }
}

struct Tree<'a> {
    project: &'a ProjectRef,
    found: &'a mut Diagnostics,
}

impl Tree<'_> {
    fn body(&mut self, body: Vec<Stmt<Parsed>>) -> Vec<Stmt<Resolved>> {
        body.into_iter().map(|stmt| Stmt { kind: self.kind(stmt.kind), span: stmt.span }).collect()
    }

    fn kind(&mut self, kind: StmtKind<Parsed>) -> StmtKind<Resolved> {
        match kind {
            StmtKind::From(Base::Target(call)) => StmtKind::From(Base::Target(self.call(call))),
            StmtKind::From(Base::Scratch) => StmtKind::From(Base::Scratch),
            StmtKind::From(Base::Image(word)) => StmtKind::From(Base::Image(word)),
            StmtKind::From(Base::Host { binds, fingerprints }) => {
                StmtKind::From(Base::Host { binds, fingerprints })
            }
            StmtKind::Build(call) => StmtKind::Build(self.call(call)),
            StmtKind::Copy(copy) => StmtKind::Copy(self.copy(copy)),
            StmtKind::Run(run) => StmtKind::Run(run),
            StmtKind::Arg(arg) => StmtKind::Arg(arg),
            StmtKind::Env { name, value } => StmtKind::Env { name, value },
            StmtKind::Workdir(dir) => StmtKind::Workdir(dir),
            StmtKind::Entrypoint(command) => StmtKind::Entrypoint(command),
            StmtKind::Cmd(command) => StmtKind::Cmd(command),
            StmtKind::SaveArtifact(save) => StmtKind::SaveArtifact(save),
            StmtKind::SaveImage(save) => StmtKind::SaveImage(save),
        }
    }

    fn copy(&mut self, copy: CopyStmt<Parsed>) -> CopyStmt<Resolved> {
        let CopyStmt {
            sources,
            destination,
            dir,
            if_exists,
            keep_times,
            keep_owner,
            symlink_no_follow,
            chmod,
            chown,
        } = copy;
        let sources = sources
            .into_iter()
            .map(|source| match source {
                CopySource::Path(path) => CopySource::Path(path),
                CopySource::Artifact { call, path } => CopySource::Artifact { call: self.call(call), path },
            })
            .collect();
        CopyStmt {
            sources,
            destination,
            dir,
            if_exists,
            keep_times,
            keep_owner,
            symlink_no_follow,
            chmod,
            chown,
        }
    }

    fn call(&mut self, call: Call<Parsed>) -> Call<Resolved> {
        Call { target: self.reference(call.target), span: call.span, args: call.args }
    }

    fn reference(&mut self, word: Word) -> Reference {
        // A word that is not well formed is left for evaluation, which says so with the right place.
        let template = match Template::parse(&word.raw) {
            Ok(template) if template.is_constant() => template,
            _ => return Reference::Dynamic(word),
        };
        let Ok(expanded) = template.expand(Escapes::KeepPlus, &|_| None) else {
            return Reference::Dynamic(word);
        };
        match parse_reference(&expanded.text, self.project) {
            Ok(target) => Reference::Settled { target, written: word },
            Err(error) => {
                self.found.push(error.diagnostic().with_label(word.span, ""));
                Reference::Dynamic(word)
            }
        }
    }
}
