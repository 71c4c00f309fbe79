//! Lower: what a statement means → an LLB node on top of a [`State`].
//!
//! In: values in which nothing is left to expand, resolve or check. Out: a new state. Each function makes at most
//! one vertex, so one statement is one layer.
//! **Invariant:** what reaches an op is a function of the Buildfile, its arguments and the tree, never of the
//! machine: all paths are relative to the workspace or absolute inside the step.
//! Source: what Earthly and BuildKit's Dockerfile frontend make of the same statements.

mod exec;
pub(crate) mod paths;

use std::collections::{BTreeMap, BTreeSet};

use rb_frontend::{PinnedRepository, ProjectRef, Repository, ResolvedImage};
use rb_llb::{
    CopyAction, CopyMode, FileBuilder, MkdirAction, NodeMeta, Owner, State, UserSpec, attr, extension,
    json_list,
};
use rb_oci::{Digest, Platform};

pub(crate) use exec::{
    ANSWER_EXIT, ANSWER_OUTPUT, Agent, Bind, Cache, SCRIPT, Secret, Step, Tmpfs, answer, run,
};

/// What a step finds as PATH where nothing else sets it. Source: BuildKit's `system.DefaultPathEnvUnix`.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Modification time of copied files where an Earthfile does not keep theirs: 2020-04-16T12:00:00Z, in nanoseconds.
pub(crate) const EARTHLY_TIMESTAMP: i64 = 1_587_038_400_000_000_000;

/// Returns the name by which a session serves a project's folder: `context`, or `context/<dir>`.
///
/// What lies elsewhere no session has.
pub fn local_name(project: &ProjectRef) -> String {
    match project.dir() {
        "" => "context".to_owned(),
        dir => format!("context/{dir}"),
    }
}

/// Returns the name by which a session serves a folder as it is, with the modes of its files: what a Dockerfile takes
/// its files from.
pub fn dockerfile_context(project: &ProjectRef) -> String {
    format!("dockerfile-{}", local_name(project))
}

/// A pinned image.
pub(crate) fn image(image: &ResolvedImage, platform: &Platform, meta: NodeMeta) -> State {
    State::source(image.identifier.clone(), image.attrs.clone(), Some(platform), meta)
}

/// A repository of git elsewhere, with its `.git`.
pub(crate) fn repository(url: &str, reference: &str, meta: NodeMeta) -> State {
    let (identifier, mut attrs) = repository_source(url, reference);
    attrs.insert(attr::GIT_KEEP_DIR.to_owned(), "true".to_owned());
    State::source(identifier, attrs, None, meta)
}

/// The files of a repository elsewhere that a project lies in, as a frontend and its workspace both name them.
pub fn tree_elsewhere(repository: &Repository, pinned: &PinnedRepository) -> State {
    let (identifier, attrs) = repository_source(&pinned.url, &pinned.commit);
    let short = pinned.commit.get(..12).unwrap_or(&pinned.commit);
    State::source(identifier, attrs, None, NodeMeta::named(format!("{repository} at {short}")))
}

/// A folder in a tree.
pub(crate) struct Folder {
    pub(crate) state: State,
    /// Absolute, without a `/` at its end.
    pub(crate) path: String,
}

/// A project's folder in a repository elsewhere, without what its ignore file leaves out.
pub(crate) fn folder_elsewhere(
    repository: &Repository,
    pinned: &PinnedRepository,
    dir: &str,
    exclude: &[String],
    meta: NodeMeta,
) -> Folder {
    let state = tree_elsewhere(repository, pinned);
    let path = if dir.is_empty() { String::new() } else { format!("/{dir}") };
    // What stands in a path of COPY may be a pattern; a folder's own name is none.
    if exclude.is_empty() && !path.contains(['*', '?', '[', '\\']) {
        return Folder { state, path };
    }
    let action = CopyAction {
        src: format!("/{dir}"),
        dest: "/".to_owned(),
        dir_copy_contents: true,
        create_dest_path: true,
        exclude_patterns: exclude.to_vec(),
        ..CopyAction::default()
    };
    Folder { state: State::scratch().files().copy(&state, action).finish(meta), path: String::new() }
}

