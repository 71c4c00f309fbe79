//! Capabilities: what an engine must be able to do for a vertex, as BuildKit's client asks for it.
//!
//! Fact, not taste: for file ops that client asks for `file.base` alone, whatever the actions use.

use std::collections::BTreeMap;

use crate::{ContentCache, ExecOp, MountKind, NetworkMode, Op, SecurityMode, SourceOp, attr, extension};

/// Names of secrets that a git source looks for without being told.
const GIT_DEFAULT_SECRETS: [(&str, &str); 2] =
    [(attr::GIT_AUTH_HEADER_SECRET, "GIT_AUTH_HEADER"), (attr::GIT_AUTH_TOKEN_SECRET, "GIT_AUTH_TOKEN")];

/// Returns the capabilities that `op` asks for.
pub(crate) fn of(op: &Op, has_linux_resources: bool) -> Vec<&'static str> {
    match op {
        Op::Source(source) => of_source(source),
        Op::Exec(exec) => {
            let mut caps = of_exec(exec);
            if has_linux_resources {
                caps.push("exec.meta.linux.resources");
            }
            caps
        }
        Op::File(_) => vec!["file.base"],
        Op::Build(_) => vec!["source.buildop.llbfilename"],
        Op::Merge(_) => vec!["mergeop"],
        Op::Diff(_) => vec!["diffop"],
    }
}

fn of_source(source: &SourceOp) -> Vec<&'static str> {
    let (base, by_attr): (_, &[(&str, &str)]) = match source.scheme().0 {
        "docker-image" => (
            "source.image",
            &[
                (attr::IMAGE_LAYER_LIMIT, "source.image.layerlimit"),
                (attr::IMAGE_CHECKSUM, "source.image.checksum"),
            ],
        ),
        "oci-layout" => ("source.ocilayout", &[]),
        "docker-image+blob" | "oci-layout+blob" => ("source.imageblob", &[]),
        "local" => (
            "source.local",
            &[
                (attr::LOCAL_UNIQUE, "source.local.unique"),
                (attr::LOCAL_SESSION, "source.local.sessionid"),
                (attr::LOCAL_INCLUDE_PATTERNS, "source.local.includepatterns"),
                (attr::LOCAL_FOLLOW_PATHS, "source.local.followpaths"),
                (attr::LOCAL_EXCLUDE_PATTERNS, "source.local.excludepatterns"),
                (attr::LOCAL_SHARED_KEY_HINT, "source.local.sharedkeyhint"),
                (attr::LOCAL_METADATA_TRANSFER, "source.local.metadatatransfer"),
            ],
        ),
        "git" => (
            "source.git",
            &[
                (attr::GIT_KEEP_DIR, "source.git.keepgitdir"),
                (attr::GIT_FULL_URL, "source.git.fullurl"),
                (attr::GIT_KNOWN_SSH_HOSTS, "source.git.knownsshhosts"),
                (attr::GIT_MOUNT_SSH_SOCK, "source.git.knownsshhosts"),
                (attr::GIT_MOUNT_SSH_SOCK, "source.git.mountsshsock"),
                (attr::GIT_CHECKSUM, "source.git.checksum"),
                (attr::GIT_SKIP_SUBMODULES, "source.git.skipsubmodules"),
                (attr::GIT_MTIME, "source.git.mtime"),
                (attr::GIT_FETCH_BY_COMMIT, "source.git.fetchbycommit"),
                (attr::GIT_BUNDLE, "source.git.bundle"),
                (attr::GIT_CHECKOUT_BUNDLE, "source.git.checkoutbundle"),
            ],
        ),
        "http" | "https" => (
            "source.http",
            &[
                (attr::HTTP_CHECKSUM, "source.http.checksum"),
                (attr::HTTP_PERM, "source.http.perm"),
                // The typo is BuildKit's.
                (attr::HTTP_UID, "soruce.http.uidgid"),
                (attr::HTTP_GID, "soruce.http.uidgid"),
                (attr::HTTP_AUTH_HEADER_SECRET, "source.http.auth"),
            ],
        ),
        extension::HOST_SCHEME => (extension::CAP_HOST, &[]),
        extension::LEFT_SCHEME => (extension::CAP_LEFT, &[]),
        _ => return Vec::new(),
    };
    let has_prefix = |prefix: &str| source.attrs.keys().any(|name| name.starts_with(prefix));
    let mut caps = vec![base];
    caps.extend(by_attr.iter().filter(|(name, _)| source.attrs.contains_key(*name)).map(|(_, cap)| *cap));
    match base {
        "source.image" if source.attrs.get(attr::IMAGE_RESOLVE_MODE).is_some_and(|mode| mode == "pull") => {
            caps.push("source.image.resolvemode");
        }
        "source.git" => {
            let named = |(name, default): &(&str, &str)| {
                source.attrs.get(*name).is_some_and(|secret| secret != default)
            };
            if GIT_DEFAULT_SECRETS.iter().any(named) {
                caps.push("source.git.httpauth");
            }
            if has_prefix(attr::GIT_SIGNATURE_PREFIX) {
                caps.push("source.git.signatureverify");
            }
        }
        "source.http" => {
            if has_prefix(attr::HTTP_HEADER_PREFIX) {
                caps.push("source.http.header");
            }
            if has_prefix(attr::HTTP_SIGNATURE_PREFIX) {
                caps.push("source.http.signatureverify");
            }
        }
        _ => {}
    }
    caps
}

