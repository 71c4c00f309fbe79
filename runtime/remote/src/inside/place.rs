//! A definition on its way out of a frontend: folders of a project become those that the build's client has.
//!
//! A build file's project is a folder, with others below it. A client that started the daemon's build lends one folder as the context, or
//! the context is a tree from elsewhere, so that a folder below is a part of it, and becomes a copy of that part. What the client
//! says of all steps is said of each; nothing else is encoded again, and lines of files stay with what they made.
//! **Invariant:** no path leads out of the context.

use std::collections::BTreeMap;

use rb_llb::extension::is_extension;
use rb_llb::{
    CopyAction, Definition, Edge, HostAddress, LinuxResources, NetworkMode, NodeMeta, Op, SourceOp, State,
    Ulimit, Vertex, attr, json_list,
};
use rb_oci::Digest;

use crate::error::RemoteError;
use crate::prepare::{Head, Input, refused};

/// Where files of a build come from.
#[derive(Clone, Debug)]
pub enum Ground {
    /// A folder that the client lends by this name.
    Lent(String),
    /// A tree from elsewhere.
    Tree(State),
}

/// What a client says of a build.
#[derive(Clone, Debug)]
pub struct Given {
    /// The context, which is the folder of the project.
    pub context: Ground,
    /// Which session lends the client's folders.
    pub session: Option<String>,
    /// Other sessions, by the folder that they lend.
    pub sessions: BTreeMap<String, String>,
    /// Nothing is looked up.
    pub no_cache: bool,
    /// Lines for `/etc/hosts` of each step.
    pub hosts: Vec<HostAddress>,
    /// What steps take their host to be called.
    pub hostname: Option<String>,
    /// The network of steps that choose none.
    pub network: NetworkMode,
    /// Parent of the steps' cgroups.
    pub cgroup_parent: Option<String>,
    /// Limits of the steps' processes.
    pub ulimits: Vec<Ulimit>,
    /// Limits on memory and processors.
    pub resources: Option<LinuxResources>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            context: Ground::Lent("context".to_owned()),
            session: None,
            sessions: BTreeMap::new(),
            no_cache: false,
            hosts: Vec::new(),
            hostname: None,
            network: NetworkMode::default(),
            cgroup_parent: None,
            ulimits: Vec::new(),
            resources: None,
        }
    }
}

/// Name of a project's folder in graphs, and what stands before it where a folder is meant as it is.
const CONTEXT: &str = "context";
const AS_IT_IS: &str = "dockerfile-";

/// What to do about a step that no daemon can do: who builds by docker has no engine to choose.
const HELP: &str =
    "a daemon sees the build context alone: COPY what the step needs, or build the target with rb itself";

/// Makes what is sent of a definition. Refuses what no daemon can do.
pub(super) fn place(definition: &Definition, given: &Given) -> Result<Definition, RemoteError> {
    let graph = definition.graph().map_err(|error| RemoteError::answer(rb_diag::chain(&error)))?;
    if let Some(vertex) = graph.vertices().find(|vertex| is_extension(&vertex.op)) {
        return Err(refused(&graph, vertex, HELP));
    }
    let mut moved: BTreeMap<Digest, Edge> = BTreeMap::new();
    let mut renamed: BTreeMap<Digest, Digest> = BTreeMap::new();
    let mut placed = Definition { sources: definition.sources.clone(), ..Definition::default() };
    placed.sources.locations.clear();
    let now = |edge: &Edge, moved: &BTreeMap<Digest, Edge>, renamed: &BTreeMap<Digest, Digest>| match moved
        .get(&edge.vertex)
    {
        Some(tree) => *tree,
        None => Edge { vertex: renamed.get(&edge.vertex).copied().unwrap_or(edge.vertex), index: edge.index },
    };
    for vertex in graph.vertices() {
        let mut meta = graph.meta(&vertex.digest).clone();
        meta.ignore_cache |= given.no_cache;
        if let Op::Source(source) = &vertex.op
            && let ("local", name) = source.scheme()
        {
            let tree = folder(name, source, meta.name().unwrap_or(name), given)?;
            let tree = tree
                .marshal(&rb_diag::SourceMap::default())
                .map_err(|error| RemoteError::answer(rb_diag::chain(&error)))?;
            let part = tree.graph().map_err(|error| RemoteError::answer(rb_diag::chain(&error)))?;
            for own in part.vertices() {
                let mut told = part.meta(&own.digest).clone();
                told.ignore_cache |= given.no_cache;
                if placed.meta.insert(own.digest, told).is_none() {
                    placed.ops.push(own.bytes.clone());
                }
            }
            let root = part.root().ok_or_else(|| RemoteError::answer("a folder has no root"))?;
            moved.insert(vertex.digest, root);
            continue;
        }
        let mut op = vertex.op.clone();
        if let Op::Exec(exec) = &mut op {
            exec.meta.extra_hosts.extend(given.hosts.iter().cloned());
            exec.meta.ulimits.extend(given.ulimits.iter().cloned());
            if exec.meta.hostname.is_empty() {
                exec.meta.hostname.clone_from(given.hostname.as_ref().unwrap_or(&String::new()));
            }
            if exec.meta.cgroup_parent.is_empty() {
                exec.meta.cgroup_parent.clone_from(given.cgroup_parent.as_ref().unwrap_or(&String::new()));
            }
            if exec.network == NetworkMode::Sandbox {
                exec.network = given.network;
            }
            meta.linux_resources = meta.linux_resources.or_else(|| given.resources.clone());
            caps(given, &mut meta.caps);
        }
        let inputs: Vec<Edge> = vertex.inputs.iter().map(|edge| now(edge, &moved, &renamed)).collect();
        let bytes = if op == vertex.op && inputs == vertex.inputs {
            vertex.bytes.clone()
        } else {
            Vertex { op, inputs, ..vertex.clone() }.encode()
        };
        let digest = Digest::of(&bytes);
        renamed.insert(vertex.digest, digest);
        if let Some(places) = definition.sources.locations.get(&vertex.digest) {
            placed.sources.locations.insert(digest, places.clone());
        }
        if placed.meta.insert(digest, meta).is_none() {
            placed.ops.push(bytes);
        }
    }
    if let Some(root) = graph.root() {
        let root = now(&root, &moved, &renamed);
        let input = Input { digest: root.vertex.to_string(), index: i64::from(root.index) };
        placed.ops.push(prost::Message::encode_to_vec(&Head { inputs: vec![input] }).into());
    }
    Ok(placed)
}

