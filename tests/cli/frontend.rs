//! `rb` as the frontend of a real buildkitd, as docker starts it for `# syntax=`. `BUILDKIT` names a folder with one, as
//! `tests/peers` makes it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::corpus::peer::Peer;
use crate::engine::{Tells as _, flat, project};
use crate::env::{Run, TestEnv, ended};

/// What the image of this folder's frontend is called in options.
const NAME: &str = "example.com/rb:1";

pub(crate) const BUILDFILE: &str = "\
# syntax=example.com/rb:1
VERSION 1
# ground is what all begin with.
ground:
    FROM scratch
    COPY busybox /bin/sh
    WORKDIR /work
app:
    FROM +ground
    COPY src src
    ARG word=one
    RUN read line < src/a.txt; echo \"$line $word\" > out
    IF read line < src/a.txt
        ENV READ=yes
    END
    RUN echo \"$READ\" > read
    COPY ./lib+made/made .
    ENTRYPOINT [\"/bin/sh\", \"-c\", \"read line < /work/out; echo $line\"]
    SAVE IMAGE made:1
fails:
    FROM +ground
    RUN exit 7
host:
    FROM @host
    RUN true
files:
    FROM +app
    SAVE ARTIFACT out
";

pub(crate) const LIBRARY: &str = "\
VERSION 1
made:
    FROM ../+ground
    COPY --if-exists none* part.txt .
    RUN read line < part.txt; echo \"made of $line\" > made
    SAVE ARTIFACT made
";

/// Puts rb and the libraries that it is linked with, into an image of a layout; returns the digest of its manifest.
pub(crate) fn frontend_image(env: &TestEnv) -> String {
    let folder = env.project().join("image");
    fs::create_dir_all(&folder).expect("makes a folder");
    let rb = folder.join("rb");
    // Its debug information is most of it.
    let strip = Command::new("strip").arg("-o").arg(&rb).arg(env!("CARGO_BIN_EXE_rb")).status();
    if !strip.is_ok_and(|status| status.success()) {
        fs::copy(env!("CARGO_BIN_EXE_rb"), &rb).expect("copies");
    }
    let libraries = Command::new("ldd").arg(&rb).output().expect("ldd starts").stdout;
    let libraries = String::from_utf8(libraries).expect("is text");
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    let mut copies = String::new();
    for path in paths {
        let name = Path::new(path).file_name().expect("is a file").to_string_lossy();
        fs::copy(path, folder.join(&*name)).expect("copies");
        fs::set_permissions(folder.join(&*name), fs::Permissions::from_mode(0o755)).expect("sets");
        copies.push_str(&format!("    COPY {name} {path}\n"));
    }
    let example = include_str!("../../examples/frontend/Buildfile");
    let text = example.replace("    ENTRYPOINT", &format!("{copies}    ENTRYPOINT"));
    fs::write(folder.join("Buildfile"), text).expect("writes");
    let output = "type=oci,dest=../layout,tar=false,compression=uncompressed";
    env.rb_in("image", ["-o", output, "+image"]).expect(0);
    let index: serde_json::Value = serde_json::from_str(&env.read("layout/index.json")).expect("is JSON");
    index["manifests"][0]["digest"].as_str().expect("has a digest").to_owned()
}

/// What a build is asked for: words of buildctl behind those that every build has.
struct Frontend<'a> {
    env: &'a TestEnv,
    daemon: &'a Peer,
    digest: String,
}

impl Frontend<'_> {
    fn build(&self, words: &[&str]) -> Run {
        let mut command = Command::new(self.daemon.programs().join("buildctl"));
        let folder = self.env.state().with_file_name("buildkit");
        command.arg("--addr").arg(crate::corpus::peer::address(&folder)).arg("--timeout=60");
        let stands_for = format!("--opt=context:{NAME}=oci-layout://rb@{}", self.digest);
        command.args(["build", "--progress=plain", "--oci-layout=rb=layout", &stands_for]);
        command.args(["--local=context=.", "--local=dockerfile=.", "--opt=filename=Buildfile"]).args(words);
        ended(command.current_dir(self.env.project()).stdin(Stdio::null()))
    }
}

