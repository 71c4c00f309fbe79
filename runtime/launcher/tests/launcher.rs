//! The launcher as a program: what becomes of it, by fixed cases; and beside the reference's, by random ones.
//!
//! `LIFECYCLE` names a folder with the reference's `launcher`; without it the random cases step aside. `RB_BUILDPACKS_SEED` and
//! `RB_BUILDPACKS_CASES` choose them. What was started is `cat`, which shows its own arguments, environment and folder.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const OWN: &str = env!("CARGO_BIN_EXE_rb-launcher");
const BETWEEN: &str = "\n----\n";

/// An image without its root: layers and an app.
struct Image {
    folder: TempDir,
    environment: BTreeMap<String, String>,
}

/// What was started, as it sees itself.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    code: Option<i32>,
    /// Empty where nothing was started.
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    here: String,
    /// What all of them wrote before, and why nothing was started.
    said: String,
}

impl Image {
    fn new(platform: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let environment = [
            ("PATH", "/cnb/process:/cnb/lifecycle:/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("CNB_LAYERS_DIR", path("layers")),
            ("CNB_APP_DIR", path("app")),
            ("CNB_PLATFORM_API", platform.to_owned()),
            ("CNB_DEPRECATION_MODE", "quiet".to_owned()),
            ("CNB_NO_COLOR", "true".to_owned()),
            ("OF_CONTAINER", "x=y".to_owned()),
        ];
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let image = Self { folder, environment };
        image.write("mark", BETWEEN).write("app/here", "app").write("app/sub/here", "sub");
        image.metadata("");
        image
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes folders");
        std::fs::write(&path, text).expect("writes");
        self
    }

    fn program(&self, name: &str, text: &str) -> &Self {
        self.write(name, text);
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).expect("modes");
        self
    }

    fn metadata(&self, text: &str) -> &Self {
        self.write("layers/config/metadata.toml", text)
    }

    /// The words of a command that shows itself.
    fn probe(&self) -> Vec<String> {
        let mark = self.path("mark").display().to_string();
        ["cat", &mark, "/proc/self/cmdline", &mark, "/proc/self/environ", &mark, "here", &mark]
            .map(ToOwned::to_owned)
            .to_vec()
    }

    fn start(&self, program: &Path, called: &str, typed: &[String]) -> Seen {
        let mut command = Command::new(program);
        command.arg0(called).args(typed).env_clear().envs(&self.environment);
        self.seen(&command.output().expect("starts"))
    }

    fn own(&self, called: &str, typed: &[&str]) -> Seen {
        self.start(OWN.as_ref(), called, &typed.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    fn seen(&self, output: &Output) -> Seen {
        // The folder has another name each time.
        let place = self.folder.path().display().to_string();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&place, "/IMAGE");
        let (out, errors) = (text(&output.stdout), text(&output.stderr));
        let parts: Vec<&str> = out.split(BETWEEN).collect();
        let list = |part: &str| -> Vec<String> {
            part.trim_end_matches('\0')
                .split('\0')
                .filter(|one| !one.is_empty())
                .map(ToOwned::to_owned)
                .collect()
        };
        let pair = |one: String| one.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        // The reference says on stdout what is said on stderr here.
        let (arguments, environment, here) = match parts.as_slice() {
            [_, arguments, environment, here, ..] => (
                list(arguments),
                list(environment).into_iter().filter_map(pair).collect(),
                (*here).to_owned(),
            ),
            _ => (Vec::new(), BTreeMap::new(), String::new()),
        };
        let said = format!("{}{errors}", parts[0]);
        Seen { code: output.status.code(), arguments, environment, here, said }
    }
}

/// Writes a list as TOML has it.
fn quoted(all: &[String]) -> String {
    let one = |text: &String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(", "))
}

#[expect(clippy::print_stderr, reason = "who runs the tests is told what was not run")]
fn has_bash() -> bool {
    let there = Path::new("/bin/bash").exists();
    if !there {
        eprintln!("not run: processes by a shell; this machine has no /bin/bash");
    }
    there
}