/// Says what an engine must be able to do for what is said of all steps.
fn caps(given: &Given, caps: &mut BTreeMap<String, bool>) {
    let mut ask = |name: &str, is_asked: bool| {
        if is_asked {
            caps.insert(name.to_owned(), true);
        }
    };
    ask("exec.meta.network", given.network != NetworkMode::Sandbox);
    ask("exec.meta.ulimit", !given.ulimits.is_empty());
    ask("exec.meta.linux.resources", given.resources.is_some());
}

/// Returns the tree that a folder of a project is.
fn folder(name: &str, source: &SourceOp, shown: &str, given: &Given) -> Result<State, RemoteError> {
    let of_project = name.strip_prefix(AS_IT_IS).unwrap_or(name);
    let dir = match of_project.strip_prefix(CONTEXT) {
        Some("") => "",
        Some(rest) if rest.starts_with('/') => &rest[1..],
        // A folder by the client's own name.
        Some(_) | None => return lent(name, "", source, shown, given),
    };
    if dir.split('/').any(|part| part == "..") {
        let what = format!("`{dir}` lies outside of the folder that the build's client lends");
        return Err(RemoteError::Unsupported { what, help: "name a folder further up as the build context" });
    }
    let whole = match &given.context {
        Ground::Lent(name) => lent(name, dir, source, shown, given)?,
        Ground::Tree(state) => state.clone(),
    };
    let excludes = patterns(source, attr::LOCAL_EXCLUDE_PATTERNS)?;
    let is_lent = matches!(given.context, Ground::Lent(_));
    if dir.is_empty() && (is_lent || excludes.is_empty()) {
        return Ok(whole);
    }
    let copy = CopyAction {
        src: if dir.is_empty() { "/".to_owned() } else { format!("/{}", literal(dir)) },
        dest: "/".to_owned(),
        dir_copy_contents: true,
        allow_wildcard: !dir.is_empty(),
        allow_empty_wildcard: !dir.is_empty(),
        exclude_patterns: if is_lent { Vec::new() } else { excludes },
        ..CopyAction::default()
    };
    let meta = NodeMeta::named(format!(
        "[internal] take `{}` of the context",
        if dir.is_empty() { "." } else { dir }
    ));
    Ok(State::scratch().copy(&whole, copy, meta))
}

