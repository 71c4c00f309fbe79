//! Packages of buildpacks in files (`.cnb`), unpacked so that they can be lent.
//!
//! In: a file of a stranger. Out: a folder that is an OCI layout, and the digest of the image in it. What is in a package is proved
//! by its digests when it is read; here names alone are looked at, and those that a layout has are taken.
//! Source: distribution spec, "Buildpackage".

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path};

use rb_oci::{Digest, Platform};
use rb_sources::packed::{self, PackedError, PackedKind};
use serde::Deserialize;

use crate::report::Failure;
use crate::world::read_regular;

/// Largest index.
const INDEX_BYTES: u64 = 1 << 20;

/// The end of looking for something.
enum Stop {
    Found,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

fn wrong(file: &Path, reason: &str) -> Failure {
    Failure::input(format!("`{}`: {reason}", file.display()), None)
}

fn open(file: &Path) -> Result<File, Failure> {
    let shown = format!("cannot read `{}`", file.display());
    File::open(file).map_err(|error| Failure::environment(&shown, &error))
}

/// Tells whether a file is a package: whether an archive, in whatever it is packed, holds a layout.
pub(super) fn is_package(file: &Path) -> Result<bool, Failure> {
    let by_name = file.extension().is_some_and(|extension| extension == "cnb");
    let looked = packed::entries(open(file)?, &mut |entry, _| match entry.path == Path::new("oci-layout") {
        true => Err(Stop::Found),
        false => Ok(()),
    });
    match looked {
        Err(PackedError::Taken(Stop::Found)) => Ok(true),
        // What is no archive at all is told by who unpacks it.
        Ok(()) | Err(_) if !by_name => Ok(false),
        Ok(()) | Err(PackedError::Taken(_)) => Err(wrong(file, "it is no package: it holds no OCI layout")),
        Err(PackedError::Source(error)) => Err(wrong(file, &rb_diag::chain(&error))),
    }
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: Digest,
    #[serde(default)]
    platform: Option<EntryPlatform>,
}

#[derive(Deserialize)]
struct EntryPlatform {
    os: String,
    architecture: String,
}

/// Unpacks a package into a folder that is not there yet; returns the digest of the image for a platform, or of an index.
pub(super) fn unpack(file: &Path, folder: &Path, platform: &Platform) -> Result<Digest, Failure> {
    let blobs = folder.join("blobs/sha256");
    let made = fs::create_dir_all(&blobs);
    made.map_err(|error| Failure::environment("a package cannot be unpacked", &error))?;
    let taken = packed::entries(open(file)?, &mut |entry, content| {
        if !matches!(entry.kind, PackedKind::File(_)) || !is_of_layout(&entry.path) {
            return Ok::<_, Stop>(());
        }
        let mut out = File::create(folder.join(&entry.path))?;
        io::copy(content, &mut out)?;
        Ok(())
    });
    match taken {
        Ok(()) | Err(PackedError::Taken(Stop::Found)) => {}
        Err(PackedError::Source(error)) => return Err(wrong(file, &rb_diag::chain(&error))),
        Err(PackedError::Taken(Stop::Failed(error))) => {
            return Err(Failure::environment(&format!("`{}` cannot be unpacked", file.display()), &error));
        }
    }
    let index = read_regular(&folder.join("index.json"), INDEX_BYTES)
        .map_err(|error| wrong(file, &format!("its index.json: {}", rb_diag::chain(&error))))?;
    let index: Index =
        serde_json::from_slice(&index).map_err(|error| wrong(file, &format!("its index.json: {error}")))?;
    chosen(&index, platform).ok_or_else(|| wrong(file, &format!("it holds no package for {platform}")))
}

/// Tells whether a path is one that a layout has.
fn is_of_layout(path: &Path) -> bool {
    let parts: Vec<_> = path.components().collect();
    match parts.as_slice() {
        [Component::Normal(name)] => *name == "index.json" || *name == "oci-layout",
        [Component::Normal(blobs), Component::Normal(kind), Component::Normal(name)] => {
            let is_hex = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            *blobs == "blobs" && *kind == "sha256" && name.to_str().is_some_and(is_hex)
        }
        _ => false,
    }
}

fn chosen(index: &Index, platform: &Platform) -> Option<Digest> {
    if let [only] = index.manifests.as_slice() {
        return Some(only.digest);
    }
    let fits = |entry: &&Entry| {
        let own = entry.platform.as_ref();
        own.is_some_and(|own| own.os == platform.os && own.architecture == platform.architecture)
    };
    index.manifests.iter().find(fits).map(|entry| entry.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(path: &Path, files: &[(&str, &[u8])]) {
        let mut tar = tar::Builder::new(File::create(path).expect("a file"));
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, name, *text).expect("writes");
        }
        tar.finish().expect("writes");
    }

    #[test]
    fn what_a_package_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let host: Platform = "linux/amd64".parse().expect("a platform");
        let (one, two) = (Digest::of("1"), Digest::of("2"));
        let index = format!(
            r#"{{"manifests":[{{"digest":"{one}","platform":{{"os":"linux","architecture":"s390x"}}}},
                {{"digest":"{two}","platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
        );
        let blob = format!("blobs/sha256/{}", one.hex());
        let file = dir.path().join("a.tar");
        let files: [(&str, &[u8]); 5] = [
            ("oci-layout", b"{}"),
            ("index.json", index.as_bytes()),
            (&blob, b"1"),
            ("blobs/sha256/other", b"no"),
            ("more", b"no"),
        ];
        archive(&file, &files);
        assert!(is_package(&file).expect("is one"));
        let folder = dir.path().join("out");
        assert_eq!(unpack(&file, &folder, &host).expect("unpacks"), two);
        assert_eq!(fs::read(folder.join(&blob)).expect("is there"), b"1");
        assert!(!folder.join("more").exists() && !folder.join("blobs/sha256/other").exists());
        let other: Platform = "linux/arm64".parse().expect("a platform");
        unpack(&file, &dir.path().join("other"), &other).expect_err("is for others");
        archive(&file, &[("buildpack.toml", b"")]);
        assert!(!is_package(&file).expect("is none"));
        let named = dir.path().join("a.cnb");
        fs::copy(&file, &named).expect("copies");
        is_package(&named).expect_err("says it is one");
        fs::write(&file, b"nothing of the kind").expect("writes");
        assert!(!is_package(&file).expect("is none"));
    }
}
