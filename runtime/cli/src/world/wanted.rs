//! Targets and patterns of one command line, found on the disk in one workspace.
//!
//! In: words as typed. Out: the workspace's root and what is wanted in it. A folder of the name counts before a pattern,
//! so a folder `a[1]` can be named. **Invariant:** all targets of a build have one workspace, as no file of one may say
//! what another one builds. Folders that lie in none (no `rb.toml`, no `.git`) are parts of the smallest folder around
//! them all. A folder that is not there is for the frontend to tell, together with what else is wrong, if any other word
//! says where the workspace is. A word that names a host and a path there, and no folder here, is of a repository
//! elsewhere; where nothing else is asked for, the workspace is that of the working directory.

use std::path::{Path, PathBuf};

use rb_diag::ErrorKind;
use rb_frontend::{ProjectRef, Repository, WantedTarget, WorldError};

use super::place::{Place, is_marked, normalise};

/// What one word names.
struct Found {
    word: String,
    place: Place,
    /// The pattern, from the place on.
    glob: Option<String>,
    name: String,
}

/// Finds what words name, or says of each that cannot be found why.
pub(crate) fn wanted(cwd: &Path, words: &[&str]) -> Result<(PathBuf, Vec<WantedTarget>), Vec<WorldError>> {
    let looked: Vec<(&str, Result<Found, WorldError>)> =
        words.iter().map(|word| (*word, find(cwd, word))).collect();
    let there: Vec<&Found> = looked.iter().filter_map(|(_, found)| found.as_ref().ok()).collect();
    let local: Vec<&Found> =
        there.iter().copied().filter(|found| found.place.project.repository().is_none()).collect();
    let there = if local.is_empty() { there } else { local };
    let root = if there.is_empty() { None } else { Some(common_root(&there).map_err(|error| vec![error])?) };
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for (word, one) in looked {
        match one {
            Ok(one) => found.push(one),
            Err(error @ WorldError::NotFound { .. }) => {
                let meant = root.as_ref().and_then(|root| absent(cwd, root, word));
                meant.map_or_else(|| errors.push(error), |one| found.push(one));
            }
            Err(error) => errors.push(error),
        }
    }
    let root = match root {
        Some(root) if errors.is_empty() => root,
        Some(_) | None => return Err(errors),
    };
    let wanted = found.into_iter().map(|Found { word: _, place, glob, name }| {
        let project = match place.project {
            far if far.repository().is_some() => far,
            near => {
                let folder = place.root.join(near.dir());
                let dir = folder.strip_prefix(&root).unwrap_or(Path::new("")).to_string_lossy().into_owned();
                let folder = ProjectRef::Local { dir };
                near.dockerfile().map_or_else(|| folder.clone(), |file| folder.with_dockerfile(file))
            }
        };
        match glob {
            Some(glob) => WantedTarget::Each { project, glob, name },
            None => WantedTarget::One(rb_frontend::TargetRef { project, name }),
        }
    });
    let wanted = wanted.collect();
    Ok((root, wanted))
}

fn input(message: String) -> WorldError {
    WorldError::Failed { kind: ErrorKind::Input, message }
}

/// Divides the folder and the Dockerfile of `DIR:Dockerfile`, unless a folder has that name.
pub(crate) fn dockerfile_in<'a>(cwd: &Path, dir: &'a str) -> Option<(&'a str, &'a str)> {
    let (folder, file) = rb_syntax::dockerfile_of(dir).filter(|_| !cwd.join(dir).is_dir())?;
    Some((if folder.is_empty() { "." } else { folder }, file))
}

fn find(cwd: &Path, word: &str) -> Result<Found, WorldError> {
    let (dir, name) = word.rsplit_once('+').unwrap_or((word, ""));
    if let Some((folder, file)) = dockerfile_in(cwd, dir)
        && !name.contains('/')
    {
        // Names of stages are told apart by nothing else.
        let found = find(cwd, &format!("{folder}+{}", name.to_ascii_lowercase()))?;
        let place = Place { project: found.place.project.with_dockerfile(file), ..found.place };
        return Ok(Found { word: word.to_owned(), place, ..found });
    }
    if name.contains('/') {
        return Err(input(format!("`{word}` names an artifact: `rb --artifact {word}` writes it")));
    }
    if let Some((project, glob)) = elsewhere(cwd, dir) {
        let place = Place { root: Place::of(cwd, Path::new(""))?.root, project };
        return match name {
            "" => Err(input(format!("`{word}` names no target: write `{dir}+NAME`"))),
            name => Ok(Found { word: word.to_owned(), place, glob, name: name.to_owned() }),
        };
    }
    let Some((plain, glob)) = divide(dir).filter(|_| !cwd.join(dir).is_dir()) else {
        let (place, target) = Place::of_target(cwd, word)?;
        return Ok(Found { word: word.to_owned(), place, glob: None, name: target.name });
    };
    if name.is_empty() {
        return Err(input(format!("`{word}` names no target: write `{dir}+NAME`")));
    }
    let refused =
        |trouble: &str| Err(input(format!("`{word}` is a pattern that is not supported: {trouble}")));
    let mut parts = glob.split('/');
    if parts.clone().any(|part| part == "..") {
        return refused("`..` stands behind a pattern");
    }
    if parts.any(|part| part.contains("**") && part != "**") {
        return refused("`**` is a part of its own, between two `/`");
    }
    let place = match plain {
        "" => Place::of(cwd, Path::new(""))?,
        plain => Place::of_dir(cwd, plain)?,
    };
    Ok(Found { word: word.to_owned(), place, glob: Some(glob), name: name.to_owned() })
}

