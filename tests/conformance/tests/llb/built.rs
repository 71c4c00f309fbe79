//! What our builder makes is what BuildKit's client makes of the same calls: ops and their order, metadata,
//! capabilities, sources.

use std::collections::{BTreeMap, BTreeSet};

use rb_diag::SourceMap;
use rb_llb::{
    CacheSharing, CopyAction, CopyMode, ExecBuilder, ExecMeta, HostAddress, MkdirAction, MkfileAction,
    MountOptions, NetworkMode, NodeMeta, Owner, ProgressGroup, ProxyEnv, RmAction, SecretEnv, SecretMount,
    SecurityMode, SshMount, State, SymlinkAction, Ulimit, UserSpec, attr, json_list,
};
use rb_oci::Platform;

use super::{golden, named};

const BUSYBOX: &str = "docker-image://docker.io/library/busybox:latest@sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d";
const DIGEST: &str = "sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d";

fn amd64() -> Platform {
    Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None }
}

fn arm64() -> Platform {
    Platform { os: "linux".to_owned(), architecture: "arm64".to_owned(), variant: Some("v8".to_owned()) }
}

fn none() -> NodeMeta {
    NodeMeta::default()
}

fn source(identifier: &str, attrs: &[(&str, &str)], platform: &Platform) -> State {
    let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    State::source(identifier, attrs.collect::<BTreeMap<_, _>>(), Some(platform), none())
}

fn busybox() -> State {
    source(BUSYBOX, &[], &amd64())
}

/// The client makes a local source unique unless it has a session.
fn local(name: &str, unique: &str) -> State {
    source(&format!("local://{name}"), &[(attr::LOCAL_UNIQUE, unique)], &amd64())
}

fn process(args: &[&str]) -> ExecMeta {
    ExecMeta { args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..ExecMeta::default() }
}

fn command(args: &[&str]) -> ExecBuilder {
    ExecBuilder::new(&busybox(), process(args))
}

fn process_only(meta: ExecMeta) -> State {
    finish(ExecBuilder::new(&busybox(), meta))
}

fn finish(command: ExecBuilder) -> State {
    command.finish(Some(&amd64()), none()).root()
}

fn run(base: &State, args: &[&str]) -> State {
    finish(ExecBuilder::new(base, process(args)))
}

fn echo(base: &State, platform: &Platform) -> State {
    let meta = ExecMeta {
        env: vec!["A=1".to_owned(), "B=2 3".to_owned()],
        cwd: "/w".to_owned(),
        user: "app".to_owned(),
        ..process(&["/bin/sh", "-c", "echo hi"])
    };
    ExecBuilder::new(base, meta).finish(Some(platform), none()).root()
}

fn mkfile(path: &str, mode: u32, data: &'static str) -> MkfileAction {
    MkfileAction { path: path.to_owned(), mode, data: data.into(), ..MkfileAction::default() }
}

fn ids(user: u32, group: u32) -> Option<Owner> {
    Some(Owner { user: Some(UserSpec::Id(user)), group: Some(UserSpec::Id(group)) })
}

fn copy(src: &str, dest: &str) -> CopyAction {
    CopyAction { src: src.to_owned(), dest: dest.to_owned(), ..CopyAction::default() }
}

fn merge(base: State) -> State {
    let files = ["/1", "/2"].map(|path| State::scratch().mkfile(mkfile(path, 0o644, ""), none()));
    let [one, two] = files;
    State::merge(vec![base, one, two], None, none())
}

