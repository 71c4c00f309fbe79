//! What a buildpack leaves: `<layer>.toml`, `launch.toml`, `build.toml`, `store.toml`, bills of materials.
//!
//! In: the files beside its layers, after its `bin/build` ended well. Out: [`BuildOutputs`]; or why they cannot be used.
//! Source: buildpack spec, "Phase 3: Build"; the lifecycle's builder, whose order of checks this is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::decode::{self, DecodeError};
use crate::sbom::{BomEntry, SbomCopy, SbomError, sbom_copies};
use crate::{BuildpackApi, BuildpackPlan, Exit, LayerFile, Module, Process, Slice};

/// Names that are no layers.
const RESERVED: [&str; 3] = ["build", "launch", "store"];

/// What lies in the folder of a buildpack's layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayersFolder {
    /// The files, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Names of the folders.
    pub folders: BTreeSet<String>,
}

/// A label of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Label {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// `launch.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaunchFile {
    /// The old bill of materials.
    pub bom: Vec<BomEntry>,
    /// Labels of the image.
    pub labels: Vec<Label>,
    /// Processes, each with whether it is the default.
    pub processes: Vec<(Process, bool)>,
    /// Layers for parts of the app.
    pub slices: Vec<Slice>,
}

/// What a buildpack left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildOutputs {
    /// What it says of its layers.
    pub layers: BTreeMap<String, LayerFile>,
    /// Layers of no type: their folders are set aside as `<layer>.ignore`.
    pub ignored: Vec<String>,
    /// Names of its plan that later buildpacks need not meet.
    pub met: Vec<String>,
    /// What `launch.toml` says.
    pub launch: LaunchFile,
    /// The old bill of materials of `build.toml`.
    pub build_bom: Vec<BomEntry>,
    /// Bills of materials.
    pub sboms: Vec<SbomCopy>,
}

/// What a buildpack left cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// A file cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// `build.toml` names something that was not asked for.
    #[error("build.toml: `{0}` is unmet, but was never asked for")]
    Unmet(String),
    /// Two processes are the default.
    #[error("launch.toml: processes `{0}` and `{1}` are both the default")]
    Defaults(String, String),
    /// An old bill of materials says `version` beside `name`.
    #[error("{file}: the entry `{name}` of `bom` has a `version`: it belongs in `metadata.version`")]
    BomVersion {
        /// The file.
        file: &'static str,
        /// The entry.
        name: String,
    },
    /// A bill of materials cannot be used.
    #[error(transparent)]
    Sbom(#[from] SbomError),
}

impl OutputError {
    /// Returns the lifecycle's exit code.
    pub fn exit(&self) -> Exit {
        Exit::Build
    }
}

/// Reads what a buildpack left, given what it was asked for.
pub fn read_outputs(
    module: &Module,
    plan: &BuildpackPlan,
    folder: &LayersFolder,
) -> Result<BuildOutputs, OutputError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Unmet {
        name: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct BuildFile {
        bom: Vec<BomEntry>,
        unmet: Vec<Unmet>,
    }
    let mut all = BTreeMap::new();
    for (file, text) in &folder.files {
        if let Some(name) = file.strip_suffix(".toml") {
            all.insert(name.to_owned(), LayerFile::parse(file, text)?);
        }
    }
    let build: BuildFile = match folder.files.get("build.toml") {
        Some(text) => decode::toml("build.toml", text)?,
        None => BuildFile::default(),
    };
    check_bom("build.toml", &build.bom)?;
    let unmet: Vec<String> = build.unmet.into_iter().map(|unmet| unmet.name).collect();
    let asked = |name: &str| plan.entries.iter().any(|entry| entry.name == name);
    if let Some(unknown) = unmet.iter().find(|name| name.is_empty() || !asked(name)) {
        return Err(OutputError::Unmet(unknown.clone()));
    }
    let met =
        plan.entries.iter().map(|entry| entry.name.clone()).filter(|name| !unmet.contains(name)).collect();
    let names = folder.files.keys().map(String::as_str);
    let sboms = sbom_copies(&module.key(), &module.info.sbom_formats, names, &all)?;
    let launch = match folder.files.get("launch.toml") {
        Some(text) => LaunchFile::parse(text, module.api, &module.info.id)?,
        None => LaunchFile::default(),
    };
    let aside = |(name, layer): &(&String, &LayerFile)| layer.is_ignored() && folder.folders.contains(*name);
    let ignored = all.iter().filter(aside).map(|(name, _)| name.clone()).collect();
    all.retain(|name, _| !RESERVED.contains(&name.as_str()));
    Ok(BuildOutputs { layers: all, ignored, met, launch, build_bom: build.bom, sboms })
}

