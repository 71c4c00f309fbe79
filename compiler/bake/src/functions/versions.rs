//! Whether a version satisfies a constraint: `>= 1.2, < 2 || ^3`.
//!
//! The grammar is that of the Masterminds library, which bake files are written for: no operator means "equal", parts may
//! be missing or be `x` or `*`, commas and spaces mean "and", `||` means "or", `1 - 2` is a range.

use semver::Version;

/// Whether `version` satisfies `constraint`.
pub(super) fn satisfies(version: &str, constraint: &str) -> Result<bool, String> {
    let version = Partial::parse(version)
        .filter(|partial| partial.given > 0)
        .ok_or_else(|| format!("`{version}` is no version"))?
        .version;
    let wrong = || format!("`{constraint}` is no constraint of versions");
    let mut satisfied = false;
    for group in constraint.split("||") {
        let rules = rules(group.trim()).ok_or_else(wrong)?;
        satisfied |= rules.iter().all(|(operator, partial)| holds(operator, partial, &version));
    }
    Ok(satisfied)
}

/// A version with parts that may be missing.
struct Partial {
    version: Version,
    /// How many of its three parts are there.
    given: usize,
}

impl Partial {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (core, rest) = text.split_at(end);
        let mut numbers = [0; 3];
        let mut given = 0;
        let mut wild = false;
        for (at, part) in core.split('.').enumerate() {
            if matches!(part, "x" | "X" | "*") {
                wild = true;
            } else {
                if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                let number = numbers.get_mut(at)?;
                *number = part.parse().ok()?;
                if !wild {
                    given = at + 1;
                }
            }
        }
        let [major, minor, patch] = numbers;
        Version::parse(&format!("{major}.{minor}.{patch}{rest}")).ok().map(|version| Self { version, given })
    }

    /// Returns the first version that is above all that begin with the parts given.
    fn next(&self, parts: usize) -> Version {
        let Version { major, minor, patch, .. } = self.version;
        match parts {
            1 => Version::new(major + 1, 0, 0),
            2 => Version::new(major, minor + 1, 0),
            _ => Version::new(major, minor, patch + 1),
        }
    }
}

const OPERATORS: &[&str] = &["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^"];

fn rules(group: &str) -> Option<Vec<(String, Partial)>> {
    if let Some((low, high)) = group.split_once(" - ") {
        let low = Partial::parse(low.trim())?;
        return Some(vec![(">=".to_owned(), low), ("<=".to_owned(), Partial::parse(high.trim())?)]);
    }
    let mut rules = Vec::new();
    let mut rest = group;
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if rest.is_empty() {
            break;
        }
        let operator =
            OPERATORS.iter().find(|operator| rest.starts_with(**operator)).copied().unwrap_or_default();
        rest = rest[operator.len()..].trim_start();
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        rules.push((operator.to_owned(), Partial::parse(&rest[..end])?));
        rest = &rest[end..];
    }
    if rules.is_empty() { None } else { Some(rules) }
}

fn holds(operator: &str, partial: &Partial, version: &Version) -> bool {
    let wanted = &partial.version;
    // A version before a release is meant only where the constraint names one too.
    if !version.pre.is_empty() && wanted.pre.is_empty() && operator != "!=" {
        return false;
    }
    let bare = Version { build: semver::BuildMetadata::EMPTY, ..version.clone() };
    let version = &bare;
    let begins = partial.given == 0 || (version >= wanted && (*version < partial.next(partial.given)));
    match operator {
        "" | "=" if partial.given < 3 => begins,
        "" | "=" => version == wanted,
        "!=" if partial.given < 3 => !begins,
        "!=" => version != wanted,
        ">" if partial.given < 3 => partial.given > 0 && *version >= partial.next(partial.given),
        ">" => version > wanted,
        ">=" | "=>" => version >= wanted,
        "<" => version < wanted,
        "<=" | "=<" if partial.given < 3 => begins || version < wanted,
        "<=" | "=<" => version <= wanted,
        "~" | "~>" => {
            partial.given == 0 || (version >= wanted && *version < partial.next(partial.given.min(2)))
        }
        "^" => {
            let parts = match (wanted.major, wanted.minor, partial.given) {
                (0, 0, 3) => 3,
                (0, 0, 2) => 2,
                (0, minor, given) if given >= 2 && minor > 0 => 2,
                _ => 1,
            };
            partial.given == 0 || (version >= wanted && *version < partial.next(parts))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_those_that_bake_files_use() {
        for (version, constraint, wanted) in [
            ("1.2.3", "1.2.3", true),
            ("1.2.3", "1.2", true),
            ("1.3.0", "1.2.x", false),
            ("1.2.3", ">= 1.2, < 2.0.0", true),
            ("2.0.0", ">= 1.2, < 2.0.0", false),
            ("2.0.0", "< 1 || >= 2", true),
            ("1.9.0", "^1.2", true),
            ("0.3.0", "^0.2", false),
            ("1.2.9", "~1.2.3", true),
            ("1.3.0", "~1.2.3", false),
            ("1.5.0", "1.2 - 1.6", true),
            ("v1.2", "!= 1.3", true),
            ("1.2.3-rc.1", ">= 1.0", false),
            ("1.2.3-rc.1", ">= 1.2.3-alpha", true),
            ("1.2.3", "*", true),
        ] {
            assert_eq!(satisfies(version, constraint), Ok(wanted), "{version} {constraint}");
        }
        assert!(satisfies("one", "1").is_err() && satisfies("1", "one").is_err());
    }
}
