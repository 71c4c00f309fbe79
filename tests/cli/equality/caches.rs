//! `make` and `cargo` with cache mounts never build stale code.
//!
//! Both judge by times which of their earlier results still hold, and the trees of a build have the times of the day on which
//! they were first made. So random edits that mislead by times, one after another: other bytes of the same length within one
//! second, files that change places, older content with its older time, files that come and go, a file that a step before
//! makes. After each, the program prints what the sources of that moment say. Needs `make` and `cc`, or `cargo`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::{Random, SOME, copy_as_it_is, first_seed, told};
use crate::env::TestEnv;

/// So few numbers that many a file is again what it was, and the tree with it is found in the store.
const NUMBERS: usize = 4;
const MODULES: [&str; 5] = ["ant", "bee", "cat", "dog", "eel"];
const HEADERS: [&str; 3] = ["one", "two", "three"];

/// How a language is written and built.
struct Language {
    file: &'static str,
    /// Steps after the project was copied.
    buildfile: String,
    options: Vec<String>,
    /// Files that never change.
    fixed: &'static [(&'static str, &'static str)],
    header: fn(number: usize) -> String,
    module: fn(number: usize, header: &str) -> String,
    main: fn(modules: &[&String]) -> String,
    rounds: usize,
}

/// A program: each module has a number and a header, each header a number.
#[derive(Clone)]
struct Program {
    modules: BTreeMap<String, (usize, &'static str)>,
    headers: BTreeMap<&'static str, usize>,
    version: usize,
}

impl Program {
    fn new(random: &mut Random) -> Self {
        let headers: BTreeMap<_, _> = HEADERS.iter().map(|name| (*name, number(random))).collect();
        let modules = MODULES[..3].iter();
        let modules = modules.map(|name| ((*name).to_owned(), (number(random), *random.pick(&HEADERS))));
        Self { modules: modules.collect(), headers, version: number(random) }
    }

    /// What the program has to print.
    fn prints(&self) -> String {
        let mut text = format!("version {}\n", self.version);
        for (name, (number, header)) in &self.modules {
            writeln!(text, "{name} {}", number + self.headers[header]).expect("in memory");
        }
        text
    }

    /// The files it is made of.
    fn files(&self, language: &Language) -> BTreeMap<String, String> {
        let end = language.file;
        let mut files = BTreeMap::from([("version.txt".to_owned(), format!("{}\n", self.version))]);
        for (name, number) in &self.headers {
            let path = if end == "c" { format!("src/{name}.h") } else { format!("helper/src/{name}.rs") };
            files.insert(path, (language.header)(*number));
        }
        let modules = if end == "c" { "src" } else { "helper/src" };
        for (name, (number, header)) in &self.modules {
            files.insert(format!("{modules}/{name}.{end}"), (language.module)(*number, header));
        }
        let names: Vec<&String> = self.modules.keys().collect();
        let main = if end == "c" { "src/main.c" } else { "helper/src/lib.rs" };
        files.insert(main.to_owned(), (language.main)(&names));
        files
    }
}

/// Two digits: files that differ in one are of the same length.
fn number(random: &mut Random) -> usize {
    10 + random.below(NUMBERS)
}

/// One project under edit.
struct Project<'a> {
    language: &'a Language,
    env: TestEnv,
    program: Program,
    states: Vec<Program>,
    told: String,
}

