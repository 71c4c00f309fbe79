//! Cases of sources: repositories, bundles of them, folders of which names are wanted.
//!
//! In: `repositories.json`, which says where repositories are and which commits and bundles there are.

use std::collections::BTreeMap;
use std::fs;

use rb_llb::{State, attr, json_list};

use super::{Cases, none, platform};

/// The layout that bundles are in.
const LAYOUT: &str = "bundles";

struct Repositories {
    facts: BTreeMap<String, String>,
}

impl Repositories {
    fn fact(&self, name: &str) -> &str {
        self.facts.get(name).unwrap_or_else(|| panic!("nothing is said of `{name}`"))
    }

    /// A source of `REPOSITORY#REFERENCE`, with attributes.
    fn source(&self, what: &str, attrs: &[(&str, &str)]) -> State {
        let (repository, fragment) = what.split_once('#').map_or((what, ""), |(name, rest)| (name, rest));
        let host = self.fact("host");
        let hash = if fragment.is_empty() { "" } else { "#" };
        let mut all: BTreeMap<String, String> = [(attr::GIT_FULL_URL, format!("git://{host}/{repository}"))]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        all.extend(attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        State::source(format!("git://{host}/{repository}{hash}{fragment}"), all, Some(&platform()), none())
    }

    /// The same of what is in a bundle.
    fn bundled(&self, what: &str, bundle: &str, commit: &str, attrs: &[(&str, &str)]) -> State {
        let blob = format!("oci-layout+blob://not/real@{}", self.fact(bundle));
        let given = [
            (attr::GIT_BUNDLE, blob.as_str()),
            (attr::OCI_STORE, LAYOUT),
            (attr::GIT_CHECKSUM, self.fact(commit)),
        ];
        self.source(what, &[&given, attrs].concat())
    }
}

pub(super) fn add(cases: &mut Cases) {
    let facts = fs::read(cases.folder.join("repositories.json")).unwrap();
    let of = Repositories { facts: serde_json::from_slice(&facts).unwrap() };
    let (first, second, main, single) =
        (of.fact("first"), of.fact("second"), of.fact("main"), of.fact("single"));
    for (name, what) in [
        ("git-default", "app"),
        ("git-branch", "app#second"),
        ("git-submodule", "app#main"),
        ("git-tag", "app#light"),
        ("git-tag-heavy", "app#heavy"),
        ("git-reference", "app#refs/tags/heavy"),
        ("git-folder", "app#second:src"),
        ("git-folder-missing", "app#second:none"),
        ("git-missing", "app#none"),
        ("git-none", "none"),
    ] {
        cases.add(name, &of.source(what, &[]));
    }
    cases.add("git-commit", &of.source(&format!("app#{second}"), &[]));
    cases.add("git-submodule-skipped", &of.source("app#main", &[(attr::GIT_SKIP_SUBMODULES, "true")]));
    cases.add("git-checksum", &of.source("app#second", &[(attr::GIT_CHECKSUM, &second[..9])]));
    cases.add("git-checksum-other", &of.source("app#second", &[(attr::GIT_CHECKSUM, first)]));
    let by_commit = [(attr::GIT_FETCH_BY_COMMIT, "true"), (attr::GIT_CHECKSUM, first)];
    cases.add("git-by-commit", &of.source("app#second", &by_commit));

    let wanted = (attr::GIT_CHECKOUT_BUNDLE, "true");
    let pinned = |commit| [wanted, (attr::GIT_CHECKSUM, commit)];
    // Of a repository that is not asked for anything else: BuildKit goes by what it has of it, and that may be without history.
    cases.add("git-bundle-of-commit", &of.source(&format!("history#{}", of.fact("history")), &[wanted]));
    cases.add("git-bundle-of-root", &of.source("single#main", &pinned(single)));
    cases.add("git-bundle-of-default", &of.source("single", &pinned(single)));
    cases.add("git-bundle-of-name", &of.source("single#refs/heads/main", &pinned(single)));
    cases.add("git-bundle-with-git", &of.source("single#main", &[wanted, (attr::GIT_KEEP_DIR, "true")]));
    cases.add("git-bundle-of-folder", &of.source("app#main:src", &pinned(main)));
    cases.add("git-bundle-of-other", &of.source("single#main", &pinned(first)));
    // BuildKit fetches no history of a name.
    cases.add("git-bundle-of-branch", &of.source("app#second", &pinned(second)));
    cases.add("git-bundle-unpinned", &of.source("single#main", &[wanted]));

    cases.add("git-bundle-read", &of.bundled(&format!("app#{second}"), "whole", "second", &[]));
    cases.add("git-bundle-read-branch", &of.bundled("app#second", "whole", "second", &[]));
    cases.add("git-bundle-read-nameless", &of.bundled("app", "whole", "main", &[]));
    cases.add("git-bundle-read-tag", &of.bundled("app#light", "part", "second", &[]));
    cases.add("git-bundle-read-heavy", &of.bundled("app#refs/tags/heavy", "whole", "second", &[]));
    cases.add("git-bundle-read-folder", &of.bundled("app#second:src", "whole", "second", &[]));
    cases.add("git-bundle-read-submodule", &of.bundled("app#main", "whole", "main", &[]));
    cases.add("git-bundle-read-elsewhere", &of.bundled("none#second", "whole", "second", &[]));
    cases.add("git-bundle-read-older", &of.bundled(&format!("none#{first}"), "part", "first", &[]));
    cases.add("git-bundle-read-made", &of.bundled(&format!("nobody#{second}"), "whole", "second", &[wanted]));
    cases.add("git-bundle-read-missing", &of.bundled(&format!("none#{main}"), "part", "main", &[]));
    cases.add("git-bundle-read-no-branch", &of.bundled("app#main", "part", "main", &[]));
    cases.add("git-bundle-read-moved", &of.bundled("app#second", "whole", "first", &[]));
    cases.add("git-bundle-read-thin", &of.bundled("app#second", "thin", "second", &[]));
    cases.add("git-bundle-read-nonsense", &of.bundled("app#second", "nonsense", "second", &[]));
    let blob = format!("oci-layout+blob://not/real@{}", of.fact("whole"));
    let no_checksum = [(attr::GIT_BUNDLE, blob.as_str()), (attr::OCI_STORE, LAYOUT)];
    cases.add("git-bundle-read-unpinned", &of.source("app#second", &no_checksum));
    let elsewhere = [(attr::GIT_BUNDLE, "https://example.com/bundle"), (attr::GIT_CHECKSUM, second)];
    cases.add("git-bundle-read-web", &of.source("app#second", &elsewhere));
    listed(cases);
}

/// Folders of which names are wanted.
fn listed(cases: &mut Cases) {
    let wanted = (attr::LOCAL_METADATA_TRANSFER, "true".to_owned());
    let content = |patterns: &[&str]| (attr::LOCAL_METADATA_TRANSFER_EXCLUDE, json_list(patterns));
    let only = |patterns: &[&str]| (attr::LOCAL_INCLUDE_PATTERNS, json_list(patterns));
    let without = |patterns: &[&str]| (attr::LOCAL_EXCLUDE_PATTERNS, json_list(patterns));
    for (name, attrs) in [
        ("listed", vec![wanted.clone()]),
        ("listed-and-a-file", vec![wanted.clone(), content(&["folder/run"])]),
        ("listed-and-a-folder", vec![wanted.clone(), content(&["folder/inner"])]),
        ("listed-and-an-empty-folder", vec![wanted.clone(), content(&["empty"])]),
        ("listed-and-some", vec![wanted.clone(), content(&["**/*i*", "!folder/inner/private"])]),
        ("listed-and-links", vec![wanted.clone(), content(&["link", "dangling", "none"])]),
        ("listed-part", vec![wanted.clone(), only(&["folder"]), content(&["**/run"])]),
        ("listed-without", vec![wanted.clone(), without(&["folder/inner", "link"]), content(&["**"])]),
        ("listed-not", vec![(attr::LOCAL_METADATA_TRANSFER, "f".to_owned()), content(&["file"])]),
        ("listed-nonsense", vec![(attr::LOCAL_METADATA_TRANSFER, "yes".to_owned())]),
    ] {
        let attrs = attrs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        cases.add(name, &State::source("local://src".to_owned(), attrs, Some(&platform()), none()));
    }
}
