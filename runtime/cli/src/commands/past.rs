//! Records of earlier builds, read from the disk: found by their ids, by their targets, by their age.
//!
//! In: the state directory, which is not opened. Out: [`Past`]s. What cannot be read is none: another version may have written it.

use std::path::Path;

use rb_frontend::ProjectRef;
use rb_oci::Digest;
use rb_store::BuildFile;

use super::record::document::{Document, RecordStep, Verdict};
use super::record::files::Files;
use crate::report::Failure;

/// So many digits of an id are shown.
const ID_DIGITS: usize = 10;

/// So few digits may stand for an id.
const FEWEST_DIGITS: usize = 3;

/// What stands before an id where buildx has the names of a builder and a node, as in a metadata file.
pub(super) const REFERENCE: &str = "rb/rb/";

/// What the names of builds of Dockerfiles begin with, so that they are no names of targets.
pub(super) const DOCKERFILE: &str = "dockerfile:";

/// The same of builds of apps by buildpacks.
pub(super) const APP: &str = "app:";

/// A record and where it lies.
#[derive(Debug, Clone)]
pub(super) struct Past {
    /// What the store calls it.
    pub(super) file: BuildFile,
    pub(super) document: Document,
}

impl Past {
    /// Returns what people name it by.
    pub(super) fn id(&self) -> String {
        id(&self.file.name)
    }

    /// Reads a record; `None` if it is gone or none of ours.
    pub(super) fn read(root: &Path, file: &BuildFile) -> Option<Self> {
        let bytes = rb_store::build(root, &file.name).ok()??;
        let document = serde_json::from_slice(&bytes).ok()?;
        Some(Self { file: file.clone(), document })
    }

    /// Says that it has a step for one of these targets, and of what its key was made: of it, or any if it was asked for.
    pub(super) fn has(&self, targets: &[String]) -> bool {
        let Document { targets: asked, steps, .. } = &self.document;
        let is_one = |name: &str| targets.iter().any(|target| target == name);
        let is_asked = asked.iter().any(|target| is_one(target));
        steps.iter().any(|step| !step.own.is_empty() && (is_asked || is_one(step.target())))
    }

    /// Says that it keeps what keys were made of. One that an older rb wrote does not.
    pub(super) fn keeps_parts(&self) -> bool {
        self.document.steps.iter().any(|step| !step.own.is_empty())
    }

    /// Returns the targets whose steps it made or found, and those that were asked for by name, in no order.
    pub(super) fn built(&self) -> impl Iterator<Item = &str> {
        let Document { target, targets, steps, .. } = &self.document;
        // An older rb kept the words alone that were typed.
        let typed = target.split(' ').filter(|word| targets.is_empty() && word.contains('+'));
        let is_made =
            |step: &&RecordStep| step.step && matches!(step.verdict, Verdict::Ran | Verdict::Cached);
        let made = steps.iter().filter(is_made).map(RecordStep::target).filter(|target| !target.is_empty());
        made.chain(targets.iter().map(String::as_str)).chain(typed)
    }

    /// Says that it came to something: a build that only looked, and found that something would run, is none to compare with.
    fn came_to_something(&self) -> bool {
        let Document { outcome, steps, .. } = &self.document;
        let ran = |step: &RecordStep| step.step && matches!(step.verdict, Verdict::Ran | Verdict::Failed);
        outcome == "done" || steps.iter().any(ran)
    }

    /// Says that it is of this machine and of this workspace, or of one that this one holds or lies in: which is the root of a
    /// build depends on what was asked for.
    pub(super) fn is_near(&self, workspace: &Path) -> bool {
        self.way(workspace).is_some()
    }

    /// Returns it with its targets named as they are in a workspace near its own; as it is, if that is elsewhere.
    pub(super) fn seen_from(mut self, workspace: &Path) -> Self {
        if let Some(way) = self.way(workspace).filter(|way| *way != Way::Below(String::new())) {
            for target in &mut self.document.targets {
                *target = way.moved(target);
            }
            for step in &mut self.document.steps {
                if let Some((label, what)) = step.name.split_once(" | ") {
                    step.name = format!("{} | {what}", way.moved(label));
                }
            }
        }
        self
    }

    fn way(&self, workspace: &Path) -> Option<Way> {
        let own = Path::new(self.document.workspace.as_deref().filter(|_| !self.document.imported)?);
        if (self.document.dockerfile.is_some() || self.document.app.is_some()) && own != workspace {
            // Its names are those of its own context or app.
            return None;
        }
        let text = |path: &Path| path.to_str().map(ToOwned::to_owned);
        match own.strip_prefix(workspace) {
            Ok(below) => text(below).map(Way::Below),
            Err(_) => workspace.strip_prefix(own).ok().and_then(text).map(Way::Above),
        }
    }
}

