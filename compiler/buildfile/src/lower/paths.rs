//! Paths inside a filesystem and inside the project, by their text.

/// Joins `path` to the absolute directory `cwd` and normalises; `..` stops at the root.
pub(crate) fn absolute(cwd: &str, path: &str) -> String {
    let from_root = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in cwd.split('/').filter(|_| !from_root).chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Returns whether the text names a directory by its look: empty, `.`, or ending in `/` or `/.`.
pub(crate) fn names_directory(path: &str) -> bool {
    path.is_empty()
        || path == "."
        || path.ends_with('/')
        || path.ends_with("/.")
        || path == ".."
        || path.ends_with("/..")
}

/// Returns an absolute directory with a slash at its end, which means "into it".
pub(crate) fn into_directory(path: &str) -> String {
    format!("{}/", path.trim_end_matches('/'))
}

/// Returns the last part of an absolute path; empty for the root.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Returns whether `path` is `above` or lies in it; both absolute and normalised.
pub(crate) fn is_within(path: &str, above: &str) -> bool {
    path == above || path.strip_prefix(above.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
}

/// Why a path does not lie in the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutsideError {
    #[error("the path is absolute")]
    Absolute,
    #[error("the path leads out of the project's folder")]
    Above,
}

/// Normalises a path relative to the project; `""` is the project's folder itself.
pub(crate) fn inside(path: &str) -> Result<String, OutsideError> {
    if path.starts_with('/') {
        return Err(OutsideError::Absolute);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or(OutsideError::Above)?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_by_text() {
        for (cwd, path, expected) in [
            ("/", "a", "/a"),
            ("/w", ".", "/w"),
            ("/w", "../a//b/", "/a/b"),
            ("/w", "/x/../../y", "/y"),
            ("/w", "../../..", "/"),
        ] {
            assert_eq!(absolute(cwd, path), expected, "{cwd} {path}");
        }
        assert_eq!(inside("./a/../b/"), Ok("b".to_owned()));
        assert_eq!(inside("."), Ok(String::new()));
        assert_eq!(inside("a/../../b"), Err(OutsideError::Above));
        assert_eq!(inside("/a"), Err(OutsideError::Absolute));
        assert_eq!(into_directory("/"), "/");
        assert_eq!(into_directory("/a"), "/a/");
        assert!(is_within("/a/b", "/a") && is_within("/a", "/a") && is_within("/a", "/"));
        assert!(!is_within("/ab", "/a"));
    }
}
