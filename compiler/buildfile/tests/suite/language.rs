//! The language's reference, `grammar/LANGUAGE.md`, is held to what the compiler does.
//!
//! Each block of the reference says by its tag how it is checked; a block without one is an error.
//! * `buildfile`: a file, or several behind `=== path` lines. Comments in front say what is asked and expected:
//!   `# rb [OPTIONS] +target --NAME=value` (else every target of the file is), behind it `# error: PART` or
//!   `# warning: PART` of a message, and what only a run can tell: `# given: COMMAND prints TEXT`, `# given: COMMAND
//!   fails`, `# given: COMMAND succeeds`.
//! * `outcome`: what the block above comes to, line by line ([`outcome`]).
//! * `expression`: `expression → result` on each line.
//! * `toml`: an rb.toml without errors.
//!
//! Tables of functions, built-in arguments, flags, keys of rb.toml and limits are held against the compiler's own.

use std::collections::{BTreeMap, BTreeSet};

use rb_buildfile::{BuildfileFrontend, list_targets, load_project};
use rb_diag::{Diagnostic, Severity, SourceFile, SourceId};
use rb_expression::{Answer, Expression, FUNCTIONS, Question, Value};
use rb_frontend::{
    BuildOptions, BuildPlan, BuildRequest, Frontend, GitFacts, MapWorld, PlannedOutput, ProjectRef,
};
use rb_llb::{Op, State};
use rb_oci::ImageConfig;

use crate::harness::{block_on, request};

const TEXT: &str = include_str!("../../../../grammar/LANGUAGE.md");

/// What a shell's text stands behind, in `VERSION 1`.
const PIPEFAIL: &str = "(set -o pipefail) 2>/dev/null && set -o pipefail; ";

/// Images that examples start from.
const IMAGES: [&str; 4] = ["alpine:3.22", "alpine:3.23", "golang:1.25", "debian:13"];

/// What a Dockerfile's images are called in full.
const LIBRARY: &str = "docker.io/library/";

