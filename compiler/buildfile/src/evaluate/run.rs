//! RUN, and what every command of a recipe runs with.
//!
//! A step sees ENV, the variables of its scope, the recipe's caches and hosts, and the mounts and secrets that it
//! names. Its text is not expanded: the shell sees the variables. Source: earthly-language 3.15, section 4, RUN.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, Span, Spanned, nearest};
use rb_llb::extension::{EXEC_PUSH, Terms};
use rb_llb::{CdiDevice, NetworkMode, NodeMeta, SecurityMode};
use rb_syntax::{CommandLine, Edition, Interactive, Run, StepFlags, Stmt, Word};

use super::binds;
use super::expand::part_of;
use super::frame::{Frame, Layer};
use super::variables::sees;
use super::{Evaluator, Fallible, trust};
use crate::codes;
use crate::lower::{self, SCRIPT, Step};
use crate::resolve::Resolved;
use crate::word::{self, Escapes};

/// What is tried again more often will not work.
const MOST_RETRIES: u32 = 100;

impl Evaluator<'_> {
    /// `RUN …`
    pub(super) async fn run(&self, frame: &mut Frame, stmt: &Stmt<Resolved>, run: &Run) -> Fallible<()> {
        refuse_what_comes_later(run)?;
        if frame.locally.is_some() {
            let of_steps = run.timeout.iter().chain(&run.retry).chain(&run.devices);
            if let Some(word) = of_steps.into_iter().next() {
                return Err(Diagnostic::error(codes::IN_LOCALLY, "this flag has no meaning in LOCALLY")
                    .with_label(word.span, "")
                    .with_help("programs of this machine may do it: `timeout 30s …`"));
            }
            return self.run_locally(frame, stmt, run).await;
        }
        if run.push && !self.pushes(frame, run, stmt.span)? {
            return Ok(());
        }
        self.warn_of_scripts(frame, run, stmt.span).await;
        let taken = Box::pin(self.taken(frame, &run.flags)).await?;
        let mut step = self.step(frame, &run.flags, &run.command, stmt.span).await?;
        binds::give(&mut step, taken, stmt.span)?;
        step.devices = self.devices(frame, &run.devices).await?;
        if run.entrypoint {
            step.args = self.entrypoint_args(frame, &run.command, stmt.span).await?;
        }
        step.network = match &run.network {
            Some(word) => self.network(frame, word).await?,
            None => NetworkMode::Sandbox,
        };
        let terms = self.terms(frame, run).await?;
        let ignore_cache = run.push || self.toggle(frame, &run.flags.no_cache).await?;
        let mut meta = NodeMeta { ignore_cache, ..frame.meta(stmt) };
        terms.describe(&mut meta.description);
        if run.push {
            meta.description.insert(EXEC_PUSH.to_owned(), "true".to_owned());
        }
        meta.description.extend(frame.scope.variables.told(&step.env));
        frame.state = lower::run(&frame.state, step, &frame.platform, meta);
        frame.remember(stmt, Layer::One);
        Ok(())
    }

    /// Returns whether `RUN --push` runs here: where the user pushes, and the target was reached by BUILD alone.
    fn pushes(&self, frame: &mut Frame, run: &Run, at: Span) -> Fallible<bool> {
        let wanted = self.request.options.push;
        if wanted && !self.config.capabilities.push {
            return Err(forbidden("RUN --push", "push", at));
        }
        frame.silenced |= !frame.loud;
        if frame.loud && !wanted {
            let text = format!("{}: RUN --push {}", frame.key.target, in_one_line(&run.command));
            let mut held = self.held.lock().expect("no holder of this lock panics");
            if !held.contains(&text) {
                held.push(text);
            }
        }
        Ok(frame.loud && wanted)
    }

    /// Returns a command with all that it sees; its network is the engine's default.
    pub(super) async fn step(
        &self,
        frame: &Frame,
        flags: &StepFlags,
        command: &CommandLine,
        at: Span,
    ) -> Fallible<Step> {
        check_passed(frame, &flags.env)?;
        let security = match flags.privileged {
            Some(span) => self.privileged(frame, span)?,
            None => SecurityMode::Sandbox,
        };
        let mut step = Step {
            env: self.environment_of_step(frame, command, &flags.env),
            cwd: frame.cwd().to_owned(),
            user: frame.config.config.user.clone().unwrap_or_default(),
            security,
            hosts: frame.hosts.clone(),
            ..Step::default()
        };
        match command {
            CommandLine::Shell(text) => step.args = shell(frame, &text.raw),
            CommandLine::Exec(args) => step.args = args.iter().map(|arg| arg.value.clone()).collect(),
            CommandLine::Script(script) if script.body.raw.starts_with("#!") => {
                step.args = vec![SCRIPT.to_owned()];
                step.script = Some(script.body.raw.clone());
            }
            CommandLine::Script(script) => step.args = shell(frame, &script.body.raw),
        }
        check_lengths(&step, at)?;
        self.mounts(frame, flags, &mut step, at).await?;
        Ok(step)
    }

    /// Returns the environment of a step, `NAME=value` each.
    fn environment_of_step(
        &self,
        frame: &Frame,
        command: &CommandLine,
        passed: &[Spanned<String>],
    ) -> Vec<String> {
        let edition = frame.edition();
        let sees = |name: &str| passed.iter().any(|env| env.value == name) || sees(edition, command, name);
        frame.scope.variables.environment(&frame.config, &sees)
    }

    /// Returns the environment of a step by name, to decide what its text means without running it.
    pub(super) fn variables_of_step(
        &self,
        frame: &Frame,
        command: &CommandLine,
        passed: &[Spanned<String>],
    ) -> BTreeMap<String, String> {
        let environment = self.environment_of_step(frame, command, passed);
        let pair =
            |entry: String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        environment.into_iter().filter_map(pair).collect()
    }

    fn privileged(&self, frame: &Frame, at: Span) -> Fallible<SecurityMode> {
        if !self.config.capabilities.privileged {
            return Err(forbidden("--privileged", "privileged", at));
        }
        if !self.request.options.allow_privileged {
            return Err(Diagnostic::error(codes::NOT_ALLOWED, "a step asks for all privileges")
                .with_label(at, "")
                .with_help("allow it with `rb --allow-privileged` (`-P`)"));
        }
        trust::check(frame, "RUN --privileged", at)?;
        Ok(SecurityMode::Insecure)
    }

    async fn network(&self, frame: &Frame, word: &Word) -> Fallible<NetworkMode> {
        match self.expand(frame, word, Escapes::Remove).await?.as_str() {
            "none" => Ok(NetworkMode::None),
            "host" if !self.config.capabilities.host_network => {
                Err(forbidden("--network=host", "host-network", word.span))
            }
            "host" => {
                trust::check(frame, "RUN --network=host", word.span)?;
                Ok(NetworkMode::Host)
            }
            "default" => Ok(NetworkMode::Sandbox),
            other => Err(Diagnostic::error(codes::BAD_FLAG, format!("`{other}` is not a network"))
                .with_label(word.span, "")
                .with_nearest(nearest(other, ["none", "host", "default"]))
                .with_help(
                    "write `--network=none` or `--network=host`, or drop it for the engine's default",
                )),
        }
    }

    /// Reads `--device=NAME[,required]`. One that is not required may be missing, as in BuildKit's Dockerfiles.
    async fn devices(&self, frame: &Frame, words: &[Word]) -> Fallible<Vec<CdiDevice>> {
        let mut devices = Vec::new();
        for word in words {
            let text = self.expand(frame, word, Escapes::Remove).await?;
            let (mut name, mut required) = (String::new(), false);
            for part in text.split(',') {
                match part {
                    "required" | "required=true" => required = true,
                    "required=false" => required = false,
                    part if name.is_empty() => name = part.strip_prefix("name=").unwrap_or(part).to_owned(),
                    part => {
                        let near = nearest(part, ["required", "required=false"]);
                        return Err(
                            bad_device(format!("a device has no `{part}`"), word.span).with_nearest(near)
                        );
                    }
                }
            }
            if name.is_empty() {
                return Err(bad_device("the device has no name".to_owned(), word.span));
            }
            if !self.config.capabilities.devices {
                return Err(forbidden("--device", "devices", word.span));
            }
            devices.push(CdiDevice { name, optional: !required });
        }
        Ok(devices)
    }

    /// Reads on which terms a step runs: `--timeout`, `--retry`.
    async fn terms(&self, frame: &Frame, run: &Run) -> Fallible<Terms> {
        let mut terms = Terms::default();
        if let Some(word) = &run.timeout {
            let text = self.expand(frame, word, Escapes::Remove).await?;
            let read = humantime::parse_duration(&text).ok().filter(|time| time.as_millis() > 0);
            terms.timeout = Some(read.ok_or_else(|| {
                Diagnostic::error(codes::BAD_FLAG, format!("`{text}` is not a length of time"))
                    .with_label(word.span, "")
                    .with_help("write `--timeout=30s`, `--timeout=1m30s` or `--timeout=2h`")
            })?);
        }
        if let Some(word) = &run.retry {
            let text = self.expand(frame, word, Escapes::Remove).await?;
            let read = text.parse().ok().filter(|times| *times <= MOST_RETRIES);
            terms.retries = read.ok_or_else(|| {
                Diagnostic::error(codes::BAD_FLAG, format!("`{text}` is not how often to try again"))
                    .with_label(word.span, "")
                    .with_help(format!("write a number, at most {MOST_RETRIES}: `--retry=3`"))
            })?;
        }
        Ok(terms)
    }

    /// Returns the image's ENTRYPOINT with the words of a RUN, or with CMD where there are none.
    async fn entrypoint_args(&self, frame: &Frame, command: &CommandLine, at: Span) -> Fallible<Vec<String>> {
        let config = &frame.config.config;
        let Some(entrypoint) = config.entrypoint.clone().filter(|entrypoint| !entrypoint.is_empty()) else {
            return Err(Diagnostic::error(codes::BAD_FLAG, "the image has no ENTRYPOINT to run")
                .with_label(at, "--entrypoint")
                .with_help("write the whole command, or set ENTRYPOINT above"));
        };
        let words = match command {
            CommandLine::Exec(args) => args.iter().map(|arg| arg.value.clone()).collect(),
            CommandLine::Shell(text) => self.words(frame, text).await?,
            CommandLine::Script(script) => vec![script.body.raw.clone()],
        };
        let words = if words.is_empty() { config.cmd.clone().unwrap_or_default() } else { words };
        Ok(entrypoint.into_iter().chain(words).collect())
    }

    /// Divides a text into words and expands each.
    pub(super) async fn words(&self, frame: &Frame, text: &Word) -> Fallible<Vec<String>> {
        let mut words = Vec::new();
        for (start, raw) in word::split(&text.raw) {
            let span = part_of(text, start..start + raw.len());
            words.push(self.expand(frame, &Word { raw: raw.to_owned(), span }, Escapes::Remove).await?);
        }
        Ok(words)
    }
}

