//! `rb bake`: what bake files say is to be built, shown or built.
//!
//! With `--print` stdout has the plan as JSON, as `docker buildx bake --print` shows it, with `--list` a list. Else each target
//! becomes a build of a Dockerfile ([`words`]), in an order in which contexts come first ([`parts`]), and all are built at once
//! ([`several`]). What is passed over in the files is told on stderr.
//!
//! | module | idea |
//! | --- | --- |
//! | `files` | bake files of this machine |
//! | `remote` | bake files elsewhere |
//! | `access` | what targets may reach of this machine |
//! | `parts`, `words` | targets in an order, each in the words of `rb build` |

mod access;
mod files;
mod parts;
mod remote;
mod words;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use rb_bake::{Outside, Plan, Request, Surroundings, Target};
use rb_diag::{SourceFile, SourceMap};
use rb_llb::{STRUCK, is_secret};
use rb_oci::Platform;
use rb_store::{Clock as _, SystemClock};

use self::files::{LIMIT, Names};
use self::remote::{Place, Remote};
use super::dockerfile::several::{self, Again, Several};
use super::dockerfile::words::without_password;
use super::engines;
use super::record::Asked;
use super::scratch::Scratch;
use super::table::table;
use super::workbench::Workbench;
use crate::args::{BakeArgs, BakeList, BuildOptions, OutputOptions};
use crate::environment::Environment;
use crate::progress::terminal_columns;
use crate::report::{self, Failure};
use crate::settings::given::Given;
use crate::settings::{self, Display, ProgressMode};
use crate::world::read_regular;

/// Builds what is asked for, or prints the plan, or a list.
pub(super) fn execute(
    environment: &Environment,
    outer: BuildOptions,
    bake: &BakeArgs,
) -> Result<u8, Failure> {
    execute_on(environment, outer, bake, None, None)
}

/// Does it, on a bench that is open; `again` says what of it is done where it goes on from a step that failed.
pub(super) fn execute_on(
    environment: &Environment,
    outer: BuildOptions,
    bake: &BakeArgs,
    mut bench: Option<Workbench>,
    again: Option<Again>,
) -> Result<u8, Failure> {
    let engine = engines::meant(bake.engine.as_ref(), bake.builder.as_deref(), environment)?;
    let outer = BuildOptions { engine: engine.or(outer.engine.clone()), ..outer };
    let ready = ready(environment, &outer, bake, &mut bench);
    let ended = match ready {
        Ok(Ready::Build(several, inline)) => {
            let ended = several::execute(environment, &outer, *several, bench.take(), again);
            // Texts of Dockerfiles lie in it.
            drop(inline);
            ended
        }
        Ok(Ready::Shown(text)) => report::print(text.as_bytes()).map(|()| 0),
        Err(failure) => Err(failure),
    };
    if let Some(bench) = bench {
        bench.close();
    }
    ended
}

/// What is to be done.
enum Ready {
    /// This is to be built; its parts need what lies in these folders.
    Build(Box<Several>, (Scratch, Place)),
    /// This is the answer.
    Shown(String),
}

/// Finds out what is to be done.
fn ready(
    environment: &Environment,
    outer: &BuildOptions,
    bake: &BakeArgs,
    bench: &mut Option<Workbench>,
) -> Result<Ready, Failure> {
    refuse()?;
    let display = settings::display(&bake.options().over(outer.clone()), environment)?;
    let sources = SourceMap::default();
    let Typed { address, context, targets } = Typed::of(&bake.targets);
    let title = format!("bake {}", if targets.is_empty() { "default".to_owned() } else { targets.join(" ") });
    let far = Far { environment, outer, bake, title: &title };
    let (files, place) = far.files(address, &sources, bench)?;
    let machine = Machine { folder: environment.cwd.clone(), home: environment.home().map(PathBuf::from) };
    let base = |path: &str| place.at(path);
    let request = Request {
        files: &files,
        variables: variables(&bake.var)?,
        set: bake.changes(),
        wanted: targets.to_vec(),
        platform: Platform::host().to_string(),
        context: context.to_owned(),
        surroundings: &machine,
        base: (!matches!(place, Place::Here)).then_some(&base),
    };
    let wrong = |items| Failure::Diagnostics { items, sources: sources.clone() };
    if let Some(list) = bake.list {
        return listed(list, &request).map(Ready::Shown).map_err(wrong);
    }
    let plan = rb_bake::bake(&request).map_err(wrong)?;
    tell(&plan.warnings, &sources, display, bake.print);
    if bake.print {
        return Ok(Ready::Shown(json(&shown(plan))));
    }
    access::check_allowed(&plan.targets, &bake.allow)?;
    if address.is_some() {
        access::check_paths(&plan.targets, &bake.allow, &environment.cwd, place.folder())?;
    }
    let inline = Scratch::new()?;
    let several = Several {
        title,
        options: bake.options(),
        parts: parts::of(plan.targets, bake, inline.path())?,
        metadata_file: bake.metadata_file.clone(),
        words: bake.words.clone(),
    };
    Ok(Ready::Build(Box::new(several), (inline, place)))
}

fn tell(warnings: &[rb_diag::Diagnostic], sources: &SourceMap, display: Display, is_printed: bool) {
    if !warnings.is_empty() && (is_printed || display.mode != ProgressMode::Quiet) {
        report::tell(&report::warnings(warnings, sources, display, terminal_columns()));
    }
}

/// The words behind `rb bake`: `[ADDRESS [CONTEXT]] [TARGET…]`.
struct Typed<'a> {
    /// Where bake files are, if not here.
    address: Option<&'a str>,
    /// What the files know as the context of the command.
    context: &'a str,
    targets: &'a [String],
}

