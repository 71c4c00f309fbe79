//! Globs of path parts: `*`, `?`, `[a-z]`, `[^a]` and `\x`.
//!
//! In: a pattern and a name. Out: whether they match. The rules are Go's `path.Match`, because BuildKit expands the
//! same patterns by them when the copy runs; a pattern is taken apart at `/` first, so no part ever matches a slash.
//! Where whole paths are matched, a part `**` stands for any number of folders.

/// Returns whether `text` would be read as a pattern instead of a name.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Returns whether the whole of `name` matches `pattern`. A malformed pattern (`[a`) matches nothing.
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // The last star seen and how much of the name it has eaten: enough to backtrack, since stars are greedy in order.
    let (mut at, mut read, mut star) = (0, 0, None);
    while read < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at + 1, read));
            at += 1;
            continue;
        }
        match one(&pattern[at..], name[read]) {
            Some(used) => {
                at += used;
                read += 1;
            }
            None => match star {
                Some((after, eaten)) => {
                    at = after;
                    read = eaten + 1;
                    star = Some((after, eaten + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
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

/// Matches one character against the start of `pattern` (not a star); returns how much of the pattern it took.
fn one(pattern: &[char], character: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['[', class @ ..] => one_of(class, character).map(|used| used + 1),
        ['\\', escaped, ..] => (*escaped == character).then_some(2),
        [literal, ..] => (*literal == character).then_some(1),
        [] => None,
    }
}

/// Matches a class behind its `[`; returns its length with the `]`, or `None` where it does not match or never ends.
fn one_of(class: &[char], character: char) -> Option<usize> {
    let negated = class.first() == Some(&'^');
    let mut at = usize::from(negated);
    let first = at;
    let mut found = false;
    loop {
        if class.get(at) == Some(&']') && at > first {
            return (found != negated).then_some(at + 1);
        }
        let (low, next) = class_end(class, at)?;
        let (high, next) =
            if class.get(next) == Some(&'-') { class_end(class, next + 1)? } else { (low, next) };
        found |= (low..=high).contains(&character);
        at = next;
    }
}

fn class_end(class: &[char], at: usize) -> Option<(char, usize)> {
    match class.get(at)? {
        '\\' => Some((*class.get(at + 1)?, at + 2)),
        '-' | ']' => None,
        literal => Some((*literal, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::{matches, matches_path};

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

    #[test]
    fn follows_go() {
        // The table of Go's path/match_test.go, without the slashes that never get here.
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[a", "a", false),
            ("a[", "a", false),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
