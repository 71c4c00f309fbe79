//! From what is wanted to a request: roots, each once, and exports that name them.
//!
//! In: states of a plan and `-o` values. Out: [`Wanted`], which becomes the roots and exports of a `SolveRequest`.
//! **Invariant:** two exports of the same state share a root, so nothing is solved twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rb_api::{Export, Root};
use rb_diag::{SourceMap, chain};
use rb_frontend::{PlannedOutput, TargetOutput};
use rb_llb::{Definition, Edge, LlbError, State};
use rb_oci::ImageConfig;

use crate::output_spec::OutputSpec;
use crate::report::Failure;
use crate::world::bound;

/// What an engine is asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Filesystems to make.
    pub(super) roots: Vec<Root>,
    /// What to write of them.
    pub(super) exports: Vec<Export>,
    by_edge: BTreeMap<Option<Edge>, usize>,
}

impl Wanted {
    /// Adds a filesystem, unless it is there, and returns its index.
    pub(super) fn root(
        &mut self,
        label: &str,
        state: &State,
        sources: &SourceMap,
    ) -> Result<usize, LlbError> {
        let edge = state.digest()?;
        if let Some(index) = self.by_edge.get(&edge) {
            return Ok(*index);
        }
        let index = self.definition(label, state.marshal(sources)?);
        self.by_edge.insert(edge, index);
        Ok(index)
    }

    /// Adds a filesystem that is marshalled already and returns its index.
    pub(super) fn definition(&mut self, label: &str, definition: Definition) -> usize {
        self.roots.push(Root { label: label.to_owned(), definition });
        self.roots.len() - 1
    }

    /// Adds the filesystem of an output, and returns its index.
    pub(super) fn root_of(&mut self, output: &PlannedOutput, sources: &SourceMap) -> Result<usize, LlbError> {
        match output {
            PlannedOutput::Image { label, image } => self.root(label, &image.state, sources),
            PlannedOutput::Artifact { label, artifact } => self.root(label, &artifact.state, sources),
        }
    }

    /// Adds what a build file says is to be written, below the workspace's `root`.
    pub(super) fn planned(
        &mut self,
        output: &PlannedOutput,
        root: &Path,
        sources: &SourceMap,
    ) -> Result<(), LlbError> {
        let index = self.root_of(output, sources)?;
        match output {
            PlannedOutput::Image { label: _, image } => {
                self.exports.push(Export::Image {
                    root: index,
                    names: image.names.clone(),
                    config: image.config.clone(),
                });
            }
            PlannedOutput::Artifact { label: _, artifact } => {
                let Some(local) = &artifact.local else { return Ok(()) };
                self.exports.push(Export::Local {
                    root: index,
                    path: artifact.path.clone(),
                    destination: root.join(&local.path),
                    into: local.into,
                    entries: artifact.many,
                    merge: false,
                    optional: artifact.optional,
                    confine: confine(root, Path::new(&local.path)),
                });
            }
        }
        Ok(())
    }

    /// Adds one artifact of a target, or with an empty path all of them.
    pub(super) fn artifact(
        &mut self,
        target: &TargetOutput,
        path: &str,
        destination: PathBuf,
        into: bool,
        sources: &SourceMap,
    ) -> Result<(), Failure> {
        let root = self.root(&target.key.target.to_string(), &target.artifact_tree, sources)?;
        let all = path.is_empty();
        self.exports.push(Export::Local {
            root,
            path: if all { "/".to_owned() } else { path.to_owned() },
            destination,
            into: into && !all,
            entries: all,
            merge: false,
            optional: false,
            confine: None,
        });
        Ok(())
    }

    /// Adds the image of a target: the last it saves, else its filesystem with its settings.
    pub(super) fn image_of(
        &mut self,
        target: &TargetOutput,
        names: Vec<String>,
        sources: &SourceMap,
    ) -> Result<(), Failure> {
        let (root, config) = self.filesystem_of(target, sources)?;
        self.exports.push(Export::Image { root, names, config });
        Ok(())
    }

    fn filesystem_of(
        &mut self,
        target: &TargetOutput,
        sources: &SourceMap,
    ) -> Result<(usize, ImageConfig), Failure> {
        let label = target.key.target.to_string();
        let (state, config) = match target.images.last() {
            Some(image) => (&image.state, &image.config),
            None if target.on_host => {
                return Err(Failure::input(
                    format!("`{label}` lies on `FROM @host` and cannot leave this machine as it is"),
                    Some("copy its artifacts into a target `FROM scratch` and take that".to_owned()),
                ));
            }
            None => (&target.state, &target.config),
        };
        Ok((self.root(&label, state, sources)?, config.clone()))
    }

    /// Adds what `-o` asks for of a target.
    pub(super) fn output_of(
        &mut self,
        spec: &OutputSpec,
        target: &TargetOutput,
        cwd: &Path,
        sources: &SourceMap,
    ) -> Result<(), Failure> {
        let (root, config) = self.filesystem_of(target, sources)?;
        let saved = target.images.last().and_then(|image| image.names.first());
        self.output(spec, root, &config, saved.map(String::as_str), cwd);
        Ok(())
    }

    /// Adds what `-o` asks for of a root.
    pub(super) fn output(
        &mut self,
        spec: &OutputSpec,
        root: usize,
        config: &ImageConfig,
        name: Option<&str>,
        cwd: &Path,
    ) {
        let config = config.clone();
        self.exports.push(match spec {
            OutputSpec::Oci { dest, tar, name: given } => Export::OciLayout {
                root,
                name: given.clone().or_else(|| name.map(ToOwned::to_owned)),
                config,
                destination: cwd.join(dest),
                tar: *tar,
            },
            OutputSpec::Tar { dest } => Export::Tar { root, destination: cwd.join(dest) },
            OutputSpec::Local { dest } => Export::Local {
                root,
                path: "/".to_owned(),
                destination: cwd.join(dest),
                into: false,
                entries: false,
                merge: true,
                optional: false,
                confine: None,
            },
            OutputSpec::Image { name } => Export::Image { root, names: vec![name.clone()], config },
        });
    }
}

/// Returns the folder that a local artifact must stay in; absolute paths were allowed with `--force` and go where they
/// say.
fn confine(root: &Path, path: &Path) -> Option<PathBuf> {
    (!path.is_absolute()).then(|| bound(root, path))
}

impl From<LlbError> for Failure {
    fn from(error: LlbError) -> Self {
        Self::Said { kind: error.kind(), message: chain(&error), help: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_artifacts_stay_in_their_folder() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let top = std::fs::canonicalize(dir.path()).expect("is there");
        std::fs::create_dir_all(top.join("lib/in")).expect("makes");
        std::os::unix::fs::symlink("/etc", top.join("lib/away")).expect("links");
        let root = top.join("ws");
        let at = |path: &str| confine(&root, Path::new(path));
        assert_eq!(at("out/app"), Some(root.clone()));
        assert_eq!(at("../lib/in/out"), Some(top.join("lib/in")));
        assert_eq!(at("../lib/new/out"), Some(top.join("lib")));
        assert_eq!(at("../lib/away/out"), Some(top.join("lib")));
        assert_eq!(at("/etc/app"), None);
    }
}
