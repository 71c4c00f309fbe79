//! Globs of path parts and of texts: `*`, `?`, `[a-z]`, `[^a]` and `\x`.
//!
//! In: a pattern and a name. Out: whether they match. The rules are those of [`rb_path::Glob`], because BuildKit expands the
//! same patterns by them when the copy runs; a pattern of a path is taken apart at `/` first, so no part ever matches a slash.
//! Where whole paths are matched, a part `**` stands for any number of folders.

use rb_path::{Dialect, Glob};

/// Returns whether `text` would be read as a pattern instead of a name.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Returns whether the whole of `name` matches `pattern`. A malformed pattern (`[a`) matches nothing.
pub fn matches(pattern: &str, name: &str) -> bool {
    matcher(pattern)(name)
}

/// Returns what tells whether the whole of a text matches `pattern`, for one that is held against many.
pub fn matcher(pattern: &str) -> impl Fn(&str) -> bool + use<> {
    let glob = Glob::new(pattern, Dialect::Text).ok();
    move |text| glob.as_ref().is_some_and(|glob| glob.matches(text.as_bytes()))
}

/// Returns whether the whole of `path` matches `pattern`, part by part; `**` matches any number of parts, none too.
///
/// Takes at most as many steps as the two have characters, multiplied.
pub fn matches_path(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    let (mut at, mut read, mut star) = (0, 0, None);
    while read < path.len() {
        match pattern.get(at) {
            Some(&"**") => {
                star = Some((at + 1, read));
                at += 1;
            }
            Some(part) if matches(part, path[read]) => {
                at += 1;
                read += 1;
            }
            _ => match star {
                Some((after, eaten)) => {
                    at = after;
                    read = eaten + 1;
                    star = Some((after, eaten + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == "**")
}

#[cfg(test)]
mod tests {
    use super::matches_path;

    #[test]
    fn matches_part_by_part() {
        for (pattern, path, expected) in [
            ("*.c", "a.c", true),
            ("*.c", "src/a.c", false),
            ("*/*.c", "src/a.c", true),
            ("**/*.c", "a.c", true),
            ("**/*.c", "src/deep/a.c", true),
            ("src/**", "src/deep/a.c", true),
            ("src/**", "src", true),
            ("src/**/a.c", "src/a.c", true),
            ("src/**/b/**/a.c", "src/b/x/b/y/a.c", true),
            ("src/**/b/**/a.c", "src/x/y/a.c", false),
            ("**", "a/b", true),
            ("a**", "a/b", false),
            ("", "", true),
        ] {
            assert_eq!(matches_path(pattern, path), expected, "{pattern} {path}");
        }
    }
}
