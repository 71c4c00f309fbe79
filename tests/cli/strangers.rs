//! What a stranger's tree cannot do to whoever builds it.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

use crate::env::{TestEnv, is_root};

/// A tree that names itself through `..` does not free its own links.
#[test]
fn links_lead_nowhere_else_however_the_project_is_named() {
    let env = TestEnv::new();
    let own = env.project().file_name().expect("has a name").to_string_lossy().into_owned();
    let read = "VERSION 1\nm:\n    FROM @host\n    LET x={{ read('abs/f') }}\n    RUN echo \"$x\"\n";
    let save = "s:\n    FROM @host\n    RUN echo k > /k\n    SAVE ARTIFACT /k AS LOCAL abs/k\n";
    env.write("ws/p/Buildfile", format!("{read}{save}"))
        .write("ws/rb.toml", "")
        .write("outside/f", "hunter2");
    symlink(env.project().join("outside"), env.project().join("ws/p/abs")).expect("links");
    let up = "../".repeat(12);
    for (name, reference) in
        [("n", format!("{up}proc/self/cwd/p")), ("o", format!("../../{own}/ws/p")), ("q", "./p".to_owned())]
    {
        let text = format!("VERSION 1\n{name}:\n    BUILD {reference}+m\nw:\n    BUILD {reference}+s\n");
        env.write("ws/Buildfile", text);
        env.rb_in("ws", [format!("+{name}")]).expect(2).hides("hunter2");
        let run = env.rb_in("ws", ["+w"]);
        assert_ne!(run.code, 0, "{reference}: {}", run.stderr);
        assert!(!env.has("outside/k"), "{reference}");
    }
}

#[test]
fn a_link_beside_the_command_line_brings_nothing_in() {
    let env = TestEnv::new();
    env.write("ws/Buildfile", "VERSION 0.8\nt:\n    FROM @host\n    ARG KEY\n    RUN echo \"got $KEY\"\n")
        .write("outside", "KEY=hunter2\n");
    for name in [".arg", ".secret"] {
        let link = env.project().join("ws").join(name);
        symlink(env.project().join("outside"), &link).expect("links");
        env.rb_in("ws", ["+t"]).expect(2).hides("hunter2").says("leads out of the working directory");
        std::fs::remove_file(link).expect("removes");
    }
}

#[test]
fn a_secret_file_is_known_by_every_name() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FROM @host\n    ENV A={{ read('other') }}\n    RUN echo $A\n")
        .write(".secret", "TOKEN=hunter2\n");
    symlink(".secret", env.project().join("other")).expect("links");
    env.rb(["+t"]).expect(2).hides("hunter2").says("holds secrets");
}

#[test]
fn artifacts_lend_no_rights_and_are_no_devices() {
    if !is_root() {
        eprintln!("not shown: only root makes devices");
        return;
    }
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 0.8\nFROM @host\ns:\n    RUN mkdir /o && cp /bin/true /o/suid && chmod 6755 /o/suid\n    SAVE ARTIFACT /o AS LOCAL out\nd:\n    RUN mkdir /o && mknod /o/n c 1 3\n    SAVE ARTIFACT /o AS LOCAL dev\n",
    );
    env.rb(["+s"]).expect(0);
    let mode = std::fs::metadata(env.project().join("out/suid")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "{mode:o}");
    env.rb(["+d"]).expect(2).says("would be a device");
    let there = std::fs::symlink_metadata(env.project().join("dev/n"));
    assert!(!there.is_ok_and(|metadata| metadata.file_type().is_char_device()));
}

#[test]
fn comments_reach_no_terminal_as_commands() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\n# t does \u{1b}]0;DOC\u{7}this\u{202e}\nt:\n    FROM scratch\n");
    for args in [&["ls"][..], &["ls", "--long"], &["doc"], &["+t", "--help"]] {
        let run = env.rb(args).expect(0);
        assert!(
            run.stdout.contains("this") && !run.stdout.contains(['\u{1b}', '\u{7}', '\u{202e}']),
            "{args:?}"
        );
    }
}
