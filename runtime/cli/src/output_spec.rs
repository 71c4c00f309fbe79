//! `--output type=…,dest=…`, in docker's syntax.
//!
//! In: the value of `-o`. Out: an [`OutputSpec`]. Fields are comma-separated `key=value`; a field in double quotes
//! may hold commas (`""` is a quote), as CSV has it. A value without `=` is a folder for `type=local`. What docker has and
//! `rb` does not do is refused by name, and what is so anyway is taken.
//! Source: docker buildx build reference, "--output"; BuildKit README, "Output".

pub(crate) mod cache;
mod fields;
mod image;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rb_api::{ImageFormat, ImageName, Push};

use crate::world::normalise;
use fields::Fields;
pub(crate) use image::Annotation;

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputSpec {
    /// `type=oci`, `type=docker` with a destination: an image as an OCI layout, a tar unless `tar=false`. One for Docker has one
    /// platform.
    Archive { dest: Dest, tar: bool, docker: bool, names: Vec<String>, format: ImageFormat },
    /// `type=docker` without a destination: an image into the Docker of this machine.
    Load { names: Vec<String>, format: ImageFormat },
    /// `type=tar`: the filesystem as a tar file. Of several platforms each has a folder of its own in it, as with `type=local`.
    Tar { dest: Dest, epoch_seconds: Option<i64>, split: Option<bool> },
    /// `type=local`: the filesystem's files; with `mode=delete` what else is in the folder goes. Of several platforms each has a
    /// folder of its own, such as `linux_arm64`, unless `split` says no; where it says yes, one has too.
    Local { dest: PathBuf, delete: bool, split: Option<bool> },
    /// `type=image`, `type=registry`: an image into the store, or on to a registry.
    Image { names: Vec<ImageName>, format: ImageFormat, push: Option<Push> },
}

/// Where an archive goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dest {
    /// A file or folder.
    Path(PathBuf),
    /// `-`: standard output.
    Stdout,
}

/// What is wrong with a value of `-o`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutputSpecError {
    #[error("`{field}` is not key=value")]
    Field { field: String },
    #[error("no type: expected type=oci, type=docker, type=tar, type=local, type=image or type=registry")]
    NoType,
    #[error("type `{kind}` is unknown: expected oci, docker, tar, local, image or registry{}", near(nearest))]
    Type { kind: String, nearest: Option<&'static str> },
    #[error("type={kind} needs {key}=…")]
    Missing { kind: String, key: &'static str },
    #[error("type={kind} has no `{key}`{}", near(nearest))]
    Unknown { kind: String, key: String, nearest: Option<&'static str> },
    #[error("`{key}={value}`: expected {expected}")]
    Value { key: String, value: String, expected: String },
    #[error("`{what}` is not part of this version of rb: {why}")]
    Unsupported { what: String, why: &'static str },
    #[error("not the name of an image: {reason}\n  {field}\n  {mark}")]
    Name { field: String, mark: String, reason: String },
    #[error("dest={dest} is a file, and a folder is to be written: remove it, or name another place")]
    File { dest: String },
    #[error("dest={dest} is a folder: name a file in it")]
    Folder { dest: String },
    #[error(
        "dest={dest} is a device, pipe or socket: name a file; an archive goes to standard output with dest=-"
    )]
    Special { dest: String },
    #[error("{what}: annotations need OCI's media types, leave oci-mediatypes=false out")]
    DockerAnnotations { what: String },
    #[error("dest=- (standard output) takes an archive: type=oci, type=docker or type=tar")]
    StdoutFolder,
    #[error("dest=- (standard output) is a terminal: send it to a file or a program")]
    Terminal,
    #[error("dest= is empty: name a file or folder")]
    Empty,
    #[error("dest={dest} is the root of the disk: name a folder of its own")]
    Root { dest: String },
    #[error("`{key}` is given twice")]
    Twice { key: String },
    #[error("two outputs go to `{dest}`: give each its own")]
    SameDest { dest: String },
    #[error("`{word}` is a target: this option takes type=TYPE,dest=PATH, and the target stands behind it")]
    Target { word: String },
    #[error(
        "`{word}`: expected KEY=VALUE, or what is annotated before it: manifest:, manifest[OS/ARCH]:, manifest-descriptor:, index:, index-descriptor:, several with commas"
    )]
    Annotation { word: String },
}

fn near(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |word| format!(" (did you mean `{word}`?)"))
}

/// Values of `type=`.
pub(crate) const TYPES: [&str; 6] = ["oci", "docker", "tar", "local", "image", "registry"];

impl FromStr for OutputSpec {
    type Err = OutputSpecError;

