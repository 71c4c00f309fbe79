//! Paths as texts, as Go's `path` settles them.

/// Returns a path without `.`, doubled slashes and what `..` takes back; an empty one is `.`.
pub(crate) fn clean(path: &str) -> String {
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
pub(crate) fn join(first: &str, second: &str) -> String {
    match (first, second) {
        ("", second) => clean(second),
        (first, "") => clean(first),
        (first, second) => clean(&format!("{first}/{second}")),
    }
}

/// Returns the last part of a path; of `/` that is `/`, of nothing `.`.
pub(crate) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path, trimmed) {
        ("", _) => ".",
        (_, "") => "/",
        (_, path) => path.rsplit('/').next().unwrap_or(path),
    }
}

/// Returns a path of an instruction as an absolute one: a relative one starts at `folder`. What is absolute stays as it
/// is written.
pub(crate) fn absolute(folder: &str, path: &str) -> String {
    let folder = if folder.starts_with('/') { folder.to_owned() } else { join("/", folder) };
    match path {
        "" => folder,
        path if path.starts_with('/') => path.to_owned(),
        path => join(&folder, path),
    }
}

/// Returns the destination of a copy as an absolute path; what a slash or dot at its end means stays.
pub(crate) fn destination(folder: &str, path: &str) -> String {
    let path = if path.is_empty() || path == "." { "./" } else { path };
    let mut absolute = absolute(folder, path);
    if path.ends_with('/') && !absolute.ends_with('/') {
        absolute.push('/');
    } else if path.ends_with("/.") && !absolute.ends_with("/.") {
        if absolute != "/" {
            absolute.push('/');
        }
        absolute.push('.');
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("a//b/./c/..", "a/b"),
            ("/../a", "/a"),
            ("../a/../..", "../.."),
            ("a/..", "."),
            ("./dir/./sub/**/f.c", "dir/sub/**/f.c"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
        assert_eq!((join("/", "../a"), join("", "a/"), join("a", "")), ("/a".into(), "a".into(), "a".into()));
        assert_eq!((base("/a/b/"), base("/"), base("")), ("b", "/", "."));
    }

    #[test]
    fn destinations_keep_what_their_end_means() {
        for (folder, path, expected) in [
            ("/w", ".", "/w/"),
            ("/w", "", "/w/"),
            ("/", "./", "/"),
            ("/w", "a/", "/w/a/"),
            ("/w", "a/.", "/w/a/."),
            ("/w", "/x/../y/", "/x/../y/"),
            ("w", "a", "/w/a"),
        ] {
            assert_eq!(destination(folder, path), expected, "{folder} {path}");
        }
    }
}
