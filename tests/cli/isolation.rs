//! `--isolation=chroot`: builds where no sandbox can be made, with the results of those where one can.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::env::{Run, TestEnv, Who, ended, is_root};

const CHROOT: &str = "--isolation=chroot";

const STEPS: &str = "VERSION 1\n\
    image:\n    FROM oci-layout:./base:test\n    WORKDIR /w\n    ENV A=b\n    COPY in.txt .\n\
    \x20   RUN --mount=type=cache,target=/cache,id=one cp in.txt out.txt && echo x >> /cache/x && cat /cache/x > seen && busybox chown 12:34 seen\n\
    \x20   RUN --mount=type=tmpfs,target=/scratch --secret TOKEN test ${#TOKEN} = 7 && echo gone > /scratch/x && echo x > /dev/null && ls / > root\n\
    \x20   RUN busybox rm in.txt && busybox ln -s out.txt link && cat /etc/hosts | wc -l > /dev/null\n\
    \x20   SAVE IMAGE made:latest\n    SAVE ARTIFACT /w AS LOCAL out\n";

fn project() -> Option<TestEnv> {
    if !is_root() {
        eprintln!("stepping aside: this needs root");
        return None;
    }
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return None;
    }
    env.write("Buildfile", STEPS).write("in.txt", "in\n");
    Some(env)
}

