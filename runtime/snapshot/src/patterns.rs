//! Ignore patterns: which files does a `.dockerignore`-like list name?
//!
//! In: patterns in order, `!` taking back what earlier ones named. Out: does a path match? A pattern that matches a
//! directory matches all that is inside.
//! There are two ways to ask, as there: from nothing, and with what was said of the parent directory. They agree but in
//! one case: `!dir` takes back `dir/*` only when asked from nothing, since of `dir` itself there was nothing to take back.
//! A walk asks with its parents, as BuildKit's does.
//! Source: the documentation and tests of moby/patternmatcher and of its `ignorefile`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rb_path::{BadPattern, Dialect, Glob};

use crate::error::Result;

/// An ordered list of patterns.
#[derive(Clone, Debug)]
pub struct PatternMatcher {
    patterns: Vec<Pattern>,
    has_exclusions: bool,
}

/// What the patterns said of a directory, to be handed on to what is inside of it.
#[derive(Clone, Debug, Default)]
pub struct MatchInfo {
    /// One per pattern; empty when nothing was asked yet.
    matched: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Pattern {
    exclusion: bool,
    kind: Kind,
}

/// How a pattern compares: most need no wildcard machine.
#[derive(Clone, Debug)]
enum Kind {
    Exact(String),
    /// `dir/**`: all that begins so.
    Prefix(String),
    /// `**/name`: all that ends so, and the name itself at the top.
    Suffix(String),
    Glob(Glob),
}

impl PatternMatcher {
    /// Compiles `patterns`; blank ones are left out.
    ///
    /// `BadPattern` for what Go's `filepath.Match` refuses and for a lone `!`.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self> {
        let mut compiled = Vec::new();
        for text in patterns {
            let trimmed = text.as_ref().trim();
            if trimmed.is_empty() {
                continue;
            }
            let cleaned = rb_path::clean(trimmed);
            let (exclusion, body) = match cleaned.strip_prefix('!') {
                None => (false, cleaned.as_str()),
                Some("") => {
                    let reason = "`!` needs a pattern behind it";
                    return Err(BadPattern { pattern: text.as_ref().to_owned(), reason }.into());
                }
                Some(body) => (true, body),
            };
            compiled.push(Pattern { exclusion, kind: Kind::new(body)? });
        }
        let has_exclusions = compiled.iter().any(|pattern| pattern.exclusion);
        Ok(Self { patterns: compiled, has_exclusions })
    }

    /// As [`Self::new`]; nothing for no patterns.
    pub(crate) fn of(patterns: &[String]) -> Result<Option<Self>> {
        if patterns.is_empty() { Ok(None) } else { Self::new(patterns).map(Some) }
    }

    /// Tells whether `path` (relative) or a directory above it matches and is not taken back by a later pattern.
    pub fn matches(&self, path: &Path) -> bool {
        let parents = parents(path.as_os_str().as_bytes());
        let mut matched = false;
        for pattern in &self.patterns {
            if pattern.exclusion != matched {
                continue;
            }
            if pattern.kind.matches(path.as_os_str().as_bytes())
                || parents.iter().any(|parent| pattern.kind.matches(parent))
            {
                matched = !pattern.exclusion;
            }
        }
        matched
    }

    /// Answers as [`Self::matches`], from what was said of the parent directory, and returns what is to be handed on
    /// to the children of `path`. With an empty `parent` the directories above are looked at one by one.
    pub fn matches_with_parent(&self, path: &Path, parent: &MatchInfo) -> (bool, MatchInfo) {
        let bytes = path.as_os_str().as_bytes();
        let mut matched = false;
        let mut info = MatchInfo { matched: vec![false; self.patterns.len()] };
        for (index, pattern) in self.patterns.iter().enumerate() {
            let mut hit = parent.matched.get(index).copied().unwrap_or(false);
            if !hit {
                if pattern.exclusion != matched {
                    continue;
                }
                hit = pattern.kind.matches(bytes)
                    || (parent.matched.is_empty()
                        && parents(bytes).iter().any(|parent| pattern.kind.matches(parent)));
            }
            info.matched[index] = hit;
            if hit {
                matched = !pattern.exclusion;
            }
        }
        (matched, info)
    }

    /// Tells whether any pattern begins with `!`: only then can something inside a matching directory not match.
    pub fn has_exclusions(&self) -> bool {
        self.has_exclusions
    }

    /// Tells whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

impl Kind {
    fn new(body: &str) -> Result<Self> {
        // Checked in Go's dialect first: that is what decides whether a pattern is well formed.
        Glob::new(body, Dialect::Go)?;
        let wild = |text: &str| text.contains(['*', '?', '[', ']', '\\']);
        if !wild(body) {
            return Ok(Self::Exact(body.to_owned()));
        }
        if let Some(suffix) = body.strip_prefix("**")
            && !wild(suffix)
        {
            return Ok(Self::Suffix(suffix.to_owned()));
        }
        if let Some(prefix) = body.strip_suffix("**")
            && !wild(prefix)
        {
            return Ok(Self::Prefix(prefix.to_owned()));
        }
        Ok(Self::Glob(Glob::new(body, Dialect::Moby)?))
    }

    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(text) => path == text.as_bytes(),
            Self::Prefix(prefix) => path.starts_with(prefix.as_bytes()),
            Self::Suffix(suffix) => {
                path.ends_with(suffix.as_bytes())
                    || suffix.strip_prefix('/').is_some_and(|name| path == name.as_bytes())
            }
            Self::Glob(glob) => glob.matches(path),
        }
    }
}