/// Finds the project of a repository elsewhere that a word without its target names, and the pattern in it. What is a folder
/// here, or begins with one, names no such project.
pub(crate) fn elsewhere(cwd: &Path, dir: &str) -> Option<(ProjectRef, Option<String>)> {
    let first = dir.split('/').next().filter(|first| !first.is_empty() && !first.starts_with(['.', '~']))?;
    if cwd.join(first).exists() {
        return None;
    }
    let (repository, folder) = Repository::parse(dir).ok()?;
    let (plain, glob) = match divide(&folder) {
        Some((plain, glob)) => (plain.to_owned(), Some(glob)),
        None => (folder, None),
    };
    Some((ProjectRef::Remote { repository, dir: String::new() }.join(&plain), glob))
}

/// Says what is meant by a word whose folder is not there, if that would lie in the workspace at `root`.
fn absent(cwd: &Path, root: &Path, word: &str) -> Option<Found> {
    let (dir, name) = word.rsplit_once('+')?;
    if let Some((folder, file)) = dockerfile_in(cwd, dir) {
        let found = absent(cwd, root, &format!("{folder}+{name}"))?;
        let place = Place { project: found.place.project.with_dockerfile(file), ..found.place };
        return Some(Found { word: word.to_owned(), place, ..found });
    }
    let (plain, glob) = divide(dir).map_or((dir, None), |(plain, glob)| (plain, Some(glob)));
    let folder = match plain.strip_prefix("//") {
        Some(rest) => root.join(rest),
        None => normalise(&std::fs::canonicalize(cwd).ok()?.join(plain)),
    };
    let dir = folder.strip_prefix(root).ok()?.to_str()?.to_owned();
    let place = Place { root: root.to_owned(), project: ProjectRef::Local { dir } };
    Some(Found { word: word.to_owned(), place, glob, name: name.to_owned() })
}

/// Divides a path before its first part that is a pattern.
fn divide(dir: &str) -> Option<(&str, String)> {
    let first = dir.find(['*', '?', '['])?;
    let slash = dir.get(..first)?.rfind('/');
    // The slashes of `//` and `/` belong to what they begin.
    let plain = match slash {
        None => "",
        Some(slash) if dir.get(..=slash)?.chars().all(|next| next == '/') => dir.get(..=slash)?,
        Some(slash) => dir.get(..slash)?,
    };
    let glob = dir.get(slash.map_or(0, |slash| slash + 1)..)?;
    let parts: Vec<&str> = glob.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Some((plain, parts.join("/")))
}

