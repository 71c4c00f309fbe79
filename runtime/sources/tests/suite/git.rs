//! Repositories of a real git behind a server of the test's: what is fetched, how often, what comes out, and who is refused.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rb_oci::Digest;
use rb_session::{LocalSession, Secret};
use rb_snapshot::{DriverKind, Editor, SnapshotId, Snapshots};
use rb_sources::SourceError;
use rb_sources::git::{
    self, BundleFile, Call, Connection, GitError, GitRequest, Pinned, ProgramError, Programs, Stream, Told,
};
use rb_sources::unpack::Ownership;
use rb_store::Store;

use super::git_host::{GitHost, Manners, Repository};

/// This machine, without a sandbox's way out of anything.
#[derive(Default)]
pub(super) struct Machine {
    stopped: AtomicBool,
    /// Arguments of all that ran.
    pub(super) ran: Mutex<Vec<String>>,
    /// Where programs are looked for first.
    pub(super) path: Option<PathBuf>,
}

impl Programs for Machine {
    fn run(
        &self,
        call: &Call,
        take: &mut dyn FnMut(Stream, &[u8]) -> ControlFlow<()>,
    ) -> Result<i32, ProgramError> {
        let failed = |error: std::io::Error| ProgramError::Failed(Box::new(error));
        let words: Vec<String> = call.args.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        self.ran.lock().expect("no panics").push(words.join(" "));
        let mut command = Command::new(&call.args[0]);
        command.args(&call.args[1..]).envs(call.env.iter().cloned()).current_dir(&call.cwd);
        if let Some(path) = &self.path {
            command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", path.display()));
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut stderr = child.stderr.take().expect("is piped");
        let errors = std::thread::spawn(move || {
            let mut said = Vec::new();
            stderr.read_to_end(&mut said).map(|_| said)
        });
        let mut stdout = child.stdout.take().expect("is piped");
        let mut buffer = vec![0; 64 << 10];
        let mut broken = false;
        loop {
            let count = stdout.read(&mut buffer).map_err(failed)?;
            if count == 0 || broken {
                break;
            }
            broken = take(Stream::Stdout, &buffer[..count]).is_break();
        }
        let said = errors.join().expect("ends").map_err(failed)?;
        broken |= take(Stream::Stderr, &said).is_break();
        let status = child.wait().map_err(failed)?;
        if broken || self.is_stopped() { Err(ProgramError::Stopped) } else { Ok(status.code().unwrap_or(-1)) }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// A state directory, and what goes into it.
pub(super) struct Bench {
    pub(super) dir: tempfile::TempDir,
    snapshots: Snapshots,
    pub(super) machine: Machine,
    /// Sockets and known hosts for ssh.
    pub(super) ssh: Option<(PathBuf, PathBuf)>,
    /// What commits come from, where a request says so.
    pub(super) bundle: Option<(Digest, PathBuf)>,
    told: Mutex<Vec<Told>>,
    pub(super) session: LocalSession,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&dir.path().join("state")).expect("opens");
        let snapshots = Snapshots::new(store, DriverKind::Overlay).expect("snapshots");
        std::fs::create_dir(dir.path().join("git")).expect("makes a folder");
        let (machine, ssh, bundle, told, session) = Default::default();
        Self { dir, snapshots, machine, ssh, bundle, told, session }
    }

    pub(super) fn connected<T>(&self, request: &GitRequest, work: impl FnOnce(&Connection<'_>) -> T) -> T {
        let folder = self.dir.path().join("git");
        work(&Connection {
            programs: &self.machine,
            folder: &folder,
            authorization: request.authorization(&self.session),
            agent: self.ssh.as_ref().map(|(agent, _)| agent.as_path()),
            bundle: self.bundle.as_ref().map(|(digest, path)| BundleFile { digest, path }),
            known_hosts: self.ssh.as_ref().map(|(_, known)| known.as_path()),
            ssh_command: request.ssh_command(&self.session),
            env: &[],
            tell: &|told| self.told.lock().expect("no panics").push(told),
            room: &|| Ok(()),
        })
    }

    pub(super) fn pin(&self, request: &GitRequest) -> Result<Pinned, GitError> {
        match git::pinned(request)? {
            Some(pinned) => Ok(pinned),
            None => self.connected(request, |connection| git::ask(connection, request)),
        }
    }

    fn tree_of(&self, request: &GitRequest, pinned: &Pinned) -> Result<Tree, SourceError> {
        let active = self.snapshots.prepare(None).expect("prepares");
        let editor = Editor::new(&active).expect("edits");
        let store = self.snapshots.store();
        self.connected(request, |connection| {
            git::write(connection, request, pinned, store, &editor, Ownership::RootOnly)
        })?;
        let diff = rb_snapshot::diff(&active).expect("looks");
        let (snapshot, _) =
            self.snapshots.commit(active, &diff, rb_snapshot::ContentKey::empty()).expect("commits");
        Ok(Tree { folder: self.snapshots.directory(snapshot), snapshot })
    }

    /// Returns how often objects were fetched since the last time.
    fn fetches(&self) -> usize {
        let ran = std::mem::take(&mut *self.machine.ran.lock().expect("no panics"));
        let fetches: Vec<String> = ran.into_iter().filter(|line| line.contains(" fetch ")).collect();
        assert!(fetches.iter().all(|line| line.contains("--depth=1")), "{fetches:?}");
        fetches.len()
    }

    pub(super) fn tree(&self, request: &GitRequest) -> Result<Tree, SourceError> {
        let pinned = self.pin(request)?;
        self.tree_of(request, &pinned)
    }
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) folder: PathBuf,
    snapshot: SnapshotId,
}

impl Tree {
    pub(super) fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Returns all that is in it, as `path mode`.
    pub(super) fn list(&self) -> Vec<String> {
        use std::os::unix::fs::MetadataExt as _;
        let mut found = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("lists") {
                let entry = entry.expect("lists");
                let metadata = entry.metadata().expect("looks");
                let path = entry.path();
                let name = path.strip_prefix(&self.folder).expect("is in it").display().to_string();
                if metadata.is_dir() && !name.starts_with(".git/") {
                    folders.push(path);
                }
                found.push(format!("{name} {:o}", metadata.mode() & 0o7777));
            }
        }
        found.sort();
        found
    }
}

