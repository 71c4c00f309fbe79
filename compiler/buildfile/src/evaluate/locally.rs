//! LOCALLY: commands on the user's own machine.
//!
//! They run as evaluation comes to them, one after the other, in the folder of the target, outside of every sandbox;
//! nothing of them is cached. What COPY brings there is written at once, and what SAVE ARTIFACT takes is read at once,
//! so that both happen at their place among the commands. Source: earthly-language section 4, LOCALLY.

use std::sync::atomic::Ordering;

use rb_diag::{Diagnostic, ErrorKind, Span};
use rb_frontend::{Effect, HostCommand, LocalOutput, SavedArtifact};
use rb_llb::State;
use rb_oci::ImageConfig;
use rb_syntax::{CommandLine, CopySource, CopyStmt, Run, SaveArtifact, StepFlags, Stmt, Word};

use super::answers::{Asked, Outcome};
use super::copy::check_saved;
use super::frame::Frame;
use super::run::shell;
use super::save::refuse_repository;
use super::{Evaluator, Fallible, world_error};
use crate::describe::shortened;
use crate::lower::{self, Context, CopyFrom, CopyOptions, paths};
use crate::resolve::Resolved;
use crate::word::Escapes;
use crate::{codes, glob};

/// Where artifacts lie while they are on their way to the user's disk.
const PARCEL: &str = "/artifacts";

