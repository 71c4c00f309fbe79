//! What the state directory is made of, as far as it can be removed piece by piece.
//!
//! A piece has a kind and a name, `layer/12`: so it is shown, pinned, and kept in the database. Long names may be
//! written short.

use std::fmt;
use std::str::FromStr;

use rb_oci::Digest;

use crate::SnapshotId;

/// A kind of pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Directories that steps wrote or images were unpacked to.
    Layers,
    /// Packed layers, manifests, files of the web.
    Blobs,
    /// Directories of cache mounts.
    Mounts,
    /// Repositories that are fetched into.
    Git,
    /// Records of builds and what their steps wrote.
    Logs,
    /// Beginnings of blobs.
    Downloads,
}

impl Kind {
    /// All of them, in the order shown.
    pub const ALL: [Self; 6] =
        [Self::Layers, Self::Blobs, Self::Mounts, Self::Git, Self::Logs, Self::Downloads];

    /// Returns what it is called: `layers`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Layers => "layers",
            Self::Blobs => "blobs",
            Self::Mounts => "mounts",
            Self::Git => "git",
            Self::Logs => "logs",
            Self::Downloads => "downloads",
        }
    }

    /// Returns what one of it is called: `layer`.
    fn of_one(self) -> &'static str {
        match self {
            Self::Layers => "layer",
            Self::Blobs => "blob",
            Self::Mounts => "mount",
            Self::Git => "git",
            Self::Logs => "log",
            Self::Downloads => "download",
        }
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.name() == text || kind.of_one() == text).ok_or(())
    }
}

/// A piece. Their order is that of their kinds and ages, as far as names tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A snapshot.
    Layer(SnapshotId),
    /// A blob.
    Blob(Digest),
    /// A cache's directory, by its path below `caches/`.
    Mount(String),
    /// A repository, by its folder.
    Git(String),
    /// What is kept of a build, by the build's name.
    Log(String),
    /// The beginning of a blob, by its file.
    Download(String),
}

/// So many digits of a digest are enough for people.
const SHORT: usize = 12;

impl Item {
    /// Returns its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Layer(_) => Kind::Layers,
            Self::Blob(_) => Kind::Blobs,
            Self::Mount(_) => Kind::Mounts,
            Self::Git(_) => Kind::Git,
            Self::Log(_) => Kind::Logs,
            Self::Download(_) => Kind::Downloads,
        }
    }

    /// Returns a name for people: `blob/1a2b3c4d5e6f`.
    pub fn short(&self) -> String {
        let name = match self {
            Self::Layer(id) => id.to_string(),
            Self::Blob(digest) => digest.hex().chars().take(SHORT).collect(),
            // Its path is of two digests and a name.
            Self::Mount(path) => Digest::of(path.as_str()).hex().chars().take(SHORT).collect(),
            Self::Git(name) | Self::Download(name) => name.chars().take(SHORT).collect(),
            Self::Log(name) => name.clone(),
        };
        format!("{}/{name}", self.kind().of_one())
    }

    /// Says whether somebody may mean it by this: its name, whole or short, or the beginning of one that is longer than
    /// four digits of a digest.
    pub fn is_meant_by(&self, text: &str) -> bool {
        let (whole, short) = (self.to_string(), self.short());
        let by_beginning = || {
            let digits = text.split_once('/').map_or(0, |(_, digits)| digits.len());
            !matches!(self, Self::Layer(_))
                && digits >= 4
                && (whole.starts_with(text) || short.starts_with(text))
        };
        whole == text || short == text || by_beginning()
    }
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind().of_one();
        match self {
            Self::Layer(id) => write!(out, "{kind}/{id}"),
            Self::Blob(digest) => write!(out, "{kind}/{}", digest.hex()),
            Self::Mount(name) | Self::Git(name) | Self::Log(name) | Self::Download(name) => {
                write!(out, "{kind}/{name}")
            }
        }
    }
}

impl FromStr for Item {
    type Err = ();

    /// Reads a whole name.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, name) = text.split_once('/').ok_or(())?;
        let named = || name.to_owned();
        Ok(match kind {
            "layer" => Self::Layer(SnapshotId(name.parse().map_err(|_| ())?)),
            "blob" => Self::Blob(format!("sha256:{name}").parse().map_err(|_| ())?),
            "mount" => Self::Mount(named()),
            "git" => Self::Git(named()),
            "log" => Self::Log(named()),
            "download" => Self::Download(named()),
            _ => return Err(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_may_be_short() {
        let digest = Digest::of("x");
        for item in [
            Item::Layer(SnapshotId(12)),
            Item::Blob(digest),
            Item::Mount("ab/empty/common".to_owned()),
            Item::Git("0123456789abcdef".to_owned()),
            Item::Log("000000000009000-1-ff".to_owned()),
            Item::Download(digest.hex()),
        ] {
            assert_eq!(item.to_string().parse(), Ok(item.clone()));
            assert!(item.is_meant_by(&item.to_string()) && item.is_meant_by(&item.short()), "{item}");
            assert!(!item.is_meant_by("layer/1") && !item.is_meant_by("blob/") && !item.is_meant_by(""));
        }
        assert!(Item::Blob(digest).is_meant_by(&format!("blob/{}", &digest.hex()[..5])));
        assert!("tree/1".parse::<Item>().is_err() && "layer/x".parse::<Item>().is_err());
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("trees".parse::<Kind>().is_err());
    }
}