pub(super) fn request(url: &str, attrs: &[(&str, &str)]) -> GitRequest {
    let attrs: BTreeMap<String, String> =
        attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    GitRequest::parse(url, &attrs).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// A repository with two commits, a branch, tags, an executable and a link; and one that is its submodule.
pub(super) fn project(host: &GitHost) -> (Repository, String, String) {
    let library = host.repository("team/library");
    library.write("lib.c", "library\n");
    let linked = library.commit();
    library.write("lib.c", "newer\n");
    library.commit();
    let project = host.repository("team/project");
    project.write("README", "one\n");
    project.write("src/main.c", "main\n");
    project.write("src/deep/x", "x\n");
    project.write(".gitattributes", "README export-ignore\nsrc/main.c export-subst\n");
    project.write("run.sh", "#!/bin/sh\n");
    project.git(&["update-index", "--add", "--chmod=+x", "run.sh"]);
    std::os::unix::fs::symlink("src/main.c", project.path.join("link")).expect("links");
    std::fs::set_permissions(
        project.path.join("run.sh"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("changes the mode");
    let first = project.commit();
    project.git(&["tag", "v1"]);
    project.git(&["tag", "--annotate", "v2", "--message=x"]);
    project.write(".gitmodules", "[submodule \"the lib\"]\n\tpath = src/lib\n\turl = ../library\n");
    project.commit();
    project.link("src/lib", &linked);
    let second = project.git(&["rev-parse", "HEAD"]);
    (project, first, second)
}

#[test]
fn branches_tags_references_and_commits_are_found() {
    let (host, bench) = (GitHost::start(), Bench::new());
    let (_, first, second) = project(&host);
    for (fragment, commit, reference) in [
        ("", &second, Some("refs/heads/main")),
        ("#main", &second, Some("refs/heads/main")),
        ("#refs/heads/main", &second, Some("refs/heads/main")),
        ("#v1", &first, Some("refs/tags/v1")),
        ("#v2", &first, Some("refs/tags/v2")),
        (&format!("#{first}"), &first, None),
    ] {
        let request = request(&format!("{}{fragment}", host.url("team/project")), &[]);
        let pinned = bench.pin(&request).unwrap_or_else(|error| panic!("{fragment}: {error}"));
        assert_eq!((&pinned.commit, pinned.reference.as_deref()), (commit, reference), "{fragment}");
    }
    host.asked();
    let url = host.url("team/project");
    bench.pin(&request(&format!("{url}#{first}"), &[])).expect("is a commit");
    let by_commit = [("git.checksum", first.as_str()), ("git.fetchbycommit", "true")];
    let pinned = bench.pin(&request(&format!("{url}#gone"), &by_commit)).expect("is a commit");
    assert_eq!((pinned.commit, pinned.reference.as_deref()), (first.clone(), Some("refs/heads/gone")));
    assert!(host.asked().is_empty(), "nobody is asked what a commit is");
    bench.pin(&request(&format!("{url}#v1"), &[("git.checksum", &first[..9])])).expect("is the commit");
    let error =
        bench.pin(&request(&format!("{url}#main"), &[("git.checksum", &first)])).expect_err("is another");
    assert!(matches!(&error, GitError::Checksum { found, .. } if *found == second), "{error}");
}

#[test]
fn a_tree_is_what_was_committed_with_submodules_and_without_history() {
    let (host, bench) = (GitHost::start(), Bench::new());
    let (_, first, _) = project(&host);
    let whole = bench.tree(&request(&host.url("team/project"), &[])).expect("comes");
    assert_eq!(
        whole.list(),
        [
            ".gitattributes 644",
            ".gitmodules 644",
            "README 644",
            "link 777",
            "run.sh 755",
            "src 755",
            "src/deep 755",
            "src/deep/x 644",
            "src/lib 755",
            "src/lib/lib.c 644",
            "src/main.c 644"
        ]
    );
    assert_eq!(whole.text("src/lib/lib.c"), "library\n");
    assert_eq!(whole.text("link"), "main\n");
    let time = std::fs::metadata(whole.folder.join("README")).expect("looks").modified().expect("has a time");
    assert_eq!(time, std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000));
    // One file, the rest of the same commit.
    let skipping = request(&host.url("team/project"), &[("git.skipsubmodules", "true")]);
    assert!(bench.tree(&skipping).expect("comes").list().contains(&"src/lib 755".to_owned()));
    let folder = bench.tree(&request(&format!("{}#main:src", host.url("team/project")), &[])).expect("comes");
    assert_eq!(folder.list(), ["deep 755", "deep/x 644", "lib 755", "lib/lib.c 644", "main.c 644"]);
    let inner =
        bench.tree(&request(&format!("{}#main:src/lib", host.url("team/project")), &[])).expect("comes");
    assert_eq!(inner.list(), ["lib.c 644"]);
    let old =
        bench.tree(&request(&format!("{}#{first}:src/deep", host.url("team/project")), &[])).expect("comes");
    assert_eq!(old.list(), ["x 644"]);
    for fragment in ["main:nowhere", "main:README", "main:link", "main:src/lib/nowhere"] {
        let request = request(&format!("{}#{fragment}", host.url("team/project")), &[]);
        let error = bench.tree(&request).expect_err(fragment).to_string();
        assert!(error.contains("has no folder") || error.contains("the submodule"), "{error}");
    }
}

#[test]
fn what_is_here_is_not_fetched_again_by_whoever_asks() {
    let (host, bench) = (GitHost::start(), Bench::new());
    let (project, first, second) = project(&host);
    let url = host.url("team/project");
    bench.tree(&request(&url, &[])).expect("comes");
    assert_eq!(bench.fetches(), 2, "the project and its submodule");
    bench.tree(&request(&url, &[])).expect("is here");
    assert_eq!(bench.fetches(), 0);
    host.asked();
    bench.tree(&request(&format!("{url}#{second}"), &[])).expect("is here");
    assert!(host.asked().is_empty(), "a commit that is here asks nobody");
    bench.tree(&request(&format!("{url}#{first}"), &[])).expect("comes");
    assert_eq!(bench.fetches(), 1);
    project.write("README", "three\n");
    project.git(&["add", "README"]);
    project.git(&["commit", "--quiet", "--message=three"]);
    let moved = bench.tree(&request(&url, &[])).expect("comes");
    assert_eq!((moved.text("README"), bench.fetches()), ("three\n".to_owned(), 1));
    let kept = std::fs::read_dir(bench.dir.path().join("git")).expect("lists").count();
    assert_eq!(kept, 4, "two repositories and their locks");
}

#[test]
fn a_branch_that_moved_meanwhile_gives_the_commit_that_was_pinned() {
    let (host, bench) = (GitHost::start(), Bench::new());
    let repository = host.repository("r");
    repository.write("a", "one");
    repository.commit();
    let request = request(&host.url("r"), &[]);
    let pinned = bench.pin(&request).expect("is there");
    repository.write("a", "two");
    repository.git(&["add", "a"]);
    repository.git(&["commit", "--quiet", "--amend", "--message=y"]);
    assert_eq!(bench.tree_of(&request, &pinned).expect("comes").text("a"), "one");
}

#[test]
fn a_repository_is_kept_in_the_tree_where_that_is_wanted() {
    let (host, bench) = (GitHost::start(), Bench::new());
    let (_, first, second) = project(&host);
    let keep = [("git.keepgitdir", "true")];
    let tree = bench.tree(&request(&host.url("team/project"), &keep)).expect("comes");
    // Twice the same: nothing of when or where it was made is in it.
    let again = bench.tree(&request(&host.url("team/project"), &keep)).expect("comes");
    assert_eq!(again.snapshot, tree.snapshot);
    assert_eq!(tree.text("src/lib/lib.c"), "library\n");
    let look = Repository { path: tree.folder.clone() };
    let asked = |words: &[&str]| look.git(&[&["-c", "safe.directory=*"], words].concat());
    assert_eq!(asked(&["rev-parse", "HEAD"]), second);
    assert_eq!(asked(&["rev-parse", "main"]), second);
    assert_eq!(asked(&["config", "remote.origin.url"]), host.url("team/project"));
    assert_eq!(asked(&["log", "--format=%H"]), second, "no history");
    assert_eq!(asked(&["status", "--porcelain"]), "");
    assert!(asked(&["submodule", "status"]).contains("src/lib"));
    assert_eq!(tree.text("src/lib/.git"), "gitdir: ../../.git/modules/the lib\n");
    assert!(!tree.folder.join(".git/logs").exists() && !tree.folder.join(".git/hooks").exists());
    let config = tree.text(".git/config");
    assert!(!config.contains(&bench.dir.path().display().to_string()), "{config}");
    let old = bench.tree(&request(&format!("{}#{first}", host.url("team/project")), &keep)).expect("comes");
    assert_eq!(
        Repository { path: old.folder.clone() }.git(&["-c", "safe.directory=*", "rev-parse", "HEAD"]),
        first
    );
    // As in BuildKit, a folder of a repository is none.
    let folder =
        bench.tree(&request(&format!("{}#main:src", host.url("team/project")), &keep)).expect("comes");
    assert!(!folder.folder.join(".git").exists());
}

#[test]
fn tokens_are_shown_to_their_host_and_stand_nowhere() {
    let (host, other) = (GitHost::start(), GitHost::start());
    let (_, _, _) = project(&host);
    let wanted = "basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg=="; // x-access-token:hunter2
    host.set(Manners { wanted: Some(wanted.to_owned()), ..Manners::default() });
    let url = host.url("team/project");
    let secrets = [("git.authtokensecret", "GIT_AUTH_TOKEN"), ("git.authheadersecret", "GIT_AUTH_HEADER")];
    let error = Bench::new().pin(&request(&url, &secrets)).expect_err("nothing is shown");
    assert!(matches!(error, GitError::Unauthorized { known: false, .. }), "{error}");
    assert!(error.help().is_some_and(|help| help.contains("--secret GIT_AUTH_TOKEN=")), "{error}");
    let with = |id: &str, value: &str| Bench {
        session: LocalSession::default().with_secret(id, Secret::new(value)),
        ..Bench::new()
    };
    let error = with("GIT_AUTH_TOKEN", "wrong").pin(&request(&url, &secrets)).expect_err("another is wanted");
    assert!(matches!(error, GitError::Unauthorized { known: true, .. }), "{error}");
    let here = format!("GIT_AUTH_TOKEN.{}", host.host);
    for bench in
        [with("GIT_AUTH_TOKEN", "hunter2\n"), with(&here, "hunter2"), with("GIT_AUTH_HEADER", wanted)]
    {
        bench.tree(&request(&url, &secrets)).expect("comes, its submodule too");
        let ran = bench.machine.ran.lock().expect("no panics").join("\n");
        let told = format!("{:?}", bench.told.lock().expect("no panics"));
        let mut found = String::new();
        read_all(bench.dir.path().join("git"), &mut found);
        for text in [ran, told, found] {
            assert!(!text.contains("hunter2") && !text.contains("eC1hY2Nlc3"), "{text}");
        }
    }
    // A name and password in the address are shown and not kept.
    host.set(Manners { wanted: Some("basic dTpodW50ZXIy".to_owned()), ..Manners::default() });
    let bench = Bench::new();
    bench.tree(&request(&format!("http://u:hunter2@{}/team/project", host.host), &[])).expect("comes");
    assert!(!bench.machine.ran.lock().expect("no panics").join("\n").contains("hunter2"));

    // Where a host leads elsewhere, or a submodule is there, nothing goes along.
    host.set(Manners { wanted: None, elsewhere: Some(other.host.clone()), ..Manners::default() });
    let shared = other.repository("team/project");
    shared.write("a", "b");
    let commit = shared.commit();
    let bench = with("GIT_AUTH_TOKEN", "hunter2");
    let error =
        bench.pin(&request(&host.url("elsewhere/team/project"), &secrets)).expect_err("leads elsewhere");
    assert!(matches!(error, GitError::Moved { .. }), "{error}");
    assert!(other.asked().is_empty());
    let outer = host.repository("outer");
    outer.write(
        ".gitmodules",
        &format!("[submodule \"o\"]\n\tpath = o\n\turl = {}\n", other.url("team/project")),
    );
    outer.commit();
    outer.link("o", &commit);
    assert_eq!(bench.tree(&request(&host.url("outer"), &secrets)).expect("comes").text("o/a"), "b");
    let asked = other.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.authorization.is_none()));
    // Without anything to show it is followed.
    Bench::new().pin(&request(&host.url("moved/team/project"), &[])).expect("is led there");
}

