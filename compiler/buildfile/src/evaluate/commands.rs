//! The statements, one by one.

use rb_diag::{Diagnostic, Spanned};
use rb_frontend::SavedImage;
use rb_llb::{NetworkMode, NodeMeta};
use rb_syntax::{Call, CommandLine, Edition, Run, SaveImage, Stmt, StmtKind, Word};

use super::frame::{Frame, Layer};
use super::{Evaluator, Fallible, Matrix};
use crate::codes;
use crate::lower::{self, Step, paths};
use crate::resolve::Resolved;
use crate::word::{self, Escapes};

impl Evaluator<'_> {
    /// Evaluates one statement.
    pub(super) async fn execute(&self, frame: &mut Frame, stmt: &Stmt<Resolved>) -> Fallible<()> {
        if let Some(keyword) = works_on_base(&stmt.kind).filter(|_| !frame.based) {
            return Err(Diagnostic::error(codes::NO_BASE, format!("{keyword} stands before any FROM"))
                .with_label(stmt.span, "works on nothing")
                .with_help(
                    "start the target, or the file, with `FROM scratch`, `FROM +target` or `FROM @host`",
                ));
        }
        match &stmt.kind {
            StmtKind::From(base) => self.from(frame, stmt, base).await,
            StmtKind::Run(run) => self.run(frame, stmt, run),
            StmtKind::Copy(copy) => self.copy(frame, stmt, copy).await,
            StmtKind::Arg(arg) => self.argument(frame, arg),
            StmtKind::Env { name, value } => self.environment(frame, stmt, name, value),
            StmtKind::Workdir(path) => self.workdir(frame, stmt, path),
            StmtKind::Entrypoint(line) => self.entrypoint(frame, stmt, line),
            StmtKind::Cmd(line) => self.command(frame, stmt, line),
            StmtKind::SaveArtifact(save) => self.save_artifact(frame, stmt, save),
            StmtKind::SaveImage(save) => self.save_image(frame, stmt, save),
            StmtKind::Build(call) => self.build(frame, call).await,
        }
    }

    fn run(&self, frame: &mut Frame, stmt: &Stmt<Resolved>, run: &Run) -> Fallible<()> {
        let network = match &run.network {
            Some(word) => self.network(frame, word)?,
            None => NetworkMode::Sandbox,
        };
        let step = Step {
            args: match &run.command {
                CommandLine::Shell(text) => shell(frame.file.edition, &text.raw),
                CommandLine::Exec(args) => exec(args),
            },
            env: frame.variables.environment(frame.file.edition, &run.command, &frame.config),
            cwd: frame.cwd().to_owned(),
            user: frame.config.config.user.clone().unwrap_or_default(),
            network,
        };
        let meta = NodeMeta { ignore_cache: run.no_cache, ..frame.meta(stmt) };
        frame.state = lower::run(&frame.state, step, &frame.key.platform, meta);
        frame.remember(stmt, Layer::One);
        Ok(())
    }

    fn network(&self, frame: &Frame, word: &Word) -> Fallible<NetworkMode> {
        match self.expand(frame, word, Escapes::Remove)?.as_str() {
            "none" => Ok(NetworkMode::None),
            "host" => Ok(NetworkMode::Host),
            "default" => Ok(NetworkMode::Sandbox),
            other => Err(Diagnostic::error(codes::BAD_FLAG, format!("`{other}` is not a network"))
                .with_label(word.span, "")
                .with_help(
                    "write `--network=none` or `--network=host`, or drop it for the engine's default",
                )),
        }
    }

    fn environment(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        name: &Spanned<String>,
        value: &Word,
    ) -> Fallible<()> {
        let value = self.expand(frame, value, Escapes::Remove)?;
        frame.config.config.set_env(&name.value, &value);
        frame.remember(stmt, Layer::None);
        Ok(())
    }

    fn workdir(&self, frame: &mut Frame, stmt: &Stmt<Resolved>, path: &Word) -> Fallible<()> {
        let text = self.expand(frame, path, Escapes::Remove)?;
        let path = paths::absolute(frame.cwd(), &text);
        frame.config.config.working_dir = Some(path.clone());
        if path == "/" {
            frame.remember(stmt, Layer::None);
            return Ok(());
        }
        let user = frame.config.config.user.as_deref().filter(|user| !user.is_empty());
        frame.state = lower::make_directory(&frame.state, &path, user, frame.meta(stmt));
        frame.remember(stmt, Layer::One);
        Ok(())
    }

    fn entrypoint(&self, frame: &mut Frame, stmt: &Stmt<Resolved>, line: &CommandLine) -> Fallible<()> {
        let args = self.image_command(frame, line)?;
        frame.config.config.entrypoint = Some(args);
        // A CMD of the base was meant for another program.
        if !frame.command_set {
            frame.config.config.cmd = None;
        }
        frame.remember(stmt, Layer::None);
        Ok(())
    }

    fn command(&self, frame: &mut Frame, stmt: &Stmt<Resolved>, line: &CommandLine) -> Fallible<()> {
        let args = self.image_command(frame, line)?;
        frame.config.config.cmd = Some(args);
        frame.command_set = true;
        frame.remember(stmt, Layer::None);
        Ok(())
    }

    /// Makes the command of an image. In Earthfiles the words of a shell form are expanded one by one; in `VERSION 1`
    /// the text is left to the shell that runs it, as it is in RUN.
    fn image_command(&self, frame: &Frame, line: &CommandLine) -> Fallible<Vec<String>> {
        let text = match line {
            CommandLine::Exec(args) => return Ok(exec(args)),
            CommandLine::Shell(text) => text,
        };
        if frame.file.edition == Edition::One {
            self.warn_of_arguments(frame, line, text);
            return Ok(plain_shell(&text.raw));
        }
        let words = word::split(&text.raw).into_iter().map(|(start, raw)| {
            let span = super::part_of(text, start..start + raw.len());
            self.expand(frame, &Word { raw: raw.to_owned(), span }, Escapes::Remove)
        });
        Ok(plain_shell(&words.collect::<Fallible<Vec<_>>>()?.join(" ")))
    }

    fn warn_of_arguments(&self, frame: &Frame, line: &CommandLine, text: &Word) {
        let known = frame.variables.local.keys().chain(frame.variables.global.keys());
        let missing = known
            .filter(|name| super::variables::mentions(line, name) && frame.config.config.env(name).is_none());
        let missing: std::collections::BTreeSet<_> = missing.cloned().collect();
        for name in missing {
            let message = format!("`${name}` is an ARG, and the image does not have it when this runs");
            let help = format!("`ENV {name}=${name}` keeps its value in the image");
            let warning = Diagnostic::warning(codes::ARGUMENT_AT_RUN_TIME, message);
            self.warn(warning.with_label(text.span, "runs in the finished image").with_help(help));
        }
    }

    fn save_image(&self, frame: &mut Frame, stmt: &Stmt<Resolved>, save: &SaveImage) -> Fallible<()> {
        if frame.on_host {
            let message = "an image cannot be saved of a tree that lies on this machine's own files";
            return Err(Diagnostic::error(codes::HOST_IMAGE, message)
                .with_label(stmt.span, "comes from FROM @host")
                .with_help(
                    "SAVE ARTIFACT what was built, and COPY it into a target that starts with `FROM scratch`",
                ));
        }
        let mut names = Vec::new();
        for word in &save.names {
            let name = self.expand(frame, word, Escapes::Remove)?;
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(Diagnostic::error(
                    codes::BAD_IMAGE,
                    format!("`{name}` is not the name of an image"),
                )
                .with_label(word.span, ""));
            }
            names.push(name);
        }
        if names.is_empty() {
            self.warn(
                Diagnostic::warning(codes::UNNAMED_IMAGE, "SAVE IMAGE without a name saves nothing")
                    .with_label(stmt.span, "")
                    .with_help("give the image a name, or drop the line: FROM +target needs none"),
            );
            return Ok(());
        }
        let (state, config) = (frame.state.clone(), frame.config.clone());
        frame.images.push(SavedImage { names, push: save.push, state, config, span: stmt.span });
        Ok(())
    }

    async fn build(&self, frame: &mut Frame, call: &Call<Resolved>) -> Fallible<()> {
        let evaluated = self.call(frame, call, Matrix::Allowed).await?;
        frame.builds.extend(evaluated.into_iter().map(|callee| callee.output));
        Ok(())
    }
}

