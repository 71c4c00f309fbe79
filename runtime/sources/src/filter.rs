//! Which entries of a folder a local source keeps.
//!
//! Patterns are those of `.dockerignore`: an entry is kept where an include pattern names it or a folder above it
//! (or there are none) and no exclude pattern does. A folder that is not kept itself stays where something below is.
//! A walk asks from the top down, each folder's answer at hand as those inside of it are asked for, as BuildKit's does.

use std::path::{Component, Path};

use rb_snapshot::patterns::{MatchInfo, PatternMatcher};

use crate::SourceError;

/// Include and exclude patterns, compiled.
pub(crate) struct Filter {
    include: Option<PatternMatcher>,
    exclude: PatternMatcher,
    /// Where include patterns and the exceptions of exclude patterns lead, name by name.
    included: Vec<Vec<String>>,
    excepted: Vec<Vec<String>>,
}

/// What the patterns said of a folder.
#[derive(Clone, Default)]
pub(crate) struct Above {
    include: MatchInfo,
    exclude: MatchInfo,
}

/// What the patterns say of an entry.
pub(crate) struct Verdict {
    /// They name it.
    pub(crate) kept: bool,
    /// They may name something in it, should it be a folder.
    pub(crate) look_inside: bool,
    /// To ask about what is in it.
    pub(crate) above: Above,
}

impl Filter {
    pub(crate) fn new(include: &[String], exclude: &[String]) -> Result<Self, SourceError> {
        let names = |pattern: &str| {
            let parts = || pattern.split('/').filter(|part| !matches!(*part, "" | "."));
            // What goes up may come down anywhere.
            let up = parts().any(|part| part == "..");
            if up { vec!["**".to_owned()] } else { parts().map(ToOwned::to_owned).collect() }
        };
        let plain = include.iter().map(|pattern| pattern.trim()).filter(|pattern| !pattern.starts_with('!'));
        let exceptions = exclude.iter().filter_map(|pattern| pattern.trim().strip_prefix('!'));
        Ok(Self {
            include: if include.is_empty() { None } else { Some(PatternMatcher::new(include)?) },
            exclude: PatternMatcher::new(exclude)?,
            included: plain.map(names).collect(),
            excepted: exceptions.map(names).collect(),
        })
    }

    /// Asks about an entry, whose folder the patterns said `above` of.
    pub(crate) fn ask(&self, path: &Path, above: &Above) -> Verdict {
        let (included, include) = match &self.include {
            Some(include) => include.matches_with_parent(path, &above.include),
            None => (true, MatchInfo::default()),
        };
        let (excluded, exclude) = self.exclude.matches_with_parent(path, &above.exclude);
        let any = |patterns: &[Vec<String>]| patterns.iter().any(|pattern| leads_to(pattern, path));
        Verdict {
            kept: included && !excluded,
            look_inside: (included || any(&self.included)) && (!excluded || any(&self.excepted)),
            above: Above { include, exclude },
        }
    }

    /// Whether the patterns name a path, of whose folder nothing is known.
    pub(crate) fn keeps(&self, path: &Path) -> bool {
        self.include.as_ref().is_none_or(|include| include.matches(path)) && !self.exclude.matches(path)
    }
}

/// Whether a pattern may match something below a folder: false only where a plain name rules it out.
fn leads_to(pattern: &[String], folder: &Path) -> bool {
    for (part, name) in pattern.iter().zip(folder.components()) {
        // These reach over slashes.
        if part.contains("**") || part.contains(['[', '\\']) {
            return true;
        }
        if !part.contains(['*', '?']) && name != Component::Normal(part.as_ref()) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |patterns: &[&str]| patterns.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Filter::new(&owned(include), &owned(exclude)).expect("patterns")
    }

    /// Asks from the top down; tells whether the walk gets there and whether it is kept.
    fn reaches(filter: &Filter, path: &str) -> (bool, bool) {
        let mut above = Above::default();
        let path = Path::new(path);
        let mut ancestors: Vec<&Path> =
            path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
        ancestors.reverse();
        for folder in ancestors {
            let verdict = filter.ask(folder, &above);
            if !verdict.look_inside {
                return (false, false);
            }
            above = verdict.above;
        }
        (true, filter.ask(path, &above).kept)
    }

    #[test]
    fn plain_names_rule_folders_out() {
        for (include, exclude, path, expected) in [
            (&[][..], &[][..], "a/b", (true, true)),
            (&["a/b"], &[], "a/b", (true, true)),
            (&["a/b"], &[], "a/b/c/d", (true, true)),
            (&["a/b"], &[], "a/c", (true, false)),
            (&["a/b"], &[], "b/a", (false, false)),
            (&[" a/b "], &[], "a/b", (true, true)),
            (&["./a//b/"], &[], "a/b/c", (true, true)),
            (&["x/../a/b"], &[], "a/b", (true, true)),
            (&["*/b"], &[], "a/b", (true, true)),
            (&["*/b/*.c"], &[], "a/x/y.c", (false, false)),
            (&["a**/c/x.txt"], &[], "a/b/c/x.txt", (true, true)),
            (&["**/x"], &[], "a/b/c/x", (true, true)),
            (&["[a]/b"], &[], "a/b", (true, true)),
            (&["a\\*/b"], &[], "a*/b", (true, true)),
            (&["a", "!a/b"], &[], "a/b", (true, false)),
            (&["a"], &["a/b"], "a/b/c", (false, false)),
            (&[], &["a"], "a/b", (false, false)),
            (&[], &["a", "!a/b"], "a/b", (true, true)),
            (&[], &["a", "!a/b/c"], "a/b/c", (true, true)),
            (&[], &["a", "!b/c"], "a/b", (false, false)),
            (&[], &["*", "!README.md"], "node_modules/x/y", (false, false)),
            (&[], &["*", "!README.md"], "README.md", (true, true)),
            (&[], &["**/*.o", "!keep/**"], "keep/a/b.o", (true, true)),
        ] {
            assert_eq!(reaches(&filter(include, exclude), path), expected, "{include:?} {exclude:?} {path}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in ["[", "!", "a/[b"] {
            assert!(Filter::new(&[pattern.to_owned()], &[]).is_err(), "{pattern}");
            assert!(Filter::new(&[], &[pattern.to_owned()]).is_err(), "{pattern}");
        }
    }
}
