//! A statement as one line of text, for progress and for the history of images.
//!
//! Made from the tree and not from the file, so that comments, indentation and continuation lines change nothing:
//! the history is part of an image's digest. A line break inside of a word is written `\n`. Of a block it is the first
//! line, of its later parts nothing.

use rb_syntax::{
    Arg, ArgType, Assignment, CacheStmt, Call, CallArg, CommandLine, CopySource, CopyStmt, Do, For,
    Healthcheck, Heredoc, If, Import, Interactive, Probe, Run, SaveArtifact, SaveImage, StepFlags, Stmt,
    StmtKind, Toggle, Word,
};

use crate::resolve::{FunctionReference, ProjectReference, Reference, Resolved};

mod from;
mod keyword;

pub(crate) use keyword::keyword;

/// Returns a statement's line.
pub(crate) fn describe(stmt: &Stmt<Resolved>) -> String {
    let mut line = Line::default();
    line.statement(&stmt.kind);
    line.words.join(" ").replace('\r', "\\r").replace('\n', "\\n")
}

/// Returns what a statement is called in progress and reports: its line, but of a text over several lines the first one
/// with `…`, and of a script its beginning: `RUN <<EOF (make all…)`.
pub(crate) fn title(stmt: &Stmt<Resolved>) -> String {
    let mut line = Line { short: true, ..Line::default() };
    line.statement(&stmt.kind);
    shortened(&line.words.join(" "))
}

/// Returns the first line of a text, with `…` where more follows.
pub(crate) fn shortened(text: &str) -> String {
    match text.split_once('\n') {
        Some((first, _)) => format!("{}…", first.trim_end()),
        None => text.trim_end_matches('\r').to_owned(),
    }
}

/// Returns an argument's type as it is written; none is said for a plain text.
pub(crate) fn argument_type(kind: &ArgType) -> String {
    match kind {
        ArgType::String => "string".to_owned(),
        ArgType::Bool => "bool".to_owned(),
        ArgType::Int => "int".to_owned(),
        ArgType::Enum(values) => format!("enum({})", values.join(", ")),
        ArgType::Path => "path".to_owned(),
        ArgType::List => "list".to_owned(),
    }
}

#[derive(Default)]
struct Line {
    words: Vec<String>,
    /// Of a script only its beginning.
    short: bool,
}

impl Line {
    fn push(&mut self, text: &str) {
        self.words.push(text.to_owned());
    }

    fn word(&mut self, word: &Word) {
        self.push(&word.raw);
    }

    fn all(&mut self, words: &[Word]) {
        words.iter().for_each(|word| self.word(word));
    }

    fn flag(&mut self, is_set: bool, name: &str) {
        self.words.extend(is_set.then(|| format!("--{name}")));
    }

