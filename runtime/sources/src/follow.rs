//! What paths of a folder lead to through symbolic links, so that it is taken along.
//!
//! In: a folder and paths in it. Out: patterns for every link on the way and for where the way ends. Links are read as
//! inside a root: an absolute target starts at the folder, `..` stops there. Source: `local.followpaths` of BuildKit.

use std::collections::VecDeque;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::SourceError;

/// As many as the kernel follows.
const LINKS: usize = 40;

/// Returns include patterns for what `paths` (no wildcards) lead to. A way that ends nowhere or in a circle is taken as
/// far as it goes; a name that is no UTF-8 cannot be a pattern and ends it too.
pub fn follow(folder: &Path, paths: &[String]) -> Result<Vec<String>, SourceError> {
    let mut patterns = Vec::new();
    for path in paths {
        let mut links = 0;
        let mut at = PathBuf::new();
        let mut todo: VecDeque<PathBuf> = steps(Path::new(path)).collect();
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
                    steps(&target)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .rev()
                        .for_each(|step| todo.push_front(step));
                }
                Err(error) if is_plain(&error) => at = next,
                Ok(_) => break,
                Err(source) => return Err(SourceError::Read { path: folder.join(next), source }),
            }
        }
        patterns.extend(literal(&at));
    }
    patterns.sort();
    patterns.dedup();
    Ok(patterns)
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
        follow(folder.path(), &[path.to_owned()]).expect("follows")
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
}
