//! The exec op: a command, what it sees and what it may do.

/// A command in a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOp {
    /// What to run, and as whom.
    pub meta: ExecMeta,
    /// What it sees; exactly one is at `/`.
    pub mounts: Vec<Mount>,
    /// Which network it sees.
    pub network: NetworkMode,
    /// What it may do.
    pub security: SecurityMode,
    /// Secrets given as variables.
    pub secret_env: Vec<SecretEnv>,
    /// Devices, by Container Device Interface name.
    pub cdi_devices: Vec<CdiDevice>,
}

/// The process of an [`ExecOp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecMeta {
    /// Program and arguments; never empty in a verified op.
    pub args: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// `name[:group]` or `uid[:gid]`; empty is root.
    pub user: String,
    /// Name of the host; empty is the engine's choice.
    pub hostname: String,
    /// Lines for `/etc/hosts`.
    pub extra_hosts: Vec<HostAddress>,
    /// Resource limits of the process.
    pub ulimits: Vec<Ulimit>,
    /// Parent of its cgroup.
    pub cgroup_parent: String,
    /// Proxy variables, which are given to the process but stay out of cache keys.
    pub proxy_env: Option<ProxyEnv>,
    /// Whether directories made for mounts are removed with their parents afterwards.
    pub remove_mount_stubs_recursive: bool,
    /// Exit codes that are no failure; empty means 0.
    pub valid_exit_codes: Vec<i32>,
}

impl Default for ExecMeta {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            hostname: String::new(),
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            cgroup_parent: String::new(),
            proxy_env: None,
            remove_mount_stubs_recursive: true,
            valid_exit_codes: Vec::new(),
        }
    }
}

/// A name in `/etc/hosts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAddress {
    /// The name.
    pub host: String,
    /// The address, as text.
    pub ip: String,
}

/// A resource limit, by its lower-case name (`nofile`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ulimit {
    /// The name.
    pub name: String,
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// Proxy variables; empty ones are not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyEnv {
    /// `http_proxy`.
    pub http_proxy: String,
    /// `https_proxy`.
    pub https_proxy: String,
    /// `ftp_proxy`.
    pub ftp_proxy: String,
    /// `no_proxy`.
    pub no_proxy: String,
    /// `all_proxy`.
    pub all_proxy: String,
}

/// Which network a command sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// The engine's default.
    #[default]
    Sandbox,
    /// The host's.
    Host,
    /// None but loopback.
    None,
}

/// What a command may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecurityMode {
    /// The default profile.
    #[default]
    Sandbox,
    /// Everything.
    Insecure,
}

/// A secret as a variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretEnv {
    /// Id of the secret.
    pub id: String,
    /// Name of the variable.
    pub name: String,
    /// Whether it may be missing.
    pub optional: bool,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CdiDevice {
    /// `vendor.com/class=name`.
    pub name: String,
    /// Whether it may be missing.
    pub optional: bool,
}

/// One mount of an [`ExecOp`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Which of the vertex's inputs; none is an empty tree.
    pub input: Option<usize>,
    /// Path in the input; empty is all of it.
    pub selector: String,
    /// Where it is seen.
    pub dest: String,
    /// Which output of the vertex it becomes. Only bind mounts become one; whatever others carry on the wire
    /// means nothing and is not decoded.
    pub output: Option<u32>,
    /// Whether it is read-only.
    pub readonly: bool,
    /// What kind of mount.
    pub kind: MountKind,
    /// Name of the result, or empty.
    pub result_id: String,
    /// Whether the input's content may stand for it in cache keys.
    pub content_cache: ContentCache,
}

/// Kinds of mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// An input, or an empty tree.
    #[default]
    Bind,
    /// A secret as a file.
    Secret(SecretMount),
    /// A socket of an ssh agent.
    Ssh(SshMount),
    /// A directory that outlives the build.
    Cache {
        /// Name of the directory.
        id: String,
        /// Who may use it at once.
        sharing: CacheSharing,
    },
    /// Memory.
    Tmpfs {
        /// Upper limit; 0 is the engine's choice.
        size_bytes: i64,
    },
}

/// A secret as a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretMount {
    /// Id of the secret.
    pub id: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Whether it may be missing.
    pub optional: bool,
}

/// A socket of an ssh agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshMount {
    /// Id of the agent.
    pub id: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Whether it may be missing.
    pub optional: bool,
}

/// Who may use a cache mount at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// Everybody.
    #[default]
    Shared,
    /// A second one gets its own.
    Private,
    /// A second one waits.
    Locked,
}

/// Whether the content of a mount may stand for it in cache keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentCache {
    /// Where it is read-only.
    #[default]
    Default,
    /// Yes.
    On,
    /// No.
    Off,
}
