//! What happens on the way: commands of this machine, answers of commands, caches, order.

use crate::env::TestEnv;

#[test]
fn locally_runs_on_this_machine_and_never_from_a_cache() {
    let env = TestEnv::new();
    env.write("sub/Buildfile", "VERSION 0.8\nt:\n    LOCALLY\n    ENV WHO=recipe\n    ARG commit=$(echo abc; echo def >&2)\n    \
        RUN echo \"$WHO $commit $SHELL_SAYS\" >> log; pwd; echo to-stderr >&2\n    WORKDIR deep\n    RUN pwd >> ../log\n    SAVE ARTIFACT here named\n\
        use:\n    FROM scratch\n    COPY +t/named /n\n    SAVE ARTIFACT /n AS LOCAL fetched\n").write("sub/deep/here", "content\n");
    let run = env.rb_with(&[("SHELL_SAYS", "hello")], ["./sub+use"]).expect(0);
    let sub = env.project().canonicalize().expect("exists").join("sub");
    run.says(&format!("+t | {}", sub.display())).says("+t | to-stderr");
    assert_eq!(env.read("sub/log"), format!("recipe abc hello\n{}\n", sub.join("deep").display()));
    assert_eq!(env.read("sub/fetched"), "content\n");
    env.rb(["./sub+use"]).expect(0);
    assert_eq!(env.read("sub/log").lines().count(), 4);
    env.write("sub/Buildfile", "VERSION 0.8\nt:\n    LOCALLY\n    RUN echo before; exit 7\n");
    env.rb(["./sub+t"]).expect(1).says("exit code 7").says("Buildfile:4").says("| before");
    env.rb(["--strict", "./sub+t"]).expect(2).says("LOCALLY");
    env.rb(["--ci", "./sub+t"]).expect(2).says("LOCALLY");
    env.write(
        "sub/Buildfile",
        "VERSION 0.8\nt:\n    LOCALLY\n    ARG big=$(head -c 2000000 /dev/zero | tr '\\0' x)\n",
    );
    env.rb(["./sub+t"]).expect(1).says("more than 1 MiB");
}

#[test]
fn a_cache_outlives_builds_and_belongs_to_its_workspace() {
    let recipe = "VERSION 0.8\nt:\n    FROM @host\n    ARG N=0\n    CACHE /cache\n    RUN echo $N >> /cache/log; cp /cache/log /out\n    SAVE ARTIFACT /out AS LOCAL out\n";
    let env = TestEnv::new();
    env.write("one/Buildfile", recipe)
        .write("one/rb.toml", "")
        .write("two/Buildfile", recipe)
        .write("two/rb.toml", "");
    env.rb(["./one+t", "--N=1"]).expect(0);
    env.rb(["./one+t", "--N=2"]).expect(0);
    assert_eq!(env.read("one/out"), "1\n2\n");
    env.rb(["./two+t", "--N=3"]).expect(0);
    assert_eq!(env.read("two/out"), "3\n");
    // Caches with a name of their own are shared, and say nothing about whose result it is.
    let shared = recipe.replace("CACHE", "CACHE --id=common");
    env.write("one/Buildfile", &shared).write("two/Buildfile", &shared);
    env.rb(["./one+t", "--N=4"]).expect(0);
    env.rb(["./two+t", "--N=5"]).expect(0);
    assert_eq!(env.read("two/out"), "4\n5\n");
    env.rb(["./one+t", "--N=5"]).expect(0).says("nothing to do");
}

#[test]
fn what_commands_answer_is_remembered() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 0.8\nt:\n    FROM @host\n    COPY list /list\n    ARG first=$(head -n 1 /list)\n    \
        IF grep -q two /list\n        RUN echo has two > /out\n    ELSE\n        RUN echo has no two > /out\n    END\n    \
        FOR word IN $(cat /list)\n        RUN echo $first $word >> /out\n    END\n    SAVE ARTIFACT /out AS LOCAL out\n").write("list", "one\ntwo\n");
    env.rb(["+t"]).expect(0).says("steps run");
    assert_eq!(env.read("out"), "has two\none one\none two\n");
    let again = env.rb(["--progress=json", "+t"]).expect(0);
    assert!(again.stderr.contains("\"executed\":0"), "{}", again.stderr);
    env.write("list", "three\n");
    env.rb(["+t"]).expect(0).says("steps run");
    assert_eq!(env.read("out"), "has no two\nthree three\n");
}

#[test]
fn wait_has_everything_written_before_it_goes_on() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 0.8\nall:\n    LOCALLY\n    WAIT\n        BUILD +made\n    END\n    RUN cat out/made > seen\n    WAIT\n        BUILD +again\n    END\n    RUN cat out/made >> seen\n\
        made:\n    FROM @host\n    RUN sleep 0.2; echo one > /m\n    SAVE ARTIFACT /m AS LOCAL out/made\n\
        again:\n    FROM @host\n    RUN echo two > /m\n    SAVE ARTIFACT /m AS LOCAL out/made\n");
    env.rb(["+all"]).expect(0);
    assert_eq!(env.read("seen"), "one\ntwo\n");
    assert_eq!(env.read("out/made"), "two\n");
}

#[test]
fn git_facts_are_those_of_the_folder() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 0.8\nt:\n    FROM @host\n    ARG EARTHLY_GIT_HASH\n    ARG RB_GIT_BRANCH\n    RUN echo \"$EARTHLY_GIT_HASH $RB_GIT_BRANCH\" > /out\n    SAVE ARTIFACT /out AS LOCAL out\n");
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("out"), " \n");
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args([
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@example.com",
            "-c",
            "init.defaultBranch=trunk",
        ]);
        command.args(args).current_dir(env.project()).env("HOME", env.project()).output().expect("git starts")
    };
    git(&["init", "-q"]);
    git(&["add", "Buildfile"]);
    assert!(git(&["commit", "-q", "-m", "first"]).status.success());
    let hash = String::from_utf8_lossy(&git(&["rev-parse", "HEAD"]).stdout).trim().to_owned();
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("out"), format!("{hash} trunk\n"));
}
