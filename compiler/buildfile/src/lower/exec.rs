//! Commands: what a step runs, sees and may do → an exec vertex.

use rb_llb::{
    CacheSharing, CdiDevice, ExecBuilder, ExecMeta, HostAddress, MkdirAction, MkfileAction, MountOptions,
    NetworkMode, NodeMeta, Owner, SecretEnv, SecretMount, SecurityMode, SshMount, State, UserSpec,
};
use rb_oci::Platform;

/// Where a question's files lie while its command runs.
const ANSWER_DIR: &str = "/run/rb-answer";

/// File of an answer, in its tree, that holds the exit code.
pub(crate) const ANSWER_EXIT: &str = "/exit";

/// File of an answer, in its tree, that holds what the command printed.
pub(crate) const ANSWER_OUTPUT: &str = "/out";

/// The longest file that a question's command may write, in blocks of 512 bytes (of 1 KiB in some shells): its output is
/// refused at much less, but a command that never stops printing must not fill the disk first.
const ANSWER_BLOCKS: u32 = 1 << 19;

/// Where a script with an interpreter of its own lies while it runs; the program of such a step.
pub(crate) const SCRIPT: &str = "/run/rb-script";

/// A command and all that it sees.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: String,
    pub(crate) network: NetworkMode,
    pub(crate) security: SecurityMode,
    pub(crate) hosts: Vec<HostAddress>,
    pub(crate) caches: Vec<Cache>,
    /// Paths of memory.
    pub(crate) tmpfs: Vec<Tmpfs>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) agents: Vec<Agent>,
    /// Trees that it sees.
    pub(crate) binds: Vec<Bind>,
    pub(crate) devices: Vec<CdiDevice>,
    /// What lies at [`SCRIPT`].
    pub(crate) script: Option<String>,
}

/// A directory that outlives the build.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    pub(crate) target: String,
    pub(crate) id: String,
    pub(crate) sharing: CacheSharing,
    pub(crate) mode: u32,
    /// User and group of a new one.
    pub(crate) owner: Option<(u32, u32)>,
    /// What lies in it is copied into the step's own filesystem.
    pub(crate) persist: bool,
    /// The tree that a new one begins as, and the path in it, empty for all of it.
    pub(crate) from: Option<(State, String)>,
}

/// A tree at a path.
#[derive(Debug, Clone)]
pub(crate) struct Bind {
    pub(crate) target: String,
    pub(crate) tree: State,
    /// Path in the tree; empty is all of it.
    pub(crate) selector: String,
    /// Whether it may be written; what is written is forgotten.
    pub(crate) writable: bool,
}

/// Memory as a directory.
#[derive(Debug, Clone)]
pub(crate) struct Tmpfs {
    pub(crate) target: String,
    pub(crate) size_bytes: i64,
}

/// A secret, as a variable or as a file.
#[derive(Debug, Clone)]
pub(crate) enum Secret {
    Variable(SecretEnv),
    File { target: String, secret: SecretMount },
}

/// The socket of an ssh agent; no path is BuildKit's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) target: Option<String>,
    pub(crate) agent: SshMount,
}

/// Runs a command on `base`.
pub(crate) fn run(base: &State, step: Step, platform: &Platform, meta: NodeMeta) -> State {
    builder(base, persisting(step)).finish(Some(platform), meta).root()
}

/// Runs a command on `base` for its exit code and output alone: the tree that is returned holds [`ANSWER_EXIT`] and
/// [`ANSWER_OUTPUT`], and nothing else that it changes is kept.
pub(crate) fn answer(base: &State, step: Step, platform: &Platform, meta: NodeMeta) -> State {
    let step = within(
        step,
        &format!(
            "ulimit -f {ANSWER_BLOCKS}; \"$@\" >{ANSWER_DIR}{ANSWER_OUTPUT}; echo $? >{ANSWER_DIR}{ANSWER_EXIT}"
        ),
    );
    let file = |path: &str| MkfileAction {
        path: path.to_owned(),
        mode: 0o666,
        data: Vec::new().into(),
        owner: None,
        timestamp: None,
    };
    // Made beforehand and writable for everybody: the step may run as another user.
    let files = State::scratch().files().mkfile(file(ANSWER_EXIT)).mkfile(file(ANSWER_OUTPUT));
    let empty = files.finish(NodeMeta::named("[internal] a place for the answer"));
    let exec =
        builder(base, step).mount(ANSWER_DIR, &empty, MountOptions::default()).finish(Some(platform), meta);
    exec.mount(ANSWER_DIR).unwrap_or_default()
}