impl Project<'_> {
    fn folder(&self) -> PathBuf {
        self.env.project().join("project")
    }

    fn history(&self, state: usize) -> PathBuf {
        self.env.project().with_file_name(format!("state-{state}"))
    }

    /// Writes what changed, now and then with a time that says nothing of it; removes what is no part of it any more.
    fn write(&self, before: &BTreeMap<String, String>, random: &mut Random) {
        let files = self.program.files(self.language);
        for path in before.keys().filter(|path| !files.contains_key(*path)) {
            fs::remove_file(self.folder().join(path)).expect("removes");
        }
        for (path, text) in files.iter().filter(|(path, text)| before.get(*path) != Some(text)) {
            let path = self.folder().join(path);
            let time = path.metadata().and_then(|metadata| metadata.modified());
            fs::write(&path, text).expect("writes");
            let time = match random.below(4) {
                0 => time.ok(),
                1 => Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)),
                _ => None,
            };
            if let Some(time) = time {
                File::open(&path).and_then(|file| file.set_modified(time)).expect("sets the time");
            }
        }
    }

    fn edit(&mut self, random: &mut Random) {
        let before = self.program.files(self.language);
        let names: Vec<String> = self.program.modules.keys().cloned().collect();
        let name = random.pick(&names).clone();
        let edit = match random.below(12) {
            0 | 1 => {
                self.program.modules.get_mut(&name).expect("is there").0 = number(random);
                format!("another number in {name}")
            }
            2 => {
                let header = *random.pick(&HEADERS);
                self.program.modules.get_mut(&name).expect("is there").1 = header;
                format!("{name} uses {header}")
            }
            3 => {
                let header = *random.pick(&HEADERS);
                self.program.headers.insert(header, number(random));
                format!("another number in {header}")
            }
            4 | 9 | 10 => {
                self.program.version = number(random);
                "another version".to_owned()
            }
            5 => {
                let other = random.pick(&names).clone();
                self.exchange("modules", &name, &other);
                let modules = &mut self.program.modules;
                let (left, right) = (modules[&name], modules[&other]);
                modules.extend([(name.clone(), right), (other.clone(), left)]);
                self.told += &format!("  {name} and {other} changed places\n");
                return;
            }
            6 => {
                let (left, right) = (*random.pick(&HEADERS), *random.pick(&HEADERS));
                self.exchange("headers", left, right);
                let headers = &mut self.program.headers;
                let numbers = (headers[left], headers[right]);
                headers.extend([(left, numbers.1), (right, numbers.0)]);
                self.told += &format!("  {left} and {right} changed places\n");
                return;
            }
            7 if names.len() > 2 => {
                self.program.modules.remove(&name);
                format!("removed {name}")
            }
            7 | 8 if names.len() < MODULES.len() => {
                let name = MODULES.iter().find(|name| !names.iter().any(|known| known == *name));
                let name = (*name.expect("one is free")).to_owned();
                self.program.modules.insert(name.clone(), (number(random), *random.pick(&HEADERS)));
                format!("new {name}")
            }
            _ => {
                let state = random.below(self.states.len());
                fs::remove_dir_all(self.folder()).expect("removes");
                copy_as_it_is(&self.history(state), &self.folder());
                self.program = self.states[state].clone();
                self.told += &format!("  back to state {state}\n");
                return;
            }
        };
        self.write(&before, random);
        self.told += &format!("  {edit}\n");
    }

    /// Two files change places, and each keeps its time.
    fn exchange(&self, kind: &str, left: &str, right: &str) {
        let path = |name: &str| {
            let path = match (self.language.file, kind) {
                ("c", "headers") => format!("src/{name}.h"),
                ("c", _) => format!("src/{name}.c"),
                _ => format!("helper/src/{name}.rs"),
            };
            self.folder().join(path)
        };
        let aside = self.folder().join("aside");
        fs::rename(path(left), &aside).expect("renames");
        if left != right {
            fs::rename(path(right), path(left)).expect("renames");
        }
        fs::rename(&aside, path(right)).expect("renames");
    }
}

/// Tells one story.
fn tell(language: &Language, seed: u64) {
    let mut random = Random::new(seed);
    let program = Program::new(&mut random);
    let mut project =
        Project { language, env: TestEnv::new(), program, states: Vec::new(), told: String::new() };
    for (path, text) in language.fixed {
        project.env.write(&format!("project/{path}"), text);
    }
    project.env.write("project/Buildfile", &language.buildfile);
    for (path, text) in project.program.files(language) {
        project.env.write(&format!("project/{path}"), text);
    }
    let mut arguments = language.options.clone();
    arguments.push("+app".to_owned());
    // The long form has them all.
    let rounds = if told("RB_EQUALITY_SEQUENCES").is_some_and(|many| many > SOME) {
        language.rounds
    } else {
        language.rounds / 2
    };
    for round in 0..rounds {
        if round > 0 {
            for _ in 0..1 + random.below(2) {
                project.edit(&mut random);
            }
        }
        copy_as_it_is(&project.folder(), &project.history(round));
        project.states.push(project.program.clone());
        let run = project.env.rb_in("project", &arguments);
        let story = || format!("RB_EQUALITY_SEED={seed}, round {round}:\n{}", project.told);
        assert_eq!(run.code, 0, "{}\n{}", story(), run.stderr);
        let printed = fs::read_to_string(project.env.project().join("out")).expect("was written");
        assert_eq!(printed, project.program.prints(), "{}\n{}", story(), run.stderr);
        project.told += "  -- built\n";
    }
}

fn tell_all(language: &Language) {
    let seed = first_seed();
    // Each is as long as many of the others.
    let many = told("RB_EQUALITY_SEQUENCES").map_or(1, |many| many.div_ceil(20));
    for seed in seed..seed + many {
        tell(language, seed);
    }
    eprintln!("stories {seed} to {} of .{}: never stale", seed + many - 1, language.file);
}

const MAKEFILE: &str = "\
OBJECTS := $(patsubst src/%.c,/obj/%.o,$(wildcard src/*.c))
/obj/app: $(OBJECTS)
	cc -o $@ $(OBJECTS)
/obj/%.o: src/%.c
	cc -MMD -MP -Igen -DMODULE=$* -c -o $@ $<
