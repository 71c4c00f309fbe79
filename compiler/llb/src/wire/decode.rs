//! Bytes to typed values. Checks each number's sign and meaning; what indices point to is checked by
//! [`crate::validate`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use rb_oci::Digest;

use super::{NONE, bounds, pb};
use crate::{
    BuildOp, CacheSharing, CdiDevice, ContentCache, CopyAction, CopyMode, Definition, DiffOp, Edge, ExecMeta,
    ExecOp, FileAction, FileActionKind, FileOp, HostAddress, LinuxResources, LlbError, Location, MergeOp,
    MkdirAction, MkfileAction, Mount, MountKind, NetworkMode, Op, OpPlatform, Owner, Position, ProgressGroup,
    ProxyEnv, Range, RmAction, SecretEnv, SecretMount, SecurityMode, SourceInfo, SourceMapping, SourceOp,
    SshMount, SymlinkAction, Ulimit, UserSpec, VertexMeta, WorkerConstraints,
};

/// An op as it came. No op at all is the last one of a definition, whose only input is the root.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DecodedOp {
    pub(crate) op: Option<Op>,
    pub(crate) inputs: Vec<Edge>,
    pub(crate) platform: Option<OpPlatform>,
    pub(crate) constraints: Option<WorkerConstraints>,
}

/// Decodes one op.
pub(crate) fn decode_op(bytes: &Bytes) -> Result<DecodedOp, LlbError> {
    bounds::check_op(bytes)?;
    let op = pb::Op::decode(bytes.clone()).map_err(|error| malformed("operation", &error))?;
    Ok(DecodedOp {
        inputs: op.inputs.iter().map(edge).collect::<Result<_, _>>()?,
        platform: op.platform.map(platform),
        constraints: op.constraints.map(|constraints| WorkerConstraints { filter: constraints.filter }),
        op: op.op.map(typed).transpose()?,
    })
}

/// Decodes a definition, but not its ops.
pub(crate) fn decode_definition(bytes: &[u8]) -> Result<Definition, LlbError> {
    bounds::check_definition(bytes)?;
    let definition = pb::Definition::decode(Bytes::copy_from_slice(bytes))
        .map_err(|error| malformed("definition", &error))?;
    let mut meta = BTreeMap::new();
    for entry in definition.metadata {
        let digest = digest(&entry.key.unwrap_or_default(), "key of metadata")?;
        meta.insert(digest, entry.value.map(vertex_meta).unwrap_or_default());
    }
    let sources = definition.source.map(source_mapping).transpose()?.unwrap_or_default();
    Ok(Definition { ops: definition.def, meta, sources })
}

fn malformed(what: &'static str, error: &prost::DecodeError) -> LlbError {
    LlbError::Malformed { what, detail: error.to_string() }
}

fn digest(text: &str, what: &'static str) -> Result<Digest, LlbError> {
    text.parse().map_err(|source| LlbError::Digest { what, source: Arc::new(source) })
}

fn edge(input: &pb::Input) -> Result<Edge, LlbError> {
    let index =
        u32::try_from(input.index).map_err(|_| out_of_range("output number of an input", input.index))?;
    Ok(Edge { vertex: digest(&input.digest, "digest of an input")?, index })
}

fn out_of_range(what: &'static str, index: i64) -> LlbError {
    LlbError::Index { what, index, limit: u64::from(u32::MAX) }
}

/// Reads an index where -1 is none.
fn index(what: &'static str, value: i64) -> Result<Option<usize>, LlbError> {
    output(what, value).map(|index| index.map(|index| index as usize))
}

/// Reads an output number where -1 is none.
fn output(what: &'static str, value: i64) -> Result<Option<u32>, LlbError> {
    if value == NONE {
        return Ok(None);
    }
    u32::try_from(value).map(Some).map_err(|_| out_of_range(what, value))
}

fn unknown(what: &'static str, value: i32) -> LlbError {
    LlbError::UnknownValue { what, value: i64::from(value) }
}

fn strings(entries: Vec<pb::StringEntry>) -> BTreeMap<String, String> {
    entries
        .into_iter()
        .map(|entry| (entry.key.unwrap_or_default(), entry.value.unwrap_or_default()))
        .collect()
}