fn read_all(folder: PathBuf, found: &mut String) {
    for entry in std::fs::read_dir(folder).expect("lists").flatten() {
        if entry.path().is_dir() {
            read_all(entry.path(), found);
        } else {
            found.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).expect("reads")));
        }
    }
}

#[test]
fn what_is_not_there_is_told_with_what_is_near() {
    let (host, bench) = (GitHost::start(), Bench::new());
    let (project, ..) = project(&host);
    project.git(&["branch", "feature/login"]);
    let pin = |url: &str| bench.pin(&request(url, &[])).expect_err(url);
    let error = pin(&format!("{}#feature/logni", host.url("team/project")));
    assert_eq!(
        error.to_string(),
        format!("{} has no branch or tag `feature/logni`", host.url("team/project"))
    );
    assert_eq!(error.help().as_deref(), Some("did you mean `feature/login`?"));
    let error = pin(&host.url("team/nothing"));
    assert!(matches!(error, GitError::NotFound { known: false, .. }), "{error}");
    let error = bench.tree(&request(&format!("{}#{}", host.url("team/project"), "1".repeat(40)), &[]));
    let error = error.expect_err("there is no such commit");
    assert!(error.to_string().contains("has no commit 1111"), "{error}");
    host.repository("empty");
    let error = pin(&host.url("empty"));
    assert!(matches!(error, GitError::NoReference { .. }), "{error}");
}

