//! Random edits of a project, as people, editors and `git checkout` make them.
//!
//! In: the folder, the recipe, numbers. Out: the folder and the recipe as they are then, and a line that says what was done.
//! Half of them are there to mislead who trusts times and sizes: other bytes of the same length, the time that the file had
//! before, files that change places, a way back to an earlier state with all its times.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::project::{ANCHORS, FOLDERS, Recipe, WORDS, add, content, ignore_lines, link_target, name};
use super::{Random, copy_as_it_is};

/// Names of ignore files; they and the build file are edited apart from others.
const IGNORE: [&str; 3] = [".rbignore", ".earthlyignore", ".earthignore"];

/// A project, as it can be edited, and all that it was before.
pub(super) struct Edited {
    pub(super) folder: PathBuf,
    /// Where earlier states are kept.
    pub(super) history: PathBuf,
    pub(super) states: Vec<(Recipe, Vec<String>)>,
    pub(super) recipe: Recipe,
    /// What is typed behind the target.
    pub(super) arguments: Vec<String>,
}

impl Edited {
    /// Keeps the present state for a later way back.
    pub(super) fn keep(&mut self) {
        copy_as_it_is(&self.folder, &self.history.join(self.states.len().to_string()));
        self.states.push((self.recipe.clone(), self.arguments.clone()));
    }

    /// Does one edit; returns what it was.
    pub(super) fn edit(&mut self, random: &mut Random) -> String {
        match random.below(20) {
            0..11 => self.files(random),
            11..16 => self.recipe(random),
            16 => {
                self.arguments.clear();
                for name in ["mode", "word"] {
                    if random.one_in(2) {
                        self.arguments.push(format!("--{name}={}", random.pick(&WORDS)));
                    }
                }
                format!("arguments: {:?}", self.arguments)
            }
            17 => {
                let path = self.folder.join(*random.pick(&IGNORE));
                // Two of them are an error.
                if !random.one_in(8) {
                    let removed =
                        IGNORE.iter().filter(|name| fs::remove_file(self.folder.join(name)).is_ok());
                    if removed.count() > 0 && random.one_in(2) {
                        return "removed the ignore file".to_owned();
                    }
                }
                let lines = ignore_lines(random);
                fs::write(&path, &lines).expect("writes");
                format!("wrote {lines:?} to {path:?}")
            }
            18 => self.repair(random),
            _ => self.back(random),
        }
    }

    /// Makes anew what most pieces of recipes need.
    pub(super) fn repair(&self, random: &mut Random) -> String {
        for path in FOLDERS {
            // A file may be in the way.
            fs::create_dir_all(self.folder.join(path)).ok();
        }
        for path in ANCHORS.map(|path| self.folder.join(path)) {
            if path.symlink_metadata().is_err() {
                fs::write(path, content(random)).ok();
            }
        }
        for name in &IGNORE[1..] {
            fs::remove_file(self.folder.join(name)).ok();
        }
        "made anew what was missing".to_owned()
    }

    /// What `git checkout` of an earlier commit does, and with the old times.
    fn back(&mut self, random: &mut Random) -> String {
        let number = random.below(self.states.len());
        fs::remove_dir_all(&self.folder).expect("removes");
        copy_as_it_is(&self.history.join(number.to_string()), &self.folder);
        (self.recipe, self.arguments) = self.states[number].clone();
        format!("back to state {number}")
    }

    fn recipe(&mut self, random: &mut Random) -> String {
        let index = random.below(self.recipe.targets.len());
        let piece = self.recipe.piece(index, random);
        let pieces = &mut self.recipe.targets[index].pieces;
        let at = random.below(pieces.len() + 1);
        match random.below(8) {
            0..2 => {
                pieces.insert(at, piece.clone());
                format!("+t{index}: added `{piece}` at {at}")
            }
            2 | 3 if at < pieces.len() => format!("+t{index}: removed `{}`", pieces.remove(at)),
            4 | 5 if pieces.len() > 1 => {
                let other = random.below(pieces.len());
                pieces.swap(at.min(other), other);
                format!("+t{index}: swapped {} and {other}", at.min(other))
            }
            6 => {
                self.recipe.mode = *random.pick(&WORDS);
                format!("default of mode: {}", self.recipe.mode)
            }
            7 => {
                self.recipe.remark += 1;
                "another remark".to_owned()
            }
            _ => {
                pieces.insert(0, piece.clone());
                format!("+t{index}: added `{piece}` in front")
            }
        }
    }

