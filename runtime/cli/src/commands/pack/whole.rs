//! An app's image as it is planned, whoever planned it: rb's own lifecycle, or the builder's; and where it goes.
//!
//! In: [`Planned`] or [`Created`], one of them per platform. Out: a [`Whole`], and of that what an engine is asked for.

use std::path::{Path, PathBuf};

use rb_api::{Finish, ImageName, Layered, PlatformImage, Push};
use rb_buildpacks::frontend::{AppImage, Created, Planned};
use rb_diag::SourceMap;
use rb_llb::State;
use rb_oci::{ImageConfig, LayerPart};

use crate::commands::exports::Wanted;
use crate::report::Failure;

/// An image that is not packed yet, and what is made beside it.
pub(super) struct Whole {
    /// What the base is called.
    pub(super) run_image: String,
    /// Its layers come first, as they are.
    pub(super) base: State,
    pub(super) base_config: ImageConfig,
    /// The layers above, lowest first: what each is called, and what its tar consists of.
    pub(super) layers: Vec<(String, Vec<LayerPart<State>>)>,
    pub(super) finish: Finish,
    /// Steps that keep something for the next build.
    pub(super) keeps: Vec<(String, State)>,
    /// What detections left: on a machine that knows nothing else, a cache answers them.
    pub(super) answers: Vec<(String, State)>,
    /// A tree with bills of materials, and where they lie in it.
    pub(super) sboms: Option<(State, &'static str)>,
}

impl From<Planned> for Whole {
    fn from(planned: Planned) -> Self {
        let Planned { image, keeps, chosen, run_image } = planned;
        let AppImage { base, base_config, layers, unfinished, sboms } = image;
        let layers = layers.into_iter().map(|layer| (layer.layer.created_by(), layer.parts)).collect();
        let finish =
            Finish::new(move |base, own| unfinished.finish(base, own).map_err(|error| error.to_string()));
        let (answers, sboms) = (chosen.answers, Some((sboms, "/sbom")));
        Self { run_image, base, base_config, layers, finish, keeps, answers, sboms }
    }
}

impl From<Created> for Whole {
    fn from(created: Created) -> Self {
        let Created { base, base_config, layers, config, sboms, run_image } = created;
        let layers = layers.into_iter().map(|(label, part)| (label, vec![part])).collect();
        let finish = Finish::new(move |base, own| config.finish(base, own));
        let sboms = sboms.map(|sboms| (sboms, "/layers/sbom"));
        let (keeps, answers) = (Vec::new(), Vec::new());
        Self { run_image, base, base_config, layers, finish, keeps, answers, sboms }
    }
}

/// Where an app's image goes.
pub(super) enum Goal {
    /// Into the store, under these names.
    Store(Vec<String>),
    /// To registries.
    Registry(Vec<String>),
    /// Into a layout.
    Layout {
        /// Which.
        folder: PathBuf,
        /// The layers of the base are left out.
        sparse: bool,
    },
}

impl Goal {
    /// Adds the image of one platform, or an index of those of several.
    pub(super) fn add(&self, wanted: &mut Wanted, images: Vec<PlatformImage>) {
        let plain = |names: &[String]| names.iter().cloned().map(ImageName::Plain).collect();
        match self {
            Self::Store(names) => wanted.image(images, plain(names), None),
            Self::Registry(names) => {
                wanted.image(images, plain(names), Some(Push { only: true, ..Push::default() }));
            }
            Self::Layout { folder, .. } => wanted.layout_of(images, folder.clone()),
        }
    }
}

impl Goal {
    /// Whether the layers of the base are left out of what is written.
    fn without_base(&self) -> bool {
        matches!(self, Self::Layout { sparse: true, .. })
    }
}

impl Whole {
    /// Adds what the bundled engine makes of it; returns the image. `cached`: what was asked on the way goes into caches, too.
    pub(super) fn wanted(
        mut self,
        wanted: &mut Wanted,
        (goal, cached): (&Goal, bool),
        sbom_folder: Option<&Path>,
        sources: &SourceMap,
    ) -> Result<PlatformImage, Failure> {
        let sboms = self.sboms.take();
        let answers = std::mem::take(&mut self.answers);
        let (image, keeps) = self.packed(wanted, goal, sources)?;
        for (label, state) in keeps.iter().chain(answers.iter().filter(|_| cached)) {
            wanted.root(label, state, sources)?;
        }
        of_sboms(wanted, sboms.as_ref(), sbom_folder, sources)?;
        Ok(image)
    }

    /// Adds what the image is packed of; returns it, and what is kept for the next build.
    pub(super) fn packed(
        self,
        wanted: &mut Wanted,
        goal: &Goal,
        sources: &SourceMap,
    ) -> Result<(PlatformImage, Vec<(String, State)>), Failure> {
        // Not shared with another platform whose base is the same tree: each has layers of its own upon it.
        let base = self.base.marshal(sources)?;
        let root = wanted.definition(&format!("run image {}", self.run_image), base);
        let mut packed = Vec::with_capacity(self.layers.len());
        for (label, parts) in self.layers {
            let parts = parts.into_iter();
            let parts = parts.map(|part| part.try_map(|state| wanted.root(&label, &state, sources)));
            packed.push(parts.collect::<Result<Vec<_>, _>>()?);
        }
        let how = Layered { layers: packed, finish: self.finish, without_base: goal.without_base() };
        let image = wanted.app((root, self.base_config), how);
        Ok((image, self.keeps))
    }
}

/// Adds the bills of materials, where a folder is named for them.
pub(super) fn of_sboms(
    wanted: &mut Wanted,
    sboms: Option<&(State, &'static str)>,
    folder: Option<&Path>,
    sources: &SourceMap,
) -> Result<(), Failure> {
    if let Some((folder, (sboms, path))) = folder.zip(sboms) {
        let root = wanted.root("bills of materials", sboms, sources)?;
        wanted.folder(root, path, folder.to_owned());
    }
    Ok(())
}
