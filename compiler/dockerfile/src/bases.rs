//! What stages start from: images with their configs, named contexts, nothing.
//!
//! In: nodes that no stage is the base of. Out: a [`Base`] for each. Images are asked for all at once, each one once.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, nearest};
use rb_frontend::{Gateway, ImageLocation, ImageRequest, ResolvedImage, WorldError};
use rb_llb::attr;
use rb_oci::{Digest, ImageConfig, Platform, Reference};

use crate::checks::{Checks, values};
use crate::contexts::{Loaded, NamedContexts, Origin};
use crate::failure::{self, Fallible};
use crate::filesystem::Filesystem;
use crate::options::{Options, ResolveMode};
use crate::stages::{Graph, Node, NodeId, SCRATCH};
use crate::{codes, concurrent, image};

/// What a stage begins as.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// Its files.
    pub(crate) files: BaseFiles,
    /// The config that instructions change.
    pub(crate) image: ImageConfig,
    /// The config as it came.
    pub(crate) original: Option<ImageConfig>,
    /// What its steps run on.
    pub(crate) platform: Platform,
}

/// Where the files are.
#[derive(Clone, Debug)]
pub(crate) enum BaseFiles {
    /// In an image of a registry.
    Image(BaseImage),
    /// Nowhere, or where a named context has them.
    Context(Origin),
}

/// An image of a registry.
#[derive(Clone, Debug)]
pub(crate) struct BaseImage {
    /// Its name with the digest that it stands for.
    pub(crate) reference: Reference,
    /// Attributes of its source.
    pub(crate) attrs: BTreeMap<String, String>,
}

/// Images that were asked for, for all platforms of a build.
pub(crate) type KnownImages = BTreeMap<(String, Platform), (Digest, ImageConfig)>;

/// What bases are found with.
pub(crate) struct Finding<'a> {
    pub(crate) gateway: &'a dyn Gateway,
    pub(crate) options: &'a Options,
    pub(crate) contexts: &'a NamedContexts<'a>,
    /// What is built for.
    pub(crate) target: &'a Platform,
    /// Nobody asked for it: an image may say otherwise.
    pub(crate) is_implicit: bool,
}

