//! Reads cases, runs them and tells how what came differs from what was expected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use rb_buildfile::BuildfileFrontend;
use rb_diag::{Diagnostic, ErrorKind, Severity, SourceMap, Span};
use rb_frontend::{
    Answer, BuildOptions, BuildPlan, BuildRequest, Effect, Frontend, Gateway, GitFacts, ImageRequest,
    MapWorld, PlannedOutput, ProjectRef, Query, Repository, RepositoryRequest, ResolvedImage, SavedArtifact,
    TargetOutput, TargetRef, TargetRequest, WantedTarget, Workspace, World, WorldError,
};
use rb_llb::State;
use rb_oci::{History, ImageConfig, Platform};

use crate::builder;

/// One case of a file.
#[derive(Debug)]
pub(crate) struct Case {
    /// File it stands in.
    pub file: String,
    /// What follows `---`.
    pub name: String,
    request: String,
    expected: Vec<Expected>,
    files: Vec<(String, String)>,
    images: Vec<(String, String)>,
    symlinks: Vec<String>,
    unreadable: Vec<String>,
    /// Command, exit code, output.
    commands: Vec<(String, i32, String)>,
    /// Files of whatever is made by copying, by their paths.
    built: Vec<(String, String)>,
    git: bool,
    options: BuildOptions,
    defaults: BTreeMap<String, String>,
    /// What must have been asked of the world, in order.
    asked: Option<Vec<String>>,
    /// Labels of what cannot be made.
    failing: Vec<String>,
    /// Rows of the reference that the case shows.
    pub rows: Vec<String>,
}

/// One diagnostic that must come.
#[derive(Debug)]
struct Expected {
    severity: Severity,
    place: String,
    code: String,
    message: String,
    help: Option<String>,
    trail: Vec<String>,
    kind: ErrorKind,
}

/// Reads all cases below a folder, sorted by file.
pub(crate) fn cases(folder: &Path) -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "build"));
    files.sort();
    assert!(!files.is_empty(), "no cases in {}", folder.display());
    files.iter().flat_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).unwrap();
    let file = path.file_name().unwrap().to_string_lossy().into_owned();
    let parts = text.split("\n--- ").enumerate().filter_map(|(at, part)| match at {
        0 => part.strip_prefix("--- "),
        _ => Some(part),
    });
    parts.map(|part| case(&file, part)).collect()
}

fn case(file: &str, text: &str) -> Case {
    let (name, mut rest) = text.split_once('\n').unwrap();
    let mut case = Case {
        file: file.to_owned(),
        name: name.trim().to_owned(),
        request: String::new(),
        expected: Vec::new(),
        files: Vec::new(),
        images: Vec::new(),
        symlinks: Vec::new(),
        unreadable: Vec::new(),
        commands: Vec::new(),
        built: Vec::new(),
        git: false,
        options: BuildOptions {
            version: "0.0.0".to_owned(),
            build_sha: "5ba0".to_owned(),
            ..BuildOptions::default()
        },
        defaults: BTreeMap::new(),
        asked: None,
        failing: Vec::new(),
        rows: Vec::new(),
    };
    while let Some((line, after)) = rest.split_once('\n') {
        if !case.directive(line) {
            break;
        }
        rest = after;
    }
    let text = format!("=== Buildfile\n{}\n", rest.trim_end_matches('\n'));
    for part in text.split("=== ").skip(1) {
        let (path, content) = part.split_once('\n').unwrap();
        case.files.push((path.trim().to_owned(), content.to_owned()));
    }
    case
}

