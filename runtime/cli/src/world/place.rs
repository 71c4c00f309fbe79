//! Where a target is: the workspace's root, and the project's folder in it.
//!
//! The root is the nearest folder, from the target's own upwards, that holds `rb.toml`; else the nearest that holds
//! `.git`; else the target's own folder. `+target` alone means the nearest build file, from the working directory upwards
//! to that root, and `//dir+target` counts from the root.
//! **Invariant:** what somebody else has put above a folder decides nothing. A mark of a root counts if it belongs to the
//! user, or to whoever owns the folder that the user has named; a build file that is found upwards is the user's own.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rb_diag::{ErrorKind, nearest};
use rb_frontend::{FileKind, ProjectRef, TargetRef, WorldError};

use super::BUILDFILE_NAMES;
use super::read::entries;

/// What marks a workspace's root, strongest first.
const MARKS: [&str; 2] = ["rb.toml", ".git"];

/// A target found on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The workspace's root: absolute, symlinks resolved.
    pub(crate) root: PathBuf,
    /// The project's folder in it.
    pub(crate) project: ProjectRef,
}

impl Place {
    /// Finds the workspace of a folder, which may be relative to `cwd`.
    pub(crate) fn of(cwd: &Path, dir: &Path) -> Result<Self, WorldError> {
        let shown = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let folder = fs::canonicalize(cwd.join(dir)).map_err(|source| folder_error(cwd, shown, &source))?;
        if !folder.is_dir() {
            return Err(input(format!("`{}` is not a folder", shown.display())));
        }
        let root = root_of(&folder, rustix::process::geteuid().as_raw());
        Self::in_root(root, &folder)
    }

    /// Finds the nearest build file, from `cwd` upwards to its workspace's root; without one, the place of `cwd`.
    pub(crate) fn here(cwd: &Path) -> Result<Self, WorldError> {
        Self::nearest(cwd, rustix::process::geteuid().as_raw())
    }

    fn nearest(cwd: &Path, user: u32) -> Result<Self, WorldError> {
        let folder = fs::canonicalize(cwd).map_err(|source| folder_error(cwd, Path::new("."), &source))?;
        let root = root_of(&folder, user);
        let files = folder.ancestors().take_while(|above| above.starts_with(&root)).flat_map(|above| {
            BUILDFILE_NAMES.iter().map(|name| above.join(name)).find(|path| path.is_file())
        });
        let Some(file) = files.into_iter().next() else { return Self::in_root(root, &folder) };
        let project = file.parent().unwrap_or(&folder);
        if project != folder {
            // Also whoever may replace the file by a link to their own is not asked.
            let owners = [fs::symlink_metadata(&file), fs::metadata(&file), fs::metadata(project)];
            if let Some(owner) = owners.iter().flatten().map(|there| there.uid()).find(|owner| *owner != user)
            {
                let found = file.display();
                let help = format!("if you trust it, name its folder: `rb {}+TARGET`", project.display());
                return Err(input(format!(
                    "the nearest Buildfile, {found}, belongs to another user (number {owner}); {help}"
                )));
            }
        }
        Self::in_root(root, project)
    }

    fn in_root(root: PathBuf, folder: &Path) -> Result<Self, WorldError> {
        let inside = folder.strip_prefix(&root).unwrap_or(Path::new(""));
        let dir = inside
            .to_str()
            .ok_or_else(|| input(format!("the path `{}` is not valid UTF-8", inside.display())))?;
        Ok(Self { project: ProjectRef::Local { dir: dir.to_owned() }, root })
    }

    /// Finds the folder `DIR` of `[DIR]+name`: none is the nearest build file's, `//dir` counts from the root.
    pub(crate) fn of_dir(cwd: &Path, dir: &str) -> Result<Self, WorldError> {
        match dir.strip_prefix("//") {
            _ if dir.is_empty() => Self::here(cwd),
            Some(rest) => {
                let root = Self::of(cwd, Path::new(""))?.root;
                Self::of(&root, Path::new(rest.trim_start_matches('/')))
            }
            None => Self::of(cwd, Path::new(dir)),
        }
    }

