//! From what is wanted to a request: roots, each once, and exports that name them.
//!
//! In: states of a plan and `-o` values. Out: [`Asked`], the roots and exports of a `SolveRequest`.
//! **Invariant:** two exports of the same state share a root, so nothing is solved twice.
//!
//! | module | idea |
//! | --- | --- |
//! | `names` | what each name of an image stands for: one image, or those of several platforms |
//! | `outputs` | what `-o` asks for |

mod names;
mod outputs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_api::{
    Annotations, Attached, Attest, CacheExport, Export, ImageFormat, ImageName, Layered, LayoutPlace,
    PlatformImage, Push, Root, SolveRequest,
};
use rb_diag::{SourceMap, chain};
use rb_frontend::{PlannedOutput, SavedImage, TargetOutput};
use rb_llb::{Definition, Edge, LlbError, State};
use rb_oci::index::config_platform;
use rb_oci::{Compression, ImageConfig, MediaTypes, Platform};

use self::names::{Group, Names};
use crate::output_spec::Annotation;
use crate::report::Failure;
use crate::world::bound;

/// Adds annotations that hold for every image; what one has of its own stays.
fn under(own: &mut BTreeMap<String, String>, all: &BTreeMap<String, String>) {
    for (key, value) in all {
        own.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

/// What an engine is to be asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    roots: Vec<Root>,
    entries: Vec<Entry>,
    names: Names,
    /// Images that a WAIT of this build has saved, with their targets: a name may get further platforms.
    earlier: Vec<(String, SavedImage)>,
    /// What every image is written with.
    format: ImageFormat,
    /// The first entry that has it.
    format_from: usize,
    /// Images marked `--push` are pushed.
    pushing: bool,
    by_edge: BTreeMap<Option<Edge>, usize>,
    /// What is said of roots.
    attests: BTreeMap<usize, Attest>,
    /// How images of roots are put together that are more than their tree.
    layered: BTreeMap<usize, Layered>,
    notes: Vec<String>,
    /// Where results are written for others.
    cache_to: Vec<CacheExport>,
    /// Steps of the plan that only `--push` runs.
    pub(super) left_out: Vec<String>,
}

/// One export, or the place of what is known at the end.
#[derive(Debug)]
enum Entry {
    Export(Export),
    /// One whose image goes to the Docker of this machine as well.
    Load(Export),
    /// The names that were last saved here.
    Saved,
}

/// What an engine is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Filesystems to make, and what to write of them.
    pub(super) request: SolveRequest,
    /// Which of the exports go to the Docker of this machine as well, by their places.
    pub(super) loads: Vec<usize>,
    /// What the user should know of it.
    pub(super) notes: Vec<String>,
}

impl Wanted {
    /// Wants nothing yet; every image will have these annotations.
    pub(super) fn annotated(annotations: &[Annotation]) -> Self {
        let mut wanted = Self::default();
        wanted.annotate(annotations);
        wanted
    }

    /// Every image from here on will have these annotations, and no others.
    pub(super) fn annotate(&mut self, annotations: &[Annotation]) {
        self.format = ImageFormat::default();
        self.format_from = self.entries.len();
        annotations.iter().for_each(|annotation| annotation.add_to(&mut self.format));
    }

    /// Steps of these roots are written for others.
    pub(super) fn cached_to(&mut self, caches: &[CacheExport], roots: &[usize]) {
        let of_roots = |cache: &CacheExport| CacheExport { roots: roots.to_vec(), ..cache.clone() };
        self.cache_to.extend(caches.iter().map(of_roots));
    }

    /// Counts what is to be written so far.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Says whether images marked `--push` are pushed.
    pub(super) fn pushing(self, pushing: bool) -> Self {
        Self { pushing, ..self }
    }

    /// Tells of images that this build has saved already: what is saved under their names for other platforms joins them.
    pub(super) fn after(self, earlier: Vec<(String, SavedImage)>) -> Self {
        Self { earlier, ..self }
    }

