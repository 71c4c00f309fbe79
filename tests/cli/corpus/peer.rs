//! BuildKit, which builds the same cases: a buildkitd of its own with the frontend that is in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A daemon with all that it keeps below a folder; it ends with this.
pub(crate) struct Peer {
    programs: PathBuf,
    folder: PathBuf,
    daemon: Child,
}

impl Peer {
    /// Starts the programs that `BUILDKIT` names the folder of; none where it is not set.
    pub(crate) fn start(folder: &Path, settings: &str) -> Option<Self> {
        Self::start_with(folder, settings, &[])
    }

    /// The same with further words on its command line.
    pub(crate) fn start_with(folder: &Path, settings: &str, more: &[String]) -> Option<Self> {
        let programs = std::env::vars_os()
            .find(|(name, _)| name == "BUILDKIT")
            .map(|(_, value)| PathBuf::from(value))?;
        fs::create_dir_all(folder).expect("makes a folder");
        fs::write(folder.join("buildkitd.toml"), settings).expect("writes");
        let log = fs::File::create(folder.join("log")).expect("writes");
        let daemon = Command::new(programs.join("buildkitd"))
            .arg("--config")
            .arg(folder.join("buildkitd.toml"))
            .arg("--root")
            .arg(folder.join("root"))
            .arg("--addr")
            .arg(address(folder))
            .args([
                "--oci-worker-snapshotter",
                "overlayfs",
                "--oci-worker-net",
                "host",
                "--containerd-worker=false",
            ])
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("is one more"))
            .stderr(log)
            .spawn()
            .expect("buildkitd starts");
        let mut peer = Self { programs, folder: folder.to_owned(), daemon };
        let begun = Instant::now();
        while !peer.control().args(["debug", "workers"]).output().expect("buildctl starts").status.success() {
            let is_over = peer.daemon.try_wait().expect("is ours").is_some();
            let log = || fs::read_to_string(peer.folder.join("log")).unwrap_or_default();
            assert!(
                !is_over && begun.elapsed() < Duration::from_secs(60),
                "buildkitd does not come up: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(peer)
    }

    /// The folder of its programs.
    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }

    /// Whether it runs a command now: one is below a process of its own.
    pub(crate) fn runs_a_step(&self) -> bool {
        let path = format!("/proc/{pid}/task", pid = self.daemon.id());
        let children =
            |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
        fs::read_dir(path).expect("it runs").flatten().any(|task| !children(task).is_empty())
    }

    /// Ends it as a machine ends that loses its power.
    pub(crate) fn kill(&mut self) {
        self.daemon.kill().expect("is ours");
        drop(self.daemon.wait());
    }

    fn control(&self) -> Command {
        let mut command = Command::new(self.programs.join("buildctl"));
        command.arg("--addr").arg(address(&self.folder)).arg("--timeout=60").stdin(Stdio::null());
        command
    }

    /// Builds what was typed for `rb`; on failure returns what was said.
    pub(super) fn build(&self, words: &[String], folder: &Path, outputs: &[String]) -> Result<(), String> {
        loop {
            let mut command = self.control();
            command.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]).args(translated(words));
            command.args(outputs.iter().map(|output| format!("--output={output}"))).current_dir(folder);
            let done = command.output().expect("buildctl starts");
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            if done.status.success() {
                return Ok(());
            }
            // The client gives up early where the machine is busy.
            if !said.contains("context deadline exceeded") {
                return Err(said);
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // One that was killed has been waited for, and its number may be another's.
        if self.daemon.try_wait().is_ok_and(|ended| ended.is_some()) {
            return unmount_below(&self.folder);
        }
        let pid = rustix::process::Pid::from_child(&self.daemon);
        if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_err() {
            drop(self.daemon.kill());
        }
        drop(self.daemon.wait());
        unmount_below(&self.folder);
    }
}

/// Unmounts what a daemon left mounted, which would keep its folder.
fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let places = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
    for place in places.filter(|place| Path::new(place).starts_with(folder)) {
        drop(Command::new("umount").args(["-l", place]).status());
    }
}

/// Returns where a daemon in a folder listens.
pub(crate) fn address(folder: &Path) -> String {
    format!("unix://{}", folder.join("socket").display())
}

/// Says with the options of BuildKit's frontend what is said with docker's.
fn translated(words: &[String]) -> Vec<String> {
    let (context, flags) = words.split_last().expect("has a context");
    // With a command line of its own the daemon's frontend is not exchanged for one that `# syntax=` names.
    let mut said = vec![format!("--local=context={context}"), "--opt=cmdline=docker/dockerfile".to_owned()];
    let mut dockerfile = Path::new(context).join("Dockerfile");
    let mut flags = flags.iter();
    let mut hosts = Vec::new();
    while let Some(flag) = flags.next() {
        let mut value = || flags.next().expect("has a value").as_str();
        match flag.as_str() {
            "-f" => dockerfile = value().into(),
            "--build-arg" => said.push(format!("--opt=build-arg:{}", value())),
            "--target" => said.push(format!("--opt=target={}", value())),
            "--platform" => said.push(format!("--opt=platform={}", value())),
            "--label" => said.push(format!("--opt=label:{}", value())),
            "--add-host" => hosts.push(value().replacen(':', "=", 1)),
            "--network" => said.push(format!("--opt=force-network-mode={}", value())),
            "--shm-size" => said.push(format!("--opt=shm-size={}", value())),
            "--ulimit" => said.push(format!("--opt=ulimit={}", value())),
            "--secret" => said.push(format!("--secret={}", value())),
            "--no-cache-filter" => said.push(format!("--opt=no-cache={}", value())),
            "--build-context" => {
                let (name, from) = value().split_once('=').expect("has a name");
                if from.contains("://") {
                    said.push(format!("--opt=context:{name}={from}"));
                } else {
                    said.push(format!("--opt=context:{name}=local:{name}"));
                    said.push(format!("--local={name}={from}"));
                }
            }
            other => panic!("the corpus knows no `{other}`"),
        }
    }
    if !hosts.is_empty() {
        said.push(format!("--opt=add-hosts={}", hosts.join(",")));
    }
    let folder =
        dockerfile.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = dockerfile.file_name().expect("is a file").to_string_lossy();
    said.extend([format!("--local=dockerfile={}", folder.display()), format!("--opt=filename={name}")]);
    said
}
