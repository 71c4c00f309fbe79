//! Which statements are evaluated: bodies, IF, FOR.
//!
//! Bodies open no scope of their own. BUILDs that stand behind one another are asked for together, so that they can be
//! evaluated at once. Source: earthly-language 3.5, section 4.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use rb_diag::{Diagnostic, ErrorKind};
use rb_expression::Value;
use rb_syntax::{CommandLine, Condition, For, If, Stmt, StmtKind, Word};

use super::answers::Asked;
use super::call::Matrix;
use super::expand::part_of;
use super::frame::Frame;
use super::variables::{Kind, Variable};
use super::{Evaluator, Fallible, attempt, inputs};
use crate::codes;
use crate::describe::title;
use crate::resolve::Resolved;
use crate::shell;
use crate::word::Escapes;

/// Statements that one build may evaluate, loops counted each time.
const MAX_STATEMENTS: usize = 500_000;

/// Blocks and functions within one another, counted together. Each costs stack.
const MAX_NESTING: usize = 100;

/// The evaluation of something.
pub(super) type Work<'f> = Pin<Box<dyn Future<Output = Fallible<()>> + Send + 'f>>;

impl Evaluator<'_> {
    /// Evaluates statements in order.
    pub(super) fn body<'f>(&'f self, frame: &'f mut Frame, body: &'f [Stmt<Resolved>]) -> Work<'f> {
        self.statements(frame, body, attempt::last_always(body))
    }

    /// Evaluates statements in order; those down to `always` with what is saved if one of them fails.
    pub(super) fn statements<'f>(
        &'f self,
        frame: &'f mut Frame,
        body: &'f [Stmt<Resolved>],
        always: Option<usize>,
    ) -> Work<'f> {
        Box::pin(async move {
            if frame.nesting >= MAX_NESTING {
                return Err(too_deep(body));
            }
            frame.nesting += 1;
            let mut at = 0;
            while let Some(stmt) = body.get(at) {
                // Of its own, and as little of it as can be: blocks within blocks cost stack.
                if let Some(work) = self.with_care(frame, body, (at, always)) {
                    at += work.await?;
                    continue;
                }
                let builds =
                    body.iter().skip(at).take_while(|stmt| matches!(stmt.kind, StmtKind::Build(_))).count();
                if builds > 0 {
                    self.builds(frame, body.get(at..at + builds).unwrap_or_default()).await?;
                    at += builds;
                    continue;
                }
                self.count(stmt).await?;
                self.execute(frame, stmt).await?;
                at += 1;
            }
            frame.nesting -= 1;
            Ok(())
        })
    }

    /// Evaluates the statements that are next, if they are tried, and returns how many those are.
    pub(super) fn with_care<'f>(
        &'f self,
        frame: &'f mut Frame,
        body: &'f [Stmt<Resolved>],
        (at, always): (usize, Option<usize>),
    ) -> Option<Pin<Box<dyn Future<Output = Fallible<usize>> + Send + 'f>>> {
        if let Some(last) = always.filter(|_| at == 0) {
            return Some(Box::pin(self.always(frame, body.get(..=last).unwrap_or_default())));
        }
        frame.trying.as_ref()?;
        let next = body.get(at..).unwrap_or_default();
        let builds = next.iter().take_while(|stmt| matches!(stmt.kind, StmtKind::Build(_))).count();
        let next = next.get(..builds.max(1)).unwrap_or_default();
        Some(Box::pin(async move {
            if builds > 0 {
                self.builds(frame, next).await?;
            }
            for stmt in next {
                if builds == 0 {
                    self.count(stmt).await?;
                    self.execute(frame, stmt).await?;
                }
                self.made(frame, stmt.span).await?;
            }
            Ok(next.len())
        }))
    }

    /// Counts a statement: a build has an end, and gives others (an interrupt, above all) their turn on the way there.
    async fn count(&self, stmt: &Stmt<Resolved>) -> Fallible<()> {
        let count = self.statements.fetch_add(1, Ordering::Relaxed);
        if count >= MAX_STATEMENTS {
            let message = format!("a build of more than {MAX_STATEMENTS} statements");
            return Err(Diagnostic::error(codes::NESTING, message)
                .with_label(stmt.span, "reached here")
                .with_help("let loops go through less, or divide the build"));
        }
        if count % 64 == 63 {
            let mut asked = false;
            std::future::poll_fn(|context| {
                if std::mem::replace(&mut asked, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
        Ok(())
    }

    /// Evaluates BUILDs that stand behind one another.
    async fn builds(&self, frame: &mut Frame, body: &[Stmt<Resolved>]) -> Fallible<()> {
        let mut wishes = Vec::new();
        for stmt in body {
            let StmtKind::Build(call) = &stmt.kind else { continue };
            self.toggle(frame, &call.auto_skip).await?;
            wishes.extend(self.wishes(frame, call, Matrix::Allowed).await?);
        }
        // What follows a BUILD does not need it, but for what follows a WAIT.
        let is_needed = frame.waiting > 0 || frame.trying.is_some();
        for found in self.targets_each(wishes).await? {
            let (evaluated, handed) = match found {
                Ok(found) => found,
                Err(error) if self.request.keep_going && !is_needed => {
                    frame.lacks.get_or_insert_with(|| Arc::new(error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            frame.lack(&evaluated, is_needed)?;
            inputs::note_reads(frame, &evaluated, &handed);
            frame.silenced |= evaluated.silenced;
            frame.builds.push(evaluated.output);
        }
        Ok(())
    }

    /// `IF … END`
    pub(super) async fn branch(&self, frame: &mut Frame, stmt: &If<Resolved>) -> Fallible<()> {
        for branch in &stmt.branches {
            if self.holds(frame, &branch.condition).await? {
                return self.body(frame, &branch.body).await;
            }
        }
        match &stmt.otherwise {
            Some(body) => self.body(frame, body).await,
            None => Ok(()),
        }
    }

    /// Decides a condition: by its expression, by what is known of its text, else by running it.
    async fn holds(&self, frame: &mut Frame, condition: &Condition) -> Fallible<bool> {
        let Condition { flags, command, span } = condition;
        if let CommandLine::Shell(text) = command
            && Self::is_expression(frame, text)
        {
            let value = self.value(frame, text).await?;
            return value.truth().ok_or_else(|| not_a_truth(&value, text));
        }
        let plain = flags.mounts.is_empty() && flags.secrets.is_empty() && frame.locally.is_none();
        if plain {
            let environment = self.variables_of_step(frame, command, &flags.env);
            let lookup = |name: &str| environment.get(name).cloned();
            let known = match command {
                CommandLine::Shell(text) => shell::condition(&text.raw, &lookup),
                CommandLine::Exec(args) => {
                    shell::exec_condition(&args.iter().map(|arg| arg.value.clone()).collect::<Vec<_>>())
                }
                CommandLine::Script(_) => None,
            };
            if let Some(known) = known {
                return Ok(known);
            }
        }
        let label = match command {
            CommandLine::Shell(text) => format!("IF {}", text.raw),
            CommandLine::Exec(args) => {
                format!("IF {}", args.iter().map(|arg| arg.value.as_str()).collect::<Vec<_>>().join(" "))
            }
            CommandLine::Script(script) => format!("IF <<{}", script.name.value),
        };
        // Boxed: few conditions have mounts, and all would be as large as if they had.
        let taken = Box::pin(self.taken(frame, flags)).await?;
        let outcome = self.ask(frame, &Asked { label, flags, command, at: *span, taken }).await?;
        Ok(outcome.exit_code == 0)
    }

    /// `FOR … END`
    pub(super) async fn repeat(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        each: &For<Resolved>,
    ) -> Fallible<()> {
        let name = &each.variable.value;
        let items = self.items(frame, stmt, each).await?;
        let before = frame.scope.variables.local.remove(name);
        if let Some(before) = &before
            && before.kind == Kind::Builtin
        {
            let message = format!("`{name}` is set by rb itself, so it cannot be the variable of a loop");
            return Err(Diagnostic::error(codes::BUILTIN_ARGUMENT, message)
                .with_label(each.variable.span, "")
                .with_help("choose another name"));
        }
        for (pass, item) in items.into_iter().enumerate() {
            frame.scope.variables.local.insert(name.clone(), Variable { value: item, kind: Kind::Loop });
            let done = self.body(frame, &each.body).await;
            // As in Earthly, what a pass declares is still there in the next one: a block opens no scope.
            done.map_err(|error| match error.code {
                codes::REDECLARED_ARGUMENT if pass > 0 && error.trail.is_empty() => error
                    .with_help("the pass before has declared it: declare it above the FOR, and SET it here"),
                _ => error,
            })?;
        }
        match before {
            Some(before) => frame.scope.variables.local.insert(name.clone(), before),
            None => frame.scope.variables.local.remove(name),
        };
        Ok(())
    }

    async fn items(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        each: &For<Resolved>,
    ) -> Fallible<Vec<Value>> {
        if Self::is_expression(frame, &each.items) {
            let value = self.value(frame, &each.items).await?;
            return match value {
                Value::List(items) => Ok(items),
                other => Err(not_a_list(&other, &each.items)),
            };
        }
        let separators = match &each.separators {
            Some(word) => self.expand(frame, word, Escapes::Remove).await?,
            None => "\n\t ".to_owned(),
        };
        let text = &each.items.raw;
        let divided = |text: &str| -> Vec<Value> {
            let items = text.split(|next| separators.contains(next)).filter(|item| !item.is_empty());
            items.map(|item| Value::String(item.to_owned())).collect()
        };
        let echo = Word { raw: format!("echo {text}"), span: each.items.span };
        let command = CommandLine::Shell(echo);
        if frame.locally.is_none() && each.flags.mounts.is_empty() && each.flags.secrets.is_empty() {
            let environment = self.variables_of_step(frame, &command, &each.flags.env);
            let known = shell::items(text, &separators, &|name| environment.get(name).cloned());
            if let Some(known) = known {
                return Ok(known.into_iter().map(Value::String).collect());
            }
        }
        let at = part_of(&each.items, 0..text.len());
        let taken = Box::pin(self.taken(frame, &each.flags)).await?;
        let asked = Asked { label: title(stmt), flags: &each.flags, command: &command, at, taken };
        let outcome = self.ask(frame, &asked).await?;
        if outcome.exit_code != 0 {
            let message = format!("the words of the FOR could not be had: exit code {}", outcome.exit_code);
            return Err(Diagnostic::error(codes::SHELL_OUT, message)
                .with_kind(ErrorKind::Build)
                .with_label(at, "this was run as `echo …`"));
        }
        let text = self.text_of(outcome.stdout, at)?;
        Ok(divided(&text))
    }
}

/// Says so; not where it is found, for each level there costs stack.
fn too_deep(body: &[Stmt<Resolved>]) -> Diagnostic {
    let message = format!("blocks and functions are nested more than {MAX_NESTING} deep");
    let error = Diagnostic::error(codes::NESTING, message).with_help("an IF around the call has to end it");
    match body.first() {
        Some(stmt) => error.with_label(stmt.span, "too deep"),
        None => error,
    }
}

fn not_a_truth(value: &Value, word: &Word) -> Diagnostic {
    let message = format!("the condition is {}, not true or false", named(value));
    Diagnostic::error(codes::BAD_EXPRESSION, message)
        .with_label(word.span, format!("this is `{value}`"))
        .with_help("compare it with something: `{{ x == 'y' }}`")
}

fn not_a_list(value: &Value, word: &Word) -> Diagnostic {
    let message = format!("FOR goes through a list, and this is {}", named(value));
    Diagnostic::error(codes::BAD_EXPRESSION, message)
        .with_label(word.span, format!("this is `{value}`"))
        .with_help("`{{ split(x, ',') }}` makes a list of a string")
}

fn named(value: &Value) -> String {
    let name = value.type_name();
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {name}")
}
