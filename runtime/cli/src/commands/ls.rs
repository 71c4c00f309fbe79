//! `rb ls`: what can be built in a folder. Reads the build file and nothing else.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use rb_buildfile::{ArgSummary, TargetSummary, list_targets};
use rb_frontend::{ProjectRef, World};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::args::LsArgs;
use crate::report::{self, Failure};
use crate::settings::Environment;
use crate::world::{DiskWorkspace, NoEngine, Place, SystemWorld};

/// Prints the targets.
pub(super) fn execute(environment: &Environment, ls: &LsArgs) -> Result<u8, Failure> {
    let targets = targets_of(&environment.cwd, &ls.dir)?;
    let text = if ls.json {
        format!("{:#}\n", as_json(&targets))
    } else {
        let prefix = match ls.dir.to_str().map(|dir| dir.trim_end_matches('/')) {
            None | Some("." | "") => String::new(),
            Some(dir) if dir.starts_with(['.', '/']) => dir.to_owned(),
            Some(dir) => format!("./{dir}"),
        };
        if ls.long { long(&targets, &prefix) } else { lines(&targets, &prefix, "") }
    };
    report::print(text.as_bytes()).map(|()| 0)
}

/// Lists the targets of a folder's build file, in its order.
pub(super) fn targets_of(cwd: &Path, dir: &Path) -> Result<Vec<TargetSummary>, Failure> {
    let place = Place::of(cwd, dir)?;
    let workspace = Arc::new(DiskWorkspace::new(place.root, cwd.to_owned()));
    let sources = workspace.sources().clone();
    let world = SystemWorld { workspace, gateway: Arc::new(NoEngine) };
    list(&world, &place.project)?.map_err(|items| Failure::Diagnostics { items, sources })
}

fn list(
    world: &dyn World,
    project: &ProjectRef,
) -> Result<Result<Vec<TargetSummary>, rb_diag::Diagnostics>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Failure::environment("the build file cannot be read", &error))?;
    Ok(runtime.block_on(list_targets(world, project)))
}

/// Returns the comment above a target; its first word, the target's name, is said already.
fn documentation(target: &TargetSummary) -> &str {
    let doc = target.doc.as_deref().unwrap_or_default().trim();
    let rest = doc.strip_prefix(target.name.as_str()).filter(|rest| rest.starts_with(char::is_whitespace));
    rest.unwrap_or(doc).trim()
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
    out
}

fn long(targets: &[TargetSummary], prefix: &str) -> String {
    let mut out = String::new();
    for (at, target) in targets.iter().enumerate() {
        let gap = if at == 0 { "" } else { "\n" };
        let _infallible = writeln!(out, "{gap}{prefix}+{}", target.name);
        for line in documentation(target).lines() {
            out.push_str(format!("    {line}").trim_end());
            out.push('\n');
        }
        for ArgSummary { name, default, required, global } in &target.args {
            let default = default.as_deref().map(|default| format!("={default}")).unwrap_or_default();
            let notes = [(*required, "  (required)"), (*global, "  (of the whole file)")];
            let notes: String = notes.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note).collect();
            let _infallible = writeln!(out, "    --{name}{default}{notes}");
        }
        for (what, names) in [("image", &target.saves_images), ("artifact", &target.saves_artifacts)] {
            for name in names {
                let _infallible = writeln!(out, "    saves {what} {name}");
            }
        }
    }
    out
}

fn as_json(targets: &[TargetSummary]) -> Value {
    let target = |target: &TargetSummary| {
        let arg = |arg: &ArgSummary| json!({ "name": arg.name, "default": arg.default, "required": arg.required, "global": arg.global });
        json!({
            "name": target.name, "doc": documentation(target), "args": target.args.iter().map(arg).collect::<Vec<_>>(),
            "images": target.saves_images, "artifacts": target.saves_artifacts,
        })
    };
    json!({ "targets": targets.iter().map(target).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use rb_frontend::MapWorld;

    use super::*;

    const TEXT: &str = "\
VERSION 1
ARG --global REGISTRY=example.org

# image puts the program into an image of its own.
# It needs no base.
image:
    ARG TAG=latest
    ARG --required MODE
    FROM scratch
    SAVE IMAGE $REGISTRY/app:$TAG

all:
    BUILD +image
";

    fn listed() -> Vec<TargetSummary> {
        let world = MapWorld::default().with_file("Buildfile", TEXT);
        let listed = list(&world, &ProjectRef::Local { dir: String::new() });
        listed.expect("a runtime").expect("the text is well formed")
    }

    #[test]
    fn one_line_each() {
        insta::assert_snapshot!(lines(&listed(), "./app", ""), @r"
        ./app+image  puts the program into an image of its own.
        ./app+all
        ");
    }

    #[test]
    fn all_that_is_known() {
        insta::assert_snapshot!(long(&listed(), ""), @r"
        +image
            puts the program into an image of its own.
            It needs no base.
            --TAG=latest
            --MODE  (required)
            --REGISTRY=example.org  (of the whole file)
            saves image $REGISTRY/app:$TAG

        +all
            --REGISTRY=example.org  (of the whole file)
        ");
    }

    #[test]
    fn for_programs() {
        let value = as_json(&listed());
        let mode = json!({ "name": "MODE", "default": null, "required": true, "global": false });
        assert_eq!(value["targets"][0]["args"][1], mode);
        assert_eq!(value["targets"][1]["name"], "all");
    }
}
