//! Which build file is meant, where its workspace ends, and what an export leaves alone.

use std::os::unix::fs::{chown, symlink};

use crate::env::{TestEnv, is_root};

/// A target that writes `word` into `out` beside its build file.
fn writes(word: &str) -> String {
    format!(
        "VERSION 1\nt:\n    FROM @host\n    RUN echo {word} > /out\n    SAVE ARTIFACT /out AS LOCAL out\n"
    )
}

#[test]
fn a_target_alone_is_of_the_nearest_build_file_above() {
    let env = TestEnv::new();
    env.write("Buildfile", writes("top")).write("a/b/c/f", "").write("d/Buildfile", writes("d"));
    // Without a mark of a workspace, nothing above is looked at.
    env.rb_in("a/b/c", ["+t"]).expect(2).says("Buildfile");
    env.write("rb.toml", "");
    env.rb_in("a/b/c", ["+t"]).expect(0);
    assert_eq!(env.read("out"), "top\n");
    assert!(!env.has("a/b/c/out"));
    env.rb_in("a/b/c", ["//d+t"]).expect(0);
    assert_eq!(env.read("d/out"), "d\n");
    assert!(env.rb_in("a/b", ["ls"]).expect(0).stdout.contains("+t"));
    env.rb_in("a/b", [".+t"]).expect(2).says("Buildfile");
    env.write("a/rb.toml", "");
    env.rb_in("a/b/c", ["+t"]).expect(2).says("Buildfile");
    if is_root() {
        std::fs::remove_file(env.project().join("a/rb.toml")).expect("removes");
        chown(env.project().join("Buildfile"), Some(61_001), None).expect("gives away");
        env.rb_in("a/b/c", ["+t"]).expect(2).says("belongs to another user").says("name its folder");
        env.rb(["+t"]).expect(0);
    }
}

#[test]
fn files_count_from_where_the_user_stands() {
    let env = TestEnv::new();
    let text = "VERSION 0.8\nt:\n    FROM @host\n    ARG A=none\n    RUN echo $A > /out\n    SAVE ARTIFACT /out AS LOCAL out\n";
    env.write("Buildfile", text).write("rb.toml", "").write(".arg", "A=top\n").write("sub/.arg", "A=sub\n");
    env.rb_in("sub", ["+t"]).expect(0);
    assert_eq!(env.read("out"), "sub\n");
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("out"), "top\n");
}

#[test]
fn the_projects_settings_are_found_at_the_root_and_only_take_away() {
    let env = TestEnv::new();
    env.write("sub/Buildfile", "VERSION 1\nt:\n    LOCALLY\n    RUN true\n");
    env.rb(["./sub+t"]).expect(0);
    env.write("rb.toml", "[capabilities]\nlocally = false\n");
    env.rb(["./sub+t"]).expect(2).says("LOCALLY is not allowed in this project");
    env.rb_in("sub", ["+t"]).expect(2).says("LOCALLY is not allowed in this project");
    env.write("rb.toml", "platfroms = []\n");
    env.rb(["./sub+t"]).expect(2).says("rb.toml:1:1").says("platforms");
    env.write("rb.toml", "platforms = [\"linux/s390x\"]\n");
    env.rb(["./sub+t"]).expect(2).says("linux/s390x");
    let host = rb_oci::Platform::host().to_string();
    env.rb(["--platform", &host, "./sub+t"]).expect(0);
    env.write("rb.toml", format!("platforms = [\"linux/s390x\", \"{host}\"]\n"));
    env.rb(["./sub+t"]).expect(0);
}

#[test]
fn links_do_not_lead_out_of_the_workspace() {
    let env = TestEnv::new();
    env.write("outside/Buildfile", writes("outside")).write("outside/f", "private\n").write("ws/rb.toml", "");
    let at = |path: &str| env.project().join(path);
    symlink("../outside", at("ws/link")).expect("links");
    symlink(at("outside/f"), at("ws/absolute")).expect("links");
    env.write("ws/Buildfile", "VERSION 1\nt:\n    BUILD ./link+t\nu:\n    FROM scratch\n    COPY link/f /f\n    SAVE ARTIFACT /f AS LOCAL out\nv:\n    FROM scratch\n    COPY absolute /f\n    SAVE ARTIFACT /f AS LOCAL out\nw:\n    BUILD ../outside+t\n");
    env.rb(["./ws+t"]).expect(2).says("symbolic link");
    for target in ["./ws+u", "./ws+v"] {
        let run = env.rb([target]);
        assert_ne!(run.code, 0, "{target}: {}", run.stderr);
        assert!(!env.has("ws/out"), "{target}");
    }
    env.rb(["./ws+w"]).expect(0);
    assert_eq!(env.read("outside/out"), "outside\n");
}

#[test]
fn an_export_never_replaces_what_nobody_wants_to_lose() {
    let env = TestEnv::new();
    env.write("ws/rb.toml", "").write("ws/precious", "stays").write("ws/sub/Buildfile", "VERSION 1\nt:\n    FROM @host\n    ARG to\n    RUN mkdir /d && echo new > /d/f\n    SAVE ARTIFACT --force /d AS LOCAL $to\n");
    let top = env.project().parent().expect("has one").to_owned();
    std::fs::write(top.join("home/letter"), "stays").expect("writes");
    let build = |to: &str| env.rb_in("ws/sub", ["+t".to_owned(), format!("--to={to}")]);
    for (to, what) in [
        (top.join("home"), "your home"),
        (top.clone(), "it holds"),
        (env.project().join("ws"), "the workspace"),
        (env.project().join("ws/sub"), "the working directory"),
        (env.project(), "it holds"),
        (env.state(), "the state directory of rb"),
        (env.state().join("snapshots"), "the state directory of rb"),
        ("/proc".into(), "where something is mounted"),
    ] {
        build(&to.to_string_lossy()).expect(2).says("is not replaced").says(what);
    }
    assert_eq!(std::fs::read_to_string(top.join("home/letter")).expect("reads"), "stays");
    assert_eq!(env.read("ws/precious"), "stays");
    env.write("ws/sub/out/old", "goes");
    build("out").expect(0);
    assert!(env.has("ws/sub/out/f") && !env.has("ws/sub/out/old"));
    build(&top.join("home/new").to_string_lossy()).expect(0);
}
