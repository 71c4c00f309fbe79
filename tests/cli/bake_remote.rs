//! Bake files of a repository, of an archive and of a file of the web.

use crate::dockerfile::tar_of;
use crate::env::{Run, TestEnv};
use crate::git::git_host::GitHost;
use crate::registry::support::scripted::{Reply, Scripted};

const FILE: &str = "target \"default\" {\n  output = [\"type=local,dest=out\"]\n}\n\
    target \"app\" {\n  context = \"app\"\n  contexts = { more = \"more\" }\n  output = [\"type=local,dest=out\"]\n}\n\
    target \"mine\" {\n  context = BAKE_CMD_CONTEXT\n  dockerfile-inline = \"FROM scratch\\nCOPY own /\\n\"\n  output = [\"type=local,dest=out\"]\n}\n\
    target \"greedy\" {\n  context = \"cwd://..\"\n  dockerfile-inline = \"FROM scratch\\nCOPY home /\\n\"\n}\n\
    target \"secretive\" {\n  secret = [\"id=x,src=/etc/passwd\"]\n}\n";

const FILES: [(&str, &str); 6] = [
    ("docker-bake.hcl", FILE),
    ("other.hcl", "target \"default\" { dockerfile-inline = \"FROM scratch\\nCOPY top /other\\n\" }\n"),
    ("Dockerfile", "FROM scratch\nCOPY top /\n"),
    ("top", "at the top"),
    ("app/Dockerfile", "FROM scratch\nCOPY in /\nCOPY --from=more m /\n"),
    ("app/in", "in a folder"),
];

fn bake(env: &TestEnv, words: &[&str]) -> Run {
    env.rb(["bake"].iter().chain(words))
}

#[test]
fn bake_files_of_a_repository_build_what_is_there() {
    let host = GitHost::start();
    let repository = host.repository("team/app.git");
    FILES.iter().for_each(|(name, text)| repository.write(name, text));
    repository.write("more/m", "more");
    repository.commit();
    let env = TestEnv::new();
    env.write("own", "of who runs it")
        .write("here.hcl", "target \"app\" { output = [\"type=local,dest=here\"] }\n");
    let url = host.url("team/app.git");
    bake(&env, &[&url]).expect(0);
    assert_eq!(env.read("out/top"), "at the top");
    bake(&env, &[&url, "app"]).expect(0);
    assert_eq!((env.read("out/in"), env.read("out/m")), ("in a folder".to_owned(), "more".to_owned()));
    // As if the address of its context was typed.
    env.rb(["build", "--build-context", &format!("more={url}#:more"), &format!("{url}#:app")])
        .expect(0)
        .says("nothing to do");
    let printed = bake(&env, &[&url, "--print", "app"]).expect(0).stdout;
    assert!(printed.contains(&format!("\"context\": \"{url}#:app\"")), "{printed}");
    // Files there, and one here laid over them.
    bake(&env, &[&url, "-f", "other.hcl", "--set", "default.output=out"]).expect(0);
    assert_eq!(env.read("out/other"), "at the top");
    bake(&env, &[&url, "-f", "docker-bake.hcl", "-f", "cwd://here.hcl", "app"]).expect(0);
    assert_eq!(env.read("here/in"), "in a folder");
    bake(&env, &[&url, "-f", "none.hcl"]).expect(2).says("does not hold `none.hcl`");
    // The folder of who runs it, unless another context is named.
    bake(&env, &[&url, "mine"]).expect(0);
    assert_eq!(env.read("out/own"), "of who runs it");
    repository.write("own", "of the repository");
    repository.commit();
    bake(&env, &[&url, &url, "mine"]).expect(0);
    assert_eq!(env.read("out/own"), "of the repository");
    bake(&env, &[&host.url("team/none.git")]).expect(2);
}

#[test]
fn files_from_elsewhere_reach_what_is_allowed() {
    let tar = tar_of(&FILES);
    let server = Scripted::start(move |request, _| match request.path.as_str() {
        "/all.tar" => Reply::new(200, &tar[..]),
        _ => Reply::new(404, ""),
    });
    let env = TestEnv::new();
    let url = format!("http://{}/all.tar", server.host);
    bake(&env, &[&url, "greedy"]).expect(2).says("`greedy` asks for fs.read=..").says("--allow fs.read=..");
    bake(&env, &[&url, "greedy", "--allow", "fs.read=.."]).expect(0);
    bake(&env, &[&url, "secretive"]).expect(2).says("fs.read=/etc/passwd");
    bake(&env, &[&url, "--set", "default.output=type=local,dest=../x"]).expect(2).says("fs.write=../x");
    // A file of this machine is one's own.
    env.write("Dockerfile", "FROM scratch\nCOPY a /\n").write("a", "a").write("docker-bake.hcl", FILE);
    bake(&env, &["secretive"]).expect(0);
}

#[test]
fn archives_and_files_of_the_web_are_bake_files_too() {
    let files = [&FILES[..], &[("more/m", "more")]].concat();
    let tar = tar_of(&files);
    let server = Scripted::start(move |request, _| match request.path.as_str() {
        "/all.tar" => Reply::new(200, &tar[..]),
        "/docker-bake.hcl" => Reply::new(200, FILE),
        "/bake" => Reply::new(200, "{\"target\": {\"default\": {\"output\": [\"type=local,dest=json\"]}}}"),
        _ => Reply::new(404, ""),
    });
    let env = TestEnv::new();
    let url = |path: &str| format!("http://{}/{path}", server.host);
    bake(&env, &[&url("all.tar"), "default", "app"]).expect(0);
    assert_eq!(
        (env.read("out/top"), env.read("out/in"), env.read("out/m")),
        ("at the top".to_owned(), "in a folder".to_owned(), "more".to_owned())
    );
    // A file alone: paths are those of who runs it.
    env.write("Dockerfile", "FROM scratch\nCOPY a /\n").write("a", "a");
    bake(&env, &[&url("docker-bake.hcl")]).expect(0);
    assert_eq!(env.read("out/a"), "a");
    bake(&env, &[&url("bake")]).expect(0);
    assert_eq!(env.read("json/a"), "a");
    bake(&env, &["-f", &url("bake")]).expect(0).says("nothing to do");
    bake(&env, &[&url("bake"), "-f", "x.hcl"]).expect(2).says("`x.hcl` cannot be in it");
    bake(&env, &[&url("gone")]).expect(2).says("not found");
    let listed = bake(&env, &[&url("all.tar"), "--list", "targets"]).expect(0).stdout;
    assert!(listed.contains("greedy"), "{listed}");
}
