//! Docker's own client builds a Buildfile: buildx, a real buildkitd, and `rb` as the frontend that the first line names, in a registry.
//! `BUILDKIT` names a folder with all of them, as `tests/peers` makes them.

use std::process::{Command, Stdio};

use crate::engine::{Tells as _, flat, project};
use crate::env::{Run, ended};
use crate::frontend::{BUILDFILE, LIBRARY, frontend_image};
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

#[test]
fn docker_builds_a_buildfile() {
    let Some((env, daemon, address)) = project() else { return };
    let buildx = daemon.programs().join("buildx");
    if !buildx.exists() {
        eprintln!("stepping aside: BUILDKIT names no folder with buildx");
        return;
    }
    let folder = crate::push::folder();
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    env.write("Buildfile", BUILDFILE).write("lib/Buildfile", LIBRARY).write("lib/part.txt", "a part\n");
    frontend_image(&env);
    let frontend = format!("{}/rb-frontend:1", registry.host);
    env.rb(["image", "tag", "rb-frontend:latest", &frontend]).expect(0);
    env.rb(["image", "push", &frontend]).expect(0);
    env.write("Buildfile", BUILDFILE.replace("example.com/rb:1", &frontend));

    let buildx = |words: &[&str]| -> Run {
        let mut command = Command::new(&buildx);
        command.args(words).current_dir(env.project()).stdin(Stdio::null());
        for (name, place) in [("HOME", "home"), ("BUILDX_CONFIG", "buildx"), ("DOCKER_CONFIG", "docker")] {
            command.env(name, folder.path().join(place));
        }
        ended(&mut command)
    };
    let build = |words: &[&str]| {
        buildx(&[&["build", "--builder=far", "--progress=plain", "-f", "Buildfile"], words, &["."]].concat())
    };
    buildx(&["create", "--name=far", "--driver=remote", &address]).expect(0);

    build(&["--build-arg=word=two", "--output=type=local,dest=one"]).expect(0);
    assert_eq!(env.read("one/work/out"), "a two\n");
    assert_eq!(env.read("one/work/made"), "made of a part\n");
    build(&["--target=files", "-o", "two"]).expect(0);
    assert_eq!(env.read("two/out"), "a one\n");
    // The image goes where the client wants it.
    let image = format!("{}/made:1", registry.host);
    build(&["-t", &image, "--push", "--label=kind=test"]).expect(0);
    assert_eq!(env.rb(["run", &image]).expect(0).stdout, "a one\n");
    build(&["--output=type=docker,dest=made.tar", "-t", "made:2"]).expect(0);
    env.rb(["image", "load", "-i", "made.tar"]).expect(0);
    assert_eq!(env.rb(["run", "made:2"]).expect(0).stdout, "a one\n");
    // What is wrong, and questions.
    build(&["--target=fails"]).expect(1).tells("exit code: 7").tells("Buildfile:22").tells("RUN exit 7");
    build(&["--build-arg=wrod=two"]).expect(1).tells("wrod").tells("Buildfile:8").tells(">>> app:");
    let targets = build(&["--call=targets"]).expect(0).stdout;
    assert!(flat(&targets).contains("app (default)") && flat(&targets).contains(" base "), "{targets}");
    let outline = build(&["--call=outline"]).expect(0).stdout;
    assert!(flat(&outline).contains("word one"), "{outline}");
    let clean = build(&["--check"]).expect(0);
    assert!(clean.stdout.contains("Check complete, no warnings found."), "{clean:?}");
    env.write(
        "Buildfile",
        BUILDFILE.replace("example.com/rb:1", &frontend).replace("SAVE IMAGE made:1", "SAVE IMAGE"),
    );
    let found = build(&["--check"]).expect(1);
    let found = flat(&format!("{}{}", found.stdout, found.stderr));
    assert!(
        found.contains("Check complete, 1 warning has been found!") && found.contains(">>> SAVE IMAGE"),
        "{found}"
    );
    env.write(
        "Buildfile",
        BUILDFILE.replace("example.com/rb:1", &frontend).replace("COPY src src", "COPI src src"),
    );
    let wrong = build(&["--check"]).expect(1);
    let wrong = flat(&format!("{}{}", wrong.stdout, wrong.stderr));
    assert!(wrong.contains("Buildfile:10") && wrong.contains(">>> COPI src src"), "{wrong}");
    env.write("Buildfile", BUILDFILE.replace("example.com/rb:1", &frontend));
    let offered = build(&["--call=subrequests.describe"]).expect(0).stdout;
    assert!(flat(&offered).contains("outline 1.0.0"), "{offered}");
}
