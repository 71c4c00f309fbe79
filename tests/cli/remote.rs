//! Targets, artifacts, functions and imports of repositories elsewhere, from a host of the test's.

use crate::env::{Run, TestEnv, Who, is_root};
use crate::git::git_host::{GitHost, Manners, Repository};

/// What references call the host of the test.
const HOST: &str = "git.example";

/// A user who knows where that host is.
struct User {
    env: TestEnv,
    config: String,
}

impl User {
    fn new(host: &GitHost) -> Self {
        Self::of(Who::Tester, host)
    }

    fn of(who: Who, host: &GitHost) -> Self {
        let env = TestEnv::of(who);
        let file = env.project().parent().expect("lies in a folder").join("config.toml");
        std::fs::write(&file, format!("[git.'{HOST}']\nurl = 'http://{}'\n", host.host)).expect("writes");
        let config = file.to_str().expect("is text").to_owned();
        Self { env, config }
    }

    fn rb(&self, args: &[&str]) -> Run {
        self.env.rb_with(&[("RB_CONFIG", &self.config)], args)
    }
}

/// A repository with a library, and its first commit, which is `v1`.
fn library(host: &GitHost) -> (Repository, String) {
    let repository = host.repository("team/lib.git");
    repository.write(
        "Buildfile",
        "VERSION 1\n# file makes a file.\nfile:\n    FROM scratch\n    COPY text /made/text\n    SAVE ARTIFACT /made/text AS LOCAL from-lib/text\n\
         all:\n    BUILD ./deep+inner\nwhole:\n    FROM scratch\n    COPY . /w\n    SAVE ARTIFACT /w AS LOCAL whole\nPUT:\n    FUNCTION\n    ARG name\n    COPY own /put/$name\n\
         facts:\n    ARG RB_GIT_HASH\n    ARG RB_TARGET\n    FROM scratch\n    COPY <<EOF /facts\n$RB_GIT_HASH $RB_TARGET\nEOF\n    SAVE ARTIFACT /facts\n",
    );
    repository.write("text", "one\n");
    repository.write(
        "deep/Buildfile",
        "VERSION 1\ninner:\n    FROM ..+file\n    COPY //text /deep\n    SAVE ARTIFACT /deep AS LOCAL inner\n",
    );
    let first = repository.commit();
    repository.git(&["tag", "v1"]);
    (repository, first)
}

#[test]
fn a_target_an_artifact_and_a_function_of_a_repository() {
    let host = GitHost::start();
    let (repository, first) = library(&host);
    let user = User::new(&host);
    user.env.write("own", "mine\n").write(
        "Buildfile",
        "VERSION 1\nIMPORT git.example/team/lib:v1 AS lib\nt:\n    FROM lib+file\n    COPY lib+file/text /again\n    DO lib+PUT --name=x\n    \
         COPY lib+facts/facts /facts\n    SAVE ARTIFACT /again AS LOCAL out/again\n    SAVE ARTIFACT /put/x AS LOCAL out/x\n    \
         SAVE ARTIFACT /made/text AS LOCAL out/text\n    SAVE ARTIFACT /facts AS LOCAL out/facts\nu:\n    BUILD git.example/team/lib+all\n",
    );
    user.rb(&["+t"]).expect(0);
    assert_eq!(user.env.read("out/again"), "one\n");
    assert_eq!(user.env.read("out/text"), "one\n");
    assert_eq!(user.env.read("out/x"), "mine\n", "a function copies from its caller");
    assert_eq!(user.env.read("out/facts"), format!("{first} git.example/team/lib:v1+facts\n"));
    assert!(!user.env.has("from-lib"), "nothing but BUILD carries outputs");
    let recorded = format!("git.example/team/lib:v1 at {}", &first[..12]);
    assert!(crate::git::state_of(&user.env).contains(&recorded), "the record says which commit it was");
    host.asked();
    user.rb(&["--expect-cached", "+t"]).expect(0);
    let asked = host.asked().len();
    assert_eq!(asked, 2, "the tag is asked about once: what the host can do, and where it is");
    user.rb(&["--pull=never", "--expect-cached", "+t"]).expect(0);
    assert!(host.asked().is_empty(), "what is known is enough where nobody is to be asked");

    // What is at the tag stays; the branch moves on.
    repository.write("text", "two\n");
    repository.commit();
    user.rb(&["--dry-run", "+u"]).expect(0);
    user.rb(&["+u"]).expect(0);
    assert_eq!(user.env.read("inner"), "two\n");
    user.rb(&["--expect-cached", "+t"]).expect(0);
}

