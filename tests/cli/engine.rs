//! Builds on a real buildkitd: what comes of them is what the bundled runtime makes. `BUILDKIT` names a folder with one, as
//! `tests/peers` makes it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::corpus::peer::{self, Peer};
use crate::env::{Run, TestEnv, copy_tree, is_root};

const BUILDFILE: &str = "\
VERSION 1
ground:
    FROM scratch
    COPY busybox /bin/sh
    WORKDIR /work
app:
    FROM +ground
    COPY src src
    ARG word=one
    RUN read line < src/a.txt; echo \"$line $word\" > out; /bin/sh -c 'echo said'
    IF read line < src/a.txt
        ENV READ=yes
    END
    RUN echo \"$READ\" > read
    SAVE ARTIFACT out AS LOCAL got/out
    SAVE ARTIFACT src AS LOCAL got/src
    SAVE ARTIFACT read AS LOCAL got/read
image:
    FROM +app
    ENTRYPOINT [\"/bin/sh\", \"-c\", \"read line < /work/out; echo $line\"]
    SAVE IMAGE made:1
fails:
    FROM +ground
    RUN echo last words; exit 7
slow:
    FROM +ground
    COPY busybox /bin/sleep
    RUN echo begun; /bin/sleep 600
host:
    FROM @host
    RUN true
";

const DOCKERFILE: &str = "\
# check=skip=all
FROM scratch AS build
COPY --chmod=755 busybox /bin/sh
COPY src /src
RUN read line < /src/a.txt && echo \"$line\" > /made && /bin/sh -c 'echo >/other'

FROM scratch
COPY --from=build /made /other /out/
";

/// What was said, whatever lines it was broken into.
pub(crate) fn flat(text: &str) -> String {
    text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

/// Looks for words in what was said.
pub(crate) trait Tells {
    /// Panics unless stderr holds these words, whatever lines they were broken into.
    fn tells(self, words: &str) -> Self;
}

impl Tells for Run {
    #[track_caller]
    fn tells(self, words: &str) -> Self {
        assert!(flat(&self.stderr).contains(words), "`{words}` is not in stderr:\n{}", self.stderr);
        self
    }
}

/// A project and a daemon; none where something is missing, which is told.
pub(crate) fn project() -> Option<(TestEnv, Peer, String)> {
    project_on(&[])
}

/// The same with further words on the daemon's command line.
pub(crate) fn project_on(more: &[String]) -> Option<(TestEnv, Peer, String)> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    let Some(busybox) = busybox else {
        eprintln!("stepping aside: there is no busybox (Debian: busybox-static)");
        return None;
    };
    if !is_root() {
        eprintln!("stepping aside: buildkitd needs root");
        return None;
    }
    let env = TestEnv::new();
    let folder = env.state().with_file_name("buildkit");
    // Two daemons at once each have one of their own.
    let settings = format!("[otel]\n  socketPath = {:?}\n", folder.join("otel"));
    let Some(daemon) = Peer::start_with(&folder, &settings, more) else {
        eprintln!("stepping aside: BUILDKIT names no folder with buildkitd");
        return None;
    };
    env.write("busybox", busybox).write("src/a.txt", "a\n").write("src/deep/b.txt", "b\n");
    env.write("Buildfile", BUILDFILE).write("Dockerfile", DOCKERFILE);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(env.project().join("busybox"), mode).expect("sets");
    Some((env, daemon, peer::address(&folder)))
}

/// Modes and contents below a folder.
fn tree(folder: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(at) = todo.pop() {
        let metadata = fs::symlink_metadata(&at).expect("is there");
        let name = at.strip_prefix(folder).expect("is below").display().to_string();
        let content = if metadata.is_file() { fs::read(&at).expect("reads") } else { Vec::new() };
        found.insert(name, (metadata.permissions().mode(), content));
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&at).expect("lists").map(|entry| entry.expect("an entry").path()));
        }
    }
    found
}

