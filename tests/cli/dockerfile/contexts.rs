//! Where contexts and Dockerfiles come from, and what of them counts.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::{build, build_fed, project, tar_of};
use crate::env::TestEnv;
use crate::git::git_host::GitHost;
use crate::registry::support::scripted::{Reply, Scripted};

const COPY: &str = "FROM scratch\nCOPY . /\n";

#[test]
fn a_folder_keeps_its_modes_and_belongs_to_root() {
    let env = TestEnv::new();
    env.write("app/Dockerfile", COPY)
        .write("app/run.sh", "#!/bin/sh\n")
        .write("app/key", "k")
        .write("app/d/f", "");
    let at = |path: &str| env.project().join(path);
    for (path, mode) in [("app/run.sh", 0o751), ("app/key", 0o600), ("app/d", 0o700)] {
        std::fs::set_permissions(at(path), std::fs::Permissions::from_mode(mode)).expect("sets modes");
    }
    env.rb(["build", "-o", "type=tar,dest=out.tar", "app"]).expect(0);
    let tar = std::fs::read(at("out.tar")).expect("reads");
    let mut entries = tar::Archive::new(&tar[..]);
    let mut found: Vec<String> = entries
        .entries()
        .expect("is a tar")
        .map(|entry| {
            let entry = entry.expect("is whole");
            let header = entry.header();
            let owner = (header.uid().expect("a number"), header.gid().expect("a number"));
            assert_eq!(owner, (0, 0));
            format!(
                "{} {:o}",
                entry.path().expect("a path").display(),
                header.mode().expect("a mode") & 0o7777
            )
        })
        .collect();
    found.sort();
    assert_eq!(found, ["Dockerfile 644", "d/ 700", "d/f 644", "key 600", "run.sh 751"]);
}

#[test]
fn what_is_ignored_does_not_count() {
    let env = TestEnv::new();
    env.write("Dockerfile", COPY)
        .write("kept", "1")
        .write("node_modules/x", "")
        .write("a.log", "")
        .write("keep.log", "");
    env.write(
        ".dockerignore",
        "# remarks\nnode_modules\n*.log\n!keep.log\nDockerfile\nout*\n.dockerignore\nother*\n",
    );
    env.rb(["build", "-o", "out", "."]).expect(0);
    let listed = |folder: &str| {
        let mut names: Vec<_> = std::fs::read_dir(env.project().join(folder))
            .expect("lists")
            .map(|entry| entry.expect("lists").file_name().into_string().expect("is text"))
            .collect();
        names.sort();
        names
    };
    assert_eq!(listed("out"), ["keep.log", "kept"]);
    // What is left out is in no key.
    env.write("node_modules/x", "changed").write("b.log", "");
    env.rb(["build", "-o", "out", "."]).expect(0).says("nothing to do");
    // The one that is named after the Dockerfile counts before the other.
    env.write("other.Dockerfile", COPY).write("other.Dockerfile.dockerignore", "*\n!kept\n");
    env.rb(["build", "-f", "other.Dockerfile", "-o", "out2", "."]).expect(0);
    assert_eq!(listed("out2"), ["kept"]);
}

#[test]
fn a_dockerfile_lies_where_f_says() {
    let env = TestEnv::new();
    env.write("app/a", "a").write("docker/Dockerfile.prod", "FROM scratch\nCOPY a /prod\n");
    env.rb(["build", "-f", "docker/Dockerfile.prod", "-o", "out", "app"]).expect(0);
    assert_eq!(env.read("out/prod"), "a");
    // As seen from here, not from the context.
    env.write("app/Dockerfile.dev", "FROM scratch\nCOPY a /dev\n");
    env.rb(["build", "-f", "Dockerfile.dev", "app"]).expect(2).says("`-f app/Dockerfile.dev`");
    env.rb(["build", "-f", "app/Dockerfile.dev", "-o", "out", "app"]).expect(0);
    assert_eq!(env.read("out/dev"), "a");
    env.rb(["build", "app"])
        .expect(2)
        .says("there is no Dockerfile in `app`")
        .says("`-f app/Dockerfile.dev`");
    // podman's name for it.
    env.write("app/Containerfile", "FROM scratch\nCOPY a /podman\n");
    env.rb(["build", "-o", "out", "app"]).expect(0);
    assert_eq!(env.read("out/podman"), "a");
}

#[test]
fn a_dockerfile_on_stdin_is_beside_a_context_or_alone() {
    let Some(env) = project() else { return };
    env.write("app/a", "a");
    build_fed(&env, &["-f", "-", "-o", "out", "app"], b"FROM scratch\nCOPY a /piped\n").expect(0);
    assert_eq!(env.read("out/piped"), "a");
    build_fed(
        &env,
        &["-o", "out", "-"],
        b"FROM base AS b\nRUN echo alone > /x\nFROM scratch\nCOPY --from=b /x /\n",
    )
    .expect(0);
    assert_eq!(env.read("out/x"), "alone\n");
    build_fed(&env, &["-"], b"FROM scratch\nCOPY a /\n").expect(2).says("/a does not exist");
    build_fed(&env, &["-"], b"").expect(2).says("there is nothing on stdin");
    build_fed(&env, &["-f", "x", "-"], b"FROM scratch\n").expect(2).says("names another");
    build_fed(&env, &["-f", "-", "-"], b"FROM scratch\n").expect(2).says("context and Dockerfile at once");
}