fn of_exec(exec: &ExecOp) -> Vec<&'static str> {
    let mut caps = vec!["exec.meta.base"];
    let mut ask = |cap, asked: bool| {
        if asked {
            caps.push(cap);
        }
    };
    ask("exec.validexitcode", !exec.meta.valid_exit_codes.is_empty());
    ask("exec.meta.ulimit", !exec.meta.ulimits.is_empty());
    ask("exec.meta.proxyenv", exec.meta.proxy_env.is_some());
    ask("exec.meta.network", exec.network != NetworkMode::Sandbox);
    ask("exec.meta.security", exec.security != SecurityMode::Sandbox);
    ask("exec.meta.cdi", !exec.cdi_devices.is_empty());
    ask("exec.mount.secret", !exec.secret_env.is_empty());
    ask("exec.secretenv", !exec.secret_env.is_empty());
    for mount in &exec.mounts {
        ask("exec.mount.selector", !mount.selector.is_empty());
        ask("exec.mount.cache.content", mount.content_cache != ContentCache::Default);
        match &mount.kind {
            MountKind::Bind => ask("exec.mount.bind", mount.input.is_some()),
            MountKind::Cache { .. } => {
                ask("exec.mount.cache", true);
                ask("exec.mount.cache.sharing", true);
            }
            MountKind::Tmpfs { size_bytes } => {
                ask("exec.mount.tmpfs", true);
                ask("exec.mount.tmpfs.size", *size_bytes > 0);
            }
            MountKind::Secret(_) => ask("exec.mount.secret", true),
            MountKind::Ssh(_) => ask("exec.mount.ssh", true),
        }
    }
    caps
}

/// Returns what the last op of a definition asks for: what the metadata of all others uses.
pub(crate) fn of_head<'a>(
    metas: impl Iterator<Item = &'a crate::VertexMeta> + Clone,
) -> BTreeMap<String, bool> {
    let mut caps = vec!["constraints", "platform"];
    if metas.clone().any(|meta| meta.ignore_cache) {
        caps.push("meta.ignorecache");
    }
    if metas.clone().any(|meta| !meta.description.is_empty()) {
        caps.push("meta.description");
    }
    if metas.clone().any(|meta| meta.export_cache.is_some()) {
        caps.push("meta.exportcache");
    }
    caps.into_iter().map(|cap| (cap.to_owned(), true)).collect()
}
