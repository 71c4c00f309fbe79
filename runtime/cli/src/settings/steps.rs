//! On which terms steps run, and which ssh agents they may be lent.
//!
//! In: what is typed, the user's [`Config`], the [`Environment`]. Out: [`StepTerms`], and agents by id. An agent that is named has to
//! be there; the one of SSH_AUTH_SOCK that nobody named need not, until a step asks for it.
//! **Invariant:** nothing of a project has a word in this, and no key stands in a message.
//! Source: docker buildx build, `--ssh`; ssh-agent(1).

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use rb_api::AllowedDevices;
use rb_diag::chain;
use rb_engine::StepTerms;
use rb_exec::{CpuQuota, DEVICE_FOLDERS, Emulators, Isolation, Limits, Rlimit, Runtime};
use rb_session::{DEFAULT_SSH, SshAgent, SshKey, SshKeyError};

use super::SettingsError;
use super::config::Config;
use super::snapshotter::{self, SnapshotterChoice};
use crate::args::{BuildOptions, IsolationChoice, LimitOptions, StepNetworkChoice};
use crate::environment::Environment;
use crate::world::read_regular;

/// The scheduler's period.
const PERIOD_US: u64 = 100_000;

/// What `--allow-device` alone allows.
const ALL_DEVICES: &str = "*";

/// Largest file of a key.
const KEY_LIMIT_BYTES: u64 = 100 << 10;

/// Settles the terms, but for the runtime and what is left of memory.
pub(super) fn terms(options: &LimitOptions, config: &Config) -> StepTerms {
    let LimitOptions {
        memory,
        memory_swap,
        memory_budget: _,
        cpus,
        cpuset_cpus,
        pids_limit,
        shm_size,
        ulimit,
        cgroup_parent,
    } = options.clone();
    let quota =
        |cpus: crate::args::Cpus| CpuQuota { quota_us: cpus.0 * PERIOD_US / 1000, period_us: PERIOD_US };
    StepTerms {
        limits: Limits {
            memory_bytes: memory,
            memory_swap_bytes: memory_swap,
            cpu_quota: cpus.map(quota),
            cpu_shares: None,
            cpuset_cpus,
            cpuset_mems: None,
            pids: pids_limit,
        },
        memory_budget: None,
        rlimits: ulimit
            .into_iter()
            .map(|limit| Rlimit { name: limit.name, soft: limit.soft, hard: limit.hard })
            .collect(),
        cgroup_parent,
        shm_bytes: shm_size,
        emulators: Emulators { named: config.emulators.clone() },
        runtime: None,
        isolation: Isolation::Sandbox,
        device_folders: match &config.device_folders {
            Some(folders) => folders.clone(),
            None => DEVICE_FOLDERS.map(PathBuf::from).to_vec(),
        },
    }
}

/// What stands for our own sandbox.
pub(super) const OWN_RUNTIME: &str = "rb";

/// Returns which runtime is to run steps, and who says so: an option, a variable, or nobody but the file. None is our own.
pub(super) fn runtime(
    options: &BuildOptions,
    config: &Config,
    environment: &Environment,
) -> Result<(Option<String>, Option<&'static str>), SettingsError> {
    const VARIABLE: &str = "RB_RUNTIME";
    let said: Option<String> =
        environment.parsed(VARIABLE, |text| Some(text.to_owned()).filter(|text| !text.is_empty()))?;
    let from = match (&options.runtime, &said) {
        (Some(_), _) => Some("--runtime"),
        (None, Some(_)) => Some(VARIABLE),
        (None, None) => None,
    };
    let here = |word: String| match word.contains('/') {
        true => environment.cwd.join(word).display().to_string(),
        false => word,
    };
    let named = options.runtime.clone().or(said).map(here).or_else(|| config.runtime.clone());
    Ok((named.filter(|word| word != OWN_RUNTIME), from))
}

/// Returns what steps run in, and who says so: an option, a variable, or nobody but the file.
pub(crate) fn isolation(
    options: &BuildOptions,
    config: &Config,
    environment: &Environment,
) -> Result<(IsolationChoice, Option<&'static str>), SettingsError> {
    const VARIABLE: &str = "RB_ISOLATION";
    if let Some(typed) = options.isolation {
        return Ok((typed, Some("--isolation")));
    }
    match environment.parsed(VARIABLE, |text| IsolationChoice::from_str(text, false).ok())? {
        Some(said) => Ok((said, Some(VARIABLE))),
        None => Ok((config.isolation.unwrap_or(IsolationChoice::Sandbox), None)),
    }
}