    fn option<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a Word>) {
        self.words.extend(values.into_iter().map(|value| format!("--{name}={}", value.raw)));
    }

    fn toggle(&mut self, name: &str, toggle: &Toggle) {
        match toggle {
            Toggle::Off => {}
            Toggle::On => self.flag(true, name),
            Toggle::Word(word) => self.option(name, [word]),
        }
    }

    fn assignments(&mut self, assignments: &[Assignment]) {
        self.words.extend(assignments.iter().map(|pair| format!("{}={}", pair.name.value, pair.value.raw)));
    }

    fn statement(&mut self, kind: &StmtKind<Resolved>) {
        self.push(keyword(kind));
        match kind {
            StmtKind::From(from) => self.from(from),
            StmtKind::Locally(_) | StmtKind::Wait(_) | StmtKind::Try(_) => {}
            StmtKind::Run(run) => self.run(run),
            StmtKind::Copy(copy) => self.copy(copy),
            StmtKind::Arg(arg) => self.argument(arg),
            StmtKind::Let(pair) | StmtKind::Set(pair) => self.assignments(std::slice::from_ref(pair)),
            StmtKind::Env(pairs) => self.assignments(pairs),
            StmtKind::Workdir(word)
            | StmtKind::User(word)
            | StmtKind::StopSignal(word)
            | StmtKind::Project(word) => {
                self.word(word);
            }
            StmtKind::Entrypoint(command) | StmtKind::Cmd(command) => self.command(command),
            StmtKind::Shell(words) => self.words.push(exec(words.iter().map(|word| word.value.as_str()))),
            StmtKind::Expose(words) | StmtKind::Volume(words) => self.all(words),
            StmtKind::Label(labels) => {
                self.words
                    .extend(labels.iter().map(|label| format!("{}={}", label.key.raw, label.value.raw)));
            }
            StmtKind::Healthcheck(Healthcheck::None) => self.push("NONE"),
            StmtKind::Healthcheck(Healthcheck::Probe(probe)) => self.probe(probe),
            StmtKind::GitClone(clone) => {
                self.option("branch", &clone.branch);
                self.flag(clone.keep_times, "keep-ts");
                self.all(&[clone.url.clone(), clone.destination.clone()]);
            }
            StmtKind::Host(entry) => self.all(&[entry.name.clone(), entry.address.clone()]),
            StmtKind::Cache(cache) => self.cache(cache),
            StmtKind::SaveArtifact(save) => self.artifact(save),
            StmtKind::SaveImage(save) => self.image(save),
            StmtKind::Build(call) => self.call(call),
            StmtKind::Do(call) => self.function(call),
            StmtKind::Import(import) => self.import(import),
            StmtKind::If(stmt) => self.condition(stmt),
            StmtKind::For(stmt) => self.each(stmt),
            StmtKind::Later(later) => self.words.extend(later.text.iter().map(|text| text.raw.clone())),
        }
    }

    fn step_flags(&mut self, flags: &StepFlags) {
        let StepFlags { privileged, ssh, no_cache, mounts, secrets, env } = flags;
        self.flag(privileged.is_some(), "privileged");
        self.flag(ssh.is_some(), "ssh");
        self.toggle("no-cache", no_cache);
        self.option("mount", mounts);
        self.option("secret", secrets);
        self.words.extend(env.iter().map(|name| format!("--env={}", name.value)));
    }

    fn run(&mut self, run: &Run) {
        // Terms change no result, so an image's history does not tell of them either.
        let Run {
            flags,
            push,
            entrypoint,
            network,
            devices,
            timeout: _,
            retry: _,
            interactive,
            later,
            command,
        } = run;
        self.option("network", network);
        self.step_flags(flags);
        self.option("device", devices);
        self.flag(*push, "push");
        self.flag(*entrypoint, "entrypoint");
        match interactive {
            None => {}
            Some(Interactive::Forget(_)) => self.flag(true, "interactive"),
            Some(Interactive::Keep(_)) => self.flag(true, "interactive-keep"),
        }
        self.words.extend(later.iter().map(|flag| format!("--{}", flag.value.trim_start_matches('-'))));
        self.command(command);
    }

    fn command(&mut self, command: &CommandLine) {
        match command {
            CommandLine::Shell(text) if text.raw.is_empty() => {}
            CommandLine::Shell(text) => self.word(text),
            CommandLine::Exec(words) if words.is_empty() => {}
            CommandLine::Exec(words) => self.words.push(exec(words.iter().map(|word| word.value.as_str()))),
            CommandLine::Script(heredoc) => self.heredoc(heredoc, true),
        }
    }

    fn heredoc(&mut self, Heredoc { name, body, expand }: &Heredoc, whole: bool) {
        let quote = if *expand { "" } else { "'" };
        let start = format!("<<{quote}{}{quote}", name.value);
        self.words.push(match (whole, self.short) {
            (true, false) => format!("{start}\n{}{}", body.raw, name.value),
            (true, true) => match body.raw.trim() {
                "" => start,
                script => format!("{start} ({})", shortened(script)),
            },
            (false, _) => start,
        });
    }

    fn copy(&mut self, copy: &CopyStmt<Resolved>) {
        let CopyStmt {
            sources,
            destination,
            dir,
            parents,
            link,
            if_exists,
            keep_times,
            keep_owner,
            symlink_no_follow,
            chmod,
            chown,
        } = copy;
        self.flag(*dir, "dir");
        self.flag(*parents, "parents");
        self.flag(*link, "link");
        self.flag(*if_exists, "if-exists");
        self.flag(*keep_times, "keep-ts");
        self.flag(*keep_owner, "keep-own");
        self.flag(*symlink_no_follow, "symlink-no-follow");
        self.option("chmod", chmod);
        self.option("chown", chown);
        // All calls of a COPY have the same flags.
        let call = sources.iter().find_map(|source| match source {
            CopySource::Artifact { call, .. } => Some(call),
            CopySource::Path(_) | CopySource::Heredoc(_) => None,
        });
        if let Some(call) = call {
            self.call_flags(call);
        }
        for source in sources {
            match source {
                CopySource::Path(path) => self.word(path),
                CopySource::Artifact { call, path } => self.artifact_of(call, path),
                CopySource::Heredoc(heredoc) => self.heredoc(heredoc, false),
            }
        }
        self.word(destination);
    }

    fn call_flags(&mut self, call: &Call<Resolved>) {
        self.option("platform", &call.platforms);
        self.flag(call.pass_args, "pass-args");
        self.flag(call.allow_privileged, "allow-privileged");
        self.toggle("auto-skip", &call.auto_skip);
    }

    fn call(&mut self, call: &Call<Resolved>) {
        self.call_flags(call);
        self.word(written(&call.target));
        self.words.extend(arguments(&call.args));
    }

    fn function(&mut self, call: &Do<Resolved>) {
        let Do { function, span: _, args, pass_args, allow_privileged } = call;
        self.flag(*pass_args, "pass-args");
        self.flag(*allow_privileged, "allow-privileged");
        match function {
            FunctionReference::Settled { written, .. } | FunctionReference::Dynamic(written) => {
                self.word(written);
            }
        }
        self.words.extend(arguments(args));
    }

    fn import(&mut self, import: &Import<Resolved>) {
        let Import { project, span: _, alias, pass_args, allow_privileged } = import;
        self.flag(*pass_args, "pass-args");
        self.flag(*allow_privileged, "allow-privileged");
        match project {
            ProjectReference::Settled { written, .. } | ProjectReference::Dynamic(written) => {
                self.word(written);
            }
        }
        self.words.extend(alias.iter().map(|alias| format!("AS {}", alias.value)));
    }

    fn condition(&mut self, stmt: &If<Resolved>) {
        if let Some(branch) = stmt.branches.first() {
            self.step_flags(&branch.condition.flags);
            self.command(&branch.condition.command);
        }
    }

    fn each(&mut self, stmt: &For<Resolved>) {
        self.option("sep", &stmt.separators);
        self.step_flags(&stmt.flags);
        self.push(&stmt.variable.value);
        self.push("IN");
        self.word(&stmt.items);
    }

    fn argument(&mut self, Arg { required, global, name, kind, default }: &Arg) {
        self.flag(*required, "required");
        self.flag(*global, "global");
        let kind = kind.as_ref().map(|kind| format!(": {}", argument_type(&kind.value))).unwrap_or_default();
        let default = default.as_ref().map(|default| format!("={}", default.raw)).unwrap_or_default();
        self.words.push(format!("{}{kind}{default}", name.value));
    }

    fn probe(&mut self, probe: &Probe) {
        let Probe { interval, timeout, start_period, start_interval, retries, command } = probe;
        self.option("interval", interval);
        self.option("timeout", timeout);
        self.option("start-period", start_period);
        self.option("start-interval", start_interval);
        self.option("retries", retries);
        self.push("CMD");
        self.command(command);
    }

    fn cache(&mut self, CacheStmt { path, id, sharing, chmod, persist }: &CacheStmt) {
        self.option("id", id);
        self.option("sharing", sharing);
        self.option("chmod", chmod);
        self.flag(*persist, "persist");
        self.word(path);
    }

    fn artifact(&mut self, save: &SaveArtifact) {
        let SaveArtifact {
            source,
            destination,
            local,
            if_exists,
            always,
            force,
            keep_times,
            keep_owner,
            symlink_no_follow,
        } = save;
        self.flag(*if_exists, "if-exists");
        self.flag(*always, "always");
        self.flag(*force, "force");
        self.flag(*keep_times, "keep-ts");
        self.flag(*keep_owner, "keep-own");
        self.flag(*symlink_no_follow, "symlink-no-follow");
        self.word(source);
        self.words.extend(destination.iter().map(|name| name.raw.clone()));
        self.words.extend(local.iter().map(|path| format!("AS LOCAL {}", path.raw)));
    }

    fn image(&mut self, save: &SaveImage) {
        let SaveImage { names, push, insecure, no_manifest_list, cache_hint, cache_from, without_labels } =
            save;
        self.flag(*push, "push");
        self.flag(*insecure, "insecure");
        self.flag(*no_manifest_list, "no-manifest-list");
        self.flag(*cache_hint, "cache-hint");
        self.option("cache-from", cache_from);
        self.flag(*without_labels, "without-earthly-labels");
        self.all(names);
    }
}

