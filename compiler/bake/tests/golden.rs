//! The cases of `tests/golden`: what buildx prints for a folder of bake files is what this crate makes of them.
//!
//! `want.json` is buildx's answer, `refused` stands where it has none; `tests/peers/bake` makes them anew. A case with
//! `ours.json` knowingly differs: `README.md` tells why. What is said of refused cases is kept in `refusals.txt`; with
//! `RB_UPDATE` set, it is written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_bake::{DEFAULT_FILES, Outside, Request, Surroundings, bake, targets, variables};
use rb_diag::{Diagnostics, SourceFile, SourceMap};
use serde_json::Value;

/// A folder and an environment.
struct Place {
    folder: PathBuf,
    environment: BTreeMap<String, String>,
}

impl Outside for Place {
    fn seconds(&self) -> i64 {
        1_700_000_000
    }

    fn home(&self) -> Option<String> {
        Some("/nowhere".to_owned())
    }

    fn chance(&self) -> [u8; 16] {
        [7; 16]
    }
}

impl Surroundings for Place {
    fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }

    fn read(&self, path: &str) -> Result<Option<String>, String> {
        let path = self.folder.join(path);
        if path.exists() {
            fs::read_to_string(path).map(Some).map_err(|error| error.to_string())
        } else {
            Ok(None)
        }
    }
}

/// What the command line of a case says.
#[derive(Default)]
struct Arguments {
    files: Vec<String>,
    set: Vec<String>,
    variables: BTreeMap<String, String>,
    wanted: Vec<String>,
}

fn arguments(lines: &[String]) -> Arguments {
    let mut made = Arguments::default();
    let mut lines = lines.iter();
    while let Some(line) = lines.next() {
        let mut next = || lines.next().expect("the option of a case has a value").clone();
        let (flag, value) =
            line.split_once('=').map_or((line.as_str(), None), |(flag, value)| (flag, Some(value)));
        let attest = |value: Option<&str>| match value {
            Some("true") => "disabled=false".to_owned(),
            value => value.unwrap_or_default().to_owned(),
        };
        match flag {
            "-f" => made.files.push(next()),
            "--set" => made.set.push(next()),
            "--var" => {
                let text = next();
                let (name, value) = text.split_once('=').expect("a variable has a value");
                made.variables.insert(name.to_owned(), value.to_owned());
            }
            "--push" | "--load" | "--pull" | "--no-cache" => made.set.push(format!("*.{}=true", &flag[2..])),
            "--sbom" | "--provenance" => {
                made.set.push(format!("*.attest=type={},{}", &flag[2..], attest(value)));
            }
            _ => made.wanted.push(line.clone()),
        }
    }
    made
}

fn run(folder: &Path) -> Result<Value, Diagnostics> {
    let text = fs::read_to_string(folder.join("args")).unwrap_or_default();
    let (environment, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("env "));
    let environment = environment
        .iter()
        .filter_map(|line| line["env ".len()..].split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let given = arguments(&rest.into_iter().map(str::to_owned).collect::<Vec<_>>());
    let place = Place { folder: folder.to_owned(), environment };
    let default = || DEFAULT_FILES.iter().map(|name| (*name).to_owned()).collect();
    let names: Vec<String> = if given.files.is_empty() { default() } else { given.files.clone() };
    let sources = SourceMap::default();
    let files: Vec<Arc<SourceFile>> = names
        .iter()
        .filter_map(|name| Some(sources.add(name.clone(), fs::read_to_string(folder.join(name)).ok()?)))
        .collect();
    let plan = bake(&request(&files, given, &place))?;
    Ok(serde_json::to_value(&plan).expect("a plan is JSON"))
}

fn request<'r>(files: &'r [Arc<SourceFile>], given: Arguments, place: &'r Place) -> Request<'r> {
    Request {
        files,
        variables: given.variables,
        set: given.set,
        wanted: given.wanted,
        platform: "linux/amd64".to_owned(),
        context: "cwd://".to_owned(),
        surroundings: place,
        base: None,
    }
}

/// Returns what is said of a fault, with its places in the text.
fn told(folder: &Path, faults: &Diagnostics) -> String {
    let mut told = String::new();
    for fault in faults {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        told.push_str(&format!("{name}: {} [{}]", fault.message, fault.code));
        for label in &fault.labels {
            told.push_str(&format!(" at {}..{}", label.span.start, label.span.end));
            if !label.text.is_empty() {
                told.push_str(&format!(" ({})", label.text));
            }
        }
        if let Some(help) = &fault.help {
            told.push_str(&format!("\n    help: {help}"));
        }
        for step in &fault.trail {
            told.push_str(&format!("\n    {step}"));
        }
        told.push('\n');
    }
    told
}

#[test]
fn every_case_is_what_buildx_makes_of_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut folders: Vec<_> = fs::read_dir(&root)
        .expect("the cases are there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let mut wrong = Vec::new();
    let mut refusals = String::new();
    for folder in &folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let ours = read("ours.json");
        let want = ours.or_else(|| read("want.json"));
        match (run(folder), want) {
            (Ok(got), Some(want)) => {
                let want: Value = serde_json::from_str(&want).expect("the answer is JSON");
                if got != want {
                    wrong.push(format!("{name}:\n{}", difference(&want, &got, "")));
                }
            }
            (Ok(got), None) => wrong.push(format!("{name}: buildx refuses it, and here it is\n{got:#}")),
            (Err(faults), Some(_)) => wrong.push(format!("{name} is refused:\n{}", told(folder, &faults))),
            (Err(faults), None) => refusals.push_str(&told(folder, &faults)),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ\n{}", wrong.len(), folders.len(), wrong.join("\n"));
    assert!(folders.len() >= 90, "only {} cases are there", folders.len());
    let kept = root.join("refusals.txt");
    if std::env::vars_os().any(|(name, _)| name == "RB_UPDATE") {
        fs::write(&kept, &refusals).expect("the refusals can be kept");
    }
    assert_eq!(
        fs::read_to_string(kept).unwrap_or_default(),
        refusals,
        "set RB_UPDATE to keep what is said now"
    );
}

/// Tells where two answers differ.
fn difference(want: &Value, got: &Value, at: &str) -> String {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            let mut names: Vec<_> = want.keys().chain(got.keys()).collect();
            names.sort();
            names.dedup();
            let each = names.into_iter().map(|name| {
                let side =
                    |side: &serde_json::Map<String, Value>| side.get(name).cloned().unwrap_or(Value::Null);
                difference(&side(want), &side(got), &format!("{at}/{name}"))
            });
            each.collect()
        }
        (want, got) if want == got => String::new(),
        (want, got) => format!("  {at}\n    want {want}\n    got  {got}\n"),
    }
}

