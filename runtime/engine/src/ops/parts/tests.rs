//! Parts and digests differ together.

use bytes::Bytes;
use rb_api::{KeyPart, PartKind, op_parts};
use rb_llb::{
    CacheSharing, CdiDevice, ContentCache, CopyAction, CopyMode, ExecMeta, ExecOp, FileAction,
    FileActionKind, FileOp, HostAddress, MkdirAction, MkfileAction, Mount, MountKind, NetworkMode, Op,
    OpPlatform, Owner, ProxyEnv, RmAction, SecretEnv, SecretMount, SecurityMode, SshMount, SymlinkAction,
    Ulimit, UserSpec, VertexMeta, attr, extension,
};
use rb_oci::Digest;

use super::*;

/// One change of an op.
type Change<T> = Box<dyn Fn(&mut T)>;

fn change<T>(with: impl Fn(&mut T) + 'static) -> Change<T> {
    Box::new(with)
}

fn platform(architecture: &str) -> OpPlatform {
    OpPlatform { os: "linux".to_owned(), architecture: architecture.to_owned(), ..OpPlatform::default() }
}

fn mounted(kind: MountKind) -> Mount {
    Mount { dest: "/m".to_owned(), kind, ..Mount::default() }
}

fn secret(id: &str) -> SecretMount {
    SecretMount { id: id.to_owned(), uid: 1, gid: 1, mode: 0o400, optional: false }
}

fn agent(id: &str) -> SshMount {
    SshMount { id: id.to_owned(), uid: 1, gid: 1, mode: 0o600, optional: false }
}

fn exec() -> ExecOp {
    let cache = |id: &str| MountKind::Cache { id: id.to_owned(), sharing: CacheSharing::Shared };
    let root = Mount { dest: "/".to_owned(), input: Some(0), output: Some(0), ..Mount::default() };
    ExecOp {
        meta: ExecMeta {
            args: vec!["/bin/sh".to_owned(), "-c".to_owned(), "make".to_owned()],
            env: vec!["A=1".to_owned(), "B=2".to_owned()],
            ulimits: vec![Ulimit { name: "nofile".to_owned(), soft: 1, hard: 2 }],
            ..ExecMeta::default()
        },
        mounts: vec![
            root,
            mounted(cache("c")),
            mounted(MountKind::Secret(secret("s"))),
            mounted(MountKind::Ssh(agent("a"))),
            mounted(MountKind::Tmpfs { size_bytes: 1 }),
        ],
        ..ExecOp::default()
    }
}