impl Case {
    /// Takes a line of the head; returns whether it was one.
    fn directive(&mut self, line: &str) -> bool {
        if let Some(request) = line.strip_prefix("> ") {
            self.request = request.to_owned();
            return true;
        }
        let Some((keyword, value)) = line.strip_prefix("# ").and_then(|rest| rest.split_once(": ")) else {
            return false;
        };
        match keyword {
            "error" => self.expected.push(expected(Severity::Error, value)),
            "warning" => self.expected.push(expected(Severity::Warning, value)),
            "help" => self.expected.last_mut().unwrap().help = Some(value.to_owned()),
            "trail" => self.expected.last_mut().unwrap().trail.push(value.to_owned()),
            "kind" => {
                self.expected.last_mut().unwrap().kind = match value {
                    "environment" => ErrorKind::Environment,
                    "build" => ErrorKind::Build,
                    other => panic!("{}: kind {other}", self.name),
                };
            }
            "image" => {
                let (name, config) = value.split_once(' ').unwrap();
                self.images.push((name.to_owned(), config.to_owned()));
            }
            "symlink" => self.symlinks.push(value.to_owned()),
            "unreadable" => self.unreadable.push(value.to_owned()),
            "failing" => self.failing.push(value.to_owned()),
            "row" => self.rows.extend(value.split_whitespace().map(str::to_owned)),
            "git" => self.git = true,
            "default" => {
                let (name, value) = value.split_once('=').unwrap();
                self.defaults.insert(name.to_owned(), value.to_owned());
            }
            "option" => match value {
                "push" => self.options.push = true,
                "ci" => self.options.ci = true,
                "strict" => self.options.strict = true,
                "allow-privileged" => self.options.allow_privileged = true,
                here if here.starts_with("here=") => self.options.here = here[5..].to_owned(),
                other => panic!("{}: option {other}", self.name),
            },
            // `# command: CODE TEXT => OUTPUT`, with `\\n` for the end of a line in either.
            "command" => {
                let (code, rest) = value.split_once(' ').unwrap();
                let (command, output) = rest.split_once(" =>").unwrap();
                let lines = |text: &str| text.replace("\\n", "\n");
                let output = lines(output.strip_prefix(' ').unwrap_or(output));
                self.commands.push((lines(command), code.parse().unwrap(), output));
            }
            "builder" => {
                let (images, files) = builder::of(value);
                self.images.extend(images);
                self.built.extend(files);
            }
            "built" => {
                let (path, text) = value.split_once(" => ").unwrap();
                self.built.push((path.to_owned(), text.replace("\\n", "\n")));
            }
            "asked" => self.asked.get_or_insert_default().extend(match value {
                "nothing" => None,
                what => Some(what.to_owned()),
            }),
            _ => return false,
        }
        true
    }

    fn world(&self) -> MapWorld {
        let mut world = MapWorld::default();
        for (path, content) in &self.files {
            world = world.with_file(path, content.as_str());
        }
        for (name, config) in &self.images {
            let config: ImageConfig = serde_json::from_str(config).unwrap();
            world = world.with_image(name, config);
        }
        let world = self.symlinks.iter().fold(world, |world, path| world.with_symlink(path));
        let world = self.unreadable.iter().fold(world, |world, path| world.with_unreadable(path));
        let world = self
            .commands
            .iter()
            .fold(world, |world, (command, code, output)| world.with_command(command, *code, output));
        let built =
            |world: MapWorld, (path, text): &(String, String)| world.with_built_file(path, text.as_str());
        let world = self.built.iter().fold(world, built);
        if self.git { world.with_git(facts()) } else { world }
    }

    /// Runs the case; returns what was planned where no error was expected, and adds the codes that came.
    pub(crate) fn run(&self, codes: &mut BTreeSet<&'static str>) -> Result<Option<String>, String> {
        let world = self.world();
        let request = BuildRequest {
            options: self.options.clone(),
            defaults: self.defaults.clone(),
            ..request(&self.request)
        };
        let outer = Failing { world: &world, labels: &self.failing };
        let result = block_on(BuildfileFrontend.plan(&outer, &request));
        let (found, plan) = match result {
            Ok(plan) => ([plan.failures.clone(), plan.warnings.clone()].concat(), Some(plan)),
            Err(errors) => (errors, None),
        };
        codes.extend(found.iter().map(|found| found.code));
        if let Some(helpless) = found.iter().find(|found| found.help.is_none()) {
            return Err(format!("without help:\n{}", show(helpless, world.sources())));
        }
        self.compare(&found, world.sources())?;
        if self.asked.as_ref().is_some_and(|asked| *asked != world.asked()) {
            let asked: String = world.asked().iter().map(|what| format!("# asked: {what}\n")).collect();
            return Err(format!("asked:\n{asked}"));
        }
        match plan {
            Some(plan) => Ok(Some(show_plan(&plan, world.sources()))),
            None if self.expected.is_empty() => Err("failed without a diagnostic".to_owned()),
            None => Ok(None),
        }
    }

    fn compare(&self, found: &[Diagnostic], sources: &SourceMap) -> Result<(), String> {
        let shown: Vec<String> = found.iter().map(|found| show(found, sources)).collect();
        let fits = found.len() == self.expected.len()
            && self.expected.iter().zip(found).all(|(expected, found)| expected.fits(found, sources));
        if fits { Ok(()) } else { Err(format!("found:\n{}", shown.concat())) }
    }
}