fn sources() -> Vec<(&'static str, State)> {
    let local_attrs = [
        (attr::LOCAL_SESSION, "S".to_owned()),
        (attr::LOCAL_INCLUDE_PATTERNS, json_list(["**/*.go"])),
        (attr::LOCAL_EXCLUDE_PATTERNS, json_list(["vendor"])),
        (attr::LOCAL_FOLLOW_PATHS, json_list(["a/b"])),
        (attr::LOCAL_SHARED_KEY_HINT, "hint".to_owned()),
    ];
    let local_attrs: Vec<(&str, &str)> =
        local_attrs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let http = [
        (attr::HTTP_CHECKSUM, DIGEST),
        (attr::HTTP_FILENAME, "b.tgz"),
        (attr::HTTP_PERM, "0600"),
        (attr::HTTP_UID, "1"),
        (attr::HTTP_GID, "2"),
    ];
    let git = [
        (attr::GIT_KEEP_DIR, "true"),
        (attr::GIT_FULL_URL, "https://github.com/org/repo.git"),
        (attr::GIT_AUTH_HEADER_SECRET, "GIT_AUTH_HEADER"),
        (attr::GIT_AUTH_TOKEN_SECRET, "GIT_AUTH_TOKEN"),
    ];
    let pull = [(attr::IMAGE_RESOLVE_MODE, "pull")];
    let oci = [(attr::OCI_SESSION, "SID"), (attr::OCI_STORE, "STORE")];
    vec![
        ("image", busybox()),
        ("image-arm64", source(BUSYBOX, &[], &arm64())),
        ("image-pull", source("docker-image://docker.io/library/alpine:3.20", &pull, &amd64())),
        ("oci-layout", source(&format!("oci-layout://ex/repo@{DIGEST}"), &oci, &amd64())),
        ("local", source("local://src", &local_attrs, &amd64())),
        ("http", source("https://example.com/a.tgz", &http, &amd64())),
        ("git", source("git://github.com/org/repo.git#v1.2", &git, &amd64())),
    ]
}

fn commands() -> Vec<(&'static str, State)> {
    let hosts = ExecMeta {
        extra_hosts: vec![HostAddress { host: "h".to_owned(), ip: "1.2.3.4".to_owned() }],
        ulimits: vec![Ulimit { name: "nofile".to_owned(), soft: 10, hard: 20 }],
        cgroup_parent: "cg".to_owned(),
        ..process(&["true"])
    };
    let proxy =
        ProxyEnv { http_proxy: "http://p".to_owned(), no_proxy: "n".to_owned(), ..ProxyEnv::default() };
    let unicode = ExecMeta { env: vec!["Ü=漢字".to_owned()], ..process(&["echo", "naïve é \0bin"]) };
    let isolated = finish(command(&["a"]).network(NetworkMode::None));
    let group = ProgressGroup { id: "pg".to_owned(), name: "group".to_owned(), weak: false };
    let named = NodeMeta { ignore_cache: true, progress_group: Some(group), ..NodeMeta::named("named") };
    let readonly = command(&["a"]).readonly_root().mount("/out", &State::scratch(), MountOptions::default());
    vec![
        ("exec", echo(&busybox(), &amd64())),
        ("exec-arm64", echo(&source(BUSYBOX, &[], &arm64()), &arm64())),
        ("exec-exit-codes", process_only(ExecMeta { valid_exit_codes: vec![0, 3], ..process(&["a"]) })),
        ("exec-hostname", process_only(ExecMeta { hostname: "box".to_owned(), ..process(&["hostname"]) })),
        ("exec-hosts", process_only(hosts)),
        ("exec-insecure", finish(command(&["a"]).security(SecurityMode::Insecure))),
        ("exec-network", finish(ExecBuilder::new(&isolated, process(&["b"])).network(NetworkMode::Host))),
        ("exec-proxy", process_only(ExecMeta { proxy_env: Some(proxy), ..process(&["a"]) })),
        ("exec-readonly", readonly.finish(Some(&amd64()), none()).mount("/out").unwrap()),
        ("ignore-cache", command(&["a"]).finish(Some(&amd64()), named).root()),
        ("unicode", process_only(unicode)),
    ]
}

fn mounts() -> Vec<(&'static str, State)> {
    let (base, scratch) = (busybox(), State::scratch());
    let src = local("src", "oav8s5lrunhuizc8gdiglhc3d");
    let sub = MountOptions { readonly: true, selector: "/sub".to_owned(), ..MountOptions::default() };
    let caches = command(&["a"])
        .cache("/s", &scratch, "id3", CacheSharing::Shared)
        .cache("/c", &scratch, "id1", CacheSharing::Locked)
        .cache("/p", &scratch, "id2", CacheSharing::Private);
    let outputs = command(&["a"])
        .mount("/o2", &base, MountOptions::default())
        .mount("/o1", &scratch, MountOptions::default())
        .finish(Some(&amd64()), none());
    let secret = SecretMount { id: "x".to_owned(), uid: 1, gid: 2, mode: 0o400, optional: true };
    let secret_env = SecretEnv { id: "y".to_owned(), name: "ENVX".to_owned(), optional: false };
    let agent = SshMount { id: "k".to_owned(), uid: 3, gid: 4, mode: 0o600, optional: false };
    vec![
        ("mount-bind", finish(command(&["a"]).mount("/src", &src, sub))),
        ("mount-cache", finish(caches)),
        ("mount-output", outputs.mount("/o2").unwrap()),
        ("mount-secret", finish(command(&["a"]).secret_env(secret_env).secret("/run/x", secret))),
        ("mount-ssh", finish(command(&["a"]).ssh("/s2", agent))),
        ("mount-tmpfs", finish(command(&["a"]).tmpfs("/t", 1 << 20))),
    ]
}

