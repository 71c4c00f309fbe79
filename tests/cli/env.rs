//! A world of its own for each test: project, state directory, home; and the real `rb` run in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rb_oci::Digest;
use serde_json::json;

/// Who runs `rb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The user that runs the tests.
    Tester,
    /// An ordinary user without a name and without subordinate ids.
    SingleId,
    /// An ordinary user with subordinate ids (in a private mount namespace with its own passwd and subuid files).
    SubIds,
}

/// The id of the ordinary users of these tests.
const ORDINARY: u32 = 61_001;

/// What one run of `rb` gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Panics with everything that was said unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Panics if anything that was said holds this text.
    #[track_caller]
    pub(crate) fn hides(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text) && !self.stdout.contains(text), "`{text}` is in:\n{self:?}");
        self
    }

    /// Panics unless stderr holds this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "`{text}` is not in stderr:\n{}", self.stderr);
        self
    }
}

/// A project folder, a state directory and a home, gone when dropped.
pub(crate) struct TestEnv {
    dir: tempfile::TempDir,
    who: Who,
}

impl TestEnv {
    pub(crate) fn new() -> Self {
        Self::of(Who::Tester)
    }

    /// An environment that belongs to somebody; what is written later has to be given over by [`Self::hand_over`].
    pub(crate) fn of(who: Who) -> Self {
        let dir = tempfile::Builder::new().prefix("rb-test-").tempdir().expect("a temporary folder");
        for name in ["project", "state", "home"] {
            std::fs::create_dir(dir.path().join(name)).expect("makes folders");
        }
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("modes");
        Self { dir, who }
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Writes a file of the project; its folders come to exist with it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.project().join(path);
        std::fs::create_dir_all(path.parent().expect("lies in the project")).expect("makes folders");
        std::fs::write(path, content).expect("writes");
        self
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.project().join(path).exists()
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.project().join(path)).expect("reads")
    }

    /// Gives everything to the user of this environment.
    pub(crate) fn hand_over(&self) {
        if self.who != Who::Tester {
            give(self.dir.path());
        }
    }

    /// Runs `rb` in the project folder to its end.
    pub(crate) fn rb<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        ended(&mut self.command(args))
    }

    /// Runs `rb` in a folder of the project.
    pub(crate) fn rb_in<S: AsRef<OsStr>>(&self, dir: &str, args: impl IntoIterator<Item = S>) -> Run {
        ended(self.command(args).current_dir(self.project().join(dir)))
    }

    /// Runs `rb` in the project folder with further variables.
    pub(crate) fn rb_with<S: AsRef<OsStr>>(
        &self,
        variables: &[(&str, &str)],
        args: impl IntoIterator<Item = S>,
    ) -> Run {
        ended(self.command(args).envs(variables.iter().copied()))
    }

    /// Runs `rb` in the project folder by another name.
    pub(crate) fn rb_called<S: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> Run {
        use std::os::unix::process::CommandExt as _;
        ended(self.command(args).arg0(name))
    }

    /// Starts `rb` in the project folder.
    pub(crate) fn spawn<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rb starts")
    }

    /// Returns `rb` in the project folder, not started.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let rb = env!("CARGO_BIN_EXE_rb");
        let mut command = match self.who {
            Who::Tester => Command::new(rb),
            Who::SingleId => {
                let mut command = Command::new("setpriv");
                let id = ORDINARY.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", &self.reachable_rb()]);
                command
            }
            Who::SubIds => {
                // A mount namespace of its own, so that the machine's account files stay as they are.
                let script = format!(
                    "cp /etc/passwd {d}/passwd && echo 'rbtest:x:{ORDINARY}:{ORDINARY}::{d}/home:/bin/sh' >> {d}/passwd \
                     && echo 'rbtest:200000:65536' > {d}/subid \
                     && touch /etc/subuid /etc/subgid \
                     && mount --bind {d}/passwd /etc/passwd && mount --bind {d}/subid /etc/subuid \
                     && mount --bind {d}/subid /etc/subgid \
                     && exec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups -- \"$0\" \"$@\"",
                    d = self.dir.path().display(),
                );
                let mut command = Command::new("unshare");
                command.args([
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    &script,
                    &self.reachable_rb(),
                ]);
                command
            }
        };
        command
            .args(args)
            .current_dir(self.project())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.dir.path().join("home"))
            .env("RB_ROOT", self.state())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// A copy of `rb` that other users can reach: the build folder may lie in somebody's private home.
    fn reachable_rb(&self) -> String {
        let copy = self.dir.path().join("rb");
        if !copy.exists() {
            // By another process: a test that forks meanwhile would inherit the copy open for writing ("text file busy").
            let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_rb")).arg(&copy).status();
            assert!(copied.expect("cp starts").success());
        }
        copy.to_string_lossy().into_owned()
    }

    /// Writes an OCI layout with one image, `busybox:test`, made of Debian's static busybox; false where there is none.
    pub(crate) fn busybox_layout(&self, path: &str) -> bool {
        let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists())
        else {
            eprintln!("stepping aside: there is no busybox (Debian: busybox-static)");
            return false;
        };
        let binary = std::fs::read(busybox).expect("reads busybox");
        let applets = [
            "sh", "cat", "cp", "echo", "env", "id", "ls", "mkdir", "sleep", "stat", "test", "touch", "true",
            "wc",
        ];
        let mut files: BTreeMap<String, TarEntry> = BTreeMap::new();
        for folder in ["bin/", "etc/", "root/", "tmp/"] {
            files.insert(folder.to_owned(), TarEntry::Folder);
        }
        files.insert("bin/busybox".to_owned(), TarEntry::File(binary, 0o755));
        files.insert(
            "etc/passwd".to_owned(),
            TarEntry::File(b"root:x:0:0:root:/root:/bin/sh\n".to_vec(), 0o644),
        );
        for applet in applets {
            files.insert(format!("bin/{applet}"), TarEntry::Link("busybox"));
        }
        write_layout(&self.project().join(path), "busybox:test", &tar_of(&files));
        true
    }
}

