//! Questions that only a command or a file can answer.
//!
//! A command runs in the recipe's state as it is at that point, and what it changes there is forgotten: its output and
//! its exit code are written to a mount of their own, which alone is solved. So the same question in the same state is
//! the same graph, is solved once, and is kept by the engine's cache. On the host (LOCALLY) it simply runs.
//! Source: earthly-language 3.13, 8.2.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, ErrorKind, Span};
use rb_expression::{Answer, Question};
use rb_frontend::{FileKind, Query, WorldError};
use rb_llb::{Edge, NodeMeta, State};
use rb_syntax::{CommandLine, StepFlags, Word};

use super::binds::{self, Taken};
use super::frame::Frame;
use super::{Evaluator, Fallible, internal, world_error};
use crate::describe::shortened;
use crate::lower::{self, ANSWER_EXIT, ANSWER_OUTPUT};
use crate::shell;
use crate::{codes, glob};

/// The longest output that a value may have.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// How many files a pattern may match.
const MAX_FILES: usize = 100_000;

/// What commands answered, by what was asked.
pub(super) type Known = BTreeMap<Edge, Outcome>;

/// How a command ended.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) exit_code: i32,
    pub(super) stdout: Vec<u8>,
}

/// A command that is asked.
pub(super) struct Asked<'a> {
    /// What to call it: `IF [ -f x ]`.
    pub(super) label: String,
    pub(super) flags: &'a StepFlags,
    pub(super) command: &'a CommandLine,
    pub(super) at: Span,
    /// What its mounts take from elsewhere.
    pub(super) taken: Vec<Taken>,
}

