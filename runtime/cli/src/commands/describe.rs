//! What a build file offers, in words: for `rb ls`, `rb doc`, `rb +target --help` and `rb` alone.
//!
//! In: [`TargetSummary`]s. Out: text and JSON. [`offers`] reads them: the build file and nothing else. Only for a build file
//! of a repository elsewhere an engine is opened, which fetches it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use rb_buildfile::{ArgSummary, ArtifactSummary, ImageSummary, TargetSummary, list_functions, list_targets};
use rb_diag::Diagnostics;
use rb_frontend::{ProjectRef, World};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::build::Build;
use super::gateway::Settling;
use super::record::Asked;
use super::workbench::Workbench;
use crate::args::{BuildOptions, OutputOptions, TargetCall};
use crate::environment::Environment;
use crate::progress::{Progress, clean};
use crate::report::Failure;
use crate::world::{DiskWorkspace, NoEngine, Place, SystemWorld, dockerfile_in, elsewhere};

/// Name of the recipe above the first target, which every build file has.
const BASE: &str = "base";

/// What a build file offers, each sorted by name.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// Targets.
    pub(super) targets: Vec<TargetSummary>,
    /// Functions.
    pub(super) functions: Vec<TargetSummary>,
}

/// Reads what the build file of `DIR` in `rb DIR+target` offers: a folder, or a project of a repository elsewhere.
pub(super) fn offers_of(environment: &Environment, dir: &str) -> Result<Offers, Failure> {
    if let Some((folder, file)) = dockerfile_in(&environment.cwd, dir) {
        return match elsewhere(&environment.cwd, folder) {
            None => {
                let place = Place::of_dir(&environment.cwd, folder)?;
                let project = place.project.with_dockerfile(file);
                offers(&environment.cwd, Place { project, ..place })
            }
            Some((_, Some(_))) => several(dir),
            Some((project, None)) => offers_elsewhere(environment, dir, &project.with_dockerfile(file)),
        };
    }
    match elsewhere(&environment.cwd, dir) {
        None => offers(&environment.cwd, Place::of_dir(&environment.cwd, dir)?),
        Some((_, Some(_))) => several(dir),
        Some((project, None)) => offers_elsewhere(environment, dir, &project),
    }
}

fn several(dir: &str) -> Result<Offers, Failure> {
    let help = "name one folder of the repository".to_owned();
    Err(Failure::input(format!("`{dir}` is a pattern, and may mean several"), Some(help)))
}

fn offers_elsewhere(environment: &Environment, dir: &str, project: &ProjectRef) -> Result<Offers, Failure> {
    let settings = super::settle(&BuildOptions::default(), &OutputOptions::default(), environment)?;
    let call = TargetCall { word: format!("{dir}+{BASE}"), args: BTreeMap::new() };
    let build = Build::find(&settings, std::slice::from_ref(&call))?;
    let bench = Workbench::open(&settings, Asked::of("ls", dir), Some(build.root()))?;
    let mut progress = Progress::start(settings.display, dir);
    let read = bench.run(async {
        let started = build.start(&bench, &progress, Settling::Nothing);
        let found = read(&started.world(), project).await;
        found.map_err(|items| match started.gateway.failures().into_iter().next() {
            Some(of_step) => of_step,
            None => Failure::Diagnostics { items, sources: build.sources() },
        })
    });
    progress.finish();
    bench.close();
    read
}

/// Reads what the build file of a place offers.
pub(super) fn offers(cwd: &Path, place: Place) -> Result<Offers, Failure> {
    let workspace = Arc::new(DiskWorkspace::new(place.root, cwd.to_owned()));
    let sources = workspace.sources().clone();
    let world = SystemWorld { workspace, gateway: Arc::new(NoEngine) };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Failure::environment("the build file cannot be read", &error))?;
    let offers = runtime.block_on(read(&world, &place.project));
    offers.map_err(|items| Failure::Diagnostics { items, sources })
}