/// Where a workspace lies, as seen from another one.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// In it, at this path; the same one, where that is empty.
    Below(String),
    /// It holds the other one, at this path.
    Above(String),
}

impl Way {
    /// Names a target of the workspace as it is named in the other; what is none stays.
    fn moved(&self, label: &str) -> String {
        let same = || label.to_owned();
        let Some((folder, name)) = label.split_once('+') else { return same() };
        // What is called `.` before a Dockerfile's colon is nothing before a plus.
        let (folder, file) = match rb_syntax::dockerfile_of(folder) {
            Some((folder, file)) => {
                (folder.strip_prefix('.').filter(|rest| rest.is_empty()).unwrap_or(folder), Some(file))
            }
            None => (folder, None),
        };
        let dir = match folder.strip_prefix("./") {
            Some(dir) => dir,
            None if folder.is_empty() || folder.starts_with("..") => folder,
            // Of a repository elsewhere.
            None => return same(),
        };
        let local = |dir: &str| ProjectRef::Local { dir: dir.to_owned() };
        let project = match self {
            Self::Below(path) => local(path).join(dir),
            Self::Above(path) => match dir.strip_prefix(path.as_str()) {
                Some("") => local(""),
                Some(inner) if inner.starts_with('/') => local("").join(inner),
                Some(_) | None => path.split('/').fold(local(""), |project, _| project.join("..")).join(dir),
            },
        };
        let project = file.map_or_else(|| project.clone(), |file| project.with_dockerfile(file));
        format!("{project}+{name}")
    }
}

/// Returns the id of the build whose record is called so.
pub(super) fn id(name: &str) -> String {
    Digest::of(name).hex().chars().take(ID_DIGITS).collect()
}

/// Returns all records that are kept, the newest first, not read yet.
pub(super) fn files(root: &Path) -> Result<Vec<BuildFile>, Failure> {
    rb_store::builds(root)
        .map_err(|error| Failure::environment("the records of builds cannot be read", &error))
}

/// Reads the records of a workspace, and of those near it, that came to something, the newest first; only those before one, if that is named. Of one
/// that names no workspace, as an older rb wrote it, it may be.
pub(super) fn of_workspace<'a>(
    root: &'a Path,
    workspace: &'a Path,
    before: Option<&BuildFile>,
) -> Result<impl Iterator<Item = Past> + 'a, Failure> {
    let mut files = files(root)?;
    if let Some(before) = before {
        files.retain(|file| file.name < before.name);
    }
    let read = files.into_iter().filter_map(move |file| Past::read(root, &file));
    let may_be =
        |past: &Past| past.document.workspace.is_none() && !past.document.imported && !past.keeps_parts();
    let found =
        read.filter(move |past| (past.is_near(workspace) || may_be(past)) && past.came_to_something());
    Ok(found.map(move |past| past.seen_from(workspace)))
}

/// Finds the last build that was begun in a folder: of targets whose workspace holds it, or of a Dockerfile or an app by somebody
/// who was there.
pub(super) fn last_in(root: &Path, folder: &Path) -> Result<Option<Past>, Failure> {
    let is_here = |Document { command, workspace, dockerfile, app, imported, .. }: &Document| {
        let in_workspace = || workspace.as_ref().is_some_and(|own| folder.starts_with(own));
        let of_dockerfile = dockerfile.as_ref().map(|of| of.folder.as_deref());
        let named = of_dockerfile.or_else(|| app.as_ref().map(|of| of.folder.as_deref()));
        let was_here = named.map(|own| own.is_some_and(|own| folder == Path::new(own)));
        command == "build" && !imported && was_here.unwrap_or_else(in_workspace)
    };
    let mut read = files(root)?.into_iter().filter_map(|file| Past::read(root, &file));
    Ok(read.find(|past| is_here(&past.document) && past.came_to_something()))
}

/// Finds the record that a word names: `@1` or `^0` is the last, others are beginnings of ids.
pub(super) fn find(root: &Path, word: &str) -> Result<Past, Failure> {
    let files = files(root)?;
    let file = name(&files, word)?;
    Past::read(root, file)
        .ok_or_else(|| Failure::input(format!("the record of build `{word}` cannot be read"), None))
}