/// Settles what steps run in; what a chroot cannot be joined with is refused.
pub(super) fn settled_isolation(
    options: &BuildOptions,
    config: &Config,
    environment: &Environment,
) -> Result<Isolation, SettingsError> {
    if isolation(options, config, environment)?.0 == IsolationChoice::Sandbox {
        return Ok(Isolation::Sandbox);
    }
    let (runtime, _) = runtime(options, config, environment)?;
    let (snapshotter, _) = snapshotter::settle(config, environment)?;
    let other = match (runtime, snapshotter, options.step_network) {
        (Some(runtime), ..) => format!("another runtime (--runtime={runtime})"),
        (_, SnapshotterChoice::Overlayfs, _) => {
            "layers that overlayfs mounts (RB_SNAPSHOTTER=overlayfs)".to_owned()
        }
        (.., Some(StepNetworkChoice::Sandbox)) => {
            "a network of the steps' own (--step-network=sandbox)".to_owned()
        }
        _ => return Ok(Isolation::Chroot),
    };
    Err(SettingsError::WithChroot { other })
}

/// Returns the runtime that steps are run by if nothing is typed; nothing if that is our own.
pub(crate) fn usual_runtime(
    config: &Config,
    environment: &Environment,
    state_directory: &Path,
) -> Result<Option<Runtime>, SettingsError> {
    Ok(runtime_at(runtime(&BuildOptions::default(), config, environment)?.0, state_directory))
}

/// Returns the runtime itself; it is handed its bundle in place of the state directory, which it need not see.
pub(super) fn runtime_at(word: Option<String>, state_directory: &Path) -> Option<Runtime> {
    word.map(|word| Runtime::named(&word, state_directory))
}

/// Settles which devices steps may ask for.
pub(super) fn allowed_devices(
    options: &BuildOptions,
    environment: &Environment,
) -> Result<AllowedDevices, SettingsError> {
    let said: Option<String> = environment.parsed("RB_ALLOW_DEVICE", |text| Some(text.to_owned()))?;
    let said = match said.as_deref() {
        None | Some("false") => "",
        Some("true") => ALL_DEVICES,
        Some(names) => names,
    };
    let names = options.allow_device.iter().map(String::as_str).chain(said.split(','));
    let (all, names): (Vec<&str>, Vec<&str>) =
        names.filter(|name| !name.is_empty()).partition(|name| *name == ALL_DEVICES);
    Ok(AllowedDevices { all: !all.is_empty(), names: names.into_iter().map(str::to_owned).collect() })
}

/// Finds the agents that were named.
pub(super) fn agents(
    options: &BuildOptions,
    environment: &Environment,
) -> Result<BTreeMap<String, SshAgent>, SettingsError> {
    let mut agents = BTreeMap::new();
    for word in &options.ssh {
        let (id, paths) = word.split_once('=').unwrap_or((word, ""));
        if id.is_empty() {
            return Err(SettingsError::BadName { option: "--ssh" });
        }
        let paths: Vec<PathBuf> =
            paths.split(',').filter(|path| !path.is_empty()).map(|path| place(path, environment)).collect();
        let agent = match paths.as_slice() {
            [] => {
                let socket = own_agent(environment).ok_or(SettingsError::NoAgent)?;
                there(socket)?
            }
            [socket] if is_socket(socket) => there(socket.clone())?,
            files => SshAgent::of_keys(files.iter().map(|file| key(file)).collect::<Result<_, _>>()?),
        };
        if agents.insert(id.to_owned(), agent).is_some() {
            return Err(SettingsError::AgentTwice { id: id.to_owned() });
        }
    }
    Ok(agents)
}

/// Adds the agent of the user's shell, for steps of the user's own projects that ask for one and no other was named.
pub(crate) fn with_own_agent(
    mut agents: BTreeMap<String, SshAgent>,
    own: Option<&Path>,
) -> BTreeMap<String, SshAgent> {
    if let Some(socket) = own {
        agents.entry(DEFAULT_SSH.to_owned()).or_insert_with(|| SshAgent::at(socket));
    }
    agents
}

/// Returns the socket of the user's shell.
pub(super) fn own_agent(environment: &Environment) -> Option<PathBuf> {
    environment.path("SSH_AUTH_SOCK").map(|path| environment.cwd.join(path))
}