#[test]
fn a_daemon_builds_what_rb_reads() {
    let Some((env, daemon, _)) = project() else { return };
    env.write("Buildfile", BUILDFILE).write("lib/Buildfile", LIBRARY).write("lib/part.txt", "a part\n");
    let digest = frontend_image(&env);
    let frontend = Frontend { env: &env, daemon: &daemon, digest };
    let source = format!("--opt=source={NAME}");
    let direct = |words: &[&str]| frontend.build(&[&["--frontend=gateway.v0", &source], words].concat());
    let by_syntax = |words: &[&str]| frontend.build(&[&["--frontend=dockerfile.v0"], words].concat());

    // As `docker build -f Buildfile .` has it: the first line says who reads it. The last image is what is built.
    let to = |name: &str| format!("--output=type=local,dest={name}");
    by_syntax(&["--opt=build-arg:word=two", &to("one")]).expect(0);
    assert_eq!(env.read("one/work/out"), "a two\n");
    assert_eq!(env.read("one/work/read"), "yes\n");
    assert_eq!(env.read("one/work/made"), "made of a part\n");
    direct(&["--opt=target=+files", &to("two")]).expect(0);
    assert_eq!(env.read("two/out"), "a one\n");

    // What the image runs with, and labels of the client.
    direct(&["--opt=target=app", "--opt=label:kind=test", "--output=type=oci,dest=app.tar"]).expect(0);
    env.rb(["image", "load", "-i", "app.tar"]);
    let config = env.rb(["compile", "+app"]).expect(0);
    assert!(!config.stdout.is_empty(), "the first line is a comment to rb");
    let tar = fs::read(env.project().join("app.tar")).expect("reads");
    let text = String::from_utf8_lossy(&tar);
    assert!(
        text.contains("\"kind\":\"test\"") && text.contains("\"READ=yes\""),
        "the config is in the archive"
    );

    // What is wrong is told with its lines, by whoever found it.
    let failed = direct(&["--opt=target=fails"]).expect(1);
    failed.tells("exit code: 7").tells("Buildfile:22").tells("RUN exit 7");
    // What was typed and does not fit is told at the target that was meant; what is like none has no place, and is shown at none.
    for build in [&direct as &dyn Fn(&[&str]) -> Run, &by_syntax] {
        build(&["--opt=target=fail"])
            .expect(1)
            .tells("did you mean `+fails`?")
            .tells("Buildfile:20")
            .tells(">>> fails:");
        let nowhere = build(&["--opt=target=nowhere"]).expect(1).tells("there is no target `nowhere`");
        assert!(
            !nowhere.stderr.contains("Buildfile:1") && !nowhere.stderr.contains(">>>"),
            "{}",
            nowhere.stderr
        );
        build(&["--opt=build-arg:wrod=two"])
            .expect(1)
            .tells("Buildfile:8")
            .tells(">>> app:")
            .tells("did you mean `--word`");
    }
    env.write("wrong", BUILDFILE.replace("COPY src src", "COPI src src"));
    direct(&["--opt=filename=wrong"]).expect(1).tells("wrong:10").tells("COPI src src");
    let host = direct(&["--opt=target=host"]).expect(1).tells("FROM @host").tells("COPY what the step needs");
    assert!(host.stderr.contains("Buildfile:24") && !host.stderr.contains("--engine"), "{}", host.stderr);
    // What only builds others leaves nothing, which is told.
    env.write("all", format!("{BUILDFILE}all:\n    BUILD +app\n"));
    let words = ["--opt=filename=all", "--opt=target=all", "--progress=rawjson"];
    let told = direct(&[&words[..], &[&to("none")]].concat()).expect(0);
    let warnings = told.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let warnings = warnings.flat_map(|status| status["warnings"].as_array().cloned().unwrap_or_default());
    let short = |warning: Value| STANDARD.decode(warning["short"].as_str()?).ok();
    let words: Vec<String> =
        warnings.filter_map(short).map(|words| String::from_utf8_lossy(&words).into_owned()).collect();
    assert!(words.iter().any(|words| words.contains("its result is empty")), "{words:?}");
    direct(&["--opt=shm-size=1000000"]).expect(1).tells("shm-size");
    direct(&["--opt=filename=none"]).expect(1).tells("none");

    // Questions.
    let said = direct(&["--opt=requestid=frontend.targets"]).expect(0);
    assert!(
        flat(&said.stdout).contains("app (default)") || flat(&said.stderr).contains("app (default)"),
        "{}\n{}",
        said.stdout,
        said.stderr
    );
    direct(&["--opt=requestid=frontend.other"]).expect(1).tells("unsupported request frontend.other");
    // What is unusual or wrong is an answer of its own.
    let clean = direct(&["--opt=requestid=frontend.lint"]).expect(0);
    assert!(!clean.stdout.contains("WARNING"), "{}", clean.stdout);
    env.write("unusual", BUILDFILE.replace("SAVE IMAGE made:1", "SAVE IMAGE"));
    let found = direct(&["--opt=filename=unusual", "--opt=requestid=frontend.lint"]);
    assert!(flat(&found.stdout).contains("WARNING: rb::evaluate::unnamed_image"), "{found:?}");
}