#[test]
fn a_direct_process_sees_what_layers_ask_for() {
    let image = Image::new("0.14");
    let probe = image.probe();
    image.metadata(&format!(
        "[[buildpacks]]\nid='a/b'\napi='0.10'\n[[buildpacks]]\nid='gone'\napi='0.12'\n\
         [[processes]]\ntype='web'\ncommand={}\nargs=['default']\ndirect=true\nbuildpack-id='a/b'\nworking-dir='{}'\n",
        quoted(&probe),
        image.path("app/sub").display(),
    ));
    image
        .write("layers/a_b/one/bin/x", "")
        .write("layers/a_b/one/lib/x", "")
        .write("layers/a_b/two/bin/x", "")
        .write("layers/a_b/two/env/OF_CONTAINER.append", "1")
        .write("layers/a_b/two/env/OF_CONTAINER.delim", "+")
        .write("layers/a_b/two/env.launch/OWN", "launch")
        .write("layers/a_b/two/env.launch/web/OWN.prepend", "web-")
        .write("layers/a_b/two/env.launch/task/OWN", "task")
        .program("layers/a_b/two/exec.d/one", "#!/bin/sh\nprintf 'SAID = \"%s\"' \"$OWN\" >&3\n")
        .program("layers/a_b/two/exec.d/web/two", "#!/bin/sh\nread x || echo 'OWN = \"exec\"' >&3\n");
    let seen = image.own("/cnb/process/web", &["typed"]);
    assert_eq!(seen.arguments, [&image.probe_shown()[..], &["typed".to_owned()]].concat());
    let want = [
        ("CNB_NO_COLOR", "true"),
        ("LD_LIBRARY_PATH", "/IMAGE/layers/a_b/one/lib"),
        ("OF_CONTAINER", "x=y+1"),
        ("OWN", "exec"),
        ("PATH", "/IMAGE/layers/a_b/two/bin:/IMAGE/layers/a_b/one/bin:/usr/local/bin:/usr/bin:/bin"),
        ("SAID", "web-launch"),
    ];
    let all: Vec<(&str, &str)> =
        seen.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(all, want);
    assert_eq!((seen.here.as_str(), seen.code), ("sub", Some(1)), "{}", seen.said);
    assert_eq!(image.own("/cnb/process/web", &[]).arguments.last().map(String::as_str), Some("default"));
}

impl Image {
    fn probe_shown(&self) -> Vec<String> {
        let place = self.folder.path().display().to_string();
        self.probe().into_iter().map(|word| word.replace(&place, "/IMAGE")).collect()
    }
}

#[test]
fn a_shell_sources_profiles_and_looks_at_each_word() {
    if !has_bash() {
        return;
    }
    let image = Image::new("0.9");
    let probe = image.probe();
    image.metadata(&format!(
        "[[buildpacks]]\nid='a'\napi='0.8'\n[[processes]]\ntype='web'\ncommand='{}'\nbuildpack-id='a'\n\
         [[processes]]\ntype='words'\ncommand='cat'\nargs={}\nbuildpack-id='a'\n[[processes]]\ntype='lost'\ncommand='x'\n\
         args=['y']\nbuildpack-id='nobody'\n",
        probe.join(" "),
        quoted(&probe[1..]),
    ));
    image
        .write("layers/a/one/profile.d/1.sh", "export FIRST=1\n")
        .write("layers/a/one/profile.d/web/2.sh", "export FIRST=${FIRST}2\n")
        .write("app/.profile", "export OWN=$0\necho before\n");
    let seen = image.own("/cnb/process/web", &[]);
    assert_eq!((seen.code, seen.said.as_str()), (Some(0), "before\n"));
    assert_eq!(
        (seen.environment["FIRST"].as_str(), seen.environment["OWN"].as_str()),
        ("12", "/cnb/process/web")
    );
    let seen = image.own("words", &["$FIRST and \"more\"", "a  b"]);
    assert_eq!(seen.arguments[seen.arguments.len() - 2..], ["1 and more", "a b"]);
    let seen = image.own("lost", &[]);
    let why = "ERROR: failed to launch: process type 'lost' provided by unknown buildpack 'nobody'\n";
    assert_eq!((seen.code, seen.said.as_str()), (Some(82), why));
    // What the user types is a script, unless there are arguments.
    let seen = image.own("launcher", &["echo $FIRST; exit 7"]);
    assert_eq!((seen.code, seen.said.as_str()), (Some(7), "before\n1\n"));
}