    /// Returns how images are written, with what holds for every one.
    fn format(&self, of_its_own: &ImageFormat, images: &[PlatformImage]) -> ImageFormat {
        let mut format = of_its_own.clone();
        let all = &self.format;
        under(&mut format.annotations, &all.annotations);
        under(&mut format.descriptor_annotations, &all.descriptor_annotations);
        if images.len() > 1 || of_its_own.index_of_one || self.is_said(images) {
            under(&mut format.index_annotations, &all.index_annotations);
            under(&mut format.index_descriptor_annotations, &all.index_descriptor_annotations);
        }
        for platform in images.iter().filter_map(|image| config_platform(&image.config)) {
            if let Some(Annotations { manifest, descriptor }) = all.of_platform.get(&platform) {
                let own = format.of_platform.entry(platform).or_default();
                under(&mut own.manifest, manifest);
                under(&mut own.descriptor, descriptor);
            }
        }
        if !(format.annotations.is_empty()
            && format.index_annotations.is_empty()
            && format.of_platform.is_empty())
        {
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

    /// Has something said of a root, wherever it is written.
    pub(super) fn attest(&mut self, root: usize, attest: Attest) {
        self.attests.insert(root, attest);
    }

    /// Tells whether something is said of images.
    fn is_said(&self, images: &[PlatformImage]) -> bool {
        images.iter().any(|image| self.attests.contains_key(&image.root))
    }

    /// Leaves out what would be said of images that go to Docker, which takes one manifest, and notes that.
    fn said_nowhere(&mut self, images: &[PlatformImage], mut format: ImageFormat) -> ImageFormat {
        if self.is_said(images) {
            let note = "type=docker has no attestations; type=oci and type=image have them".to_owned();
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
            format.attached = Attached::Nowhere;
        }
        format
    }

    /// Counts the filesystems so far.
    pub(super) fn count_roots(&self) -> usize {
        self.roots.len()
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
                self.saved(index, image, push, sources)
            }
            PlannedOutput::Artifact { label: _, artifact } => {
                let Some(local) = &artifact.local else { return Ok(()) };
                self.entries.push(Entry::Export(Export::Local {
                    root: index,
                    path: artifact.path.clone(),
                    destination: root.join(&local.path),
                    into: local.into,
                    entries: artifact.many,
                    merge: false,
                    optional: artifact.optional,
                    confine: confine(root, Path::new(&local.path)),
                    follow: false,
                }));
                Ok(())
            }
        }
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
            self.saved(root, image, Some(push), sources)?;
        }
        Ok(())
    }

    /// Adds an image with its names, which may stand for images of other platforms too.
    fn saved(
        &mut self,
        root: usize,
        image: &SavedImage,
        push: Option<Push>,
        sources: &SourceMap,
    ) -> Result<(), LlbError> {
        for (label, before) in self.earlier.clone() {
            let shared = before.names.iter().filter(|name| image.names.contains(name));
            let shared: Vec<String> = shared.filter(|name| !self.names.has(name)).cloned().collect();
            if !shared.is_empty() {
                let root = self.root(&label, &before.state, sources)?;
                self.names.add(PlatformImage { root, config: before.config }, &shared, None, None);
            }
        }
        let image = (PlatformImage { root, config: image.config.clone() }, &image.names);
        self.names.add(image.0, image.1, push, Some(self.entries.len()));
        self.entries.push(Entry::Saved);
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
        self.entries.push(Entry::Export(Export::Local {
            root,
            path: if all { "/".to_owned() } else { path.to_owned() },
            destination,
            into: into && !all,
            entries: all,
            merge: false,
            optional: false,
            confine: None,
            follow: false,
        }));
        Ok(())
    }

    /// Adds the image of a target: the last it saves, else its filesystem with its settings.
    pub(super) fn image_of(
        &mut self,
        targets: &[Arc<TargetOutput>],
        names: Vec<String>,
        sources: &SourceMap,
    ) -> Result<(), Failure> {
        let images: Result<Vec<_>, _> =
            targets.iter().map(|target| self.filesystem_of(target, sources)).collect();
        let names = names.into_iter().map(ImageName::Plain).collect();
        self.image(images?, names, None);
        Ok(())
    }

    /// Says how an app's image is put together: of layers upon a root that is its alone, whose config it has until they are packed.
    pub(super) fn app(&mut self, (root, config): (usize, ImageConfig), layered: Layered) -> PlatformImage {
        self.layered.insert(root, layered);
        PlatformImage { root, config }
    }

    /// Adds a layout of an image, or of an index of those of several platforms.
    pub(super) fn layout_of(&mut self, images: Vec<PlatformImage>, folder: PathBuf) {
        let format = self.format(&ImageFormat::default(), &images);
        let (names, destination) = (Vec::new(), LayoutPlace::Folder(folder));
        self.entries.push(Entry::Export(Export::OciLayout { images, names, format, destination }));
    }

    /// Adds a root as an image in a layout, for this machine to go on with.
    pub(super) fn layout(&mut self, (root, config): (usize, ImageConfig), folder: PathBuf) {
        // Nobody keeps it: what is quick to pack is best.
        let format = ImageFormat { compression: Compression::Zstd { level: 1 }, ..ImageFormat::default() };
        self.entries.push(Entry::Export(Export::OciLayout {
            images: vec![PlatformImage { root, config }],
            names: Vec::new(),
            format,
            destination: LayoutPlace::Folder(folder),
        }));
    }

    /// Adds a folder of a root, which goes into a folder of the user's under its own name.
    pub(super) fn folder(&mut self, root: usize, path: &str, destination: PathBuf) {
        self.entries.push(Entry::Export(Export::Local {
            root,
            path: path.to_owned(),
            destination,
            into: true,
            entries: false,
            merge: false,
            optional: false,
            confine: None,
            follow: true,
        }));
    }

    /// Adds an image, or an index of those of several platforms.
    pub(super) fn image(&mut self, images: Vec<PlatformImage>, names: Vec<ImageName>, push: Option<Push>) {
        let format = self.format(&ImageFormat::default(), &images);
        self.entries.push(Entry::Export(Export::Image { images, names, format, push }));
    }

    fn filesystem_of(
        &mut self,
        target: &TargetOutput,
        sources: &SourceMap,
    ) -> Result<PlatformImage, Failure> {
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
        Ok(PlatformImage { root: self.root(&label, state, sources)?, config: config.clone() })
    }

    /// Returns a request that makes the filesystems and writes nothing.
    pub(super) fn roots_alone(self) -> SolveRequest {
        SolveRequest { roots: self.roots, ..SolveRequest::default() }
    }

    /// Returns what the engine is asked for.
    pub(super) fn asked(mut self) -> Asked {
        let (mut exports, mut loads) = (Vec::with_capacity(self.entries.len()), Vec::new());
        for (place, entry) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            match entry {
                Entry::Export(export) => exports.push(export),
                Entry::Load(export) => {
                    loads.push(exports.len());
                    exports.push(export);
                }
                Entry::Saved => {
                    for Group { images, names, push } in self.names.groups(place) {
                        let format = self.format(&ImageFormat::default(), &images);
                        let names = names.into_iter().map(ImageName::Plain).collect();
                        exports.push(Export::Image { images, names, format, push });
                    }
                }
            }
        }
        let (attests, cache_to, layered) = (self.attests, self.cache_to, self.layered);
        let request = SolveRequest { roots: self.roots, exports, attests, cache_to, layered };
        Asked { request, loads, notes: self.notes }
    }

    /// Refuses annotations of what a build does not make: indexes, images of a platform; `is_indexed` says that it has made one already.
    pub(super) fn check_annotations(&self, is_indexed: bool) -> Result<(), Failure> {
        let mut of_index =
            self.format.index_annotations.keys().chain(self.format.index_descriptor_annotations.keys());
        if let Some(platform) = self.format.of_platform.keys().find(|platform| !self.makes(platform)) {
            return Err(Failure::input(
                format!("--annotation manifest[{platform}]: no image of that platform is made"),
                Some(format!("build it, too (`--platform={platform}`), or leave the annotation out")),
            ));
        }
        let Some(key) = of_index.next().filter(|_| !is_indexed && !self.makes_index()) else { return Ok(()) };
        Err(Failure::input(
            format!("--annotation index:{key}: an image of one platform has no index of its own"),
            Some("build it for several: `--platform=linux/amd64,linux/arm64`".to_owned()),
        ))
    }

    fn makes_index(&self) -> bool {
        let is_index = |entry: &Entry| match entry {
            Entry::Export(export) | Entry::Load(export) => {
                let is_of_one = export.format().is_some_and(|format| format.index_of_one);
                export.images().len() > 1 || is_of_one || self.is_said(export.images())
            }
            Entry::Saved => false,
        };
        self.names.has_index() || self.entries.iter().skip(self.format_from).any(is_index)
    }

    /// Tells whether an image of a platform may be made; of what targets save that shows later.
    fn makes(&self, platform: &Platform) -> bool {
        self.entries.iter().any(|entry| match entry {
            Entry::Export(export) | Entry::Load(export) => {
                export.images().iter().any(|image| config_platform(&image.config).as_ref() == Some(platform))
            }
            Entry::Saved => true,
        })
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