fn platform(platform: pb::Platform) -> OpPlatform {
    let pb::Platform { architecture, os, variant, os_version, os_features } = platform;
    OpPlatform { os, architecture, variant, os_version, os_features }
}

fn typed(op: pb::op::Op) -> Result<Op, LlbError> {
    Ok(match op {
        pb::op::Op::Source(source) => {
            Op::Source(SourceOp { identifier: source.identifier, attrs: strings(source.attrs) })
        }
        pb::op::Op::Exec(exec) => Op::Exec(exec_op(exec)?),
        pb::op::Op::File(file) => {
            Op::File(FileOp { actions: file.actions.into_iter().map(file_action).collect::<Result<_, _>>()? })
        }
        pb::op::Op::Build(build) => Op::Build(build_op(build)?),
        pb::op::Op::Merge(merge) => {
            let inputs = merge.inputs.iter().map(|input| index("input of a merge", input.input));
            Op::Merge(MergeOp { inputs: inputs.collect::<Result<_, _>>()? })
        }
        pb::op::Op::Diff(diff) => {
            let (Some(lower), Some(upper)) = (diff.lower, diff.upper) else {
                return Err(LlbError::Invalid("a diff needs a lower and an upper side"));
            };
            Op::Diff(DiffOp {
                lower: index("lower side of a diff", lower.input)?,
                upper: index("upper side of a diff", upper.input)?,
            })
        }
        pb::op::Op::Passthrough(_) => return Err(LlbError::Unsupported { kind: "passthrough" }),
    })
}

fn exec_op(exec: pb::ExecOp) -> Result<ExecOp, LlbError> {
    let Some(meta) = exec.meta else {
        return Err(LlbError::Invalid("an exec operation needs a process"));
    };
    Ok(ExecOp {
        meta: exec_meta(meta),
        mounts: exec.mounts.into_iter().map(mount).collect::<Result<_, _>>()?,
        network: match exec.network {
            0 => NetworkMode::Sandbox,
            1 => NetworkMode::Host,
            2 => NetworkMode::None,
            other => return Err(unknown("network mode", other)),
        },
        security: match exec.security {
            0 => SecurityMode::Sandbox,
            1 => SecurityMode::Insecure,
            other => return Err(unknown("security mode", other)),
        },
        secret_env: exec
            .secretenv
            .into_iter()
            .map(|pb::SecretEnv { id, name, optional }| SecretEnv { id, name, optional })
            .collect(),
        cdi_devices: exec
            .cdi_devices
            .into_iter()
            .map(|pb::CdiDevice { name, optional }| CdiDevice { name, optional })
            .collect(),
    })
}

fn exec_meta(meta: pb::Meta) -> ExecMeta {
    ExecMeta {
        args: meta.args,
        env: meta.env,
        cwd: meta.cwd,
        user: meta.user,
        hostname: meta.hostname,
        extra_hosts: meta
            .extra_hosts
            .into_iter()
            .map(|pb::HostIp { host, ip }| HostAddress { host, ip })
            .collect(),
        ulimits: meta
            .ulimit
            .into_iter()
            .map(|pb::Ulimit { name, soft, hard }| Ulimit { name, soft, hard })
            .collect(),
        cgroup_parent: meta.cgroup_parent,
        proxy_env: meta.proxy_env.map(|proxy| {
            let pb::ProxyEnv { http_proxy, https_proxy, ftp_proxy, no_proxy, all_proxy } = proxy;
            ProxyEnv { http_proxy, https_proxy, ftp_proxy, no_proxy, all_proxy }
        }),
        remove_mount_stubs_recursive: meta.remove_mount_stubs_recursive,
        valid_exit_codes: meta.valid_exit_codes,
    }
}

