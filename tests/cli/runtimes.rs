//! `--runtime`: steps that crun, runc or gVisor's runsc runs, and what a user sees of that.

use crate::env::{TestEnv, Who, is_root};
use crate::run::{made, shell};

/// The runtimes of this machine that share its kernel; says which there are not.
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

/// gVisor, which no distribution packs: by the variable RUNSC, or where programs are put by hand.
#[expect(clippy::disallowed_methods, reason = "a program that is not installed has to be named somewhere")]
fn gvisor() -> Option<String> {
    let named = std::env::var("RUNSC").unwrap_or_else(|_| "/usr/local/bin/runsc".to_owned());
    if !is_root() || !std::path::Path::new(&named).is_file() {
        eprintln!("stepping aside: this needs root, and gVisor's runsc, which RUNSC may name");
        return None;
    }
    Some(named)
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

/// Builds a target and lists its tree: names, modes, owners, links and texts.
fn listed(env: &TestEnv, runtime: &str, target: &str) -> Vec<String> {
    let words = ["--runtime", runtime, "--secret", "TOKEN=hunter2", "-o", "type=tar,dest=made.tar", target];
    env.rb(words).expect(0).hides("hunter2");
    let bytes = std::fs::read(env.project().join("made.tar")).expect("reads");
    let mut entries = Vec::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().expect("is a tar") {
        let mut entry = entry.expect("is whole");
        let (path, header) = (entry.path().expect("is text").into_owned(), entry.header().clone());
        let mut content = String::new();
        if !path.ends_with("busybox") {
            std::io::Read::read_to_string(&mut entry, &mut content).expect("is text");
        }
        let link = entry.link_name().expect("is text").map(std::borrow::Cow::into_owned);
        let owner = (header.uid().expect("has one"), header.gid().expect("has one"));
        let mode = header.mode().expect("has one");
        entries.push(format!("{} {mode:o} {owner:?} {link:?} {content}", path.display()));
    }
    entries
}

#[test]
fn gvisor_makes_the_same_tree() {
    let (Some(runsc), Some(env)) = (gvisor(), project()) else { return };
    let steps = "    WORKDIR /w\n    COPY in.txt .\n\
        \x20   RUN --mount=type=cache,target=/cache test ! -e /cache/x && echo x > /cache/x && echo y > /tmp/y\n\
        \x20   RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/tmp/t cat /cache/x && echo z > /tmp/t/z && cat /tmp/y\n\
        \x20   RUN --secret TOKEN test ${#TOKEN} = 7 && test $(cat /run/secrets/TOKEN) = $TOKEN && echo $TOKEN\n\
        \x20   RUN --network=none id > ids && env > environment && busybox ln in.txt hard && busybox ln -s in.txt soft && busybox rm /bin/wc && \
        busybox chown 12:34 ids && busybox chmod 4750 ids && mkdir -p /d/e && busybox mv /d /f\n";
    env.write("Buildfile", format!("VERSION 1\nt:\n    FROM oci-layout:./base:test\n{steps}"));
    let own = listed(&env, "rb", "+t");
    env.rb(["cache", "prune", "--all"]).expect(0);
    assert_eq!(own, listed(&env, &runsc, "+t"));
}

/// What a step leaves in a `/tmp` that is empty, or in none, gVisor would cover by memory.
#[test]
fn gvisor_keeps_what_is_left_in_tmp() {
    let (Some(runsc), Some(env)) = (gvisor(), project()) else { return };
    for (without, step) in [
        ("true", "echo x > /tmp/x"),
        ("busybox rmdir /tmp", "true"),
        ("busybox rmdir /tmp", "mkdir -p /tmp && echo x > /tmp/x"),
        ("busybox rmdir /tmp && echo x > /tmp", "cat /tmp"),
    ] {
        let text = format!(
            "VERSION 1\nbefore:\n    FROM oci-layout:./base:test\n    RUN {without}\nt:\n    FROM +before\n    RUN --no-cache {step}\n"
        );
        env.write("Buildfile", text);
        // It cannot be removed under gVisor, which has a mount there either way.
        let own = listed(&env, "rb", "+t");
        assert_eq!(own, listed(&env, &runsc, "+t"), "{without}; {step}");
    }
    let linked = "busybox rmdir /tmp && mkdir -p /var/tmp && busybox ln -s /var/tmp /tmp";
    env.write("Buildfile", env.read("Buildfile").replace("busybox rmdir /tmp && echo x > /tmp", linked));
    env.rb(["+before"]).expect(0);
    env.rb(["--runtime", &runsc, "+t"]).expect(2).says("runsc").says("/tmp");
}

#[test]
fn gvisor_ends_steps_as_ever() {
    let (Some(runsc), Some(env)) = (gvisor(), project()) else { return };
    let target =
        |name: &str, step: &str| format!("{name}:\n    FROM oci-layout:./base:test\n    RUN {step}\n");
    let targets = [
        ("fails", "echo said; exit 7"),
        ("slow", "--timeout=1s sleep 600"),
        ("lost", "[\"/bin/nothing\"]"),
        ("folder", "[\"/etc\"]"),
        ("hungry", "x=x; while :; do x=$x$x$x$x; done"),
    ];
    let text: String = targets.iter().map(|(name, step)| target(name, step)).collect();
    env.write("Buildfile", format!("VERSION 1\n{text}"));
    let rb = |words: &[&str]| env.rb([&["--runtime", runsc.as_str()], words].concat());
    rb(&["+fails"]).expect(1).says("exit code 7").says("said").says("Buildfile:4");
    rb(&["+slow"]).expect(1).says("it took longer than 1s");
    rb(&["+lost"]).expect(1).says("`/bin/nothing` was not found");
    rb(&["+folder"]).expect(1).says("`/etc` cannot be executed");
    let run = rb(&["--memory=64m", "+hungry"]);
    if run.stderr.contains("control group") {
        eprintln!("stepping aside: this needs control groups: {}", run.stderr);
    } else {
        run.expect(1).says("memory limit of 64 MiB");
    }
}
