//! Frontends of images by BuildKit's own client, in the bundled runtime: files as they are told of, other frontends, containers. `BUILDKIT`
//! names a folder with `guest`, as `tests/peers` makes it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::engine::Tells as _;
use crate::env::{Run, TestEnv};

/// Returns a program of the folder with BuildKit's; where it is not, that is told.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let folder = std::env::vars_os().find(|(name, _)| name == "BUILDKIT").map(|(_, folder)| folder);
    let program = folder.map(|folder| Path::new(&folder).join(name)).filter(|program| program.exists());
    if program.is_none() {
        eprintln!("stepping aside: BUILDKIT names no folder with {name}");
    }
    program
}

/// Makes an image of a frontend of a program that is linked with nothing.
pub(crate) fn frontend_of(env: &TestEnv, program: &Path, image: &str) {
    let folder = "frontend-image";
    env.write(&format!("{folder}/program"), fs::read(program).expect("reads the program"));
    runs(env, &format!("{folder}/program"));
    let text = format!(
        "VERSION 1\nimage:\n    FROM scratch\n    COPY program /program\n    ENTRYPOINT [\"/program\"]\n    \
         LABEL moby.buildkit.frontend.network.none=true\n    SAVE IMAGE {image}\n"
    );
    env.write(&format!("{folder}/Buildfile"), text).rb([&format!("./{folder}+image")]).expect(0);
}

fn runs(env: &TestEnv, path: &str) {
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(env.project().join(path), mode).expect("sets");
}

/// A project whose Dockerfile the guest reads, and an image `base` with a shell.
fn project() -> Option<TestEnv> {
    let guest = program("guest")?;
    let env = TestEnv::new();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    let Some(busybox) = busybox else {
        eprintln!("stepping aside: there is no busybox (Debian: busybox-static)");
        return None;
    };
    env.write("base/busybox", busybox);
    runs(&env, "base/busybox");
    let base = "VERSION 1\nground:\n    FROM scratch\n    COPY busybox /bin/busybox\n    \
                RUN [\"/bin/busybox\", \"mkdir\", \"/tmp\"]\n    \
                RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n    SAVE IMAGE base:latest\n";
    env.write("base/Buildfile", base).rb(["./base+ground"]).expect(0);
    frontend_of(&env, &guest, "guest:1");
    env.write("a.txt", "a\n").write("key.txt", "secret words\n");
    env.write("Dockerfile", "# syntax=guest:1\nFROM scratch AS one\nCOPY a.txt /got\nFROM one AS two\n");
    Some(env)
}

fn act(env: &TestEnv, act: &str, more: &[&str]) -> Run {
    let act = format!("--build-arg=act={act}");
    env.rb([&["build", &act, "--secret=id=key,src=key.txt", "-o", "out"], more, &["."]].concat())
}

#[test]
fn files_are_told_of_as_buildkit_does() {
    let Some(env) = project() else { return };
    act(&env, "files", &[]).expect(0);
    // Modes are Go's, in octal: a folder, a symlink.
    let told = "\
/folder: folder 20000000750 7:8 0 0 \"\"
folder/file: file 751 7:8 7 1000000000005 \"\"
/folder/link: file 751 7:8 7 1000000000005 \"\"
in : file 751 7:8 7 1000000000005 \"\"
in : link 1000000777 0:0 4 1000000000005 \"file\"
in : other 600 0:0 0 1000000000005 \"\"
in o*: other 600 0:0 0 1000000000005 \"\"
in link: link 1000000777 0:0 4 1000000000005 \"file\"
missing: true
context: a.txt 644 0:0 2 0 \"\"
";
    assert_eq!(env.read("out/report"), told);
}