/// A file in a language whose frontend is BuildKit's own for Dockerfiles, by another name.
const OTHER: &str = "\
# syntax=other:1
FROM scratch AS ground
COPY --chmod=755 busybox /bin/sh
ARG word=one
RUN read line < /bin/none || echo \"$word\" > /made
FROM ground
COPY src /src
LABEL told=yes
FROM ground AS fails
RUN echo last words; exit 7
";

#[test]
fn rb_runs_the_frontend_that_a_file_names() {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    env.write("busybox", busybox.expect("the layout has it")).write("src/a.txt", "a\n");
    fs::set_permissions(env.project().join("busybox"), fs::Permissions::from_mode(0o755)).expect("sets");
    env.write("lib/Buildfile", LIBRARY).write("lib/part.txt", "a part\n");
    env.write("Buildfile", BUILDFILE.replace("example.com/rb:1", "rb-frontend:latest"));
    frontend_image(&env);

    // Our own, which asks while it decides, and whose steps are those of any build.
    env.rb(["build", "-f", "Buildfile", "--build-arg", "word=two", "-o", "one", "."]).expect(0);
    assert_eq!(env.read("one/work/out"), "a two\n");
    assert_eq!(env.read("one/work/read"), "yes\n");
    assert_eq!(env.read("one/work/made"), "made of a part\n");
    let again =
        env.rb(["build", "-f", "Buildfile", "--build-arg", "word=two", "-t", "made:2", "."]).expect(0);
    assert!(again.stderr.contains("nothing to do"), "all is known: {}", again.stderr);
    let told = env.rb(["image", "inspect", "made:2"]).expect(0);
    assert!(told.stdout.contains("READ=yes"), "{}", told.stdout);
    // What is wrong is told as the frontend says it, and a step that failed as any.
    let failed = env.rb(["build", "-f", "Buildfile", "--target", "fails", "."]).expect(1);
    failed.tells("exit code 7").tells("RUN exit 7");
    env.rb(["build", "-f", "Buildfile", "--target", "nowhere", "."]).expect(2).tells("nowhere");
    // Nothing of it shows the frontend this machine.
    env.rb(["build", "-f", "Buildfile", "--target", "host", "."]).expect(2).tells("FROM @host");
    // A program that says nothing is no frontend.
    env.write(
        "silent/Buildfile",
        "VERSION 1\nimage:\n    FROM oci-layout:../base:test\n    \
         ENTRYPOINT [\"/bin/true\"]\n    SAVE IMAGE silent:1\n",
    );
    env.rb(["./silent+image"]).expect(0);
    env.write("silence", "# syntax=silent:1\n");
    env.rb(["build", "-f", "silence", "."])
        .expect(3)
        .tells("returned no result")
        .tells("--> frontend silent:1");
}

#[test]
fn rb_runs_a_frontend_of_others() {
    let program = std::env::vars_os()
        .find(|(name, _)| name == "BUILDKIT")
        .map(|(_, folder)| Path::new(&folder).join("dockerfile-frontend"));
    let Some(program) = program.and_then(|path| fs::read(path).ok()) else {
        eprintln!("stepping aside: BUILDKIT names no folder with dockerfile-frontend");
        return;
    };
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    env.write("busybox", busybox.expect("the layout has it")).write("src/a.txt", "a\n");
    env.write("other/program", program);
    for path in ["busybox", "other/program"] {
        fs::set_permissions(env.project().join(path), fs::Permissions::from_mode(0o755)).expect("sets");
    }
    let text = "VERSION 1\nimage:\n    FROM scratch\n    COPY program /program\n    ENTRYPOINT [\"/program\"]\n    \
                LABEL moby.buildkit.frontend.network.none=true\n    SAVE IMAGE other:1\n";
    env.write("other/Buildfile", text).rb(["./other+image"]).expect(0);
    env.write("Dockerfile", OTHER);
    env.rb(["build", "--target", "ground", "--build-arg", "word=two", "-o", "made", "."]).expect(0);
    assert_eq!(env.read("made/made"), "two\n");
    let failed = env.rb(["build", "--target", "fails", "."]).expect(1);
    failed.tells("exit code 7").tells("RUN echo last words; exit 7").tells("last words");
    env.write("Dockerfile", OTHER.replace("LABEL told", "LABLE told"));
    env.rb(["build", "."]).expect(2).tells("LABLE");
}

#[test]
fn who_types_it_is_told_who_does() {
    let env = TestEnv::new();
    env.rb(["frontend"]).expect(2).tells("is started by BuildKit");
}
