//! `rb compile`: what a target means, before anything is run.
//!
//! Images are resolved, so that the text names digests; nothing is built, unless the build file asks for the outcome of
//! a command, and nothing is written.

mod dockerfile;

use rb_llb::{dump, to_json};

use super::build::Build;
use super::gateway::Settling;
use super::record::Asked;
use super::workbench::Workbench;
use crate::args::{CompileArgs, FrontendChoice, TargetCall};
use crate::habits::refuse_option;
use crate::progress::Progress;
use crate::report::{self, Failure};
use crate::settings::Settings;

/// Prints the graph of a target's filesystem, or writes it to a file.
pub(super) fn execute(settings: &Settings, compile: &CompileArgs) -> Result<u8, Failure> {
    if compile.frontend == FrontendChoice::Dockerfile {
        return dockerfile::execute(settings, compile);
    }
    refuse_option("compile", &compile.words)?;
    let call = TargetCall::parse(&compile.words)?;
    if !compile.words.first().is_some_and(|word| TargetCall::is_target(word)) {
        let help = format!("targets are written with a `+`: `rb compile +{}`", call.word);
        return Err(Failure::input(format!("`{}` is not a target", call.word), Some(help)));
    }
    let build = Build::find(settings, std::slice::from_ref(&call))?;
    let bench = Workbench::open(settings, Asked::of_target("compile", &call), Some(build.root()))?;
    let mut progress = Progress::start(settings.display, &call.word);
    let planned = bench.run(async { build.start(&bench, &progress, Settling::Nothing).plan().await });
    progress.finish();
    bench.close();
    let targets = planned?.targets;
    let [target] = targets.as_slice() else {
        let help = Some("name one with `--platform`".to_owned());
        return Err(Failure::input("a definition is for one platform", help));
    };
    let definition = target.state.marshal(&build.sources())?;
    match &compile.output {
        Some(path) if path.as_os_str() == "-" => report::print(&definition.to_bytes())?,
        Some(path) => {
            let path = settings.cwd.join(path);
            std::fs::write(&path, definition.to_bytes()).map_err(|error| {
                Failure::environment(&format!("`{}` cannot be written", path.display()), &error)
            })?;
        }
        None => {
            let graph = definition.graph()?;
            let text = if compile.json { format!("{:#}\n", to_json(&graph)) } else { dump(&graph) };
            report::print(text.as_bytes())?;
        }
    }
    Ok(0)
}