/// The directories above `path`, outermost first.
fn parents(path: &[u8]) -> Vec<&[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| &path[..index]).collect()
}

/// Reads the patterns of a `.dockerignore`-like file: comments and blank lines left out, each cleaned and taken
/// relative to the directory (a leading `/` means nothing).
pub fn parse_ignore_file(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (sign, pattern) = match line.strip_prefix('!') {
                Some(pattern) => ("!", pattern.trim()),
                None => ("", line),
            };
            if pattern.is_empty() {
                return sign.to_owned();
            }
            let cleaned = rb_path::clean(pattern);
            let relative = match cleaned.strip_prefix('/') {
                Some(relative) if !relative.is_empty() => relative,
                _ => &cleaned,
            };
            format!("{sign}{relative}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Asks in all ways and insists on one answer.
    fn matches(patterns: &[&str], path: &str) -> bool {
        let matcher = PatternMatcher::new(patterns).unwrap();
        let direct = matcher.matches(Path::new(path));
        let (without, _) = matcher.matches_with_parent(Path::new(path), &MatchInfo::default());
        let mut info = MatchInfo::default();
        for parent in parents(path.as_bytes()) {
            if !parent.is_empty() {
                info = matcher.matches_with_parent(Path::new(std::str::from_utf8(parent).unwrap()), &info).1;
            }
        }
        let (with, _) = matcher.matches_with_parent(Path::new(path), &info);
        assert_eq!((without, with), (direct, direct), "{patterns:?} {path}");
        direct
    }

    #[test]
    fn single_patterns() {
        for (pattern, path, expected) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir3/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/file*.txt*", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abc.def", true),
            ("abc?def", "abcZdef", true),
            ("abc?def", "abcdef", false),
            ("a\\\\", "a\\", true),
            ("a\\*b", "a*b", true),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc", false),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a(b)c/def", "a(b)c/xyz", false),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("docs/", "docs/README.md", true),
            ("a*", "ab/c", true),
            ("*", "any/where/deep", true),
        ] {
            assert_eq!(matches(&[pattern], path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn later_patterns_win() {
        for (patterns, path, expected) in [
            (&["!fileutils.go", "*.go"][..], "fileutils.go", true),
            (&["*.go", "!fileutils.go"], "fileutils.go", false),
            (&["docs", "!docs/README.md"], "docs/README.md", false),
            (&["docs", "!docs/README.md"], "docs/other.md", true),
            (&["docs/", "!docs/README.md"], "docs/README.md", false),
            (&["docs/*", "!docs/README.md  "], "docs/README.md", false),
            (&["**", "!util/docker/web"], "util/docker/web/foo", false),
            (&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
            (&["**", "!dist/*.whl"], "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", false),
            (&[], "any", false),
        ] {
            assert_eq!(matches(patterns, path), expected, "{patterns:?} {path}");
        }
        assert!(PatternMatcher::new(&["a", "  !b"]).unwrap().has_exclusions());
        assert!(matches!(PatternMatcher::new(&["!"]), Err(crate::SnapshotError::BadPattern(_))));
        assert!(matches!(PatternMatcher::new(&["["]), Err(crate::SnapshotError::BadPattern(_))));
    }

    #[test]
    fn names_need_not_be_text() {
        use std::ffi::OsStr;
        let matcher = PatternMatcher::new(&["a*"]).unwrap();
        assert!(matcher.matches(Path::new(OsStr::from_bytes(b"a\xff\n"))));
    }

    #[test]
    fn reads_an_ignore_file() {
        let text = "\u{feff}# comment\n\n  /abs/path  \n! /kept/ \nsub/../other/\n  # not a comment\n/\n!\n";
        assert_eq!(parse_ignore_file(text), ["abs/path", "!kept", "other", "# not a comment", "/", "!"]);
    }

    #[test]
    fn the_one_case_in_which_the_parents_matter() {
        let matcher = PatternMatcher::new(&["dir/*", "!dir"]).unwrap();
        assert!(!matcher.matches(Path::new("dir/file")));
        let (_, info) = matcher.matches_with_parent(Path::new("dir"), &MatchInfo::default());
        assert!(matcher.matches_with_parent(Path::new("dir/file"), &info).0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parents_results_change_nothing(
            patterns in prop::collection::vec("(a|b|\\*|\\*\\*|\\?)(/(a|b|\\*|\\*\\*)){0,3}", 0..5),
            path in "[ab](/[ab]){0,4}",
        ) {
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            matches(&patterns, &path);
        }

        #[test]
        fn any_text_is_a_pattern_or_an_error(pattern in ".*", path in ".*") {
            if let Ok(matcher) = PatternMatcher::new(&[pattern]) {
                matcher.matches(Path::new(&path));
            }
        }
    }
}