#[test]
fn a_host_in_trouble_is_asked_again_and_not_for_ever() {
    let (host, bench) = (GitHost::start(), Bench::new());
    let (..) = project(&host);
    let url = host.url("team/project");
    host.set(Manners { busy: 2, ..Manners::default() });
    bench.pin(&request(&url, &[])).expect("comes in the end");
    assert!(
        bench
            .told
            .lock()
            .expect("no panics")
            .iter()
            .any(|told| matches!(told, Told::Line(line) if line.contains("tries again")))
    );
    host.set(Manners { cuts: 1, ..Manners::default() });
    bench.tree(&request(&url, &[])).expect("comes in the end");
    host.set(Manners { busy: 100, ..Manners::default() });
    let error = bench.pin(&request(&url, &[])).expect_err("does not come");
    assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
    // Nobody waits out the pauses of what nobody wants.
    bench.machine.stopped.store(true, Ordering::Relaxed);
    assert!(matches!(bench.pin(&request(&url, &[])), Err(GitError::Stopped)));
}

#[test]
fn a_host_of_plain_files_is_read_too() {
    let host = GitHost::start();
    let (repository, first, second) = project(&host);
    let (of_git, url) = (Bench::new(), host.url("team/project"));
    let names = ["", "#main", "#v2", "#main:src"].map(|name| format!("{url}{name}"));
    let names = [&names[..], &[format!("{url}#{first}"), format!("{url}#{second}")]].concat();
    let trees = |bench: &Bench| -> Vec<Vec<String>> {
        names.iter().map(|name| bench.tree(&request(name, &[])).expect(name).list()).collect()
    };
    let expected = trees(&of_git);
    repository.git(&["gc", "--quiet"]);
    repository.git(&["update-server-info"]);
    std::process::Command::new("git")
        .args(["-c", "safe.directory=*", "update-server-info"])
        .current_dir(repository.path.with_file_name("library"))
        .status()
        .expect("runs");
    host.set(Manners { files: true, ..Manners::default() });
    assert_eq!(trees(&Bench::new()), expected);
    let kept = request(&format!("{url}#main"), &[("git.keepgitdir", "true")]);
    assert!(
        Bench::new()
            .tree(&kept)
            .expect("is there")
            .list()
            .iter()
            .any(|line| line.starts_with(".git/config "))
    );
}

