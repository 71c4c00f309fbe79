//! Typed values to bytes, as Go's deterministic encoding writes them.

use bytes::Bytes;
use prost::Message;
use rb_oci::Digest;

use super::{NONE, pb};
use crate::{
    BuildOp, CacheSharing, ContentCache, CopyAction, CopyMode, Definition, Edge, ExecMeta, ExecOp,
    FileAction, FileActionKind, Mount, MountKind, NetworkMode, Op, OpPlatform, Owner, Position, SecurityMode,
    SourceMapping, UserSpec, VertexMeta, WorkerConstraints,
};

/// Encodes an op: the envelope first, then the op itself, since Go writes a `oneof` after all other fields.
pub(crate) fn encode_op(
    op: Option<&Op>,
    inputs: &[Edge],
    platform: Option<&OpPlatform>,
    constraints: Option<&WorkerConstraints>,
) -> Bytes {
    let inputs =
        inputs.iter().map(|edge| pb::Input { digest: edge.vertex.to_string(), index: i64::from(edge.index) });
    let envelope = pb::Op {
        inputs: inputs.collect(),
        platform: platform.map(|platform| pb::Platform {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
        }),
        constraints: constraints
            .map(|constraints| pb::WorkerConstraints { filter: constraints.filter.clone() }),
        op: None,
    };
    let body = pb::Op { op: op.map(wire_op), ..pb::Op::default() };
    let mut bytes = envelope.encode_to_vec();
    bytes.extend(body.encode_to_vec());
    bytes.into()
}

/// Encodes a definition; its ops as they are.
pub(crate) fn encode_definition(definition: &Definition) -> Vec<u8> {
    let metadata = definition.meta.iter().map(|(digest, meta)| pb::MetadataEntry {
        key: Some(digest.to_string()),
        value: Some(op_metadata(meta)),
    });
    let message = pb::Definition {
        def: definition.ops.clone(),
        metadata: metadata.collect(),
        source: (definition.sources != SourceMapping::default()).then(|| source(&definition.sources)),
    };
    message.encode_to_vec()
}

fn none_or<T: TryInto<i64>>(value: Option<T>) -> i64 {
    // What does not fit cannot point to anything either; validation refuses it.
    value.map_or(NONE, |value| value.try_into().unwrap_or(i64::MAX))
}

fn strings<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> Vec<pb::StringEntry> {
    map.into_iter()
        .map(|(key, value)| pb::StringEntry { key: Some(key.clone()), value: Some(value.clone()) })
        .collect()
}

fn wire_op(op: &Op) -> pb::op::Op {
    match op {
        Op::Source(source) => pb::op::Op::Source(pb::SourceOp {
            identifier: source.identifier.clone(),
            attrs: strings(&source.attrs),
        }),
        Op::Exec(exec) => pb::op::Op::Exec(exec_op(exec)),
        Op::File(file) => {
            pb::op::Op::File(pb::FileOp { actions: file.actions.iter().map(file_action).collect() })
        }
        Op::Build(build) => pb::op::Op::Build(build_op(build)),
        Op::Merge(merge) => {
            let inputs = merge.inputs.iter().map(|input| pb::MergeInput { input: none_or(*input) });
            pb::op::Op::Merge(pb::MergeOp { inputs: inputs.collect() })
        }
        Op::Diff(diff) => pb::op::Op::Diff(pb::DiffOp {
            lower: Some(pb::DiffInput { input: none_or(diff.lower) }),
            upper: Some(pb::DiffInput { input: none_or(diff.upper) }),
        }),
    }
}

fn exec_op(exec: &ExecOp) -> pb::ExecOp {
    pb::ExecOp {
        meta: Some(exec_meta(&exec.meta)),
        mounts: exec.mounts.iter().map(mount).collect(),
        network: match exec.network {
            NetworkMode::Sandbox => 0,
            NetworkMode::Host => 1,
            NetworkMode::None => 2,
        },
        security: match exec.security {
            SecurityMode::Sandbox => 0,
            SecurityMode::Insecure => 1,
        },
        secretenv: exec
            .secret_env
            .iter()
            .map(|secret| pb::SecretEnv {
                id: secret.id.clone(),
                name: secret.name.clone(),
                optional: secret.optional,
            })
            .collect(),
        cdi_devices: exec
            .cdi_devices
            .iter()
            .map(|device| pb::CdiDevice { name: device.name.clone(), optional: device.optional })
            .collect(),
    }
}