async fn read(world: &dyn World, project: &ProjectRef) -> Result<Offers, Diagnostics> {
    let mut offers = Offers {
        targets: list_targets(world, project).await?,
        functions: list_functions(world, project).await?,
    };
    offers.targets.sort_by(|one, two| one.name.cmp(&two.name));
    offers.functions.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(offers)
}

/// Returns how targets of a folder are written: `DIR` of `rb DIR+target`.
pub(super) fn prefix(cwd: &Path, dir: Option<&Path>) -> String {
    match dir.and_then(Path::to_str).map(|dir| dir.trim_end_matches('/')) {
        None | Some("." | "") => String::new(),
        Some(dir) if dir.starts_with(':') => format!(".{dir}"),
        Some(dir) if dir.starts_with(['.', '/']) || elsewhere(cwd, dir).is_some() => dir.to_owned(),
        Some(dir) => format!("./{dir}"),
    }
}

/// Returns a comment without its first word, if that is the name of what it is about, which is said already.
fn without_name<'a>(doc: Option<&'a str>, name: &str) -> &'a str {
    let doc = doc.unwrap_or_default().trim();
    let rest = doc.strip_prefix(name).filter(|rest| rest.starts_with(char::is_whitespace));
    rest.unwrap_or(doc).trim()
}

/// Returns the comment above a target.
pub(super) fn documentation(target: &TargetSummary) -> &str {
    without_name(target.doc.as_deref(), &target.name)
}

/// Returns one line per target, documentation in a column.
pub(super) fn lines(targets: &[TargetSummary], prefix: &str, indent: &str) -> String {
    let width = targets.iter().map(|target| target.name.width()).max().unwrap_or_default();
    let mut out = String::new();
    for target in targets {
        let pad = " ".repeat(width - target.name.width());
        let doc = documentation(target).lines().next().unwrap_or_default();
        let line = format!("{indent}{prefix}+{}{pad}  {doc}", target.name);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    printable(&out)
}

/// Returns a target and the names of its arguments, a line each.
pub(super) fn with_arguments(target: &TargetSummary, prefix: &str) -> String {
    let mut out = format!("{prefix}+{}\n", target.name);
    for arg in &target.args {
        let _infallible = writeln!(out, "  --{}", arg.name);
    }
    printable(&out)
}

/// Returns all that is known of a target.
pub(super) fn long(target: &TargetSummary, prefix: &str) -> String {
    let mut out = format!("{prefix}+{}\n", target.name);
    indented(&mut out, documentation(target), 4);
    for ArgSummary { name, kind, doc, default, required, global } in &target.args {
        let kind = kind.as_deref().map(|kind| format!(": {kind}")).unwrap_or_default();
        let default = default.as_deref().map(|default| format!("={default}")).unwrap_or_default();
        let notes = [(*required, "  (required)"), (*global, "  (of the whole file)")];
        let notes: String = notes.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note).collect();
        let _infallible = writeln!(out, "    --{name}{kind}{default}{notes}");
        indented(&mut out, without_name(doc.as_deref(), name), 8);
    }
    for ImageSummary { name, doc } in &target.saves_images {
        let _infallible = writeln!(out, "    saves image {name}");
        indented(&mut out, without_name(doc.as_deref(), name), 8);
    }
    for ArtifactSummary { name, doc, local } in &target.saves_artifacts {
        let local = local.as_deref().map(|local| format!(" as local {local}")).unwrap_or_default();
        let _infallible = writeln!(out, "    saves artifact {name}{local}");
        indented(&mut out, without_name(doc.as_deref(), name), 8);
    }
    printable(&out)
}

fn indented(out: &mut String, text: &str, by: usize) {
    for line in text.lines() {
        out.push_str(format!("{:by$}{line}", "").trim_end());
        out.push('\n');
    }
}

