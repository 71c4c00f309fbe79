//! What the key of an exec or file op is made of, part by part.
//!
//! In: the typed op whose bytes a key digests. Out: [`KeyPart`]s for the record of a build, whoever builds. Every field is taken apart by
//! name here, so that a new one cannot be forgotten.
//! **Invariant:** two ops have equal parts just where they have equal digests; the engine's tests change each field once.

use std::collections::BTreeMap;

use rb_llb::{
    CopyAction, CopyMode, ExecMeta, ExecOp, FileAction, FileActionKind, FileOp, MkdirAction, MkfileAction,
    Mount, MountKind, OpPlatform, Owner, RmAction, SecretMount, SshMount, SymlinkAction, UserSpec,
    VertexMeta, attr, extension,
};
use rb_oci::Digest;

use crate::{KeyPart, PartKind};

/// So many patterns of one source are told one by one.
pub const MOST_PATTERNS: usize = 300;

/// Returns the parts of a command; `meta` says which variables are whose.
pub fn of_exec(op: &ExecOp, platform: Option<&OpPlatform>, meta: &VertexMeta) -> Vec<KeyPart> {
    let ExecOp { meta: process, mounts, network, security, secret_env, cdi_devices } = op;
    let ExecMeta {
        args,
        env,
        cwd,
        user,
        hostname,
        extra_hosts,
        ulimits,
        cgroup_parent,
        // How to reach, not what: in no key.
        proxy_env: _,
        remove_mount_stubs_recursive,
        valid_exit_codes,
    } = process;
    let mut parts = vec![KeyPart::new(PartKind::Command, "", command(args))];
    parts.extend(variables(env, &kinds(meta)));
    parts.push(KeyPart::new(PartKind::Directory, "", cwd));
    parts.push(KeyPart::new(PartKind::User, "", user));
    parts.push(KeyPart::new(PartKind::Network, "", format!("{network:?}").to_lowercase()));
    parts.push(KeyPart::new(PartKind::Security, "", format!("{security:?}").to_lowercase()));
    for (at, host) in extra_hosts.iter().enumerate() {
        parts.push(KeyPart::new(PartKind::Host, numbered(&host.host, at), host.ip.clone()));
    }
    for secret in secret_env {
        let optional = if secret.optional { ", optional" } else { "" };
        parts.push(KeyPart::new(PartKind::Secret, &secret.name, format!("id {}{optional}", secret.id)));
    }
    parts.extend(mounts.iter().map(of_mount));
    let mut set = |name: &str, value: String| parts.push(KeyPart::new(PartKind::Setting, name, value));
    set("hostname", hostname.clone());
    set("cgroup parent", cgroup_parent.clone());
    set("mount stubs are removed", remove_mount_stubs_recursive.to_string());
    set("exit codes that are no failure", format!("{valid_exit_codes:?}"));
    for (at, limit) in ulimits.iter().enumerate() {
        set(&numbered(&format!("limit {}", limit.name), at), format!("{}:{}", limit.soft, limit.hard));
    }
    for (at, device) in cdi_devices.iter().enumerate() {
        let optional = if device.optional { ", optional" } else { "" };
        set(&numbered("device", at), format!("{}{optional}", device.name));
    }
    parts.extend(of_platform(platform));
    parts
}

