//! A graph as text, one vertex a line: for snapshots in tests and for people.
//!
//! ```text
//! platform = linux/amd64
//! v0 = source docker-image://docker.io/library/rust:1.95  ; Buildfile:3
//! v1 = source local://context includepattern=["src"]  ; Buildfile:5
//! v2 = file   copy v1.0:/src -> v0.0:/src  ; Buildfile:5
//! v3 = exec   [cargo build --release] root=v2.0 cwd=/w  ; Buildfile:6
//! root = v3.0
//! ```
//!
//! **Invariant:** two graphs with the same dump do the same: all that a digest covers is there, unless it is what
//! BuildKit's client writes by itself. Names and capabilities are not; `no-cache` is.

use std::fmt::Write;

use crate::{
    CacheSharing, ContentCache, CopyAction, CopyMode, Edge, ExecOp, FileAction, FileActionKind, Graph, Mount,
    MountKind, NetworkMode, Op, OpPlatform, Owner, SecurityMode, UserSpec, Vertex,
};

/// Writes `graph` as text.
pub fn dump(graph: &Graph) -> String {
    let mut text = String::new();
    let common = graph.vertices().find_map(|vertex| vertex.platform.as_ref());
    if let Some(platform) = common {
        line(&mut text, &format!("platform = {}", platform_text(platform)));
    }
    for (at, vertex) in graph.vertices().enumerate() {
        line(&mut text, &format!("v{at} = {}", vertex_text(graph, vertex, common)));
    }
    match graph.root() {
        Some(root) => line(&mut text, &format!("root = {}", edge_text(graph, root))),
        None => line(&mut text, "root = scratch"),
    }
    text
}

fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push('\n');
}

fn vertex_text(graph: &Graph, vertex: &Vertex, common: Option<&OpPlatform>) -> String {
    let inputs: Vec<String> = vertex.inputs.iter().map(|edge| edge_text(graph, *edge)).collect();
    let mut words = match &vertex.op {
        Op::Source(source) => {
            let mut words = vec!["source".to_owned(), word(&source.identifier)];
            words.extend(source.attrs.iter().map(|(name, value)| {
                format!(
                    "{}={}",
                    name.split_once('.').map_or(name.as_str(), |(_, rest)| rest),
                    attr_value(value)
                )
            }));
            words
        }
        Op::Exec(exec) => exec_words(exec, &inputs),
        Op::File(file) => {
            let action = |(at, action)| action_text(action, at, file.actions.len(), &inputs);
            let actions: Vec<String> = file.actions.iter().enumerate().map(action).collect();
            vec!["file  ".to_owned(), actions.join("; ")]
        }
        Op::Build(build) => {
            let mut words = vec!["build ".to_owned()];
            words.extend(
                build.builder.map(|builder| format!("builder={}", input_text(&inputs, Some(builder)))),
            );
            words.extend(
                build.inputs.iter().map(|(name, at)| format!("{name}={}", input_text(&inputs, Some(*at)))),
            );
            words.extend(build.attrs.iter().map(|(name, value)| format!("{name}={}", word(value))));
            words.extend(build.def.as_ref().map(|def| format!("def={}", rb_oci::Digest::of(def).short())));
            words
        }
        Op::Merge(merge) => {
            let inputs = merge.inputs.iter().map(|input| input_text(&inputs, *input));
            std::iter::once("merge ".to_owned()).chain(inputs).collect()
        }
        Op::Diff(diff) => {
            let (lower, upper) = (input_text(&inputs, diff.lower), input_text(&inputs, diff.upper));
            vec!["diff  ".to_owned(), format!("{lower} -> {upper}")]
        }
    };
    let platform = vertex.platform.as_ref().filter(|platform| Some(*platform) != common);
    words.extend(platform.map(|platform| format!("platform={}", platform_text(platform))));
    let filters = vertex.constraints.iter().flat_map(|constraints| &constraints.filter);
    words.extend(filters.map(|filter| format!("worker={}", word(filter))));
    if graph.meta(&vertex.digest).ignore_cache {
        words.push("no-cache".to_owned());
    }
    if let Some((file, range)) = graph.location(&vertex.digest) {
        words.push(format!(" ; {}:{}", file.name, range.start.line));
    }
    words.join(" ")
}

fn platform_text(platform: &OpPlatform) -> String {
    let OpPlatform { os, architecture, variant, os_version, os_features } = platform;
    let mut text = format!("{os}/{architecture}");
    for part in [variant, os_version].into_iter().chain(os_features).filter(|part| !part.is_empty()) {
        // Writing into a string cannot fail.
        let _written = write!(text, "/{part}");
    }
    text
}

fn edge_text(graph: &Graph, edge: Edge) -> String {
    match graph.position(&edge.vertex) {
        Some(at) => format!("v{at}.{}", edge.index),
        None => format!("{}.{}", edge.vertex, edge.index),
    }
}