    /// Finds the target `[DIR]+name`.
    pub(crate) fn of_target(cwd: &Path, word: &str) -> Result<(Self, TargetRef), WorldError> {
        let (dir, name) = word.rsplit_once('+').unwrap_or((word, ""));
        if name.is_empty() {
            return Err(input(format!("`{word}` names no target: write `{dir}+NAME`")));
        }
        let place = Self::of_dir(cwd, dir)?;
        let target = TargetRef { project: place.project.clone(), name: name.to_owned() };
        Ok((place, target))
    }
}

fn input(message: String) -> WorldError {
    WorldError::Failed { kind: ErrorKind::Input, message }
}

/// Tells whether a root is one by a mark of its own.
pub(super) fn is_marked(root: &Path) -> bool {
    MARKS.iter().any(|mark| fs::symlink_metadata(root.join(mark)).is_ok())
}

/// Returns the root of the workspace that a folder is in. `folder` has no links.
fn root_of(folder: &Path, user: u32) -> PathBuf {
    let owner = fs::metadata(folder).map_or(user, |there| there.uid());
    let counts = |mark: &Path| match fs::symlink_metadata(mark) {
        Ok(there) if [user, owner].contains(&there.uid()) => true,
        Ok(there) => {
            tracing::debug!(?mark, uid = there.uid(), "another user's mark of a workspace does not count");
            false
        }
        Err(_) => false,
    };
    let marked = |mark: &&str| folder.ancestors().find(|above| counts(&above.join(mark)));
    MARKS.iter().find_map(marked).unwrap_or(folder).to_owned()
}

/// Returns the folder that a path of the workspace at `root` must stay in, links resolved: the root. A path that leads
/// above it, or only seems to as it comes back by the root's own name, must stay in the last folder on its way that is
/// reached without a link: there a link leads nowhere else, whoever made it.
pub(crate) fn bound(root: &Path, path: &Path) -> PathBuf {
    if path.components().next() != Some(Component::ParentDir) {
        return root.to_owned();
    }
    let full = normalise(&root.join(path));
    let free =
        |folder: &&Path| fs::canonicalize(folder).is_ok_and(|real| real == **folder) && folder.is_dir();
    full.ancestors().skip(1).find(free).unwrap_or(Path::new("/")).to_owned()
}

