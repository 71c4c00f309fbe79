//! Random buildpacks, built by `rb` and by the reference's `creator`: layers, config, labels and exit codes are equal.
//!
//! A number is a whole case: one to four buildpacks with plans, layers of all types, files of variables with all suffixes,
//! processes, labels, slices, bills of materials and stores, which change the app and write down what they see of their variables;
//! each is built twice, the second time with what was kept. `RB_BUILDPACKS_CASES` says how many, `RB_BUILDPACKS_SEED=7` has case 7
//! again; with both, as many from 7 on. `LIFECYCLE` names a folder with the reference; without it nothing runs.

use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;

use crate::env::Run;
use crate::equality::Random;
use crate::pack::Packed;
use crate::pack_creator::with_creator;
use crate::pack_lifecycle::above;

/// Cases in a normal run.
const SOME: u64 = 10;

/// Names of variables that buildpacks set and write down.
const VARIABLES: [&str; 6] = ["ALPHA", "BETA", "GAMMA", "PATH", "LD_LIBRARY_PATH", "CPATH"];
const SUFFIXES: [&str; 7] = ["", ".override", ".default", ".append", ".prepend", ".delim", ".unknown"];
const NAMES: [&str; 4] = ["red", "green", "blue", "grey"];
const TYPES: [&str; 3] = ["web", "task", "worker.1"];

/// Says what variables a buildpack sees, whatever it was called with.
const SEEN: &str = "seen() { for name in ALPHA BETA GAMMA DELTA PATH LD_LIBRARY_PATH LIBRARY_PATH CPATH PKG_CONFIG_PATH CNB_STACK_ID \
                    CNB_TARGET_OS CNB_TARGET_ARCH CNB_TARGET_DISTRO_NAME CNB_LAYERS_DIR CNB_BUILDPACK_DIR HOME; do \
                    busybox env | busybox grep \"^$name=\" || echo \"no $name\"; done; }\n";

/// One buildpack.
struct Made {
    detect: String,
    build: String,
    optional: bool,
}

fn flag(dice: &mut Random) -> &'static str {
    if dice.one_in(2) { "true" } else { "false" }
}

/// Writes files of variables into a folder.
fn variables(dice: &mut Random, folder: &str, text: &mut String) {
    writeln!(text, "mkdir -p \"{folder}\"").expect("writes");
    for _ in 0..dice.below(4) {
        let (name, suffix) = (*dice.pick(&VARIABLES), *dice.pick(&SUFFIXES));
        let value = ["/x", "a b", "", ":"][dice.below(4)];
        writeln!(text, "printf '{value}' > \"{folder}/{name}{suffix}\"").expect("writes");
    }
}

fn layer(dice: &mut Random, name: &str, text: &mut String) {
    let (launch, build, cache) = (flag(dice), flag(dice), flag(dice));
    writeln!(text, "mkdir -p \"$1/{name}\"").expect("writes");
    for folder in ["bin", "lib", "include", "pkgconfig"] {
        if dice.one_in(3) {
            writeln!(
                text,
                "mkdir -p \"$1/{name}/{folder}\"; echo {folder} > \"$1/{name}/{folder}/of {name}\""
            )
            .expect("writes");
        }
    }
    for folder in ["env", "env.build", "env.launch", "env.launch/web"] {
        if dice.one_in(3) {
            variables(dice, &format!("$1/{name}/{folder}"), text);
        }
    }
    if dice.one_in(3) {
        writeln!(text, "ln -sf ../nowhere \"$1/{name}/link\"; chmod 750 \"$1/{name}\"").expect("writes");
    }
    if dice.one_in(2) {
        writeln!(text, "seen > \"$1/{name}/seen\"").expect("writes");
    }
    if dice.one_in(3) {
        writeln!(text, "echo '{{\"of\":\"{name}\"}}' > \"$1/{name}.sbom.spdx.json\"").expect("writes");
    }
    let types = format!("[types]\\nlaunch={launch}\\nbuild={build}\\ncache={cache}\\n");
    let metadata = match dice.below(3) {
        0 => "",
        1 => "[metadata]\\nversion=\"1.2\"\\nlist=[1,2]\\n",
        _ => "[metadata]\\n[metadata.deep]\\nodd=\"<&>\"\\nnumber=1.5\\nflag=true\\n",
    };
    writeln!(text, "printf '{types}{metadata}' > \"$1/{name}.toml\"").expect("writes");
}

fn launch(dice: &mut Random, text: &mut String) {
    let mut out = String::new();
    let mut has_default = false;
    for kind in TYPES {
        if !dice.one_in(3) {
            continue;
        }
        let default = !has_default && dice.one_in(3);
        has_default |= default;
        write!(out, "[[processes]]\\ntype=\"{kind}\"\\ncommand=[\"sh\"").expect("writes");
        out.push_str(if dice.one_in(2) { ",\"-c\"]\\n" } else { "]\\n" });
        for (line, often) in [("args=[\"one\",\"two words\"]\\n", 2), ("working-dir=\"/tmp\"\\n", 3)] {
            if dice.one_in(often) {
                out.push_str(line);
            }
        }
        if default {
            out.push_str("default=true\\n");
        }
    }
    if dice.one_in(2) {
        write!(out, "[[labels]]\\nkey=\"label.{}\"\\nvalue=\"<{}>\"\\n", dice.below(2), dice.below(9))
            .expect("writes");
    }
    if dice.one_in(3) {
        let paths = ["static/*", "*.txt", "made/**", "none"];
        write!(out, "[[slices]]\\npaths=[\"{}\",\"{}\"]\\n", dice.pick(&paths), dice.pick(&paths))
            .expect("writes");
    }
    if !out.is_empty() {
        writeln!(text, "printf '{out}' > \"$1/launch.toml\"").expect("writes");
    }
}