/// Returns the parts of changes of files.
pub fn of_files(op: &FileOp, platform: Option<&OpPlatform>) -> Vec<KeyPart> {
    let FileOp { actions } = op;
    let mut parts = Vec::new();
    for (at, action) in actions.iter().enumerate() {
        let FileAction { input, secondary_input, output, kind } = action;
        let before = if actions.len() == 1 { String::new() } else { format!("{} ", at + 1) };
        let mut add = |field: &str, value: String| {
            parts.push(KeyPart::new(PartKind::Action, format!("{before}{field}"), value));
        };
        match kind {
            FileActionKind::Copy(copy) => of_copy(copy, &mut add),
            FileActionKind::Mkfile(MkfileAction { path, mode, data, owner, timestamp }) => {
                add("file", path.clone());
                add("mode", format!("{mode:04o}"));
                // A file may be anything: its text is for those who wrote it.
                add("content", format!("{} bytes, {}", data.len(), Digest::of(data)));
                add("owner", of_owner(owner.as_ref()));
                add("time", of_time(*timestamp));
            }
            FileActionKind::Mkdir(MkdirAction { path, mode, make_parents, owner, timestamp }) => {
                add("folder", path.clone());
                add("mode", format!("{mode:04o}"));
                add("parents", make_parents.to_string());
                add("owner", of_owner(owner.as_ref()));
                add("time", of_time(*timestamp));
            }
            FileActionKind::Rm(RmAction { path, allow_not_found, allow_wildcard }) => {
                add("removes", path.clone());
                add("may be missing", allow_not_found.to_string());
                add("is a pattern", allow_wildcard.to_string());
            }
            FileActionKind::Symlink(SymlinkAction { target, path, owner, timestamp }) => {
                add("link", path.clone());
                add("link to", target.clone());
                add("owner", of_owner(owner.as_ref()));
                add("time", of_time(*timestamp));
            }
        }
        add("inputs", format!("{input:?} {secondary_input:?} {output:?}"));
    }
    parts.extend(of_platform(platform));
    parts
}

/// Returns the part of an op of which nothing closer is told.
pub fn of_digest(digest: &Digest) -> Vec<KeyPart> {
    vec![KeyPart::new(PartKind::Definition, "", digest.to_string())]
}

/// Returns what chooses the files of a folder: in no key, since the files are.
pub fn patterns(attrs: &BTreeMap<String, String>) -> Vec<KeyPart> {
    let kinds = [
        (PartKind::Include, attr::LOCAL_INCLUDE_PATTERNS),
        (PartKind::Include, attr::LOCAL_FOLLOW_PATHS),
        (PartKind::Exclude, attr::LOCAL_EXCLUDE_PATTERNS),
    ];
    let mut parts = Vec::new();
    for (kind, name) in kinds {
        let texts: Vec<String> =
            attrs.get(name).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let (told, rest) = texts.split_at(texts.len().min(MOST_PATTERNS));
        parts.extend(told.iter().map(|text| KeyPart::new(kind, text, "")));
        if !rest.is_empty() {
            let value = format!("{} patterns more, {}", rest.len(), Digest::of(rest.join("\n")));
            parts.push(KeyPart::new(kind, "", value));
        }
    }
    parts
}

fn of_platform(platform: Option<&OpPlatform>) -> Option<KeyPart> {
    let OpPlatform { os, architecture, variant, os_version, os_features } = platform?;
    let mut text = format!("{os}/{architecture}");
    for more in [variant, os_version] {
        if !more.is_empty() {
            text.push_str(&format!("/{more}"));
        }
    }
    if !os_features.is_empty() {
        text.push_str(&format!(" {os_features:?}"));
    }
    Some(KeyPart::new(PartKind::Platform, "", text))
}

/// Writes a command as a shell would read it.
fn command(args: &[String]) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=+,@%".contains(letter);
    let quoted = |arg: &String| {
        if !arg.is_empty() && arg.chars().all(plain) {
            arg.clone()
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    };
    args.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Reads which variables are no ENV.
fn kinds(meta: &VertexMeta) -> BTreeMap<&str, PartKind> {
    let lines = meta.description.get(extension::EXEC_VARIABLES).map_or("", String::as_str).lines();
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, kind)| (name, if kind == "ARG" { PartKind::Arg } else { PartKind::Variable }))
        .collect()
}

fn variables<'a>(
    env: &'a [String],
    kinds: &'a BTreeMap<&str, PartKind>,
) -> impl Iterator<Item = KeyPart> + 'a {
    env.iter().map(|entry| {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        let kind = kinds.get(name).copied().unwrap_or(PartKind::Env);
        // What has no sign of equality is another entry than what has an empty value.
        let bare = if entry.contains('=') { "" } else { " (no value)" };
        KeyPart::variable(kind, &format!("{name}{bare}"), value)
    })
}

