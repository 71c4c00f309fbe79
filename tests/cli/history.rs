//! `rb history`: what was built is listed, shown, removed, and carried to another machine.

use serde_json::Value;

use crate::env::TestEnv;

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    COPY f /f\n    RUN cat /f\nbad:\n    FROM @host\n    RUN echo so bad; exit 9\n",
    );
    env.write("f", "one\n");
    env
}

fn ids(env: &TestEnv) -> Vec<String> {
    let run = env.rb(["history", "ls", "--quiet"]).expect(0);
    run.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn builds_are_listed_shown_and_removed() {
    let env = env();
    assert_eq!(env.rb(["history", "ls"]).expect(0).stdout, "no build is kept\n");
    env.rb(["+t"]).expect(0);
    env.rb(["+bad"]).expect(1);
    let list = env.rb(["history", "ls"]).expect(0).stdout;
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    assert!(lines[1].contains("rb +bad") && lines[1].contains("failed"), "{list}");
    assert!(lines[2].contains("rb +t") && lines[2].contains("done"), "{list}");
    let json: Value =
        serde_json::from_str(&env.rb(["history", "ls", "--json"]).expect(0).stdout).expect("JSON");
    assert_eq!((&json["builds"][1]["ran"], &json["builds"][1]["outcome"]), (&2.into(), &"done".into()));
    let ids = ids(&env);
    let shown = env.rb(["history", "show", &ids[1][..6]]).expect(0).stdout;
    for text in
        ["rb +t", "+t | RUN cat /f\n  ran in ", "never built before", &*env.project().to_string_lossy()]
    {
        assert!(shown.contains(text), "{text} is not in:\n{shown}");
    }
    let json: Value =
        serde_json::from_str(&env.rb(["history", "inspect", "--json", "@2"]).expect(0).stdout).expect("JSON");
    let steps = json["steps"].as_array().expect("steps");
    let run = steps.iter().find(|step| step["name"] == "+t | RUN cat /f").expect("is there");
    assert_eq!(run["place"], serde_json::json!(["Buildfile", 5]));
    assert!(run["own"].as_array().is_some_and(|own| !own.is_empty()), "{run}");
    assert_eq!(env.rb(["history", "logs", "@2"]).expect(0).stdout, "one\n");
    assert_eq!(env.rb(["history", "logs", "--failed"]).expect(0).stdout, "so bad\n");
    env.rb(["history", "rm", &ids[0]]).expect(0).says("removed the records of 1 build");
    assert_eq!(self::ids(&env), ids[1..]);
    env.rb(["history", "show", &ids[0]]).expect(2).says("there is no build");
    env.rb(["history", "rm", "--all"]).expect(0);
    assert!(self::ids(&env).is_empty());
    assert_eq!(std::fs::read_dir(env.state().join("builds")).expect("lists").count(), 0);
    assert_eq!(std::fs::read_dir(env.state().join("logs")).expect("lists").count(), 0);
}

#[test]
fn builds_of_one_folder_share_the_list_of_its_files() {
    let env = env();
    env.rb(["+t"]).expect(0);
    env.rb(["+t"]).expect(0);
    let lists = || {
        let entries = std::fs::read_dir(env.state().join("builds")).expect("lists");
        let entries = entries.map(|entry| entry.expect("lists").path());
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "list")).collect::<Vec<_>>()
    };
    let inodes: std::collections::BTreeSet<u64> = lists()
        .iter()
        .map(|path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("is there")))
        .collect();
    assert_eq!((lists().len(), inodes.len()), (2, 1));
}

#[test]
fn a_record_of_another_machine_is_compared() {
    let (here, there) = (env(), env());
    here.rb(["+t"]).expect(0);
    here.rb(["history", "export", "-o", "build.tar.zst"]).expect(0).says("wrote ");
    there.write("f", "two\n");
    there.rb(["+t"]).expect(0);
    std::fs::copy(here.project().join("build.tar.zst"), there.project().join("it")).expect("copies");
    let id = there.rb(["history", "import", "it"]).expect(0).stdout.trim().to_owned();
    let list = there.rb(["history", "ls"]).expect(0).stdout;
    assert!(list.contains("(imported)"), "{list}");
    let shown = there.rb(["history", "show", &id]).expect(0).stdout;
    assert!(!shown.contains(&*here.project().to_string_lossy()), "{shown}");
    assert_eq!(there.rb(["history", "logs", &id]).expect(0).stdout, "one\n");
    let told = there.rb(["why", "--json", "--since", &id, "+t"]).expect(0).stdout;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let reasons = told["reasons"].as_array().expect("reasons");
    assert_eq!(reasons.len(), 1, "{told:#}");
    assert_eq!((&reasons[0]["path"], &reasons[0]["change"]), (&"f".into(), &"content".into()));
    // It is no build of this place: what ran here last is compared with what ran here.
    there.rb(["why", "+t"]).expect(0);
    there.write("bad", "no record");
    there.rb(["history", "import", "bad"]).expect(2).says("is no record of a build");
    there.rb(["history", "import", "gone"]).expect(2);
}
