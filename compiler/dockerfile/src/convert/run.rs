//! `RUN`: a command, what it sees and what of the build it is told.

use std::collections::BTreeSet;

use bytes::Bytes;
use rb_llb::{
    CdiDevice, ExecMeta, ExecOp, HostAddress, MkfileAction, Mount, NetworkMode, NodeMeta, SecurityMode,
    State, extension,
};

use super::mounts::RunMounts;
use super::{Work, described};
use crate::contexts::internal;
use crate::environment::{Environment, Shown};
use crate::failure::Fallible;
use crate::image::{Layer, with_shell};
use crate::{CommandLine, Heredoc, Run, Word, is_heredoc};

/// Where the script lies that a heredoc is.
const SCRIPTS: &str = "/dev/pipes/";

/// What is run, and what it needs for that.
struct Program {
    args: Vec<String>,
    /// A tree that holds the script.
    script: Option<State>,
    /// What is shown behind the instruction.
    summary: String,
}

impl Work<'_> {
    pub(super) fn run(&mut self, run: &Run) -> Fallible<()> {
        // A command may read any file.
        self.converted.taken.take(self.shared.graph.root(self.id), "/");
        let program = self.program(run);
        let mounts = self.mounts(&run.mounts)?;
        let before = self.state.files.environment.clone();
        let name = self.run_name(&program.summary, &mounts, &before);
        let history = format!("RUN {}", self.with_arguments(&program.args, &before));
        let op = self.exec_op(run, &program, &mounts);
        let mut inputs = vec![self.state.files.tree.clone()];
        let mut all =
            vec![Mount { input: Some(0), dest: "/".to_owned(), output: Some(0), ..Mount::default() }];
        if let Some(script) = program.script {
            all.push(Mount {
                input: Some(inputs.len()),
                selector: "/".to_owned(),
                dest: SCRIPTS.to_owned(),
                readonly: true,
                ..Mount::default()
            });
            inputs.push(script);
        }
        mounts.add_to(&mut inputs, &mut all);
        let mut meta = NodeMeta {
            span: Some(self.at()),
            ignore_cache: self.shared.graph.nodes[self.id].no_cache,
            linux_resources: self.shared.options.resources.clone(),
            ..described(name, &self.command.step.code)
        };
        if self.shared.options.tells_arguments {
            meta.description.extend(self.told_arguments());
        }
        let platform = self.state.files.platform.as_ref().unwrap_or(self.shared.target_platform).clone();
        let done = State::exec(inputs, ExecOp { mounts: all, ..op }, Some(&platform), meta);
        self.state.files.tree = done.output(0);
        self.record(history, Layer::Told);
        Ok(())
    }

    fn program(&self, run: &Run) -> Program {
        let line = match &run.command {
            CommandLine::Exec(words) => {
                let args = words.iter().map(|word| word.value.clone()).collect();
                return Program { args, script: None, summary: String::new() };
            }
            CommandLine::Shell(line) => &line.value,
        };
        let shell = |line: &str| with_shell(&self.state.image, line);
        match run.heredocs.as_slice() {
            [] => Program { args: shell(line), script: None, summary: String::new() },
            [only, ..] if is_heredoc(line) => {
                let summary = format!(" ({})", summary(&only.raw));
                if self.state.image.os != "windows" && only.content.starts_with("#!") {
                    let args = shell(&format!("{SCRIPTS}{}", only.name));
                    return Program { args, script: Some(script(only)), summary };
                }
                Program { args: shell(&only.content), script: None, summary }
            }
            several => {
                // The shell is given the heredocs as they stand in the file.
                let bodies = several.iter().map(|heredoc| format!("\n{}{}", heredoc.raw, heredoc.name));
                let text = std::iter::once(line.clone()).chain(bodies).collect::<String>();
                Program { args: shell(&text), script: None, summary: String::new() }
            }
        }
    }

    fn run_name(&mut self, summary: &str, mounts: &RunMounts, variables: &Environment) -> String {
        let code = format!("{}{summary}", self.command.step.code);
        let masked = Shown { variables, secrets: &mounts.secret_variables };
        let lexer = self.shared.lexer.raw(true, false).keeping_unset();
        let shown = lexer.expand(&code, &masked).map_or(code, |shown| shown.text);
        let shown = super::names::upper_case(&variables.struck().text(&shown));
        let platform = self.state.files.platform.clone().filter(|_| self.shared.options.multi_platform);
        self.state.names.next(&shown, platform.as_ref(), variables)
    }

    /// Says which variables of a command are arguments; one that ENV gives a value, too, is none.
    fn told_arguments(&self) -> Option<(String, String)> {
        let config = &self.state.image.config;
        let is_argument =
            |name: &&String| !config.env.iter().any(|line| crate::image::env_pair(line).0 == **name);
        let names: BTreeSet<&String> =
            self.state.build_args.iter().map(|(name, _)| name).filter(is_argument).collect();
        let lines: Vec<String> = names.into_iter().map(|name| format!("{name}=ARG")).collect();
        (!lines.is_empty()).then(|| (extension::EXEC_VARIABLES.to_owned(), lines.join("\n")))
    }

    fn exec_op(&self, run: &Run, program: &Program, mounts: &RunMounts) -> ExecOp {
        let (options, files) = (self.shared.options, &self.state.files);
        let folder = if files.folder.is_empty() { "/" } else { &files.folder };
        ExecOp {
            meta: ExecMeta {
                args: program.args.clone(),
                env: files.environment.lines(),
                cwd: folder.to_owned(),
                user: files.user.clone(),
                hostname: files.hostname.clone(),
                extra_hosts: options.add_hosts.iter().map(HostAddress::clone).collect(),
                ulimits: options.ulimits.clone(),
                cgroup_parent: options.cgroup_parent.clone().unwrap_or_default(),
                proxy_env: self.shared.proxy.clone(),
                ..ExecMeta::default()
            },
            mounts: Vec::new(),
            network: match run.network.as_ref().map(|network| network.value.as_str()) {
                Some("none") => NetworkMode::None,
                Some("host") => NetworkMode::Host,
                Some(_) | None => files.network,
            },
            security: match run.security.as_ref().map(|security| security.value.as_str()) {
                Some("insecure") => SecurityMode::Insecure,
                Some(_) | None => SecurityMode::Sandbox,
            },
            secret_env: mounts.secret_env.clone(),
            cdi_devices: run.devices.iter().map(device).collect(),
        }
    }

    /// Writes a command with the arguments of the stage before it, as the history has it: `|1 V=7 /bin/sh -c make`.
    fn with_arguments(&self, args: &[String], variables: &Environment) -> String {
        let mut told: Vec<(&str, String)> = Vec::new();
        for (name, value) in &self.state.build_args {
            let now = variables.value(name).map(ToOwned::to_owned).or_else(|| value.clone());
            let line = format!("{name}={}", now.unwrap_or_default());
            match told.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = line,
                None => told.push((name, line)),
            }
        }
        let count = (!told.is_empty()).then(|| format!("|{}", told.len()));
        let lines = told.into_iter().map(|(_, line)| line);
        count.into_iter().chain(lines).chain(args.iter().cloned()).collect::<Vec<_>>().join(" ")
    }
}

