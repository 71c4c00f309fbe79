//! Values of options and of positional arguments: what an argument of the table takes, by its type, its hint or its id.

use clap::{Arg, Command, CommandFactory as _, ValueHint};
use rb_oci::Platform;

use super::targets::Tree;
use super::{Answer, Candidate, first_line};
use crate::args::TargetCall;
use crate::environment::Environment;
use crate::help::{TOPICS, first_words};
use crate::output_spec::{TYPES, cache};
use crate::settings;
use crate::settings::engine::{HERE, KnownEngine, KnownNode};
use crate::settings::keys;

/// What an argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A few words that clap knows.
    Choice,
    /// Of an option: true or false.
    Bool,
    /// Who runs steps: a name, or a path.
    Runtime,
    /// Whose launcher starts processes: a word, or a path.
    Launcher,
    /// When registries are asked: a word, or an age.
    PackPull,
    /// A file.
    File,
    /// A folder.
    Folder,
    /// `NAME=FILE`.
    NamedFile,
    /// `NAME=FOLDER`.
    NamedFolder,
    /// `FILE:…`.
    MountedFile,
    /// A platform.
    Platform,
    /// An image of the store.
    Image,
    /// A target, with what stands behind it.
    Target,
    /// A target or an image, with what stands behind it.
    TargetOrImage,
    /// A folder, a target or a function.
    Documented,
    /// A command, a topic or a target.
    Topic,
    /// `type=…,dest=…`.
    Output,
    /// `type=…,ref=…`.
    Cache,
    /// A key of `config.toml`.
    Key,
    /// An engine by name.
    Engine,
    /// A node of an engine.
    Node,
    /// What only the user knows: a name, a number, a password.
    Anything,
}

/// Returns what an argument of a command takes.
pub(super) fn wanted(command: Option<&str>, arg: &Arg) -> Wanted {
    if !arg.get_possible_values().is_empty() {
        return Wanted::Choice;
    }
    match (command, arg.get_id().as_str()) {
        (Some("rb" | "solve"), "output") | (None, "output") if !is_path(arg) => Wanted::Output,
        (_, "cache_from" | "cache_to") => Wanted::Cache,
        (Some("compile" | "logs" | "plan" | "resume" | "shell" | "why"), "words") => Wanted::Target,
        (Some("run"), "words") => Wanted::TargetOrImage,
        (Some("doc"), _) => Wanted::Documented,
        (Some("help"), "words") => Wanted::Topic,
        (Some("config"), "key") => Wanted::Key,
        (_, "engine" | "engines" | "builder") => Wanted::Engine,
        (Some("drain"), "nodes") => Wanted::Node,
        (_, "image" | "images" | "pattern" | "tag" | "run_image" | "previous_image" | "builder_image") => {
            Wanted::Image
        }
        (_, "buildpack" | "extension" | "pre_buildpack" | "post_buildpack") => Wanted::Folder,
        // A place is an image of the store, or begins with a word and a colon.
        (Some("copy"), "from" | "to") => Wanted::Image,
        (_, "platform") => Wanted::Platform,
        (_, "http_proxy") => Wanted::Bool,
        (_, "runtime") => Wanted::Runtime,
        (_, "launcher") => Wanted::Launcher,
        (_, "pull_policy") | (Some("pull-policy"), "policy") => Wanted::PackPull,
        (_, "volume") => Wanted::MountedFile,
        (_, "secret_file" | "ssh") => Wanted::NamedFile,
        (_, "local" | "oci_layout" | "build_context" | "binding") => Wanted::NamedFolder,
        _ => match arg.get_value_hint() {
            ValueHint::DirPath => Wanted::Folder,
            ValueHint::AnyPath | ValueHint::FilePath => Wanted::File,
            _ => Wanted::Anything,
        },
    }
}

fn is_path(arg: &Arg) -> bool {
    matches!(arg.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath)
}

/// Returns what the value of an option may be.
pub(super) fn of_option(environment: &Environment, tree: &Tree<'_>, arg: &Arg, text: &str) -> Answer {
    answer(environment, tree, wanted(None, arg), arg, text)
}

/// Returns what a positional argument may be.
pub(super) fn of_argument(
    environment: &Environment,
    tree: &Tree<'_>,
    command: &Command,
    arg: &Arg,
    text: &str,
) -> Answer {
    answer(environment, tree, wanted(Some(command.get_name()), arg), arg, text)
}