    fn files(&self, random: &mut Random) -> String {
        let (folders, files) = listed(&self.folder);
        let needed = |path: &Path| {
            let path = path.strip_prefix(&self.folder).expect("lies in the project");
            FOLDERS.iter().chain(&ANCHORS).any(|needed| Path::new(needed) == path)
        };
        let folder = random.pick(&folders).clone();
        let moved = random.pick(&folders).clone();
        if files.is_empty() {
            return new_file(&folder, random);
        }
        let path = random.pick(&files).clone();
        let metadata = path.symlink_metadata().expect("is there");
        let mut kind = random.below(17);
        let takes = match kind {
            6 | 7 | 8 | 10 | 11 => Some(&path),
            12 => Some(&folder),
            15 => Some(&moved),
            _ => None,
        };
        // What fails to build shows little.
        if takes.is_some_and(|path| needed(path)) && !random.one_in(8) {
            kind = random.below(4);
        }
        match kind {
            0..4 if metadata.is_file() => same_length(&path, &metadata, random),
            4 if metadata.is_file() => {
                fs::write(&path, content(random)).expect("writes");
                format!("wrote {path:?}")
            }
            5 if metadata.is_file() => {
                let mode = random.pick(&[0o755, 0o644, 0o600, 0o700, 0o640, 0o4755]);
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("modes");
                format!("mode {mode:o} of {path:?}")
            }
            6 => {
                let to = folder.join(name(random));
                match fs::rename(&path, &to) {
                    Ok(()) => format!("renamed {path:?} to {to:?}"),
                    Err(error) => format!("did not rename {path:?} to {to:?}: {error}"),
                }
            }
            7 => {
                let (other, aside) = (random.pick(&files), self.folder.join("aside"));
                fs::rename(&path, &aside).expect("renames");
                fs::rename(other, &path).ok();
                fs::rename(&aside, other).expect("renames");
                format!("{path:?} and {other:?} changed places")
            }
            8 => {
                fs::remove_file(&path).expect("removes");
                format!("removed {path:?}")
            }
            9 => new_file(&folder, random),
            10 => {
                fs::remove_file(&path).expect("removes");
                symlink(link_target(random), &path).expect("links");
                format!("{path:?} became a link")
            }
            11 => {
                fs::remove_file(&path).expect("removes");
                fs::create_dir(&path).expect("makes folders");
                if random.one_in(2) {
                    fs::write(path.join("inside.txt"), content(random)).expect("writes");
                }
                format!("{path:?} became a folder")
            }
            12 if folder != self.folder && random.one_in(2) => {
                fs::remove_dir_all(&folder).expect("removes");
                if random.one_in(2) {
                    fs::write(&folder, content(random)).expect("writes");
                    return format!("{folder:?} became a file");
                }
                format!("removed {folder:?}")
            }
            13 if metadata.is_file() => {
                let to = folder.join(name(random));
                let linked = fs::hard_link(&path, &to);
                format!("{to:?} is {path:?} by another name: {linked:?}")
            }
            14 if metadata.is_file() => {
                let time = random.pick(&[1_000_000_000, 1_587_038_400, 1_900_000_000]);
                set_time(&path, SystemTime::UNIX_EPOCH + Duration::from_secs(*time));
                format!("time {time} of {path:?}")
            }
            15 => {
                let to = folder.join(name(random));
                // Into itself is refused.
                let done = (moved != self.folder).then(|| fs::rename(&moved, &to));
                format!("moved {moved:?} to {to:?}: {done:?}")
            }
            16 if metadata.is_file() => {
                let file = fs::OpenOptions::new().append(true).open(&path);
                file.and_then(|mut file| file.write_all(b"more\n")).expect("writes");
                format!("appended to {path:?}")
            }
            _ => new_file(&folder, random),
        }
    }
}

fn new_file(folder: &Path, random: &mut Random) -> String {
    let path = folder.join(name(random));
    if path.symlink_metadata().is_ok() {
        return format!("left {path:?} as it was");
    }
    if random.one_in(6) {
        fs::create_dir(&path).expect("makes folders");
        return format!("made the folder {path:?}");
    }
    format!("new {} {path:?}", add(&path, random))
}

/// Other bytes of the same length; perhaps by another file in its place, perhaps with the old time.
fn same_length(path: &Path, metadata: &fs::Metadata, random: &mut Random) -> String {
    let mut bytes = fs::read(path).expect("reads");
    if let Some(at) = (!bytes.is_empty()).then(|| random.below(bytes.len())) {
        bytes[at] = if bytes[at] == b'a' { b'x' } else { b'a' };
    }
    let aside = path.with_file_name("aside");
    let (replaced, timed) = (random.one_in(2), random.one_in(2));
    if replaced && !aside.exists() {
        fs::write(&aside, &bytes).expect("writes");
        fs::set_permissions(&aside, metadata.permissions()).expect("modes");
        fs::rename(&aside, path).expect("renames");
    } else {
        fs::write(path, &bytes).expect("writes");
    }
    if timed {
        set_time(path, metadata.modified().expect("has a time"));
    }
    format!("other bytes of the same length in {path:?} (replaced: {replaced}, with the old time: {timed})")
}

fn set_time(path: &Path, time: SystemTime) {
    File::open(path).and_then(|file| file.set_modified(time)).expect("sets the time");
}

/// Folders, the first of them the whole; and whatever else there is. In order, whatever the disk's is.
fn listed(root: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut folders, mut files) = (vec![root.to_owned()], Vec::new());
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        let mut entries: Vec<PathBuf> =
            fs::read_dir(&folder).expect("lists").map(|entry| entry.expect("lists").path()).collect();
        entries.sort_unstable();
        for path in entries {
            if path.symlink_metadata().expect("is there").is_dir() {
                folders.push(path);
            } else if folder != root || !is_control(&path) {
                files.push(path);
            }
        }
    }
    (folders, files)
}

/// Tells what is no file of the project but says what it is.
fn is_control(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "Buildfile" || IGNORE.iter().any(|ignore| name == *ignore))
}
