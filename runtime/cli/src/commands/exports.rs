//! From what is wanted to a request: roots, each once, and exports that name them.
//!
//! In: states of a plan and `-o` values. Out: [`Wanted`], which becomes the roots and exports of a `SolveRequest`.
//! **Invariant:** two exports of the same state share a root, so nothing is solved twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rb_api::{Export, ImageFormat, ImageName, LayoutPlace, Place, Push, Root, Stream};
use rb_diag::{SourceMap, chain};
use rb_frontend::{PlannedOutput, TargetOutput};
use rb_llb::{Definition, Edge, LlbError, State};
use rb_oci::{ImageConfig, MediaTypes};

use super::anew;
use crate::output_spec::{Annotation, Dest, OutputSpec};
use crate::report::Failure;
use crate::world::bound;

/// What an engine is asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Filesystems to make.
    pub(super) roots: Vec<Root>,
    /// What to write of them.
    pub(super) exports: Vec<Export>,
    /// Which of the exports go to the Docker of this machine as well, by their places.
    pub(super) loads: Vec<usize>,
    /// What every image is written with.
    format: ImageFormat,
    /// Images marked `--push` are pushed.
    pushing: bool,
    by_edge: BTreeMap<Option<Edge>, usize>,
}

impl Wanted {
    /// Wants nothing yet; every image will have these annotations.
    pub(super) fn annotated(annotations: &[Annotation]) -> Self {
        let mut wanted = Self::default();
        annotations.iter().for_each(|annotation| annotation.add_to(&mut wanted.format));
        wanted
    }

    /// Says whether images marked `--push` are pushed.
    pub(super) fn pushing(self, pushing: bool) -> Self {
        Self { pushing, ..self }
    }

    /// Returns how an image is written, with what holds for every one.
    fn format(&self, of_its_own: &ImageFormat) -> ImageFormat {
        let mut format = of_its_own.clone();
        let all = &self.format;
        for (own, all) in [
            (&mut format.annotations, &all.annotations),
            (&mut format.descriptor_annotations, &all.descriptor_annotations),
        ] {
            for (key, value) in all {
                own.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        if !format.annotations.is_empty() {
            // Docker's own manifests have no annotations.
            format.types = MediaTypes::Oci;
        }
        format
    }

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
                let push = (self.pushing && image.push).then(Push::default);
                self.image(index, image.names.clone(), image.config.clone(), push);
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
        self.image(root, names, config, None);
        Ok(())
    }

    /// Adds an image that is to be pushed and gets no name here; nothing where it is not to be pushed.
    pub(super) fn pushed_alone(
        &mut self,
        output: &PlannedOutput,
        sources: &SourceMap,
    ) -> Result<(), LlbError> {
        let PlannedOutput::Image { label: _, image } = output else { return Ok(()) };
        if self.pushing && image.push {
            let root = self.root_of(output, sources)?;
            let push = Push { only: true, ..Push::default() };
            self.image(root, image.names.clone(), image.config.clone(), Some(push));
        }
        Ok(())
    }

    fn image(&mut self, root: usize, names: Vec<String>, config: ImageConfig, push: Option<Push>) {
        let names = names.into_iter().map(ImageName::Plain).collect();
        let format = self.format(&ImageFormat::default());
        self.exports.push(Export::Image { root, names, config, format, push });
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
        let named = |given: &[String]| match given {
            [] => name.map(ToOwned::to_owned).into_iter().collect(),
            given => given.to_vec(),
        };
        let place = |dest: &Dest| match dest {
            Dest::Path(path) => Place::File(cwd.join(path)),
            Dest::Stdout => {
                anew::forbid();
                Place::Stream(Stream::new(std::io::stdout()))
            }
        };
        let export = match spec {
            OutputSpec::Archive { dest, tar, names, format } => Export::OciLayout {
                root,
                names: named(names),
                config,
                format: self.format(format),
                destination: match place(dest) {
                    Place::File(path) if !tar => LayoutPlace::Folder(path),
                    place => LayoutPlace::Archive(place),
                },
            },
            OutputSpec::Tar { dest, epoch_seconds } => {
                Export::Tar { root, destination: place(dest), epoch_seconds: *epoch_seconds }
            }
            OutputSpec::Local { dest, delete } => Export::Local {
                root,
                path: "/".to_owned(),
                destination: cwd.join(dest),
                into: false,
                entries: false,
                merge: !delete,
                optional: false,
                confine: None,
            },
            OutputSpec::Image { names, format, push } => {
                Export::Image { root, names: names.clone(), config, format: self.format(format), push: *push }
            }
            OutputSpec::Load { names, format } => {
                self.loads.push(self.exports.len());
                let names = named(names).into_iter().map(ImageName::Plain).collect();
                Export::Image { root, names, config, format: self.format(format), push: None }
            }
        };
        self.exports.push(export);
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
