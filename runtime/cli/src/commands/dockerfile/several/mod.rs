//! Several Dockerfiles in one build: what `rb bake` asks for.
//!
//! In: [`Part`]s, each with flags as `rb build` takes them and with contexts that are other parts; a part stands behind those it
//! names. Out: one job of the engine, on which each part is planned once and all are solved at once: what two of them share is
//! one vertex, and a part that another takes as a context is in its graph.
//!
//! | module | idea |
//! | --- | --- |
//! | `session` | what all lend, under names that do not clash |
//! | `names` | steps are called by their part |
//! | `make` | planned, solved, written, told of |
//! | `answers` | `--check` and `--call` of each |

mod answers;
mod make;
mod names;
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use rb_api::PullPolicy;

use self::session::Together;
use super::order::Order;
use crate::args::{BuildOptions, CallChoice, DockerfileArgs, OutputOptions};
use crate::commands::record::Asked;
use crate::commands::workbench::Workbench;
use crate::environment::Environment;
use crate::progress::terminal_columns;
use crate::report::{self, Failure};
use crate::settings::given::Given;
use crate::settings::{self, ProgressMode, Settings};

/// What is asked for.
pub(in crate::commands) struct Several {
    /// What it is called: `bake app lib`.
    pub(in crate::commands) title: String,
    /// Options of all.
    pub(in crate::commands) options: BuildOptions,
    /// Each behind those it takes as contexts.
    pub(in crate::commands) parts: Vec<Part>,
    /// Where digests and names are written, by part.
    pub(in crate::commands) metadata_file: Option<PathBuf>,
    /// What stood behind `rb bake`.
    pub(in crate::commands) words: Vec<String>,
}

/// What is done of it where it goes on from a step that failed.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands) struct Again {
    /// Results are written.
    pub(in crate::commands) writes: bool,
    /// Images, too.
    pub(in crate::commands) images: bool,
}

/// One of them.
pub(in crate::commands) struct Part {
    pub(in crate::commands) name: String,
    /// What it is for, in the user's words.
    pub(in crate::commands) description: String,
    pub(in crate::commands) args: DockerfileArgs,
    /// Contexts that are other parts: their names in the Dockerfile, and those parts.
    pub(in crate::commands) links: Vec<(String, String)>,
    /// It is not asked for, but as a context.
    pub(in crate::commands) is_context: bool,
    /// None of its results is looked up.
    pub(in crate::commands) no_cache: bool,
}

/// A part, settled.
struct Build {
    name: String,
    description: String,
    order: Order,
    links: Vec<Link>,
    is_context: bool,
}

/// A context that is another part.
struct Link {
    /// That part, by its place.
    part: usize,
    /// Its name.
    name: String,
}

/// Builds them, or answers questions about them.
///
/// `bench` is one that is open, if there is one.
pub(in crate::commands) fn execute(
    environment: &Environment,
    outer: &BuildOptions,
    several: Several,
    bench: Option<Workbench>,
    again: Option<Again>,
) -> Result<u8, Failure> {
    let start = Instant::now();
    match settle(environment, outer, several, again) {
        Ok((all, builds)) if asked(&builds).all(|build| build.order.builds()) => {
            make::make(all, &builds, bench, start)
        }
        Ok((all, builds)) => answers::answer(all, &builds, bench),
        Err(failure) => {
            if let Some(bench) = bench {
                bench.close();
            }
            Err(failure)
        }
    }
}

/// Returns those that are asked for.
fn asked(builds: &[Build]) -> impl Iterator<Item = &Build> {
    builds.iter().filter(|build| !build.is_context)
}

/// Settles all of it.
fn settle(
    environment: &Environment,
    outer: &BuildOptions,
    several: Several,
    again: Option<Again>,
) -> Result<(All, Vec<Build>), Failure> {
    let Several { title, options, parts, metadata_file, words } = several;
    // Of images that are not written nothing is to be told.
    let metadata_file = metadata_file.filter(|_| again.is_none_or(|again| again.writes && again.images));
    let common = options.over(outer.clone());
    let output = OutputOptions { metadata_file, ..OutputOptions::default() };
    let mut settings = settings::settle(&common, &output, Given::default(), environment)?;
    same_agents(&parts)?;
    let mut builds: Vec<Build> = Vec::with_capacity(parts.len());
    for part in parts {
        let mut build = settled(environment, outer, part, &builds)?;
        if let Some(Again { writes, images }) = again {
            let left_out;
            (build.order, left_out) = build.order.resumed(writes, images, false);
            let what = "no image is written, as it is not built from the beginning; --with-images writes it";
            build.order.warnings.extend(left_out.then(|| what.to_owned()));
        }
        builds.push(build);
    }
    let session = Together::of(&mut builds)?;
    join(&mut settings, &mut builds);
    tell_warnings(&settings, &builds);
    if let Some(asks) = asked(&builds).find(|build| !build.order.builds())
        && let Some(other) = asked(&builds).find(|build| build.order.called.method == CallChoice::Build)
    {
        let message = format!("`{}` is to be built and `{}` to be asked", other.name, asks.name);
        let help = "name targets of one kind, or say what is wanted of all: `--call=METHOD`";
        return Err(Failure::input(message, Some(help.to_owned())));
    }
    Ok((All { title, settings, output, session, words }, builds))
}