/// Returns where a path of a workspace truly lies, links resolved as far as it exists; `None` where a link leads it out
/// of its [`bound`]. `path` is relative and has `..` only at its start; `root` has no links.
pub(crate) fn inside(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let full = normalise(&root.join(path));
    for above in full.ancestors() {
        match fs::canonicalize(above) {
            Ok(real) => {
                let rest = full.strip_prefix(above).unwrap_or(Path::new(""));
                let place = if rest.as_os_str().is_empty() { real } else { real.join(rest) };
                return Ok(place.starts_with(bound(root, path)).then_some(place));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                // A link that leads nowhere may lead somewhere by the time it is used.
                if above.is_symlink() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A missing folder, with the nearest one beside it.
pub(super) fn folder_error(cwd: &Path, dir: &Path, source: &io::Error) -> WorldError {
    if source.kind() != io::ErrorKind::NotFound {
        let message = format!("folder `{}` cannot be entered: {source}", dir.display());
        return WorldError::Failed { kind: ErrorKind::Environment, message };
    }
    // The first missing part is the one to name.
    let parts: Vec<PathBuf> = dir.ancestors().map(Path::to_owned).collect();
    let missing = parts.iter().rev().find(|part| !cwd.join(part).exists()).map_or(dir, PathBuf::as_path);
    let above = missing.parent().unwrap_or(Path::new(""));
    let names: Vec<String> = entries(&cwd.join(above))
        .unwrap_or_default()
        .into_iter()
        .filter(|entry| entry.kind == FileKind::Directory)
        .map(|entry| entry.name)
        .collect();
    let name = missing.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let near = nearest(&name, names.iter().map(String::as_str));
    WorldError::NotFound {
        what: format!("folder `{}`", missing.display()),
        help: near.map(|near| format!("did you mean `{}`?", above.join(near).display())),
    }
}

/// Resolves `..` by the text of an absolute path.
pub(crate) fn normalise(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn tree(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let top = fs::canonicalize(dir.path()).expect("exists");
        for file in files {
            let path = top.join(file);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("makes folders");
            fs::write(path, "").expect("writes");
        }
        (dir, top)
    }

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn the_root_is_marked_by_its_settings_before_git() {
        let (_dir, top) =
            tree(&["ws/.git/HEAD", "ws/sub/rb.toml", "ws/sub/deep/.git/HEAD", "ws/sub/deep/x", "ws/other/x"]);
        assert_eq!(root_of(&top.join("ws/sub/deep"), me()), top.join("ws/sub"));
        assert_eq!(root_of(&top.join("ws/other"), me()), top.join("ws"));
        let place = Place::of(&top, Path::new("ws/sub/deep")).expect("found");
        assert_eq!((place.root, place.project.dir()), (top.join("ws/sub"), "deep"));
    }

    #[test]
    fn the_nearest_build_file_is_found_upwards_but_not_beyond_the_root() {
        let (_dir, top) =
            tree(&["Buildfile", "ws/rb.toml", "ws/a/Earthfile", "ws/a/b/c/x", "ws/d/x", "plain/x"]);
        let here = |dir: &str| {
            let place = Place::here(&top.join(dir)).expect("found");
            (place.root.strip_prefix(&top).expect("below").to_owned(), place.project.dir().to_owned())
        };
        assert_eq!(here("ws/a/b/c"), ("ws".into(), "a".to_owned()));
        assert_eq!(here("ws/a"), ("ws".into(), "a".to_owned()));
        // Nothing up to the root: the folder itself, whose error is told as ever.
        assert_eq!(here("ws/d"), ("ws".into(), "d".to_owned()));
        assert_eq!(here("plain"), ("plain".into(), String::new()));
        let (place, target) = Place::of_target(&top.join("ws/a/b"), "//d+t").expect("found");
        assert_eq!((place.root, target.to_string().as_str()), (top.join("ws"), "./d+t"));
        let (_, target) = Place::of_target(&top.join("ws/a/b"), "//+t").expect("found");
        assert_eq!(target.to_string(), "+t");
    }

    #[test]
    fn what_another_user_put_above_counts_for_nothing() {
        let (_dir, top) = tree(&["Buildfile", "rb.toml", "mine/x"]);
        // Seen by a user who owns none of it; a folder that this user has named vouches for marks of its own owner.
        let stranger = me().wrapping_add(1);
        assert_eq!(root_of(&top.join("mine"), stranger), top);
        let error = Place::nearest(&top.join("mine"), stranger).expect_err("is another's").to_string();
        assert!(error.contains("belongs to another user") && error.contains("name its folder"), "{error}");
        if chown(top.join("mine"), Some(61_001), None).is_ok() {
            assert_eq!(root_of(&top.join("mine"), 61_001), top.join("mine"));
            assert_eq!(Place::nearest(&top.join("mine"), 61_001).expect("stays").root, top.join("mine"));
        }
    }

    #[test]
    fn links_do_not_lead_out_and_written_dots_do_to_what_has_none() {
        let (_dir, top) = tree(&["secret/f", "lib/f", "ws/in/f"]);
        let root = top.join("ws");
        for (target, link) in
            [("../../secret", "in/out"), ("/etc", "abs"), ("in", "alias"), ("nowhere", "dangling")]
        {
            symlink(target, root.join(link)).expect("links");
        }
        symlink("../secret", top.join("lib/side")).expect("links");
        symlink("/etc", top.join("lib/away")).expect("links");
        let at = |path: &str| inside(&root, Path::new(path)).expect("can be looked at");
        assert_eq!(at(""), Some(root.clone()));
        assert_eq!(at("alias/f"), Some(root.join("in/f")));
        assert_eq!(at("in/new/file"), Some(root.join("in/new/file")));
        assert_eq!(at("../lib/f"), Some(top.join("lib/f")));
        let above =
            ["../lib/away", "../lib/side/f", "../ws/in/out/f", "../../../../proc/self/cwd/Cargo.toml"];
        let below = ["in/out/f", "in/out", "abs", "abs/passwd", "dangling", "dangling/f"];
        for out in below.into_iter().chain(above) {
            assert_eq!(at(out), None, "{out}");
        }
    }
}