fn input_text(inputs: &[String], at: Option<usize>) -> String {
    let Some(at) = at else { return "scratch".to_owned() };
    inputs.get(at).cloned().unwrap_or_else(|| format!("a{}", at - inputs.len()))
}

/// Quotes what would read as more than one word.
fn word(text: &str) -> String {
    let plain =
        |letter: char| !letter.is_whitespace() && !letter.is_control() && !"\"';[]\\".contains(letter);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("{text:?}") }
}

/// Lists are JSON already.
fn attr_value(text: &str) -> String {
    let is_list = text.starts_with('[') && text.ends_with(']') && !text.contains(char::is_control);
    if is_list { text.to_owned() } else { word(text) }
}

fn exec_words(exec: &ExecOp, inputs: &[String]) -> Vec<String> {
    let list = |items: &[String]| items.iter().map(|item| word(item)).collect::<Vec<_>>().join(" ");
    let meta = &exec.meta;
    let mut words = vec!["exec  ".to_owned(), format!("[{}]", list(&meta.args))];
    let root = exec.mounts.iter().filter(|mount| mount.dest == "/");
    let others = exec.mounts.iter().filter(|mount| mount.dest != "/");
    words.extend(root.chain(others).map(|mount| mount_text(mount, inputs)));
    if meta.cwd != "/" {
        words.push(format!("cwd={}", word(&meta.cwd)));
    }
    if !meta.env.is_empty() {
        words.push(format!("env=[{}]", list(&meta.env)));
    }
    let texts = [("user", &meta.user), ("hostname", &meta.hostname), ("cgroup", &meta.cgroup_parent)];
    words.extend(
        texts
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| format!("{name}={}", word(text))),
    );
    words.extend(meta.extra_hosts.iter().map(|address| format!("host={}:{}", address.host, address.ip)));
    words.extend(
        meta.ulimits.iter().map(|limit| format!("ulimit={}:{}:{}", limit.name, limit.soft, limit.hard)),
    );
    if let Some(proxy) = &meta.proxy_env {
        let texts = [
            ("http_proxy", &proxy.http_proxy),
            ("https_proxy", &proxy.https_proxy),
            ("ftp_proxy", &proxy.ftp_proxy),
            ("no_proxy", &proxy.no_proxy),
            ("all_proxy", &proxy.all_proxy),
        ];
        let set = texts.iter().filter(|(_, text)| !text.is_empty());
        words.extend(set.map(|(name, text)| format!("{name}={}", word(text))));
    }
    if !meta.valid_exit_codes.is_empty() {
        let codes: Vec<String> = meta.valid_exit_codes.iter().map(ToString::to_string).collect();
        words.push(format!("exit={}", codes.join(",")));
    }
    if !meta.remove_mount_stubs_recursive {
        words.push("keep-mount-stubs".to_owned());
    }
    match exec.network {
        NetworkMode::Sandbox => {}
        NetworkMode::Host => words.push("network=host".to_owned()),
        NetworkMode::None => words.push("network=none".to_owned()),
    }
    match exec.security {
        SecurityMode::Sandbox => {}
        SecurityMode::Insecure => words.push("security=insecure".to_owned()),
    }
    words.extend(exec.secret_env.iter().map(|secret| {
        format!("secret-env={}:{}{}", word(&secret.name), word(&secret.id), optional(secret.optional))
    }));
    words.extend(
        exec.cdi_devices
            .iter()
            .map(|device| format!("device={}{}", word(&device.name), optional(device.optional))),
    );
    words
}

fn optional(optional: bool) -> &'static str {
    if optional { "?" } else { "" }
}

fn mount_text(mount: &Mount, inputs: &[String]) -> String {
    let mut text = if mount.dest == "/" { "root=".to_owned() } else { format!("{}=", word(&mount.dest)) };
    let from = input_text(inputs, mount.input);
    match &mount.kind {
        MountKind::Bind => text.push_str(&from),
        MountKind::Cache { id, sharing } => {
            let sharing = match sharing {
                CacheSharing::Shared => "shared",
                CacheSharing::Private => "private",
                CacheSharing::Locked => "locked",
            };
            text.push_str(&format!("cache({} {sharing}", word(id)));
            if mount.input.is_some() {
                text.push_str(&format!(" {from}"));
            }
            text.push(')');
        }
        MountKind::Tmpfs { size_bytes } => text.push_str(&format!("tmpfs({size_bytes})")),
        MountKind::Secret(secret) => {
            let (id, mode, optional) = (word(&secret.id), secret.mode, optional(secret.optional));
            text.push_str(&format!("secret({id}{optional} {}:{} {mode:04o})", secret.uid, secret.gid));
        }
        MountKind::Ssh(agent) => {
            let (id, mode, optional) = (word(&agent.id), agent.mode, optional(agent.optional));
            text.push_str(&format!("ssh({id}{optional} {}:{} {mode:04o})", agent.uid, agent.gid));
        }
    }
    if !mount.selector.is_empty() {
        text.push_str(&format!(":{}", word(&mount.selector)));
    }
    if mount.readonly {
        text.push_str(",ro");
    }
    match (mount.output, mount.dest == "/") {
        (Some(0), true) => {}
        (Some(output), _) => text.push_str(&format!(",out={output}")),
        (None, _) if mount.kind == MountKind::Bind && !mount.readonly => text.push_str(",no-out"),
        (None, _) => {}
    }
    match mount.content_cache {
        ContentCache::Default => {}
        ContentCache::On => text.push_str(",content-cache"),
        ContentCache::Off => text.push_str(",no-content-cache"),
    }
    if !mount.result_id.is_empty() {
        text.push_str(&format!(",result={}", word(&mount.result_id)));
    }
    text
}

