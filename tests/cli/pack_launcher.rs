//! `rb pack build --launcher`: an app starts by our launcher as by the builder's, and only its layer differs.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::pack::{PASS, Packed};

/// Two processes, one of which is found by the PATH of its layer, and variables of every kind.
const BUILD: &str = r#"#!/bin/sh
set -e
mkdir -p "$1/own/bin" "$1/own/env.launch/web" "$1/own/exec.d"
printf '#!/bin/sh\necho "$0 in $(pwd): $* [$SAID] [$OF_WEB] [$PATH]"\n' > "$1/own/bin/tell"
printf '#!/bin/sh\necho "SAID = \\"by a program\\"" >&3\n' > "$1/own/exec.d/say"
chmod 755 "$1/own/bin/tell" "$1/own/exec.d/say"
printf 'only here' > "$1/own/env.launch/web/OF_WEB"
printf '[types]\nlaunch=true\n' > "$1/own.toml"
cat > "$1/launch.toml" <<T
[[processes]]
type="web"
command=["tell", "always"]
args=["default"]
default=true
[[processes]]
type="task"
command=["tell"]
working-dir="/tmp"
T
"#;

/// Builds our launcher as a static program; says why not where that cannot be.
fn launcher() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_rb")).parent().expect("a folder").join("launcher");
    let built = Command::new(env!("CARGO"))
        .args([
            "rustc",
            "--locked",
            "--quiet",
            "--package",
            "rb-launcher",
            "--bin",
            "rb-launcher",
            "--target-dir",
        ])
        .arg(&target)
        .args(["--", "-C", "target-feature=+crt-static"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("starts cargo");
    if !built.status.success() {
        let why = String::from_utf8_lossy(&built.stderr);
        eprintln!("not run: our launcher; it cannot be built statically here: {why}");
        return None;
    }
    Some(target.join("debug/rb-launcher"))
}

#[test]
fn an_app_starts_by_our_launcher() {
    let Some(launcher) = launcher() else { return };
    let Some(packed) = Packed::new() else { return };
    packed.buildpack("test_tell", "1.0", "test/tell", PASS, BUILD);
    packed.builder(&["test/tell@1.0"]);
    std::fs::copy(&launcher, packed.0.project().join("own-launcher")).expect("copies");
    packed.pack("build", &["app:1", "--launcher", "own-launcher"]).expect(0);
    packed.pack("build", &["other:1"]).expect(0);
    let run = |words: &[&str]| packed.0.rb(["run"].iter().chain(words)).expect(0).stdout;
    let path = "/layers/test_tell/own/bin:/bin";
    let tell = "/layers/test_tell/own/bin/tell";
    assert_eq!(
        run(&["app:1"]),
        format!("{tell} in /workspace: always default [by a program] [only here] [{path}]\n")
    );
    assert_eq!(
        run(&["app:1", "mine", "two words"]),
        format!("{tell} in /workspace: always mine two words [by a program] [only here] [{path}]\n")
    );
    assert_eq!(
        run(&["--entrypoint", "task", "app:1", "x"]),
        format!("{tell} in /tmp: x [by a program] [] [{path}]\n")
    );
    assert_eq!(
        run(&["--entrypoint", "launcher", "app:1", "--", "tell"]),
        format!("{tell} in /workspace:  [by a program] [] [{path}]\n")
    );
    // A shell is what this image has not.
    packed
        .0
        .rb(["run", "--entrypoint", "launcher", "app:1", "echo hello"])
        .expect(82)
        .says("ERROR: failed to launch: bash exec: no such file or directory: this image has no /bin/bash");
    let (own, other) = (packed.image("app:1"), packed.image("other:1"));
    let differ: Vec<usize> = {
        let layers = |image: &Value| image["rootfs"]["diff_ids"].as_array().expect("layers").clone();
        let (own, other) = (layers(&own), layers(&other));
        assert_eq!(own.len(), other.len());
        (0..own.len()).filter(|at| own[*at] != other[*at]).collect()
    };
    let history = own["history"].as_array().expect("lines");
    assert_eq!(differ.len(), 1);
    let line =
        &history[history.len() - own["rootfs"]["diff_ids"].as_array().expect("layers").len() + differ[0]];
    assert_eq!(line["created_by"], "Buildpacks Application Launcher");
    let metadata = |image: &Value| -> Value {
        let text = image["config"]["Labels"]["io.buildpacks.build.metadata"].as_str().expect("a label");
        serde_json::from_str(text).expect("JSON")
    };
    let nothing = json!({"version": "", "source": {"git": {"repository": "", "commit": ""}}});
    assert_eq!(metadata(&own)["launcher"], nothing);
    assert_eq!(metadata(&other)["launcher"]["version"], "0.21.0");
}

#[test]
fn launchers_that_cannot_be() {
    let Some(packed) = Packed::new() else { return };
    packed.0.write("text", "hello");
    let mut program = b"\x7fELF\x02\x01".to_vec();
    program[5] = 2;
    program.resize(18, 0);
    program.extend([0, 22]);
    std::fs::write(packed.0.project().join("strange"), program).expect("writes");
    let own = std::fs::read(env!("CARGO_BIN_EXE_rb")).expect("reads");
    std::fs::write(packed.0.project().join("half"), &own[..100_000]).expect("writes");
    for (words, message) in [
        (&["--launcher", "rb"][..], "this build of rb has no launcher with it"),
        (&["--launcher", "none"], "--launcher=none: it cannot be read"),
        (&["--launcher", "text"], "--launcher=text: it is no program of Linux"),
        (&["--launcher", "strange"], "--launcher=strange: it is for s390x, and the image for"),
        (&["--launcher", "half"], "--launcher=half: what it loads lies beyond its end"),
        (
            &["--launcher", "text", "--lifecycle", "builder"],
            "--lifecycle=builder takes the builder's launcher",
        ),
    ] {
        packed.pack("build", &[&["app:1"][..], words].concat()).expect(2).says(message);
    }
    // A script serves as a launcher, and a builder without one is told of before anything runs.
    let text =
        packed.0.read("Buildfile").replace("COPY --chmod=0755 launcher /cnb/lifecycle/launcher", "RUN true");
    packed.0.write("Buildfile", text);
    packed.0.rb(["+builder"]).expect(0);
    packed
        .pack("build", &["app:1"])
        .expect(2)
        .says("the builder `builder:1` has no `/cnb/lifecycle/launcher`")
        .says("--launcher=rb")
        .hides("detect test/one");
    packed.pack("build", &["app:1", "--launcher", "launcher"]).expect(0);
    assert_eq!(packed.0.rb(["run", "app:1"]).expect(0).stdout, "launched as web: hello world\n");
}

#[test]
fn an_app_in_a_build_file_starts_by_a_given_launcher() {
    let Some(packed) = Packed::new() else { return };
    packed.0.write("own", "#!/bin/sh\necho \"mine as ${0##*/}\"\n").write("text", "hello");
    let from = "FROM BUILDPACKS --builder=builder:1 --env FOR=tests --env USERS=all";
    packed.0.write(
        "Buildfile",
        format!(
            "VERSION 1\nmade:\n    FROM scratch\n    COPY own /bin/own\n    SAVE ARTIFACT /bin/own\n\
             file:\n    {from} --launcher=own ./app\n    SAVE IMAGE file:1\n\
             artifact:\n    {from} --launcher=+made/own ./app\n    SAVE IMAGE artifact:1\n\
             builders:\n    ARG whose=builder\n    {from} --launcher=$whose ./app\n    SAVE IMAGE builders:1\n\
             ours:\n    {from} --launcher=rb ./app\n\
             text:\n    {from} --launcher=text ./app\n\
             none:\n    {from} --launcher=none ./app\n"
        ),
    );
    for (target, said) in [
        ("file", "mine as web\n"),
        ("artifact", "mine as web\n"),
        ("builders", "launched as web: hello world\n"),
    ] {
        packed.0.rb([format!("+{target}")]).expect(0);
        assert_eq!(packed.0.rb(["run", &format!("{target}:1")]).expect(0).stdout, said);
    }
    for (target, place, message) in [
        ("+ours", "Buildfile:17", "this build of rb has no launcher with it"),
        ("+text", "Buildfile:19", "it is no program of Linux"),
        ("+none", "Buildfile:21", "none"),
    ] {
        packed.0.rb([target]).expect(2).says(place).says(message).hides("detect test/one");
    }
}