#[test]
fn containers_run_as_they_are_asked_to() {
    let Some(env) = project() else { return };
    act(&env, "containers", &[]).expect(0);
    let told = "\
out: \"typed said\\nx\\nsecret words\\n/tmp\\n10.1.2.3\\nkept\\nnew\\n\"
err: \"wrong\\ntouch: /extra/y: Read-only file system\\n\"
code: 3
new: \"1\\n\" 303002 0
second: a container has one process here: make another container
again: false
user defined signal 1: 5
killed: 137
terminal: \"keys\\r\\n33 99\\r\\ngot keys\\r\\n\" 0
";
    assert_eq!(env.read("out/report"), told);
    // One that does not end goes with its frontend.
    act(&env, "lasting", &[]).expect(0);
    assert_eq!(env.read("out/report"), "left\n");
    let is_left = |entry: fs::DirEntry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.windows(5).any(|window| window == b"98765")
    };
    for _ in 0..100 {
        if !fs::read_dir("/proc").expect("lists processes").flatten().any(is_left) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the container of a frontend that has ended still runs");
}

#[test]
fn frontends_have_others_build() {
    let Some(env) = project() else { return };
    for how in ["dockerfile", "itself"] {
        act(&env, how, &["--build-arg=n=1"]).expect(0);
        assert_eq!(env.read("out/got"), "a\n", "{how}");
        fs::remove_file(env.project().join("out/got")).expect("is there");
    }
    act(&env, "dockerfile", &["--target=nowhere"]).expect(2).tells("nowhere");
    act(&env, "question", &[]).expect(0);
    let targets: serde_json::Value = serde_json::from_str(&env.read("out/report")).expect("is JSON");
    assert_eq!(targets["targets"][1]["name"], "two", "{targets}");

    // What is handed in: the Dockerfile, a tree, and its config.
    let handed = |file: &str, more: &[&str]| {
        act(&env, "handed", &[&[format!("--build-arg=file={file}").as_str()], more].concat())
    };
    let file = "FROM ground\nCOPY a.txt /b\n";
    handed(file, &["-o", "type=oci,dest=handed.tar", "-t", "handed:1"]).expect(0);
    assert_eq!((env.read("out/of-base"), env.read("out/b")), ("base\n".to_owned(), "a\n".to_owned()));
    env.rb(["image", "load", "-i", "handed.tar"]).expect(0);
    let inspected = env.rb(["image", "inspect", "handed:1"]).expect(0).stdout;
    assert!(inspected.contains("FROM_BASE=yes"), "{inspected}");
    // What is wrong is shown where it is, though the program handed on words alone.
    handed("FROM ground\nFRUM", &[])
        .expect(2)
        .tells("unknown instruction: FRUM")
        .tells("did you mean `FROM`?");
    handed("FROM base\nRUN exit 5", &[]).expect(1).tells("exit code 5").tells("RUN exit 5");
    // For several platforms there are several trees.
    let two = ["--platform=linux/amd64,linux/arm64", "-o", "type=oci,dest=two,tar=false"];
    act(&env, "dockerfile", &two).expect(0);
    let layout: serde_json::Value = serde_json::from_str(&env.read("two/index.json")).expect("is JSON");
    let digest = layout["manifests"][0]["digest"].as_str().expect("has a digest").replace(':', "/");
    let index = env.read(&format!("two/blobs/{digest}"));
    assert!(index.contains("amd64") && index.contains("arm64"), "{index}");
}

#[test]
fn a_tar_is_a_context_for_them_too() {
    let Some(env) = project() else { return };
    let tar = std::process::Command::new("tar")
        .args(["cf", "context.tar", "Dockerfile", "a.txt"])
        .current_dir(env.project())
        .status();
    assert!(tar.expect("tar starts").success());
    env.rb(["build", "--build-arg=act=dockerfile", "-o", "out", "context.tar"]).expect(0);
    assert_eq!(env.read("out/got"), "a\n");
    // And for a program that takes what it is handed for the context.
    let Some(program) = program("dockerfile-frontend") else { return };
    frontend_of(&env, &program, "other:1");
    let other =
        ["build", "--build-arg=BUILDKIT_SYNTAX=other:1", "--target=one", "-o", "other", "context.tar"];
    env.rb(other).expect(0);
    assert_eq!(env.read("other/got"), "a\n");
}