/// Says that the project's `rb.toml` does not allow something.
pub(super) fn forbidden(what: &str, capability: &str, at: Span) -> Diagnostic {
    Diagnostic::error(codes::NOT_ALLOWED, format!("{what} is not allowed in this project"))
        .with_label(at, "")
        .with_help(format!("`{capability} = true` below `[capabilities]` in rb.toml allows it"))
}

fn bad_device(message: String, at: Span) -> Diagnostic {
    Diagnostic::error(codes::BAD_FLAG, message).with_label(at, "").with_help(
        "write `--device=vendor.example/class=name`, and `,required` behind it if it may not be missing",
    )
}

/// Says that something is of the language and not of this version.
pub(super) fn later(what: &str, at: Span) -> Diagnostic {
    Diagnostic::error(codes::LATER, format!("{what} comes in a later version"))
        .with_label(at, "not yet")
        .with_help("leave it out for now")
}

fn refuse_what_comes_later(run: &Run) -> Fallible<()> {
    match (&run.interactive, run.later.first()) {
        (Some(Interactive::Forget(span) | Interactive::Keep(span)), _) => {
            Err(later("a RUN with a shell for the user", *span))
        }
        (None, Some(flag)) => Err(later(&format!("`--{}`", flag.value), flag.span)),
        (None, None) => Ok(()),
    }
}

