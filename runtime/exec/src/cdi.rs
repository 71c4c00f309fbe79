//! Devices of this machine by name, as their vendors describe them (Container Device Interface).
//!
//! In: folders of descriptions, and names as builds give them. Out: [`Devices`], which says which devices a name stands for and adds
//! them to a [`Spec`]. Names mean what they mean in BuildKit: `vendor/class=name` one device, `vendor/class` the first, `vendor/class=*`
//! all, and any other word those whose annotations put them in a class of that name.
//!
//! **What always holds.** A description never reaches further than its file says: unknown keys, and what a sandbox of ours cannot give,
//! are refused, not left out. No program of a description is run by us; another runtime starts those that it names as hooks. A file
//! that is broken is told where a device is missing for it, and does no harm to builds that need none of its devices.
//! Source: SPEC.md of the interface; BuildKit, solver/llbsolver/cdidevices (facts).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_diag::ErrorKind;
use rustix::fs::{Mode, OFlags};

use crate::spec::Spec;

mod edits;
mod file;
#[cfg(test)]
mod tests;

use edits::Of;
use file::Described;

/// Where descriptions are on every machine; those of the later folder win.
pub const DEVICE_FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The annotation by which a device is of a class.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// The annotation by which the machine lets every build have a device.
const ALLOWED: &str = "org.mobyproject.buildkit.device.autoallow";

/// Largest description, and how many of them count in a folder.
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_FILES: usize = 1000;

/// The devices of this machine.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    known: BTreeMap<String, Known>,
    /// Files that say nothing, and why.
    broken: Vec<(PathBuf, String)>,
}

#[derive(Clone, Debug)]
struct Known {
    described: Arc<Described>,
    /// Which of those in the file.
    index: usize,
    file: PathBuf,
    /// Another file of the same folder that describes a device of the same name.
    rival: Option<PathBuf>,
}

/// A device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CdiError {
    /// Nothing of this name is described.
    #[error("this machine describes no device `{name}`")]
    Unknown {
        /// As asked for.
        name: String,
        /// What there is, and which files could not be read.
        help: String,
    },
    /// Two files of one folder describe it.
    #[error("the device `{device}` is described twice: in {} and in {}", file.display(), rival.display())]
    Twice {
        /// Its whole name.
        device: String,
        /// One of the files.
        file: PathBuf,
        /// The other.
        rival: PathBuf,
    },
    /// Its description asks for what sandboxes cannot give.
    #[error("the device `{device}` needs {what}, which steps do not get ({})", file.display())]
    Unsupported {
        /// Its whole name.
        device: String,
        /// Where that stands.
        file: PathBuf,
        /// What it is.
        what: String,
    },
    /// A program is to be started around the command, and steps have no runtime that would.
    #[error("the device `{device}` needs the hook `{hook}`, which runs {} on this machine ({})", program.display(), file.display())]
    Hook {
        /// Its whole name.
        device: String,
        /// Where that stands.
        file: PathBuf,
        /// When it would be started.
        hook: String,
        /// What.
        program: PathBuf,
    },
    /// A node is not there, or another one than described.
    #[error("{} of the device `{device}` cannot be used: {reason} ({})", node.display(), file.display())]
    Node {
        /// Its whole name.
        device: String,
        /// Where it is described.
        file: PathBuf,
        /// Where it should be.
        node: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl CdiError {
    /// Returns who has to act: all of it is this machine's.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Environment
    }

    /// Returns what can be done.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown { help, .. } => help.clone(),
            Self::Twice { .. } => "take one of the files away".to_owned(),
            Self::Unsupported { .. } => {
                "describe the device without it, in a file of a later folder (`rb help config`, [devices])"
                    .to_owned()
            }
            Self::Hook { .. } => {
                "have another runtime run the steps, which starts it: `--runtime=runc`, or `--runtime=crun`"
                    .to_owned()
            }
            Self::Node { .. } => {
                "load its driver, or have its vendor's tool describe the devices anew".to_owned()
            }
        }
    }
}

impl Devices {
    /// Reads the descriptions in `folders`; a device of a later one takes the place of one of the same name.
    pub fn load<P: AsRef<Path>>(folders: &[P]) -> Self {
        let mut devices = Self::default();
        for folder in folders {
            let mut here = BTreeMap::new();
            let mut paths = files(folder.as_ref());
            if paths.len() > MAX_FILES {
                paths.truncate(MAX_FILES);
                let problem = format!("of more than {MAX_FILES} files in it the first are read");
                devices.broken.push((folder.as_ref().to_owned(), problem));
            }
            for path in paths {
                match read(&path) {
                    Ok(described) => add(&mut here, &path, described),
                    Err(problem) => devices.broken.push((path, problem)),
                }
            }
            devices.known.extend(here);
        }
        devices
    }

