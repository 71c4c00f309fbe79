//! Paths and patterns as texts, as Go's `path` reads them: BuildKit, bake and buildpacks say theirs in its words.
//!
//! In: texts with slashes, from anybody. Out: the shortest equal path, its parts, and whether a name fits a [`Glob`].
//! **Invariant:** nothing is looked up, and no text takes more than the product of its and the pattern's length.
//! Source: the documentation and tests of Go's `path` and `path/filepath`. Libraries for this (`path-clean`, `glob`, `globset`)
//! know paths of the system and other patterns (`[!a]`, `{a,b}`), and count bytes that are not UTF-8 otherwise.

mod glob;

pub use glob::{BadPattern, Dialect, Glob, has_wildcard};

/// Returns the shortest equal path: without `.`, doubled slashes and what `..` takes back; an empty one is `.`.
pub fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if is_absolute => {}
            part => parts.push(part),
        }
    }
    match (is_absolute, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

/// Joins two paths, and cleans what comes of it.
pub fn join(first: &str, second: &str) -> String {
    match (first, second) {
        ("", second) => clean(second),
        (first, "") => clean(first),
        (first, second) => clean(&format!("{first}/{second}")),
    }
}

/// Returns the last part of a path; of `/` that is `/`, of nothing `.`.
pub fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path, trimmed) {
        ("", _) => ".",
        (_, "") => "/",
        (_, path) => path.rsplit('/').next().unwrap_or(path),
    }
}

/// Returns all but the last part of a path, cleaned.
pub fn directory(path: &str) -> String {
    clean(path.rfind('/').map_or("", |at| &path[..=at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("/..", "/"),
            ("/../a", "/a"),
            ("/a/./b", "/a/b"),
            ("/abc/def/../../..", "/"),
            ("abc/", "abc"),
            ("abc//def//ghi", "abc/def/ghi"),
            ("abc/./../def", "def"),
            ("abc/def/../../..", ".."),
            ("a//b/./c/..", "a/b"),
            ("../../abc", "../../abc"),
            ("../a/../..", "../.."),
            ("a/..", "."),
            ("**/", "**"),
            ("./dir/./sub/**/f.c", "dir/sub/**/f.c"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn paths_have_parts() {
        assert_eq!((join("/", "../a"), join("", "a/"), join("a", "")), ("/a".into(), "a".into(), "a".into()));
        assert_eq!((base("/a/b/"), base("/"), base("")), ("b", "/", "."));
        assert_eq!((directory("/a/b"), directory("a"), directory("")), ("/a".into(), ".".into(), ".".into()));
    }
}
