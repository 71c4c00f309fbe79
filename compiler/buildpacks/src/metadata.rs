//! `metadata.toml`: what a build leaves for the launcher and for the label of the image.
//!
//! In: groups, processes, labels and slices of a build. Out: the file and the label, byte for byte those of the lifecycle, as
//! the file is a layer of the image. The `toml` library writes the same in another form, so the few lines of it are here.
//! Source: platform spec, "metadata.toml" and "Labels".

use serde::{Deserialize, Serialize};

use crate::decode::{self, DecodeError};
use crate::json::{self, JsonError};
use crate::{GroupElement, Label, Process, Slice};

/// What a build leaves.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct BuildMetadata {
    /// The buildpacks, in order.
    pub buildpacks: Vec<GroupElement>,
    /// The extensions, in order.
    pub extensions: Vec<GroupElement>,
    /// Labels of the image.
    pub labels: Vec<Label>,
    /// What it can start, by type.
    pub processes: Vec<Process>,
    /// Layers for parts of the app.
    pub slices: Vec<Slice>,
    /// What it starts unless the user says otherwise; empty for none.
    pub buildpack_default_process_type: String,
}

/// What the launcher of an image is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct LauncherMetadata {
    /// Its version.
    pub version: String,
    /// Where its source is from.
    pub source: LauncherSource,
}

/// Where a launcher's source is from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct LauncherSource {
    /// Its repository.
    pub git: LauncherCommit,
}

/// A commit of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct LauncherCommit {
    /// The repository.
    pub repository: String,
    /// The commit.
    pub commit: String,
}

impl BuildMetadata {
    /// Reads `metadata.toml`.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        decode::toml("metadata.toml", text)
    }

    /// Returns the text of `metadata.toml`.
    pub fn text(&self) -> String {
        let mut out = Writer::default();
        out.value("buildpack-default-process-type", &self.buildpack_default_process_type);
        if self.buildpacks.is_empty() {
            out.line("buildpacks = []");
        }
        if self.processes.is_empty() {
            out.line("processes = []");
        }
        for (kind, modules) in [("buildpacks", &self.buildpacks), ("extensions", &self.extensions)] {
            for module in modules {
                out.table(kind);
                out.line(&format!("  id = {}", quoted(&module.id)));
                out.line(&format!("  version = {}", quoted(&module.version)));
                out.value("  api", &module.api);
                out.value("  homepage", &module.homepage);
            }
        }
        for label in &self.labels {
            out.table("labels");
            out.line(&format!("  key = {}", quoted(&label.key)));
            out.line(&format!("  value = {}", quoted(&label.value)));
        }
        for process in &self.processes {
            out.table("processes");
            out.line(&format!("  type = {}", quoted(&process.kind)));
            out.line(&format!("  command = {}", list(&process.command)));
            if let Some(args) = &process.args {
                out.line(&format!("  args = {}", list(args)));
            }
            out.line(&format!("  direct = {}", process.direct));
            out.line(&format!("  buildpack-id = {}", quoted(&process.buildpack)));
            out.value("  working-dir", &process.working_directory);
            if !process.exec_env.is_empty() {
                out.line(&format!("  exec-env = {}", list(&process.exec_env)));
            }
        }
        for slice in &self.slices {
            out.table("slices");
            out.line(&format!("  paths = {}", list(&slice.paths)));
        }
        out.0
    }

    /// Returns the label.
    pub fn label(&self, launcher: &LauncherMetadata) -> Result<String, JsonError> {
        #[derive(Serialize)]
        struct Module<'a> {
            id: &'a str,
            version: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            homepage: &'a str,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "kebab-case")]
        struct Metadata<'a> {
            buildpacks: Vec<Module<'a>>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            extensions: Vec<Module<'a>>,
            launcher: &'a LauncherMetadata,
            processes: &'a [Process],
            #[serde(skip_serializing_if = "str::is_empty")]
            buildpack_default_process_type: &'a str,
        }
        fn module_of(one: &GroupElement) -> Module<'_> {
            Module { id: &one.id, version: &one.version, homepage: &one.homepage }
        }
        json::text(&Metadata {
            buildpacks: self.buildpacks.iter().map(module_of).collect(),
            extensions: self.extensions.iter().map(module_of).collect(),
            launcher,
            processes: &self.processes,
            buildpack_default_process_type: &self.buildpack_default_process_type,
        })
    }
}

#[derive(Default)]
struct Writer(String);

impl Writer {
    fn line(&mut self, line: &str) {
        self.0 += line;
        self.0.push('\n');
    }

    /// Writes a text unless it is empty.
    fn value(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.line(&format!("{key} = {}", quoted(value)));
        }
    }

    fn table(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.line(&format!("[[{name}]]"));
    }
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => out.push_str(&format!("\\u{:04x}", letter as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_the_lifecycle_writes_it() {
        let element = GroupElement {
            id: "a/b".into(),
            version: "1".into(),
            api: "0.10".into(),
            homepage: "h".into(),
            ..Default::default()
        };
        let process = Process {
            kind: "web".into(),
            command: vec!["run".into(), "\"it\"\n".into()],
            direct: true,
            buildpack: "a/b".into(),
            ..Process::default()
        };
        let metadata = BuildMetadata {
            buildpacks: vec![element],
            processes: vec![process],
            buildpack_default_process_type: "web".into(),
            ..BuildMetadata::default()
        };
        let want = "buildpack-default-process-type = \"web\"

[[buildpacks]]
  id = \"a/b\"
  version = \"1\"
  api = \"0.10\"
  homepage = \"h\"

[[processes]]
  type = \"web\"
  command = [\"run\", \"\\\"it\\\"\\n\"]
  direct = true
  buildpack-id = \"a/b\"
";
        assert_eq!(metadata.text(), want);
        let want = concat!(
            r#"{"buildpacks":[{"id":"a/b","version":"1","homepage":"h"}],"launcher":{"version":"","source":{"git":{"#,
            r#""repository":"","commit":""}}},"processes":[{"type":"web","command":["run","\"it\"\n"],"args":null,""#,
            r#"direct":true,"buildpackID":"a/b"}],"buildpack-default-process-type":"web"}"#,
        );
        assert_eq!(metadata.label(&LauncherMetadata::default()).expect("writes"), want);
    }

    proptest! {
        /// Whatever stands in it, it reads again.
        #[test]
        fn it_reads_again(texts in prop::collection::vec("\\PC{0,4}|[\\x00-\\x1f\"\\\\\\x7f]{1,3}", 8), some: bool) {
            let [id, version, key, value, kind, command, args, path] = <[String; 8]>::try_from(texts).expect("eight");
            let metadata = BuildMetadata {
                buildpacks: vec![GroupElement { id: id.clone(), version, api: "0.10".into(), ..Default::default() }],
                extensions: Vec::new(),
                labels: vec![Label { key, value }],
                processes: vec![Process {
                    kind: kind.clone(),
                    command: vec![command],
                    args: some.then(|| vec![args]),
                    direct: some,
                    buildpack: id,
                    ..Process::default()
                }],
                slices: vec![Slice { paths: vec![path] }],
                buildpack_default_process_type: kind,
            };
            prop_assert_eq!(BuildMetadata::parse(metadata.text().as_bytes()), Ok(metadata));
        }
    }
}