/// Finds the file of the record that a word names.
pub(super) fn name<'a>(files: &'a [BuildFile], word: &str) -> Result<&'a BuildFile, Failure> {
    let word = word.strip_prefix(REFERENCE).unwrap_or(word);
    let list = || Some("`rb history ls` lists the builds that are kept".to_owned());
    let counted =
        word.strip_prefix('@').map(|number| number.parse::<usize>().ok().and_then(|at| at.checked_sub(1)));
    let counted = counted.or_else(|| word.strip_prefix('^').map(|number| number.parse().ok()));
    if let Some(place) = counted {
        let found = place.and_then(|place| files.get(place));
        return found.ok_or_else(|| Failure::input(format!("`{word}` names no build"), list()));
    }
    let fits =
        |file: &&BuildFile| id(&file.name).starts_with(word) || file.name.trim_end_matches(".json") == word;
    let mut found = files.iter().filter(fits).filter(|_| word.len() >= FEWEST_DIGITS);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Failure::input(
            format!("`{word}` is the beginning of several builds' ids"),
            Some("write more of its digits".to_owned()),
        )),
        (None, _) => Err(Failure::input(format!("there is no build `{word}`"), list())),
    }
}

/// Reads the list of a folder's files; `None` if it is not kept any more.
pub(super) fn list(root: &Path, digest: &Digest) -> Option<Files> {
    Files::read(&rb_store::build_list(root, digest).ok()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_of_what_was_asked_for_and_of_what_has_steps() {
        let mut step = RecordStep::of("+a | RUN x", Digest::of("x"), Verdict::Ran);
        step.own.push(0);
        let document =
            Document { targets: vec!["+all".to_owned()], steps: vec![step], ..Document::default() };
        let file = BuildFile { name: String::new(), size_bytes: 1 };
        let mut past = Past { file, document };
        let has = |past: &Past, target: &str| past.has(&[target.to_owned()]);
        assert_eq!(["+a", "+all", "+b"].map(|target| has(&past, target)), [true, true, false]);
        assert_eq!(past.built().collect::<Vec<_>>(), ["+a", "+all"]);
        assert!(past.keeps_parts());
        past.document.steps[0].own.clear();
        assert!(!past.keeps_parts() && !has(&past, "+a"));
        past.document.steps.clear();
        assert!(!has(&past, "+all"));
    }

    #[test]
    fn targets_of_a_workspace_near_are_named_from_here() {
        let moved = |own: &str, here: &str, label: &str| {
            let document = Document { workspace: Some(own.to_owned()), ..Document::default() };
            let past = Past { file: BuildFile { name: String::new(), size_bytes: 0 }, document };
            past.way(Path::new(here)).map(|way| way.moved(label))
        };
        for (own, here, label, expected) in [
            ("/w", "/w", "+a --X=./b+c", Some("+a --X=./b+c")),
            ("/w/svc", "/w", "./b+a", Some("./svc/b+a")),
            ("/w/svc", "/w", "+a --X=1", Some("./svc+a --X=1")),
            ("/w", "/w/svc", "./svc/b+a", Some("./b+a")),
            ("/w", "/w/svc", "./svc+a", Some("+a")),
            ("/w", "/w/svc/b", "./svc2+a", Some("../../svc2+a")),
            ("/w", "/w/svc", "+a", Some("..+a")),
            ("/w", "/w/svc", "example.com/x/y+a", Some("example.com/x/y+a")),
            ("/w/svc", "/w", ".:Dockerfile+a", Some("./svc:Dockerfile+a")),
            ("/w", "/w/svc", "./svc:Dockerfile+a --X=1", Some(".:Dockerfile+a --X=1")),
            ("/w", "/w/svc", "no target", Some("no target")),
            ("/w/a", "/w/b", "+a", None),
            ("/w/a", "/w/ab", "+a", None),
        ] {
            assert_eq!(moved(own, here, label).as_deref(), expected, "{own} {here} {label}");
        }
    }

    #[test]
    fn words_name_builds() {
        let file = |name: &str| BuildFile { name: name.to_owned(), size_bytes: 1 };
        let files = [file("000000000009000-1-2.json"), file("000000000008000-1-2.json")];
        let named = |word: &str| name(&files, word).map(|file| file.name.clone()).ok();
        let (first, second) = (Some(files[0].name.clone()), Some(files[1].name.clone()));
        assert_eq!((named("@1"), named("^1")), (first.clone(), second.clone()));
        assert_eq!(named(&id(&files[1].name)), second);
        assert_eq!(named(&id(&files[0].name)[..4]), first);
        assert_eq!(named(&format!("rb/rb/{}", id(&files[0].name))), first);
        assert_eq!(named("000000000009000-1-2"), first);
        for word in ["@0", "@3", "^2", "", "zzzz", &id(&files[0].name)[..2]] {
            assert_eq!(named(word), None, "{word}");
        }
    }
}