/// Returns the keyword of a statement that needs a filesystem to work on.
fn works_on_base(kind: &StmtKind<Resolved>) -> Option<&'static str> {
    match kind {
        StmtKind::From(_) | StmtKind::Arg(_) | StmtKind::Build(_) => None,
        StmtKind::Run(_) => Some("RUN"),
        StmtKind::Copy(_) => Some("COPY"),
        StmtKind::Env { .. } => Some("ENV"),
        StmtKind::Workdir(_) => Some("WORKDIR"),
        StmtKind::Entrypoint(_) => Some("ENTRYPOINT"),
        StmtKind::Cmd(_) => Some("CMD"),
        StmtKind::SaveArtifact(_) => Some("SAVE ARTIFACT"),
        StmtKind::SaveImage(_) => Some("SAVE IMAGE"),
    }
}

fn exec(args: &[Spanned<String>]) -> Vec<String> {
    args.iter().map(|arg| arg.value.clone()).collect()
}

fn plain_shell(text: &str) -> Vec<String> {
    ["/bin/sh", "-c", text].map(str::to_owned).into()
}

/// Returns the arguments of a RUN's shell.
///
/// `VERSION 1` stops at the first command that fails (`-e`) and in pipes too. `/bin/sh` is dash on Debian, whose
/// older versions have no `pipefail` and end at an option they do not know, `-o` on the command line included; so it
/// is tried in a sub-shell first. The user's text stands last and as written, behind one line's start, so that line
/// numbers in the shell's messages are theirs.
fn shell(edition: Edition, text: &str) -> Vec<String> {
    match edition {
        Edition::Earthly06 | Edition::Earthly07 | Edition::Earthly08 => plain_shell(text),
        Edition::One => vec![
            "/bin/sh".to_owned(),
            "-ec".to_owned(),
            format!("(set -o pipefail) 2>/dev/null && set -o pipefail; {text}"),
        ],
    }
}