fn answer(environment: &Environment, tree: &Tree<'_>, wanted: Wanted, arg: &Arg, text: &str) -> Answer {
    let words = |words: Vec<Candidate>| {
        Answer::Words(words.into_iter().filter(|found| found.word.starts_with(text)).collect())
    };
    match wanted {
        Wanted::Choice => words(choices(arg)),
        Wanted::Bool => words(["true", "false"].map(|word| Candidate::new(word, "")).into()),
        Wanted::Runtime | Wanted::Launcher if text.contains('/') => Answer::Files(String::new()),
        Wanted::Runtime => words(["rb", "crun", "runc", "runsc"].map(|word| Candidate::new(word, "")).into()),
        Wanted::Launcher => words(["builder", "rb"].map(|word| Candidate::new(word, "")).into()),
        Wanted::PackPull => {
            let ages = ["hourly", "daily", "weekly", "interval="];
            let words_of_it = ["always", "if-not-present", "never"].into_iter().chain(ages);
            words(words_of_it.map(|word| Candidate::new(word, "")).collect())
        }
        Wanted::File => Answer::Files(String::new()),
        Wanted::Folder => Answer::Folders(String::new()),
        Wanted::NamedFile => behind_first(text, '=', Answer::Files),
        Wanted::NamedFolder => behind_first(text, '=', Answer::Folders),
        // Behind the colon is a path of the program's.
        Wanted::MountedFile if text.contains(':') => Answer::none(),
        Wanted::MountedFile => Answer::Files(String::new()),
        Wanted::Platform => words(platforms()),
        Wanted::Image => words(images(environment)),
        Wanted::Target => Answer::Words(tree.targets(text)),
        Wanted::TargetOrImage => {
            let images = images(environment).into_iter().filter(|found| found.word.starts_with(text));
            Answer::Words(tree.targets(text).into_iter().chain(images).collect())
        }
        Wanted::Documented => Answer::Words(tree.documented(text)),
        Wanted::Topic => {
            let commands = crate::args::Args::command();
            let topics = TOPICS.iter().filter(|topic| commands.find_subcommand(topic.name).is_none());
            let topics = topics.map(|topic| Candidate::new(topic.name, topic.about));
            let topics = topics.filter(|found| found.word.starts_with(text));
            // Statements are many, and in capitals.
            let statements =
                first_words().into_iter().filter(|word| !text.is_empty() && word.starts_with(text));
            Answer::Words(
                super::commands(&commands, text)
                    .into_iter()
                    .chain(topics)
                    .chain(statements.map(|word| Candidate::new(word, "statement")))
                    .chain(tree.documented(text))
                    .collect(),
            )
        }
        Wanted::Output => output(text),
        Wanted::Cache => cache(text),
        Wanted::Key => words(keys::KEYS.iter().map(|key| Candidate::new(key.path(), key.meaning)).collect()),
        Wanted::Engine => words(engines(environment)),
        Wanted::Node => words(nodes(environment)),
        Wanted::Anything => Answer::none(),
    }
}

fn choices(arg: &Arg) -> Vec<Candidate> {
    let values = arg.get_possible_values();
    let shown = values.iter().filter(|value| !value.is_hide_set());
    shown.map(|value| Candidate::new(value.get_name(), first_line(value.get_help()))).collect()
}

fn behind_first(text: &str, mark: char, paths: fn(String) -> Answer) -> Answer {
    match text.find(mark) {
        Some(at) => paths(text[..=at].to_owned()),
        None => Answer::none(),
    }
}

/// This machine's platform first, then others that images have.
fn platforms() -> Vec<Candidate> {
    let host = Platform::host().to_string();
    let known = [
        "linux/amd64",
        "linux/arm64",
        "linux/arm/v7",
        "linux/386",
        "linux/ppc64le",
        "linux/riscv64",
        "linux/s390x",
    ];
    let others = known.into_iter().filter(|known| *known != host).map(|known| Candidate::new(known, ""));
    std::iter::once(Candidate::new(host.as_str(), "this machine")).chain(others).collect()
}

fn images(environment: &Environment) -> Vec<Candidate> {
    let names =
        settings::state_directory(environment).ok().and_then(|root| rb_store::image_names(&root).ok());
    names.unwrap_or_default().into_iter().map(|name| Candidate::new(name, "image")).collect()
}

