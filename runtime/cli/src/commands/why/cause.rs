//! Why a step has to run, as a value, and in words.
//!
//! The words here are those of `rb why` and of `--expect-cached` alike.

use rb_api::{GoneBecause, KeyPart, Miss, PartKind};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::super::record::files::{ChangeKind, FileChange};
use super::super::table::utc;
use crate::progress::clean;

/// Longer values are shown around what differs.
const LONGEST_SHOWN: usize = 60;

/// So much is shown before and behind what differs.
const AROUND: usize = 20;

/// Why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub(in crate::commands) enum Cause {
    /// There is no record of an earlier build of its target.
    NeverBuilt,
    /// It was built, and the record of that build keeps no parts.
    NoParts { build: String },
    /// The statement is new.
    NewStep,
    /// A statement before it is no longer there.
    StepGone { name: String },
    /// What it works on is made by another step than before.
    OtherInput { was: String, now: String },
    /// A file.
    File { path: String, change: ChangeKind, was: Option<String>, now: Option<String> },
    /// Files of a folder of which no list is kept.
    Files,
    /// A line of an ignore file, and a file that it brought in or took away.
    IgnoreRule { pattern: String, added: bool, paths: Vec<String> },
    /// An image stands for something else, or is another one.
    Image { was: String, now: String },
    /// What lies elsewhere is not what was fetched, and what it is now nobody has fetched yet.
    Elsewhere { source: String },
    /// What is mounted somewhere.
    MountContent { place: String },
    /// A part of the key by its kind and name.
    Part { kind: PartKind, name: String, was: Option<String>, now: Option<String> },
    /// The same parts in another order.
    Order,
    /// It was made, and the result is no longer stored.
    Evicted { because: Option<GoneBecause>, at_unix: Option<i64> },
    /// It was told not to look.
    NoCache,
    /// Another version of rb made it.
    OtherVersion { was: u32, now: u32 },
    /// It failed the last time.
    Failed { message: Option<String> },
    /// The last build ended before it was done.
    Unfinished,
    /// Nothing that enters its key differs, as far as the records tell.
    Unknown,
}

impl Cause {
    /// Returns what the engine says that no comparison of records can know better.
    pub(super) fn certain(miss: &Miss) -> Option<Self> {
        match miss {
            Miss::Gone { because, at_unix } => Some(Self::Evicted { because: *because, at_unix: *at_unix }),
            Miss::IgnoreCache { inherited_from: None } => Some(Self::NoCache),
            Miss::SchemaChanged { was, now } => Some(Self::OtherVersion { was: *was, now: *now }),
            Miss::IgnoreCache { inherited_from: Some(_) }
            | Miss::NeverSeen
            | Miss::Untold
            | Miss::DefinitionChanged { .. }
            | Miss::InputChanged { .. } => None,
        }
    }

    /// Takes a change of a file.
    pub(super) fn of_file(change: FileChange) -> Self {
        let FileChange { path, kind, was, now } = change;
        Self::File { path, change: kind, was, now }
    }

    /// Says it in one line.
    pub(in crate::commands) fn words(&self) -> String {
        let text = match self {
            Self::NeverBuilt => "never built before".to_owned(),
            Self::NoParts { build } => {
                format!("not known: build {build} made it, and that record, of an older rb, keeps no parts")
            }
            Self::NewStep => "the step is new".to_owned(),
            Self::StepGone { name } => format!("the step `{name}` before it is no longer there"),
            Self::OtherInput { was, now } => format!("it works on `{now}`, and did on `{was}`"),
            Self::File { path, change, was, now } => file(path, *change, was.as_deref(), now.as_deref()),
            Self::Files => {
                "files that it takes have changed; which ones is not known, as no list of them is kept"
                    .to_owned()
            }
            Self::IgnoreRule { pattern, added, paths } => ignored(pattern, *added, paths),
            Self::Image { was, now } => format!("the image has changed: {was} -> {now}"),
            Self::Elsewhere { source } => {
                format!("`{source}` is not what was fetched, and what it is now shows when it is fetched")
            }
            Self::MountContent { place } if place.starts_with("input ") => {
                "the text that it writes has changed".to_owned()
            }
            Self::MountContent { place } => format!("what is mounted at `{place}` has changed"),
            Self::Part { kind, name, was, now } => part(*kind, name, was.as_deref(), now.as_deref()),
            Self::Order => "the order of its variables or mounts has changed".to_owned(),
            Self::Evicted { because, at_unix } => gone(*because, *at_unix),
            Self::NoCache => "it was told not to use the cache".to_owned(),
            Self::OtherVersion { .. } => {
                "its result was made by another version of rb, which recognised results in another way"
                    .to_owned()
            }
            Self::Failed { message: None } => "it failed in the last build".to_owned(),
            Self::Failed { message: Some(message) } => format!("it failed in the last build: {message}"),
            Self::Unfinished => "the last build ended before it was done".to_owned(),
            Self::Unknown => {
                "not known: nothing that enters its key differs from the last build's".to_owned()
            }
        };
        clean(&text, false)
    }
}

