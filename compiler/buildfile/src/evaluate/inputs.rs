//! Which arguments reach a target, and which of them it looks at.
//!
//! In Earthfiles a call passes what it names, and within one file all that reached the caller. In `VERSION 1` it passes
//! what it names; of what reached the caller only arguments of the base recipe, which belong to the file as a whole;
//! and within the file that was asked for, values from around the command line. `--pass-args` passes every argument
//! that has a value. A key keeps only arguments that something below the target may declare.
//! Source: earthly-language 3.8, 3.9; language-lessons 2.12, 2.13.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_syntax::{Edition, Stmt, StmtKind};

use super::arguments::Args;
use super::builtins::Builtin;
use super::frame::Frame;
use super::variables::Kind;
use super::{Evaluated, Evaluator, File};
use crate::resolve::{BASE, Entry, FunctionReference, Reference, Resolved, Via, calls, statements};

/// Names that some statements declare.
pub(super) fn declared(body: &[Stmt<Resolved>]) -> impl Iterator<Item = &str> {
    statements(body).filter_map(|stmt| match &stmt.kind {
        StmtKind::Arg(arg) => Some(arg.name.value.as_str()),
        _ => None,
    })
}

/// What a file declares, found once: a build may call into it thousands of times.
#[derive(Debug)]
pub(super) struct Facts {
    edition: Edition,
    /// Names that the base recipe declares.
    base: BTreeSet<String>,
    /// Names that each target or function declares.
    recipes: BTreeMap<String, BTreeSet<String>>,
    /// Something in it hands on arguments that it does not declare itself.
    passes_everything: bool,
}

impl Facts {
    fn of(file: &File) -> Self {
        let names = |body| declared(body).map(str::to_owned).collect();
        let recipes = file.buildfile.targets.iter().chain(&file.buildfile.functions);
        Self {
            edition: file.edition,
            base: names(&file.buildfile.base),
            recipes: recipes.map(|recipe| (recipe.name.value.clone(), names(&recipe.body))).collect(),
            passes_everything: passes_everything(file),
        }
    }

    /// Returns whether names that nothing in the file declares may still mean something to it.
    pub(super) fn passes_everything(&self) -> bool {
        self.passes_everything
    }

    /// Returns what a target, a function or its file's base recipe declares.
    pub(super) fn known(&self, recipe: &str) -> impl Iterator<Item = &str> {
        self.base.iter().chain(self.recipes.get(recipe).into_iter().flatten()).map(String::as_str)
    }

    /// Returns what a target or function itself declares.
    pub(super) fn own(&self, recipe: &str) -> impl Iterator<Item = &str> {
        self.recipes.get(recipe).into_iter().flatten().map(String::as_str)
    }

    /// Returns what anything in the file declares.
    pub(super) fn anywhere(&self) -> impl Iterator<Item = &str> {
        self.base.iter().chain(self.recipes.values().flatten()).map(String::as_str)
    }

    /// Keeps of some arguments those that belong into the key of a target.
    pub(super) fn reaching(&self, target: &str, mut args: Args) -> Args {
        // A stage of a Dockerfile may have that name.
        if target == BASE && !self.recipes.contains_key(BASE) {
            return self.of_base(args);
        }
        if !self.passes_everything {
            args.retain(|name, _| match self.edition {
                Edition::One => {
                    self.base.contains(name) || self.recipes.get(target).is_some_and(|own| own.contains(name))
                }
                Edition::Earthly06 | Edition::Earthly07 | Edition::Earthly08 => {
                    self.base.contains(name) || self.recipes.values().any(|own| own.contains(name))
                }
            });
        }
        args
    }

    /// Keeps of some arguments those that the base recipe reads; it passes none on.
    pub(super) fn of_base(&self, mut args: Args) -> Args {
        args.retain(|name, _| self.base.contains(name));
        args
    }
}

