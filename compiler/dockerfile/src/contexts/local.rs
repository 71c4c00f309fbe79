//! Folders that the client lends, as sources.
//!
//! What of a folder is asked for is part of the source: which paths its users name, and which patterns leave out what.

use std::collections::{BTreeMap, BTreeSet};

use rb_llb::{NodeMeta, State, attr, json_list};

use crate::options::Options;

/// Paths of a tree that instructions take something from, absolute. The root stands for all of it.
pub(crate) type Taken = BTreeSet<String>;

/// A folder of the client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder {
    /// Name under which it is lent.
    pub(crate) name: String,
    /// What may share a copy of it on the engine's side.
    pub(crate) shared_key: String,
    /// Sets this look at the folder apart from others of the same build.
    pub(crate) unique: Option<String>,
    /// Patterns that leave something out.
    pub(crate) excludes: Vec<String>,
    /// What is shown.
    pub(crate) shown: String,
}

impl Folder {
    /// Returns the folder, or of it what is taken.
    pub(crate) fn state(&self, options: &Options, taken: &Taken) -> State {
        self.source(options, &follow(taken), false)
    }

    /// Returns a few files of the folder, read afresh.
    pub(crate) fn files(&self, options: &Options, names: &[String]) -> State {
        self.source(options, names, true)
    }

    fn source(&self, options: &Options, follow: &[String], afresh: bool) -> State {
        let session = options.local_sessions.get(&self.name).or(options.session.as_ref());
        let list = |items: &[String]| (!items.is_empty()).then(|| json_list(items));
        let attrs = [
            (attr::LOCAL_SESSION, session.cloned()),
            (attr::LOCAL_FOLLOW_PATHS, list(follow)),
            (attr::LOCAL_EXCLUDE_PATTERNS, list(&self.excludes)),
            (attr::LOCAL_SHARED_KEY_HINT, Some(self.shared_key.clone())),
            (attr::LOCAL_UNIQUE, self.unique.clone()),
            (attr::LOCAL_DIFFER, afresh.then(|| "none".to_owned())),
        ];
        let attrs: BTreeMap<String, String> =
            attrs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        State::source(format!("local://{}", self.name), attrs, None, NodeMeta::named(&self.shown))
    }
}

/// Returns the paths to follow; none is the whole folder.
fn follow(taken: &Taken) -> Vec<String> {
    if taken.contains("/") {
        return Vec::new();
    }
    let mut follow: Vec<String> = taken.iter().map(|path| rb_path::clean(&format!("./{path}"))).collect();
    follow.sort();
    follow
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_followed_unless_it_is_all() {
        let taken = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Taken>();
        assert_eq!(follow(&taken(&["/b", "/a/c", "/*.txt"])), ["*.txt", "a/c", "b"]);
        assert_eq!(follow(&taken(&["/b", "/"])), [""; 0]);
        assert_eq!(follow(&taken(&[])), [""; 0]);
    }
}