fn file(path: &str, change: ChangeKind, was: Option<&str>, now: Option<&str>) -> String {
    let path = if path.is_empty() { "the folder".to_owned() } else { format!("`{path}`") };
    let arrow = match (was, now) {
        (Some(was), Some(now)) => format!(": {was} -> {now}"),
        (Some(_) | None, _) => String::new(),
    };
    match change {
        ChangeKind::Content => format!("file {path} has changed{arrow}"),
        ChangeKind::Executable => format!("the executable bit of {path} has changed{arrow}"),
        ChangeKind::Mode => format!("the mode of {path} has changed{arrow}"),
        ChangeKind::Added => format!("file {path} was added"),
        ChangeKind::Removed => format!("file {path} was removed"),
        ChangeKind::Type => format!("{path} has become something else{arrow}"),
        ChangeKind::Inside => {
            format!("something in {path} has changed; of so many files no more is kept{arrow}")
        }
    }
}

fn ignored(pattern: &str, added: bool, paths: &[String]) -> String {
    const SHOWN: usize = 3;
    let what = match (pattern.is_empty(), added) {
        (true, _) => "the ignore rules have changed".to_owned(),
        (false, true) => format!("the ignore rule `{pattern}` was added"),
        (false, false) => format!("the ignore rule `{pattern}` was removed"),
    };
    if paths.is_empty() {
        return what;
    }
    let names: Vec<String> = paths.iter().take(SHOWN).map(|path| format!("`{path}`")).collect();
    let more = match paths.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let does = if added != pattern.starts_with('!') { "leaves out" } else { "lets in" };
    format!("{what}, which {does} {}{more}", names.join(", "))
}

fn gone(because: Option<GoneBecause>, at_unix: Option<i64>) -> String {
    let at = at_unix.map_or_else(String::new, |at| format!(" at {} UTC", utc(at)));
    match because {
        None => "its result is no longer stored".to_owned(),
        Some(
            because @ (GoneBecause::Removed
            | GoneBecause::Cap
            | GoneBecause::Quota
            | GoneBecause::Age
            | GoneBecause::Pruned),
        ) => format!("its result was evicted{at}, {}", because.policy().unwrap_or_default()),
        Some(GoneBecause::Unsynced) => {
            format!("the machine went down before its result was on the disk (noticed{at})")
        }
        Some(GoneBecause::Lost) => format!("its result was evicted: a part of it was missing{at}"),
        Some(GoneBecause::Damaged) => format!("its result was evicted: it was found damaged{at}"),
    }
}

fn part(kind: PartKind, name: &str, was: Option<&str>, now: Option<&str>) -> String {
    let named = |what: &str| if name.is_empty() { what.to_owned() } else { format!("{what} `{name}`") };
    let what = match kind {
        PartKind::Command => "the command".to_owned(),
        PartKind::Env => named("ENV"),
        PartKind::Arg => named("ARG"),
        PartKind::Variable => named("variable"),
        PartKind::Directory => "the working directory".to_owned(),
        PartKind::User => "the user".to_owned(),
        PartKind::Network => "the network".to_owned(),
        PartKind::Security => "what the step may do".to_owned(),
        PartKind::Mount => named("the mount at"),
        PartKind::Cache => named("the cache mount at"),
        PartKind::Secret => named("the secret in"),
        PartKind::Agent => named("the ssh agent at"),
        PartKind::Host => named("the host name"),
        PartKind::Setting => named("the setting"),
        PartKind::Platform => "the platform".to_owned(),
        PartKind::Action => named("what it does to files:"),
        PartKind::Files => "files".to_owned(),
        PartKind::Include => named("the path"),
        PartKind::Exclude => named("the ignore rule"),
        PartKind::Layers | PartKind::Image => named("the image"),
        PartKind::Toolchain => "this machine's packages or what is shown of it".to_owned(),
        PartKind::Fingerprint => named("what is said by"),
        PartKind::Repository => named("of the repository the"),
        PartKind::Download => named("the file of the web"),
        PartKind::Definition => "what it does".to_owned(),
    };
    match (was, now) {
        (Some(was), Some(now)) => {
            let (was, now) = around(was, now);
            format!("{what} has changed: {was} -> {now}")
        }
        (None, Some(now)) => format!("{what} was added: {}", quoted(now)),
        (Some(was), None) => format!("{what} was removed: {}", quoted(was)),
        (None, None) => format!("{what} has changed"),
    }
}

fn quoted(text: &str) -> String {
    let text = clean(&text.replace('\n', "⏎"), false);
    if text.width() <= LONGEST_SHOWN {
        return format!("`{text}`");
    }
    let head: String = text.chars().take(LONGEST_SHOWN).collect();
    format!("`{head}…`")
}

