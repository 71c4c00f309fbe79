//! What `rb doctor` finds out about a machine that refuses something; and that a build which fails for it says the same.

use std::process::{Command, Stdio};

use crate::env::{Run, TestEnv, Who, ended, is_root};

/// Runs `rb` behind a shell's preparations, in a mount namespace of its own with what `unshare` is told besides.
fn prepared(env: &TestEnv, unshare: &[&str], script: &str, words: &[&str]) -> Run {
    let rb = env.command(words);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).args(unshare);
    command.args(["sh", "-c", &format!("{script} exec \"$0\" \"$@\"")]);
    command.arg(rb.get_program()).args(rb.get_args()).current_dir(env.project()).stdin(Stdio::null());
    command.env_clear();
    for (name, value) in rb.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    ended(&mut command)
}

/// What was said on stderr, without the ends of lines.
fn in_a_line(run: &Run) -> String {
    run.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn a_machine_that_allows_all_is_told_so() {
    let env = TestEnv::new();
    let told = env.rb(["doctor"]).expect(0).stdout;
    for name in ["kernel", "many layers", "security modules", "container", "cgroups", "layers there"] {
        assert!(told.contains(name), "{name}: {told}");
    }
    let json = env.rb(["doctor", "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("is JSON");
    let names = json["checks"].as_array().expect("a list").iter().map(|check| check["name"].clone());
    assert!(names.into_iter().any(|name| name == "security modules"));
}

#[test]
fn a_machine_without_user_namespaces_is_told_with_the_setting() {
    if !is_root() {
        eprintln!("stepping aside: this needs root, to take rights away");
        return;
    }
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM scratch\n    COPY Buildfile /\n    SAVE ARTIFACT /Buildfile\n",
    );
    // In a namespace of its own the setting is its own, and a root that may not mount needs one more.
    let own = ["--user", "--map-root-user"];
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
        exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$0\" \"$@\" ;";
    let run = prepared(&env, &own, script, &["doctor"]).expect(3);
    assert!(run.stdout.contains("user.max_user_namespaces is 0"), "{run:?}");
    assert!(run.stdout.contains("echo user.max_user_namespaces=15000 | sudo tee -a"), "{run:?}");
    // What but comes of it would lead astray.
    for astray in ["modprobe", "--step-network=host", "layers there"] {
        assert!(!run.stdout.contains(astray), "{astray}: {run:?}");
    }
    let run = prepared(&env, &own, script, &["+t"]).expect(3);
    let said = in_a_line(&run);
    assert!(said.contains("user.max_user_namespaces is 0"), "{said}");
    assert!(said.contains("sudo sysctl --system"), "{said}");
}

#[test]
fn a_container_that_hides_parts_of_proc_is_told_with_its_options() {
    if !is_root() {
        eprintln!("stepping aside: this needs root, to mount and to become others");
        return;
    }
    let env = TestEnv::of(Who::SingleId);
    if !env.busybox_layout("base") {
        return;
    }
    env.write("Buildfile", "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    RUN --network=none true\n");
    env.hand_over();
    let script = "mount -t tmpfs none /run && : > /run/.containerenv && mount -t tmpfs none /proc/fs &&";
    let run = prepared(&env, &[], script, &["doctor"]).expect(3);
    let told = &run.stdout;
    assert!(told.contains("private /proc") && told.contains("refused by a container of Podman"), "{told}");
    assert!(told.contains("unmask=ALL"), "{told}");
    let run = prepared(&env, &[], script, &["+t"]).expect(3);
    let said = in_a_line(&run);
    assert!(
        said.contains("mount /proc failed") && said.contains("refused by a container of Podman"),
        "{said}"
    );
    assert!(said.contains("unmask=ALL"), "{said}");
}

#[test]
fn somebody_without_subordinate_ids_is_told_how_to_get_some() {
    if !is_root() {
        eprintln!("stepping aside: this needs root, to become others");
        return;
    }
    let env = TestEnv::of(Who::SingleId);
    env.hand_over();
    let told = env.rb(["doctor"]).expect(0).stdout;
    assert!(told.contains("/etc/subuid gives no ids to user 61001"), "{told}");
    assert!(told.contains("echo 61001:") && told.contains("| sudo tee -a /etc/subuid /etc/subgid"), "{told}");
    let env = TestEnv::of(Who::SubIds);
    env.hand_over();
    let told = env.rb(["doctor"]).expect(0).stdout;
    assert!(told.contains("65537 ids"), "{told}");
}
