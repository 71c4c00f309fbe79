//! The app: where it lies, and which of its files take part, by `include` and `exclude` of a project.
//!
//! In: patterns as `.gitignore` has them. Out: patterns as sources of folders have them, from the folder's root on. What is
//! left out never reaches a step, so it is in no key.
//! Source: gitignore(5); the project descriptor extension of the spec; what pack does with `dir/`: the folder stays, empty.

use rb_llb::State;

use crate::project::Project;

/// Where the app lies.
#[derive(Clone, Debug)]
pub struct AppSource {
    /// The tree.
    pub state: State,
    /// Its folder there; absolute.
    pub path: String,
    /// What of it takes part, as far as the tree has more than that.
    pub filter: AppFilter,
}

impl AppSource {
    /// Takes all of a tree.
    pub fn whole(state: State) -> Self {
        Self { state, path: "/".to_owned(), filter: AppFilter::default() }
    }
}

/// Patterns of a source that is a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppFilter {
    /// What takes part; all if there are none.
    pub include: Vec<String>,
    /// What does not.
    pub exclude: Vec<String>,
}

impl AppFilter {
    /// Takes the patterns of a project.
    pub fn of(project: &Project) -> Self {
        let exclude: Vec<String> =
            project.exclude.iter().flatten().flat_map(|line| translated(line)).collect();
        let lines: Vec<String> = project.include.iter().flatten().flat_map(|line| translated(line)).collect();
        // What is included but for a part is included, and that part left out.
        let (out, include): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.starts_with('!'));
        let out = out.into_iter().map(|line| line.trim_start_matches('!').to_owned());
        Self { include, exclude: exclude.into_iter().chain(out).collect() }
    }
}

/// Returns the patterns from the root on that one line of a `.gitignore` stands for.
fn translated(line: &str) -> Vec<String> {
    let line = line.trim_end_matches(['\r', ' ']).trim_start();
    if line.is_empty() || line.starts_with('#') {
        return Vec::new();
    }
    let (not, line) = line.strip_prefix('!').map_or(("", line), |rest| ("!", rest));
    let line = line.strip_prefix('\\').filter(|rest| rest.starts_with(['#', '!'])).unwrap_or(line);
    let (line, inside) = line.strip_suffix('/').map_or((line, ""), |rest| (rest, "/**"));
    let path = line.trim_start_matches('/');
    if path.is_empty() {
        return Vec::new();
    }
    let anywhere = !line.contains('/');
    let mut all = vec![format!("{not}{path}{inside}")];
    if anywhere {
        all.push(format!("{not}**/{path}{inside}"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_from_the_root_on() {
        assert_eq!(translated("*.log"), ["*.log", "**/*.log"]);
        assert_eq!(translated("/top"), ["top"]);
        assert_eq!(translated("a/b"), ["a/b"]);
        assert_eq!(translated("target/"), ["target/**", "**/target/**"]);
        assert_eq!(translated("!keep"), ["!keep", "!**/keep"]);
        assert_eq!(translated("\\#x"), ["#x", "**/#x"]);
        assert!(translated("# no").is_empty() && translated("  ").is_empty() && translated("/").is_empty());
    }

    #[test]
    fn what_is_included_but_for_a_part() {
        let project = Project { include: Some(vec!["src/".into(), "!src/x".into()]), ..Project::default() };
        let filter = AppFilter::of(&project);
        assert_eq!(filter.include, ["src/**", "**/src/**"]);
        assert_eq!(filter.exclude, ["src/x"]);
        let project = Project { exclude: Some(vec!["/a".into()]), ..Project::default() };
        assert_eq!(AppFilter::of(&project), AppFilter { include: vec![], exclude: vec!["a".into()] });
    }
}
