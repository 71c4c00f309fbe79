//! What paths of a folder lead to through symbolic links, so that it is taken along.
//!
//! In: a folder and paths in it. Out: patterns for every link on the way and for where the way ends. Links are read as
//! inside a root: an absolute target starts at the folder, `..` stops there. Source: `local.followpaths` of BuildKit.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Component, Path, PathBuf};

use rb_snapshot::View;

use crate::SourceError;

/// As many as the kernel follows.
const LINKS: usize = 40;
/// As many ways are gone, whatever wildcards match.
const WAYS: usize = 10_000;

/// Returns include patterns for what `paths` lead to; nothing where one of them leads to the folder itself, and so to all
/// of it. A part of a path that is there by its name is that name, else it may be a pattern of Go's `filepath.Match`. A
/// way that ends nowhere or in a circle is taken as far as it goes; a name that is no UTF-8 cannot be a pattern and ends it too.
pub fn follow(folder: &Path, paths: &[String]) -> Result<Option<Vec<String>>, SourceError> {
    let mut patterns = BTreeSet::new();
    let mut ways: Vec<Way> =
        paths.iter().map(|path| Way { todo: steps(Path::new(path)).collect(), links: 0 }).collect();
    let mut gone = 0;
    while let Some(way) = ways.pop() {
        gone += 1;
        if gone > WAYS {
            let reason = format!("its links lead more than {WAYS} ways");
            return Err(SourceError::Attribute { name: "local.followpaths".to_owned(), reason });
        }
        if !go(folder, way, &mut patterns, &mut ways)? {
            return Ok(None);
        }
    }
    Ok(Some(patterns.into_iter().collect()))
}

/// What of a way is still to be gone.
struct Way {
    todo: VecDeque<PathBuf>,
    links: usize,
}

/// Goes one way to its end, or to where it parts; `false` if that is the folder itself.
fn go(
    folder: &Path,
    way: Way,
    patterns: &mut BTreeSet<String>,
    ways: &mut Vec<Way>,
) -> Result<bool, SourceError> {
    let Way { mut todo, mut links } = way;
    let mut at = PathBuf::new();
    while let Some(step) = todo.pop_front() {
        if step == Path::new("..") {
            at.pop();
            continue;
        }
        let next = at.join(&step);
        match std::fs::read_link(folder.join(&next)) {
            Ok(target) if links < LINKS => {
                links += 1;
                patterns.extend(literal(&next));
                if target.is_absolute() {
                    at.clear();
                }
                put_first(&mut todo, &target);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_pattern(&step) => {
                part(folder, &at, &step, &Way { todo, links }, patterns, ways)?;
                return Ok(true);
            }
            Err(error) if is_plain(&error) => at = next,
            // A circle: it ends nowhere.
            Ok(_) => {
                patterns.extend(literal(&at));
                return Ok(true);
            }
            Err(source) => return Err(SourceError::Read { path: folder.join(next), source }),
        }
    }
    patterns.extend(literal(&at));
    Ok(!at.as_os_str().is_empty())
}

/// Goes on where a part of a path is a pattern: the pattern stays one, and each link that it matches is followed.
fn part(
    folder: &Path,
    at: &Path,
    step: &Path,
    rest: &Way,
    patterns: &mut BTreeSet<String>,
    ways: &mut Vec<Way>,
) -> Result<(), SourceError> {
    let above = literal(at);
    let below = rest.todo.iter().filter_map(|part| part.to_str());
    let parts = above.as_deref().into_iter().chain(step.to_str());
    patterns.insert(parts.clone().chain(below).collect::<Vec<_>>().join("/"));
    let pattern = parts.collect::<Vec<_>>().join("/");
    for found in View::of_directory(folder).glob(&pattern)? {
        let found = found.strip_prefix("/").unwrap_or(&found);
        let Ok(target) = std::fs::read_link(folder.join(found)) else { continue };
        if rest.links >= LINKS {
            continue;
        }
        patterns.extend(literal(found));
        let mut todo = rest.todo.clone();
        put_first(&mut todo, &target);
        if target.is_relative() {
            put_first(&mut todo, at);
        }
        ways.push(Way { todo, links: rest.links + 1 });
    }
    Ok(())
}

fn put_first(todo: &mut VecDeque<PathBuf>, path: &Path) {
    let steps: Vec<PathBuf> = steps(path).collect();
    steps.into_iter().rev().for_each(|step| todo.push_front(step));
}

fn is_pattern(step: &Path) -> bool {
    step.to_str().is_some_and(|step| step.contains(['*', '?', '[']))
}

fn steps(path: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// No link stands there, or nothing does.
fn is_plain(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Returns the pattern that means this path and nothing else; a name that is no UTF-8 has none.
pub fn literal(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| !text.is_empty())?;
    Some(
        text.chars()
            .flat_map(|letter| ['\\'].into_iter().filter(move |_| "*?[]\\!".contains(letter)).chain([letter]))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn followed(links: &[(&str, &str)], path: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(folder.path().join("real/deep")).expect("makes folders");
        std::fs::write(folder.path().join("real/deep/[f]"), "x").expect("writes");
        for (link, target) in links {
            symlink(target, folder.path().join(link)).expect("links");
        }
        follow(folder.path(), &[path.to_owned()]).expect("follows").unwrap_or_default()
    }

    #[test]
    fn links_and_their_ends_are_taken_along() {
        assert_eq!(followed(&[("a", "b"), ("b", "real/deep")], "a"), ["a", "b", "real/deep"]);
        assert_eq!(followed(&[("a", "real")], "a/deep/[f]"), ["a", "real/deep/\\[f\\]"]);
        assert_eq!(followed(&[], "real"), ["real"]);
    }

    #[test]
    fn no_way_leads_out_or_on_for_ever() {
        assert_eq!(followed(&[("a", "/real/deep")], "a"), ["a", "real/deep"]);
        assert_eq!(followed(&[("a", "../../../real")], "a"), ["a", "real"]);
        assert_eq!(followed(&[("a", "b"), ("b", "a")], "a"), ["a", "b"]);
        assert_eq!(followed(&[("a", "nowhere")], "a"), ["a", "nowhere"]);
    }

    #[test]
    fn patterns_stay_and_the_links_that_they_match_are_followed() {
        assert_eq!(
            followed(&[("lib1", "real"), ("lib2", "real/deep")], "lib*"),
            ["lib*", "lib1", "lib2", "real", "real/deep"]
        );
        assert_eq!(
            followed(&[("real/link", "deep")], "real/l?nk/[f]"),
            ["real/deep/\\[f\\]", "real/l?nk/[f]", "real/link"]
        );
        assert_eq!(followed(&[], "none*/x"), ["none*/x"]);
        assert_eq!(followed(&[("a1", "a1")], "a*"), ["a*", "a1"]);
    }

    #[test]
    fn a_way_to_the_folder_itself_is_all_of_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for path in [".", "/", "a/.."] {
            assert_eq!(follow(folder.path(), &[path.to_owned()]).expect("follows"), None, "{path}");
        }
        assert_eq!(follow(folder.path(), &[]).expect("follows"), Some(Vec::new()));
    }
}
