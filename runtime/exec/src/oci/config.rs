//! `config.json`: what a runtime is to do, in its words.
//!
//! In: a [`Spec`] and what was found out about it. Out: the file. It says the same as the steps of our own sandbox do; what
//! stands in the root already is not said.
//! Source: OCI runtime-spec, config.md, config-linux.md.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities as Names, Capability, Hook as Started, HookBuilder, Hooks, Linux, LinuxBuilder,
    LinuxCapabilitiesBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, SpecBuilder, UserBuilder,
};
use rb_sys::caps::Capabilities;

use crate::seccomp;
use crate::spec::{Hook, Moment, Spec};
use crate::user::User;

/// What was found out about a spec.
pub(crate) struct Container<'a> {
    /// Who runs it.
    pub(crate) user: &'a User,
    /// `NAME=value`, secrets included.
    pub(crate) environment: Vec<String>,
    /// Working directory, free of links.
    pub(crate) cwd: String,
    /// What the command and all that it executes may hold at most.
    pub(crate) bounding: Capabilities,
    /// What it holds.
    pub(crate) held: Capabilities,
    /// Number, soft and hard value of limits; the last of a number counts.
    pub(crate) limits: Vec<(u32, u64, u64)>,
    /// Host name.
    pub(crate) hostname: &'a str,
    /// The root, from outside.
    pub(crate) root: PathBuf,
    /// Whether the runtime is to make it read-only.
    pub(crate) readonly_root: bool,
    /// What the runtime mounts.
    pub(crate) mounts: Vec<Mount>,
    /// Paths inside that are hidden, and that cannot be written.
    pub(crate) masked: Vec<String>,
    pub(crate) protected: Vec<String>,
}

/// The permissions that new files lack, as in our own sandbox.
const UMASK: u32 = 0o022;

/// The runtime's own network: it is the first process of its namespace, and in the network that the command is to have.
const OWN_NETWORK: &str = "/proc/1/ns/net";

/// Returns the file.
pub(crate) fn config(spec: &Spec, container: Container<'_>) -> Vec<u8> {
    let made = make(spec, container).expect("every field that has no default is given");
    serde_json::to_vec(&made).expect("texts and numbers are always JSON")
}

fn make(spec: &Spec, container: Container<'_>) -> Result<oci_spec::runtime::Spec, OciSpecError> {
    let Container {
        user,
        environment,
        cwd,
        bounding,
        held,
        limits,
        hostname,
        root,
        readonly_root,
        mounts,
        masked,
        protected,
    } = container;
    let own = UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .umask(UMASK)
        .additional_gids(user.groups.clone())
        .build()?;
    let none = Names::new();
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(names(bounding))
        .effective(names(held))
        .permitted(names(held))
        .inheritable(none.clone())
        .ambient(none)
        .build()?;
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(own)
        .args(spec.args.clone())
        .env(environment)
        .cwd(cwd)
        .capabilities(capabilities)
        .rlimits(rlimits(limits)?)
        .no_new_privileges(spec.no_new_privileges)
        .build()?;
    let mut made = SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path(root).readonly(readonly_root).build()?)
        .hostname(hostname)
        .mounts(mounts)
        .process(process)
        .linux(linux(spec, masked, protected)?)
        .build()?;
    made.set_hooks(hooks(&spec.hooks)?);
    Ok(made)
}

/// Returns what is to be started around the command; nothing where there is none.
fn hooks(all: &[Hook]) -> Result<Option<Hooks>, OciSpecError> {
    if all.is_empty() {
        return Ok(None);
    }
    let of = |moment: Moment| -> Result<Option<Vec<Started>>, OciSpecError> {
        let here = all.iter().filter(|hook| hook.moment == moment).map(started);
        let here = here.collect::<Result<Vec<_>, _>>()?;
        Ok((!here.is_empty()).then_some(here))
    };
    let mut hooks = Hooks::default();
    #[allow(deprecated, reason = "descriptions of devices still say it")]
    hooks.set_prestart(of(Moment::Prestart)?);
    hooks.set_create_runtime(of(Moment::CreateRuntime)?);
    hooks.set_create_container(of(Moment::CreateContainer)?);
    hooks.set_start_container(of(Moment::StartContainer)?);
    hooks.set_poststart(of(Moment::Poststart)?);
    hooks.set_poststop(of(Moment::Poststop)?);
    Ok(Some(hooks))
}

