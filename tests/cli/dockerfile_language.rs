//! Dockerfiles in build files: `FROM DOCKERFILE`, and stages as targets.

use std::os::unix::fs::PermissionsExt as _;

use crate::env::{Run, TestEnv};

/// A Dockerfile whose stages run their steps in a shell that is all they have.
const DOCKERFILE: &str = "\
# check=skip=all
# tools has a shell.
FROM scratch AS tools
COPY --chmod=755 busybox /bin/sh
ENV TOOLS=here

FROM tools AS build
# MODE says how.
ARG MODE=debug
COPY main.txt /src/
RUN read line < /src/main.txt && echo \"$line $MODE\" > /out

FROM scratch AS Other
COPY --from=build /out /other

FROM tools
COPY --from=build /out /app
ENTRYPOINT [\"/bin/sh\", \"-c\", \"read line < /app; echo $line\"]
";

/// A project with the folder `web` for contexts; none where there is no busybox.
fn project() -> Option<TestEnv> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
    let Some(busybox) = busybox else {
        eprintln!("stepping aside: there is no busybox (Debian: busybox-static)");
        return None;
    };
    let env = TestEnv::new();
    env.write("web/busybox", busybox).write("web/Dockerfile", DOCKERFILE).write("web/main.txt", "main\n");
    Some(env)
}

fn nothing_runs(env: &TestEnv, words: &[&str]) -> Run {
    env.rb(["--expect-cached"].iter().chain(words)).expect(0)
}

#[test]
fn what_rb_build_has_made_is_not_made_again() {
    let Some(env) = project() else { return };
    env.write(
        "Buildfile",
        "VERSION 1\n\
         app:\n    FROM DOCKERFILE ./web\n    SAVE IMAGE app:1\n\
         loud:\n    ARG mode=debug\n    FROM DOCKERFILE --build-arg MODE=$mode --target=build ./web\n    SAVE ARTIFACT /out AS LOCAL got/\n\
         all:\n    BUILD ./web:Dockerfile+build\n    BUILD ./web:Dockerfile+other\n    BUILD +app\n",
    );
    env.rb(["build", "-t", "plain:1", "web"]).expect(0);
    env.rb(["build", "--target", "other", "web"]).expect(0);
    nothing_runs(&env, &["+all"]);
    env.rb(["+app"]).expect(0);
    assert_eq!(env.rb(["run", "app:1"]).expect(0).stdout, "main debug\n");
    let config = |name: &str| {
        let told = env.rb(["image", "inspect", name]).expect(0).stdout;
        let told: serde_json::Value = serde_json::from_str(&told).expect("is JSON");
        told[0]["config"]["config"].clone()
    };
    assert!(config("app:1")["Entrypoint"].is_array());
    assert_eq!(config("app:1"), config("plain:1"));
    // Another argument is another step, and what it does not reach stays.
    env.rb(["--expect-cached", "+loud", "--mode=fast"]).expect(1);
    env.rb(["+loud", "--mode=fast"]).expect(0);
    assert_eq!(env.read("got/out"), "main fast\n");
    nothing_runs(&env, &["./web:Dockerfile+build", "--MODE=fast"]);
}

#[test]
fn a_stage_is_a_target_wherever_one_can_stand() {
    let Some(env) = project() else { return };
    env.write(
        "Buildfile",
        "VERSION 1\n\
         IMPORT ./web:Dockerfile AS web\n\
         from:\n    FROM web+build --MODE=from\n    RUN read line < /out && echo \"$line $TOOLS\" > /said\n    SAVE ARTIFACT /said AS LOCAL said\n\
         copy:\n    FROM scratch\n    COPY (./web:Dockerfile+build/out --MODE=copy) web+other/other /got/\n    SAVE ARTIFACT /got AS LOCAL got\n\
         all:\n    BUILD +from\n    BUILD +copy\n    BUILD web+default\n",
    );
    env.rb(["+all"]).expect(0);
    assert_eq!(env.read("said"), "main from here\n");
    assert_eq!(
        (env.read("got/out"), env.read("got/other")),
        ("main copy\n".to_owned(), "main debug\n".to_owned())
    );
    nothing_runs(&env, &["+all"]);
    // On the command line, and from within the folder.
    env.rb(["./web:Dockerfile+build", "--MODE=typed"]).expect(0);
    env.rb_in("web", ["--artifact", ":Dockerfile+build/out", "out"]).expect(0);
    assert_eq!(env.read("web/out"), "main debug\n");
    env.rb(["./web:Dockerfile+build", "--MOED=x"]).expect(2).says("did you mean `--MODE`?");
    env.rb(["./web:Dockerfile+biuld"]).expect(2).says("did you mean `./web:Dockerfile+build`?");
    env.rb(["./web:web.Dockerfile+build"]).expect(2).says("there is no file `web/web.Dockerfile`");
    assert_eq!(
        env.rb(["ls", "./web:Dockerfile"]).expect(0).stdout,
        "./web:Dockerfile+build\n./web:Dockerfile+default\n./web:Dockerfile+other\n./web:Dockerfile+tools    has a shell.\n"
    );
    let told = env.rb(["./web:Dockerfile+build", "--help"]).expect(0).stdout;
    assert!(told.contains("--MODE=debug\n        says how."), "{told}");
}

