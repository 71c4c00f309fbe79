//! What `rb` says of itself: help, topics, man pages, settings in force.

use crate::env::TestEnv;

#[test]
fn help_explains_commands_topics_and_targets() {
    let env = TestEnv::new();
    let all = env.rb(["help"]).expect(0).stdout;
    for line in ["  run  ", "  image  ", "  environment  ", "  exit-codes  "] {
        assert!(all.contains(line), "{line} is not in\n{all}");
    }
    let same = |words: &[&str], other: &[&str]| {
        assert_eq!(env.rb(words).expect(0).stdout, env.rb(other).expect(0).stdout);
    };
    same(&["help", "run"], &["run", "--help"]);
    same(&["help", "image", "push"], &["image", "push", "--help"]);
    same(&["help", "help"], &["help", "--help"]);
    env.write("Buildfile", "VERSION 1\n# t is what is built.\nt:\n    FROM scratch\n");
    same(&["help", "+t"], &["+t", "--help"]);
    assert!(env.rb(["help", "exit-codes"]).expect(0).stdout.contains("70  a bug of rb"));
    let text = env.rb(["help", "environment"]).expect(0).stdout;
    assert!(text.contains("RB_ROOT") && text.contains("SOURCE_DATE_EPOCH"), "{text}");
    assert!(env.rb(["help", "network.ca"]).expect(0).stdout.starts_with("network.ca: authorities"));
    assert!(env.rb(["help", "RUN"]).expect(0).stdout.starts_with("RUN command\n"));
    same(&["help", "save", "image"], &["help", "SAVE IMAGE"]);
    let text = env.rb(["help", "rb::resolve::unknown_target"]).expect(0).stdout;
    assert!(text.contains("No target of that name"), "{text}");
    same(&["help", "unknown_target"], &["help", "rb::resolve::unknown_target"]);
    env.rb(["help", "RNU"]).expect(2).says("did you mean `rb help RUN`?");
    env.rb(["help", "enviroment"]).expect(2).says("did you mean `rb help environment`?");
    env.rb(["help", "image", "puhs"]).expect(2).says("did you mean `rb help image push`?");
}

#[test]
fn short_help_fits_a_terminal_and_long_help_says_more() {
    let env = TestEnv::new();
    for words in [&["-h"][..], &["run", "-h"], &["help"], &["image", "push", "-h"], &["help", "config"]] {
        let text = env.rb_with(&[("COLUMNS", "80")], words).expect(0).stdout;
        let wide = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{words:?}");
    }
    let lines = |word: &str| env.rb([word]).expect(0).stdout.lines().count();
    assert!(lines("-h") * 3 / 2 < lines("--help"), "{} and {}", lines("-h"), lines("--help"));
}

#[test]
fn the_version_is_one_line() {
    let env = TestEnv::new();
    let version = format!("rb {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(env.rb(["-V"]).expect(0).stdout, version);
    assert_eq!(env.rb(["--version"]).expect(0).stdout, version);
}

#[test]
fn man_pages_are_written_below_a_folder() {
    let env = TestEnv::new();
    env.rb(["help", "--man", "man"]).expect(0);
    assert!(env.read("man/man1/rb-image-push.1").contains("rb\\-image\\-push"));
    let page = env.read("man/man7/rb-environment.7");
    assert!(page.contains("RB_ROOT"), "{page}");
    env.write("file", "");
    env.rb(["help", "--man", "file"]).expect(3).says("cannot be written");
    env.rb(["help", "--man", "man", "run"]).expect(2);
}

#[test]
fn typos_have_the_nearest_name() {
    let env = TestEnv::new();
    for (words, near) in [
        (&["--no-cahce", "+t"][..], "--no-cache"),
        (&["--progress=plian", "+t"], "plain"),
        (&["imgae", "ls"], "image"),
        (&["enviroment"], "rb help environment"),
        (&["image", "puhs"], "push"),
        (&["image", "ls", "--quite"], "--quiet"),
        (&["run", "--netwrok=none", "x"], "--network"),
        (&["completion", "bsah"], "bash"),
        (&["config", "network.https_prox"], "network.https_proxy"),
        (&["-o", "type=locla,dest=x", "+t"], "local"),
    ] {
        env.rb(words).expect(2).says(near);
    }
}

#[test]
fn config_tells_what_is_in_force_and_who_says_so() {
    let env = TestEnv::new();
    env.write("config.toml", "jobs = 3\n\n[network]\nhttps_proxy = \"http://me:hunter2@proxy.example\"\n");
    let with = |more: &[(&'static str, &'static str)], words: &[&'static str]| {
        env.rb_with(&[&[("RB_CONFIG", "config.toml")], more].concat(), words).hides("hunter2")
    };
    let all = with(&[("RB_STRICT", "true"), ("RB_SECRETS", "A=hunter2")], &["config"]).expect(0).stdout;
    for part in
        ["jobs = 3", "config.toml:1", "xxxxx@proxy.example", "config.toml:4", "# RB_ROOT", "# RB_STRICT=true"]
    {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    assert_eq!(with(&[], &["config", "jobs"]).expect(0).stdout, "3\n");
    assert_eq!(with(&[("RB_JOBS", "5")], &["config", "jobs"]).expect(0).stdout, "5\n");
    assert_eq!(with(&[("RB_JOBS", "5")], &["-j", "2", "config", "jobs"]).expect(0).stdout, "2\n");
    let json = with(&[], &["-j", "2", "config", "--json", "jobs"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("is JSON");
    assert_eq!(json, serde_json::json!({ "key": "jobs", "value": 2, "from": "--jobs" }));
    // What is printed can be pasted into a config.toml.
    env.write("pasted.toml", with(&[], &["config"]).expect(0).stdout);
    assert_eq!(env.rb_with(&[("RB_CONFIG", "pasted.toml")], ["config", "jobs"]).expect(0).stdout, "3\n");
    env.write("config.toml", "job = 3\n");
    with(&[], &["config"]).expect(2).says("did you mean `jobs`?");
}