impl<'a> Typed<'a> {
    fn of(words: &'a [String]) -> Self {
        match words {
            [address, context, targets @ ..]
                if remote::is_address(address) && remote::is_address(context) =>
            {
                Self { address: Some(address), context, targets }
            }
            [address, targets @ ..] if remote::is_address(address) => {
                Self { address: Some(address), context: "cwd://", targets }
            }
            targets => Self { address: None, context: "cwd://", targets },
        }
    }
}

/// Who reads files, here and elsewhere.
struct Far<'a> {
    environment: &'a Environment,
    outer: &'a BuildOptions,
    bake: &'a BakeArgs,
    title: &'a str,
}

impl Far<'_> {
    /// Reads all files, those elsewhere first, as buildx does.
    fn files(
        &self,
        address: Option<&str>,
        sources: &SourceMap,
        bench: &mut Option<Workbench>,
    ) -> Result<(Vec<Arc<SourceFile>>, Place), Failure> {
        let cwd = &self.environment.cwd;
        let names = Names::of(&self.bake.file);
        let Some(address) = address else {
            let names = if names.typed.is_empty() { files::usual(cwd) } else { names.typed };
            let mut found = Vec::with_capacity(names.len());
            for name in &names {
                match remote::is_address(name) {
                    true => found.extend(self.fetch(name, &[], sources, bench)?.files),
                    false => found.push(files::read(cwd, name, sources)?),
                }
            }
            return Ok((found, Place::Here));
        };
        let (here, there) = names.here();
        // What is read once is read before anything takes long.
        let here = here.iter().map(|name| files::read(cwd, name, sources)).collect::<Result<Vec<_>, _>>()?;
        let Remote { mut files, place } = self.fetch(address, &there, sources, bench)?;
        files.extend(here);
        Ok((files, place))
    }

    fn fetch(
        &self,
        address: &str,
        names: &[String],
        sources: &SourceMap,
        bench: &mut Option<Workbench>,
    ) -> Result<Remote, Failure> {
        let mut options = self.bake.options().over(self.outer.clone());
        if let Some(agent) = passed("BUILDX_BAKE_GIT_SSH").filter(|agent| !agent.is_empty()) {
            options.ssh.push(format!("default={agent}"));
        }
        let settings =
            settings::settle(&options, &OutputOptions::default(), Given::default(), self.environment)?;
        let bench = match bench {
            Some(bench) => bench,
            None => {
                bench.insert(Workbench::open(&settings, Asked::of("build", self.title), Some(&settings.cwd))?)
            }
        };
        remote::fetch(bench, &settings, address, names, sources)
    }
}

/// Refuses what is not done here.
fn refuse() -> Result<(), Failure> {
    let relative = passed("BUILDX_BAKE_FILE_RELATIVE_PATHS")
        .is_some_and(|text| !matches!(text.trim(), "" | "0" | "false"));
    if relative {
        let help = "unset it: paths are those of the folder that this is called in".to_owned();
        return Err(Failure::input("BUILDX_BAKE_FILE_RELATIVE_PATHS is not supported", Some(help)));
    }
    Ok(())
}

/// Returns a plan as it is shown: keys and tokens of caches are struck out, and so are signatures in addresses.
fn shown(mut plan: Plan) -> Plan {
    let caches = |target: &mut Target| {
        let entries = target.cache_from.iter_mut().chain(&mut target.cache_to).flatten();
        for (name, value) in entries.flat_map(|entry| &mut entry.attributes) {
            if is_secret(name) {
                STRUCK.clone_into(value);
            } else if value.contains("://") {
                *value = without_signature(value);
            }
        }
    };
    plan.targets.values_mut().for_each(caches);
    plan
}

/// Returns an address without the values in its query, where signatures stand, and without a password.
fn without_signature(address: &str) -> String {
    let plain = address.split(['?', '#']).next().unwrap_or_default();
    let query = if plain.len() < address.len() { format!("?{STRUCK}") } else { String::new() };
    without_password(plain) + &query
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_is_shown_has_no_keys_of_caches() {
        let attributes = [
            ("bucket", "b"),
            ("secret_access_key", "hunter2"),
            ("session_token", "hunter2"),
            ("account_url", "https://me.example/?sig=hunter2"),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let entry = rb_bake::CacheEntry { kind: "s3".to_owned(), attributes };
        let target = Target {
            cache_from: Some(vec![entry.clone()]),
            cache_to: Some(vec![entry]),
            ..Target::default()
        };
        let plan = Plan {
            targets: [("a".to_owned(), target)].into(),
            groups: BTreeMap::new(),
            warnings: Vec::new(),
        };
        let text = json(&shown(plan));
        assert!(!text.contains("hunter2") && text.contains("https://me.example/?"), "{text}");
        assert_eq!(text.matches(STRUCK).count(), 6, "{text}");
    }

    #[test]
    fn addresses_come_before_targets() {
        let read = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(ToOwned::to_owned).collect();
            let Typed { address, context, targets } = Typed::of(&words);
            (address.map(ToOwned::to_owned), context.to_owned(), targets.to_vec())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("a b"), (None, "cwd://".to_owned(), vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(
            read("https://h/a.git app"),
            (some("https://h/a.git"), "cwd://".to_owned(), vec!["app".to_owned()])
        );
        let (address, context, targets) = read("https://h/a.git https://h/b.git app");
        assert_eq!(
            (address, context.as_str(), targets.len()),
            (some("https://h/a.git"), "https://h/b.git", 1)
        );
    }
}
