//! Targets, their arguments and artifacts, and the folders that have some.
//!
//! In: a word such as `./services/a`, `//lib+te` or `+t/bin/`. Out: candidates. A build file is parsed and no more, so of a
//! broken one what can still be read counts.

use std::path::{Path, PathBuf};

use rb_buildfile::{ArgSummary, TargetSummary, summarise, summarise_dockerfile};

use super::{Answer, Candidate, Shell};
use crate::world::{BUILDFILE_NAMES, DiskWorkspace, Place, dockerfile_in};

/// As many folders are looked into at most.
const MOST_FOLDERS: usize = 2000;

/// The user's files.
pub(super) struct Tree<'a> {
    /// Working directory.
    pub(super) cwd: &'a Path,
    /// The user's home.
    pub(super) home: Option<&'a Path>,
    /// Who asks.
    pub(super) shell: Shell,
}

impl Tree<'_> {
    /// Returns a folder's path as the user's shell will give it to us.
    fn expanded(&self, dir: &str) -> String {
        match (dir.strip_prefix('~'), self.home.and_then(Path::to_str)) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
            _ => dir.to_owned(),
        }
    }

    /// Returns what the build file of `DIR` in `DIR+target` offers: targets, then functions.
    fn offers(&self, dir: &str) -> (Vec<TargetSummary>, Vec<TargetSummary>) {
        let read = || {
            let dir = self.expanded(dir);
            let (folder, file) = dockerfile_in(self.cwd, &dir).unzip();
            let place = Place::of_dir(self.cwd, folder.unwrap_or(&dir)).ok()?;
            let workspace = DiskWorkspace::new(place.root, self.cwd.to_owned());
            if let Some(file) = file {
                let file = workspace.read_buildfile(&place.project.with_dockerfile(file)).ok()?;
                return Some((summarise_dockerfile(&file), Vec::new()));
            }
            let file = workspace.read_buildfile(&place.project).ok()?;
            Some(summarise(&rb_syntax::parse(&file).buildfile))
        };
        read().unwrap_or_default()
    }

    /// Returns the target that a word names.
    fn target(&self, word: &str) -> Option<TargetSummary> {
        let (dir, rest) = word.rsplit_once('+')?;
        let name = rest.split('/').next().unwrap_or(rest);
        self.offers(dir).0.into_iter().find(|target| target.name == name)
    }

    /// Returns the targets that a word may become, or the folders on the way to them.
    pub(super) fn targets(&self, text: &str) -> Vec<Candidate> {
        self.named(text, false)
    }

    /// As [`Self::targets`], with functions.
    pub(super) fn documented(&self, text: &str) -> Vec<Candidate> {
        self.named(text, true)
    }

    fn named(&self, text: &str, functions: bool) -> Vec<Candidate> {
        if let Some((dir, name)) = text.rsplit_once('+') {
            let (targets, more) = self.offers(dir);
            let all = targets.iter().chain(more.iter().filter(|_| functions));
            return all
                .filter(|target| target.name.starts_with(name))
                .map(|target| of_target(dir, target))
                .collect();
        }
        if text.is_empty() {
            return self.named("+", functions);
        }
        let mut found = self.folders(text);
        // A folder that is named whole stands for its targets.
        let own = Place::of_dir(self.cwd, &self.expanded(text)).is_ok() && !matches!(text, "." | "..");
        if own && text != "//" {
            found.extend(self.named(&format!("{text}+"), functions));
        }
        match found.as_slice() {
            [only] if only.word.ends_with('+') => self.named(&only.word.clone(), functions),
            _ => found,
        }
    }

    /// Returns the folders that begin with `text` and have a build file, or folders in which there may be some.
    fn folders(&self, text: &str) -> Vec<Candidate> {
        let (above, name) = text.rfind('/').map_or(("", text), |slash| text.split_at(slash + 1));
        let Some(place) = self.place(above) else { return Vec::new() };
        let mut names: Vec<String> = std::fs::read_dir(&place)
            .into_iter()
            .flatten()
            .take(MOST_FOLDERS)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|found| found.starts_with(name) && (name.starts_with('.') || !found.starts_with('.')))
            .collect();
        names.sort();
        let plus = self.shell.goes_on_behind_plus();
        let mut found = Vec::new();
        for folder in names {
            let path = place.join(&folder);
            let built = BUILDFILE_NAMES.iter().any(|name| path.join(name).is_file());
            let deeper = has_folders(&path);
            if built && plus {
                found.push(Candidate::new(format!("{above}{folder}+"), "targets"));
            }
            if deeper || (built && !plus) {
                found.push(Candidate::new(format!("{above}{folder}/"), "folder"));
            }
        }
        found
    }

    /// Returns the folder of a word's first part, which is empty or ends in `/`.
    fn place(&self, above: &str) -> Option<PathBuf> {
        match above.strip_prefix("//") {
            Some(rest) => {
                let root = Place::of_dir(self.cwd, ".").ok()?.root;
                Some(root.join(rest.trim_start_matches('/')))
            }
            None => Some(self.cwd.join(self.expanded(above))),
        }
    }

    /// Returns the artifacts of targets: `DIR+target/path`.
    pub(super) fn artifacts(&self, text: &str) -> Vec<Candidate> {
        let slash = text.rfind('+').and_then(|plus| text[plus..].find('/').map(|slash| plus + slash));
        let Some(slash) = slash else {
            let saving = |found: &Candidate| {
                !found.word.contains('+')
                    || found.word.ends_with('+')
                    || self.target(&found.word).is_some_and(|target| !target.saves_artifacts.is_empty())
            };
            let found = self.targets(text).into_iter().filter(saving);
            let on = |found: Candidate| match found.word.ends_with(['+', '/']) {
                true => found,
                false => Candidate { word: format!("{}/", found.word), ..found },
            };
            return found.map(on).collect();
        };
        let (target, path) = text.split_at(slash + 1);
        let Some(summary) = self.target(target) else { return Vec::new() };
        let literal = |name: &str| !name.contains(['$', '*', '?', '[', '{', '"', '\'']);
        let saved = summary.saves_artifacts.iter().filter(|saved| literal(&saved.name));
        let one = |name: &str, doc: &str| {
            let name = name.trim_start_matches("./").trim_start_matches('/');
            name.starts_with(path).then(|| Candidate::new(format!("{target}{name}"), doc))
        };
        let all = one("*", "all of them");
        saved
            .filter_map(|saved| one(&saved.name, saved.doc.as_deref().unwrap_or_default()))
            .chain(all)
            .collect()
    }

    /// Returns the arguments of a target, or the values of the one that `text` names.
    pub(super) fn arguments(&self, target: &str, before: &[String], text: &str) -> Answer {
        let body = text.strip_prefix("--").unwrap_or_default();
        if let Some((name, value)) = body.split_once('=') {
            return self.value(target, name, value).behind(&format!("--{name}="));
        }
        let given = |name: &str| {
            let is = |word: &String| {
                word.strip_prefix("--").is_some_and(|word| word.split('=').next().unwrap_or(word) == name)
            };
            before.iter().any(is)
        };
        let mut args = self.target(target).map(|target| target.args).unwrap_or_default();
        args.sort_by_key(|arg| !arg.required);
        let args = args
            .iter()
            .filter(|arg| !given(&arg.name))
            .map(|arg| Candidate::new(format!("--{}=", arg.name), about(arg)));
        let help = Candidate::new("--help", "Show what the target is for, what it takes and what it makes");
        Answer::Words(args.chain([help]).filter(|found| found.word.starts_with(text)).collect())
    }

    /// Returns the values of an argument that are known: those of its type, or its default.
    pub(super) fn value(&self, target: &str, name: &str, text: &str) -> Answer {
        let args = self.target(target).map(|target| target.args).unwrap_or_default();
        let Some(arg) = args.into_iter().find(|arg| arg.name == name) else { return Answer::none() };
        let kind = arg.kind.as_deref().unwrap_or_default();
        let choices = kind.strip_prefix("enum(").and_then(|rest| rest.strip_suffix(')'));
        let plain = |value: &&String| !value.is_empty() && !value.contains(['$', '{', '"', '\'', '\\']);
        let default = arg.default.as_ref().filter(plain);
        let values: Vec<String> = match (choices, kind) {
            (Some(choices), _) => choices.split(',').map(|choice| choice.trim().to_owned()).collect(),
            (None, "bool") => vec!["true".to_owned(), "false".to_owned()],
            (None, "path") => return Answer::Files(String::new()),
            (None, _) => default.cloned().into_iter().collect(),
        };
        let note = |value: &String| if Some(value) == default { "default" } else { "" };
        let fitting = values.into_iter().filter(|value| value.starts_with(text));
        Answer::Words(fitting.map(|value| Candidate { help: note(&value).to_owned(), word: value }).collect())
    }
}

