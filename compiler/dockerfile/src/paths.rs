//! Paths of instructions, settled against the folder that a stage works in.

use rb_path::join;

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
