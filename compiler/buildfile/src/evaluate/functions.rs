//! DO: a function's statements on the caller's filesystem, with names of their own.
//!
//! What the function makes (files, ENV, WORKDIR, caches, what it saves) flows back; what it declares does not. Its
//! globals and imports are those of its own file, whose base recipe sees the arguments of the command line.
//! Source: earthly-language 3.10.

use std::sync::Arc;

use rb_diag::{Diagnostic, Span};
use rb_frontend::FunctionRef;
use rb_syntax::{Do, Edition, Stmt};

use super::arguments::Args;
use super::expand::place;
use super::frame::{Frame, Function, Scope};
use super::{Evaluator, Fallible, inputs, trust};
use crate::describe::title;
use crate::resolve::{BASE, FunctionReference, Imports, Resolved, Via, parse_function};
use crate::word::Escapes;

impl Evaluator<'_> {
    /// `DO …`
    pub(super) async fn function(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        call: &Do<Resolved>,
    ) -> Fallible<()> {
        let (function, via) = self.function_reference(frame, call).await?;
        let file = self.program.function_file(&function, Some(call.span)).await?;
        let Some(recipe) = file.function(&function.name) else {
            return Err(super::internal("a function that was found is not there"));
        };
        let explicit = self.function_arguments(frame, call, &file, recipe).await?;
        let pass_args = call.pass_args || via.pass_args;
        let overrides = match pass_args {
            true => inputs::all_of(frame).into_iter().chain(explicit.clone()).collect(),
            false => explicit.clone(),
        };
        let depth = frame.scope.function.as_ref().map_or(1, |function| function.depth + 1);
        let allowed = call.allow_privileged || via.allow_privileged;
        let trusted = self.trusts(&frame.scope, &function.project, allowed);
        trust::check_function(frame, &function.project, trusted, call.span)?;
        let mut scope = Scope::new(Arc::clone(&file), overrides, trusted);
        let called_from = called_from(frame, stmt);
        let outer_calls = frame.scope.function.iter().flat_map(|function| function.calls.iter().cloned());
        let calls = std::iter::once(called_from.clone()).chain(outer_calls).take(SHOWN).collect();
        scope.function = Some(Function { name: function.name.clone(), depth, explicit, pass_args, calls });
        self.globals(frame, &mut scope, call.span).await?;
        let outer = std::mem::replace(&mut frame.scope, scope);
        let done = self.body(frame, &recipe.body).await;
        let caller = place(frame);
        frame.scope = outer;
        done.map_err(|error| with_step(error, format!("in {caller}, {called_from}"), depth))
    }

    async fn function_reference(&self, frame: &Frame, call: &Do<Resolved>) -> Fallible<(FunctionRef, Via)> {
        let word = match &call.function {
            FunctionReference::Settled { function, via, .. } => return Ok((function.clone(), *via)),
            FunctionReference::Dynamic(word) => word,
        };
        let text = self.expand(frame, word, Escapes::KeepPlus).await?;
        let scope = &frame.scope;
        parse_function(&text, &scope.file.project, scope.file.edition, &scope.imports)
            .map_err(|error| error.diagnostic().with_label(word.span, format!("this is `{text}`")))
    }

    /// Gives a function's scope the globals and imports of its own file, whose base recipe sees what reached the
    /// target and, in an Earthfile, what the DO names.
    async fn globals(&self, frame: &mut Frame, scope: &mut Scope, at: Span) -> Fallible<()> {
        let file = Arc::clone(&scope.file);
        let facts = self.facts(&file);
        let same_file = file.project == frame.scope.file.project;
        let reached = match (file.edition, same_file) {
            (Edition::Earthly08, false) => frame.key.args.clone(),
            (_, true) => frame.scope.file_args.clone(),
            (Edition::One | Edition::Earthly07 | Edition::Earthly06, false) => Args::new(),
        };
        let passed =
            scope.function.as_ref().filter(|function| function.pass_args || file.edition < Edition::One);
        let named = match passed {
            Some(function) if function.pass_args => scope.overrides.clone(),
            Some(function) => function.explicit.clone(),
            None => Args::new(),
        };
        let args = facts.of_base(reached.into_iter().chain(named).collect());
        // The base recipe itself is still on its way.
        if same_file && (args == frame.scope.file_args || frame.key.target.name == BASE) {
            scope.variables.global = frame.scope.variables.global.clone();
            scope.imports = Imports::within(&frame.scope.imports);
            scope.file_args = frame.scope.file_args.clone();
            return Ok(());
        }
        if !file.buildfile.base.is_empty() {
            let base =
                self.base_of(&file, args.clone(), &frame.key.platform, scope.trusted, Some(at)).await?;
            let explicit = scope.function.as_ref().map(|function| &function.explicit);
            let handed = |name: &&String| !explicit.is_some_and(|explicit| explicit.contains_key(*name));
            frame.reads.extend(base.reads.iter().filter(handed).cloned());
            scope.variables.global = base.globals.clone();
            scope.imports = Imports::within(&base.imports);
        }
        scope.file_args = args;
        Ok(())
    }
}

/// What a vertex notes of the functions that its statement stands in, innermost first, a line each:
/// `called from DO +F --x=1, Buildfile:5`.
pub const CALLED_FROM: &str = "rb.called-from";

/// So many calls of functions are told of a failure.
const SHOWN: usize = 10;

/// Says where a function is called: `called from DO +F --x=1, Buildfile:5`.
fn called_from(frame: &Frame, stmt: &Stmt<Resolved>) -> String {
    let source = &frame.scope.file.source;
    format!("called from {}, {}:{}", title(stmt), source.name, source.position(stmt.span.start).line)
}

/// Adds a step to a trail; of a long way only the first and the last calls are told.
fn with_step(error: Diagnostic, step: String, depth: usize) -> Diagnostic {
    match error.trail.len() {
        told if told < SHOWN || depth <= SHOWN => error.with_trail(step),
        SHOWN => error.with_trail("…"),
        _ => error,
    }
}
