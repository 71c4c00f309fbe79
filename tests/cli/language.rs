//! The language, end to end: what a Buildfile says is what comes out.

use crate::env::TestEnv;

#[test]
fn artifacts_arrive_on_the_users_disk() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\n\
         gen:\n    FROM @host\n    WORKDIR /w\n    RUN mkdir d && echo one > d/1 && echo two > d/2 && ln -s 1 d/link && chmod +x d/2\n    \
         SAVE ARTIFACT d AS LOCAL out/d\n    SAVE ARTIFACT d/1 renamed AS LOCAL out/\n\
         use:\n    FROM scratch\n    COPY +gen/d /data\n    COPY +gen/renamed /r\n    SAVE ARTIFACT /data/2 two AS LOCAL out/two\n\
         all:\n    BUILD +gen\n    BUILD +use\n",
    );
    env.rb(["+all"]).expect(0);
    assert_eq!(env.read("out/d/1"), "one\n");
    assert_eq!(env.read("out/d/link"), "one\n");
    assert_eq!(env.read("out/two"), "two\n");
    assert_eq!(env.read("out/renamed"), "one\n");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(env.project().join("out/two")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn arguments_environment_and_workdir_reach_the_step() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\n\
         t:\n    FROM @host\n    ARG NAME=world\n    ENV GREETING=\"hello there\"\n    WORKDIR /a/b\n    \
         RUN echo \"$GREETING, $NAME in $(pwd)\" > out\n    SAVE ARTIFACT out AS LOCAL ./\n\
         other:\n    COPY (+t/out --NAME=moon) /out\n",
    );
    env.rb(["+t", "--NAME=you"]).expect(0);
    assert_eq!(env.read("out"), "hello there, you in /a/b\n");
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("out"), "hello there, world in /a/b\n");
}

#[test]
fn projects_reach_one_another_by_folder() {
    let env = TestEnv::new();
    env.write("lib/Buildfile", "VERSION 1\nbuild:\n    FROM @host\n    COPY part .\n    RUN cat part > whole\n    SAVE ARTIFACT whole\n")
        .write("lib/part", "from lib\n")
        .write("app/Buildfile", "VERSION 1\nbuild:\n    FROM scratch\n    COPY ../lib+build/whole /whole\n    SAVE ARTIFACT /whole AS LOCAL whole\n");
    env.rb(["./app+build"]).expect(0);
    assert_eq!(env.read("app/whole"), "from lib\n");
}

#[test]
fn an_oci_layout_is_a_base() {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    env.write(
        "Buildfile",
        "VERSION 1\n\
         t:\n    FROM oci-layout:./base:test\n    RUN test \"$FROM_BASE\" = yes && echo made > /made && id -u > /uid && ls /proc/1 > /dev/null\n    \
         SAVE ARTIFACT /made AS LOCAL made\n    SAVE IMAGE made:latest\n",
    );
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("made"), "made\n");
    let run = env.rb(["run", "made", "cat", "/made", "/uid"]).expect(0);
    assert_eq!(run.stdout, "made\n0\n");
    assert_eq!(env.rb(["run", "made", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(env.rb(["run", "-e", "A=b c", "made", "sh", "-c", "echo $A"]).expect(0).stdout, "b c\n");
}

#[test]
fn a_step_without_network_has_only_its_loopback() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    RUN --network=none cat /proc/net/dev > /dev\
        /null; grep -c : /proc/net/dev > /n; SAVED=1\n    SAVE ARTIFACT /n AS LOCAL n\n",
    );
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("n"), "1\n");
}

#[test]
fn nothing_of_the_host_shows_but_its_software() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    RUN ls -A / /root /home 2>/dev/null > /list || true; ls /proc | grep -c '^[0-9]' > /processes; \
         ! test -e /etc/shadow; test -k /tmp; ! touch /usr/probe 2>/dev/null\n    SAVE ARTIFACT /list AS LOCAL list\n    SAVE ARTIFACT /processes AS LOCAL processes\n",
    );
    env.rb(["+t"]).expect(0);
    let processes: u32 = env.read("processes").trim().parse().expect("a number");
    assert!(processes < 6, "{processes} processes are visible");
    assert!(!env.read("list").contains(".cargo"), "{}", env.read("list"));
}