fn common_root(found: &[&Found]) -> Result<PathBuf, WorldError> {
    let Some(first) = found.first() else { return Err(input("no target was named".to_owned())) };
    let Some(other) = found.iter().find(|other| other.place.root != first.place.root) else {
        return Ok(first.place.root.clone());
    };
    if found.iter().any(|one| is_marked(&one.place.root)) {
        let (one, two) = (first.place.root.display(), other.place.root.display());
        return Err(input(format!(
            "`{}` and `{}` lie in two workspaces, {one} and {two}: build them one after the other",
            first.word, other.word
        )));
    }
    let mut root = first.place.root.clone();
    for other in found {
        while !other.place.root.starts_with(&root) && root.pop() {}
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_begins_with_its_first_part_that_is_one() {
        let divided = |dir: &str| divide(dir).map(|(plain, glob)| format!("{plain} | {glob}"));
        for (dir, expected) in [
            ("./svc/*", "./svc | *"),
            ("./**", ". | **"),
            ("*", " | *"),
            ("s*/x", " | s*/x"),
            ("//*", "// | *"),
            ("//a/b?/./c/", "//a | b?/c"),
            ("/*", "/ | *"),
            ("../[ab]/x", ".. | [ab]/x"),
        ] {
            assert_eq!(divided(dir).as_deref(), Some(expected), "{dir}");
        }
        assert_eq!(divided("./svc"), None);
    }

    #[test]
    fn words_name_repositories_elsewhere_unless_they_name_folders() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let top = std::fs::canonicalize(dir.path()).expect("exists");
        std::fs::create_dir_all(top.join("a.example/b/c")).expect("makes");
        std::fs::create_dir_all(top.join("own")).expect("makes");
        let found = |word: &str| {
            let (root, wanted) = wanted(&top, &[word]).expect(word);
            let root = root.strip_prefix(&top).expect("below").display().to_string();
            match &wanted[0] {
                WantedTarget::One(target) => format!("{root}|{target}"),
                WantedTarget::Each { project, glob, name } => format!("{root}|{project} {glob} {name}"),
            }
        };
        assert_eq!(found("z.example/b/c:v1+t"), "|z.example/b/c:v1+t");
        assert_eq!(found("z.example/b/c/d/*:v1+t"), "|z.example/b/c/d:v1 * t");
        assert_eq!(found("a.example/b/c+t"), "a.example/b/c|+t");
        assert_eq!(found("own:Dockerfile+Build"), "own|.:Dockerfile+build");
        assert_eq!(found(":x.Dockerfile+t"), "|.:x.Dockerfile+t");
        assert_eq!(found("./own/*:Dockerfile+t"), "own|.:Dockerfile * t");
        assert_eq!(found("z.example/b/c:v1:Dockerfile+t"), "|z.example/b/c:v1:Dockerfile+t");
        let (root, both) = wanted(&top, &["z.example/b/c+t", "own+u"]).expect("found");
        assert_eq!((root, both.len()), (top.join("own"), 2));
        let errors = |word: &str| wanted(&top, &[word]).expect_err(word)[0].to_string();
        assert_eq!(errors("own/b/c+t"), "folder `own/b` does not exist");
        assert_eq!(errors("z/b+t"), "folder `z` does not exist");
        assert!(errors("z.example/b/c+").contains("names no target"));
    }

    #[test]
    fn targets_of_one_build_have_one_workspace() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let top = std::fs::canonicalize(dir.path()).expect("exists");
        for folder in ["plain/a", "plain/b/c", "plain/x[1]", "one/in", "two"] {
            std::fs::create_dir_all(top.join(folder)).expect("makes");
        }
        for marked in ["one", "two"] {
            std::fs::write(top.join(marked).join("rb.toml"), "").expect("writes");
        }
        let of = |words: &[&str]| {
            wanted(&top, words)
                .map(|(root, wanted)| (root.strip_prefix(&top).expect("below").to_owned(), wanted))
        };
        let (root, found) = of(&["plain/a+t", "./plain/b/c+u", "plain/*+v", "plain/x[1]+w"]).expect("found");
        assert_eq!(root, Path::new("plain"));
        let one = |dir: &str, name: &str| {
            let project = ProjectRef::Local { dir: dir.to_owned() };
            WantedTarget::One(rb_frontend::TargetRef { project, name: name.to_owned() })
        };
        let each = |dir: &str, glob: &str, name: &str| WantedTarget::Each {
            project: ProjectRef::Local { dir: dir.to_owned() },
            glob: glob.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(found, [one("a", "t"), one("b/c", "u"), each("", "*", "v"), one("x[1]", "w")]);
        let (root, found) = of(&["one/in+t", "one/**+u"]).expect("found");
        assert_eq!((root.as_path(), found), (Path::new("one"), vec![one("in", "t"), each("", "**", "u")]));
        for words in [["one+t", "two+t"], ["one/in+t", "plain/a+t"]] {
            let error = of(&words).expect_err("two workspaces").remove(0).to_string();
            assert!(error.contains("lie in two workspaces"), "{error}");
        }
        let words = ["none+t", "one+t", "./gone/*+t", "one/a**+t", "one/*/..+t", "one/*+", "one+t/x"];
        let errors = of(&words).expect_err("wrong");
        assert_eq!(errors.len(), 6, "{errors:?}");
        assert!(errors[5].to_string().contains("`rb --artifact one+t/x`"), "{errors:?}");
        // What may be in the workspace is for the frontend to say, with the rest.
        let (_, found) = of(&["one+t", "one/gone+t", "one/../one/no/*+t"]).expect("found");
        assert_eq!(found, [one("", "t"), one("gone", "t"), each("no", "*", "t")]);
    }
}
