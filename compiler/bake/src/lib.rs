//! Bake files: what they say is to be built.
//!
//! In: the texts of files in HCL, JSON and YAML (compose), variables and changes from the command line, the names of what is
//! wanted, and [`Surroundings`] for what a file asks of the machine. Out: a [`Plan`]: each target with everything said of it,
//! and the groups that lead to it; or diagnostics with places.
//!
//! The walk: `syntax`, `json`, `yaml` (texts → bodies with places) → `document` (all files together) → `evaluate`,
//! `functions`, `evaluator` (expressions → values) → `decode`, `config` (values → targets by name), `compose` (services →
//! targets) → `resolve` (inheritance, changes, contexts). **Invariant:** for the same files, variables and surroundings the
//! plan is the one that `docker buildx bake --print` shows. Nothing is read but through [`Surroundings`].
//! Sources: buildx docs/bake-reference.md and docs/bake-stdlib.md; HCL's specification; compose-spec.

mod check;
mod codes;
mod compose;
mod config;
mod decode;
mod document;
mod evaluate;
mod evaluator;
mod fields;
mod files;
mod functions;
mod heredoc;
mod json;
mod node;
mod remote;
mod resolve;
mod syntax;
mod target;
mod value;
mod yaml;

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_diag::{Diagnostic, Diagnostics, SourceFile};
use serde::Serialize;

pub use codes::CODES;
pub use fields::truth;
pub use files::{DEFAULT_FILES, FileKind};
pub use functions::Outside;
pub use target::{Attest, CacheEntry, Export, Group, Policy, PolicyFile, Resources, Secret, Ssh, Target};

/// What a bake file can learn of the machine.
pub trait Surroundings: Outside {
    /// Returns a variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// Returns the text of a file that a compose file names, such as `.env`; `None` if there is none.
    ///
    /// The error says in one line why a file that is there cannot be read.
    fn read(&self, path: &str) -> Result<Option<String>, String>;
}

/// What is asked for.
pub struct Request<'r> {
    /// The files, in the order in which later ones are laid over earlier ones.
    pub files: &'r [Arc<SourceFile>],
    /// Values of variables by `--var`.
    pub variables: BTreeMap<String, String>,
    /// Changes by `--set`: `pattern.key[.name][+]=value`.
    pub set: Vec<String>,
    /// Names or patterns of targets and groups; `default` if there is none.
    pub wanted: Vec<String>,
    /// The platform of who runs this, for `BAKE_LOCAL_PLATFORM`.
    pub platform: String,
    /// The context of the command, for `BAKE_CMD_CONTEXT`; `cwd://` where no other is given.
    pub context: String,
    /// What is known of the machine.
    pub surroundings: &'r dyn Surroundings,
    /// Where the files are from, if not from here: makes the address of a path there. Paths with `cwd://` are here all the same.
    pub base: Option<&'r dyn Fn(&str) -> String>,
}

/// What is to be built.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// The groups that were asked for, and `default`: what was asked for.
    #[serde(rename = "group", skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Group>,
    /// Each target that is built.
    #[serde(rename = "target")]
    pub targets: BTreeMap<String, Target>,
    /// What is passed over in the files.
    #[serde(skip)]
    pub warnings: Diagnostics,
}

/// A variable of the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it is for, in the user's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its type, if one is written.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its value, as JSON if it is no plain one; nothing if it is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A target or a group of the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is for, and of a group what is in it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether it is a group.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub group: bool,
}

/// Finds out what is to be built.
pub fn bake(request: &Request<'_>) -> Result<Plan, Diagnostics> {
    let mut warnings = Diagnostics::new();
    let config = files::load(request, &mut warnings)?;
    let environment = |name: &str| request.environment(name);
    let plan = resolve::resolve(&config, &request.wanted, &request.set, &environment, request.base);
    let plan = plan?;
    warnings.extend(check::shared_tags(&plan.targets));
    Ok(Plan { warnings, ..plan })
}

/// Returns the variables of the files by name, with the values they have now.
pub fn variables(request: &Request<'_>) -> Result<Vec<Variable>, Diagnostics> {
    files::load(request, &mut Diagnostics::new()).map(|config| config.variables)
}

/// Returns targets and groups by name, but for those that begin with `_`.
pub fn targets(request: &Request<'_>) -> Result<Vec<Listed>, Diagnostics> {
    let config = files::load(request, &mut Diagnostics::new())?;
    let mut all = Vec::new();
    for (name, target) in config.targets {
        all.push(Listed { name, description: target.description, group: false });
    }
    for (name, mut group) in config.groups {
        group.targets.sort();
        let names = group.targets.join(", ");
        let description = match (group.description.is_empty(), names.is_empty()) {
            (true, _) => names,
            (false, true) => group.description,
            (false, false) => format!("{} ({names})", group.description),
        };
        all.push(Listed { name, description, group: true });
    }
    all.retain(|listed| !listed.name.starts_with('_'));
    all.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(all)
}

impl Request<'_> {
    /// Returns a variable of the environment, unless the environment itself forbids to look.
    fn environment(&self, name: &str) -> Option<String> {
        let closed = self.surroundings.variable("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP");
        if closed.is_some_and(|closed| fields::truth(&closed) == Some(true)) {
            return None;
        }
        self.surroundings.variable(name)
    }

    /// Returns a value for a variable: from the command line, else from the environment.
    fn lookup(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned().or_else(|| self.environment(name))
    }
}

/// Returns what `--sbom` and `--provenance` mean, `kind` being one of them, as the value of `attest`.
pub fn attestation(kind: &str, settings: &str) -> String {
    target::canonical_attest(kind, settings)
}

/// Makes an error of a whole file.
fn of_file(file: &SourceFile, code: &'static str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(code, format!("{}: {}", file.name, message.into()))
}