fn of_target(dir: &str, target: &TargetSummary) -> Candidate {
    Candidate::new(format!("{dir}+{}", target.name), first_sentence(target.doc.as_deref(), &target.name))
}

/// Says what an argument is: its comment, its type, whether it has to be there.
fn about(arg: &ArgSummary) -> String {
    let doc = first_sentence(arg.doc.as_deref(), &arg.name);
    let notes = [
        arg.kind.clone(),
        arg.required.then(|| "required".to_owned()),
        arg.default
            .as_ref()
            .filter(|default| !default.is_empty())
            .map(|default| format!("default {default}")),
    ];
    let notes = notes.into_iter().flatten().collect::<Vec<_>>().join(", ");
    match (doc.is_empty(), notes.is_empty()) {
        (_, true) => doc,
        (true, false) => notes,
        (false, false) => format!("{doc} ({notes})"),
    }
}

/// Returns the first line of a comment, without the name that it begins with.
fn first_sentence(doc: Option<&str>, name: &str) -> String {
    let line = doc.and_then(|doc| doc.trim().lines().next()).unwrap_or_default();
    let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(char::is_whitespace));
    rest.unwrap_or(line).trim().to_owned()
}

/// Tells whether there are folders in a folder.
fn has_folders(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().take(MOST_FOLDERS).flatten();
    entries
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
}