#[test]
fn why_nothing_is_started() {
    let says = |change: &dyn Fn(&mut Image), called: &str, typed: &[&str]| {
        let mut image = Image::new("0.14");
        let text = "[[buildpacks]]\nid='a'\napi='0.10'\n[[processes]]\ntype='web'\ncommand=['none']\ndirect=true\nbuildpack-id='a'\n";
        image.metadata(text);
        change(&mut image);
        let seen = image.own(called, typed);
        assert!(seen.arguments.is_empty());
        let said = seen.said.strip_prefix("ERROR: failed to ").unwrap_or_else(|| panic!("{}", seen.said));
        (seen.code.expect("a code"), said.trim_end().to_owned())
    };
    let api = |version: &'static str| {
        move |image: &mut Image| {
            drop(image.environment.insert("CNB_PLATFORM_API".to_owned(), version.to_owned()));
        }
    };
    let text = |text: &'static str| {
        move |image: &mut Image| {
            image.metadata(text);
        }
    };
    let as_is = |_: &mut Image| {};
    for (got, code, why) in [
        (
            says(&api(""), "web", &[]),
            11,
            "get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version",
        ),
        (says(&api("x"), "web", &[]), 11, "parse platform API 'x'"),
        (
            says(&api("0.16"), "web", &[]),
            11,
            "set platform API: platform API version '0.16' is incompatible with the lifecycle",
        ),
        (
            says(&text("[[buildpacks]]\nid='a'\napi='0.2'\n"), "web", &[]),
            12,
            "set API for buildpack 'a': buildpack API version '0.2' is incompatible with the lifecycle",
        ),
        (
            says(&as_is, "other", &[]),
            82,
            "launch: determine start command: when there is no default process a command is required",
        ),
        (
            says(&as_is, "web", &[]),
            82,
            "launch: path lookup: exec: \"none\": executable file not found in $PATH",
        ),
        (
            says(&as_is, "x", &["--", "./here"]),
            82,
            "launch: path lookup: exec: \"./here\": permission denied",
        ),
        (
            says(
                &|image| {
                    image.program("layers/a/l/exec.d/x", "#!/bin/sh\nexit 3\n");
                },
                "web",
                &[],
            ),
            82,
            "launch: exec.d: failed to execute exec.d file at path '/IMAGE/layers/a/l/exec.d/x': exit status 3",
        ),
        (
            says(&|image| drop(std::fs::remove_file(image.path("layers/config/metadata.toml"))), "web", &[]),
            1,
            "read metadata: open /IMAGE/layers/config/metadata.toml: no such file or directory",
        ),
    ] {
        assert_eq!(got, (code, why.to_owned()));
    }
    let (code, why) = says(
        &|image| {
            image.program("layers/a/l/exec.d/x", "#!/bin/sh\necho 'A = 1' >&3\n");
        },
        "web",
        &[],
    );
    assert!(code == 82 && why.contains("failed to decode output from exec.d file"), "{why}");
    assert_eq!(
        says(&text("processes = 1"), "web", &[]),
        (1, "read metadata: `processes` is not a list of tables".to_owned())
    );
}

/// What may stand in texts that a shell sees, too.
const WORDS: [&str; 10] =
    ["", "plain", "two words", "$OF_CONTAINER", "a\"b", "it's", "back\\slash", "*", "é", "$(echo sub)"];
const NAMES: [&str; 5] = ["PATH", "LD_LIBRARY_PATH", "OF_CONTAINER", "ONE", "TWO"];
const ENDS: [&str; 9] =
    ["", ".append", ".prepend", ".default", ".override", ".delim", ".other", ".", ".prepend.x"];
const KINDS: [&str; 3] = ["web", "task", "long.name_1-x"];

