//! The example `monorepo`, built as its users would: ten projects in five languages, with what they share.
//!
//! A machine may lack some of the languages; the tests say which, and that `rb` says so too. C and Rust have to be there.
//! One test does it all in one state directory: the first build of anything in Go compiles Go's own library.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::env::{Run, TestEnv, Who, copy_tree, ended, is_root};

/// Folder of each language, the tool that it needs, and the folders of its projects.
const LANGUAGES: [(&str, &str, &[&str]); 5] = [
    ("c", "cc", &["c/count", "c/text"]),
    ("go", "go", &["go/links", "go/slug"]),
    ("node", "node", &["node/template", "node/web"]),
    ("python", "python3", &["python/dates", "python/digest"]),
    ("rust", "cargo", &["rust/report", "rust/units"]),
];

/// The folders of this repository that the example is made of; it lies in a project as it does here.
pub(crate) fn example_env(who: Who) -> TestEnv {
    let env = TestEnv::of(who);
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in ["stdlib", "examples/monorepo"] {
        copy_tree(&top.join(folder), &env.project().join(folder));
    }
    let _left_by_hand = std::fs::remove_dir_all(env.project().join("examples/monorepo/out"));
    env.hand_over();
    env
}

/// The Rust toolchain that builds these tests, where it lies outside of /usr.
pub(crate) fn rust_sysroot() -> Option<PathBuf> {
    let said =
        Command::new(Path::new(env!("CARGO")).with_file_name("rustc")).args(["--print", "sysroot"]).output();
    let said = String::from_utf8(said.expect("there is Rust").stdout).expect("a path");
    Some(PathBuf::from(said.trim_end())).filter(|sysroot| sysroot != Path::new("/usr"))
}

/// Tells whether steps on `FROM @host` find a program.
pub(crate) fn has(tool: &str) -> bool {
    if tool == "cargo" {
        return true;
    }
    ["/usr/local/go/bin", "/usr/local/bin", "/usr/bin", "/bin"].iter().any(|folder| {
        let found = Path::new(folder).join(tool).canonicalize();
        found.is_ok_and(|path| path.starts_with("/usr") && path.is_file())
    })
}

/// `rb` in a folder of the example, with what a user of rustup sets once.
pub(crate) fn command(env: &TestEnv, folder: &str, args: &[&str]) -> Command {
    let mut command = env.command(args);
    command.current_dir(env.project().join(folder));
    if let Some(sysroot) = rust_sysroot() {
        command.env("RB_ALLOW_BIND", &sysroot).env("RB_BUILD_ARGS", format!("rust={}", sysroot.display()));
    }
    command
}

const TOP: &str = "examples/monorepo";

fn rb(env: &TestEnv, folder: &str, args: &[&str]) -> Run {
    ended(&mut command(env, &Path::new(TOP).join(folder).to_string_lossy(), args))
}

/// What ran in the last build: the first two words of each step, by target.
fn ran(env: &TestEnv) -> BTreeSet<String> {
    let records = std::fs::read_dir(env.state().join("builds")).expect("lists");
    let last = records.map(|entry| entry.expect("lists").path()).max().expect("there is one");
    let record: Value = serde_json::from_slice(&std::fs::read(last).expect("reads")).expect("JSON");
    let steps = record["steps"].as_array().expect("steps").iter();
    let steps = steps.filter(|step| step["step"] == true && step["verdict"] == "ran");
    let names = steps.filter_map(|step| step["name"].as_str()?.split_once(" | "));
    let short = |(target, what): (&str, &str)| {
        let target = target.split(' ').next().unwrap_or_default();
        let line = what.split(['\n', '\\']).next().unwrap_or_default();
        let words: Vec<&str> = line.split(' ').filter(|word| !word.starts_with("--")).take(2).collect();
        format!("{target} {}", words.join(" "))
    };
    names.map(short).collect()
}

#[track_caller]
fn expect_ran(env: &TestEnv, expected: &[&str]) {
    assert_eq!(ran(env), expected.iter().map(|step| (*step).to_owned()).collect());
}