impl Evaluator<'_> {
    /// Returns what `$(command)` stands for: its output without the last newline.
    pub(super) async fn output(&self, frame: &Frame, command: &str, at: Span) -> Fallible<String> {
        let line = CommandLine::Shell(Word { raw: command.to_owned(), span: at });
        let environment = self.variables_of_step(frame, &line, &[]);
        if frame.locally.is_none()
            && let Some(output) = shell::output(command, &|name| environment.get(name).cloned())
        {
            return Ok(output);
        }
        let flags = StepFlags::default();
        let asked =
            Asked { label: format!("$({command})"), flags: &flags, command: &line, at, taken: Vec::new() };
        // Boxed, since asking expands words, and words may ask.
        let outcome = Box::pin(self.ask(frame, &asked)).await?;
        if outcome.exit_code != 0 {
            let message = format!("`{command}` ended with exit code {}", outcome.exit_code);
            return Err(Diagnostic::error(codes::SHELL_OUT, message)
                .with_kind(ErrorKind::Build)
                .with_label(at, "so it has no value")
                .with_help("write `|| true` behind it if that may happen"));
        }
        self.text_of(outcome.stdout, at)
    }

    /// Returns a command's output as text, without the last newline.
    pub(super) fn text_of(&self, stdout: Vec<u8>, at: Span) -> Fallible<String> {
        let text = String::from_utf8(stdout).map_err(|_| {
            Diagnostic::error(codes::SHELL_OUT, "what the command printed is not UTF-8")
                .with_kind(ErrorKind::Build)
                .with_label(at, "not text")
                .with_help("encode it, for example with `base64`")
        })?;
        Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
    }

    /// Runs a command for its outcome.
    pub(super) async fn ask(&self, frame: &Frame, asked: &Asked<'_>) -> Fallible<Outcome> {
        if !frame.based {
            let message = "a command has to run for this, and there is nothing yet that it could run in";
            return Err(Diagnostic::error(codes::SHELL_OUT, message)
                .with_label(asked.at, "needs a FROM or LOCALLY above")
                .with_help("start the recipe with `FROM …` or `LOCALLY`"));
        }
        if frame.locally.is_some() {
            return self.ask_host(frame, asked).await;
        }
        let meta = NodeMeta {
            name: Some(format!("{} | {}", frame.key, shortened(&asked.label))),
            span: Some(asked.at),
            ignore_cache: self.toggle(frame, &asked.flags.no_cache).await?,
            description: frame.calls(),
            ..NodeMeta::default()
        };
        let mut step = self.step(frame, asked.flags, asked.command, asked.at).await?;
        binds::give(&mut step, asked.taken.clone(), asked.at)?;
        let state = lower::answer(&frame.state, step, &frame.platform, meta);
        let broken = |error: rb_llb::LlbError| internal(&error.to_string());
        let edge = state.digest().map_err(broken)?.ok_or_else(|| internal("a question without a step"))?;
        if let Some(known) = self.answers.lock().expect("no holder of this lock panics").get(&edge) {
            return Ok(known.clone());
        }
        let exit = self.read_answer(&state, ANSWER_EXIT, asked.at).await?;
        let exit_code = String::from_utf8_lossy(&exit).trim().parse().map_err(|_| {
            let message = "the command replaced the file that its exit code is written to";
            Diagnostic::error(codes::SHELL_OUT, message).with_kind(ErrorKind::Build).with_label(asked.at, "")
        })?;
        let stdout = self.read_answer(&state, ANSWER_OUTPUT, asked.at).await?;
        let outcome = Outcome { exit_code, stdout };
        self.answers.lock().expect("no holder of this lock panics").insert(edge, outcome.clone());
        Ok(outcome)
    }

    async fn read_answer(&self, state: &State, path: &str, at: Span) -> Fallible<Vec<u8>> {
        let query = Query::ReadFile { path: path.to_owned(), limit_bytes: MAX_OUTPUT_BYTES };
        match self.world.gateway().query(state, query).await {
            Ok(rb_frontend::Answer::File(bytes)) => Ok(bytes),
            Ok(_) => Err(internal("a file was asked for and not read")),
            // The file is there and a file: what can be wrong with it is its length.
            Err(WorldError::Failed { kind: ErrorKind::Input, .. }) => {
                Err(Diagnostic::error(codes::SHELL_OUT, "the command printed more than 1 MiB")
                    .with_kind(ErrorKind::Build)
                    .with_label(at, "too long for a value")
                    .with_help("print less, or keep it in a file"))
            }
            Err(error) => Err(world_error(codes::SHELL_OUT, &error, at)),
        }
    }

    /// Answers an expression's question about the project's files.
    pub(super) async fn file_answer(&self, frame: &Frame, question: &Question, at: Span) -> Fallible<Answer> {
        let project = &frame.scope.file.project;
        let workspace = self.world.workspace();
        let failed = |error: WorldError| world_error(codes::WORKSPACE, &error, at);
        Ok(match question {
            Question::Exists { path } => {
                Answer::Exists(workspace.stat(project, path).await.map_err(failed)?.is_some())
            }
            Question::Read { path } => match workspace.stat(project, path).await.map_err(failed)? {
                None => Answer::Missing,
                Some(_) => {
                    let bytes = workspace.read(project, path).await.map_err(failed)?;
                    String::from_utf8(bytes).map_or(Answer::NotText, Answer::Text)
                }
            },
            Question::Glob { pattern } => Answer::Paths(self.matching(frame, pattern, at).await?),
        })
    }

    /// Lists the files of the project that a pattern matches, sorted; `**` stands for any folders.
    async fn matching(&self, frame: &Frame, pattern: &str, at: Span) -> Fallible<Vec<String>> {
        let project = &frame.scope.file.project;
        let parts: Vec<&str> = pattern.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        // Folders still to look into, each with the parts of the pattern that its names have to match.
        let mut open = vec![(String::new(), parts.as_slice())];
        let mut found = std::collections::BTreeSet::new();
        while let Some((dir, parts)) = open.pop() {
            let Some((part, rest)) = parts.split_first() else { continue };
            let any_depth = *part == "**";
            if any_depth {
                open.push((dir.clone(), rest));
            }
            let entries = self.world.workspace().list(project, &dir).await;
            for entry in entries.map_err(|error| world_error(codes::WORKSPACE, &error, at))? {
                let hidden = entry.name.starts_with('.') && !part.starts_with('.');
                if hidden || !(any_depth || glob::matches(part, &entry.name)) {
                    continue;
                }
                let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
                match (any_depth, rest.is_empty(), entry.kind == FileKind::Directory) {
                    (true, _, true) => open.push((path, parts)),
                    (true, true, false) | (false, true, _) => {
                        found.insert(path);
                    }
                    (false, false, true) => open.push((path, rest)),
                    (true, false, false) | (false, false, false) => {}
                }
            }
            if found.len() + open.len() > MAX_FILES {
                let message = format!("`{pattern}` matches more than {MAX_FILES} files");
                return Err(Diagnostic::error(codes::BAD_EXPRESSION, message)
                    .with_label(at, "")
                    .with_help("name a folder, or a part of the names"));
            }
        }
        Ok(found.into_iter().collect())
    }
}