/// Makes an image by dice; returns how its launcher is called, and what is typed.
fn image(dice: &mut fastrand::Rng) -> (Image, String, Vec<String>) {
    let minor = dice.u8(7..=15);
    let mut image = Image::new(&format!("0.{minor}"));
    if dice.u8(0..4) == 0 {
        image
            .environment
            .insert("CNB_EXEC_ENV".to_owned(), ["test", "production"][dice.usize(0..2)].to_owned());
    }
    let word = |dice: &mut fastrand::Rng| dice.choice(WORDS).unwrap_or_default().to_owned();
    let words = |dice: &mut fastrand::Rng| (0..dice.usize(0..3)).map(|_| word(dice)).collect::<Vec<_>>();
    let ids: Vec<String> =
        ["a", "b/c", "d"].into_iter().take(dice.usize(1..=3)).map(ToOwned::to_owned).collect();
    let mut text = String::new();
    for id in &ids {
        text += &format!("[[buildpacks]]\nid='{id}'\napi='0.{}'\nversion='1'\n", dice.u8(7..=12));
        for layer in ["one", "two", "two-b"].into_iter().take(dice.usize(0..=3)) {
            let place = format!("layers/{}/{layer}", id.replace('/', "_"));
            for folder in ["bin", "lib", "include"] {
                if dice.bool() {
                    image.write(&format!("{place}/{folder}/x"), "");
                }
            }
            let kind = KINDS[dice.usize(0..KINDS.len())];
            for folder in ["env", "env.launch", "env.build", &format!("env.launch/{kind}")] {
                for _ in 0..dice.usize(0..3) {
                    let name = format!("{}{}", NAMES[dice.usize(0..5)], ENDS[dice.usize(0..9)]);
                    image.write(&format!("{place}/{folder}/{name}"), &word(dice));
                }
            }
            for folder in ["profile.d".to_owned(), format!("profile.d/{kind}")] {
                if dice.u8(0..3) == 0 {
                    let text = format!("export TWO=\"${{TWO}}+{kind}\"\n");
                    image.write(&format!("{place}/{folder}/p.sh"), &text);
                }
            }
            for folder in ["exec.d".to_owned(), format!("exec.d/{kind}")] {
                if dice.u8(0..3) == 0 {
                    let end = if dice.u8(0..8) == 0 { "exit 4" } else { "" };
                    let text = format!(
                        "#!/bin/sh\nprintf 'ONE = \"%s-x\"\\n\"a-b\" = \"c\"\\n' \"$CNB_NO_COLOR\" >&3\npwd; {end}\n"
                    );
                    image.program(&format!("{place}/{folder}/x"), &text);
                }
            }
        }
    }
    let probe = image.probe();
    for kind in KINDS.into_iter().take(dice.usize(0..=3)) {
        let id = if dice.u8(0..12) == 0 { "nobody" } else { &ids[dice.usize(0..ids.len())] };
        let direct = dice.bool();
        let own = words(dice);
        let (command, own) = match dice.u8(0..3) {
            0 => (quoted(&[&probe[..], &words(dice)].concat()), own),
            1 if !direct => (quoted(&[probe.join(" ")]), Vec::new()),
            _ => (quoted(&probe[..1]), [&probe[1..], &own].concat()),
        };
        text += &format!(
            "[[processes]]\ntype='{kind}'\ncommand={command}\nargs={}\ndirect={direct}\nbuildpack-id='{id}'\n",
            quoted(&own)
        );
        if dice.u8(0..3) == 0 {
            text += &format!("working-dir='{}'\n", image.path("app/sub").display());
        }
        if dice.u8(0..4) == 0 {
            text += ["exec-env=['test']\n", "exec-env=['*']\n", "exec-env=['production', 'x']\n"]
                [dice.usize(0..3)];
        }
    }
    image.metadata(&text);
    if dice.u8(0..4) == 0 {
        image.write("app/.profile", "export OWN_PROFILE=\"$0\"\n");
    }
    let called = match dice.u8(0..5) {
        0 => "/cnb/lifecycle/launcher".to_owned(),
        1 => "launcher".to_owned(),
        _ => format!("/cnb/process/{}", KINDS[dice.usize(0..3)]),
    };
    let typed = match dice.u8(0..4) {
        0 => [&["--".to_owned()][..], &probe, &words(dice)].concat(),
        1 => [&probe[..], &words(dice)].concat(),
        2 => vec![probe.join(" ")],
        _ => words(dice),
    };
    (image, called, typed)
}

#[test]
fn it_is_as_the_reference() {
    let told = |name: &str| std::env::vars().find(|(have, _)| have == name).map(|(_, value)| value);
    let Some(reference) = told("LIFECYCLE").map(|folder| Path::new(&folder).join("launcher")) else {
        eprintln!("not run: beside the reference; LIFECYCLE names a folder with its `launcher`");
        return;
    };
    if !has_bash() {
        return;
    }
    let number = |name: &str| told(name).and_then(|value| value.parse().ok());
    let seed = number("RB_BUILDPACKS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let cases = number("RB_BUILDPACKS_CASES").unwrap_or(30) * 3;
    let mut started = 0;
    for case in 0..cases {
        let (image, called, typed) = image(&mut fastrand::Rng::with_seed(seed.wrapping_add(case)));
        let (own, theirs) =
            (image.start(OWN.as_ref(), &called, &typed), image.start(&reference, &called, &typed));
        started += u64::from(!theirs.arguments.is_empty());
        let kept = (own != theirs).then(|| image.folder.keep());
        assert_eq!(own, theirs, "RB_BUILDPACKS_SEED={} {called} {typed:?} {kept:?}", seed.wrapping_add(case));
    }
    assert!(started > cases / 3, "{started} of {cases} were started");
}
