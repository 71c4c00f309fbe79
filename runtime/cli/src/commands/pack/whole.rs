//! An app's image as it is planned, whoever planned it: rb's own lifecycle, or the builder's.
//!
//! In: [`Planned`] or [`Created`]. Out: a [`Whole`], and of that what an engine is asked for.

use rb_api::{Finish, ImageName, Layered, Push};
use rb_buildpacks::frontend::{AppImage, Created, Planned};
use rb_diag::SourceMap;
use rb_llb::State;
use rb_oci::{ImageConfig, LayerPart};

use crate::args::PackBuild;
use crate::commands::exports::{Asked as Wants, Wanted};
use crate::report::Failure;
use crate::settings::Settings;

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

impl Whole {
    /// Returns what the bundled engine is asked for. `cached`: what was asked on the way goes into caches, too.
    pub(super) fn wanted(
        mut self,
        cached: bool,
        settings: &Settings,
        names: &[String],
        args: &PackBuild,
        sources: &SourceMap,
    ) -> Result<Wants, Failure> {
        let mut wanted = Wanted::annotated(&[]);
        let sboms = self.sboms.take();
        let answers = std::mem::take(&mut self.answers);
        for (label, state) in self.packed(&mut wanted, names, args, sources)? {
            wanted.root(&label, &state, sources)?;
        }
        for (label, state) in answers.iter().filter(|_| cached) {
            wanted.root(label, state, sources)?;
        }
        of_sboms(&mut wanted, sboms.as_ref(), settings, args, sources)?;
        Ok(wanted.asked())
    }

    /// Adds the image; returns what is kept for the next build.
    pub(super) fn packed(
        self,
        wanted: &mut Wanted,
        names: &[String],
        args: &PackBuild,
        sources: &SourceMap,
    ) -> Result<Vec<(String, State)>, Failure> {
        let root = wanted.root(&format!("run image {}", self.run_image), &self.base, sources)?;
        let mut packed = Vec::with_capacity(self.layers.len());
        for (label, parts) in self.layers {
            let parts = parts.into_iter();
            let parts = parts.map(|part| part.try_map(|state| wanted.root(&label, &state, sources)));
            packed.push(parts.collect::<Result<Vec<_>, _>>()?);
        }
        let names = names.iter().cloned().map(ImageName::Plain).collect();
        let push = args.publish.then(|| Push { only: true, ..Push::default() });
        wanted.app((root, self.base_config), Layered { layers: packed, finish: self.finish }, names, push);
        Ok(self.keeps)
    }
}

/// Adds the bills of materials, where they are asked for.
pub(super) fn of_sboms(
    wanted: &mut Wanted,
    sboms: Option<&(State, &'static str)>,
    settings: &Settings,
    args: &PackBuild,
    sources: &SourceMap,
) -> Result<(), Failure> {
    if let Some((folder, (sboms, path))) = args.sbom_output_dir.as_ref().zip(sboms) {
        let root = wanted.root("bills of materials", sboms, sources)?;
        wanted.folder(root, path, settings.cwd.join(folder));
    }
    Ok(())
}