impl Finding<'_> {
    /// Finds the bases of nodes.
    pub(crate) async fn find(
        &self,
        graph: &Graph,
        wanted: &[NodeId],
        images: &mut KnownImages,
        checks: &mut Checks,
    ) -> Fallible<Vec<(NodeId, Base)>> {
        let loaded = concurrent::all(wanted.iter().map(|id| self.context_of(&graph.nodes[*id]))).await;
        let mut bases = Vec::new();
        let mut pulled = Vec::new();
        for (id, loaded) in wanted.iter().zip(loaded) {
            let node = &graph.nodes[*id];
            match loaded? {
                Some(loaded) => bases.push((*id, self.of_context(node, loaded))),
                None if node.base_name == SCRATCH => bases.push((*id, self.of_nothing())),
                None => pulled.push((*id, reference(node)?)),
            }
        }
        self.ask(graph, &pulled, images).await?;
        for (id, reference) in pulled {
            bases.push((id, self.of_image(&graph.nodes[id], &reference, images, checks)));
        }
        Ok(bases)
    }

    fn platform(&self, node: &Node) -> Platform {
        node.platform.clone().unwrap_or_else(|| self.target.clone())
    }

    /// Returns the context that stands in the place of a node or of its base.
    async fn context_of(&self, node: &Node) -> Fallible<Option<Loaded>> {
        let explicit = node.platform.as_ref().or((!self.is_implicit).then_some(self.target));
        let loaded = match node.is_replaced {
            true => self.contexts.load(&node.name, explicit).await,
            false => self.contexts.load(&node.base_name, Some(&self.platform(node))).await,
        };
        loaded.map_err(|error| error.with_label(node.span, ""))
    }

    fn of_nothing(&self) -> Base {
        let files = BaseFiles::Context(Origin::Tree(Filesystem::default()));
        Base { files, image: image::of_nothing(self.target), original: None, platform: self.target.clone() }
    }

    fn of_context(&self, node: &Node, loaded: Loaded) -> Base {
        let Loaded { origin, image } = loaded;
        let wanted = self.platform(node);
        let of_nothing = || match node.is_replaced {
            true => ImageConfig::scratch(&wanted),
            false => image::of_nothing(&wanted),
        };
        let config = ImageConfig { created: None, ..image.clone().unwrap_or_else(of_nothing) };
        if node.is_replaced {
            let platform = image.as_ref().and_then(image::platform_of).unwrap_or(wanted);
            return Base { files: BaseFiles::Context(origin), image: config, original: None, platform };
        }
        let origin = match origin {
            Origin::Tree(files) => Origin::Tree(Filesystem { platform: Some(wanted.clone()), ..files }),
            folder @ Origin::Client(_) => folder,
        };
        let original = Some(image.unwrap_or_else(|| config.clone()));
        Base { files: BaseFiles::Context(origin), image: config, original, platform: wanted }
    }

    fn of_image(
        &self,
        node: &Node,
        reference: &Reference,
        images: &KnownImages,
        checks: &mut Checks,
    ) -> Base {
        let wanted = self.platform(node);
        let (digest, original) = images
            .get(&(reference.to_string(), wanted.clone()))
            .cloned()
            .expect("every image that is wanted was asked for");
        let image = ImageConfig { created: None, ..original.clone() };
        let files = match image::is_empty(&original) {
            true => BaseFiles::Context(Origin::Tree(Filesystem::default())),
            false => {
                if let Some(actual) = image::platform_of(&original) {
                    let finding = values::base_platform(node.span, &node.base_name, &wanted, &actual);
                    checks.add(node.check.as_ref(), finding);
                }
                BaseFiles::Image(BaseImage { reference: reference.pinned(digest), attrs: self.attrs() })
            }
        };
        Base { files, image, original: Some(original), platform: wanted }
    }

    fn attrs(&self) -> BTreeMap<String, String> {
        match self.options.resolve_mode {
            ResolveMode::Default => BTreeMap::new(),
            mode => [(attr::IMAGE_RESOLVE_MODE.to_owned(), mode.as_str().to_owned())].into(),
        }
    }

    /// Asks for images that are not known yet.
    async fn ask(
        &self,
        graph: &Graph,
        pulled: &[(NodeId, Reference)],
        images: &mut KnownImages,
    ) -> Fallible<()> {
        let mut unknown = BTreeMap::new();
        for (id, reference) in pulled {
            let key = (reference.to_string(), self.platform(&graph.nodes[*id]));
            if !images.contains_key(&key) {
                unknown.entry(key).or_insert(*id);
            }
        }
        let requests: Vec<ImageRequest> = unknown
            .keys()
            .map(|(name, platform)| ImageRequest {
                location: ImageLocation::Registry(name.clone()),
                platform: platform.clone(),
            })
            .collect();
        let answers =
            concurrent::all(requests.iter().map(|request| self.gateway.resolve_image(request))).await;
        for ((key, id), answer) in unknown.into_iter().zip(answers) {
            let ResolvedImage { digest, config, .. } =
                answer.map_err(|error| missing(graph, &graph.nodes[id], &error))?;
            images.insert(key, (digest, image::understood(config)));
        }
        Ok(())
    }
}

/// Reads the name of an image.
fn reference(node: &Node) -> Fallible<Reference> {
    node.base_name.parse().map_err(|error: rb_oci::ReferenceError| {
        let message = format!("failed to parse stage name {}: {error}", crate::go::quote(&node.base_name));
        Diagnostic::error(codes::BAD_BASE, message)
            .with_label(node.span, "")
            .with_help("FROM takes an image, a stage above it (in lower case) or `scratch`")
    })
}

/// Tells that an image cannot be had; what is near a stage's name was likely meant to be the stage.
fn missing(graph: &Graph, node: &Node, error: &WorldError) -> Diagnostic {
    let found = failure::world(codes::IMAGE, error, Some(node.span));
    let name = node.base_name.split_once([':', '@']).map_or(node.base_name.as_str(), |(name, _)| name);
    found.with_nearest(nearest(name, graph.stage_names()))
}
