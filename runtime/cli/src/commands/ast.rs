//! `rb ast`: the tree of a build file as JSON, with all that is wrong in it.
//!
//! stdout has the whole answer, also where there are errors: those stand on stderr too, and the exit code tells.

use rb_diag::{Severity, SourceMap};

use crate::args::AstArgs;
use crate::environment::Environment;
use crate::progress::terminal_columns;
use crate::report::{self, Failure};
use crate::settings::{Display, ProgressMode};
use crate::world::{DiskWorkspace, Place, read_regular};

/// Prints the tree.
pub(super) fn execute(environment: &Environment, ast: &AstArgs) -> Result<u8, Failure> {
    let path = environment.cwd.join(&ast.path);
    let (file, sources) = if path.is_dir() {
        let place = Place::of(&environment.cwd, &ast.path)?;
        let workspace = DiskWorkspace::new(place.root, environment.cwd.clone());
        (workspace.read_buildfile(&place.project)?, workspace.sources().clone())
    } else {
        let shown = ast.path.display();
        let limit = rb_syntax::MAX_FILE_BYTES as u64;
        let bytes = read_regular(&path, limit)
            .map_err(|error| Failure::environment(&format!("`{shown}` cannot be read"), &error))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::input(format!("`{shown}` is not valid UTF-8"), None))?;
        let sources = SourceMap::default();
        (sources.add(shown.to_string(), text), sources)
    };
    let parse = rb_syntax::parse(&file);
    report::print(format!("{:#}\n", rb_syntax::to_json(&parse, &file)).as_bytes())?;
    let (errors, warnings): (Vec<_>, Vec<_>) =
        parse.diagnostics.into_iter().partition(|found| found.severity == Severity::Error);
    let display =
        Display { mode: ProgressMode::Plain, colours: environment.colours(), github: false, verbose: false };
    report::tell(&report::warnings(&warnings, &sources, display, terminal_columns()));
    if errors.is_empty() { Ok(0) } else { Err(Failure::Diagnostics { items: errors, sources }) }
}
