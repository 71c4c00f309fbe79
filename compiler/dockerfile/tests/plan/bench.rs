//! A Dockerfile with files, options and images, planned against a recording.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rb_diag::{Diagnostics, SourceMap};
use rb_dockerfile::{Options, Planned, PlannedImage, plan};
use rb_frontend::{Asked, RecordingGateway};
use rb_llb::{Graph, Op, dump};
use rb_oci::{ImageConfig, Platform};

/// What is planned.
#[derive(Default)]
pub(crate) struct Bench {
    /// By `FOLDER/path`, as the client lends folders, or by the address of a source.
    files: BTreeMap<String, String>,
    pairs: BTreeMap<String, String>,
    configs: Vec<(String, ImageConfig)>,
    missing: Vec<String>,
    moments: Vec<(String, i64)>,
    change: Option<Change>,
}

/// Sets what is no option.
type Change = Box<dyn Fn(&mut Options)>;

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) planned: Planned,
    pub(crate) asked: Asked,
    pub(crate) sources: SourceMap,
}

/// Finishes a future that waits for nothing.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a recording answers at once"),
    }
}

pub(crate) fn platform(text: &str) -> Platform {
    text.parse().expect(text)
}

impl Bench {
    /// Plans this Dockerfile.
    pub(crate) fn of(dockerfile: &str) -> Self {
        Self::default().file("dockerfile/Dockerfile", dockerfile)
    }

    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    pub(crate) fn option(mut self, name: &str, value: &str) -> Self {
        self.pairs.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Changes the config of an image.
    pub(crate) fn image(mut self, reference: &str, change: impl Fn(&mut ImageConfig)) -> Self {
        let mut config = RecordingGateway::usual_config(&platform("linux/amd64"));
        change(&mut config);
        self.configs.push((reference.to_owned(), config));
        self
    }

    /// Says that there is no such image.
    pub(crate) fn without_image(mut self, reference: &str) -> Self {
        self.missing.push(reference.to_owned());
        self
    }

    /// Says when the files of a source were changed.
    pub(crate) fn moment(mut self, identifier: &str, seconds: i64) -> Self {
        self.moments.push((identifier.to_owned(), seconds));
        self
    }

    /// Sets what is no option.
    pub(crate) fn with(mut self, change: impl Fn(&mut Options) + 'static) -> Self {
        self.change = Some(Box::new(change));
        self
    }

    pub(crate) fn gateway(&self, sources: &SourceMap) -> RecordingGateway {
        let files = self.files.clone();
        let read = move |identifier: &str, path: &str| {
            let folder = identifier.strip_prefix("local://").unwrap_or(identifier);
            files.get(&format!("{folder}/{path}")).map(|text| text.clone().into_bytes())
        };
        let gateway = RecordingGateway::new(sources.clone(), Box::new(read));
        let gateway =
            self.configs.iter().fold(gateway, |it, (name, config)| it.with_config(name, config.clone()));
        let gateway = self.missing.iter().fold(gateway, |gateway, name| gateway.without_image(name));
        self.moments.iter().fold(gateway, |gateway, (name, seconds)| gateway.with_moment(name, *seconds))
    }

    pub(crate) fn options(&self) -> Options {
        let start = Options { build_platform: platform("linux/amd64"), ..Options::default() };
        let mut options = Options::read(&self.pairs, start).expect("the options are right");
        self.change.iter().for_each(|change| change(&mut options));
        options
    }

    pub(crate) fn plan(&self) -> Result<Outcome, (Diagnostics, SourceMap)> {
        let sources = SourceMap::default();
        let gateway = self.gateway(&sources);
        match now(plan(&gateway, &self.options(), &sources)) {
            Ok(planned) => Ok(Outcome { planned, asked: gateway.asked(), sources }),
            Err(errors) => Err((errors, sources)),
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.plan().unwrap_or_else(|(errors, _)| panic!("{errors:?}"))
    }

    /// Returns the first error that stops the plan: its message, the text it points to, and its help.
    pub(crate) fn error(&self) -> (String, String, String) {
        self.errors().remove(0)
    }

    /// Returns all of them.
    pub(crate) fn errors(&self) -> Vec<(String, String, String)> {
        let Err((errors, sources)) = self.plan() else { panic!("nothing is wrong") };
        let told = |error: rb_diag::Diagnostic| {
            let at = error.labels.first().map_or_else(String::new, |label| {
                let file = sources.get(label.span.source);
                file.map(|file| file.slice(label.span).to_owned()).unwrap_or_default()
            });
            (error.message, at, error.help.unwrap_or_default())
        };
        errors.into_iter().map(told).collect()
    }
}

impl Outcome {
    pub(crate) fn image(&self) -> &PlannedImage {
        &self.planned.images[0]
    }

    pub(crate) fn graph(&self) -> Graph {
        self.graph_of(0)
    }

    pub(crate) fn graph_of(&self, image: usize) -> Graph {
        let definition = self.planned.images[image].state.marshal(&self.sources).expect("is marshalled");
        definition.graph().expect("is a graph")
    }

    /// Returns the graph as text, without places in the file.
    pub(crate) fn dump(&self) -> String {
        let lines = dump(&self.graph());
        lines.lines().map(|line| line.split("  ; ").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
    }

    /// Returns what the steps are called.
    pub(crate) fn names(&self) -> Vec<String> {
        let graph = self.graph();
        let name = |digest| graph.meta(digest).name().unwrap_or_default().to_owned();
        graph.vertices().map(|vertex| name(&vertex.digest)).collect()
    }

    /// Returns the variables of the last command.
    pub(crate) fn environment(&self) -> Vec<String> {
        let graph = self.graph();
        let mut commands = graph.vertices().filter_map(|vertex| match &vertex.op {
            Op::Exec(exec) => Some(exec.meta.env.clone()),
            _ => None,
        });
        let env = commands.next_back().expect("something runs");
        env.into_iter().filter(|line| !line.starts_with("PATH=")).collect()
    }

    pub(crate) fn history(&self) -> Vec<String> {
        let entries = self.image().config.history.iter();
        entries.map(|entry| entry.created_by.clone().unwrap_or_default()).collect()
    }

    /// Returns what the checks found.
    pub(crate) fn findings(&self) -> Vec<String> {
        self.planned
            .findings
            .iter()
            .map(|found| format!("{}: {}", found.rule.name(), found.message))
            .collect()
    }
}