fn exec_meta(meta: &ExecMeta) -> pb::Meta {
    pb::Meta {
        args: meta.args.clone(),
        env: meta.env.clone(),
        cwd: meta.cwd.clone(),
        user: meta.user.clone(),
        proxy_env: meta.proxy_env.as_ref().map(|proxy| pb::ProxyEnv {
            http_proxy: proxy.http_proxy.clone(),
            https_proxy: proxy.https_proxy.clone(),
            ftp_proxy: proxy.ftp_proxy.clone(),
            no_proxy: proxy.no_proxy.clone(),
            all_proxy: proxy.all_proxy.clone(),
        }),
        extra_hosts: meta
            .extra_hosts
            .iter()
            .map(|address| pb::HostIp { host: address.host.clone(), ip: address.ip.clone() })
            .collect(),
        hostname: meta.hostname.clone(),
        ulimit: meta
            .ulimits
            .iter()
            .map(|limit| pb::Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
            .collect(),
        cgroup_parent: meta.cgroup_parent.clone(),
        remove_mount_stubs_recursive: meta.remove_mount_stubs_recursive,
        valid_exit_codes: meta.valid_exit_codes.clone(),
    }
}

fn mount(mount: &Mount) -> pb::Mount {
    let mut wire = pb::Mount {
        input: none_or(mount.input),
        selector: mount.selector.clone(),
        dest: mount.dest.clone(),
        output: NONE,
        readonly: mount.readonly,
        result_id: mount.result_id.clone(),
        content_cache: match mount.content_cache {
            ContentCache::Default => 0,
            ContentCache::On => 1,
            ContentCache::Off => 2,
        },
        ..pb::Mount::default()
    };
    match &mount.kind {
        MountKind::Bind => wire.output = none_or(mount.output),
        // BuildKit's client leaves the output of secrets and agents at 0, though they have none.
        MountKind::Secret(secret) => {
            wire.output = 0;
            wire.mount_type = 1;
            wire.secret_opt = Some(pb::SecretOpt {
                id: secret.id.clone(),
                uid: secret.uid,
                gid: secret.gid,
                mode: secret.mode,
                optional: secret.optional,
            });
        }
        MountKind::Ssh(agent) => {
            wire.output = 0;
            wire.mount_type = 2;
            wire.ssh_opt = Some(pb::SshOpt {
                id: agent.id.clone(),
                uid: agent.uid,
                gid: agent.gid,
                mode: agent.mode,
                optional: agent.optional,
            });
        }
        MountKind::Cache { id, sharing } => {
            wire.mount_type = 3;
            let sharing = match sharing {
                CacheSharing::Shared => 0,
                CacheSharing::Private => 1,
                CacheSharing::Locked => 2,
            };
            wire.cache_opt = Some(pb::CacheOpt { id: id.clone(), sharing });
        }
        MountKind::Tmpfs { size_bytes } => {
            wire.mount_type = 4;
            wire.tmpfs_opt = Some(pb::TmpfsOpt { size: *size_bytes });
        }
    }
    wire
}

fn file_action(action: &FileAction) -> pb::FileAction {
    use pb::file_action::Action;
    let kind = match &action.kind {
        FileActionKind::Copy(copy) => Action::Copy(copy_action(copy)),
        FileActionKind::Mkfile(mkfile) => Action::Mkfile(pb::FileActionMkFile {
            path: mkfile.path.clone(),
            mode: mkfile.mode.cast_signed(),
            data: mkfile.data.clone(),
            owner: owner(mkfile.owner.as_ref()),
            timestamp: none_or(mkfile.timestamp),
        }),
        FileActionKind::Mkdir(mkdir) => Action::Mkdir(pb::FileActionMkDir {
            path: mkdir.path.clone(),
            mode: mkdir.mode.cast_signed(),
            make_parents: mkdir.make_parents,
            owner: owner(mkdir.owner.as_ref()),
            timestamp: none_or(mkdir.timestamp),
        }),
        FileActionKind::Rm(rm) => Action::Rm(pb::FileActionRm {
            path: rm.path.clone(),
            allow_not_found: rm.allow_not_found,
            allow_wildcard: rm.allow_wildcard,
        }),
        FileActionKind::Symlink(symlink) => Action::Symlink(pb::FileActionSymlink {
            oldpath: symlink.target.clone(),
            newpath: symlink.path.clone(),
            owner: owner(symlink.owner.as_ref()),
            timestamp: none_or(symlink.timestamp),
        }),
    };
    pb::FileAction {
        input: none_or(action.input),
        secondary_input: none_or(action.secondary_input),
        output: none_or(action.output),
        action: Some(kind),
    }
}

fn copy_action(copy: &CopyAction) -> pb::FileActionCopy {
    let (mode, mode_str) = match &copy.mode {
        CopyMode::Keep => (-1, String::new()),
        CopyMode::Bits(bits) => (bits.cast_signed(), String::new()),
        CopyMode::Symbolic(text) => (0, text.clone()),
    };
    pb::FileActionCopy {
        src: copy.src.clone(),
        dest: copy.dest.clone(),
        owner: owner(copy.owner.as_ref()),
        mode,
        follow_symlink: copy.follow_symlink,
        dir_copy_contents: copy.dir_copy_contents,
        attempt_unpack_docker_compatibility: copy.attempt_unpack,
        create_dest_path: copy.create_dest_path,
        allow_wildcard: copy.allow_wildcard,
        allow_empty_wildcard: copy.allow_empty_wildcard,
        timestamp: none_or(copy.timestamp),
        include_patterns: copy.include_patterns.clone(),
        exclude_patterns: copy.exclude_patterns.clone(),
        always_replace_existing_dest_paths: copy.always_replace,
        mode_str,
        required_paths: copy.required_paths.clone(),
    }
}

fn owner(owner: Option<&Owner>) -> Option<pb::ChownOpt> {
    owner.map(|owner| pb::ChownOpt { user: user(owner.user.as_ref()), group: user(owner.group.as_ref()) })
}

fn user(user: Option<&UserSpec>) -> Option<pb::UserOpt> {
    let user = match user? {
        UserSpec::Id(id) => pb::user_opt::User::ById(*id),
        UserSpec::Name { name, input } => {
            pb::user_opt::User::ByName(pb::NamedUserOpt { name: name.clone(), input: none_or(*input) })
        }
    };
    Some(pb::UserOpt { user: Some(user) })
}

fn build_op(build: &BuildOp) -> pb::BuildOp {
    let inputs = build.inputs.iter().map(|(name, input)| pb::BuildInputEntry {
        key: Some(name.clone()),
        value: Some(pb::BuildInput { input: none_or(Some(*input)) }),
    });
    pb::BuildOp {
        builder: none_or(build.builder),
        inputs: inputs.collect(),
        def: build.def.clone(),
        attrs: strings(&build.attrs),
    }
}

fn op_metadata(meta: &VertexMeta) -> pb::OpMetadata {
    pb::OpMetadata {
        ignore_cache: meta.ignore_cache,
        description: strings(&meta.description),
        export_cache: meta.export_cache.map(|value| pb::ExportCache { value }),
        caps: meta
            .caps
            .iter()
            .map(|(name, value)| pb::BoolEntry { key: Some(name.clone()), value: Some(*value) })
            .collect(),
        progress_group: meta.progress_group.as_ref().map(|group| pb::ProgressGroup {
            id: group.id.clone(),
            name: group.name.clone(),
            weak: group.weak,
        }),
        linux_resources: meta.linux_resources.as_ref().map(|limits| pb::LinuxResources {
            memory: limits.memory_bytes,
            memory_swap: limits.memory_swap_bytes,
            cpu_shares: limits.cpu_shares,
            cpu_period: limits.cpu_period_us,
            cpu_quota: limits.cpu_quota_us,
            cpuset_cpus: limits.cpuset_cpus.clone(),
            cpuset_mems: limits.cpuset_mems.clone(),
        }),
    }
}

fn source(sources: &SourceMapping) -> pb::Source {
    let locations = sources.locations.iter().map(|(digest, list): (&Digest, _)| {
        let locations = list.iter().map(|location| pb::Location {
            source_index: i32::try_from(location.file).unwrap_or(i32::MAX),
            ranges: location
                .ranges
                .iter()
                .map(|range| pb::Range { start: position(range.start), end: position(range.end) })
                .collect(),
        });
        pb::LocationsEntry {
            key: Some(digest.to_string()),
            value: Some(pb::Locations { locations: locations.collect() }),
        }
    });
    pb::Source {
        locations: locations.collect(),
        infos: sources
            .files
            .iter()
            .map(|file| pb::SourceInfo {
                filename: file.name.clone(),
                data: file.data.clone(),
                definition: file.def.clone(),
                language: file.language.clone(),
            })
            .collect(),
    }
}

fn position(position: Position) -> Option<pb::Position> {
    let clamp = |value| i32::try_from(value).unwrap_or(i32::MAX);
    Some(pb::Position { line: clamp(position.line), character: clamp(position.character) })
}
