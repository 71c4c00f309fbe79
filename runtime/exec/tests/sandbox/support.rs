//! Roots made from busybox, and short ways to run something in them.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rb_exec::{ExecError, ExitStatus, KillSwitch, RootMount, Spec, Stream, Upper, Verdict, probe_host, run};
use tempfile::TempDir;

const BUSYBOX: &str = "/bin/busybox";

/// Whether this machine lacks what the tests need; says what.
pub(crate) fn stepping_aside() -> bool {
    let mut lacking = Vec::new();
    if !rustix::process::geteuid().is_root() {
        lacking.push("root".to_owned());
    }
    if !Path::new(BUSYBOX).exists() {
        lacking.push("the package busybox-static".to_owned());
    }
    let report = probe_host();
    let is_missing = |check: &&rb_exec::Check| {
        check.verdict == Verdict::Missing || (check.name == "overlayfs" && check.verdict != Verdict::Works)
    };
    let missing = report.checks().into_iter().filter(is_missing);
    lacking.extend(missing.map(|check| format!("{} ({})", check.name, check.reason)));
    if !lacking.is_empty() {
        eprintln!("stepping aside: this needs {}", lacking.join(", "));
    }
    !lacking.is_empty()
}

/// A scratch directory, removed in the end.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::within("/tmp")
    }

    pub(crate) fn within(directory: &str) -> Self {
        Self(tempfile::Builder::new().prefix("rb-exec-").tempdir_in(directory).unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A directory with busybox and all its applets in /bin.
    pub(crate) fn busybox(&self, name: &str) -> PathBuf {
        let root = self.directory(name);
        install_busybox(&root);
        root
    }

    pub(crate) fn upper(&self) -> Upper {
        Upper { upper: self.directory("upper"), work: self.directory("work") }
    }
}

/// Puts busybox and its applets into `root`, as Debian's static build.
pub(crate) fn install_busybox(root: &Path) {
    let bin = root.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::copy(BUSYBOX, bin.join("busybox")).expect("the tests need the package busybox-static");
    for applet in "sh ash ls cat id mount umount ps echo true false sleep env test unshare hostname head dd kill touch mkdir \
        mknod rm chmod chown wc grep sort setsid stat readlink pwd ip ln find yes umask ulimit printf nc"
        .split_whitespace()
    {
        symlink("busybox", bin.join(applet)).unwrap();
    }
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn try_spec(spec: &Spec) -> Result<Ran, ExecError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut log = |stream: Stream, bytes: &[u8]| match stream {
        Stream::Stdout => stdout.extend_from_slice(bytes),
        Stream::Stderr => stderr.extend_from_slice(bytes),
    };
    let outcome = run(spec, &KillSwitch::new(), &mut log)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran { status: outcome.status, stdout: text(&stdout), stderr: text(&stderr) })
}

pub(crate) fn shell(root: RootMount, script: &str) -> Spec {
    Spec::new(root, words(&["/bin/sh", "-c", script]))
}

/// Runs a script and expects it to succeed; returns its output.
pub(crate) fn output(spec: &Spec) -> String {
    let ran = try_spec(spec).unwrap();
    assert_eq!(ran.status, ExitStatus::Exited(0), "{ran:?}");
    ran.stdout
}

/// All paths below `directory`, sorted.
pub(crate) fn listing(directory: &Path) -> Vec<String> {
    fn walk(base: &Path, at: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            found.push(entry.path().strip_prefix(base).unwrap().display().to_string());
            if entry.file_type().unwrap().is_dir() {
                walk(base, &entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}

/// The example `sandbox`, built beside the tests.
pub(crate) fn example() -> PathBuf {
    let tests = std::fs::read_link("/proc/self/exe").unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join("examples/sandbox");
    assert!(path.exists(), "{} is missing: cargo build -p rb-exec --example sandbox", path.display());
    path
}

/// A copy of the example that other users can reach: the build folder may lie in somebody's private home.
pub(crate) fn example_within(scratch: &Scratch) -> PathBuf {
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = scratch.path().join("sandbox");
    // By another process: a test that forks meanwhile would inherit the copy open for writing ("text file busy").
    assert!(Command::new("cp").arg(example()).arg(&copy).status().unwrap().success());
    copy
}
