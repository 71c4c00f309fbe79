//! The functions of `stdlib/`: each documented, each tested by a target of `stdlib/tests`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::env::{TestEnv, Who, ended};
use crate::monorepo::{command, example_env, has};

/// Folder of each language, and the tool that its tests need.
const LANGUAGES: [(&str, &str); 5] =
    [("c", "cc"), ("go", "go"), ("node", "node"), ("python", "python3"), ("rust", "cargo")];

fn listed(env: &TestEnv, folder: &str) -> Value {
    let said = env.rb(["ls", "--json", &format!("stdlib/{folder}")]).expect(0).stdout;
    serde_json::from_str(&said).expect("is JSON")
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|entry| entry["name"].as_str()).collect()
}

#[test]
fn each_target_function_and_argument_is_documented_and_in_the_table() {
    let env = example_env(Who::Tester);
    let mut found = BTreeSet::new();
    for (language, _) in LANGUAGES {
        let listed = listed(&env, language);
        for kind in ["targets", "functions"] {
            for entry in listed[kind].as_array().expect("a list") {
                let name = format!("{language}+{}", entry["name"].as_str().expect("a name"));
                assert!(entry["doc"].as_str().is_some_and(|doc| !doc.is_empty()), "{name}");
                for arg in entry["args"].as_array().expect("a list") {
                    let documented = arg["doc"].as_str().is_some_and(|doc| !doc.is_empty());
                    assert!(documented && arg["type"].is_string(), "{name}: {arg}");
                }
                found.insert(name);
            }
        }
    }
    let readme = env.read("stdlib/README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let told: BTreeSet<String> =
        rows.map(|(name, _)| name.split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(told, found);
}

/// Those of Go run beside the example `monorepo`, where Go's own library is compiled already.
#[test]
fn each_function_does_what_its_tests_say() {
    let env = example_env(Who::Tester);
    let listed = listed(&env, "tests");
    let targets = names(&listed["targets"]);
    for (language, tool) in LANGUAGES {
        let own = |target: &&&str| **target == language || target.starts_with(&format!("{language}-"));
        let own: Vec<&&str> = targets.iter().filter(own).collect();
        assert!(own.len() > 1, "nothing of {language} is tested to fail");
        if language == "go" || !has(tool) {
            eprintln!("not tested here: {language}");
            continue;
        }
        for target in own {
            let code = if target.ends_with("-fails") { 1 } else { 0 };
            ended(&mut command(&env, "stdlib/tests", &[&format!("+{target}")])).expect(code);
        }
    }
    let known = |target: &str| LANGUAGES.iter().any(|(language, _)| target.starts_with(language));
    assert!(targets.iter().all(|target| known(target)), "{targets:?}");
}