/// A world in which some targets cannot be made.
struct Failing<'a> {
    world: &'a MapWorld,
    labels: &'a [String],
}

impl World for Failing<'_> {
    fn workspace(&self) -> &dyn Workspace {
        self.world
    }

    fn gateway(&self) -> &dyn Gateway {
        self
    }
}

#[async_trait]
impl Gateway for Failing<'_> {
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        self.world.resolve_image(request).await
    }

    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        self.world.resolve_repository(request).await
    }

    async fn query(&self, state: &State, query: Query) -> Result<Answer, WorldError> {
        self.world.query(state, query).await
    }

    async fn settle(&self, effects: &[Effect]) -> Result<(), WorldError> {
        let failing = effects.iter().find_map(|effect| match effect {
            Effect::Make { label, .. } => self.labels.iter().find(|failing| *failing == label),
            _ => None,
        });
        match failing {
            Some(label) => {
                Err(WorldError::Failed { kind: ErrorKind::Build, message: format!("{label} cannot be made") })
            }
            None => self.world.settle(effects).await,
        }
    }
}

fn expected(severity: Severity, text: &str) -> Expected {
    let (place, rest) = text.split_once(' ').unwrap();
    let (code, message) = rest.split_once(": ").unwrap();
    Expected {
        severity,
        place: place.to_owned(),
        code: code.to_owned(),
        message: message.to_owned(),
        help: None,
        trail: Vec::new(),
        kind: ErrorKind::Input,
    }
}

impl Expected {
    fn fits(&self, found: &Diagnostic, sources: &SourceMap) -> bool {
        found.severity == self.severity
            && place(found, sources) == self.place
            && found.code.rsplit("::").next() == Some(self.code.as_str())
            && found.message.contains(&self.message)
            && (self.help.is_none() || self.help == found.help)
            && (self.trail.is_empty() || self.trail == found.trail)
            && self.kind == found.kind
    }
}

/// Writes a diagnostic as a case would expect it.
fn show(found: &Diagnostic, sources: &SourceMap) -> String {
    let severity = if found.severity == Severity::Error { "error" } else { "warning" };
    let code = found.code.rsplit("::").next().unwrap();
    let mut text = format!("# {severity}: {} {code}: {}\n", place(found, sources), found.message);
    found.help.iter().for_each(|help| text.push_str(&format!("# help: {help}\n")));
    found.trail.iter().for_each(|step| text.push_str(&format!("# trail: {step}\n")));
    text
}

fn place(found: &Diagnostic, sources: &SourceMap) -> String {
    found.labels.first().map_or("-".to_owned(), |label| show_span(label.span, sources))
}

fn show_span(span: Span, sources: &SourceMap) -> String {
    let file = sources.get(span.source).unwrap();
    let (start, end) = (file.position(span.start), file.position(span.end));
    let name = if file.name == "Buildfile" { String::new() } else { format!("{}:", file.name) };
    if start.line == end.line {
        format!("{name}{}:{}-{}", start.line, start.column, end.column)
    } else {
        format!("{name}{}:{}-{}:{}", start.line, start.column, end.line, end.column)
    }
}

