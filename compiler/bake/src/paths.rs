//! Paths as texts with slashes, and patterns of names. Nothing is looked up.

/// Returns the shortest equal path: no `.`, no `//`, no `a/..`; "." for nothing.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Returns the last part of a path.
pub(crate) fn base(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    match (path.is_empty(), trimmed.is_empty()) {
        (true, _) => ".".to_owned(),
        (false, true) => "/".to_owned(),
        (false, false) => trimmed.rsplit('/').next().unwrap_or(trimmed).to_owned(),
    }
}

/// Returns all but the last part of a path.
pub(crate) fn directory(path: &str) -> String {
    clean(path.rfind('/').map_or("", |at| &path[..=at]))
}

/// Whether a text is the address of something elsewhere: of http, of git, or a git repository by its usual names.
pub(crate) fn is_remote(text: &str) -> bool {
    let http = text.starts_with("http://") || text.starts_with("https://");
    let git = ["git://", "ssh://", "git@", "github.com/"].iter().any(|start| text.starts_with(start));
    http || git
}

/// Whether a name fits a pattern with `*`, `?` and `[…]`; `None` if the pattern is broken.
pub(crate) fn matches(pattern: &str, name: &str) -> Option<bool> {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    fits(&pattern, &name)
}

fn fits(pattern: &[char], name: &[char]) -> Option<bool> {
    let Some((first, rest)) = pattern.split_first() else { return Some(name.is_empty()) };
    match first {
        '*' => {
            for at in 0..=name.len() {
                if fits(rest, &name[at..])? {
                    return Some(true);
                }
                if name.get(at) == Some(&'/') {
                    break;
                }
            }
            Some(false)
        }
        '?' => match name.split_first() {
            Some((letter, name)) if *letter != '/' => fits(rest, name),
            _ => Some(false),
        },
        '[' => {
            let end = rest.iter().skip(1).position(|letter| *letter == ']')? + 1;
            let (set, rest) = (&rest[..end], &rest[end + 1..]);
            let (negated, set) = if set.first() == Some(&'^') { (true, &set[1..]) } else { (false, set) };
            let Some((letter, name)) = name.split_first() else { return Some(false) };
            let found = in_set(set, *letter)?;
            if found == negated { Some(false) } else { fits(rest, name) }
        }
        '\\' => {
            let (escaped, rest) = rest.split_first()?;
            match name.split_first() {
                Some((letter, name)) if letter == escaped => fits(rest, name),
                _ => Some(false),
            }
        }
        first => match name.split_first() {
            Some((letter, name)) if letter == first => fits(rest, name),
            _ => Some(false),
        },
    }
}

fn in_set(set: &[char], letter: char) -> Option<bool> {
    let mut rest = set;
    let mut found = false;
    if rest.is_empty() {
        return None;
    }
    while let Some((first, after)) = rest.split_first() {
        if let [dash, last, after @ ..] = after
            && *dash == '-'
        {
            found |= (*first..=*last).contains(&letter);
            rest = after;
        } else {
            found |= *first == letter;
            rest = after;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, wanted) in [
            ("", "."),
            ("./a/", "a"),
            ("a//b/../c", "a/c"),
            ("../a", "../a"),
            ("a/../..", ".."),
            ("/..", "/"),
            ("/a/./b", "/a/b"),
        ] {
            assert_eq!(clean(path), wanted, "{path}");
        }
        assert_eq!((base("/a/b/"), directory("/a/b"), directory("a")), ("b".into(), "/a".into(), ".".into()));
    }

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, wanted) in [
            ("*", "app", Some(true)),
            ("app-*", "app-1", Some(true)),
            ("a?p", "app", Some(true)),
            ("[a-c]pp", "app", Some(true)),
            ("[^a]pp", "app", Some(false)),
            ("app", "apps", Some(false)),
            ("[", "app", None),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