fn of_mount(mount: &Mount) -> KeyPart {
    let Mount { input, selector, dest, output, readonly, kind, result_id, content_cache } = mount;
    let (part, mut words) = match kind {
        MountKind::Bind => (PartKind::Mount, vec!["bind".to_owned()]),
        MountKind::Secret(SecretMount { id, uid, gid, mode, optional }) => {
            let words = format!("id {id}, owner {uid}:{gid}, mode {mode:04o}, optional {optional}");
            (PartKind::Secret, vec![words])
        }
        MountKind::Ssh(SshMount { id, uid, gid, mode, optional }) => {
            let words = format!("id {id}, owner {uid}:{gid}, mode {mode:04o}, optional {optional}");
            (PartKind::Agent, vec![words])
        }
        MountKind::Cache { id, sharing } => {
            let id = if id.starts_with(extension::HINT_CACHE) { extension::HINT_CACHE } else { id };
            (PartKind::Cache, vec![format!("id {id}, {}", format!("{sharing:?}").to_lowercase())])
        }
        MountKind::Tmpfs { size_bytes } => (PartKind::Mount, vec![format!("memory of {size_bytes} bytes")]),
    };
    if let Some(input) = input {
        words.push(format!("input {input}"));
    }
    if !selector.is_empty() {
        words.push(format!("of {selector}"));
    }
    if let Some(output) = output {
        words.push(format!("output {output}"));
    }
    if *readonly {
        words.push("read-only".to_owned());
    }
    if !result_id.is_empty() {
        words.push(format!("result {result_id}"));
    }
    if *content_cache != rb_llb::ContentCache::Default {
        words.push(format!("content cache {content_cache:?}").to_lowercase());
    }
    KeyPart::new(part, dest, words.join(", "))
}

fn of_copy(copy: &CopyAction, add: &mut dyn FnMut(&str, String)) {
    let CopyAction {
        src,
        dest,
        owner,
        mode,
        follow_symlink,
        dir_copy_contents,
        attempt_unpack,
        create_dest_path,
        allow_wildcard,
        allow_empty_wildcard,
        timestamp,
        include_patterns,
        exclude_patterns,
        always_replace,
        required_paths,
    } = copy;
    add("copies", src.clone());
    add("to", dest.clone());
    add("owner", of_owner(owner.as_ref()));
    add(
        "mode",
        match mode {
            CopyMode::Keep => "as it was".to_owned(),
            CopyMode::Bits(bits) => format!("{bits:04o}"),
            CopyMode::Symbolic(text) => text.clone(),
        },
    );
    add("time", of_time(*timestamp));
    for (name, is_set) in [
        ("links are followed", follow_symlink),
        ("what is in a folder, not itself", dir_copy_contents),
        ("archives are unpacked", attempt_unpack),
        ("parents are made", create_dest_path),
        ("is a pattern", allow_wildcard),
        ("may match nothing", allow_empty_wildcard),
        ("others give way", always_replace),
    ] {
        add(name, is_set.to_string());
    }
    for (name, texts) in
        [("takes", include_patterns), ("leaves out", exclude_patterns), ("has to have", required_paths)]
    {
        add(name, format!("{texts:?}"));
    }
}

fn of_owner(owner: Option<&Owner>) -> String {
    let spec = |spec: &Option<UserSpec>| match spec {
        None => "-".to_owned(),
        Some(UserSpec::Id(id)) => id.to_string(),
        Some(UserSpec::Name { name, input: None }) => format!("`{name}`"),
        Some(UserSpec::Name { name, input: Some(input) }) => format!("`{name}` of input {input}"),
    };
    owner.map_or_else(
        || "as it was".to_owned(),
        |Owner { user, group }| format!("{}:{}", spec(user), spec(group)),
    )
}

fn of_time(nanoseconds: Option<i64>) -> String {
    nanoseconds.map_or_else(|| "as it was".to_owned(), |time| format!("{time} ns since 1970"))
}

fn numbered(name: &str, at: usize) -> String {
    if at == 0 { name.to_owned() } else { format!("{name} ({})", at + 1) }
}