fn builder(base: &State, step: Step) -> ExecBuilder {
    let Step {
        args,
        env,
        cwd,
        user,
        network,
        security,
        hosts,
        caches,
        tmpfs,
        secrets,
        agents,
        binds,
        devices,
        script,
    } = step;
    let process = ExecMeta { args, env, cwd, user, extra_hosts: hosts, ..ExecMeta::default() };
    let mut exec = ExecBuilder::new(base, process).network(network).security(security);
    for Bind { target, tree, selector, writable } in binds {
        let options =
            MountOptions { selector, readonly: !writable, no_output: writable, ..MountOptions::default() };
        exec = exec.mount(target, &tree, options);
    }
    for device in devices {
        exec = exec.device(device);
    }
    for Cache { target, id, sharing, mode, owner, persist: _, from } in caches {
        if let Some((tree, selector)) = from {
            exec = exec.cache_at(target, &tree, &selector, id, sharing);
            continue;
        }
        let directory = MkdirAction {
            path: "/cache".to_owned(),
            mode,
            make_parents: false,
            owner: owner.map(|(user, group)| Owner {
                user: Some(UserSpec::Id(user)),
                group: Some(UserSpec::Id(group)),
            }),
            timestamp: None,
        };
        let empty = State::scratch().mkdir(directory, NodeMeta::named("[internal] an empty cache"));
        exec = exec.cache_at(target, &empty, "/cache", id, sharing);
    }
    for Tmpfs { target, size_bytes } in tmpfs {
        exec = exec.tmpfs(target, size_bytes);
    }
    for secret in secrets {
        exec = match secret {
            Secret::Variable(secret) => exec.secret_env(secret),
            Secret::File { target, secret } => exec.secret(target, secret),
        };
    }
    for Agent { target, agent } in agents {
        exec = exec.ssh(target.unwrap_or_default(), agent);
    }
    let Some(text) = script else { return exec };
    let file = MkfileAction {
        path: "/script".to_owned(),
        mode: 0o755,
        data: text.into_bytes().into(),
        owner: None,
        timestamp: None,
    };
    let tree = State::scratch().mkfile(file, NodeMeta::named("[internal] the script"));
    let options = MountOptions { selector: "/script".to_owned(), readonly: true, ..MountOptions::default() };
    exec.mount(SCRIPT, &tree, options)
}

/// Has a step bring what lies in caches that are persisted into its own filesystem: the cache is mounted beside the
/// directory, which is filled from it before the command, and copied back behind it.
fn persisting(mut step: Step) -> Step {
    let (mut fill, mut keep) = (String::new(), String::new());
    for (at, cache) in step.caches.iter_mut().enumerate().filter(|(_, cache)| cache.persist) {
        let beside = format!("/run/rb-cache/{at}");
        let target = quoted(&std::mem::replace(&mut cache.target, beside.clone()));
        fill.push_str(&format!("mkdir -p {target} && cp -a {beside}/. {target}/ && "));
        keep.push_str(&format!(
            " && find {beside} -mindepth 1 -maxdepth 1 -exec rm -rf {{}} + && cp -a {target}/. {beside}/"
        ));
    }
    if fill.is_empty() {
        return step;
    }
    within(step, &format!("{fill}\"$@\"{keep}"))
}

/// Puts a shell around a step's command, which `text` runs as `"$@"`.
fn within(step: Step, text: &str) -> Step {
    let args = ["/bin/sh", "-c", text, "rb"].map(str::to_owned).into_iter().chain(step.args).collect();
    Step { args, ..step }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