/// Every field of a command, changed once.
fn exec_changes() -> Vec<Change<ExecOp>> {
    let mount = |at: usize, with: fn(&mut Mount)| change(move |op: &mut ExecOp| with(&mut op.mounts[at]));
    let to_secret = |with: fn(&mut SecretMount)| {
        change(move |op: &mut ExecOp| {
            let mut changed = secret("s");
            with(&mut changed);
            op.mounts[2].kind = MountKind::Secret(changed);
        })
    };
    let to_agent = |with: fn(&mut SshMount)| {
        change(move |op: &mut ExecOp| {
            let mut changed = agent("a");
            with(&mut changed);
            op.mounts[3].kind = MountKind::Ssh(changed);
        })
    };
    vec![
        change(|op: &mut ExecOp| op.meta.args[2] = "make all".to_owned()),
        change(|op: &mut ExecOp| op.meta.args.push(String::new())),
        change(|op: &mut ExecOp| op.meta.env[0] = "A=2".to_owned()),
        change(|op: &mut ExecOp| op.meta.env[0] = "A".to_owned()),
        change(|op: &mut ExecOp| op.meta.env.reverse()),
        change(|op: &mut ExecOp| op.meta.env.push("C=".to_owned())),
        change(|op: &mut ExecOp| op.meta.cwd = "/w".to_owned()),
        change(|op: &mut ExecOp| op.meta.user = "me".to_owned()),
        change(|op: &mut ExecOp| op.meta.hostname = "h".to_owned()),
        change(|op: &mut ExecOp| {
            op.meta.extra_hosts.push(HostAddress { host: "h".to_owned(), ip: "1.2.3.4".to_owned() });
        }),
        change(|op: &mut ExecOp| op.meta.ulimits[0].soft = 7),
        change(|op: &mut ExecOp| op.meta.ulimits[0].hard = 7),
        change(|op: &mut ExecOp| op.meta.cgroup_parent = "p".to_owned()),
        change(|op: &mut ExecOp| op.meta.remove_mount_stubs_recursive = false),
        change(|op: &mut ExecOp| op.meta.valid_exit_codes = vec![3]),
        change(|op: &mut ExecOp| op.network = NetworkMode::None),
        change(|op: &mut ExecOp| op.network = NetworkMode::Host),
        change(|op: &mut ExecOp| op.security = SecurityMode::Insecure),
        change(|op: &mut ExecOp| {
            op.secret_env.push(SecretEnv { id: "i".to_owned(), ..SecretEnv::default() });
        }),
        change(|op: &mut ExecOp| {
            op.secret_env.push(SecretEnv { id: "i".to_owned(), name: "N".to_owned(), optional: true });
        }),
        change(|op: &mut ExecOp| op.cdi_devices.push(CdiDevice { name: "d".to_owned(), optional: false })),
        change(|op: &mut ExecOp| op.cdi_devices.push(CdiDevice { name: "d".to_owned(), optional: true })),
        mount(0, |mount| mount.readonly = true),
        mount(0, |mount| mount.selector = "/x".to_owned()),
        mount(0, |mount| mount.dest = "/y".to_owned()),
        mount(0, |mount| mount.output = None),
        mount(0, |mount| mount.input = None),
        mount(0, |mount| mount.content_cache = ContentCache::Off),
        mount(1, |mount| {
            mount.kind = MountKind::Cache { id: "other".to_owned(), sharing: CacheSharing::Shared };
        }),
        mount(1, |mount| {
            mount.kind = MountKind::Cache { id: "c".to_owned(), sharing: CacheSharing::Locked };
        }),
        to_secret(|secret| secret.id = "other".to_owned()),
        to_secret(|secret| secret.uid = 7),
        to_secret(|secret| secret.gid = 7),
        to_secret(|secret| secret.mode = 0o444),
        to_secret(|secret| secret.optional = true),
        to_agent(|agent| agent.id = "other".to_owned()),
        to_agent(|agent| agent.uid = 7),
        to_agent(|agent| agent.gid = 7),
        to_agent(|agent| agent.mode = 0o666),
        to_agent(|agent| agent.optional = true),
        mount(4, |mount| mount.kind = MountKind::Tmpfs { size_bytes: 2 }),
    ]
}

/// Checks that each change makes a digest and parts of its own.
fn differ_together<T: Clone>(
    first: &T,
    changes: &[Change<T>],
    digest: impl Fn(&T) -> Digest,
    parts: impl Fn(&T) -> Vec<KeyPart>,
) {
    let mut seen: Vec<(Digest, Vec<KeyPart>)> = vec![(digest(first), parts(first))];
    for (at, change) in changes.iter().enumerate() {
        let mut changed = first.clone();
        change(&mut changed);
        let found = (digest(&changed), parts(&changed));
        for (digest, parts) in &seen {
            assert_ne!(*digest, found.0, "change {at} is in no digest");
            assert_ne!(*parts, found.1, "change {at} is in no part");
        }
        seen.push(found);
    }
}

#[test]
fn each_field_of_a_command_is_in_its_parts() {
    let digest = |op: &ExecOp| Op::Exec(op.clone()).digest_without_inputs(None);
    let parts = |op: &ExecOp| of_exec(op, None, &VertexMeta::default());
    differ_together(&exec(), &exec_changes(), digest, parts);
    let proxied = |mut op: ExecOp| {
        op.meta.proxy_env = Some(ProxyEnv { http_proxy: "p".to_owned(), ..ProxyEnv::default() });
        op
    };
    assert_eq!(parts(&proxied(exec())), parts(&exec()), "how the network is reached is in no key");
    let on = |architecture: &str| of_exec(&exec(), Some(&platform(architecture)), &VertexMeta::default());
    assert_ne!(on("amd64"), on("arm64"));
}