#[test]
fn what_ends_anywhere_is_answered() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let place = Place { folder: root.clone(), environment: BTreeMap::new() };
    for entry in fs::read_dir(&root).expect("the cases are there") {
        let folder = entry.expect("the folder can be read").path();
        for name in DEFAULT_FILES {
            let Ok(text) = fs::read_to_string(folder.join(name)) else { continue };
            for end in (0..text.len()).step_by(11).filter(|end| text.is_char_boundary(*end)) {
                let sources = SourceMap::default();
                let files = [sources.add(*name, &text[..end])];
                let request = request(&files, Arguments::default(), &place);
                for fault in bake(&request).err().into_iter().flatten() {
                    let inside = |span: rb_diag::Span| span.start <= span.end && span.end as usize <= end;
                    assert!(
                        fault.labels.iter().all(|label| inside(label.span)),
                        "{folder:?} {end}: {fault:?}"
                    );
                }
            }
        }
    }
}

/// Lists what a text holds.
fn listed(name: &str, text: &str) -> (Vec<rb_bake::Listed>, Vec<rb_bake::Variable>) {
    let place =
        Place { folder: PathBuf::new(), environment: BTreeMap::from([("NUM".to_owned(), "7".to_owned())]) };
    let sources = SourceMap::default();
    let files = [sources.add(name, text)];
    let request = request(&files, Arguments::default(), &place);
    (targets(&request).expect("the file is right"), variables(&request).expect("the file is right"))
}

#[test]
fn targets_and_variables_are_listed() {
    let (targets, variables) = listed(
        "docker-bake.hcl",
        r#"
        variable "STR" {
          default = "a"
          description = "a text"
        }
        variable "NUM" { default = 5 }
        variable "LIST" {
          type = list(string)
          default = ["x", "y"]
        }
        variable "NULL" { type = map(any) }
        group "default" {
          description = "all"
          targets = ["b", "a"]
        }
        target "b" { description = "second" }
        target "a" {}
        target "_hidden" {}
        "#,
    );
    // As `--list type=…,format=json` of buildx shows them.
    assert_eq!(
        serde_json::to_value(&targets).expect("a list is JSON"),
        serde_json::json!([
            {"name": "a"},
            {"name": "b", "description": "second"},
            {"name": "default", "description": "all (a, b)", "group": true},
        ])
    );
    assert_eq!(
        serde_json::to_value(&variables).expect("a list is JSON"),
        serde_json::json!([
            {"name": "LIST", "type": "list of string", "value": "[\"x\",\"y\"]"},
            {"name": "NULL", "type": "map of any single type"},
            {"name": "NUM", "value": "7"},
            {"name": "STR", "description": "a text", "value": "a"},
        ])
    );
}

#[test]
fn what_is_passed_over_is_told() {
    let place = Place { folder: PathBuf::new(), environment: BTreeMap::new() };
    let sources = SourceMap::default();
    let files = [sources
        .add("docker-bake.hcl", "target \"default\" {\n  contxt = \"x\"\n  args {}\n}\nblock \"x\" {}\n")];
    let plan = bake(&request(&files, Arguments::default(), &place)).expect("it is passed over");
    let told: Vec<_> =
        plan.warnings.iter().map(|warning| (warning.message.as_str(), warning.help.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("a target has no `contxt`; it is passed over", Some("did you mean `context`?")),
            ("a target holds no blocks; `args` is passed over", Some("write `args = { … }`")),
            ("there is no block `block`; it is passed over", None),
        ]
    );
}

#[test]
fn what_comes_from_outside_is_asked_for() {
    let text = r#"
        target "default" {
          args = { NOW = timestamp(), HOME = homedir(), ID = uuidv4(), HASH = bcrypt("x", 4) }
        }
    "#;
    let place = Place { folder: PathBuf::new(), environment: BTreeMap::new() };
    let sources = SourceMap::default();
    let plan = bake(&request(&[sources.add("docker-bake.hcl", text)], Arguments::default(), &place))
        .expect("it is right");
    let args = &plan.targets["default"].args;
    assert_eq!(args["NOW"], "2023-11-14T22:13:20Z");
    assert_eq!(args["HOME"], "/nowhere");
    assert_eq!(args["ID"], "07070707-0707-4707-8707-070707070707");
    assert!(args["HASH"].starts_with("$2a$04$"), "{}", args["HASH"]);
}