#[test]
fn the_command_line_names_repositories_too() {
    let host = GitHost::start();
    let (_, first) = library(&host);
    let user = User::new(&host);
    user.env.write("sub/keep", "");
    let listed = user.rb(&["ls", "git.example/team/lib:v1"]).expect(0);
    assert!(listed.stdout.contains("git.example/team/lib:v1+file"), "{}", listed.stdout);
    let told = user.rb(&["git.example/team/lib+file", "--help"]).expect(0);
    assert!(told.stdout.contains("makes a file."), "{}", told.stdout);
    let mut run = user.env.command(["git.example/team/lib+file"]);
    run.current_dir(user.env.project().join("sub")).env("RB_CONFIG", &user.config);
    crate::env::ended(&mut run).expect(0).says(&format!("git.example/team/lib is at commit {first}"));
    assert_eq!(user.env.read("sub/from-lib/text"), "one\n", "outputs go where the user stands");
    user.rb(&["git.example/team/lib:v1+whole"]).expect(0);
    assert!(
        user.env.has("whole/deep/Buildfile") && !user.env.has("whole/Buildfile"),
        "the recipe is no file of its own"
    );
    let clone = "VERSION 1\nt:\n    FROM scratch\n    GIT CLONE --branch=v1 https://git.example/team/lib.git /c\n    SAVE ARTIFACT /c/text AS LOCAL cloned\n";
    user.env.write("Buildfile", clone);
    user.rb(&["+t"]).expect(0);
    assert_eq!(user.env.read("cloned"), "one\n", "what config.toml says of a host holds for GIT CLONE too");
    user.rb(&["--artifact", "git.example/team/lib/deep:v1+inner/deep", "taken"]).expect(0);
    assert_eq!(user.env.read("taken"), "one\n");
}

#[test]
fn what_is_not_there_is_told() {
    let host = GitHost::start();
    library(&host);
    let user = User::new(&host);
    user.env.write("Buildfile", "VERSION 1\nt:\n    BUILD git.example/team/lib:v2+file\n");
    user.rb(&["+t"]).expect(2).says("has no branch or tag `v2`").says("git.example/team/lib:v2+file");
    user.rb(&["git.example/team/lib+fiel"]).expect(2).says("did you mean `git.example/team/lib+file`?");
    user.rb(&["git.example/team/lib/none+x"])
        .expect(2)
        .says("there is no Buildfile in `git.example/team/lib/none`");
    user.rb(&["git.example/team/other+x"]).expect(2).says("team/other.git");
    user.env.write("Buildfile", "VERSION 1\nt:\n    BUILD team/lib+file\n");
    user.rb(&["+t"]).expect(2).says("its first part is no host").says("`./team/lib+file`");
}

#[test]
fn a_strangers_recipe_stays_in_its_sandbox() {
    let host = GitHost::start();
    let repository = host.repository("team/lib.git");
    repository.write(
        "Buildfile",
        "VERSION 1\nl:\n    LOCALLY\n    RUN touch was-here\nh:\n    FROM @host\nf:\n    FROM scratch\n    COPY Buildfile /x\n    \
         SAVE ARTIFACT --force /x AS LOCAL ../escaped\n",
    );
    repository.commit();
    let user = User::new(&host);
    user.env.write(
        "Buildfile",
        "VERSION 1\nl:\n    BUILD git.example/team/lib+l\nk:\n    BUILD --allow-privileged git.example/team/lib+l\n",
    );
    for (args, told) in [
        (&["+l"][..], "LOCALLY is not for recipes of git.example/team/lib"),
        (&["-P", "+l"], "LOCALLY is not for recipes of git.example/team/lib"),
        (&["+k"], "LOCALLY is not for recipes of git.example/team/lib"),
        (&["git.example/team/lib+l"], "LOCALLY is not for recipes of git.example/team/lib"),
        (&["git.example/team/lib+h"], "FROM @host is not for recipes"),
        (&["git.example/team/lib+f"], "SAVE ARTIFACT --force is not for recipes"),
    ] {
        user.rb(args).expect(2).says(told).says("--allow-privileged");
    }
    assert!(!user.env.has("was-here") && !user.env.has("../escaped"));
    user.rb(&["-P", "+k"]).expect(0);
    assert!(user.env.has("was-here"), "who is trusted runs where the user stands");
}

#[test]
fn a_token_is_shown_to_its_host_and_kept_nowhere() {
    let host = GitHost::start();
    library(&host);
    // x-access-token:hunter2-token
    let wanted = "basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMi10b2tlbg==";
    host.set(Manners { wanted: Some(wanted.to_owned()), ..Manners::default() });
    let user = User::new(&host);
    user.rb(&["git.example/team/lib+file"]).expect(2).says("wants to know who asks");
    let run = user.rb(&["--secret", "GIT_AUTH_TOKEN=hunter2-token", "git.example/team/lib+file"]).expect(0);
    run.hides("hunter2").hides("aHVudGVy");
    assert_eq!(user.env.read("from-lib/text"), "one\n");
    assert!(!crate::git::state_of(&user.env).contains("hunter2-token"));
}

#[test]
fn an_ordinary_user_builds_from_repositories_too() {
    if !is_root() {
        eprintln!("stepping aside: only root can become the users of this test");
        return;
    }
    for who in [Who::SingleId, Who::SubIds] {
        let host = GitHost::start();
        library(&host);
        let user = User::of(who, &host);
        user.env.hand_over();
        user.rb(&["git.example/team/lib:v1+file"]).expect(0);
        assert_eq!(user.env.read("from-lib/text"), "one\n", "{who:?}");
    }
}