#[test]
fn variables_are_told_by_whose_they_are() {
    let mut meta = VertexMeta::default();
    meta.description.insert(extension::EXEC_VARIABLES.to_owned(), "A=ARG\nB=LET".to_owned());
    let mut op = exec();
    op.meta.env.push("NPM_TOKEN=s3cret".to_owned());
    let parts = of_exec(&op, None, &meta);
    let kinds: Vec<_> = parts.iter().filter(|part| ["A", "B", "NPM_TOKEN"].contains(&&*part.name)).collect();
    assert_eq!(
        kinds.iter().map(|part| part.kind).collect::<Vec<_>>(),
        [PartKind::Arg, PartKind::Variable, PartKind::Env]
    );
    assert!(!format!("{parts:?}").contains("s3cret"));
}

fn copy() -> FileOp {
    let copy = CopyAction { src: "/a".to_owned(), dest: "/b".to_owned(), ..CopyAction::default() };
    let action = |kind| FileAction { input: Some(0), secondary_input: Some(1), output: Some(0), kind };
    let path = || "/p".to_owned();
    FileOp {
        actions: vec![
            action(FileActionKind::Copy(copy)),
            action(FileActionKind::Mkfile(MkfileAction {
                path: path(),
                mode: 0o644,
                data: Bytes::from_static(b"text"),
                owner: None,
                timestamp: None,
            })),
            action(FileActionKind::Mkdir(MkdirAction {
                path: path(),
                mode: 0o755,
                make_parents: false,
                owner: None,
                timestamp: None,
            })),
            action(FileActionKind::Rm(RmAction { path: path(), ..RmAction::default() })),
            action(FileActionKind::Symlink(SymlinkAction {
                target: "t".to_owned(),
                path: path(),
                owner: None,
                timestamp: None,
            })),
        ],
    }
}

fn copy_changes() -> Vec<Change<FileOp>> {
    fn to(at: usize, with: fn(&mut FileActionKind)) -> Change<FileOp> {
        change(move |op: &mut FileOp| with(&mut op.actions[at].kind))
    }
    fn to_copy(with: fn(&mut CopyAction)) -> Change<FileOp> {
        change(move |op: &mut FileOp| {
            if let FileActionKind::Copy(copy) = &mut op.actions[0].kind {
                with(copy);
            }
        })
    }
    fn user(id: u32) -> Option<Owner> {
        Some(Owner { user: Some(UserSpec::Id(id)), group: None })
    }
    vec![
        to_copy(|copy| copy.src = "/c".to_owned()),
        to_copy(|copy| copy.dest = "/c".to_owned()),
        to_copy(|copy| copy.owner = user(1)),
        to_copy(|copy| {
            let name = UserSpec::Name { name: "me".to_owned(), input: Some(0) };
            copy.owner = Some(Owner { user: Some(name.clone()), group: Some(name) });
        }),
        to_copy(|copy| copy.mode = CopyMode::Bits(0o600)),
        to_copy(|copy| copy.mode = CopyMode::Symbolic("u=rw".to_owned())),
        to_copy(|copy| copy.follow_symlink = true),
        to_copy(|copy| copy.dir_copy_contents = true),
        to_copy(|copy| copy.attempt_unpack = true),
        to_copy(|copy| copy.create_dest_path = true),
        to_copy(|copy| copy.allow_wildcard = true),
        to_copy(|copy| copy.allow_empty_wildcard = true),
        to_copy(|copy| copy.timestamp = Some(1)),
        to_copy(|copy| copy.include_patterns = vec!["x".to_owned()]),
        to_copy(|copy| copy.exclude_patterns = vec!["x".to_owned()]),
        to_copy(|copy| copy.always_replace = true),
        to_copy(|copy| copy.required_paths = vec!["x".to_owned()]),
        to(1, |kind| {
            if let FileActionKind::Mkfile(file) = kind {
                file.path = "/q".to_owned();
            }
        }),
        to(1, |kind| {
            if let FileActionKind::Mkfile(file) = kind {
                file.mode = 0o600;
            }
        }),
        to(1, |kind| {
            if let FileActionKind::Mkfile(file) = kind {
                file.data = Bytes::from_static(b"more");
            }
        }),
        to(1, |kind| {
            if let FileActionKind::Mkfile(file) = kind {
                file.owner = user(1);
            }
        }),
        to(1, |kind| {
            if let FileActionKind::Mkfile(file) = kind {
                file.timestamp = Some(1);
            }
        }),
        to(2, |kind| {
            if let FileActionKind::Mkdir(folder) = kind {
                folder.path = "/q".to_owned();
            }
        }),
        to(2, |kind| {
            if let FileActionKind::Mkdir(folder) = kind {
                folder.mode = 0o700;
            }
        }),
        to(2, |kind| {
            if let FileActionKind::Mkdir(folder) = kind {
                folder.make_parents = true;
            }
        }),
        to(2, |kind| {
            if let FileActionKind::Mkdir(folder) = kind {
                folder.owner = user(1);
            }
        }),
        to(2, |kind| {
            if let FileActionKind::Mkdir(folder) = kind {
                folder.timestamp = Some(1);
            }
        }),
        to(3, |kind| {
            if let FileActionKind::Rm(rm) = kind {
                rm.path = "/q".to_owned();
            }
        }),
        to(3, |kind| {
            if let FileActionKind::Rm(rm) = kind {
                rm.allow_not_found = true;
            }
        }),
        to(3, |kind| {
            if let FileActionKind::Rm(rm) = kind {
                rm.allow_wildcard = true;
            }
        }),
        to(4, |kind| {
            if let FileActionKind::Symlink(link) = kind {
                link.target = "q".to_owned();
            }
        }),
        to(4, |kind| {
            if let FileActionKind::Symlink(link) = kind {
                link.path = "/q".to_owned();
            }
        }),
        to(4, |kind| {
            if let FileActionKind::Symlink(link) = kind {
                link.owner = user(1);
            }
        }),
        to(4, |kind| {
            if let FileActionKind::Symlink(link) = kind {
                link.timestamp = Some(1);
            }
        }),
        change(|op: &mut FileOp| op.actions[0].input = None),
        change(|op: &mut FileOp| op.actions[0].secondary_input = None),
        change(|op: &mut FileOp| op.actions[0].output = None),
        change(|op: &mut FileOp| op.actions.truncate(1)),
    ]
}