#[test]
fn a_daemon_makes_what_the_bundled_runtime_makes() {
    let Some((env, _daemon, address)) = project() else { return };
    let engine = format!("--engine={address}");
    let got = env.project().join("got");
    env.rb(["+app", "--word=two"]).expect(0);
    let here = tree(&got);
    fs::remove_dir_all(&got).expect("removes");
    let told = env.rb([engine.as_str(), "+app", "--word=two"]).expect(0).stderr;
    assert_eq!(told.matches("| said").count(), 1, "what a step wrote is told once:\n{told}");
    assert_eq!(tree(&got), here);
    assert_eq!(env.read("got/out"), "a two\n");

    env.rb(["build", "-o", "here", "."]).expect(0);
    env.rb([engine.as_str(), "build", "-o", "there", "."]).expect(0);
    assert_eq!(tree(&env.project().join("there")), tree(&env.project().join("here")));

    // The image comes back and runs.
    env.rb([engine.as_str(), "+image"]).expect(0);
    assert_eq!(env.rb(["run", "made:1"]).expect(0).stdout, "a one\n");
}

#[test]
fn what_goes_wrong_there_is_told_as_here() {
    let Some((env, _daemon, address)) = project() else { return };
    let engine = format!("--engine={address}");
    env.rb([engine.as_str(), "+fails"]).expect(1).says("exit code 7").says("last words").says("Buildfile");
    env.rb([engine.as_str(), "+host"])
        .expect(2)
        .says("FROM @host")
        .says("Buildfile:30")
        .tells("--engine=here");
    // A right that the daemon was not given.
    env.write("Insecure", "FROM scratch\nCOPY --chmod=755 busybox /bin/sh\nRUN --security=insecure true\n");
    env.rb(["build", &engine, "--allow=security.insecure", "-f", "Insecure", "-o", "there", "."])
        .expect(3)
        .tells("security.insecure")
        .tells("insecure-entitlements");
    env.rb([engine.as_str(), "plan", "+app"]).expect(2).says("beforehand");
    env.rb([engine.as_str(), "build", "--provenance=true", "-o", "there", "."])
        .expect(2)
        .says("--provenance");
    env.rb([engine.as_str(), "build", "--sbom=true", "-o", "type=oci,dest=there", "."])
        .expect(2)
        .says("--sbom");
    env.rb([engine.as_str(), "resume"]).expect(2).says("rb resume");
    env.rb([engine.as_str(), "-i", "+fails"]).expect(2).says("-i");
    assert!(!env.project().join("there").exists());
    env.write("Missing", "FROM scratch\nCOPY nofile /x\n");
    let told = flat(&env.rb(["build", &engine, "-f", "Missing", "-o", "there", "."]).expect(2).stderr);
    assert!(told.contains("/nofile does not exist") && !told.contains("::"), "{told}");
    let here = flat(&env.rb(["build", "-f", "Missing", "-o", "there", "."]).expect(2).stderr);
    assert!(here.contains("/nofile does not exist"), "{here}");
    let told = env.rb(["doctor", engine.as_str()]).expect(0).stdout;
    assert!(told.contains("BuildKit") && told.contains("linux/"), "{told}");
}

#[test]
fn what_ran_there_is_explained_from_records() {
    let Some((env, _daemon, address)) = project() else { return };
    let engine = format!("--engine={address}");
    env.rb([engine.as_str(), "+app"]).expect(0);
    let why = || flat(&env.rb(["why", "--last", "+app"]).expect(0).stdout);
    assert!(why().contains("never built before"), "{}", why());
    env.rb([engine.as_str(), "+app", "--word=two"]).expect(0);
    let told = why();
    assert!(told.contains("ARG `word` has changed: `one` -> `two`") && told.contains(&address), "{told}");
    env.write("src/a.txt", "other\n");
    env.rb([engine.as_str(), "+app", "--word=two"]).expect(0);
    let told = why();
    assert!(told.contains("file `src/a.txt` has changed") && told.contains("COPY src src"), "{told}");
    assert!(!told.contains("deep/b.txt") && !told.contains("ARG `word`"), "{told}");
    env.rb([engine.as_str(), "--no-cache", "+app", "--word=two"]).expect(0);
    let told = why();
    assert!(told.contains("told not to use the cache") && told.contains("COPY busybox /bin/sh"), "{told}");
}