/// Runs a command to its end.
pub(crate) fn ended(command: &mut Command) -> Run {
    let output = command.output().expect("rb starts");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: without_shell(&String::from_utf8_lossy(&output.stderr)),
    }
}

/// Takes out by which number a step that failed can be looked at: most tests are about something else.
fn without_shell(stderr: &str) -> String {
    let is_it = |line: &&str| {
        let line = line.trim();
        let ends = ["` opens a shell where it failed", "` goes on from there"];
        line.starts_with("help: `rb shell ") && ends.iter().any(|end| line.ends_with(end))
    };
    stderr.split_inclusive('\n').filter(|line| !is_it(line)).collect()
}

/// Tells whether tests may become other users.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("reads status");
    status.lines().any(|line| line.starts_with("Uid:\t0\t0"))
}

/// Gives a path and what is below it to the ordinary user. What goes meanwhile, as files of the state directory may, is
/// nobody's.
fn give(path: &Path) {
    let there = |error: &std::io::Error| error.kind() != std::io::ErrorKind::NotFound;
    if let Err(error) = std::os::unix::fs::lchown(path, Some(ORDINARY), Some(ORDINARY)) {
        assert!(!there(&error), "{}: {error}", path.display());
        return;
    }
    if path.is_dir() && !path.is_symlink() {
        match std::fs::read_dir(path) {
            Ok(entries) => entries.for_each(|entry| give(&entry.expect("lists").path())),
            Err(error) => assert!(!there(&error), "{}: {error}", path.display()),
        }
    }
}

enum TarEntry {
    Folder,
    File(Vec<u8>, u32),
    Link(&'static str),
}

fn tar_of(files: &BTreeMap<String, TarEntry>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, entry) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        match entry {
            TarEntry::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                tar.append_data(&mut header, path, std::io::empty()).expect("in memory");
            }
            TarEntry::File(bytes, mode) => {
                header.set_mode(*mode);
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, path, &bytes[..]).expect("in memory");
            }
            TarEntry::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                tar.append_link(&mut header, path, target).expect("in memory");
            }
        }
    }
    tar.into_inner().expect("in memory")
}

/// Writes a layout of one image with one layer.
fn write_layout(folder: &Path, name: &str, layer: &[u8]) {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("makes folders");
    let blob = |bytes: &[u8], media_type: &str| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).expect("writes a blob");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(layer).expect("in memory");
    let packed = packed.finish().expect("in memory");
    let layer_blob = blob(&packed, "application/vnd.oci.image.layer.v1.tar+gzip");
    let architecture = rb_oci::Platform::host().architecture;
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/bin", "FROM_BASE=yes"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer)]},
    });
    let config = blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer_blob],
    });
    let mut manifest = blob(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name.rsplit(':').next()});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(folder.join("index.json"), index.to_string()).expect("writes the index");
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .expect("writes the marker");
}

/// Copies a folder of the repository into a project.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes folders");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_symlink() {
            symlink(std::fs::read_link(&from).expect("reads"), &to).expect("links");
        } else if from.is_dir() {
            copy_tree(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("copies");
            chown(&to, None, None).expect("keeps its owner");
        }
    }
}

/// The example `hello` of this repository.
pub(crate) fn hello() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello")
}