fn place(path: &str, environment: &Environment) -> PathBuf {
    match (path.strip_prefix("~/"), environment.home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => environment.cwd.join(path),
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn there(socket: PathBuf) -> Result<SshAgent, SettingsError> {
    let agent = SshAgent::at(&socket);
    match agent.try_it() {
        Ok(()) => Ok(agent),
        Err(error) => Err(SettingsError::DeadAgent { socket, reason: chain(&error) }),
    }
}

fn key(file: &Path) -> Result<SshKey, SettingsError> {
    let shown = file.display().to_string();
    let bytes = read_regular(file, KEY_LIMIT_BYTES)
        .map_err(|error| SettingsError::unreadable(shown.clone(), error))?;
    let bytes = rb_session::Secret::new(bytes);
    SshKey::parse(bytes.as_ref()).map_err(|problem| SettingsError::Key { file: shown, problem })
}

/// Returns what to do about a file that is no key to be used.
pub(super) fn help_with_key(file: &str, problem: SshKeyError) -> String {
    match problem {
        SshKeyError::NotAKey => "name the private key, such as ~/.ssh/id_ed25519".to_owned(),
        SshKeyError::OldForm => format!("`ssh-keygen -p -f {file}` writes it anew"),
        SshKeyError::Passphrase | SshKeyError::Kind => {
            format!("give it to your agent, `ssh-add {file}`, and lend that: `--ssh default`")
        }
        SshKeyError::Damaged => "`ssh-keygen -t ed25519` makes another".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::environment::tests::environment;

    use super::*;

    fn tried(words: &[&str], own: Option<&Path>) -> Result<Vec<String>, String> {
        let own = own.map(|path| path.display().to_string());
        let variables: Vec<(&'static str, &str)> =
            own.iter().map(|path| ("SSH_AUTH_SOCK", path.as_str())).collect();
        let options = BuildOptions {
            ssh: words.iter().map(|word| (*word).to_owned()).collect(),
            ..BuildOptions::default()
        };
        let found = agents(&options, &environment(&variables));
        found.map(|agents| agents.into_keys().collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_runtime_is_that_of_who_says_it_first() {
        let settled = |typed: Option<&str>, variable: Option<&str>, file: Option<&str>| {
            let variables: Vec<(&'static str, &str)> =
                variable.into_iter().map(|value| ("RB_RUNTIME", value)).collect();
            let options = BuildOptions { runtime: typed.map(ToOwned::to_owned), ..BuildOptions::default() };
            let config = Config { runtime: file.map(ToOwned::to_owned), ..Config::default() };
            let (word, from) = runtime(&options, &config, &environment(&variables)).expect("settles");
            (word.unwrap_or_default(), from.unwrap_or_default())
        };
        let is = |word: &str, from| (word.to_owned(), from);
        assert_eq!(settled(None, None, None), is("", ""));
        assert_eq!(settled(None, None, Some("runc")), is("runc", ""));
        assert_eq!(settled(None, Some("crun"), Some("runc")), is("crun", "RB_RUNTIME"));
        assert_eq!(settled(Some("/opt/runsc"), Some("crun"), None), is("/opt/runsc", "--runtime"));
        assert_eq!(settled(Some("rb"), Some("crun"), Some("runc")), is("", "--runtime"));
        let (word, _) = settled(Some("./runc"), None, None);
        assert!(Path::new(&word).is_absolute(), "{word}");
    }

    #[test]
    fn a_chroot_is_for_who_asks_and_joined_with_nothing_that_mounts() {
        let settled = |typed: Option<IsolationChoice>,
                       variables: &[(&'static str, &str)],
                       file: Option<IsolationChoice>| {
            let options = BuildOptions { isolation: typed, ..BuildOptions::default() };
            let config = Config { isolation: file, ..Config::default() };
            settled_isolation(&options, &config, &environment(variables)).map_err(|error| error.to_string())
        };
        let chroot = Some(IsolationChoice::Chroot);
        assert_eq!(settled(None, &[], None), Ok(Isolation::Sandbox));
        assert_eq!(settled(chroot, &[("RB_ISOLATION", "sandbox")], None), Ok(Isolation::Chroot));
        assert_eq!(settled(None, &[("RB_ISOLATION", "chroot")], None), Ok(Isolation::Chroot));
        assert_eq!(settled(None, &[], chroot), Ok(Isolation::Chroot));
        assert_eq!(
            settled(Some(IsolationChoice::Sandbox), &[("RB_RUNTIME", "crun")], chroot),
            Ok(Isolation::Sandbox)
        );
        for (name, value, said) in
            [("RB_RUNTIME", "crun", "crun"), ("RB_SNAPSHOTTER", "overlayfs", "overlayfs")]
        {
            assert!(settled(chroot, &[(name, value)], None).is_err_and(|error| error.contains(said)));
        }
        assert!(settled(None, &[("RB_ISOLATION", "jail")], None).is_err());
    }

    #[test]
    fn agents_are_those_that_are_there() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let socket = dir.path().join("agent");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("listens");
        let named = format!("other={}", socket.display());
        assert_eq!(
            tried(&["default", &named], Some(&socket)),
            Ok(vec!["default".to_owned(), "other".to_owned()])
        );
        assert!(tried(&["default"], None).is_err_and(|error| error.contains("SSH_AUTH_SOCK")));
        assert!(tried(&["=x"], None).is_err());
        let twice = tried(&["default", "default"], Some(&socket));
        assert!(twice.is_err_and(|error| error.contains("twice")));
        drop(listener);
        let dead = tried(&[&named], None);
        assert!(dead.as_ref().is_err_and(|error| error.contains("no ssh agent answers")), "{dead:?}");
    }

    #[test]
    fn what_is_no_key_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("key");
        std::fs::write(&file, "hunter2").expect("writes");
        let named = format!("default={}", file.display());
        let error = tried(&[&named], None).expect_err("is none");
        assert!(error.ends_with("is not a private key of OpenSSH") && !error.contains("hunter2"), "{error}");
        let missing = tried(&["default=/nowhere/key"], None);
        assert!(missing.is_err_and(|error| error.contains("there is no such file")));
    }
}
