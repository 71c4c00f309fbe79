//! `rb bake`: what bake files say is to be built, shown or built.
//!
//! With `--print` stdout has the plan as JSON, as `docker buildx bake --print` shows it, with `--list` a list. Else each target
//! becomes a build of a Dockerfile ([`words`]), in an order in which contexts come first ([`parts`]), and all are built at once
//! ([`several`]). What is passed over in the files is told on stderr.

mod parts;
mod words;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use rb_bake::{DEFAULT_FILES, Outside, Request, Surroundings};
use rb_diag::{SourceFile, SourceMap};
use rb_oci::Platform;
use rb_store::{Clock as _, SystemClock};

use super::anew;
use super::dockerfile::several::{self, Several};
use super::table::table;
use crate::args::{BakeArgs, BakeList, BuildOptions};
use crate::environment::Environment;
use crate::progress::terminal_columns;
use crate::report::{self, Failure};
use crate::settings::{self, ProgressMode};
use crate::world::read_regular;

/// A bake file is at most this long.
const LIMIT: u64 = 16 << 20;

/// Builds what is asked for, or prints the plan, or a list.
pub(super) fn execute(
    environment: &Environment,
    outer: BuildOptions,
    bake: &BakeArgs,
) -> Result<u8, Failure> {
    refuse(bake)?;
    let display = settings::display(&bake.options().over(outer.clone()), environment)?;
    let sources = SourceMap::default();
    let files = read_files(environment, bake, &sources)?;
    let machine = Machine { folder: environment.cwd.clone(), home: environment.home().map(PathBuf::from) };
    let request = Request {
        files: &files,
        variables: variables(&bake.var)?,
        set: bake.changes(),
        wanted: bake.targets.clone(),
        platform: Platform::host().to_string(),
        context: "cwd://".to_owned(),
        surroundings: &machine,
    };
    let wrong = |items| Failure::Diagnostics { items, sources: sources.clone() };
    if let Some(list) = bake.list {
        return report::print(listed(list, &request).map_err(wrong)?.as_bytes()).map(|()| 0);
    }
    let plan = rb_bake::bake(&request).map_err(wrong)?;
    if !plan.warnings.is_empty() && (bake.print || display.mode != ProgressMode::Quiet) {
        report::tell(&report::warnings(&plan.warnings, &sources, display, terminal_columns()));
    }
    if bake.print {
        return report::print(json(&plan).as_bytes()).map(|()| 0);
    }
    let inline = tempfile::Builder::new().prefix("rb-bake-").tempdir();
    let inline = inline.map_err(|error| Failure::environment("no temporary folder can be made", &error))?;
    let wanted = if bake.targets.is_empty() { "default".to_owned() } else { bake.targets.join(" ") };
    let several = Several {
        title: format!("bake {wanted}"),
        options: bake.options(),
        parts: parts::of(plan.targets, bake, inline.path())?,
        metadata_file: bake.metadata_file.clone(),
    };
    several::execute(environment, &outer, several)
}

/// Refuses what is not done here.
fn refuse(bake: &BakeArgs) -> Result<(), Failure> {
    if let Some(word) = bake.targets.iter().find(|word| word.contains("://") || word.starts_with("git@")) {
        let help = "fetch them, and name the file by -f".to_owned();
        return Err(Failure::input(
            format!("`{word}`: bake files are read from this machine only"),
            Some(help),
        ));
    }
    let relative = passed("BUILDX_BAKE_FILE_RELATIVE_PATHS")
        .is_some_and(|text| !matches!(text.trim(), "" | "0" | "false"));
    if relative {
        let help = "unset it: paths are those of the folder that this is called in".to_owned();
        return Err(Failure::input("BUILDX_BAKE_FILE_RELATIVE_PATHS is not supported", Some(help)));
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("names are texts, and nothing else can fail");
    text + "\n"
}

fn listed(list: BakeList, request: &Request<'_>) -> Result<String, rb_diag::Diagnostics> {
    let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    if list.variables {
        let variables = rb_bake::variables(request)?;
        if list.json {
            return Ok(json(&variables));
        }
        let rows = variables.iter().map(|variable| {
            let value = variable.value.as_deref().unwrap_or("<null>");
            row(&[&variable.name, &variable.kind, value, &variable.description])
        });
        let heading = row(&["VARIABLE", "TYPE", "VALUE", "DESCRIPTION"]);
        return Ok(table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>(), &[]));
    }
    let targets = rb_bake::targets(request)?;
    if list.json {
        return Ok(json(&targets));
    }
    let rows = targets.iter().map(|target| row(&[&target.name, &target.description]));
    Ok(table(&std::iter::once(row(&["TARGET", "DESCRIPTION"])).chain(rows).collect::<Vec<_>>(), &[]))
}

/// Reads the files that are named, else those of the environment, else those that are there by their usual names.
fn read_files(
    environment: &Environment,
    bake: &BakeArgs,
    sources: &SourceMap,
) -> Result<Vec<Arc<SourceFile>>, Failure> {
    let mut names = bake.file.clone();
    if names.is_empty()
        && let Some(given) = passed("BUILDX_BAKE_FILE")
    {
        let separator = passed("BUILDX_BAKE_PATH_SEPARATOR").filter(|separator| !separator.is_empty());
        let parts = given.split(separator.as_deref().unwrap_or(":"));
        names.extend(parts.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
    }
    let usual = names.is_empty();
    if usual {
        let there = |name: &&&str| environment.cwd.join(name).exists();
        names.extend(DEFAULT_FILES.iter().filter(there).map(|name| (*name).to_owned()));
    }
    let mut files = Vec::new();
    for name in names {
        let name = name.strip_prefix("cwd://").map_or_else(|| name.clone(), str::to_owned);
        let bytes = if name == "-" {
            anew::forbid();
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().take(LIMIT).read_to_end(&mut bytes);
            read.map_err(|error| Failure::environment("stdin cannot be read", &error))?;
            bytes
        } else {
            read_regular(&environment.cwd.join(&name), LIMIT)
                .map_err(|error| Failure::environment(&format!("`{name}` cannot be read"), &error))?
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::input(format!("`{name}` is not valid UTF-8"), None))?;
        files.push(sources.add(name, text));
    }
    Ok(files)
}

fn variables(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let variable = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::input(format!("--var {text} is not of the form NAME=VALUE"), None)),
    };
    given.iter().filter(|text| !text.is_empty()).map(variable).collect()
}

/// Returns a variable of the environment that a bake file may name.
fn passed(name: &str) -> Option<String> {
    Environment::pass_on(name)?.into_string().ok()
}

/// What bake files learn of this machine.
struct Machine {
    folder: PathBuf,
    home: Option<PathBuf>,
}

impl Outside for Machine {
    fn seconds(&self) -> i64 {
        i64::try_from(SystemClock.now().as_secs()).unwrap_or(i64::MAX)
    }

    fn home(&self) -> Option<String> {
        self.home.as_ref().map(|home| home.display().to_string())
    }

    fn chance(&self) -> [u8; 16] {
        let half = |part: u8| RandomState::new().hash_one(part).to_le_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&half(0));
        bytes[8..].copy_from_slice(&half(1));
        bytes
    }
}

impl Surroundings for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        passed(name)
    }

    fn read(&self, path: &str) -> Result<Option<String>, String> {
        let path = self.folder.join(path);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = read_regular(&path, LIMIT).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map(Some).map_err(|_| "it is not valid UTF-8".to_owned())
    }
}
