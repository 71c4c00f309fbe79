//! From what is wanted to a request: roots, each once, and exports that name them.
//!
//! In: states of a plan and `-o` values. Out: [`Wanted`], which becomes the roots and exports of a `SolveRequest`.
//! **Invariant:** two exports of the same state share a root, so nothing is solved twice.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use rb_api::{Export, Root};
use rb_diag::{SourceMap, chain};
use rb_frontend::{PlannedOutput, TargetOutput};
use rb_llb::{Definition, Edge, LlbError, State};
use rb_oci::ImageConfig;

use crate::output_spec::OutputSpec;
use crate::report::Failure;

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
    pub(super) fn root(&mut self, label: &str, state: &State, sources: &SourceMap) -> Result<usize, Failure> {
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

    /// Adds what a build file says is to be written, below the workspace's `root`.
    pub(super) fn planned(
        &mut self,
        output: &PlannedOutput,
        root: &Path,
        sources: &SourceMap,
    ) -> Result<(), Failure> {
        match output {
            PlannedOutput::Image { label, image } => {
                let root = self.root(label, &image.state, sources)?;
                self.exports.push(Export::Image {
                    root,
                    names: image.names.clone(),
                    config: image.config.clone(),
                });
            }
            PlannedOutput::Artifact { label, artifact } => {
                let Some(local) = &artifact.local else { return Ok(()) };
                let index = self.root(label, &artifact.state, sources)?;
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

/// Returns the folder that a local artifact must stay in: the workspace, or the folder above it that the path begins
/// with. Absolute paths were allowed with `--force` and go where they say.
fn confine(root: &Path, path: &Path) -> Option<PathBuf> {
    if path.is_absolute() {
        return None;
    }
    let up = path.components().take_while(|part| *part == Component::ParentDir).count();
    root.ancestors().nth(up).map(Path::to_owned)
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
        let at = |path: &str| confine(Path::new("/home/a/ws"), Path::new(path));
        assert_eq!(at("out/app"), Some("/home/a/ws".into()));
        assert_eq!(at("../lib/out"), Some("/home/a".into()));
        assert_eq!(at("/etc/app"), None);
    }
}