impl Evaluator<'_> {
    /// `LOCALLY`
    pub(super) fn start_locally(&self, frame: &mut Frame) {
        frame.platform = self.request.user_platform.clone();
        let config = ImageConfig::scratch(&frame.platform);
        frame.start(State::scratch(), config, false);
        frame.locally = Some(String::new());
    }

    /// RUN in LOCALLY.
    pub(super) async fn run_locally(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        run: &Run,
    ) -> Fallible<()> {
        let refused =
            [(run.push, "--push"), (run.entrypoint, "--entrypoint"), (run.network.is_some(), "--network")];
        if let Some((_, flag)) = refused.iter().find(|(given, _)| *given) {
            return Err(no_meaning(flag, stmt.span));
        }
        let label = frame.meta(stmt).name.unwrap_or_default();
        let outcome = self.on_host(frame, &run.flags, &run.command, label, stmt.span, false).await?;
        match outcome.exit_code {
            0 => Ok(()),
            code => {
                let message = format!("the command ended with exit code {code}");
                Err(Diagnostic::error(codes::LOCALLY_FAILED, message)
                    .with_kind(ErrorKind::Build)
                    .with_label(stmt.span, "ran on this machine")
                    .with_help("its output stands above"))
            }
        }
    }

    /// Runs a command on the host for its outcome.
    pub(super) async fn ask_host(&self, frame: &Frame, asked: &Asked<'_>) -> Fallible<Outcome> {
        let label = format!("{} | {}", frame.key, shortened(&asked.label));
        self.on_host(frame, asked.flags, asked.command, label, asked.at, true).await
    }

    async fn on_host(
        &self,
        frame: &Frame,
        flags: &StepFlags,
        command: &CommandLine,
        label: String,
        at: Span,
        capture: bool,
    ) -> Fallible<Outcome> {
        if let Some(span) = flags.privileged.or(flags.ssh) {
            return Err(no_meaning("this flag", span));
        }
        if let Some(word) = flags.mounts.iter().chain(&flags.secrets).next() {
            return Err(no_meaning("a mount or secret", word.span));
        }
        let args = match command {
            CommandLine::Shell(text) => shell(frame, &text.raw),
            CommandLine::Exec(args) => args.iter().map(|arg| arg.value.clone()).collect(),
            CommandLine::Script(script) => shell(frame, &script.body.raw),
        };
        // The user's own PATH counts where the recipe sets none.
        let mut env = self.variables_of_step(frame, command, &flags.env);
        if frame.variable("PATH").is_none() {
            env.remove("PATH");
        }
        let command = HostCommand {
            label,
            args,
            env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            project: self.place_on_disk(frame),
            cwd: frame.locally.clone().unwrap_or_default(),
            capture,
        };
        let turn = self.host_turn().await;
        let outcome = self.world.workspace().run(&command).await;
        self.host_commands.fetch_add(1, Ordering::Relaxed);
        drop(turn);
        let outcome = outcome.map_err(|error| world_error(codes::LOCALLY_FAILED, &error, at))?;
        Ok(Outcome { exit_code: outcome.exit_code, stdout: outcome.stdout })
    }

    /// WORKDIR in LOCALLY.
    pub(super) fn workdir_locally(&self, frame: &mut Frame, word: &Word, text: &str) -> Fallible<()> {
        let cwd = frame.locally.clone().unwrap_or_default();
        let joined = match text.starts_with('/') || cwd.starts_with('/') {
            true => paths::absolute(&format!("/{cwd}"), text),
            false => paths::inside(format!("{cwd}/./{text}").trim_start_matches('/')).map_err(|error| {
                Diagnostic::error(codes::PATH_OUTSIDE, format!("cannot work in `{text}`: {error}"))
                    .with_label(word.span, "")
                    .with_help("write the absolute path if that folder is meant")
            })?,
        };
        frame.locally = Some(joined);
        Ok(())
    }

    /// Returns where a path of a LOCALLY recipe lies, relative to its project.
    fn local_path(&self, frame: &Frame, word: &Word, text: &str) -> Fallible<String> {
        let refuse = |error: &dyn std::fmt::Display| {
            Diagnostic::error(codes::PATH_OUTSIDE, format!("`{text}` cannot be used here: {error}"))
                .with_label(word.span, "")
                .with_help(
                    "name a path in the folder of the build file; RUN can copy from and to other places",
                )
        };
        let cwd = frame.locally.clone().unwrap_or_default();
        if cwd.starts_with('/') {
            return Err(refuse(&"WORKDIR has left the project's folder"));
        }
        let path = if text.starts_with('/') { text.to_owned() } else { format!("{cwd}/{text}") };
        paths::inside(if text.starts_with('/') { &path } else { path.trim_start_matches('/') })
            .map_err(|error| refuse(&error))
    }

    /// SAVE ARTIFACT in LOCALLY: the files as they are now.
    pub(super) async fn save_locally(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        save: &SaveArtifact,
    ) -> Fallible<()> {
        if let Some(local) = &save.local {
            return Err(Diagnostic::error(
                codes::IN_LOCALLY,
                "SAVE ARTIFACT … AS LOCAL has no meaning in LOCALLY",
            )
            .with_label(local.span, "")
            .with_help("the files are on this machine already: `RUN cp` puts them elsewhere"));
        }
        let text = self.expand(frame, &save.source, Escapes::KeepPattern).await?;
        let path = self.local_path(frame, &save.source, &text)?;
        let many = glob::is_pattern(&path);
        let mut context = Context { unique: Some(self.next_look()), ..Context::default() };
        let project = self.place_on_disk(frame);
        let written = Word { raw: path.clone(), span: save.source.span };
        let path = self.local_source(&project, &written, &path, save.if_exists, &mut context).await?;
        let name = match &save.destination {
            Some(word) => self.expand(frame, word, Escapes::Remove).await?,
            None => "./".to_owned(),
        };
        let target = match paths::absolute("/", &name) {
            dir if many => dir,
            dir if paths::names_directory(&name) => {
                paths::absolute(&dir, paths::base_name(&format!("/{path}")))
            }
            path => path,
        };
        let dest = if many { paths::into_directory(&target) } else { target.clone() };
        let state = lower::context(&project, &context, &frame.platform, frame.meta(stmt));
        let from = [CopyFrom { state, path: format!("/{path}"), base: None }];
        let options = CopyOptions {
            whole_directories: true,
            if_exists: save.if_exists,
            follow_symlink: !save.symlink_no_follow,
            ..CopyOptions::default()
        };
        let alone = lower::copy(&State::scratch(), &from, &dest, &options, frame.meta(stmt));
        frame.artifact_tree = lower::copy(&frame.artifact_tree, &from, &dest, &options, frame.meta(stmt));
        // Later commands may change the files, so they are taken now.
        let label = frame.key.to_string();
        let effects = [
            Effect::Make { label: label.clone(), state: alone.clone() },
            Effect::Make { label, state: frame.artifact_tree.clone() },
        ];
        let settled = self.world.gateway().settle(&effects).await;
        settled.map_err(|error| world_error(codes::EFFECT, &error, stmt.span))?;
        frame.artifacts.push(SavedArtifact {
            path: target,
            many,
            optional: save.if_exists,
            state: alone,
            local: None,
            span: stmt.span,
        });
        Ok(())
    }

    /// COPY in LOCALLY: artifacts onto the user's disk.
    pub(super) async fn copy_locally(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        copy: &CopyStmt<Resolved>,
    ) -> Fallible<()> {
        let text = self.expand(frame, &copy.destination, Escapes::Remove).await?;
        refuse_repository(&text, &copy.destination)?;
        let path = self.local_path(frame, &copy.destination, &text)?;
        let project = self.place_on_disk(frame);
        let dest = project.join(&path).dir().to_owned();
        let there = self.world.workspace().stat(&project, &path).await;
        let there = there.map_err(|error| world_error(codes::WORKSPACE, &error, copy.destination.span))?;
        let folder = copy.sources.len() > 1
            || paths::names_directory(&text)
            || there.is_some_and(|entry| entry.kind == rb_frontend::FileKind::Directory);
        for (is_on, flag) in [(copy.parents, "COPY --parents"), (copy.link, "COPY --link")] {
            if is_on {
                return Err(no_meaning(flag, stmt.span));
            }
        }
        let mut effects = Vec::new();
        for source in &copy.sources {
            let CopySource::Artifact { call, path } = source else {
                return Err(Diagnostic::error(codes::IN_LOCALLY, "COPY in LOCALLY takes artifacts only")
                    .with_label(stmt.span, "")
                    .with_help("the project's files are on this machine already: `RUN cp` copies them"));
            };
            let path = self.expand(frame, path, Escapes::KeepPattern).await?;
            let callee = self.call_one(frame, call).await?.output;
            let path = paths::absolute("/", &path);
            if !copy.if_exists {
                check_saved(&callee, &path, call.span)?;
            }
            let many = folder || glob::is_pattern(&path);
            let from = [CopyFrom { state: callee.artifact_tree.clone(), path: path.clone(), base: None }];
            let options = CopyOptions {
                whole_directories: copy.dir,
                if_exists: copy.if_exists,
                follow_symlink: !copy.symlink_no_follow,
                ..CopyOptions::default()
            };
            let (state, path) = match many {
                true => {
                    let parcel = paths::into_directory(PARCEL);
                    (
                        lower::copy(&State::scratch(), &from, &parcel, &options, frame.meta(stmt)),
                        PARCEL.to_owned(),
                    )
                }
                false => (callee.artifact_tree.clone(), path),
            };
            let local = Some(LocalOutput { path: dest.clone(), into: many });
            let artifact =
                SavedArtifact { path, many, optional: copy.if_exists, state, local, span: stmt.span };
            let label = callee.key.to_string();
            effects.push(Effect::Place { label, artifact });
        }
        let settled = self.world.gateway().settle(&effects).await;
        settled.map_err(|error| world_error(codes::EFFECT, &error, stmt.span))
    }
}

fn no_meaning(what: &str, at: Span) -> Diagnostic {
    Diagnostic::error(codes::IN_LOCALLY, format!("{what} has no meaning in LOCALLY"))
        .with_label(at, "the command runs on this machine itself")
        .with_help("drop it, or run the command in a step behind a FROM")
}