/// Returns a folder of the client, of which the part `dir` counts.
fn lent(name: &str, dir: &str, source: &SourceOp, shown: &str, given: &Given) -> Result<State, RemoteError> {
    let mut attrs = source.attrs.clone();
    if !dir.is_empty() {
        for list in [attr::LOCAL_INCLUDE_PATTERNS, attr::LOCAL_EXCLUDE_PATTERNS, attr::LOCAL_FOLLOW_PATHS] {
            let mut below: Vec<String> =
                patterns(source, list)?.iter().map(|pattern| under(dir, pattern)).collect();
            if list == attr::LOCAL_INCLUDE_PATTERNS
                && below.is_empty()
                && !attrs.contains_key(attr::LOCAL_FOLLOW_PATHS)
            {
                below.push(literal(dir));
            }
            if !below.is_empty() {
                attrs.insert(list.to_owned(), json_list(&below));
            }
        }
    }
    if let Some(session) = given.sessions.get(name).or(given.session.as_ref()) {
        attrs.insert(attr::LOCAL_SESSION.to_owned(), session.clone());
    }
    attrs.insert(attr::LOCAL_SHARED_KEY_HINT.to_owned(), name.to_owned());
    Ok(State::source(format!("local://{name}"), attrs, None, NodeMeta::named(shown)))
}

fn patterns(source: &SourceOp, name: &str) -> Result<Vec<String>, RemoteError> {
    let Some(text) = source.attrs.get(name) else { return Ok(Vec::new()) };
    serde_json::from_str(text).map_err(|error| RemoteError::answer(format!("`{name}` is no list: {error}")))
}

/// Puts a pattern below a folder; one that takes back stays one.
fn under(dir: &str, pattern: &str) -> String {
    match pattern.strip_prefix('!') {
        Some(pattern) => format!("!{}/{}", literal(dir), pattern.trim_start_matches('/')),
        None => format!("{}/{}", literal(dir), pattern.trim_start_matches('/')),
    }
}

/// Writes a path as the pattern that fits it alone.
fn literal(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for letter in path.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use rb_diag::SourceMap;
    use rb_llb::dump;

    use super::*;

    fn local(name: &str, attrs: &[(&str, &str)]) -> State {
        let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        State::source(format!("local://{name}"), attrs, None, NodeMeta::named("COPY a b"))
    }

    fn placed(state: &State, given: &Given) -> Result<String, RemoteError> {
        let definition = state.marshal(&SourceMap::default()).expect("marshals");
        let placed = place(&definition, given)?;
        let again = Definition::from_bytes(&placed.to_bytes()).expect("decodes");
        Ok(dump(&again.graph().expect("is a graph")))
    }

    #[test]
    fn folders_of_a_project_are_those_of_the_client() {
        let given = Given { session: Some("s".to_owned()), ..Given::default() };
        let text = placed(&local("context", &[(attr::LOCAL_INCLUDE_PATTERNS, r#"["a"]"#)]), &given)
            .expect("any has it");
        assert!(text.contains("local://context") && text.contains(r#"includepattern=["a"]"#), "{text}");
        assert!(text.contains("local.session=s") || text.contains("session=s"), "{text}");

        let attrs =
            [(attr::LOCAL_INCLUDE_PATTERNS, r#"["a*"]"#), (attr::LOCAL_EXCLUDE_PATTERNS, r#"["b","!b/c"]"#)];
        let text = placed(&local("context/sub[1]", &attrs), &given).expect("any has it");
        for words in [r"sub\\[1\\]/a*", r"sub\\[1\\]/b", r"!sub\\[1\\]/b/c", "copy"] {
            assert!(text.contains(words), "`{words}` is not in {text}");
        }
        // All of a folder is the folder alone.
        let text = placed(&local("dockerfile-context/sub", &[]), &given).expect("any has it");
        assert!(text.contains(r#"includepattern=["sub"]"#), "{text}");
    }

    #[test]
    fn a_tree_from_elsewhere_is_the_context() {
        let tree = State::source("git://example.com/a.git", BTreeMap::new(), None, NodeMeta::named("git"));
        let given = Given { context: Ground::Tree(tree), ..Given::default() };
        let text = placed(&local("context", &[(attr::LOCAL_INCLUDE_PATTERNS, r#"["a"]"#)]), &given)
            .expect("any has it");
        assert!(text.contains("git://example.com/a.git") && !text.contains("local://"), "{text}");
        assert!(!text.contains("copy"), "the whole tree is as it is: {text}");
        let text = placed(&local("context/sub", &[]), &given).expect("any has it");
        assert!(text.contains("/sub"), "{text}");
    }

    #[test]
    fn no_folder_leads_out_and_the_host_is_refused() {
        for name in ["context/../x", "context/.."] {
            let error = placed(&local(name, &[]), &Given::default()).expect_err("leads out");
            assert!(error.to_string().contains("lies outside"), "{error}");
        }
        let host = State::source("host://", BTreeMap::new(), None, NodeMeta::named("FROM @host"));
        let error = placed(&host, &Given::default()).expect_err("no daemon has it");
        assert!(error.to_string().contains("FROM @host"), "{error}");
    }
}