/// Returns the identifier and the attributes of a source of git, without its `.git`. Secrets of the session have the names
/// that BuildKit's client gives them.
pub fn repository_source(url: &str, reference: &str) -> (String, BTreeMap<String, String>) {
    let (scheme, rest) = url.split_once("://").map_or((None, url), |(scheme, rest)| (Some(scheme), rest));
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // `git@host:path`; behind a scheme, a colon divides a port.
    let short = scheme.is_none() && authority.contains('@') && authority.contains(':');
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let place = if short { format!("{}{path}", host.replacen(':', "/", 1)) } else { format!("{host}{path}") };
    let mut identifier = format!("git://{place}");
    if !reference.is_empty() {
        identifier.push_str(&format!("#{reference}"));
    }
    let full = if scheme.is_none() && !short { format!("https://{url}") } else { url.to_owned() };
    let mut attrs: BTreeMap<String, String> = [
        (attr::GIT_FULL_URL, full.as_str()),
        (attr::GIT_AUTH_HEADER_SECRET, "GIT_AUTH_HEADER"),
        (attr::GIT_AUTH_TOKEN_SECRET, "GIT_AUTH_TOKEN"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if short || scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("ssh")) {
        attrs.insert(attr::GIT_MOUNT_SSH_SOCK.to_owned(), "default".to_owned());
    }
    (identifier, attrs)
}

/// This machine's own tools; the order in which binds and fingerprints were written does not count.
pub(crate) fn host(
    binds: &BTreeSet<String>,
    fingerprints: &BTreeSet<String>,
    platform: &Platform,
    meta: NodeMeta,
) -> State {
    let binds = binds.iter().enumerate().map(|(at, bind)| (extension::host_bind(at), bind.clone()));
    let commands = fingerprints.iter().enumerate();
    let attrs = binds.chain(commands.map(|(at, command)| (extension::host_fingerprint(at), command.clone())));
    State::source(format!("{}://", extension::HOST_SCHEME), attrs.collect(), Some(platform), meta)
}

/// What a command has left that failed in this build.
pub(crate) fn left(vertex: &Digest, meta: NodeMeta) -> State {
    State::source(format!("{}://{vertex}", extension::LEFT_SCHEME), BTreeMap::new(), None, meta)
}

/// What of a project's folder a COPY reads.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// Paths and patterns relative to the project; empty means the whole folder.
    pub(crate) patterns: Vec<String>,
    /// Those of them that are symbolic links, so that what they lead to is read too.
    pub(crate) links: Vec<String>,
    /// What is not there, whatever the patterns say.
    pub(crate) exclude: Vec<String>,
    /// Sets this look at the folder apart from others of the same build.
    pub(crate) unique: Option<String>,
}

/// A project's folder, cut down to what is read of it.
pub(crate) fn context(project: &ProjectRef, context: &Context, platform: &Platform, meta: NodeMeta) -> State {
    let name = local_name(project);
    let mut attrs = BTreeMap::from([(attr::LOCAL_SHARED_KEY_HINT.to_owned(), name.clone())]);
    if !context.patterns.is_empty() {
        attrs.insert(attr::LOCAL_INCLUDE_PATTERNS.to_owned(), json_list(&context.patterns));
    }
    if !context.exclude.is_empty() {
        attrs.insert(attr::LOCAL_EXCLUDE_PATTERNS.to_owned(), json_list(&context.exclude));
    }
    if !context.links.is_empty() {
        attrs.insert(attr::LOCAL_FOLLOW_PATHS.to_owned(), json_list(&context.links));
    }
    if let Some(unique) = &context.unique {
        attrs.insert(attr::LOCAL_UNIQUE.to_owned(), unique.clone());
    }
    State::source(format!("local://{name}"), attrs, Some(platform), meta)
}

/// A project's folder as it is, with the modes of its files: of it what matches `include`, or all, but for `exclude`.
pub(crate) fn folder_as_it_is(
    project: &ProjectRef,
    (include, exclude): (&[String], &[String]),
    unique: Option<String>,
    meta: NodeMeta,
) -> State {
    let name = dockerfile_context(project);
    let mut attrs = BTreeMap::from([(attr::LOCAL_SHARED_KEY_HINT.to_owned(), name.clone())]);
    for (key, patterns) in [(attr::LOCAL_INCLUDE_PATTERNS, include), (attr::LOCAL_EXCLUDE_PATTERNS, exclude)]
    {
        if !patterns.is_empty() {
            attrs.insert(key.to_owned(), json_list(patterns));
        }
    }
    attrs.extend(unique.map(|unique| (attr::LOCAL_UNIQUE.to_owned(), unique)));
    State::source(format!("local://{name}"), attrs, None, meta)
}

/// Makes a directory and its parents, unless it is there.
pub(crate) fn make_directory(base: &State, path: &str, user: Option<&str>, meta: NodeMeta) -> State {
    let owner = user.map(owner);
    base.mkdir(
        MkdirAction { path: path.to_owned(), mode: 0o755, make_parents: true, owner, timestamp: None },
        meta,
    )
}

/// One thing to copy.
pub(crate) struct CopyFrom {
    pub(crate) state: State,
    /// Absolute path in it, or a pattern.
    pub(crate) path: String,
    /// The folder above it, absolute, from which on folders are kept, if they are.
    pub(crate) base: Option<String>,
}

/// How to copy.
#[derive(Debug, Clone, Default)]
pub(crate) struct CopyOptions {
    /// Directories go as themselves, not as what is in them.
    pub(crate) whole_directories: bool,
    pub(crate) if_exists: bool,
    pub(crate) follow_symlink: bool,
    pub(crate) mode: CopyMode,
    /// `user[:group]`; none keeps the source's.
    pub(crate) owner: Option<String>,
    pub(crate) timestamp: Option<i64>,
}

/// Copies onto `base`, one thing after the other, in one vertex.
pub(crate) fn copy(
    base: &State,
    sources: &[CopyFrom],
    dest: &str,
    options: &CopyOptions,
    meta: NodeMeta,
) -> State {
    copies(base.files(), sources, dest, options).finish(meta)
}