fn made(dice: &mut Random, number: usize) -> Made {
    let mut detect = "#!/bin/sh\n".to_owned();
    let mut plan = String::new();
    for name in NAMES {
        if dice.one_in(5) {
            write!(plan, "[[provides]]\\nname=\"{name}\"\\n").expect("writes");
            // Mostly somebody wants it.
            if !dice.one_in(4) {
                write!(plan, "[[requires]]\\nname=\"{name}\"\\n").expect("writes");
            }
        } else if dice.one_in(12) {
            write!(plan, "[[requires]]\\nname=\"{name}\"\\n").expect("writes");
        }
    }
    if !plan.is_empty() {
        writeln!(detect, "printf '{plan}' > \"$2\"").expect("writes");
    }
    let optional = dice.one_in(3);
    let code = match dice.below(12) {
        0 => 100,
        1 => 1,
        _ => 0,
    };
    writeln!(detect, "exit {code}").expect("writes");
    let mut build = format!("#!/bin/sh\nset -e\n{SEEN}");
    for name in ["a", "b-1", "C"] {
        if dice.one_in(2) {
            layer(dice, name, &mut build);
        }
    }
    launch(dice, &mut build);
    if dice.one_in(3) {
        writeln!(build, "printf '[metadata]\\nof={number}\\n' > \"$1/store.toml\"").expect("writes");
    }
    for kind in ["launch", "build"] {
        if dice.one_in(4) {
            writeln!(build, "echo '{{}}' > \"$1/{kind}.sbom.spdx.json\"").expect("writes");
        }
    }
    match dice.below(4) {
        0 => build.push_str(
            "mkdir -p made; seen > \"made/of $CNB_BUILDPACK_DIR/x\" 2>/dev/null || seen > made/seen\n",
        ),
        1 => build.push_str("rm -f readme.txt; touch static/more.css\n"),
        _ => {}
    }
    writeln!(build, "exit {}", if dice.one_in(20) { 7 } else { 0 }).expect("writes");
    Made { detect, build, optional }
}

/// Builds a case by both, and compares.
fn case(seed: u64, program: &Path) {
    let mut dice = Random::new(seed);
    let Some(packed) = Packed::new() else { return };
    let count = 1 + dice.below(4);
    let all: Vec<Made> = (0..count).map(|number| made(&mut dice, number)).collect();
    let mut order = Vec::new();
    let mut told = format!("RB_BUILDPACKS_SEED={seed}\n");
    for (number, Made { detect, build, optional }) in all.iter().enumerate() {
        packed.buildpack(&format!("dice_{number}"), "1", &format!("dice/{number}"), detect, build);
        order.push(format!("dice/{number}@1{}", if *optional { "?" } else { "" }));
        write!(told, "--- {} detects\n{detect}--- and builds\n{build}", order[number]).expect("writes");
    }
    packed.builder(&order.iter().map(String::as_str).collect::<Vec<_>>());
    std::fs::copy(program.join("lifecycle"), packed.0.project().join("creator")).expect("copies");
    with_creator(&packed);
    packed.0.write("app/readme.txt", "read").write("app/static/a.css", "a").write("app/static/b.css", "b");
    let base = packed.image("run:1");
    let mut more: Vec<&str> = vec!["-e", "GAMMA=of the user", "-e", "DELTA=4"];
    if dice.one_in(3) {
        more.extend(["-D", "web"]);
    }
    for round in 0..2 {
        let build = |image: &str, how: &str| -> Run {
            let words = ["pack", "build", "-B", "own:1", "-p", "app", "--progress=plain", image, how];
            packed.0.rb(words.iter().chain(&more))
        };
        let (ours, theirs) = (build("ours:1", "--lifecycle=rb"), build("theirs:1", "--lifecycle=builder"));
        let story = || {
            format!(
                "round {round}: {told}ours: {} {}\ntheirs: {} {}",
                ours.code, ours.stderr, theirs.code, theirs.stderr
            )
        };
        assert_eq!(ours.code == 0, theirs.code == 0, "{}", story());
        if ours.code != 0 {
            return;
        }
        let images = ["ours:1", "theirs:1"].map(|name| packed.image(name));
        let [ours_above, theirs_above] = images.each_ref().map(|image| above(image, &base));
        assert_eq!(ours_above, theirs_above, "{}", story());
        packed.0.write("app/readme.txt", "read again");
    }
}

#[test]
fn random_buildpacks_make_the_same_images() {
    let set = |name: &str| std::env::vars_os().find(|(known, _)| known == name).map(|(_, value)| value);
    let Some(program) = set("LIFECYCLE") else {
        eprintln!("not run: random buildpacks beside the reference; LIFECYCLE names a folder with it");
        return;
    };
    let number = |name: &str| Some(set(name)?.to_str()?.parse::<u64>().expect("a number"));
    let seed = number("RB_BUILDPACKS_SEED");
    let some = if seed.is_some() { 1 } else { SOME };
    let count = number("RB_BUILDPACKS_CASES").unwrap_or(some);
    let first = seed.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish() >> 24);
    eprintln!("{count} cases from RB_BUILDPACKS_SEED={first} on");
    for seed in first..first + count {
        eprintln!("RB_BUILDPACKS_SEED={seed}");
        case(seed, Path::new(&program));
    }
}