/// Reads `store.toml`: what a buildpack keeps for its next build.
pub fn parse_store(text: &[u8]) -> Result<Option<toml::Table>, DecodeError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct File {
        metadata: Option<toml::Table>,
    }
    decode::toml::<File>("store.toml", text).map(|file| file.metadata)
}

fn check_bom(file: &'static str, bom: &[BomEntry]) -> Result<(), OutputError> {
    match bom.iter().find(|entry| !entry.0.version.is_empty()) {
        Some(entry) => Err(OutputError::BomVersion { file, name: entry.0.name.clone() }),
        None => Ok(()),
    }
}

/// A process, as it is written.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RawProcess {
    r#type: String,
    command: Option<RawCommand>,
    args: Option<Vec<String>>,
    direct: Option<bool>,
    default: bool,
    working_dir: String,
    exec_env: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawCommand {
    Text(String),
    List(Vec<String>),
}

impl LaunchFile {
    /// Reads `launch.toml` of a buildpack that speaks this API.
    pub fn parse(text: &[u8], api: BuildpackApi, buildpack: &str) -> Result<Self, OutputError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct File {
            bom: Vec<BomEntry>,
            labels: Vec<Label>,
            processes: Vec<RawProcess>,
            slices: Vec<Slice>,
        }
        let file: File = decode::toml("launch.toml", text)?;
        let processes = file.processes.into_iter().map(|raw| raw.read(api, buildpack));
        let processes = processes.collect::<Result<Vec<_>, _>>()?;
        check_bom("launch.toml", &file.bom)?;
        let mut defaults =
            processes.iter().filter(|(_, default)| *default).map(|(process, _)| process.kind.clone());
        // A default process without a type does not count as one, as in the lifecycle.
        if let (Some(first), Some(second)) = (defaults.find(|kind| !kind.is_empty()), defaults.next()) {
            return Err(OutputError::Defaults(first, second));
        }
        Ok(Self { bom: file.bom, labels: file.labels, processes, slices: file.slices })
    }
}