/// Adds a copy of each thing to what is done in one vertex.
fn copies(files: FileBuilder, sources: &[CopyFrom], dest: &str, options: &CopyOptions) -> FileBuilder {
    sources.iter().fold(files, |files, from| {
        // With its folders it is a part of what is copied, and chosen by a pattern.
        let rest = from.base.as_ref().and_then(|base| from.path.strip_prefix(base.as_str()));
        let parts: Vec<String> = rest
            .map(|rest| rest.trim_matches('/').to_owned())
            .filter(|part| !part.is_empty())
            .into_iter()
            .collect();
        // It counts from the root of what is copied from; a pattern is no path that must be there.
        let is_required = !parts.is_empty() && !options.if_exists && !is_pattern(&from.path);
        let path = match &from.base {
            Some(base) if base.is_empty() => "/",
            Some(base) => base.as_str(),
            None => from.path.as_str(),
        };
        let (src, allow_wildcard) = source_path(path, options.if_exists && from.base.is_none());
        let action = CopyAction {
            src,
            dest: dest.to_owned(),
            owner: options.owner.as_deref().map(owner),
            mode: options.mode.clone(),
            follow_symlink: options.follow_symlink,
            dir_copy_contents: from.base.is_some() || !options.whole_directories,
            create_dest_path: true,
            allow_wildcard,
            allow_empty_wildcard: options.if_exists,
            timestamp: options.timestamp,
            required_paths: is_required.then(|| from.path.clone()).into_iter().collect(),
            include_patterns: parts,
            ..CopyAction::default()
        };
        files.copy(&from.state, action)
    })
}

/// Copies onto nothing, and lays that over `base`: what is copied depends on nothing below it, and stays as it is when that changes.
/// Folders on the way are root's, whatever owner and mode what is copied gets: they are laid over those of the base.
/// Source: BuildKit's Dockerfile frontend, `COPY --link`.
pub(crate) fn copy_linked(
    base: &State,
    sources: &[CopyFrom],
    dest: &str,
    options: &CopyOptions,
    meta: NodeMeta,
) -> State {
    let name = meta.name.as_ref().map(|name| name.replacen(" | ", " | LINK ", 1));
    let lay = NodeMeta { name, ..meta.clone() };
    let way = dest.rsplit_once('/').map_or("", |(folder, _)| folder).trim_end_matches('/');
    let files = State::scratch().files();
    let files = match way {
        "" => files,
        way => files.mkdir(MkdirAction {
            path: way.to_owned(),
            mode: 0o755,
            make_parents: true,
            timestamp: options.timestamp,
            ..MkdirAction::default()
        }),
    };
    State::merge(vec![base.clone(), copies(files, sources, dest, options).finish(meta)], None, lay)
}

/// Writes a path so that it may be missing: an engine lets only a pattern match nothing, so the first letter becomes
/// a class of one.
fn source_path(path: &str, if_exists: bool) -> (String, bool) {
    let pattern = is_pattern(path);
    if !if_exists || pattern {
        return (path.to_owned(), pattern);
    }
    match path.find(|letter: char| letter.is_alphanumeric()) {
        Some(at) => {
            let end = at + path[at..].chars().next().map_or(0, char::len_utf8);
            (format!("{}[{}]{}", &path[..at], &path[at..end], &path[end..]), true)
        }
        None => (path.to_owned(), true),
    }
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '\\'])
}

/// Reads `user[:group]`; names are looked up in the tree that is changed.
pub(crate) fn owner(text: &str) -> Owner {
    let spec = |text: &str| match text.parse() {
        Ok(id) => UserSpec::Id(id),
        Err(_) => UserSpec::Name { name: text.to_owned(), input: Some(0) },
    };
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    Owner { user: Some(spec(user)), group: group.filter(|group| !group.is_empty()).map(spec) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_without_a_user_is_root() {
        assert_eq!(owner(":7"), Owner { user: Some(UserSpec::Id(0)), group: Some(UserSpec::Id(7)) });
    }

    #[test]
    fn what_may_be_missing_is_a_pattern() {
        assert_eq!(source_path("/a/b", false), ("/a/b".to_owned(), false));
        assert_eq!(source_path("/a/b", true), ("/[a]/b".to_owned(), true));
        assert_eq!(source_path("/.env", true), ("/.[e]nv".to_owned(), true));
        assert_eq!(source_path("/a*", true), ("/a*".to_owned(), true));
    }

    #[test]
    fn locals_are_named_by_their_folder() {
        let name = |dir: &str| local_name(&ProjectRef::Local { dir: dir.to_owned() });
        assert_eq!(name(""), "context");
        assert_eq!(name("a/b"), "context/a/b");
        assert_eq!(name("../x"), "context/../x");
    }

    #[test]
    fn the_timestamp_is_earthlys() {
        // 18 368 days after 1970-01-01, and twelve hours.
        assert_eq!(EARTHLY_TIMESTAMP, (18_368 * 86_400 + 43_200) * 1_000_000_000);
    }
}