fn files() -> Vec<(&'static str, State)> {
    let (base, scratch) = (busybox(), State::scratch());
    let name = |name: &str| Some(UserSpec::Name { name: name.to_owned(), input: None });
    let mkdir = |path: &str| MkdirAction { path: path.to_owned(), mode: 0o755, ..MkdirAction::default() };
    let owned = MkdirAction {
        make_parents: true,
        owner: Some(Owner { user: name("app"), group: name("grp") }),
        ..mkdir("/a/b")
    };
    let dated = MkfileAction {
        owner: ids(1, 2),
        timestamp: Some(1_700_000_000_000_000_000),
        ..mkfile("/a", 0o644, "hello\n")
    };
    let rm = RmAction { path: "/x*".to_owned(), allow_not_found: true, allow_wildcard: true };
    let symlink = SymlinkAction {
        target: "/target".to_owned(),
        path: "/link".to_owned(),
        owner: ids(1000, 1000),
        timestamp: None,
    };
    let everything = CopyAction {
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: true,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        timestamp: Some(1_700_000_000_000_000_000),
        include_patterns: vec!["x".to_owned()],
        exclude_patterns: vec!["y".to_owned()],
        always_replace: true,
        ..copy("/a*", "/d/")
    };
    let bits = CopyAction { owner: ids(1, 2), mode: CopyMode::Bits(0o750), ..copy("/a", "/d") };
    let symbolic = CopyAction { mode: CopyMode::Symbolic("u=rwX,go=rX".to_owned()), ..copy("/a", "/d") };
    let chain = scratch
        .files()
        .mkdir(mkdir("/a"))
        .mkfile(mkfile("/a/b", 0o600, "1"))
        .mkfile(mkfile("/a/c", 0o600, "2"))
        .rm(RmAction { path: "/a/b".to_owned(), ..RmAction::default() });
    vec![
        ("file-chain", chain.finish(none())),
        ("file-copy", base.copy(&local("c", "kvqg74a41l12505joxvt4o9yi"), everything, none())),
        ("file-copy-mode", base.copy(&local("c", "v2z5d97944uwy6zpodq6acz5i"), bits, none())),
        ("file-copy-modestr", base.copy(&local("c", "q6wbqux88b82arwnhykmuie20"), symbolic, none())),
        ("file-copy-self", base.copy(&base, copy("/bin/sh", "/sh"), none())),
        ("file-mkdir", scratch.mkdir(owned, none())),
        ("file-mkfile", scratch.mkfile(dated, none())),
        ("file-rm", base.files().rm(rm).finish(none())),
        ("file-symlink", scratch.files().symlink(symlink).finish(none())),
    ]
}

fn graphs() -> Vec<(&'static str, State)> {
    let base = busybox();
    let (a, b) = (run(&base, &["a"]), run(&base, &["b"]));
    let both = State::merge(vec![a.clone(), b], None, none());
    vec![
        ("diamond", run(&both, &["c"])),
        ("diff", State::diff(&base, &a, None, none())),
        ("merge", merge(busybox())),
        ("merge-arm64", merge(source(BUSYBOX, &[], &arm64()))),
    ]
}

#[test]
fn every_golden_definition_can_be_built() {
    let golden = golden();
    let mut built: BTreeSet<&str> = BTreeSet::new();
    for (name, state) in [sources(), commands(), mounts(), files(), graphs()].concat() {
        let expected = named(name).definition();
        let actual = state.marshal(&SourceMap::default()).unwrap();
        let shown = || rb_llb::dump(&actual.graph().unwrap());
        assert_eq!(actual.ops, expected.ops, "{name}: ops\n{}", shown());
        assert_eq!(actual.meta, expected.meta, "{name}: metadata");
        assert_eq!(actual.sources, expected.sources, "{name}: sources");
        let root = expected.graph().unwrap().root();
        assert_eq!(state.digest().unwrap(), root, "{name}: root");
        built.insert(name);
    }
    let missing: Vec<&str> =
        golden.iter().map(|golden| golden.name.as_str()).filter(|name| !built.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