fn mount(mount: pb::Mount) -> Result<Mount, LlbError> {
    let kind = match mount.mount_type {
        0 => MountKind::Bind,
        1 => {
            let Some(pb::SecretOpt { id, uid, gid, mode, optional }) = mount.secret_opt else {
                return Err(LlbError::Invalid("a secret mount needs its options"));
            };
            MountKind::Secret(SecretMount { id, uid, gid, mode, optional })
        }
        2 => {
            let Some(pb::SshOpt { id, uid, gid, mode, optional }) = mount.ssh_opt else {
                return Err(LlbError::Invalid("an ssh mount needs its options"));
            };
            MountKind::Ssh(SshMount { id, uid, gid, mode, optional })
        }
        3 => {
            let Some(pb::CacheOpt { id, sharing }) = mount.cache_opt else {
                return Err(LlbError::Invalid("a cache mount needs its options"));
            };
            let sharing = match sharing {
                0 => CacheSharing::Shared,
                1 => CacheSharing::Private,
                2 => CacheSharing::Locked,
                other => return Err(unknown("sharing of a cache mount", other)),
            };
            MountKind::Cache { id, sharing }
        }
        4 => MountKind::Tmpfs { size_bytes: mount.tmpfs_opt.map_or(0, |options| options.size) },
        other => return Err(unknown("type of a mount", other)),
    };
    let output = match kind {
        MountKind::Bind => output("output of a mount", mount.output)?,
        MountKind::Secret(_) | MountKind::Ssh(_) | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => None,
    };
    Ok(Mount {
        input: index("input of a mount", mount.input)?,
        selector: mount.selector,
        dest: mount.dest,
        output,
        readonly: mount.readonly,
        kind,
        result_id: mount.result_id,
        content_cache: match mount.content_cache {
            0 => ContentCache::Default,
            1 => ContentCache::On,
            2 => ContentCache::Off,
            other => return Err(unknown("content cache of a mount", other)),
        },
    })
}

fn file_action(action: pb::FileAction) -> Result<FileAction, LlbError> {
    use pb::file_action::Action;
    let kind = match action.action {
        Some(Action::Copy(copy)) => FileActionKind::Copy(copy_action(copy)?),
        Some(Action::Mkfile(pb::FileActionMkFile { path, mode, data, owner: by, timestamp })) => {
            let (owner, timestamp) = (owner(by)?, time(timestamp));
            FileActionKind::Mkfile(MkfileAction { path, mode: mode.cast_unsigned(), data, owner, timestamp })
        }
        Some(Action::Mkdir(pb::FileActionMkDir { path, mode, make_parents, owner: by, timestamp })) => {
            let (mode, owner, timestamp) = (mode.cast_unsigned(), owner(by)?, time(timestamp));
            FileActionKind::Mkdir(MkdirAction { path, mode, make_parents, owner, timestamp })
        }
        Some(Action::Rm(pb::FileActionRm { path, allow_not_found, allow_wildcard })) => {
            FileActionKind::Rm(RmAction { path, allow_not_found, allow_wildcard })
        }
        Some(Action::Symlink(pb::FileActionSymlink { oldpath, newpath, owner: by, timestamp })) => {
            let (owner, timestamp) = (owner(by)?, time(timestamp));
            FileActionKind::Symlink(SymlinkAction { target: oldpath, path: newpath, owner, timestamp })
        }
        None => return Err(LlbError::Unsupported { kind: "file action" }),
    };
    Ok(FileAction {
        input: index("input of a file action", action.input)?,
        secondary_input: index("secondary input of a file action", action.secondary_input)?,
        output: output("output of a file action", action.output)?,
        kind,
    })
}

fn copy_action(copy: pb::FileActionCopy) -> Result<CopyAction, LlbError> {
    let mode = match (copy.mode, copy.mode_str.is_empty()) {
        (_, false) => CopyMode::Symbolic(copy.mode_str),
        (-1, true) => CopyMode::Keep,
        (bits, true) => CopyMode::Bits(bits.cast_unsigned()),
    };
    Ok(CopyAction {
        src: copy.src,
        dest: copy.dest,
        owner: owner(copy.owner)?,
        mode,
        follow_symlink: copy.follow_symlink,
        dir_copy_contents: copy.dir_copy_contents,
        attempt_unpack: copy.attempt_unpack_docker_compatibility,
        create_dest_path: copy.create_dest_path,
        allow_wildcard: copy.allow_wildcard,
        allow_empty_wildcard: copy.allow_empty_wildcard,
        timestamp: time(copy.timestamp),
        include_patterns: copy.include_patterns,
        exclude_patterns: copy.exclude_patterns,
        always_replace: copy.always_replace_existing_dest_paths,
        required_paths: copy.required_paths,
    })
}