/// What was said on stderr, without the ends of lines.
fn in_a_line(run: &Run) -> String {
    run.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn an_image_is_the_same_to_the_byte_and_its_steps_are_found_in_a_chroot_only() {
    let Some(env) = project() else { return };
    let words = |more: &[&str]| {
        let usual = ["--secret", "TOKEN=hunter2", "--epoch=0", "+image"];
        more.iter().chain(&usual).map(|word| (*word).to_owned()).collect::<Vec<_>>()
    };
    env.rb(words(&["--output=type=oci,dest=sandbox.tar"])).expect(0);
    let other = env.state().with_file_name("other");
    let elsewhere = [("RB_ROOT", other.to_str().expect("is text"))];
    let run = env.rb_with(&elsewhere, words(&[CHROOT, "--output=type=oci,dest=chroot.tar"])).expect(0);
    run.says("steps run in a chroot").hides("hunter2");
    let bytes = |name: &str| std::fs::read(env.project().join(name)).expect("reads");
    assert!(bytes("sandbox.tar") == bytes("chroot.tar"), "the images differ");
    // Nobody knows which commands ask for the machine's name or look into /proc: none stands for those of the other kind.
    env.rb_with(&elsewhere, words(&[CHROOT, "--expect-cached"])).expect(0);
    env.rb_with(&elsewhere, words(&["--expect-cached"])).expect(1).says("isolation");
    // The cache outlives the step.
    env.write("in.txt", "another\n");
    env.rb_with(&elsewhere, words(&[CHROOT])).expect(0);
    assert_eq!(env.read("out/seen"), "x\nx\n");
    // No secret is in a file of the state directory.
    let found = Command::new("grep").args(["-r", "-l", "hunter2"]).arg(&other).output().expect("starts");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn a_cache_that_a_step_lost_begins_anew() {
    let Some(env) = project() else { return };
    env.write(
        "Buildfile",
        "VERSION 1\nfill:\n    FROM oci-layout:./base:test\n    RUN --no-cache --mount=type=cache,id=c,target=/c echo x >> /c/x && cp /c/x /seen\n\
         \x20   SAVE ARTIFACT /seen AS LOCAL seen\n\
         lose:\n    FROM oci-layout:./base:test\n    RUN --no-cache --mount=type=cache,id=c,target=/c busybox mv /c /old\n",
    );
    for way in [&["--isolation=sandbox"][..], &[CHROOT]] {
        let fill = || env.rb(way.iter().chain(&["+fill"])).expect(0);
        fill();
        fill();
        assert_eq!(env.read("seen"), "x\nx\n");
        env.rb([CHROOT, "+lose"]).expect(1);
        fill();
        assert_eq!(env.read("seen"), "x\n");
        env.rb(["cache", "prune", "--all"]).expect(0);
    }
}

#[test]
fn what_needs_more_than_a_chroot_is_refused_by_name() {
    let Some(env) = project() else { return };
    env.write(
        "Buildfile",
        "VERSION 1\nnone:\n    FROM oci-layout:./base:test\n    RUN --network=none true\nhost:\n    FROM @host\n    RUN true\n\
         proc:\n    FROM oci-layout:./base:test\n    RUN cat /proc/self/status\nwrites:\n    FROM oci-layout:./base:test\n    RUN echo x >> /etc/hosts\n\
         ends:\n    FROM oci-layout:./base:test\n    RUN echo x >> /etc/hosts; kill -9 $$\n\
         twice:\n    FROM oci-layout:./base:test\n    RUN --mount=type=cache,id=c,target=/a --mount=type=cache,id=c,target=/b true\n\
         out:\n    FROM oci-layout:./base:test\n    RUN echo x > /dev/stdout\n\
         err:\n    FROM oci-layout:./base:test\n    RUN echo told > /dev/stderr; exit 7\n\
         fails:\n    FROM oci-layout:./base:test\n    RUN echo said; exit 7\n",
    );
    let said = |code: i32, words: &[&str]| in_a_line(&env.rb(words).expect(code));
    assert!(said(2, &[CHROOT, "+none"]).contains("keep a command from the network"));
    assert!(said(2, &[CHROOT, "+host"]).contains("show files or devices of this machine"));
    assert!(said(1, &[CHROOT, "+proc"]).contains("a step has no /proc"));
    assert!(said(1, &[CHROOT, "+writes"]).contains("the command changed `/etc/hosts`"));
    assert!(said(1, &[CHROOT, "+ends"]).contains("the command changed `/etc/hosts`"));
    assert!(said(2, &[CHROOT, "+twice"]).contains("show one directory at two places, `/a` and `/b`"));
    assert!(said(1, &[CHROOT, "+out"]).contains("a step has no /dev/stdout"));
    assert!(said(1, &[CHROOT, "+err"]).contains("told"));
    assert!(said(1, &[CHROOT, "+fails"]).contains("exit code 7"));
    assert!(said(2, &[CHROOT, "--memory=1g", "+fails"]).contains("limit the processes"));
    assert!(said(2, &[CHROOT, "--step-network=sandbox", "+fails"]).contains("--step-network=sandbox"));
    assert!(said(2, &[CHROOT, "--runtime=crun", "+fails"]).contains("another runtime"));
    let run = env.rb_with(&[("RB_SNAPSHOTTER", "overlayfs")], [CHROOT, "+fails"]).expect(2);
    assert!(in_a_line(&run).contains("RB_SNAPSHOTTER=overlayfs"));
    let run = env.rb_with(&[("RB_ISOLATION", "none")], ["+fails"]).expect(2);
    run.says("one of sandbox, chroot");
    // Nothing is silent, and nothing happens unasked.
    assert!(!said(1, &["+fails"]).contains("chroot"));
}

#[test]
fn it_is_said_by_variable_or_file_and_told_by_doctor() {
    let Some(env) = project() else { return };
    let told = env.rb(["doctor"]).expect(0).stdout;
    assert!(told.contains("steps run in a sandbox"), "{told}");
    let told = env.rb_with(&[("RB_ISOLATION", "chroot")], ["doctor"]).expect(0).stdout;
    assert!(told.contains("steps run in a chroot, which isolates less: as RB_ISOLATION says"), "{told}");
    env.write("settings.toml", "[steps]\nisolation = \"chroot\"\n");
    let file = env.project().join("settings.toml").display().to_string();
    let with_file = [("RB_CONFIG", file.as_str())];
    let told = env.rb_with(&with_file, ["config"]).expect(0).stdout;
    assert!(told.contains("steps.isolation") && told.contains("settings.toml:2"), "{told}");
    env.rb_with(&with_file, ["--secret", "TOKEN=hunter2", "+image"]).expect(0).says("steps run in a chroot");
    let sandbox = ["--isolation=sandbox", "--no-cache", "--secret", "TOKEN=hunter2", "+image"];
    assert!(!env.rb_with(&with_file, sandbox).expect(0).stderr.contains("chroot"));
    // Somebody else is told what to ask for.
    let env = TestEnv::of(Who::SingleId);
    env.write("Buildfile", STEPS).hand_over();
    let said = in_a_line(&env.rb([CHROOT, "+image"]).expect(3));
    assert!(said.contains("user 61001 is not root") && said.contains("help: "), "{said}");
}

#[test]
fn a_step_is_lent_an_agent() {
    let Some(env) = project() else { return };
    let key = env.state().with_file_name("home").join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("stepping aside: this needs ssh-keygen (Debian: openssh-client)");
        return;
    }
    let step = "RUN --ssh busybox test -S $SSH_AUTH_SOCK && echo \"agent at $SSH_AUTH_SOCK\"";
    env.write(
        "Buildfile",
        format!("VERSION 1\nt:\n    FROM oci-layout:./base:test\n    {step}\n    RUN ls / > /all\n"),
    );
    let lent = format!("default={}", key.display());
    env.rb([CHROOT, "--ssh", &lent, "+t"]).expect(0).says("agent at /run/buildkit/ssh_agent.0");
}

/// What a container of Docker or containerd may do if its user is root.
const CAPABILITIES: &str =
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT";

/// Runs `rb` in a container of runc with the rights of a pod that has none beyond the usual ones. `None` if there is no runc.
fn in_pod(env: &TestEnv, words: &[&str]) -> Option<Run> {
    if !["/usr/sbin/runc", "/usr/bin/runc"].iter().any(|path| Path::new(path).exists()) {
        eprintln!("stepping aside: this needs runc");
        return None;
    }
    let rb = env.command(words);
    let text = |word: &std::ffi::OsStr| word.to_str().expect("is text").to_owned();
    let args: Vec<String> = std::iter::once(rb.get_program()).chain(rb.get_args()).map(text).collect();
    let variables =
        rb.get_envs().filter_map(|(name, value)| Some(format!("{}={}", text(name), text(value?))));
    let held: Vec<String> = CAPABILITIES.split(' ').map(|name| format!("CAP_{name}")).collect();
    let dir = env.state().parent().expect("lies in a folder").to_owned();
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| serde_json::json!({"destination": destination, "type": kind, "source": source, "options": options});
    let dir_text = dir.display().to_string();
    let refused = [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "pivot_root",
        "open_tree",
        "move_mount",
        "fsopen",
        "fsmount",
        "keyctl",
    ];
    let kinds = ["pid", "mount", "ipc", "uts", "network"].map(|kind| serde_json::json!({"type": kind}));
    let config = serde_json::json!({
        "ociVersion": "1.0.2", "root": {"path": "rootfs", "readonly": true}, "hostname": "pod",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": env.project(), "args": args, "env": variables.collect::<Vec<_>>(),
            "capabilities": {"bounding": held, "effective": held, "permitted": held},
        },
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
            mount(&dir_text, "bind", &dir_text, &["rbind", "rw"]),
        ],
        "linux": {
            "namespaces": kinds, "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            ]},
        },
    });
    let bundle = dir.join("bundle");
    std::fs::create_dir_all(bundle.join("rootfs")).expect("makes folders");
    std::fs::write(bundle.join("config.json"), config.to_string()).expect("writes");
    let name = dir.file_name().expect("has a name");
    let script = "mount --rbind / \"$0/rootfs\" && exec runc --root \"$0/state\" run --bundle \"$0\" \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&bundle).arg(name);
    Some(ended(command.stdin(Stdio::null())))
}

#[test]
fn a_pod_without_privileges_builds_and_is_told_how() {
    let Some(env) = project() else { return };
    let words = ["--secret", "TOKEN=hunter2", "--epoch=0", "+image"];
    // Unasked there is no build, but a word about how.
    let Some(run) = in_pod(&env, &words) else { return };
    let said = in_a_line(&run.expect(3));
    assert!(said.contains("user namespaces") && said.contains("--isolation=chroot"), "{said}");
    let told = in_pod(&env, &["doctor"]).expect("there is runc").expect(3).stdout;
    assert!(told.contains("possible, by --isolation=chroot"), "{told}");
    let with_flag = [&[CHROOT, "--output=type=oci,dest=pod.tar"], &words[..]].concat();
    in_pod(&env, &with_flag).expect("there is runc").expect(0).says("steps run in a chroot");
    let other = env.state().with_file_name("other");
    let elsewhere = [("RB_ROOT", other.to_str().expect("is text"))];
    env.rb_with(&elsewhere, [&["--output=type=oci,dest=sandbox.tar"], &words[..]].concat()).expect(0);
    let bytes = |name: &str| std::fs::read(env.project().join(name)).expect("reads");
    assert!(bytes("pod.tar") == bytes("sandbox.tar"), "the images differ");
}
