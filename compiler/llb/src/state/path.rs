//! Paths inside a tree, as BuildKit's client settles them.

/// Returns `path` as an absolute path without `.` and `..`: a relative one starts at `cwd`. With `keep_slash` a
/// trailing `/` or `/.` stays, since a copy's destination means something else with it.
pub fn absolute_path(cwd: &str, path: &str, keep_slash: bool) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let start = if path.starts_with('/') { "" } else { cwd };
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    let mut absolute = format!("/{}", parts.join("/"));
    if keep_slash {
        if path.ends_with('/') && !absolute.ends_with('/') {
            absolute.push('/');
        } else if path.ends_with("/.") {
            if absolute != "/" {
                absolute.push('/');
            }
            absolute.push('.');
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::absolute_path;

    #[test]
    fn settles_paths() {
        for (cwd, path, expected) in [
            ("/", "a", "/a"),
            ("", "a/b", "/a/b"),
            ("/w", "./a//b/../c", "/w/a/c"),
            ("/w", "/x/", "/x"),
            ("/w", "../../..", "/"),
            ("/w", ".", "/w"),
        ] {
            assert_eq!(absolute_path(cwd, path, false), expected, "{cwd} {path}");
        }
    }

    #[test]
    fn keeps_what_a_copy_needs() {
        for (path, expected) in
            [("a/", "/w/a/"), ("/", "/"), ("./", "/w/"), ("a/.", "/w/a/."), ("/.", "/."), ("a", "/w/a")]
        {
            assert_eq!(absolute_path("/w", path, true), expected, "{path}");
        }
    }
}