/// Checks that the kernel takes the command and its environment. Source: execve(2), "MAX_ARG_STRLEN".
fn check_lengths(step: &Step, at: Span) -> Fallible<()> {
    const MAX_BYTES: usize = 128 << 10;
    let too_long = |what: String, help: &str| {
        Err(Diagnostic::error(
            codes::TOO_LONG,
            format!("{what} is longer than the 128 KiB that a command takes"),
        )
        .with_label(at, "this step")
        .with_help(help))
    };
    if let Some(entry) = step.env.iter().find(|entry| entry.len() >= MAX_BYTES) {
        let name = entry.split('=').next().unwrap_or_default();
        return too_long(format!("the value of `{name}`"), "keep large texts in files");
    }
    if step.args.iter().any(|arg| arg.len() >= MAX_BYTES) {
        return too_long("the text".to_owned(), "move it into a script, COPY that and run it");
    }
    Ok(())
}

/// Shows a command in one short line.
fn in_one_line(command: &CommandLine) -> String {
    const LONGEST: usize = 60;
    let text = match command {
        CommandLine::Shell(text) => text.raw.clone(),
        CommandLine::Exec(args) => args.iter().map(|arg| arg.value.as_str()).collect::<Vec<_>>().join(" "),
        CommandLine::Script(script) => script.body.raw.clone(),
    };
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Checks the names that `--env` passes.
fn check_passed(frame: &Frame, passed: &[Spanned<String>]) -> Fallible<()> {
    let Some(unknown) = passed.iter().find(|env| frame.variable(&env.value).is_none()) else { return Ok(()) };
    let names = frame.scope.variables.names(&frame.config.config);
    let near = nearest(&unknown.value, names.iter().map(String::as_str)).map(|near| format!("--env={near}"));
    Err(Diagnostic::error(codes::UNKNOWN_VARIABLE, format!("nothing defines `{}`", unknown.value))
        .with_label(unknown.span, "passed to the step")
        .with_help(format!("declare it with `ARG {}`", unknown.value))
        .with_nearest(near.as_deref()))
}

/// Returns the arguments of a shell that runs a text.
///
/// `VERSION 1` stops at the first command that fails (`-e`) and in pipes too. `/bin/sh` is dash on Debian, whose
/// older versions have no `pipefail` and end at an option they do not know, `-o` on the command line included; so it
/// is tried in a sub-shell first. The user's text stands last and as written, behind one line's start, so that line
/// numbers in the shell's messages are theirs. SHELL takes the place of all that.
pub(super) fn shell(frame: &Frame, text: &str) -> Vec<String> {
    if frame.edition() < Edition::One {
        return plain_shell(text);
    }
    match frame.config.config.shell.as_deref() {
        Some(shell) if !shell.is_empty() => shell.iter().cloned().chain([text.to_owned()]).collect(),
        _ => vec![
            "/bin/sh".to_owned(),
            "-ec".to_owned(),
            format!("(set -o pipefail) 2>/dev/null && set -o pipefail; {text}"),
        ],
    }
}

/// Returns the arguments of `/bin/sh` that runs a text.
pub(super) fn plain_shell(text: &str) -> Vec<String> {
    ["/bin/sh", "-c", text].map(str::to_owned).into()
}
