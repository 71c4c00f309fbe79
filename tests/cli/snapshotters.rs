//! Roots of steps by overlayfs and by copies: the same images; and what is told where only copies are possible.

use std::process::{Command, Stdio};

use crate::env::{Run, TestEnv, Who, is_root};

const BUILD: &str = "VERSION 1\n\
    app:\n    FROM oci-layout:./base:test\n    RUN mkdir /d && echo 1 > /d/a && echo 1 > /d/b && busybox ln /d/a /d/link\n    \
    RUN busybox rm /d/b && busybox chmod 600 /etc/passwd && busybox chown 7:8 /tmp\n    \
    RUN busybox rm -r /d && mkdir /d && echo 2 > /d/c && busybox ln -s /d/c /l\n    SAVE IMAGE app:1\n\
    t:\n    FROM +app\n    RUN cat /d/c > /out\n    SAVE ARTIFACT /out AS LOCAL out\n";

fn project(who: Who) -> Option<TestEnv> {
    let env = TestEnv::of(who);
    if !env.busybox_layout("base") {
        return None;
    }
    env.write("Buildfile", BUILD);
    env.hand_over();
    Some(env)
}

/// Runs `rb` with a state directory that is an overlay itself, as in a container: on it another cannot be written.
fn on_overlay(env: &TestEnv, variables: &[(&str, &str)], words: &[&str]) -> Run {
    let rb = env.command(words);
    let mut command = Command::new("unshare");
    let script = "cd \"$HOME\" && mkdir -p low up work && mount -t overlay none -o lowerdir=low,upperdir=up,workdir=work \
        \"$RB_ROOT\" && cd - > /dev/null && exec \"$0\" \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    command.arg(rb.get_program()).args(rb.get_args()).current_dir(env.project()).stdin(Stdio::null());
    command.env_clear();
    for (name, value) in rb.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    crate::env::ended(command.envs(variables.iter().copied()))
}

#[test]
fn images_are_the_same_by_overlayfs_and_by_copies() {
    for who in [Who::Tester, Who::SingleId] {
        let mut layouts = Vec::new();
        for way in ["overlayfs", "native"] {
            let Some(env) = project(who) else { return };
            if who != Who::Tester {
                if !is_root() {
                    eprintln!("stepping aside: this needs root, to become others");
                    return;
                }
                // Nobody but root is there to be given something.
                env.write("Buildfile", BUILD.replace("busybox chown 7:8 /tmp", "true"));
                env.hand_over();
            }
            let with = [("RB_SNAPSHOTTER", way)];
            env.rb_with(&with, ["-o", "type=oci,tar=false,dest=layout", "+app"]).expect(0).hides("overlayfs");
            layouts.push(env.read("layout/index.json"));
            // And again, from what is stored.
            env.rb_with(&with, ["+t"]).expect(0);
            assert_eq!(env.read("out"), "2\n");
        }
        let [mounted, copied] = layouts.try_into().expect("two");
        assert_eq!(mounted, copied, "{who:?}");
    }
}

#[test]
fn where_overlayfs_is_refused_roots_are_copied_and_it_is_told_once() {
    if !is_root() {
        eprintln!("stepping aside: this needs root, to mount");
        return;
    }
    let Some(env) = project(Who::Tester) else { return };
    let run = on_overlay(&env, &[], &["+t"]).expect(0);
    assert_eq!(env.read("out"), "2\n");
    let told = run.stderr.matches("overlayfs is not available here").count();
    assert_eq!(told, 1, "{}", run.stderr);
    run.says("each step copies its root");
    // Who asks for it is told nothing, and who asks for the other gets no build.
    on_overlay(&env, &[("RB_SNAPSHOTTER", "native")], &["+t"]).expect(0).hides("overlayfs");
    let run = on_overlay(&env, &[("RB_SNAPSHOTTER", "overlayfs")], &["+t"]).expect(3);
    run.says("layers cannot be mounted on one another").says("RB_SNAPSHOTTER=auto");
    let told = on_overlay(&env, &[], &["doctor"]).expect(0).stdout;
    assert!(told.contains("each step copies its root"), "{told}");
    let told = on_overlay(&env, &[("RB_SNAPSHOTTER", "overlayfs")], &["doctor"]).expect(3).stdout;
    assert!(told.contains("forbids copies") && told.contains("builds cannot work here"), "{told}");
}

#[test]
fn the_file_of_settings_says_which() {
    let env = TestEnv::new();
    env.write("config.toml", "snapshotter = \"native\"\n");
    let file = env.project().join("config.toml").display().to_string();
    let with = [("RB_CONFIG", file.as_str())];
    assert_eq!(env.rb_with(&with, ["config", "snapshotter"]).expect(0).stdout, "native\n");
    let told = env.rb_with(&with, ["doctor"]).expect(0).stdout;
    assert!(told.contains("`snapshotter` is set to native"), "{told}");
    env.write("config.toml", "snapshotter = \"zfs\"\n");
    env.rb_with(&with, ["config"]).expect(2).says("zfs");
    env.rb_with(&[("RB_SNAPSHOTTER", "zfs")], ["+t"]).expect(2).says("one of auto, overlayfs, native");
}