/// Returns whether something in a file hands on arguments that the file itself does not declare.
fn passes_everything(file: &File) -> bool {
    let buildfile = &file.buildfile;
    let bodies = buildfile.targets.iter().chain(&buildfile.functions).map(|recipe| recipe.body.as_slice());
    std::iter::once(buildfile.base.as_slice()).chain(bodies).flat_map(statements).any(|stmt| {
        let by_import = |via: &Via| via.pass_args;
        let by_call = calls(stmt).any(|call| {
            call.pass_args
                || match &call.target {
                    Reference::Settled { via, .. } => by_import(via),
                    Reference::Pattern { pattern, .. } => by_import(&pattern.via),
                    Reference::Dynamic(_) => false,
                }
        });
        let by_function = match &stmt.kind {
            // The base recipe of an Earthfile's function sees all that reached the target.
            StmtKind::Do(call) => {
                call.pass_args
                    || match &call.function {
                        FunctionReference::Settled { function, via, .. } => {
                            by_import(via)
                                || (file.edition < Edition::One && function.project != file.project)
                        }
                        FunctionReference::Dynamic(_) => file.edition < Edition::One,
                    }
            }
            StmtKind::Import(import) => import.pass_args,
            _ => false,
        };
        by_call || by_function
    })
}

impl Evaluator<'_> {
    /// Returns what a file declares.
    pub(super) fn facts(&self, file: &File) -> Arc<Facts> {
        let mut facts = self.facts.lock().expect("no holder of this lock panics");
        match facts.get(&file.project) {
            Some(known) => Arc::clone(known),
            None => {
                let found = Arc::new(Facts::of(file));
                facts.insert(file.project.clone(), Arc::clone(&found));
                found
            }
        }
    }

    /// Adds to what a call names what reaches the callee by itself.
    pub(super) fn passed(
        &self,
        frame: &Frame,
        callee: &File,
        target: &str,
        explicit: Args,
        pass_args: bool,
    ) -> Args {
        let facts = self.facts(callee);
        let inherited = if pass_args {
            all_of(frame)
        } else if callee.project != frame.scope.file.project {
            return facts.reaching(target, explicit);
        } else {
            match callee.edition {
                Edition::One => {
                    let is_asked = |(target, _): &Entry| callee.project == target.project;
                    let around = match self.targets.iter().any(is_asked) {
                        true => self.request.defaults.clone(),
                        false => Args::new(),
                    };
                    around.into_iter().chain(frame.scope.file_args.clone()).collect()
                }
                Edition::Earthly06 | Edition::Earthly07 | Edition::Earthly08 => frame.scope.overrides.clone(),
            }
        };
        facts.reaching(target, inherited.into_iter().chain(explicit).collect())
    }
}

/// Returns every argument that has a value here: what reached the recipe, what it declared, and the file's globals.
pub(super) fn all_of(frame: &Frame) -> Args {
    let variables = &frame.scope.variables;
    let globals = variables.global.iter().filter(|(name, _)| Builtin::of(name).is_none());
    let globals = globals.map(|(name, value)| (name.clone(), value.to_string()));
    let hidden = variables.hidden.iter().map(|(name, value)| (name.clone(), value.to_string()));
    let own = variables.local.iter().filter(|(_, variable)| variable.kind == Kind::Arg);
    let own = own.map(|(name, variable)| (name.clone(), variable.value.to_string()));
    globals.chain(frame.scope.overrides.clone()).chain(hidden).chain(own).collect()
}

/// Notes what a callee looked at of what the caller has handed on; what the call itself names is none of it.
pub(super) fn note_reads(frame: &mut Frame, callee: &Evaluated, handed: &Handed) {
    let Handed { explicit, pass_args } = handed;
    let same_file = callee.output.key.target.project == frame.scope.file.project;
    if same_file || *pass_args {
        frame.reads.extend(callee.reads.iter().filter(|name| !explicit.contains(*name)).cloned());
    }
}

/// How a call's arguments came to it.
#[derive(Debug, Default)]
pub(super) struct Handed {
    /// Names that the call gives values.
    pub(super) explicit: BTreeSet<String>,
    /// The call or its import says `--pass-args`.
    pub(super) pass_args: bool,
}