    fn from_str(text: &str) -> Result<Self, OutputSpecError> {
        let words = split_csv(text);
        if let [only] = words.as_slice()
            && !only.contains('=')
        {
            // Others have an `--output` without a value.
            let target = only.rsplit_once('+').is_some_and(|(dir, name)| {
                !name.is_empty() && !name.contains('/') && (dir.is_empty() || dir.starts_with('.'))
            });
            if target {
                return Err(OutputSpecError::Target { word: only.clone() });
            }
            return match dest(only.clone())? {
                Dest::Path(dest) => Ok(Self::Local { dest, delete: false, split: None }),
                // docker's word for an archive of files.
                Dest::Stdout => Ok(Self::Tar { dest: Dest::Stdout, epoch_seconds: None, split: None }),
            };
        }
        let mut fields = Fields::new(words)?;
        fields.refuse(
            "compatibility-version",
            "it has BuildKit write as an older BuildKit; rb writes in one way",
        )?;
        let spec = match fields.kind() {
            "oci" | "docker" => {
                let is_docker = fields.kind() == "docker";
                let to = fields.take("dest");
                if to.is_none() && !is_docker {
                    return Err(fields.missing("dest"));
                }
                let tar = fields.flag("tar")?;
                let names = fields.names()?;
                let format = image::format(&mut fields, !is_docker)?;
                match to.map(dest).transpose()? {
                    Some(Dest::Stdout) if tar == Some(false) => return Err(OutputSpecError::StdoutFolder),
                    Some(dest) => {
                        Self::Archive { dest, tar: tar.unwrap_or(true), docker: is_docker, names, format }
                    }
                    None if tar == Some(false) => return Err(fields.missing("dest")),
                    None => Self::Load { names, format },
                }
            }
            "tar" => {
                fields.refuse("attestation-prefix", PREFIX)?;
                let to = fields.take("dest").ok_or_else(|| fields.missing("dest"))?;
                let (epoch_seconds, split) = (fields.epoch()?, fields.flag("platform-split")?);
                Self::Tar { dest: dest(to)?, epoch_seconds, split }
            }
            "local" => {
                fields.refuse("attestation-prefix", PREFIX)?;
                let to = fields.take("dest").ok_or_else(|| fields.missing("dest"))?;
                let Dest::Path(dest) = dest(to)? else { return Err(OutputSpecError::StdoutFolder) };
                let delete = fields.choice("mode", &[("copy", false), ("delete", true)])?.unwrap_or(false);
                Self::Local { dest, delete, split: fields.flag("platform-split")? }
            }
            _ => image::of_store(&mut fields)?,
        };
        fields.end()?;
        Ok(spec)
    }
}

/// Why files of attestations get no prefix.
const PREFIX: &str = "`--provenance=filename=NAME` names the file of provenance";

fn dest(text: String) -> Result<Dest, OutputSpecError> {
    match text.as_str() {
        "-" => Ok(Dest::Stdout),
        "" => Err(OutputSpecError::Empty),
        _ => Ok(Dest::Path(PathBuf::from(text))),
    }
}

/// Checks what only several outputs, or the working directory, can show: all before anything is built. `is_terminal` says
/// what standard output is.
pub(crate) fn check(specs: &[OutputSpec], cwd: &Path, is_terminal: bool) -> Result<(), OutputSpecError> {
    let mut seen = BTreeSet::new();
    let mut streams = 0;
    for (spec, dest) in specs.iter().filter_map(|spec| Some((spec, spec.dest()?))) {
        let Dest::Path(dest) = dest else {
            streams += 1;
            match (is_terminal, streams) {
                (true, _) => return Err(OutputSpecError::Terminal),
                (false, 1) => continue,
                (false, _) => return Err(OutputSpecError::SameDest { dest: "-".to_owned() }),
            }
        };
        let shown = || dest.display().to_string();
        let there = cwd.join(&dest);
        if there.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return Err(OutputSpecError::Special { dest: shown() });
        }
        let place = resolve(&there);
        if place.parent().is_none() {
            return Err(OutputSpecError::Root { dest: shown() });
        }
        match spec {
            OutputSpec::Local { .. } | OutputSpec::Archive { tar: false, .. } if place.is_file() => {
                return Err(OutputSpecError::File { dest: shown() });
            }
            OutputSpec::Tar { .. } | OutputSpec::Archive { tar: true, .. } if place.is_dir() => {
                return Err(OutputSpecError::Folder { dest: shown() });
            }
            _ => {}
        }
        if !seen.insert(place) {
            return Err(OutputSpecError::SameDest { dest: shown() });
        }
    }
    Ok(())
}

/// Follows the symlinks of what is there of an absolute path.
fn resolve(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let Ok(there) = std::fs::canonicalize(above) {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            return normalise(&there.join(rest));
        }
    }
    normalise(path)
}

impl OutputSpec {
    /// Says what the latest time is that it shows, unless it says so itself.
    pub(crate) fn no_later_than(mut self, seconds: Option<i64>) -> Self {
        match &mut self {
            Self::Archive { format: ImageFormat { epoch_seconds, .. }, .. }
            | Self::Load { format: ImageFormat { epoch_seconds, .. }, .. }
            | Self::Image { format: ImageFormat { epoch_seconds, .. }, .. }
            | Self::Tar { epoch_seconds, .. } => *epoch_seconds = epoch_seconds.or(seconds),
            Self::Local { .. } => {}
        }
        self
    }

    /// Has what one platform alone gives written as that of several is: an image with an index, files in a folder of their own.
    pub(crate) fn written_as_several(mut self) -> Self {
        match &mut self {
            Self::Archive { docker: true, .. } | Self::Load { .. } => {}
            Self::Archive { format, .. } | Self::Image { format, .. } => format.index_of_one = true,
            Self::Tar { split, .. } | Self::Local { split, .. } => *split = split.or(Some(true)),
        }
        self
    }

    /// Tells whether it goes to standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        self.dest() == Some(Dest::Stdout)
    }

    /// Returns the file or folder that it becomes, as typed; nothing for a folder that things are put into.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match self.dest() {
            Some(Dest::Path(path)) if !matches!(self, Self::Local { .. }) => Some(path),
            _ => None,
        }
    }

    /// Returns where it goes, if that is no store.
    fn dest(&self) -> Option<Dest> {
        match self {
            Self::Archive { dest, .. } | Self::Tar { dest, .. } => Some(dest.clone()),
            Self::Local { dest, .. } => Some(Dest::Path(dest.clone())),
            Self::Image { .. } | Self::Load { .. } => None,
        }
    }
}

/// Splits at commas; a field in double quotes may hold them.
pub(crate) fn split_csv(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let last = fields.last_mut().expect("one field is there from the start");
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                last.push('"');
            }
            '"' if quoted || last.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => last.push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests;