/// A fenced block.
struct Block {
    tag: &'static str,
    text: &'static str,
    /// Line of the fence.
    line: usize,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, usize, &'static str)> = None;
    let mut offset = 0;
    for (at, line) in TEXT.split_inclusive('\n').enumerate() {
        if let Some(tag) = line.strip_prefix("```") {
            match open.take() {
                None => open = Some((at + 1, offset + line.len(), tag.trim())),
                Some((line, start, tag)) => blocks.push(Block { tag, text: &TEXT[start..offset], line }),
            }
        }
        offset += line.len();
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// One `# rb …` of a block, with what is expected of it.
#[derive(Default)]
struct Asked {
    request: Option<String>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

struct Example {
    asked: Vec<Asked>,
    files: Vec<(String, String)>,
    commands: Vec<(String, i32, String)>,
}

impl Example {
    fn read(text: &str) -> Self {
        let mut example = Self { asked: Vec::new(), files: Vec::new(), commands: Vec::new() };
        let (mut path, mut content) = ("Buildfile".to_owned(), String::new());
        for line in text.lines() {
            if let Some(next) = line.strip_prefix("=== ") {
                let file = (std::mem::replace(&mut path, next.to_owned()), std::mem::take(&mut content));
                example.add(file);
                continue;
            }
            example.directive(line);
            content.push_str(line);
            content.push('\n');
        }
        example.add((path, content));
        example
    }

    /// Adds a file; what stands before the first `===` may be comments alone.
    fn add(&mut self, (path, content): (String, String)) {
        let empty = content.lines().all(|line| line.is_empty() || line.starts_with("# "));
        if !(empty && path == "Buildfile") {
            self.files.push((path, content));
        }
    }

    fn directive(&mut self, line: &str) {
        if let Some(request) = line.strip_prefix("# rb ") {
            self.asked.push(Asked { request: Some(request.to_owned()), ..Asked::default() });
        } else if let Some(part) = line.strip_prefix("# error: ") {
            self.last().errors.push(part.to_owned());
        } else if let Some(part) = line.strip_prefix("# warning: ") {
            self.last().warnings.push(part.to_owned());
        } else if let Some(given) = line.strip_prefix("# given: ") {
            let prints =
                given.split_once(" prints ").map(|(command, text)| (command, 0, text.replace("\\n", "\n")));
            let fails = given.strip_suffix(" fails").map(|command| (command, 1, String::new()));
            let succeeds = given.strip_suffix(" succeeds").map(|command| (command, 0, String::new()));
            let (command, code, text) = prints.or(fails).or(succeeds).expect("says how a command ends");
            self.commands.push((command.to_owned(), code, text));
        }
    }

    fn last(&mut self) -> &mut Asked {
        if self.asked.is_empty() {
            self.asked.push(Asked::default());
        }
        self.asked.last_mut().unwrap()
    }

    fn world(&self) -> MapWorld {
        let mut world = MapWorld::default().with_git(facts());
        for (path, content) in &self.files {
            world = world.with_file(path, content.as_str());
        }
        for name in IMAGES {
            let mut config = ImageConfig::default();
            config.config.set_env("PATH", "/bin");
            world = world.with_image(&format!("{LIBRARY}{name}"), config.clone()).with_image(name, config);
        }
        for (command, code, text) in &self.commands {
            world = world.with_command(command, *code, text);
        }
        world
    }

    /// Asks for what the block asks for; returns what the last request that went well comes to.
    fn run(&self) -> Result<String, String> {
        let mut last = String::new();
        for asked in &self.asked {
            match &asked.request {
                Some(request) => last = self.ask(request, asked)?.unwrap_or(last),
                None => last = self.ask_all(asked)?,
            }
        }
        if self.asked.is_empty() {
            last = self.ask_all(&Asked::default())?;
        }
        Ok(last)
    }

    /// Asks for every target of the file in the first folder.
    fn ask_all(&self, asked: &Asked) -> Result<String, String> {
        let world = self.world();
        let root = ProjectRef::Local { dir: String::new() };
        let targets = match block_on(list_targets(&world, &root)) {
            Ok(targets) => targets,
            Err(errors) => return check(&errors, asked).map(|()| String::new()),
        };
        let mut last = None;
        for target in &targets {
            let found = self.ask(&format!("+{}", target.name), asked)?;
            last = last.or(found);
        }
        last.filter(|_| asked.errors.is_empty()).map_or_else(|| Err("asks for nothing".to_owned()), Ok)
    }

    fn ask(&self, text: &str, asked: &Asked) -> Result<Option<String>, String> {
        let world = self.world();
        let (mut options, mut words) =
            (BuildOptions { version: "1.0.0".to_owned(), ..BuildOptions::default() }, text);
        while let Some((option, rest)) = words.split_once(' ').filter(|(option, _)| option.starts_with("--"))
        {
            match option {
                "--push" => options.push = true,
                "--strict" => options.strict = true,
                "--ci" => options.ci = true,
                "--allow-privileged" => options.allow_privileged = true,
                other => return Err(format!("the option {other} is none of this test")),
            }
            words = rest;
        }
        let request = BuildRequest { options, ..request(words.trim_start_matches("//")) };
        match block_on(BuildfileFrontend.plan(&world, &request)) {
            Ok(plan) => {
                check(&plan.warnings, asked).map_err(|error| format!("rb {text}: {error}"))?;
                Ok(Some(outcome(&plan, &world)))
            }
            Err(errors) => {
                check(&errors, asked).map_err(|error| format!("rb {text}: {error}")).map(|()| None)
            }
        }
    }
}

/// Holds what was found against what was expected.
fn check(found: &[Diagnostic], asked: &Asked) -> Result<(), String> {
    let of = |severity| found.iter().filter(move |found| found.severity == severity);
    let fits = |parts: &[String], severity| {
        of(severity).count() == parts.len()
            && of(severity).zip(parts).all(|(found, part)| found.message.contains(part))
    };
    if fits(&asked.errors, Severity::Error) && fits(&asked.warnings, Severity::Warning) {
        return Ok(());
    }
    let shown = found.iter().map(|found| format!("  {:?}: {}\n", found.severity, found.message));
    Err(format!("found:\n{}", shown.collect::<String>()))
}

/// What a build comes to, a line each: what was run for an answer (`ASKED`, on the host `HOST`, written by a WAIT
/// `WRITTEN`), the target's config, its artifacts, the steps of all targets with what they see beyond ENV, and what
/// is put out.
fn outcome(plan: &BuildPlan, world: &MapWorld) -> String {
    let mut lines: Vec<String> = Vec::new();
    for asked in world.asked() {
        let known = [("run ", "ASKED"), ("host ", "HOST"), ("write ", "WRITTEN")];
        let line =
            known.iter().find_map(|(start, name)| Some(format!("{name} {}", asked.strip_prefix(start)?)));
        lines.extend(line);
    }
    let config = &plan.target().config.config;
    lines.extend(
        config.env.iter().filter(|entry| !entry.starts_with("PATH=")).map(|entry| format!("ENV {entry}")),
    );
    lines.extend(config.working_dir.iter().map(|dir| format!("WORKDIR {dir}")));
    lines.extend(config.user.iter().map(|user| format!("USER {user}")));
    let json = |words: &[String]| serde_json::to_string(words).unwrap().replace("\",\"", "\", \"");
    lines.extend(config.entrypoint.iter().map(|words| format!("ENTRYPOINT {}", json(words))));
    lines.extend(config.cmd.iter().map(|words| format!("CMD {}", json(words))));
    lines.extend(config.labels.iter().map(|(name, value)| format!("LABEL {name}={value}")));
    lines.extend(config.exposed_ports.keys().map(|port| format!("EXPOSE {port}")));
    lines.extend(plan.target().artifacts.iter().map(|saved| format!("ARTIFACT {}", saved.path)));
    let mut seen = BTreeSet::new();
    let states =
        plan.roots.iter().map(|(_, state)| state).chain(plan.outputs.iter().map(|output| match output {
            PlannedOutput::Image { image, .. } => &image.state,
            PlannedOutput::Artifact { artifact, .. } => &artifact.state,
        }));
    for state in states {
        lines.extend(steps(state, world, &mut seen));
    }
    for output in &plan.outputs {
        lines.push(match output {
            PlannedOutput::Image { image, .. } => {
                format!("IMAGE {}{}", if image.push { "--push " } else { "" }, image.names.join(" "))
            }
            PlannedOutput::Artifact { artifact, .. } => {
                let local = artifact.local.as_ref().unwrap();
                format!("WRITES {}{}", local.path, if local.into { "/" } else { "" })
            }
        });
    }
    lines.join("\n") + "\n"
}

fn steps(state: &State, world: &MapWorld, seen: &mut BTreeSet<String>) -> Vec<String> {
    if state.is_scratch() {
        return Vec::new();
    }
    let definition = state.marshal(world.sources()).unwrap();
    let graph = definition.graph().unwrap();
    let mut lines = Vec::new();
    for vertex in graph.vertices().filter(|vertex| seen.insert(vertex.digest.to_string())) {
        let Op::Exec(exec) = &vertex.op else { continue };
        let shown = match exec.meta.args.as_slice() {
            [shell, flag, text] if shell == "/bin/sh" && flag == "-ec" => {
                text.strip_prefix(PIPEFAIL).unwrap_or(text).trim_end().replace('\n', "\\n")
            }
            [shell, flag, text] if shell == "/bin/sh" && flag == "-c" => text.trim_end().replace('\n', "\\n"),
            words => serde_json::to_string(words).unwrap().replace("\",\"", "\", \""),
        };
        let env: Vec<_> = exec.meta.env.iter().filter(|entry| !entry.starts_with("PATH=")).cloned().collect();
        let env = if env.is_empty() { String::new() } else { format!("   [{}]", env.join(" ")) };
        lines.push(format!("RUN {shown}{env}"));
    }
    lines
}

fn facts() -> GitFacts {
    GitFacts {
        hash: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        short_hash: "01234567".to_owned(),
        branch: "main".to_owned(),
        ..GitFacts::default()
    }
}

#[test]
fn every_block_is_as_it_says() {
    let mut failures = String::new();
    let mut above: Option<String> = None;
    for Block { tag, text, line } in blocks() {
        let mut fail = |message: String| failures.push_str(&format!("@@ {line}\n{message}\n"));
        let before = above.take();
        match tag {
            "buildfile" => match Example::read(text).run() {
                Ok(outcome) => above = Some(outcome),
                Err(message) => fail(message),
            },
            "outcome" => match before {
                Some(found) if found != text => fail(format!("comes to:\n{found}")),
                Some(_) => {}
                None => fail("there is no build above this outcome".to_owned()),
            },
            "expression" => text.lines().for_each(|line| match line.split_once(" → ") {
                Some((expression, result)) => {
                    let (found, wanted) = (value_of(expression.trim()), value_of(result.trim()));
                    if found != wanted {
                        fail(format!("{line}: is {found:?}"));
                    }
                }
                None => fail(format!("no result: {line}")),
            }),
            "toml" => {
                let world = MapWorld::default().with_file("rb.toml", text);
                if let Err(errors) = block_on(load_project(&world)) {
                    fail(format!("{errors:?}"));
                }
            }
            other => fail(format!("a block with the tag `{other}` is checked by nothing")),
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// What expressions of the reference see.
struct Scope;

impl rb_expression::Scope for Scope {
    fn variable(&self, name: &str) -> Option<Value> {
        let text = |text: &str| Some(Value::String(text.to_owned()));
        match name {
            "version" => text("1.4.2"),
            "count" => text("3"),
            _ => None,
        }
    }

    fn answer(&self, question: &Question) -> Option<Answer> {
        Some(match question {
            Question::Read { path } if path == "VERSION" => Answer::Text("1.4.2\n".to_owned()),
            Question::Read { path } if path == "Cargo.toml" => {
                Answer::Text("[package]\nversion = \"0.3.0\"\n".to_owned())
            }
            Question::Read { .. } => Answer::Missing,
            Question::Exists { path } => Answer::Exists(path == "VERSION"),
            Question::Glob { .. } => Answer::Paths(vec!["src/b.c".to_owned(), "src/a.c".to_owned()]),
        })
    }
}

fn value_of(text: &str) -> Result<Value, String> {
    let expression = Expression::parse(text).map_err(|error| error.to_string())?;
    expression.evaluate(&Scope).map_err(|stop| format!("{stop:?}"))
}

/// Rows of the tables below a heading, without those of their heads.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let start = TEXT.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no `{heading}`"));
    let body = &TEXT[start + heading.len() + 2..];
    let depth = heading.chars().take_while(|next| *next == '#').count();
    let mut rows = Vec::new();
    let mut in_table = false;
    for line in body.lines() {
        let level = line.chars().take_while(|next| *next == '#').count();
        if (1..=depth).contains(&level) {
            break;
        }
        if line.starts_with("| --- |") {
            in_table = true;
        } else if !line.starts_with('|') {
            in_table = false;
        } else if in_table {
            rows.push(line.trim_matches('|').split(" | ").map(str::trim).collect());
        }
    }
    rows
}

/// What stands in backquotes, such as `` `--a=…` ``.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_table_of_functions_is_whole() {
    let expected = FUNCTIONS.iter().map(|function| {
        let (example, result) = function.example;
        format!("| `{}` | {} | `{example}` → `{result}` |", function.signature, function.doc)
    });
    let start = TEXT.find("\n### Functions of expressions\n").expect("has the heading");
    let found: Vec<&str> = TEXT[start..].lines().skip_while(|line| !line.starts_with("| `")).collect();
    let found = found.into_iter().take_while(|line| line.starts_with('|'));
    assert_eq!(found.collect::<Vec<_>>().join("\n"), expected.collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_table_of_built_in_arguments_is_whole() {
    let rows = rows("### Built-in arguments");
    let found: BTreeSet<String> = rows.iter().flat_map(|row| quoted(row[0])).flat_map(twins).collect();
    let known: BTreeSet<String> = rb_buildfile::builtin_arguments().collect();
    assert_eq!(found, known);
}

/// `RB_…` stands for its twin too.
fn twins(name: &str) -> Vec<String> {
    let twin = name.strip_prefix("RB_").map(|short| format!("EARTHLY_{short}"));
    twin.into_iter().chain([name.to_owned()]).collect()
}

/// A flag that no command has: the help names those that there are.
const NO_FLAG: &str = "--qqqqqqqqqqqqqqqqqqqq";

fn helps(file: &str) -> Vec<String> {
    let file = SourceFile::new(SourceId::default(), "Buildfile", file);
    let unknown = |found: &Diagnostic| found.message.contains("has no flag");
    let found = rb_syntax::parse(&file).diagnostics;
    found.into_iter().filter(unknown).filter_map(|found| found.help).collect()
}

#[test]
fn the_table_of_flags_is_whole() {
    for row in rows("### Flags of all commands") {
        let command = quoted(row[0]).next().expect("names a command");
        let line = match command {
            "FROM @host" => format!("FROM @host {NO_FLAG}=x"),
            command => format!("{command} {NO_FLAG} x"),
        };
        let found = helps(&format!("VERSION 1\na:\n    {line}\n"));
        assert_eq!(found.len(), 1, "{command}: {found:?}");
        let known: BTreeSet<String> =
            quoted(&found[0]).filter(|flag| flag.starts_with("--")).map(str::to_owned).collect();
        let name = |flag: &str| flag.split(['=', ' ']).next().unwrap_or_default().to_owned();
        let shown: BTreeSet<String> = row[1..]
            .iter()
            .flat_map(|cell| quoted(cell))
            .filter(|flag| flag.starts_with("--"))
            .map(name)
            .collect();
        assert_eq!(shown, known, "{command}");
    }
}

#[test]
fn the_table_of_rb_toml_is_whole() {
    let mut known: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (place, text) in [("", "qqqqqqqqqqqq = 1"), ("capabilities.", "[capabilities]\nqqqqqqqqqqqq = 1")] {
        let world = MapWorld::default().with_file("rb.toml", text);
        let errors = block_on(load_project(&world)).expect_err("the key is unknown");
        let help = errors[0].help.clone().unwrap();
        let keys = help
            .strip_prefix("known keys: ")
            .expect("lists them")
            .split(", ")
            .map(|key| format!("{place}{key}"));
        known.insert(place, keys.collect());
    }
    let known: BTreeSet<String> = known.into_values().flatten().filter(|key| key != "capabilities").collect();
    let found: BTreeSet<String> =
        rows("### rb.toml").iter().flat_map(|row| quoted(row[0])).map(str::to_owned).collect();
    assert_eq!(found, known);
}

/// Later commands are of the language, and each is refused by its name.
#[test]
fn what_comes_later_is_refused_by_name() {
    for row in rows("### Read, and not yet done") {
        let command = quoted(row[0]).next().expect("names a command");
        let end = if matches!(command, "TRY" | "WITH DOCKER") { "\n    END" } else { "" };
        let inside = if command == "TRY" { "TRY\n        RUN x\n    FINALLY" } else { command };
        let world = MapWorld::default()
            .with_file("Buildfile", format!("VERSION 1\na:\n    FROM scratch\n    {inside}{end}\n"));
        let errors = block_on(BuildfileFrontend.plan(&world, &request("+a"))).expect_err(command);
        assert!(
            errors[0].message.contains("later version") && errors[0].message.contains(command),
            "{errors:?}"
        );
    }
}