/// This machine, and what `config.toml` has names for.
fn nodes(environment: &Environment) -> Vec<Candidate> {
    let known = settings::read_config(environment).map(|config| config.engines).unwrap_or_default();
    let of = |(engine, known): (String, KnownEngine)| match known {
        KnownEngine::One { .. } => Vec::new(),
        KnownEngine::Nodes(nodes) => {
            let word = |(node, known): (String, KnownNode)| {
                Candidate::new(format!("{engine}/{node}"), known.address.to_string())
            };
            nodes.into_iter().map(word).collect()
        }
    };
    known.into_iter().flat_map(of).collect()
}

fn engines(environment: &Environment) -> Vec<Candidate> {
    let known = settings::read_config(environment).map(|config| config.engines).unwrap_or_default();
    let known = known.into_iter().map(|(name, engine)| Candidate::new(name, engine.to_string()));
    std::iter::once(Candidate::new(HERE, "this machine")).chain(known).collect()
}

/// Keys of `-o` that all kinds of outputs share with at least one other.
const OUTPUT_KEYS: [(&str, &str); 5] = [
    ("dest=", "file or folder; - is stdout"),
    ("name=", "name of the image"),
    ("tar=", "false writes a folder"),
    ("compression=", "of layers"),
    ("push=", "on to the registry"),
];

/// Keys of caches that several kinds share, or that are needed.
const CACHE_KEYS: [(&str, &str); 12] = [
    ("ref=", "name in a registry"),
    ("dest=", "folder that is written"),
    ("src=", "folder that is read"),
    ("mode=", "max writes all steps"),
    ("ignore-error=", "go on where it cannot be written"),
    ("compression=", "of layers"),
    ("scope=", "of gha: caches apart"),
    ("name=", "of s3, azblob: name of the cache"),
    ("bucket=", "of s3"),
    ("region=", "of s3"),
    ("account_url=", "of azblob"),
    ("container=", "of azblob"),
];

fn output(text: &str) -> Answer {
    fields(text, "what is written", &OUTPUT_KEYS, &TYPES)
}

fn cache(text: &str) -> Answer {
    fields(text, "where it lies", &CACHE_KEYS, &cache::KINDS)
}