    /// Returns the whole names of the devices that a name stands for; none if there are none.
    pub fn find(&self, name: &str) -> Vec<String> {
        let all = || self.known.keys();
        let (kind, device) = name.split_once('=').unwrap_or((name, ""));
        let is_kind =
            kind.split_once('/').is_some_and(|(vendor, class)| !vendor.is_empty() && !class.is_empty());
        let of_kind = all().filter(|known| known.split_once('=').is_some_and(|(its, _)| its == kind));
        let found: Vec<String> = match device {
            _ if !is_kind => Vec::new(),
            "" => of_kind.take(1).cloned().collect(),
            "*" => of_kind.cloned().collect(),
            _ => all().filter(|known| *known == name).cloned().collect(),
        };
        if !found.is_empty() {
            return found;
        }
        let of_class = self.known.iter().filter(|(_, known)| known.annotation(CLASS) == Some(name));
        of_class.map(|(device, _)| device.clone()).collect()
    }

    /// As [`Self::find`], for one that a step cannot do without.
    pub fn find_required(&self, name: &str) -> Result<Vec<String>, CdiError> {
        let found = self.find(name);
        if found.is_empty() {
            return Err(CdiError::Unknown { name: name.to_owned(), help: self.what_there_is() });
        }
        Ok(found)
    }

    /// Tells whether this machine lets every build have the device of this whole name.
    pub fn is_for_everybody(&self, device: &str) -> bool {
        let said = self.known.get(device).and_then(|known| known.annotation(ALLOWED));
        said.is_some_and(|said| matches!(said, "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    /// Adds devices, by their whole names, to what a command sees.
    pub fn give(&self, names: &[String], spec: &mut Spec) -> Result<(), CdiError> {
        let mut begun: Vec<&Path> = Vec::new();
        for name in names {
            let known = self.known.get(name);
            let known =
                known.ok_or_else(|| CdiError::Unknown { name: name.clone(), help: self.what_there_is() })?;
            if let Some(rival) = known.rival.clone() {
                return Err(CdiError::Twice { device: name.clone(), file: known.file.clone(), rival });
            }
            let of = Of { device: name, file: &known.file };
            // What all devices of a file need is given once.
            if !begun.contains(&known.file.as_path()) {
                begun.push(&known.file);
                edits::apply(of, &known.described.edits, spec)?;
            }
            if let Some(device) = known.described.devices.get(known.index) {
                edits::apply(of, &device.edits, spec)?;
            }
        }
        Ok(())
    }

    fn what_there_is(&self) -> String {
        const MOST: usize = 8;
        let names: Vec<String> = self.known.keys().take(MOST).map(|name| format!("`{name}`")).collect();
        let more = if self.known.len() > MOST { ", …" } else { "" };
        let mut help = match names.is_empty() {
            true => "no device is described; vendors put their descriptions into /etc/cdi".to_owned(),
            false => format!("there are {}{more}", names.join(", ")),
        };
        for (file, problem) in &self.broken {
            help.push_str(&format!("; {} is not read: {problem}", file.display()));
        }
        help
    }
}

impl Known {
    /// What the device says, or else its file.
    fn annotation(&self, name: &str) -> Option<&str> {
        let own = self.described.devices.get(self.index).and_then(|device| device.annotations.get(name));
        own.or_else(|| self.described.annotations.get(name)).map(String::as_str)
    }
}

/// Adds the devices of one file to those of its folder.
fn add(here: &mut BTreeMap<String, Known>, file: &Path, described: Described) {
    let described = Arc::new(described);
    for (index, device) in described.devices.iter().enumerate() {
        let name = format!("{}={}", described.kind, device.name);
        match here.get_mut(&name) {
            Some(first) => first.rival = Some(file.to_owned()),
            None => {
                let described = Arc::clone(&described);
                here.insert(name, Known { described, index, file: file.to_owned(), rival: None });
            }
        }
    }
}

/// Lists what may be descriptions, by name; of a folder that is not there none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_one = |path: &PathBuf| {
        let known = |extension: &OsStr| ["json", "yaml", "yml"].iter().any(|one| extension == *one);
        path.extension().is_some_and(known)
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_one).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<Described, String> {
    // A pipe is not waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| error.to_string())?;
    let file = File::from(opened);
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err("it is longer than 1 MiB".to_owned());
    }
    file::read(path, &bytes)
}
