//! Words behind `--artifact`: artifacts of targets, and the place they go to.
//!
//! In: `[DIR]+target/path [--NAME=value]… … [DEST]`. Out: [`ArtifactCalls`]. A word is an artifact if a name of a target and a
//! `/` stand behind its `+`, or nothing before it; the one word that is none is the place. A plus that belongs to the place's own name may
//! be written `\+`, as in build files.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::calls::{ArgsError, TargetCall, is_option_name, texts};

/// Artifacts, and where they go, as typed behind `--artifact`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArtifactCalls {
    /// The targets, one for each artifact.
    pub(crate) calls: Vec<TargetCall>,
    /// Absolute paths among the artifacts of each; `/` for all of them.
    pub(crate) paths: Vec<String>,
    /// Where to write them.
    pub(crate) dest: PathBuf,
}

impl ArtifactCalls {
    /// Reads the words; without a place they go here under their own names.
    pub(crate) fn parse(words: &[OsString]) -> Result<Self, ArgsError> {
        let texts = texts(words)?;
        let (mut calls, mut paths, mut dest) = (Vec::new(), Vec::new(), None);
        let mut rest = texts.as_slice();
        while let Some((first, behind)) = rest.split_first() {
            // A word behind a bare `--NAME` is its value, whatever it looks like.
            let mut end = 0;
            while let Some(word) = behind.get(end).filter(|word| !is_artifact(word)) {
                end += if is_option_name(word) { 2 } else { 1 };
            }
            let end = end.min(behind.len());
            let own = std::iter::once(first).chain(behind.iter().take(end)).cloned().collect();
            let place = dest.is_none().then_some(&mut dest);
            let mut call = TargetCall::read(own, place)?;
            paths.push(take_path(&mut call)?);
            calls.push(call);
            rest = behind.get(end..).unwrap_or_default();
        }
        let dest = dest.map_or_else(|| "./".to_owned(), |dest| dest.replace("\\+", "+"));
        Ok(Self { calls, paths, dest: PathBuf::from(dest) })
    }
}

/// Tells whether a word behind the first one names an artifact.
fn is_artifact(word: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    match word.split_once('+') {
        Some(("", _)) => true,
        Some((before, behind)) if !before.starts_with('-') && !before.ends_with('\\') => {
            behind.split_once('/').is_some_and(|(name, _)| is_name(name))
        }
        Some(_) | None => false,
    }
}

/// Takes the path off the word of a call.
fn take_path(call: &mut TargetCall) -> Result<String, ArgsError> {
    let plus = call.word.find('+').unwrap_or_default();
    let slash = call.word.get(plus..).and_then(|rest| rest.find('/')).map(|slash| plus + slash);
    let Some(path) = slash.map(|slash| call.word.split_off(slash)) else {
        return Err(ArgsError::NoArtifact { word: call.word.clone() });
    };
    let path = if path == "/*" { "/".to_owned() } else { path };
    if path.contains(['*', '?', '[']) {
        return Err(ArgsError::ArtifactPattern { target: call.word.clone(), path });
    }
    if Path::new(&path).components().any(|part| part == Component::ParentDir) {
        return Err(ArgsError::NoArtifact { word: format!("{}{path}", call.word) });
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(words: &[&str]) -> Result<(Vec<String>, String), ArgsError> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let ArtifactCalls { calls, paths, dest } = ArtifactCalls::parse(&words)?;
        let shown = calls.iter().zip(&paths).map(|(call, path)| {
            let args = call.args.iter().map(|(name, value)| format!(" {name}={value}"));
            format!("{} {path}{}", call.word, args.collect::<String>())
        });
        Ok((shown.collect(), dest.display().to_string()))
    }

    fn found(words: &[&str], artifacts: &[&str], dest: &str) {
        let expected = artifacts.iter().map(|artifact| (*artifact).to_owned()).collect();
        assert_eq!(read(words), Ok((expected, dest.to_owned())), "{words:?}");
    }

    #[test]
    fn one_has_a_path_and_may_have_a_place() {
        found(&["./d+t/bin/app", "out/", "--A=1"], &["./d+t /bin/app A=1"], "out/");
        found(&["+t/*"], &["+t /"], "./");
        assert_eq!(read(&["+t"]), Err(ArgsError::NoArtifact { word: "+t".to_owned() }));
        assert!(matches!(read(&["+t/*.so"]), Err(ArgsError::ArtifactPattern { .. })));
        assert!(matches!(read(&["+t/../x"]), Err(ArgsError::NoArtifact { .. })));
        assert!(matches!(read(&["+t/x", "a", "b"]), Err(ArgsError::StrayWord { .. })));
    }

    #[test]
    fn several_have_one_place_and_each_its_arguments() {
        found(&["+a/x", "--V=1", "./b+c/y/z", "--V", "+2", "out"], &["+a /x V=1", "./b+c /y/z V=+2"], "out");
        found(&["+a/x", "out", "+b/y"], &["+a /x", "+b /y"], "out");
        found(&["+a/x", "+b/y"], &["+a /x", "+b /y"], "./");
        assert!(matches!(read(&["+a/x", "out", "+b/y", "in"]), Err(ArgsError::StrayWord { .. })));
        assert_eq!(read(&["+a/x", "+b"]), Err(ArgsError::NoArtifact { word: "+b".to_owned() }));
    }

    #[test]
    fn a_plus_may_belong_to_the_place() {
        for dest in ["./c++/out", "out+x", "a+B/c"] {
            found(&["+a/x", dest], &["+a /x"], dest);
        }
        found(&["+a/x", "./lib\\+x/y"], &["+a /x"], "./lib+x/y");
        found(&["+a/x", "\\+b"], &["+a /x"], "+b");
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(words in prop::collection::vec("[-+=a-zA-Z./*\\\\ ]{0,8}", 0..8)) {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            drop(ArtifactCalls::parse(&words));
        }
    }
}