#[test]
fn compile_and_solve_are_two_halves_of_a_build() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FROM scratch\n    WORKDIR /made\n    COPY f /made/f\n")
        .write("f", "content\n");
    let text = env.rb(["compile", "+t"]).expect(0).stdout;
    assert!(text.contains("copy") && text.contains("local://"), "{text}");
    let json = env.rb(["compile", "--json", "+t"]).expect(0).stdout;
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok_and(|value| value.is_array()), "{json}");
    env.rb(["compile", "--output", "t.pb", "+t"]).expect(0);
    env.rb(["solve", "t.pb", "--local", "context=.", "-o", "type=local,dest=tree"]).expect(0);
    assert_eq!(env.read("tree/made/f"), "content\n");
    env.rb(["solve", "t.pb"]).expect(2).says("context");
}

#[test]
fn ls_shows_targets_with_their_words() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\n# app makes the app.\napp:\n    ARG MODE=debug\n    FROM scratch\nlib:\n    FROM scratch\n");
    let listed = env.rb(["ls"]).expect(0).stdout;
    assert!(
        listed.contains("+app") && listed.contains("makes the app") && listed.contains("+lib"),
        "{listed}"
    );
    let json = env.rb(["ls", "--json"]).expect(0).stdout;
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
}

#[test]
fn globs_and_optional_artifacts_are_written_where_they_belong() {
    let env = TestEnv::new();
    env.write("out/other", "stays").write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    WORKDIR /w\n    RUN touch a.o b.o c.c\n    SAVE ARTIFACT *.o objects/ AS LOCAL out/\n    \
         SAVE ARTIFACT --if-exists nothing AS LOCAL out/nothing\n",
    );
    env.rb(["+t"]).expect(0);
    let mut names: Vec<_> = std::fs::read_dir(env.project().join("out"))
        .expect("lists")
        .map(|entry| entry.expect("lists").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["a.o", "b.o", "other"]);
}

#[test]
fn a_target_without_an_image_is_run_all_the_same() {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM oci-layout:./base\n    ENV A=1\n    CMD [\"sh\", \"-c\", \"echo $A\"]\n",
    );
    assert_eq!(env.rb(["run", "+t"]).expect(0).stdout, "1\n");
}

#[test]
fn a_link_that_is_copied_takes_along_what_it_leads_to() {
    let env = TestEnv::new();
    env.write("real/f", "through a link\n");
    std::os::unix::fs::symlink("real", env.project().join("link")).expect("links");
    env.write("Buildfile", "VERSION 1\nt:\n    FROM scratch\n    COPY link /copied\n    COPY link/f /single\n    SAVE ARTIFACT /copied AS LOCAL out\n");
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("out/f"), "through a link\n");
    env.write("real/f", "changed\n");
    env.rb(["+t"]).expect(0).says("steps run");
    assert_eq!(env.read("out/f"), "changed\n");
}

#[test]
fn copied_files_keep_the_folders_that_are_wanted() {
    let env = TestEnv::new();
    for path in ["src/a.c", "src/deep/b.c", "src/deep/c.h", "docs/x/index.md"] {
        env.write(path, path);
    }
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM scratch\n    COPY --parents src/a.c src/deep docs/./x/*.md /all\n\
         \x20   COPY --parents --if-exists none/x src/*/*.h /may\n    COPY --parents --chmod=0600 +made/kept/./deep/b.c /made\n\
         \x20   SAVE ARTIFACT /all AS LOCAL out/all\n    SAVE ARTIFACT /may AS LOCAL out/may\n    SAVE ARTIFACT /made AS LOCAL out/made\n\
         made:\n    FROM scratch\n    COPY src /s\n    SAVE ARTIFACT /s/* kept/\n",
    );
    env.rb(["+t"]).expect(0);
    for (path, text) in [
        ("all/src/a.c", "src/a.c"),
        ("all/src/deep/b.c", "src/deep/b.c"),
        ("all/src/deep/c.h", "src/deep/c.h"),
        ("all/x/index.md", "docs/x/index.md"),
        ("may/src/deep/c.h", "src/deep/c.h"),
        ("made/deep/b.c", "src/deep/b.c"),
    ] {
        assert_eq!(env.read(&format!("out/{path}")), text, "{path}");
    }
    let there = |path: &str| env.project().join("out").join(path).exists();
    assert!(!there("all/docs") && !there("may/src/a.c") && !there("may/none") && !there("made/a.c"));
}
