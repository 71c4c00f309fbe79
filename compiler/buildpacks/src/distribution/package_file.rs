//! `package.toml`.
//!
//! In: its text. Out: [`PackageFile`], or all that is wrong in it, with places. Source: pack's package configuration.

use serde::Deserialize;

use super::builder_file::whole;
use super::document::{Fault, Keys, TARGETS, read};
use crate::Target;

/// What is to be packaged.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PackageFile {
    /// The buildpack.
    pub buildpack: PackageSource,
    /// Or the extension.
    pub extension: PackageSource,
    /// What else the package holds: what the buildpack's order names.
    pub dependencies: Vec<PackageSource>,
    /// Systems that it is for, in the words of old files.
    pub platform: PackagePlatform,
    /// Systems that it is for.
    pub targets: Vec<Target>,
}

/// Where a module is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PackageSource {
    /// Where it is.
    pub uri: String,
    /// Or in which image.
    pub image: String,
}

/// `[platform]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PackagePlatform {
    /// Empty for linux.
    pub os: String,
}

const URI: Keys = Keys(&[("uri", None)]);
const KEYS: Keys = Keys(&[
    ("buildpack", Some(&URI)),
    ("extension", Some(&URI)),
    ("dependencies", Some(&Keys(&[("uri", None), ("image", None)]))),
    ("platform", Some(&Keys(&[("os", None)]))),
    ("targets", Some(&TARGETS)),
]);

impl PackageFile {
    /// Reads `package.toml`.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let file: Self = read("package.toml", text, &KEYS)?;
        if file.buildpack.uri.is_empty() && file.extension.uri.is_empty() {
            return Err(vec![whole("`uri` is missing in [buildpack], or in [extension]")]);
        }
        if !["", "linux"].contains(&file.platform.os.as_str()) {
            return Err(vec![whole(&format!("`{}` in [platform] is not `linux`", file.platform.os))]);
        }
        for one in &file.dependencies {
            match (one.uri.is_empty(), one.image.is_empty()) {
                (true, true) => return Err(vec![whole("a dependency has neither `uri` nor `image`")]),
                (false, false) => {
                    return Err(vec![whole(&format!("dependency `{}` has both `uri` and `image`", one.uri))]);
                }
                _ => {}
            }
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_its_mistakes() {
        let text = "[buildpack]\nuri='.'\n[[dependencies]]\nuri='a'\n[[dependencies]]\nimage='docker.io/x'\n";
        let file = PackageFile::parse(text).expect("reads");
        assert_eq!((file.buildpack.uri.as_str(), file.dependencies.len()), (".", 2));
        for (text, word) in [
            ("", "`uri`"),
            ("[buildpack]\nurl='.'", "no key `url` in [buildpack]"),
            ("[buildpack]\nuri='.'\n[platform]\nos='windows'", "windows"),
            ("[buildpack]\nuri='.'\n[[dependencies]]\n", "neither"),
            ("[buildpack]\nuri='.'\n[[dependencies]]\nuri='a'\nimage='b'", "both"),
        ] {
            let faults = PackageFile::parse(text).expect_err("is wrong");
            assert!(faults[0].message.contains(word), "{text}: {faults:?}");
        }
    }
}