fn started(hook: &Hook) -> Result<Started, OciSpecError> {
    let Hook { moment: _, path, args, env, timeout_seconds } = hook;
    let mut started =
        HookBuilder::default().path(path.clone()).args(args.clone()).env(env.clone()).build()?;
    started.set_timeout(*timeout_seconds);
    Ok(started)
}

fn linux(spec: &Spec, masked: Vec<String>, protected: Vec<String>) -> Result<Linux, OciSpecError> {
    use LinuxNamespaceType::{Ipc, Mount, Network, Pid, Uts};
    let mut namespaces = Vec::new();
    for kind in [Pid, Ipc, Uts, Mount] {
        namespaces.push(LinuxNamespaceBuilder::default().typ(kind).build()?);
    }
    if !spec.network.is_host() {
        let network: LinuxNamespace =
            LinuxNamespaceBuilder::default().typ(Network).path(OWN_NETWORK).build()?;
        namespaces.push(network);
    }
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(masked)
        .readonly_paths(protected)
        .build()?;
    // Those of our own control group hold.
    linux.set_resources(None);
    if !spec.insecure {
        linux.set_seccomp(Some(seccomp::profile()?));
    }
    Ok(linux)
}

/// By the kernel's numbers.
const CAPABILITIES: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

fn names(set: Capabilities) -> Names {
    (0..).zip(CAPABILITIES).filter(|(number, _)| set.has(*number)).map(|(_, name)| name).collect()
}

/// By the kernel's numbers.
const LIMITS: [PosixRlimitType; 16] = [
    PosixRlimitType::RlimitCpu,
    PosixRlimitType::RlimitFsize,
    PosixRlimitType::RlimitData,
    PosixRlimitType::RlimitStack,
    PosixRlimitType::RlimitCore,
    PosixRlimitType::RlimitRss,
    PosixRlimitType::RlimitNproc,
    PosixRlimitType::RlimitNofile,
    PosixRlimitType::RlimitMemlock,
    PosixRlimitType::RlimitAs,
    PosixRlimitType::RlimitLocks,
    PosixRlimitType::RlimitSigpending,
    PosixRlimitType::RlimitMsgqueue,
    PosixRlimitType::RlimitNice,
    PosixRlimitType::RlimitRtprio,
    PosixRlimitType::RlimitRttime,
];

fn rlimits(limits: Vec<(u32, u64, u64)>) -> Result<Vec<PosixRlimit>, OciSpecError> {
    let each: BTreeMap<u32, (u64, u64)> =
        limits.into_iter().map(|(number, soft, hard)| (number, (soft, hard))).collect();
    let known = each.into_iter().filter_map(|(number, values)| Some((*LIMITS.get(number as usize)?, values)));
    known
        .map(|(kind, (soft, hard))| PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build())
        .collect()
}

#[cfg(test)]
mod tests {
    use rb_sys::caps::number;
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::{Network, RootMount};

    fn written(spec: &Spec) -> Value {
        let user = User { uid: 7, gid: 8, groups: vec![9], home: "/".to_owned() };
        let container = Container {
            user: &user,
            environment: vec!["A=b".to_owned()],
            cwd: "/w".to_owned(),
            bounding: Capabilities::of(&[number::CHOWN, number::SETFCAP]),
            held: Capabilities::default(),
            limits: vec![(7, 5, 6), (4, 0, u64::MAX), (7, 1, 2)],
            hostname: "box",
            root: PathBuf::from("/p/rootfs"),
            readonly_root: true,
            mounts: Vec::new(),
            masked: vec!["/proc/kcore".to_owned()],
            protected: vec!["/proc/sys".to_owned()],
        };
        serde_json::from_slice(&config(spec, container)).expect("is JSON")
    }