#[test]
fn what_a_killed_process_left_and_what_rotted_is_mended() {
    let (host, bench) = (GitHost::start(), Bench::new());
    let (_, first, _) = project(&host);
    let url = host.url("team/project");
    let request_first = request(&format!("{url}#{first}"), &[]);
    bench.tree(&request_first).expect("comes");
    let kept = std::fs::read_dir(bench.dir.path().join("git")).expect("lists").flatten();
    let kept = kept.map(|entry| entry.path()).find(|path| path.is_dir()).expect("is kept");
    for left in ["shallow.lock", "refs/rb/x.lock", "objects/pack/tmp_pack_x"] {
        std::fs::write(kept.join(left), "").expect("writes");
    }
    bench.tree(&request(&url, &[])).expect("comes");
    assert!(!kept.join("shallow.lock").exists() && !kept.join("objects/pack/tmp_pack_x").exists());
    // The objects of the files are gone, the commit is not.
    let packs = std::fs::read_dir(kept.join("objects/pack")).expect("lists").flatten();
    for pack in packs.filter(|pack| pack.path().extension().is_some_and(|end| end == "pack")) {
        let mut bytes = std::fs::read(pack.path()).expect("reads");
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0);
        std::fs::remove_file(pack.path()).expect("removes");
        std::fs::write(pack.path(), bytes).expect("writes");
    }
    assert_eq!(bench.tree(&request(&url, &[])).expect("is fetched again").text("README"), "one\n");
}