fn time(nanoseconds: i64) -> Option<i64> {
    Some(nanoseconds).filter(|value| *value != NONE)
}

fn owner(owner: Option<pb::ChownOpt>) -> Result<Option<Owner>, LlbError> {
    let Some(owner) = owner else { return Ok(None) };
    Ok(Some(Owner { user: user(owner.user)?, group: user(owner.group)? }))
}

fn user(user: Option<pb::UserOpt>) -> Result<Option<UserSpec>, LlbError> {
    Ok(match user.and_then(|user| user.user) {
        None => None,
        Some(pb::user_opt::User::ById(id)) => Some(UserSpec::Id(id)),
        Some(pb::user_opt::User::ByName(pb::NamedUserOpt { name, input })) => {
            Some(UserSpec::Name { name, input: index("input of an owner", input)? })
        }
    })
}

fn build_op(build: pb::BuildOp) -> Result<BuildOp, LlbError> {
    let mut inputs = BTreeMap::new();
    for entry in build.inputs {
        let number = entry.value.map_or(0, |input| input.input);
        let Some(number) = index("input of a build", number)? else {
            return Err(LlbError::Invalid("an input of a build cannot be empty"));
        };
        inputs.insert(entry.key.unwrap_or_default(), number);
    }
    let builder = index("builder of a build", build.builder)?;
    Ok(BuildOp { builder, inputs, def: build.def, attrs: strings(build.attrs) })
}

fn vertex_meta(meta: pb::OpMetadata) -> VertexMeta {
    VertexMeta {
        description: strings(meta.description),
        ignore_cache: meta.ignore_cache,
        export_cache: meta.export_cache.map(|export| export.value),
        caps: meta
            .caps
            .into_iter()
            .map(|entry| (entry.key.unwrap_or_default(), entry.value.unwrap_or_default()))
            .collect(),
        progress_group: meta.progress_group.map(|pb::ProgressGroup { id, name, weak }| ProgressGroup {
            id,
            name,
            weak,
        }),
        linux_resources: meta.linux_resources.map(|limits| LinuxResources {
            memory_bytes: limits.memory,
            memory_swap_bytes: limits.memory_swap,
            cpu_shares: limits.cpu_shares,
            cpu_period_us: limits.cpu_period,
            cpu_quota_us: limits.cpu_quota,
            cpuset_cpus: limits.cpuset_cpus,
            cpuset_mems: limits.cpuset_mems,
        }),
    }
}

fn source_mapping(source: pb::Source) -> Result<SourceMapping, LlbError> {
    let files: Vec<SourceInfo> = source
        .infos
        .into_iter()
        .map(|pb::SourceInfo { filename, data, definition, language }| SourceInfo {
            name: filename,
            language,
            data,
            def: definition,
        })
        .collect();
    let mut locations = BTreeMap::new();
    for entry in source.locations {
        let digest = digest(&entry.key.unwrap_or_default(), "key of locations")?;
        let list = entry.value.unwrap_or_default().locations;
        let list = list.into_iter().map(|place| location(place, files.len())).collect::<Result<_, _>>()?;
        locations.insert(digest, list);
    }
    Ok(SourceMapping { files, locations })
}

fn location(location: pb::Location, files: usize) -> Result<Location, LlbError> {
    let file = usize::try_from(location.source_index).ok().filter(|file| *file < files);
    let Some(file) = file else {
        let index = i64::from(location.source_index);
        return Err(LlbError::Index { what: "source file of a location", index, limit: files as u64 });
    };
    let range = |range: pb::Range| Range { start: position(range.start), end: position(range.end) };
    Ok(Location { file, ranges: location.ranges.into_iter().map(range).collect() })
}

/// Places before the file are taken for its beginning.
fn position(position: Option<pb::Position>) -> Position {
    let pb::Position { line, character } = position.unwrap_or_default();
    Position {
        line: u32::try_from(line).unwrap_or_default(),
        character: u32::try_from(character).unwrap_or_default(),
    }
}