fn action_text(action: &FileAction, at: usize, count: usize, inputs: &[String]) -> String {
    let base = input_text(inputs, action.input);
    let path = |path: &str| format!("{base}:{}", word(path));
    let mut words = match &action.kind {
        FileActionKind::Copy(copy) => {
            let from = input_text(inputs, action.secondary_input);
            let mut words = vec![format!("copy {from}:{} -> {}", word(&copy.src), path(&copy.dest))];
            words.extend(copy_options(copy));
            words.extend(owner_and_time(copy.owner.as_ref(), copy.timestamp, inputs));
            words
        }
        FileActionKind::Mkfile(mkfile) => {
            let data = match std::str::from_utf8(&mkfile.data) {
                Ok(text) if text.chars().count() <= 60 => format!("{text:?}"),
                _ => format!("{} bytes {}", mkfile.data.len(), rb_oci::Digest::of(&mkfile.data).short()),
            };
            let mut words = vec![format!("mkfile {} {:04o} {data}", path(&mkfile.path), mkfile.mode)];
            words.extend(owner_and_time(mkfile.owner.as_ref(), mkfile.timestamp, inputs));
            words
        }
        FileActionKind::Mkdir(mkdir) => {
            let mut words = vec![format!("mkdir {} {:04o}", path(&mkdir.path), mkdir.mode)];
            words.extend(mkdir.make_parents.then(|| "parents".to_owned()));
            words.extend(owner_and_time(mkdir.owner.as_ref(), mkdir.timestamp, inputs));
            words
        }
        FileActionKind::Rm(rm) => {
            let mut words = vec![format!("rm {}", path(&rm.path))];
            words.extend(rm.allow_not_found.then(|| "if-exists".to_owned()));
            words.extend(rm.allow_wildcard.then(|| "wildcard".to_owned()));
            words
        }
        FileActionKind::Symlink(symlink) => {
            let mut words = vec![format!("symlink {} -> {}", path(&symlink.path), word(&symlink.target))];
            words.extend(owner_and_time(symlink.owner.as_ref(), symlink.timestamp, inputs));
            words
        }
    };
    match (action.output, at + 1 == count) {
        (Some(0), true) | (None, false) => {}
        (Some(output), _) => words.push(format!("out={output}")),
        (None, true) => words.push("no-out".to_owned()),
    }
    words.join(" ")
}

fn copy_options(copy: &CopyAction) -> Vec<String> {
    let flags = [
        (copy.follow_symlink, "follow"),
        (copy.dir_copy_contents, "contents"),
        (copy.attempt_unpack, "unpack"),
        (copy.create_dest_path, "parents"),
        (copy.allow_wildcard, "wildcard"),
        (copy.allow_empty_wildcard, "may-be-empty"),
        (copy.always_replace, "replace"),
    ];
    let mut words: Vec<String> =
        flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned()).collect();
    match &copy.mode {
        CopyMode::Keep => {}
        CopyMode::Bits(bits) => words.push(format!("mode={bits:04o}")),
        CopyMode::Symbolic(text) => words.push(format!("mode={}", word(text))),
    }
    let lists = [
        ("include", &copy.include_patterns),
        ("exclude", &copy.exclude_patterns),
        ("required", &copy.required_paths),
    ];
    for (name, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        let items: Vec<String> = list.iter().map(|item| word(item)).collect();
        words.push(format!("{name}=[{}]", items.join(" ")));
    }
    words
}

fn owner_and_time(owner: Option<&Owner>, timestamp: Option<i64>, inputs: &[String]) -> Vec<String> {
    let user = |user: &Option<UserSpec>| match user {
        None => String::new(),
        Some(UserSpec::Id(id)) => id.to_string(),
        Some(UserSpec::Name { name, input }) => format!("{}@{}", word(name), input_text(inputs, *input)),
    };
    let owner = owner.map(|owner| format!("owner={}:{}", user(&owner.user), user(&owner.group)));
    let time = timestamp.map(|timestamp| format!("time={timestamp}"));
    owner.into_iter().chain(time).collect()
}