#[test]
fn each_field_of_a_file_operation_is_in_its_parts() {
    let digest = |op: &FileOp| Op::File(op.clone()).digest_without_inputs(None);
    differ_together(&copy(), &copy_changes(), digest, |op| of_files(op, None));
    assert_ne!(of_files(&copy(), Some(&platform("amd64"))), of_files(&copy(), Some(&platform("arm64"))));
}

#[test]
fn patterns_are_told_one_by_one_up_to_a_bound() {
    let list = |count: usize| {
        let texts: Vec<String> = (0..count).map(|number| format!("p{number}")).collect();
        let attrs = [(attr::LOCAL_EXCLUDE_PATTERNS.to_owned(), rb_llb::json_list(&texts))];
        patterns(&attrs.into())
    };
    assert_eq!(
        list(2),
        [("p0", ""), ("p1", "")].map(|(name, value)| KeyPart::new(PartKind::Exclude, name, value))
    );
    assert_eq!(list(op_parts::MOST_PATTERNS + 5).len(), op_parts::MOST_PATTERNS + 1);
}

#[test]
fn which_hints_a_command_sees_is_in_no_key() {
    let with = |id: &str| {
        let mut op = exec();
        op.mounts[1].kind = MountKind::Cache { id: id.to_owned(), sharing: CacheSharing::Locked };
        op
    };
    let digest = |op: &ExecOp| {
        let kept = super::super::exec::in_key(op).unwrap_or_else(|| op.clone());
        Op::Exec(kept).digest_without_inputs(None)
    };
    let parts = |op: &ExecOp| of_exec(op, None, &VertexMeta::default());
    let (one, other) = (with("///hint/one"), with("///hint/other"));
    assert_eq!((digest(&one), parts(&one)), (digest(&other), parts(&other)));
    let named = with("//hint/one");
    assert!(digest(&named) != digest(&one) && parts(&named) != parts(&one));
}