/// What all have in common.
struct All {
    title: String,
    settings: Settings,
    output: OutputOptions,
    session: Together,
    words: Vec<String>,
}

/// Returns the bench that is open, or opens one.
fn bench(
    open: Option<Workbench>,
    settings: &Settings,
    command: &'static str,
    title: &str,
) -> Result<Workbench, Failure> {
    match open {
        Some(bench) => Ok(bench),
        None => Workbench::open(settings, Asked::of(command, title), Some(&settings.cwd)),
    }
}

/// Refuses agents that are one thing here and another there.
fn same_agents(parts: &[Part]) -> Result<(), Failure> {
    let mut known: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for Part { name, args, .. } in parts {
        for word in &args.ssh {
            let id = word.split('=').next().unwrap_or_default();
            let (first, there) = *known.entry(id).or_insert((name, word));
            if there != word {
                let message =
                    format!("the ssh agent `{id}` is one thing in `{first}` and another in `{name}`");
                let help = format!("give one of them another id, or build them apart: `rb bake {name}`");
                return Err(Failure::input(message, Some(help)));
            }
        }
    }
    Ok(())
}

/// Settles one, behind those before it.
fn settled(
    environment: &Environment,
    outer: &BuildOptions,
    part: Part,
    before: &[Build],
) -> Result<Build, Failure> {
    let Part { name, description, args, links, is_context, no_cache } = part;
    let read = Order::settle(environment, outer.clone(), args);
    let mut order = read.map_err(|failure| failure.of_part(&name))?;
    if no_cache {
        // Of every stage, and of no other part's.
        order.options.insert("no-cache".to_owned(), String::new());
    }
    order.title.clone_from(&name);
    let mut linked = Vec::with_capacity(links.len());
    for (context, to) in links {
        let at = before.iter().position(|build| build.name == to);
        let at = at.expect("a part stands behind those it takes as contexts");
        let context = context.strip_suffix(":latest").unwrap_or(&context).to_owned();
        for (suffix, input) in inputs(&before[at]) {
            order.options.insert(format!("context:{context}{suffix}"), format!("input:{input}"));
        }
        linked.push(Link { part: at, name: to });
    }
    Ok(Build { name, description, order, links: linked, is_context })
}

/// Returns what the results of a part are called as inputs: one for each platform, or the only one.
fn inputs(build: &Build) -> Vec<(String, String)> {
    let settings = &build.order.settings;
    match settings.platforms.as_slice() {
        several @ [_, _, ..] if settings.platform_named => {
            let of_platform =
                several.iter().map(|platform| (format!("::{platform}"), input(&build.name, at(platform))));
            of_platform.collect()
        }
        _ => vec![(String::new(), input(&build.name, None))],
    }
}

fn at(platform: &rb_oci::Platform) -> Option<String> {
    Some(platform.to_string())
}

/// Names a result of a part. No folder is called so.
fn input(name: &str, platform: Option<String>) -> String {
    format!("target/{name}{}", platform.map_or_else(String::new, |platform| format!("::{platform}")))
}

/// Gives the job what each may do, and each the view of all.
fn join(settings: &mut Settings, builds: &mut [Build]) {
    for Build { order, .. } in builds {
        let own = &mut order.settings;
        settings.allow_host_network |= own.allow_host_network;
        settings.build.allow_privileged |= own.build.allow_privileged;
        settings.allowed_devices.all |= own.allowed_devices.all;
        for name in &own.allowed_devices.names {
            if !settings.allowed_devices.names.contains(name) {
                settings.allowed_devices.names.push(name.clone());
            }
        }
        for place in &own.cache_from {
            if !settings.cache_from.contains(place) {
                settings.cache_from.push(place.clone());
            }
        }
        // A tag stands for one image in all of a build.
        if own.pull == PullPolicy::Always {
            settings.pull = PullPolicy::Always;
        }
        own.display = settings.display;
    }
}

fn tell_warnings(settings: &Settings, builds: &[Build]) {
    if settings.display.mode == ProgressMode::Quiet {
        return;
    }
    let mut told: Vec<&String> = Vec::new();
    let each = builds.iter().filter(|build| !build.is_context).flat_map(|build| &build.order.warnings);
    for line in settings.warnings.iter().chain(each) {
        if !told.contains(&line) {
            report::tell(&report::warning(line, settings.display, terminal_columns()));
            told.push(line);
        }
    }
}

impl Failure {
    /// Says which of several builds this is about.
    fn of_part(self, name: &str) -> Self {
        match self {
            Self::Said { kind, message, help } => {
                Self::Said { kind, message: format!("`{name}`: {message}"), help }
            }
            Self::Diagnostics { items, sources } => {
                let items = items.into_iter().map(|item| item.with_trail(format!("for the target `{name}`")));
                Self::Diagnostics { items: items.collect(), sources }
            }
            other => other.called_from(vec![format!("for the target `{name}`")]),
        }
    }
}