/// Returns lines as a terminal may show them, whatever the build file has in its comments.
fn printable(text: &str) -> String {
    text.lines().map(|line| clean(line, false) + "\n").collect()
}

/// Returns everything, for programs.
pub(super) fn as_json(offers: &Offers) -> Value {
    let targets = |targets: &[TargetSummary]| targets.iter().map(target_json).collect::<Vec<_>>();
    json!({ "targets": targets(&offers.targets), "functions": targets(&offers.functions) })
}

fn target_json(target: &TargetSummary) -> Value {
    let arg = |ArgSummary { name, kind, doc, default, required, global }: &ArgSummary| {
        let doc = without_name(doc.as_deref(), name);
        json!({
            "name": name, "type": kind, "doc": doc, "default": default, "required": required, "global": global,
        })
    };
    let image = |ImageSummary { name, doc }: &ImageSummary| json!({ "name": name, "doc": without_name(doc.as_deref(), name) });
    let artifact = |ArtifactSummary { name, doc, local }: &ArtifactSummary| json!({ "name": name, "doc": without_name(doc.as_deref(), name), "local": local });
    json!({
        "name": target.name, "doc": documentation(target), "args": target.args.iter().map(arg).collect::<Vec<_>>(),
        "images": target.saves_images.iter().map(image).collect::<Vec<_>>(),
        "artifacts": target.saves_artifacts.iter().map(artifact).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use rb_frontend::MapWorld;

    use super::*;

    const TEXT: &str = "\
VERSION 1
# REGISTRY is where images go.
ARG --global REGISTRY=example.org

# image puts the program into an image of its own.
# It needs no base.
image:
    # TAG names the version.
    ARG TAG=latest
    ARG --required MODE: enum(debug, release)
    FROM scratch
    # app is the program.
    SAVE ARTIFACT out/app app AS LOCAL bin/
    SAVE IMAGE $REGISTRY/app:$TAG

all:
    BUILD +image

# COMPILE runs the compiler.
COMPILE:
    FUNCTION
    ARG FLAGS
";

    /// What a small build file offers.
    pub(crate) fn listed() -> Offers {
        let world = MapWorld::default().with_file("Buildfile", TEXT);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let read = runtime.block_on(read(&world, &ProjectRef::Local { dir: String::new() }));
        read.expect("the text is well formed")
    }

    #[test]
    fn one_line_each() {
        insta::assert_snapshot!(lines(&listed().targets, "./app", ""), @r"
        ./app+all
        ./app+image  puts the program into an image of its own.
        ");
    }

    #[test]
    fn names_of_arguments() {
        insta::assert_snapshot!(with_arguments(&listed().targets[1], ""), @r"
        +image
          --TAG
          --MODE
          --REGISTRY
        ");
    }

    #[test]
    fn all_that_is_known() {
        let offers = listed();
        insta::assert_snapshot!(long(&offers.targets[1], "") + &long(&offers.functions[0], "x"), @r"
        +image
            puts the program into an image of its own.
            It needs no base.
            --TAG=latest
                names the version.
            --MODE: enum(debug, release)  (required)
            --REGISTRY=example.org  (of the whole file)
                is where images go.
            saves image $REGISTRY/app:$TAG
            saves artifact app as local bin/
                is the program.
        x+COMPILE
            runs the compiler.
            --FLAGS
        ");
    }

    #[test]
    fn for_programs() {
        let value = as_json(&listed());
        assert_eq!(value["targets"][0]["name"], "all");
        let mode = json!({
            "name": "MODE", "type": "enum(debug, release)", "doc": "", "default": null, "required": true, "global": false,
        });
        assert_eq!(value["targets"][1]["args"][1], mode);
        assert_eq!(
            value["targets"][1]["artifacts"][0],
            json!({ "name": "app", "doc": "is the program.", "local": "bin/" })
        );
        assert_eq!(value["functions"][0]["name"], "COMPILE");
    }
}