fn written(target: &Reference) -> &Word {
    match target {
        Reference::Settled { written, .. }
        | Reference::Pattern { written, .. }
        | Reference::Dynamic(written) => written,
    }
}

fn arguments(args: &[CallArg]) -> impl Iterator<Item = String> {
    args.iter().map(|arg| match &arg.value {
        Some(value) => format!("--{}={}", arg.name.value, value.raw),
        None => format!("--build-arg {}", arg.name.value),
    })
}

fn exec<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", words.map(|word| format!("{word:?}")).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use rb_diag::SourceMap;
    use rb_frontend::{MapWorld, ProjectRef, TargetRef, TargetRequest};

    use super::*;
    use crate::resolve::{resolve, statements};

    /// Returns the lines of all statements of a target `t` with this body.
    fn lines(body: &str) -> Vec<String> {
        told(body, describe)
    }

    /// Returns what is told of each of them.
    fn told(body: &str, tell: fn(&Stmt<Resolved>) -> String) -> Vec<String> {
        let text = format!("VERSION 1\nt:\n{body}u:\nF:\n    FUNCTION\n");
        let parse = rb_syntax::parse(&SourceMap::default().add("Buildfile", text.as_str()));
        assert!(parse.diagnostics.is_empty(), "{:?}", parse.diagnostics);
        let world =
            MapWorld::default().with_file("Buildfile", text).with_file("lib/Buildfile", "VERSION 1\nu:\n");
        let project = ProjectRef::Local { dir: String::new() };
        let target = TargetRef { project: project.clone(), name: "t".to_owned() };
        let request = [TargetRequest::one(target, Default::default())];
        let mut future = std::pin::pin!(resolve(&world, &request));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(program) = future.as_mut().poll(&mut context) else {
            panic!("a world of maps answers at once")
        };
        let (program, _) = program.map_err(|errors| format!("{errors:?}")).expect("resolves");
        let file = program.loaded(&project).expect("was read");
        statements(file.recipe("t").expect("is there")).map(tell).collect()
    }

    #[test]
    fn a_statement_is_its_own_line() {
        for line in [
            "FROM --platform=linux/$arch scratch",
            "FROM @host --bind=/usr --fingerprint='cc --version'",
            "LOCALLY",
            "RUN --network=none --privileged --no-cache --mount=type=tmpfs,target=/t --secret=A=b --push make  all",
            "RUN --no-cache=$fresh [\"a b\",\"\\\"\"]",
            "COPY --dir --if-exists --keep-ts --chmod=644 --chown=a:b a 'b c' d",
            "COPY --parents a/./b c",
            "COPY --link a b",
            "ARG --required name",
            "ARG level: enum(low, high)=low",
            "LET a=b",
            "SET a=b c",
            "ENV A=b",
            "WORKDIR /w",
            "USER me:us",
            "ENTRYPOINT [\"a\"]",
            "CMD run it",
            "SHELL [\"/bin/bash\",\"-c\"]",
            "EXPOSE 80 90/udp",
            "VOLUME /a /b",
            "LABEL a=b c=\"d e\"",
            "HEALTHCHECK NONE",
            "HEALTHCHECK --interval=5s --retries=2 CMD curl localhost",
            "STOPSIGNAL SIGINT",
            "HOST db 10.0.0.1",
            "CACHE --id=x --sharing=shared /c",
            "SAVE ARTIFACT --if-exists --always --force a b AS LOCAL c",
            "SAVE IMAGE --push --insecure a:1 b:$x",
            "BUILD --platform=linux/amd64 --platform=linux/arm64 --pass-args +u --a=1 --a=2",
            "DO --pass-args +F --a=\"b c\"",
            "IMPORT --allow-privileged ./lib AS l",
        ] {
            assert_eq!(lines(&format!("    {line}\n")), [line]);
        }
    }

    #[test]
    fn of_a_block_it_is_the_first_line_and_its_statements_have_their_own() {
        let body = "    IF --no-cache [ a = b ]\n        FOR --sep=, x IN a,b # c\n            RUN \\\n                # d\n                e\n        \
                    END\n    ELSE\n        WAIT\n            BUILD +u\n        END\n    END\n";
        let expected = ["IF --no-cache [ a = b ]", "FOR --sep=, x IN a,b", "RUN e", "WAIT", "BUILD +u"];
        let found: Vec<String> =
            lines(body).iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn line_breaks_are_shown() {
        assert_eq!(lines("    RUN <<EOF\na\nb\nEOF\n"), ["RUN <<EOF\\na\\nb\\nEOF"]);
        assert_eq!(lines("    RUN echo 'a\n  b'\n"), ["RUN echo 'a\\n  b'"]);
    }

    #[test]
    fn a_title_is_short() {
        for (body, title) in [
            ("    RUN make  all\n", "RUN make  all"),
            ("    RUN <<EOF\n  a b\nc\nEOF\n", "RUN <<EOF (a b…)"),
            ("    RUN <<'EOF'\n\none\nEOF\n", "RUN <<'EOF' (one)"),
            ("    RUN <<EOF\nEOF\n", "RUN <<EOF"),
            ("    RUN echo 'a\n  b'\n", "RUN echo 'a…"),
        ] {
            assert_eq!(told(body, super::title), [title]);
        }
    }
}
