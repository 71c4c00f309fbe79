//! `--runtime`: steps that crun or runc runs, and what a user sees of that.

use crate::env::{TestEnv, Who, is_root};
use crate::run::{made, shell};

/// The runtimes of this machine; says which there are not.
fn runtimes() -> Vec<&'static str> {
    if !is_root() {
        eprintln!("stepping aside: this needs root");
        return Vec::new();
    }
    let is_there = |name: &&str| {
        let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
        let is_there = places.iter().any(|place| std::path::Path::new(place).join(name).is_file());
        if !is_there {
            eprintln!("stepping aside: this needs {name}");
        }
        is_there
    };
    ["crun", "runc"].into_iter().filter(is_there).collect()
}

const STEPS: &str = "VERSION 1\n\
    t:\n    FROM oci-layout:./base:test\n    WORKDIR /w\n    ENV A=b\n    COPY in.txt .\n\
    \x20   RUN --mount=type=cache,target=/cache id > ids && env > environment && cp in.txt out.txt && echo x > /cache/x\n\
    \x20   RUN --secret TOKEN test ${#TOKEN} = 7 && echo \"$TOKEN\" && busybox ls -l / > listing\n\
    \x20   RUN --network=none busybox ls /sys/class/net > nets\n\
    \x20   SAVE ARTIFACT /w AS LOCAL out\n";

fn project() -> Option<TestEnv> {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return None;
    }
    env.write("Buildfile", STEPS).write("in.txt", "in\n");
    Some(env)
}

#[test]
fn steps_give_the_same_and_are_found_again() {
    let Some(env) = project() else { return };
    let words = |more: &[&'static str]| [more, &["--secret", "TOKEN=hunter2", "+t"]].concat();
    env.rb(words(&[])).expect(0);
    let files = ["ids", "environment", "out.txt", "nets"];
    let own = files.map(|file| env.read(&format!("out/{file}")));
    for runtime in runtimes() {
        let option = ["--runtime", runtime];
        // Found, since the key is the same: the runtime need not even be there.
        env.rb(words(&["--expect-cached", "--runtime", "no-such-runtime"])).expect(0);
        std::fs::remove_dir_all(env.project().join("out")).expect("removes");
        env.rb([&["--no-cache"], &option[..], &["--secret", "TOKEN=hunter2", "+t"]].concat())
            .expect(0)
            .hides("hunter2");
        assert_eq!(own, files.map(|file| env.read(&format!("out/{file}"))), "{runtime}");
        env.rb(words(&["--expect-cached"])).expect(0);
    }
}

#[test]
fn a_step_that_fails_under_a_runtime_fails_as_ever() {
    let Some(env) = project() else { return };
    env.write("Buildfile", "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    RUN echo said; exit 7\nu:\n    FROM oci-layout:./base:test\n    RUN --timeout=1s sleep 600\n");
    for runtime in runtimes() {
        env.rb(["--runtime", runtime, "+t"]).expect(1).says("exit code 7").says("said").says("Buildfile:4");
        env.rb(["--runtime", runtime, "+u"]).expect(1).says("it took longer than 1s");
    }
}

#[test]
fn the_runtime_is_named_by_option_variable_or_file_and_told_by_doctor() {
    let Some(env) = project() else { return };
    env.write("Buildfile", "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    RUN true\n");
    let missing = env.rb(["--runtime", "no-such-runtime", "+t"]).expect(3);
    missing.says("no-such-runtime").says("--runtime");
    env.rb_with(&[("RB_RUNTIME", "true")], ["+t"]).expect(2).says("crun, runc or runsc");
    env.write("settings.toml", "[steps]\nruntime = \"no-such-runtime\"\n");
    let file = env.project().join("settings.toml").display().to_string();
    let with_file = [("RB_CONFIG", file.as_str())];
    env.rb_with(&with_file, ["+t"]).expect(3).says("no-such-runtime");
    let told = env.rb_with(&with_file, ["config"]).expect(0).stdout;
    assert!(told.contains("no-such-runtime") && told.contains("settings.toml:2"), "{told}");
    let told = env.rb_with(&with_file, ["doctor"]).stdout;
    assert!(told.contains("runtime of steps") && told.contains("no-such-runtime"), "{told}");
    // Our own, whatever the file says.
    env.rb_with(&with_file, ["--runtime=rb", "+t"]).expect(0);
    for runtime in runtimes() {
        let told = env.rb_with(&[("RB_RUNTIME", runtime)], ["doctor"]).stdout;
        assert!(told.contains(&format!("{runtime} ")) && told.contains("runs steps"), "{told}");
    }
}

#[test]
fn an_image_is_run_by_a_runtime() {
    for (who, runtime) in runtimes().into_iter().flat_map(|name| [(Who::Tester, name), (Who::SubIds, name)]) {
        let Some(env) = made(who) else { return };
        let script = "echo $X; busybox hostname; exit 5";
        let options = ["--runtime", runtime, "--env", "X=y", "--hostname", "box"];
        assert_eq!(env.rb(shell(&options, script)).expect(5).stdout, "y\nbox\n", "{runtime} {who:?}");
        env.rb(shell(&["--runtime", runtime, "--init"], "true")).expect(2).says(runtime).says("--init");
    }
}