/// Shows two values; of long ones what differs, with a little around it.
fn around(was: &str, now: &str) -> (String, String) {
    if was.width() <= LONGEST_SHOWN && now.width() <= LONGEST_SHOWN {
        return (quoted(was), quoted(now));
    }
    let (was, now): (Vec<char>, Vec<char>) = (was.chars().collect(), now.chars().collect());
    let head = was.iter().zip(&now).take_while(|(was, now)| was == now).count();
    let rest = was.len().min(now.len()) - head;
    let tail = was.iter().rev().zip(now.iter().rev()).take(rest).take_while(|(was, now)| was == now).count();
    let cut = |text: &[char]| {
        let start = head.saturating_sub(AROUND);
        let end = (text.len() - tail + AROUND).min(text.len());
        let end = end.min(start + AROUND + LONGEST_SHOWN);
        let before = if start > 0 { "…" } else { "" };
        let behind = if end < text.len() { "…" } else { "" };
        let middle: String = text.get(start..end).unwrap_or_default().iter().collect();
        format!("`{before}{}{behind}`", clean(&middle.replace('\n', "⏎"), false))
    };
    (cut(&was), cut(&now))
}

/// Returns what differs between the parts of two keys, but for the files behind a digest and the layers of an image.
pub(super) fn of_parts(was: &[&KeyPart], now: &[&KeyPart]) -> Vec<Cause> {
    let named = |part: &&KeyPart| (part.kind, part.name.clone());
    let mut left: Vec<&KeyPart> = was.to_vec();
    let mut causes = Vec::new();
    for part in now {
        let same = left.iter().position(|old| old == part);
        let old = same.or_else(|| left.iter().position(|old| named(old) == named(part)));
        let old = old.map(|at| left.remove(at));
        if old == Some(part) || matches!(part.kind, PartKind::Files | PartKind::Layers) && old.is_some() {
            continue;
        }
        causes.push(Cause::Part {
            kind: part.kind,
            name: part.name.clone(),
            was: old.map(|old| old.value.clone()),
            now: Some(part.value.clone()),
        });
    }
    causes.extend(left.into_iter().map(|old| Cause::Part {
        kind: old.kind,
        name: old.name.clone(),
        was: Some(old.value.clone()),
        now: None,
    }));
    // The key of a repository's tree follows from its other parts: it is told where none of them says why it is another.
    let is_repository = |cause: &Cause| matches!(cause, Cause::Part { kind: PartKind::Repository, .. });
    if causes.iter().filter(|cause| is_repository(cause)).count() > 1 {
        let is_key = |cause: &Cause| matches!(cause, Cause::Part { name, .. } if name == "key");
        causes.retain(|cause| !is_repository(cause) || !is_key(cause));
    }
    let same = |(was, now): (&&KeyPart, &&KeyPart)| was.kind == now.kind && was.name == now.name;
    if causes.is_empty() && !was.iter().zip(now).all(same) {
        causes.push(Cause::Order);
    }
    causes
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    fn env(name: &str, value: &str) -> KeyPart {
        KeyPart::new(PartKind::Env, name, value)
    }

    fn told(was: &[KeyPart], now: &[KeyPart]) -> Vec<String> {
        let causes = of_parts(&was.iter().collect::<Vec<_>>(), &now.iter().collect::<Vec<_>>());
        causes.iter().map(Cause::words).collect()
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let (a, b) = (env("A", "1"), env("B", "2"));
        assert_eq!(told(&[a.clone(), b.clone()], &[a.clone(), b.clone()]), Vec::<String>::new());
        assert_eq!(told(from_ref(&a), &[env("A", "2")]), ["ENV `A` has changed: `1` -> `2`"]);
        assert_eq!(told(from_ref(&a), &[a.clone(), b.clone()]), ["ENV `B` was added: `2`"]);
        assert_eq!(told(&[a.clone(), b.clone()], from_ref(&b)), ["ENV `A` was removed: `1`"]);
        assert_eq!(
            told(&[a.clone(), b.clone()], &[b, a]),
            ["the order of its variables or mounts has changed"]
        );
    }

    #[test]
    fn a_commit_says_why_the_key_of_a_repository_is_another() {
        let parts = |commit: &str, key: &str| {
            [("commit", commit), ("folder", ""), ("key", key)]
                .map(|(name, value)| KeyPart::new(PartKind::Repository, name, value))
        };
        let words = told(&parts("1a", "k"), &parts("2b", "l"));
        assert_eq!(words, ["of the repository the `commit` has changed: `1a` -> `2b`"]);
        let words = told(&parts("1a", "k"), &parts("1a", "l"));
        assert_eq!(words, ["of the repository the `key` has changed: `k` -> `l`"]);
    }

    #[test]
    fn of_long_values_what_differs_is_shown() {
        let command = |word: &str| {
            KeyPart::new(PartKind::Command, "", format!("{} {word} {}", "x".repeat(200), "y".repeat(200)))
        };
        let words = told(&[command("old")], &[command("new")]).remove(0);
        assert!(words.contains(" old ") && words.contains(" new ") && words.len() < 220, "{words}");
        let words = told(&[command("old")], &[command("old\u{1b}[2J")]).remove(0);
        assert!(!words.contains('\u{1b}'), "{words}");
    }
}