impl RawProcess {
    fn read(self, api: BuildpackApi, buildpack: &str) -> Result<(Process, bool), OutputError> {
        let error = |message: &str| {
            let message = format!("process `{}`: {message}", self.r#type);
            OutputError::Decode(decode::malformed("launch.toml", 0, 0, &message))
        };
        let command = match (api.command_lists(), self.command) {
            (true, Some(RawCommand::List(list))) => list,
            (false, Some(RawCommand::Text(text))) => vec![text],
            (true, _) => return Err(error("`command` has to be a list")),
            (false, _) => return Err(error("`command` has to be a text before Buildpack API 0.9")),
        };
        let direct = match (api.command_lists(), self.direct) {
            (true, Some(_)) => return Err(error("`direct` is not known since Buildpack API 0.9")),
            (true, None) => true,
            (false, direct) => direct.unwrap_or_default(),
        };
        let process = Process {
            kind: self.r#type,
            command,
            args: self.args,
            direct,
            buildpack: buildpack.to_owned(),
            working_directory: if api.working_directory() { self.working_dir } else { String::new() },
            exec_env: self.exec_env,
        };
        Ok((process, self.default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Require;

    fn module(api: &str) -> Module {
        let text = format!(
            "api='{api}'\n[buildpack]\nid='a/b'\nversion='1'\nsbom-formats=['application/spdx+json']\n"
        );
        Module::buildpack(text.as_bytes(), &BTreeSet::new()).expect("a module")
    }

    fn outputs(api: &str, files: &[(&str, &str)]) -> Result<BuildOutputs, OutputError> {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
        let folders = ["a", "b", "launch"].iter().map(|name| (*name).to_owned()).collect();
        let require = |name: &str| Require { name: name.into(), ..Require::default() };
        let plan = BuildpackPlan { entries: vec![require("x"), require("y"), require("x")] };
        read_outputs(&module(api), &plan, &LayersFolder { files, folders })
    }

    #[test]
    fn everything_that_a_buildpack_leaves() {
        let launch = "[[labels]]\nkey='k'\nvalue='v'\n[[slices]]\npaths=['p']\n[[processes]]\ntype='web'\n\
                      command=['run','it']\nargs=['x']\ndefault=true\nworking-dir='/w'\nexec-env=['test']\n";
        let all = outputs(
            "0.12",
            &[
                ("a.toml", "[types]\nbuild=true\n"),
                ("b.toml", ""),
                ("c.toml", ""),
                ("launch.toml", launch),
                ("build.toml", "[[unmet]]\nname='x'\n"),
                ("store.toml", "[metadata]\nn=1\n"),
                ("a.sbom.spdx.json", "{}"),
            ],
        );
        let all = all.expect("reads");
        assert_eq!(all.layers.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(
            (all.ignored.as_slice(), all.met.as_slice()),
            (&["b".to_owned(), "launch".into()][..], &["y".to_owned()][..])
        );
        assert_eq!(all.sboms[0].to, "sbom/build/a_b/a/sbom.spdx.json");
        let (process, default) = &all.launch.processes[0];
        assert!(
            *default
                && process.direct
                && process.command == ["run", "it"]
                && process.working_directory == "/w"
        );
        assert_eq!(outputs("0.12", &[]).expect("reads").met, ["x", "y", "x"]);
        assert_eq!(parse_store(b"[metadata]\nn=1\n").expect("reads").map(|table| table.len()), Some(1));
    }

    #[test]
    fn processes_change_with_the_api() {
        let of =
            |api, text: &str| outputs(api, &[("launch.toml", &format!("[[processes]]\ntype='web'\n{text}"))]);
        let first = |api, text| of(api, text).expect("reads").launch.processes[0].0.clone();
        let old = first("0.8", "command='run it'\nworking-dir='/w'\n");
        assert!(!old.direct && old.command == ["run it"] && old.working_directory == "/w");
        assert_eq!(first("0.7", "command='run'\nworking-dir='/w'\ndirect=true\n").working_directory, "");
        for (api, text) in [
            ("0.8", "command=['run']"),
            ("0.9", "command='run'"),
            ("0.9", "command=['run']\ndirect=true"),
            ("0.9", ""),
        ] {
            assert!(of(api, text).is_err(), "{api} {text}");
        }
    }

    #[test]
    fn what_cannot_be_used() {
        let two = "[[processes]]\ntype='a'\ncommand=['x']\ndefault=true\n[[processes]]\ntype='b'\ncommand=['x']\ndefault=true\n";
        for (file, text) in [
            ("launch.toml", two),
            ("build.toml", "[[unmet]]\nname='z'\n"),
            ("build.toml", "[[unmet]]\n"),
            ("build.toml", "[[bom]]\nname='x'\nversion='1'\n"),
            ("launch.toml", "[[bom]]\nname='x'\nversion='1'\n"),
            ("a.toml", "launch=true"),
            ("launch.toml", "build=true"),
            ("a.sbom.cdx.json", ""),
        ] {
            let result = outputs("0.10", &[("a.toml", ""), (file, text)]);
            assert_eq!(result.map_err(|error| error.exit().code()), Err(52), "{file} {text}");
        }
    }
}