#[test]
fn a_daemon_that_dies_is_told_with_the_step_that_ran() {
    use std::io::{BufRead as _, BufReader, Read as _};
    let Some((env, mut daemon, address)) = project() else { return };
    let mut rb = env.spawn([format!("--engine={address}"), "+slow".to_owned()]);
    let mut lines = BufReader::new(rb.stderr.take().expect("is piped"));
    let mut told = String::new();
    while !told.contains("| begun") {
        assert_ne!(lines.read_line(&mut told).expect("reads"), 0, "{told}");
    }
    daemon.kill();
    lines.read_to_string(&mut told).expect("reads");
    assert_eq!(rb.wait().expect("ends").code(), Some(3), "{told}");
    let told = flat(&told);
    assert!(told.contains("went away while `+slow | RUN echo begun; /bin/sleep 600` ran"), "{told}");
    assert!(told.contains("start it again"), "{told}");
    assert!(!told.contains("broken pipe") && !told.contains("transport"), "{told}");
}

#[test]
fn an_address_is_checked_and_so_is_who_listens_there() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nnothing:\n    FROM scratch\n    COPY Buildfile .\n    SAVE ARTIFACT Buildfile\n",
    );
    env.rb(["--engine=unix:///nowhere/socket", "+nothing"]).expect(3).says("cannot be reached");
    env.rb(["doctor", "--engine=unix:///nowhere/socket"]).expect(3).says("cannot be reached");
    env.rb(["--engine=far", "+nothing"]).expect(2).says("no engine `far`").says("rb engine add far ADDRESS");
    env.rb(["--engine=http://far", "+nothing"]).expect(2).says("no way to an engine");
    env.rb(["+nothing"]).expect(0);
}

/// Folders of the examples with a file of this name, from their top.
fn examples_with(folder: &Path, name: &str, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut names: Vec<_> = fs::read_dir(folder).expect("lists").flatten().collect();
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let called = entry.file_name().to_string_lossy().into_owned();
        if called == name {
            found.push(at.to_owned());
        } else if entry.file_type().expect("is known").is_dir() {
            found.extend(examples_with(&entry.path(), name, &format!("{at}/{called}")));
        }
    }
    found
}

/// What comes of each example there is what comes of it here. Whatever lies in the folder is one; what is left out needs this machine, and
/// is refused by that name.
#[test]
fn every_example_that_needs_no_host_is_the_same_there() {
    let Some((env, _daemon, address)) = project() else { return };
    let engine = format!("--engine={address}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let examples = env.project().join("checkout/examples");
    copy_tree(&root.join("examples"), &examples);
    copy_tree(&root.join("stdlib"), &env.project().join("checkout/stdlib"));
    // Who makes the image of the frontend puts a static rb there.
    env.write("checkout/examples/frontend/rb", "a program\n");
    let mut same = Vec::new();
    let mut compare = |verb: &[&str], name: &str| {
        let build = |engine: &str, to: &str| env.rb([&[engine], verb, &["-o", to, name]].concat());
        let there = build(&engine, "type=local,dest=there");
        if there.code != 0 {
            assert!(flat(&there.stderr).contains("FROM @host"), "{name}: {}", there.stderr);
            return;
        }
        build("--engine=here", "type=local,dest=here").expect(0);
        let made = |at: &str| tree(&env.project().join(at));
        assert_eq!(made("there"), made("here"), "{name}");
        for at in ["there", "here"] {
            fs::remove_dir_all(env.project().join(at)).expect("removes");
        }
        same.push(name.to_owned());
    };
    for folder in examples_with(&examples, "Dockerfile", "checkout/examples") {
        compare(&["build"], &folder);
    }
    // It finds the others with commands of this machine, and has them built.
    let driver = "checkout/examples/monorepo";
    for folder in examples_with(&examples, "Buildfile", "checkout/examples") {
        if folder == driver {
            continue;
        }
        let listed = env.rb(["ls", "--json", &folder]).expect(0).stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("is JSON");
        let targets = listed["targets"].as_array().expect("lists targets");
        for target in targets {
            let name = format!("./{folder}+{}", target["name"].as_str().expect("has a name"));
            compare(&[], &name);
        }
    }
    for some in [
        "checkout/examples/dockerfile",
        "./checkout/examples/dockerfile+greeting",
        "./checkout/examples/frontend+image",
    ] {
        assert!(same.iter().any(|name| name == some), "{some} is not among {same:?}");
    }
}
