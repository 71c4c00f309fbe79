//! `.dockerignore`: what of a context nobody sees, and which sources of COPY are nothing but that.
//!
//! In: the file's text. Out: patterns as BuildKit hands them to the client, and a matcher for the check
//! `CopyIgnoredFile`. Source: moby's `patternmatcher` and its `ignorefile`.

use regex::Regex;

/// Reads the lines of an ignore file.
pub(crate) fn patterns(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
    lines.filter(|line| !line.is_empty()).map(pattern).collect()
}

fn pattern(line: &str) -> String {
    let (not, path) = match line.strip_prefix('!') {
        Some(path) => ("!", path.trim()),
        None => ("", line),
    };
    if path.is_empty() {
        return not.to_owned();
    }
    let cleaned = rb_path::clean(path);
    let relative = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
    format!("{not}{relative}")
}

/// Tells which paths are left out for certain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignored {
    patterns: Vec<Regex>,
    /// A pattern leaves out all that lies at the top.
    pub(crate) hides_all: bool,
}

impl Ignored {
    /// Compiles patterns. Where one takes back what others leave out, nothing is certain, and nothing is told.
    pub(crate) fn new(patterns: &[String]) -> Self {
        if patterns.iter().any(|pattern| pattern.starts_with('!')) {
            return Self::default();
        }
        let hides_all = patterns.iter().any(|pattern| ["*", "**", "**/*"].contains(&pattern.as_str()));
        Self { patterns: patterns.iter().filter_map(|pattern| compile(pattern)).collect(), hides_all }
    }

    /// Tells whether a cleaned path or a folder above it is left out.
    pub(crate) fn hides(&self, path: &str) -> bool {
        let mut parts = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path]);
        parts.any(|part| self.patterns.iter().any(|pattern| pattern.is_match(part)))
    }
}

/// Writes a pattern of Go's `filepath.Match` with `**` as a regular expression; none where it is not one.
fn compile(pattern: &str) -> Option<Regex> {
    let mut text = String::from("^");
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        let after = &rest[letter.len_utf8()..];
        (text, rest) = match letter {
            '*' if after.starts_with('*') => {
                let after = after[1..].strip_prefix('/').unwrap_or(&after[1..]);
                (text + if after.is_empty() { ".*" } else { "(.*/)?" }, after)
            }
            '*' => (text + "[^/]*", after),
            '?' => (text + "[^/]", after),
            '[' => {
                let (set, after) = after.split_once(']')?;
                (format!("{text}[{set}]"), after)
            }
            '\\' => {
                let next = after.chars().next()?;
                (text + &regex::escape(next.encode_utf8(&mut [0; 4])), &after[next.len_utf8()..])
            }
            plain => (text + &regex::escape(plain.encode_utf8(&mut [0; 4])), after),
        };
    }
    Regex::new(&(text + "$")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_patterns() {
        let text = "\u{FEFF}# no\n/target/\n  a/../b \n\n!keep/me\n! /x\n.\n/\n../y\n#\n!";
        assert_eq!(patterns(text), ["target", "b", "!keep/me", "!x", ".", "/", "../y", "!"]);
    }

    #[test]
    fn paths_that_are_left_out_are_found() {
        let ignored = Ignored::new(&patterns("*.md\ndocs\n**/node_modules\nsrc/**\nfile[0-9].txt\n"));
        for path in ["a.md", "docs", "docs/a", "x/node_modules/y", "node_modules", "src/a", "file1.txt"] {
            assert!(ignored.hides(path), "{path}");
        }
        for path in [".", "a.mdx", "x/a.md", "mydocs", "filex.txt"] {
            assert!(!ignored.hides(path), "{path}");
        }
        assert!(Ignored::new(&["*".to_owned()]).hides_all);
        assert!(!Ignored::new(&patterns("docs\n!docs/a")).hides("docs"));
    }
}
