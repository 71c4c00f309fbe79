//! Base images: `run.toml`, `stack.toml`, and which of several names is taken.
//!
//! In: what a builder or an image's label says of names and mirrors. Out: names in the order in which they are worth trying,
//! and what an exported image records. Source: platform spec, "run.toml" and "Run Image Resolution".

use rb_oci::Reference;
use serde::Deserialize;

use crate::decode::{self, DecodeError};
use crate::labels::{RunImageNames, StackRecord};

/// `run.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RunFile {
    /// The first is the default.
    pub images: Vec<RunImageNames>,
}

impl RunFile {
    /// Reads `run.toml`.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        decode::toml("run.toml", text)
    }

    /// Returns what an exported image records: the names that the base is among; with extensions the base alone, since they
    /// may have chosen it; otherwise the first names.
    pub fn recorded(&self, base: &str, extensions: bool) -> RunImageNames {
        let Some(first) = self.images.first() else { return RunImageNames::default() };
        let own = self.images.iter().find(|names| names.contains(base)).cloned();
        let chosen = || RunImageNames { image: base.to_owned(), mirrors: Vec::new() };
        own.unwrap_or_else(|| if extensions { chosen() } else { first.clone() })
    }
}

/// Reads `stack.toml`, which old builders have in the place of `run.toml`.
pub fn parse_stack(text: &[u8]) -> Result<RunImageNames, DecodeError> {
    decode::toml::<StackRecord>("stack.toml", text).map(|stack| stack.run_image)
}

impl RunImageNames {
    /// Whether an image is among the names, whatever its digest.
    pub fn contains(&self, image: &str) -> bool {
        let image = plain(image);
        self.all().any(|name| plain(name) == image)
    }

    /// Returns the names in the order in which they are worth trying: those on the target's registry first.
    pub fn best_first(&self, target: &Reference) -> Vec<&str> {
        let near = |name: &&str| {
            name.parse::<Reference>().is_ok_and(|name| name.repository().host() == target.repository().host())
        };
        let (mut best, others): (Vec<&str>, Vec<&str>) = self.all().partition(near);
        best.extend(others);
        best
    }

    /// Returns the same names behind those that a user prefers.
    #[must_use]
    pub fn preferring(self, mut preferred: Vec<String>) -> Self {
        if preferred.is_empty() {
            return self;
        }
        let image = preferred.remove(0);
        preferred.extend(std::iter::once(self.image).filter(|name| !name.is_empty()).chain(self.mirrors));
        Self { image, mirrors: preferred }
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.image.as_str())
            .filter(|image| !image.is_empty())
            .chain(self.mirrors.iter().map(String::as_str))
    }
}

/// A name in full and without its digest, if it is one.
fn plain(name: &str) -> String {
    let name = if name.contains("@sha256:") { name.split('@').next().unwrap_or_default() } else { name };
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "[[images]]\nimage='a/run'\nmirrors=['one.example.com/run','two.example.com/run:v1']\n[[images]]\nimage='b/run'\n";

    #[test]
    fn names_are_compared_without_digests() {
        let file = RunFile::parse(RUN.as_bytes()).expect("reads");
        let digest = "0".repeat(64);
        assert!(file.images[0].contains(&format!("docker.io/a/run:latest@sha256:{digest}")));
        assert!(
            file.images[0].contains("two.example.com/run:v1")
                && !file.images[0].contains("two.example.com/run")
        );
        assert_eq!(file.recorded("b/run:latest", false).image, "b/run");
        assert_eq!(file.recorded("c/run", false).image, "a/run");
        assert_eq!(
            file.recorded("c/run", true),
            RunImageNames { image: "c/run".into(), mirrors: Vec::new() }
        );
        assert_eq!(RunFile::default().recorded("c/run", true), RunImageNames::default());
        assert_eq!(parse_stack(b"[run-image]\nimage='x'\n").expect("reads").image, "x");
    }

    #[test]
    fn the_registry_of_the_target_comes_first() {
        let file = RunFile::parse(RUN.as_bytes()).expect("reads");
        let target = "two.example.com/app".parse().expect("a reference");
        assert_eq!(
            file.images[0].best_first(&target),
            ["two.example.com/run:v1", "a/run", "one.example.com/run"]
        );
    }
}
