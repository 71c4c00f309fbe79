//! Reads cases, runs them and tells how what came differs from what was expected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rb_buildfile::BuildfileFrontend;
use rb_diag::{Diagnostic, ErrorKind, Severity, SourceMap, Span};
use rb_frontend::{
    BuildPlan, BuildRequest, Frontend, MapWorld, PlannedOutput, ProjectRef, SavedArtifact, TargetOutput,
    TargetRef,
};
use rb_llb::State;
use rb_oci::{History, ImageConfig, Platform};

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
                    other => panic!("{}: kind {other}", self.name),
                };
            }
            "image" => {
                let (name, config) = value.split_once(' ').unwrap();
                self.images.push((name.to_owned(), config.to_owned()));
            }
            "symlink" => self.symlinks.push(value.to_owned()),
            "unreadable" => self.unreadable.push(value.to_owned()),
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
        self.unreadable.iter().fold(world, |world, path| world.with_unreadable(path))
    }

    /// Runs the case; returns what was planned where no error was expected, and adds the codes that came.
    pub(crate) fn run(&self, codes: &mut BTreeSet<&'static str>) -> Result<Option<String>, String> {
        let world = self.world();
        let request = request(&self.request);
        let result = block_on(BuildfileFrontend.plan(&world, &request));
        let (found, plan) = match result {
            Ok(plan) => (plan.warnings.clone(), Some(plan)),
            Err(errors) => (errors, None),
        };
        codes.extend(found.iter().map(|found| found.code));
        self.compare(&found, world.sources())?;
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

/// Reads `./dir+target --A=1`.
pub(crate) fn request(text: &str) -> BuildRequest {
    let mut words = text.split_whitespace();
    let (dir, name) = words.next().unwrap().split_once('+').unwrap();
    let root = ProjectRef::Local { dir: String::new() };
    let arg = |word: &str| {
        let (name, value) = word.strip_prefix("--").unwrap().split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    BuildRequest {
        target: TargetRef { project: root.join(dir), name: name.to_owned() },
        args: words.map(arg).collect(),
        platform: "linux/amd64".parse::<Platform>().unwrap(),
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
    let mut text = show_target(&plan.target);
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
            && image.config != plan.target.config
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