/// Reads `./dir+target --A=1 ./svc/*+other`; `-k` in front keeps going.
pub(crate) fn request(text: &str) -> BuildRequest {
    let root = ProjectRef::Local { dir: String::new() };
    let mut targets: Vec<TargetRequest> = Vec::new();
    let mut keep_going = false;
    for word in text.split_whitespace() {
        if word == "-k" {
            keep_going = true;
            continue;
        }
        if let Some(arg) = word.strip_prefix("--") {
            let (name, value) = arg.split_once('=').unwrap();
            targets.last_mut().unwrap().args.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let (dir, name) = word.split_once('+').unwrap();
        let (dir, dockerfile) =
            rb_syntax::dockerfile_of(dir).map_or((dir, None), |(dir, file)| (dir, Some(file)));
        let of = |folder: ProjectRef| {
            dockerfile.map_or_else(|| folder.clone(), |file| folder.with_dockerfile(file))
        };
        let far = Repository::parse(dir).ok().filter(|_| !dir.starts_with('.'));
        let root = match &far {
            Some((repository, _)) => {
                ProjectRef::Remote { repository: repository.clone(), dir: String::new() }
            }
            None => root.clone(),
        };
        let dir = far.as_ref().map_or(dir, |(_, folder)| folder.as_str());
        let wanted = match dir.split_once("/*") {
            Some((dir, rest)) => WantedTarget::Each {
                project: of(root.join(dir)),
                glob: format!("*{rest}"),
                name: name.to_owned(),
            },
            None => WantedTarget::One(TargetRef { project: of(root.join(dir)), name: name.to_owned() }),
        };
        targets.push(TargetRequest { wanted, args: BTreeMap::new(), typed: Some(word.to_owned()) });
    }
    BuildRequest {
        targets,
        keep_going,
        defaults: BTreeMap::new(),
        platforms: vec!["linux/amd64".parse::<Platform>().unwrap()],
        user_platform: "linux/arm64".parse::<Platform>().unwrap(),
        native_platform: "linux/amd64".parse::<Platform>().unwrap(),
        options: BuildOptions::default(),
    }
}

/// What git knows where a case says `# git: yes`.
fn facts() -> GitFacts {
    let text = str::to_owned;
    GitFacts {
        hash: text("0123456789abcdef0123456789abcdef01234567"),
        short_hash: text("01234567"),
        branch: text("main"),
        tag: text("v1.2.0"),
        refs: vec![text("main"), text("v1.2.0")],
        origin_url: text("https://user:pass@example.org/acme/app.git"),
        origin_url_scrubbed: text("https://example.org/acme/app.git"),
        project_name: text("acme/app"),
        commit_timestamp: text("1700000000"),
        author_timestamp: text("1690000000"),
        author: text("ann@example.org"),
        author_email: text("ann@example.org"),
        author_name: text("Ann"),
        co_authors: vec![text("bob@example.org")],
    }
}

/// Runs a future whose world answers at once.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

fn show_plan(plan: &BuildPlan, sources: &SourceMap) -> String {
    let mut text: String = plan.targets.iter().map(|target| show_target(target)).collect();
    let mut shown = BTreeMap::new();
    for (label, state) in &plan.roots {
        section(&mut text, &format!("root {label}"), &show_state(state, sources, &mut shown));
    }
    for output in &plan.outputs {
        let (title, state) = match output {
            PlannedOutput::Image { label, image } => {
                let push = if image.push { " --push" } else { "" };
                (format!("image {label}{push} {}", image.names.join(" ")), &image.state)
            }
            PlannedOutput::Artifact { label, artifact } => {
                let local = artifact.local.as_ref().unwrap();
                let into = if local.into { " (into)" } else { "" };
                (
                    format!("artifact {label} {} as {}{into}", show_artifact(artifact), local.path),
                    &artifact.state,
                )
            }
        };
        section(&mut text, &title, &show_state(state, sources, &mut shown));
        if let PlannedOutput::Image { image, .. } = output
            && !plan.targets.iter().any(|target| image.config == target.config)
        {
            text.push_str(&show_config(&image.config));
        }
    }
    text
}

fn section(text: &mut String, title: &str, body: &str) {
    let _ = write!(text, "\n== {title}\n{body}");
}

fn show_target(target: &TargetOutput) -> String {
    let host = if target.on_host { " on host" } else { "" };
    let mut text = format!("{} {}{host}\n", target.key, target.platform);
    text.push_str(&show_config(&target.config));
    for artifact in &target.artifacts {
        let _ = writeln!(text, "artifact {}", show_artifact(artifact));
    }
    text
}

fn show_artifact(artifact: &SavedArtifact) -> String {
    let many = if artifact.many { "/…" } else { "" };
    let optional = if artifact.optional { " (optional)" } else { "" };
    format!("{}{many}{optional}", artifact.path)
}

fn show_config(config: &ImageConfig) -> String {
    let mut text = format!("config {}\n", serde_json::to_string(&config.config).unwrap());
    for History { created_by, empty_layer, .. } in &config.history {
        let layer = if *empty_layer { "empty" } else { "layer" };
        let _ = writeln!(text, "{layer}  {}", created_by.as_deref().unwrap_or("?").replace('\n', "\\n"));
    }
    text
}

/// Dumps a state, or says which one it was when it was shown before.
fn show_state(state: &State, sources: &SourceMap, shown: &mut BTreeMap<String, usize>) -> String {
    if state.is_scratch() {
        return "scratch\n".to_owned();
    }
    let text = rb_llb::dump(&state.marshal(sources).unwrap().graph().unwrap());
    let next = shown.len() + 1;
    match shown.get(&text) {
        Some(number) => format!("as graph {number}\n"),
        None => {
            shown.insert(text.clone(), next);
            format!("graph {next}\n{text}")
        }
    }
}