/// Fields between commas, of which the last is being typed.
fn fields(
    text: &str,
    kind: &'static str,
    keys: &[(&'static str, &'static str)],
    kinds: &[&'static str],
) -> Answer {
    let start = text.rfind(',').map_or(0, |comma| comma + 1);
    let (before, field) = text.split_at(start);
    let Some((key, value)) = field.split_once('=') else {
        let all = std::iter::once(("type=", kind)).chain(keys.iter().copied());
        let free = all.filter(|(key, _)| key.starts_with(field) && (before.is_empty() == (*key == "type=")));
        return Answer::Words(free.map(|(key, help)| Candidate::new(key, help)).collect()).behind(before);
    };
    let before = format!("{before}{key}=");
    let values: &[&str] = match key {
        "type" => kinds,
        "mode" => &["max", "min"],
        "compression" => &["gzip", "zstd", "uncompressed"],
        "tar" | "push" | "force-compression" | "oci-mediatypes" | "ignore-error" => &["true", "false"],
        "dest" | "src" => return Answer::Files(before),
        _ => &[],
    };
    let fitting = values.iter().filter(|known| known.starts_with(value));
    Answer::Words(fitting.map(|known| Candidate::new(*known, "")).collect()).behind(&before)
}

/// Returns what the last of the words behind a target or an image may be.
pub(super) fn behind(tree: &Tree<'_>, command: &Command, artifact: bool, words: &[String]) -> Answer {
    let Some((text, before)) = words.split_last() else { return Answer::none() };
    let is_target = |word: &String| TargetCall::is_target(word.as_ref());
    match command.get_name() {
        "run" | "shell" => {
            // The first word that is no argument begins the program's command line.
            let own = before.iter().skip(1).all(|word| word.starts_with("--") && word != "--");
            match before.first().filter(|word| is_target(word) && own && text.starts_with("--")) {
                Some(target) => tree.arguments(target, before, text),
                None => Answer::Files(String::new()),
            }
        }
        name => {
            // A word behind a bare `--NAME` is its value, whatever it looks like.
            let bare = |word: &&String| word.starts_with("--") && !word.contains('=');
            let begins = |at: &usize| at.checked_sub(1).and_then(|at| before.get(at)).filter(bare).is_none();
            let named =
                |at: &usize| before.get(*at).is_some_and(|word| !word.starts_with('-') && is_target(word));
            let target = (0..before.len()).rev().filter(begins).find(named).and_then(|at| before.get(at));
            let Some(target) = target else { return Answer::none() };
            let named =
                before.last().and_then(|word| word.strip_prefix("--")).filter(|name| !name.contains('='));
            match named {
                Some(name) => tree.value(target, name, text),
                None if text.starts_with('-') => tree.arguments(target, before, text),
                None if artifact => Answer::Files(String::new()),
                None if name == "rb" => Answer::Words(tree.targets(text)),
                None => Answer::none(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments of which nothing is known beforehand.
    const FREE: &[&str] = &[
        "address",
        "insecure_registry",
        "flatten",
        "flatten_exclude",
        "depth",
        "api",
        "version",
        "id",
        "jobs",
        "build_arg",
        "allow_device",
        "secret",
        "memory",
        "memory_swap",
        "memory_budget",
        "cpus",
        "cpuset_cpus",
        "pids_limit",
        "shm_size",
        "ulimit",
        "cgroup_parent",
        "epoch",
        "annotation",
        "env",
        "user",
        "workdir",
        "entrypoint",
        "mount",
        "tmpfs",
        "publish",
        "hostname",
        "stop_timeout",
        "add_host",
        "name",
        "names",
        "username",
        "password",
        "host",
        "filter",
        "since",
        "between",
        "build",
        "builds",
        "step",
        "max_used_space",
        "ids",
        "target",
        "label",
        "unsetenv",
        "unsetlabel",
        "timestamp",
        "no_cache_filter",
        "policy",
        "pull",
        "allow",
        "call",
        "isolation",
        "cpu_shares",
        "cpu_period",
        "cpu_quota",
        "cpuset_mems",
        "resource",
        "attest",
        "retry",
        "retry_delay",
        // Of bake files.
        "list",
        "set",
        "var",
        "sbom",
        "provenance",
        "targets",
        // Of buildpacks.
        "exec_env",
        "insecure_registry",
        "default_process",
        "creation_time",
        "workspace",
        "buildpack_registry",
        "uid",
        "gid",
        "cache",
        "cache_image",
        "mirror",
        "stacks",
        "url",
        "words",
        // Of engines.
        "node",
        "weight",
    ];

    #[test]
    fn of_every_argument_it_is_known_what_it_takes() {
        fn walk(command: &Command, unknown: &mut Vec<String>) {
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let takes = arg.get_num_args().is_some_and(|count| count.takes_values());
                let of = arg.is_positional().then(|| command.get_name());
                if takes && wanted(of, arg) == Wanted::Anything && !FREE.contains(&arg.get_id().as_str()) {
                    unknown.push(format!("{} {}", command.get_name(), arg.get_id()));
                }
            }
            command.get_subcommands().for_each(|command| walk(command, unknown));
        }
        let mut table = crate::args::Args::command();
        table.build();
        let mut unknown = Vec::new();
        walk(&table, &mut unknown);
        assert_eq!(unknown, Vec::<String>::new());
    }

    #[test]
    fn outputs_are_completed_field_by_field() {
        let told = |text: &str| match output(text) {
            Answer::Words(found) => found.into_iter().map(|found| found.word).collect::<Vec<_>>().join(" "),
            Answer::Files(before) => format!("files {before}"),
            Answer::Folders(before) => format!("folders {before}"),
        };
        assert_eq!(told(""), "type=");
        assert_eq!(told("type=lo"), "type=local");
        assert_eq!(told("type=oci,de"), "type=oci,dest=");
        assert_eq!(told("type=oci,dest=./x"), "files type=oci,dest=");
        assert_eq!(told("type=oci,compression=z"), "type=oci,compression=zstd");
        let told = |text: &str| match cache(text) {
            Answer::Words(found) => found.into_iter().map(|found| found.word).collect::<Vec<_>>().join(" "),
            Answer::Files(before) => format!("files {before}"),
            Answer::Folders(before) => format!("folders {before}"),
        };
        assert_eq!(told("type=az"), "type=azblob");
        assert_eq!(told("type=s3,bu"), "type=s3,bucket=");
        assert_eq!(told("type=gha,mode="), "type=gha,mode=max type=gha,mode=min");
    }
}