#[test]
fn a_tar_takes_the_place_of_a_folder() {
    let Some(env) = project() else { return };
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY a d /\n"),
        ("d/other", "FROM scratch\nCOPY a /renamed\n"),
        ("a", "a"),
        (".dockerignore", "d/x\n"),
        ("d/x", ""),
    ];
    let tar = tar_of(&files);
    build_fed(&env, &["-o", "out", "-"], &tar).expect(0);
    assert_eq!(env.read("out/a"), "a");
    assert!(env.has("out/other"));
    let mode = std::fs::metadata(env.project().join("out/a")).expect("is there").mode() & 0o777;
    assert_eq!(mode, 0o640);
    build_fed(&env, &["-o", "out", "-"], &tar).expect(0).says("nothing to do");
    build_fed(&env, &["-f", "d/other", "-o", "out", "-"], &tar).expect(0);
    assert_eq!(env.read("out/renamed"), "a");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar).expect("in memory");
    let packed = packed.finish().expect("in memory");
    build_fed(&env, &["-o", "out", "-"], &packed).expect(0);
    env.write("context.tgz", &packed);
    build(&env, &["-o", "out", "context.tgz"]).expect(0).says("nothing to do");
    env.write("text", "FROM scratch\n");
    build(&env, &["text"]).expect(2).says("`text` is neither a folder nor a tar");
}

#[test]
fn contexts_come_from_the_web() {
    let tar = tar_of(&[("Dockerfile", COPY), ("sub/a", "from the web")]);
    let server = Scripted::start(move |request, _| match request.path.as_str() {
        "/context.tar" => Reply::new(200, &tar[..]),
        "/Dockerfile" => Reply::new(200, "FROM scratch\nCOPY a /fetched\n"),
        "/alone" => Reply::new(200, "FROM scratch\nLABEL alone=yes\n"),
        _ => Reply::new(404, ""),
    });
    let env = TestEnv::new();
    let url = |path: &str| format!("http://{}/{path}", server.host);
    env.rb(["build", "-o", "out", &url("context.tar")]).expect(0);
    assert_eq!(env.read("out/sub/a"), "from the web");
    env.rb(["build", "-t", "alone", &url("alone")]).expect(0);
    assert_eq!(super::config(&env, "alone")["config"]["Labels"]["alone"], "yes");
    env.write("app/a", "a");
    env.rb(["build", "-f", &url("Dockerfile"), "-o", "out", "app"]).expect(0);
    assert_eq!(env.read("out/fetched"), "a");
    env.rb(["build", &url("nothing")]).expect(2).says("not found");
}

#[test]
fn contexts_come_from_repositories() {
    let host = GitHost::start();
    let repository = host.repository("team/app.git");
    repository.write("Dockerfile", COPY);
    repository.write("sub/Dockerfile", "FROM scratch\nCOPY x /\n");
    repository.write("sub/x", "in a folder");
    repository.commit();
    let env = TestEnv::new();
    let url = host.url("team/app.git");
    env.rb(["build", "-o", "out", &url]).expect(0);
    assert_eq!(env.read("out/sub/x"), "in a folder");
    assert!(!env.has("out/.git"));
    env.rb(["build", "-o", "out", &format!("{url}#:sub")]).expect(0);
    assert_eq!(env.read("out/x"), "in a folder");
    env.rb(["build", "-f", "sub/Dockerfile", "-o", "out", &url]).expect(2).says("/x does not exist");
}

#[test]
fn further_contexts_have_names() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base AS b\nCOPY --from=data a /a\nRUN --mount=from=data,target=/m cat /m/a > /b\nFROM scratch\nCOPY --from=b /a /b /\n");
    env.write("data/a", "of data").write("data/.dockerignore", "secret\n");
    build(&env, &["--build-context", "data=data", "-o", "out", "app"]).expect(0);
    assert_eq!((env.read("out/a"), env.read("out/b")), ("of data".to_owned(), "of data".to_owned()));
    env.write("app/other", "FROM data AS b\nRUN true\n");
    // One takes the place of a stage, and of an image.
    env.write("app/stage", "FROM nowhere.invalid/x AS src\nFROM scratch\nCOPY --from=src a /c\n");
    build(&env, &["--build-context", "src=data", "-f", "app/stage", "-o", "out", "app"]).expect(0);
    assert_eq!(env.read("out/c"), "of data");
    build(&env, &["--build-context", "data=nowhere", "app"]).expect(2).says("there is no such folder");
    build(&env, &["--build-context", "data=ftp://x", "app"]).expect(2).says("`ftp://` is unknown");
    env.rb(["build", "--build-context", "base=oci-layout://nowhere", "app"])
        .expect(2)
        .says("base=oci-layout://nowhere");
    // As docker has it, the only image of a layout may be called anything.
    build(
        &env,
        &["--build-context", "data=oci-layout://base:any", "--target", "b", "-f", "app/other", "app"],
    )
    .expect(0);
}