fn edit(env: &TestEnv, path: &str, from: &str, to: &str) {
    let path = format!("{TOP}/{path}");
    let text = env.read(&path);
    assert!(text.contains(from), "{path}");
    env.write(&path, text.replace(from, to));
}

/// Name and digest of each image.
fn images(env: &TestEnv) -> BTreeMap<String, String> {
    let listed = env.rb(["image", "ls", "--json"]).expect(0).stdout;
    let images: Vec<Value> = serde_json::from_str(&listed).expect("a list");
    let word = |image: &Value, key: &str| image[key].as_str().expect("a text").to_owned();
    images.iter().map(|image| (word(image, "name"), word(image, "digest"))).collect()
}

#[test]
fn the_monorepo_is_built_tested_and_packed_and_only_what_changed_again() {
    let env = example_env(Who::Tester);
    let absent: Vec<_> = LANGUAGES.iter().filter(|(_, tool, _)| !has(tool)).collect();
    for (language, tool, _) in &absent {
        eprintln!("left out of the monorepo: {language}, since there is no {tool}");
        assert!(!["c", "rust"].contains(language), "{language} has to be there");
    }

    rb(&env, "", &["+all"]).expect(0);
    for (language, tool, projects) in LANGUAGES {
        let told = format!("{TOP}/out/left-out/{language}.txt");
        assert_eq!(env.has(&told), !has(tool), "{language}");
        if !has(tool) {
            let lines = projects.iter().map(|project| format!("{project}: this machine has no {tool}\n"));
            assert_eq!(env.read(&told), lines.collect::<String>());
        }
    }
    rb(&env, "", &["+all"]).expect(0).says("nothing to do");
    rb(&env, "", &["+lint"]).expect(0);
    images_run(&env);
    edits_run_what_depends_on_them(&env);
    mistakes_are_told_where_they_are(&env);
    what_is_missing_is_named(&env);
    if has("go") {
        ended(&mut command(&env, "stdlib/tests", &["+go"])).expect(0);
        ended(&mut command(&env, "stdlib/tests", &["+go-format-fails"])).expect(1).says("func main() {}");
    }
}

fn images_run(env: &TestEnv) {
    let names: BTreeSet<String> = images(env).into_keys().collect();
    let services =
        [("cc", "count"), ("go", "links"), ("node", "web"), ("python3", "digest"), ("cargo", "report")];
    let expected = services.iter().filter(|(tool, _)| has(tool)).map(|(_, name)| format!("{name}:latest"));
    assert_eq!(names, expected.collect());
    assert_eq!(env.rb(["run", "count"]).expect(0).stdout, "0 words, 0 characters\n");
    assert_eq!(env.rb(["run", "report"]).expect(0).stdout, "words: 0, minutes to read: 0, title: fits\n");
}

fn edits_run_what_depends_on_them(env: &TestEnv) {
    // A remark in a library of C: it comes out as before, and nothing that is built with it is built again.
    edit(env, "c/text/text.c", "size_t words = 0;", "size_t words = 0; /* so far */");
    rb(env, "", &["+all"]).expect(0);
    expect_ran(
        env,
        &[
            "./c/text+library RUN <<EOF",
            "./c/text+sources COPY text.c",
            "./c/text+test COPY text_test.c",
            "./c/text+test RUN <<EOF",
        ],
    );
    // A change of a crate: the crate, and the service that uses it; that comes out another one, and so does its image.
    edit(env, "rust/units/src/lib.rs", "{:.1}k", "{:.1} k");
    edit(env, "rust/units/src/lib.rs", "1.2k\"", "1.2 k\"");
    edit(env, "rust/report/src/main.rs", "2.0k", "2.0 k");
    rb(env, "", &["+all"]).expect(0);
    expect_ran(
        env,
        &[
            "./rust/report+build RUN <<EOF",
            "./rust/report+build SAVE ARTIFACT",
            "./rust/report+image COPY +build/report",
            "./rust/report+sources COPY Cargo.toml",
            "./rust/report+sources COPY src",
            "./rust/report+sources COPY units+sources/units",
            "./rust/report+test RUN cargo",
            "./rust/units+sources COPY src",
            "./rust/units+sources SAVE ARTIFACT",
            "./rust/units+test RUN cargo",
            "./rust/units+tree COPY +sources/units",
        ],
    );
    // A remark in what all languages share: it is generated again, and comes out as before.
    edit(env, "contract/limits.txt", "# What", "# This is what");
    rb(env, "", &["+all"]).expect(0);
    expect_ran(env, &["./contract+limits COPY generate.sh", "./contract+limits RUN mkdir"]);
}