#[test]
fn a_target_makes_the_context_and_the_dockerfile() {
    let Some(env) = project() else { return };
    env.write(
        "Buildfile",
        "VERSION 1\n\
         app:\n    FROM DOCKERFILE -f (+make/Dockerfile --name=made) +context/files/\n    SAVE ARTIFACT /made AS LOCAL made\n\
         make:\n    ARG name\n    FROM ./web:Dockerfile+tools\n    WORKDIR /w\n    RUN echo \"FROM scratch\" > Dockerfile && echo \"COPY main.txt /$name\" >> Dockerfile\n    SAVE ARTIFACT Dockerfile\n\
         context:\n    FROM scratch\n    COPY web/main.txt /files/\n    SAVE ARTIFACT /files\n",
    );
    env.rb(["+app"]).expect(0);
    assert_eq!(env.read("made"), "main\n");
    nothing_runs(&env, &["+app"]);
    env.write("web/main.txt", "changed\n");
    env.rb(["+app"]).expect(0);
    assert_eq!(env.read("made"), "changed\n");
}

#[test]
fn a_context_keeps_its_modes_and_hides_what_is_ignored() {
    let Some(env) = project() else { return };
    env.write("one/Dockerfile", "FROM scratch\nCOPY . /all\n")
        .write("one/.dockerignore", "*.tmp\n")
        .write("one/run", "x")
        .write("one/gone.tmp", "x")
        .write(
            "Buildfile",
            "VERSION 1\napp:\n    FROM DOCKERFILE one\n    SAVE ARTIFACT /all AS LOCAL all\n",
        );
    let run = env.project().join("one/run");
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o750)).expect("modes");
    env.rb(["+app"]).expect(0);
    let mode = std::fs::metadata(env.project().join("all/run")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
    assert!(env.has("all/Dockerfile") && !env.has("all/gone.tmp"));
}

#[test]
fn mistakes_are_told_in_the_dockerfile_s_lines_and_with_the_way_there() {
    let Some(env) = project() else { return };
    env.write("bad/Dockerfile", "FROM scratch\nRUNN x\n")
        .write(
            "bad/fails.Dockerfile",
            "FROM scratch AS base\nCOPY --chmod=755 busybox /bin/sh\nRUN echo no; exit 3\n",
        )
        .write("bad/busybox", std::fs::read(env.project().join("web/busybox")).expect("reads"))
        .write(
            "Buildfile",
            "VERSION 1\n\
             text:\n    FROM DOCKERFILE ./bad\n\
             step:\n    FROM DOCKERFILE -f bad/fails.Dockerfile ./bad\n\
             top:\n    BUILD +step\n\
             none:\n    FROM DOCKERFILE ./nowhere\n\
             stage:\n    FROM DOCKERFILE --target=tool ./web\n",
        );
    let run = env.rb(["+text"]).expect(2).says("bad/Dockerfile:2").says("RUNN");
    assert!(run.stderr.contains("for FROM DOCKERFILE in line 3 of Buildfile"), "{}", run.stderr);
    env.rb(["+none"]).expect(2).says("nowhere/Dockerfile");
    env.rb(["+stage"]).expect(2).says("did you mean `tools`?").says("Buildfile:11");
    let run = env.rb(["+top"]).expect(1).says("bad/fails.Dockerfile:3").says("exit code 3");
    assert!(run.stderr.contains("called from +top"), "{}", run.stderr);
    env.rb(["./bad:fails.Dockerfile+base"]).expect(1).says("bad/fails.Dockerfile:3");
}

#[test]
fn the_example_does_what_it_says() {
    let env = TestEnv::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/dockerfile");
    for name in ["Buildfile", "Dockerfile"] {
        env.write(name, std::fs::read(folder.join(name)).expect("is there"));
    }
    env.rb(["+greeting"]).expect(0);
    assert_eq!(env.read("out/greeting.txt"), "hello, world\n");
    env.rb(["--artifact", ".:Dockerfile+greeting/greeting.txt", "--WHO=all", "all.txt"]).expect(0);
    assert_eq!(env.read("all.txt"), "hello, all\n");
}