/// Returns a tree that holds a heredoc as a script.
fn script(heredoc: &Heredoc) -> State {
    let file = MkfileAction {
        path: rb_llb::absolute_path("/", &heredoc.name, false),
        mode: 0o755,
        data: Bytes::copy_from_slice(heredoc.content.as_bytes()),
        ..MkfileAction::default()
    };
    State::scratch().mkfile(file, NodeMeta::named(internal("preparing inline document")))
}

/// Returns the first line of a text, and that there are more.
fn summary(text: &str) -> String {
    let text = text.trim();
    match text.split_once('\n') {
        Some((first, _)) => format!("{}...", first.trim_end_matches('\r')),
        None => text.to_owned(),
    }
}

/// Reads `--device=NAME[,required]`, which was checked when the file was read.
fn device(word: &Word) -> CdiDevice {
    let fields = crate::go::csv_fields(&word.value).unwrap_or_default();
    let mut device = CdiDevice { name: String::new(), optional: true };
    for field in fields {
        match field.split_once('=') {
            Some((key, value)) if key.eq_ignore_ascii_case("required") => {
                device.optional = crate::go::parse_bool(value) != Some(true);
            }
            Some((key, value)) if key.eq_ignore_ascii_case("name") => value.clone_into(&mut device.name),
            None if field.eq_ignore_ascii_case("required") => device.optional = false,
            Some(_) | None => device.name = field,
        }
    }
    device
}