fn mistakes_are_told_where_they_are(env: &TestEnv) {
    edit(env, "rust/units/src/lib.rs", "\"3.4M\"", "\"3.5M\"");
    // From a folder of the project, too.
    let run = rb(env, "rust/units/src", &["+test"]).expect(1);
    let run = run.says("src/lib.rs:20").says("stdlib/rust/Buildfile").says("cargo test");
    drop(run.says("./rust/units+test"));
    edit(env, "rust/units/src/lib.rs", "\"3.5M\"", "\"3.4M\"");
    rb(env, "rust/units/src", &["+test"]).expect(0).says("nothing to do");
    edit(env, "c/text/text_test.c", "words(\"one\") == 1", "words(\"one\") == 2");
    rb(env, "c/text", &["+test"]).expect(1).says("text_test.c:12");
    edit(env, "c/text/text_test.c", "words(\"one\") == 2", "words(\"one\") == 1");
    // A mistake in a build file is told before anything runs.
    edit(env, "c/count/Buildfile", "text+library/*", "text+libary/*");
    rb(env, "", &["+images"]).expect(2).says("c/count/Buildfile:").says("`libary`").says("library");
    edit(env, "c/count/Buildfile", "text+libary/*", "text+library/*");
}

/// Builds where one language is gone: the rest is built, and what is not is named, each time.
fn what_is_missing_is_named(env: &TestEnv) {
    let there: Vec<_> =
        LANGUAGES.iter().filter(|(name, tool, _)| !["c", "rust"].contains(name) && has(tool)).collect();
    let Some((language, tool, projects)) = there.last() else {
        eprintln!("stepping aside: there is no further language to take away");
        return;
    };
    if !is_root() {
        eprintln!("stepping aside: only root can hide a program");
        return;
    }
    let inner = command(env, TOP, &["+all"]);
    let script = "for f in /usr/local/go/bin /usr/local/bin /usr/bin /bin; do \
                  if [ -x $f/$0 ]; then mount --bind /dev/null $(readlink -f $f/$0); fi; done; exec \"$@\"";
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "--propagation", "private", "sh", "-c", script, tool]);
    hidden.arg(inner.get_program()).args(inner.get_args()).env_clear();
    hidden.current_dir(inner.get_current_dir().expect("it has one"));
    hidden.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let told = format!("out/left-out/{language}.txt");
    ended(&mut hidden).expect(0).says(&format!("wrote {told}"));
    let steps = ran(env);
    let asks = |step: &String| step.contains(" IF ") || step.starts_with("+left-out ");
    assert!(steps.iter().all(asks), "{steps:?}");
    let text = env.read(&format!("{TOP}/{told}"));
    assert!(projects.iter().all(|project| text.contains(&format!("{project}: "))), "{text}");
    ended(&mut hidden).expect(0).says("nothing to do").says(&format!("{told} is up to date"));
}

#[test]
fn an_ordinary_user_builds_the_same_images_of_the_monorepo() {
    if !is_root() {
        eprintln!("stepping aside: only root can become other users");
        return;
    }
    let targets: Vec<_> =
        [("cc", "./c/count+image"), ("node", "./node/web+image"), ("python3", "./python/digest+image")]
            .into_iter()
            .filter(|(tool, _)| has(tool))
            .collect();
    let built = [Who::Tester, Who::SingleId].map(|who| {
        let env = example_env(who);
        for (_, target) in &targets {
            env.rb_in(TOP, [target]).expect(0);
        }
        env.rb_in(TOP, ["./c/count+test"]).expect(0);
        images(&env)
    });
    assert_eq!(built[0].len(), targets.len());
    assert_eq!(built[0], built[1]);
}