-include $(OBJECTS:.o=.d)
";

fn c(version: &str, copy: &str) -> Language {
    Language {
        file: "c",
        buildfile: format!(
            "VERSION {version}\napp:\n    FROM @host\n    WORKDIR /src\n    \
             COPY {copy} Makefile version.txt ./\n    \
             RUN mkdir gen && echo \"#define VERSION $(cat version.txt)\" > gen/version.h\n    \
             COPY {copy} src/*.h src/\n    COPY {copy} src/*.c src/\n    \
             RUN --mount=type=cache,target=/obj make -s && /obj/app > /out\n    \
             SAVE ARTIFACT --force /out AS LOCAL ../out\n"
        ),
        options: Vec::new(),
        fixed: &[("Makefile", MAKEFILE)],
        header: |number| format!("#define NUMBER {number}\n"),
        module: |number, header| {
            format!("#include \"{header}.h\"\nint MODULE(void) {{ return {number} + NUMBER; }}\n")
        },
        main: |modules| {
            let mut text = "#include <stdio.h>\n#include \"version.h\"\n".to_owned();
            for name in modules {
                writeln!(text, "int {name}(void);").expect("in memory");
            }
            text += "int main(void) {\n    printf(\"version %d\\n\", VERSION);\n";
            for name in modules {
                writeln!(text, "    printf(\"{name} %d\\n\", {name}());").expect("in memory");
            }
            text + "}\n"
        },
        rounds: 8,
    }
}

#[test]
fn make_never_builds_stale_code() {
    for tool in ["make", "cc"] {
        if !Path::new("/usr/bin").join(tool).exists() {
            eprintln!("stepping aside: there is no /usr/bin/{tool}");
            return;
        }
    }
    tell_all(&c("1", ""));
    tell_all(&c("0.8", "--keep-ts"));
}

/// Where the toolchain lies that `cargo` and `rustc` here are of.
fn toolchain() -> Option<PathBuf> {
    let printed = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(printed.stdout).ok()?.trim());
    ["bin/cargo", "bin/rustc"].iter().all(|tool| path.join(tool).exists()).then_some(path)
}

#[test]
fn cargo_never_builds_stale_code() {
    let Some(toolchain) = toolchain() else {
        eprintln!("stepping aside: rustc does not say where it lies, or cargo does not lie beside it");
        return;
    };
    if !Path::new("/usr/bin/cc").exists() {
        eprintln!("stepping aside: there is no /usr/bin/cc, which links for rustc");
        return;
    }
    let toolchain = toolchain.display();
    tell_all(&Language {
        file: "rs",
        buildfile: format!(
            "VERSION 1\napp:\n    FROM @host --bind={toolchain}\n    ENV PATH={toolchain}/bin:/usr/bin:/bin\n    \
             ENV CARGO_HOME=/cargo CARGO_TARGET_DIR=/target CARGO_PROFILE_DEV_DEBUG=0\n    WORKDIR /src\n    \
             COPY version.txt .\n    RUN echo \"pub const VERSION: u32 = $(cat version.txt);\" > version.rs\n    \
             COPY --dir helper ./\n    COPY --dir app Cargo.toml ./\n    \
             RUN --mount=type=cache,target=/cargo --mount=type=cache,target=/target \
             cargo build --quiet --offline && /target/debug/app > /out\n    \
             SAVE ARTIFACT --force /out AS LOCAL ../out\n"
        ),
        options: vec![format!("--allow-bind={toolchain}")],
        fixed: &[
            ("Cargo.toml", "[workspace]\nmembers = [\"app\", \"helper\"]\nresolver = \"2\"\n"),
            (
                "app/Cargo.toml",
                "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                 [dependencies]\nhelper = { path = \"../helper\" }\n",
            ),
            ("helper/Cargo.toml", "[package]\nname = \"helper\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
            (
                "app/src/main.rs",
                "#[path = \"/src/version.rs\"]\nmod version;\nfn main() {\n    println!(\"version {}\", version::VERSION);\n    helper::print();\n}\n",
            ),
        ],
        header: |number| format!("pub const NUMBER: u32 = {number};\n"),
        module: |number, header| {
            format!("pub fn value() -> u32 {{\n    {number} + crate::{header}::NUMBER\n}}\n")
        },
        main: |modules| {
            let mut text = "#![allow(dead_code)]\n".to_owned();
            for name in HEADERS.iter().copied().chain(modules.iter().map(|name| name.as_str())) {
                writeln!(text, "mod {name};").expect("in memory");
            }
            text += "pub fn print() {\n";
            for name in modules {
                writeln!(text, "    println!(\"{name} {{}}\", {name}::value());").expect("in memory");
            }
            text + "}\n"
        },
        rounds: 6,
    });
}