    fn spec() -> Spec {
        Spec::new(RootMount::directory("/"), vec!["sh".to_owned(), "-c".to_owned(), "x".to_owned()])
    }

    #[test]
    fn hooks_stand_under_their_moments() {
        assert_eq!(written(&spec()).get("hooks"), None);
        let hook = |moment, name: &str, timeout_seconds| Hook {
            moment,
            path: PathBuf::from(format!("/usr/bin/{name}")),
            args: vec![name.to_owned(), "x".to_owned()],
            env: vec!["A=b".to_owned()],
            timeout_seconds,
        };
        let mut spec = spec();
        spec.hooks = vec![
            hook(Moment::CreateContainer, "one", None),
            hook(Moment::Poststop, "end", Some(5)),
            hook(Moment::CreateContainer, "two", None),
            hook(Moment::Prestart, "old", None),
        ];
        let plain =
            |name: &str| json!({"path": format!("/usr/bin/{name}"), "args": [name, "x"], "env": ["A=b"]});
        let mut end = plain("end");
        end["timeout"] = json!(5);
        let expected = json!({"createContainer": [plain("one"), plain("two")], "poststop": [end], "prestart": [plain("old")]});
        assert_eq!(written(&spec)["hooks"], expected);
    }

    #[test]
    fn all_of_a_spec_is_said() {
        let said = written(&spec());
        let process = &said["process"];
        assert_eq!(process["args"], json!(["sh", "-c", "x"]));
        assert_eq!(process["env"], json!(["A=b"]));
        assert_eq!((&process["cwd"], &process["noNewPrivileges"]), (&json!("/w"), &json!(false)));
        assert_eq!(process["user"], json!({"uid": 7, "gid": 8, "umask": 18, "additionalGids": [9]}));
        let limits = json!([
            {"type": "RLIMIT_CORE", "hard": u64::MAX, "soft": 0},
            {"type": "RLIMIT_NOFILE", "hard": 2, "soft": 1},
        ]);
        assert_eq!(process["rlimits"], limits);
        let mut bounding = process["capabilities"]["bounding"].as_array().expect("is a list").clone();
        bounding.sort_by_key(Value::to_string);
        assert_eq!(bounding, [json!("CAP_CHOWN"), json!("CAP_SETFCAP")]);
        assert_eq!(process["capabilities"]["effective"], json!([]));
        assert_eq!(said["root"], json!({"path": "/p/rootfs", "readonly": true}));
        assert_eq!(
            (&said["hostname"], &said["linux"]["maskedPaths"]),
            (&json!("box"), &json!(["/proc/kcore"]))
        );
        assert!(said["linux"].get("resources").is_none(), "{said}");
        assert_eq!(said["linux"]["seccomp"]["defaultAction"], json!("SCMP_ACT_ERRNO"));
    }

    #[test]
    fn only_this_machines_network_is_none_of_its_own() {
        let networks = |network| {
            let said = written(&Spec { network, ..spec() });
            let all = said["linux"]["namespaces"].as_array().expect("is a list").clone();
            all.into_iter().filter(|one| one["type"] == "network").collect::<Vec<_>>()
        };
        assert_eq!(networks(Network::None), [json!({"type": "network", "path": OWN_NETWORK})]);
        assert!(networks(Network::Host).is_empty());
    }

    #[test]
    fn without_isolation_there_is_no_filter() {
        assert!(written(&Spec { insecure: true, ..spec() })["linux"].get("seccomp").is_none());
    }

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        for (number, name) in [
            (number::CHOWN, Capability::Chown),
            (number::SETPCAP, Capability::Setpcap),
            (number::NET_RAW, Capability::NetRaw),
            (number::SYS_ADMIN, Capability::SysAdmin),
            (number::MKNOD, Capability::Mknod),
            (number::SETFCAP, Capability::Setfcap),
            (rb_sys::caps::LAST, Capability::CheckpointRestore),
        ] {
            assert_eq!(names(Capabilities::of(&[number])), Names::from([name]));
        }
    }
}
