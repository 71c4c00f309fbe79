//! `RUN --mount=type=bind`, and caches that begin as something.

use std::os::unix::fs::symlink;

use crate::env::TestEnv;

const TARGETS: &str = "VERSION 1
made:
    FROM @host
    RUN mkdir -p /out/deep && echo from-target > /out/file && ln -s ../file /out/deep/link
    SAVE ARTIFACT /out /out
shown:
    FROM @host
    WORKDIR /w
    RUN --mount=type=bind,source=src,target=src cat src/a && ! touch src/b 2>/dev/null && ! rm src/a 2>/dev/null
    RUN test ! -e src
written:
    FROM @host
    RUN --mount=type=bind,source=src,target=/src,rw echo gone > /src/b && rm /src/a
    RUN --mount=type=bind,source=src,target=/src test ! -e /src/b && test -e /src/a
artifact:
    FROM @host
    RUN --mount=type=bind,from=+made/out,target=/a cat /a/deep/link
    RUN --mount=type=bind,from=+made,source=out/file,target=/file cat /file
seeded:
    FROM @host
    RUN --mount=type=cache,id=seed,from=+made,source=out,target=/c cat /c/file && echo more >> /c/file
    RUN --mount=type=cache,id=seed,from=+made/out,target=/c grep more /c/file
asked:
    FROM @host
    IF --mount=type=bind,from=+made/out,target=/a grep -q target /a/file
        RUN echo it-is
    END
link:
    FROM @host
    RUN --mount=type=bind,source=to-src,target=/l cat /l/a
";

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("Buildfile", TARGETS).write("src/a", "from-project\n").write("other", "x");
    symlink("src", env.project().join("to-src")).expect("links");
    env
}

#[test]
fn a_step_is_shown_a_path_of_the_project() {
    let env = project();
    env.rb(["+shown"]).expect(0).says("from-project");
    env.rb(["+written"]).expect(0);
    assert_eq!(env.read("src/a"), "from-project\n");
    assert!(!env.has("src/b"));
    env.rb(["+link"]).expect(0).says("from-project");
}

#[test]
fn the_key_of_a_step_has_what_it_is_shown_and_no_more() {
    let env = project();
    env.rb(["+shown"]).expect(0);
    env.write("other", "changed").write("new", "x");
    env.rb(["--expect-cached", "+shown"]).expect(0);
    env.write("src/a", "changed\n");
    env.rb(["+shown"]).expect(0).says("changed");
}

#[test]
fn artifacts_are_shown_and_caches_begin_as_them() {
    let env = project();
    env.rb(["+artifact"]).expect(0).says("from-target");
    env.rb(["+seeded"]).expect(0).says("more");
    env.rb(["+asked"]).expect(0).says("it-is");
}

#[test]
fn what_a_mount_cannot_be_is_told_at_its_place() {
    let env = project();
    let refused = |mount: &str| {
        env.write("Buildfile", format!("VERSION 1\nt:\n    FROM @host\n    RUN --mount={mount} true\n"));
        env.rb(["+t"]).expect(2).says("Buildfile:4")
    };
    refused("type=bind,source=scr,target=/a").says("did you mean `src`?");
    refused("type=bind,source=../x,target=/a").says("../x");
    refused("type=bind,source=/etc,target=/a").says("/etc");
    refused("type=bind,source=src,target=/").says("nothing can be mounted at `/`");
    refused("type=bind,source=src,target=/proc/x").says("nothing can be mounted at `/proc/x`");
    refused("type=bind,from=+nothing,target=/a").says("nothing");
    refused("type=tmpfs,from=+t,target=/a").says("has no `from`");
    refused("type=cache,source=src,target=/a").says("needs `from`");
    // A target that shows itself never ends.
    refused("type=bind,from=+t,target=/a").says("+t");
}

#[test]
fn a_source_that_is_not_there_is_named_as_it_is_written() {
    let env = project();
    let refused = |name: &str, mount: &str| {
        let own = format!("{name}:\n    FROM @host\n    RUN --mount={mount} true\n");
        env.write("Buildfile", format!("{TARGETS}{own}"));
        let run = env.rb([format!("+{name}")]).expect(2).says("Buildfile:").says("out/nothing");
        run.hides("mount point")
    };
    let mount = "type=bind,from=+made,source=out/nothing,target=/a";
    refused("shows", mount);
    refused("writes", &format!("{mount},rw")).says("source `/out/nothing` of the mount at `/a`");
    refused("below", "type=bind,from=+made/out,source=nothing,target=/a");
    refused("begins", "type=cache,from=+made,source=out/nothing,target=/a,id=none")
        .says("of the mount at `/a`");
}
