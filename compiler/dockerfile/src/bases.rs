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
use crate::{codes, concurrent, image, platform};

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
    /// It stands for one that cannot be had: what instructions make of it is not known.
    pub(crate) is_unknown: bool,
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
    /// Something is wrong already: what registries say only adds to it.
    pub(crate) glances: bool,
}

impl Finding<'_> {
    /// Finds the bases of nodes, and tells which cannot be had.
    pub(crate) async fn find(
        &self,
        graph: &Graph,
        wanted: &[NodeId],
        images: &mut KnownImages,
        checks: &mut Checks,
    ) -> Vec<(NodeId, Base)> {
        let (unknown, wanted): (Vec<NodeId>, Vec<NodeId>) =
            wanted.iter().partition(|id| graph.nodes[**id].is_unknown);
        let mut bases: Vec<(NodeId, Base)> =
            unknown.into_iter().map(|id| (id, self.of_unknown(&graph.nodes[id]))).collect();
        let loaded = concurrent::all(wanted.iter().map(|id| self.context_of(&graph.nodes[*id]))).await;
        let mut pulled = Vec::new();
        for (id, loaded) in wanted.into_iter().zip(loaded) {
            let node = &graph.nodes[id];
            let found = match loaded {
                Ok(Some(loaded)) => Ok(self.of_context(node, loaded)),
                Ok(None) if node.base_name == SCRATCH => Ok(self.of_nothing()),
                Ok(None) => match self.known_platform(node).and_then(|()| reference(graph, node)) {
                    Ok(reference) => {
                        pulled.push((id, reference));
                        continue;
                    }
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            let base = found.unwrap_or_else(|error| {
                checks.tell(error);
                self.of_unknown(node)
            });
            bases.push((id, base));
        }
        self.ask(graph, &pulled, images, checks).await;
        for (id, reference) in pulled {
            bases.push((id, self.of_image(&graph.nodes[id], &reference, images, checks)));
        }
        bases
    }

    /// Returns what stands for bases before anybody is asked: nothing is known of what they hold. Tells which cannot be had at all.
    pub(crate) fn suppose(
        &self,
        graph: &Graph,
        wanted: &[NodeId],
        checks: &mut Checks,
    ) -> Vec<(NodeId, Base)> {
        let of = |id: &NodeId| {
            let node = &graph.nodes[*id];
            let is_context =
                node.is_replaced || self.contexts.has(&node.base_name, Some(&self.platform(node)));
            let base = match (node.is_unknown || is_context, node.base_name == SCRATCH) {
                (false, true) => self.of_nothing(),
                (true, _) => self.of_unknown(node),
                (false, false) => {
                    if let Err(error) = self.known_platform(node).and_then(|()| reference(graph, node)) {
                        checks.tell(error);
                    }
                    self.of_unknown(node)
                }
            };
            (*id, base)
        };
        wanted.iter().map(of).collect()
    }

    fn platform(&self, node: &Node) -> Platform {
        node.platform.clone().unwrap_or_else(|| self.target.clone())
    }

    /// Checks that an image can be made for what is asked for at all; registries only say that there is none.
    fn known_platform(&self, node: &Node) -> Fallible<()> {
        let wanted = self.platform(node);
        // What is built for is one mistake, however many images are named.
        let at = node.platform_at.filter(|_| wanted != *self.target);
        platform::Unknown::of(&wanted).map_or(Ok(()), |unknown| Err(unknown.diagnostic(&wanted, at)))
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
        let (image, platform) = (image::of_nothing(self.target), self.target.clone());
        Base { files, image, original: None, platform, is_unknown: false }
    }

    /// Returns what stands for a base that cannot be had, so that what is above it can be looked at.
    fn of_unknown(&self, node: &Node) -> Base {
        Base { platform: self.platform(node), is_unknown: true, ..self.of_nothing() }
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
            let files = BaseFiles::Context(origin);
            return Base { files, image: config, original: None, platform, is_unknown: false };
        }
        let origin = match origin {
            Origin::Tree(files) => Origin::Tree(Filesystem { platform: Some(wanted.clone()), ..files }),
            folder @ Origin::Client(_) => folder,
        };
        let original = Some(image.unwrap_or_else(|| config.clone()));
        let files = BaseFiles::Context(origin);
        Base { files, image: config, original, platform: wanted, is_unknown: false }
    }

    fn of_image(
        &self,
        node: &Node,
        reference: &Reference,
        images: &KnownImages,
        checks: &mut Checks,
    ) -> Base {
        let wanted = self.platform(node);
        let known = images.get(&(reference.to_string(), wanted.clone())).cloned();
        let Some((digest, original)) = known else { return self.of_unknown(node) };
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
        Base { files, image, original: Some(original), platform: wanted, is_unknown: false }
    }

    fn attrs(&self) -> BTreeMap<String, String> {
        match self.options.resolve_mode {
            ResolveMode::Default => BTreeMap::new(),
            mode => [(attr::IMAGE_RESOLVE_MODE.to_owned(), mode.as_str().to_owned())].into(),
        }
    }

    /// Asks for images that are not known yet, and tells at each place that names one which cannot be had.
    async fn ask(
        &self,
        graph: &Graph,
        pulled: &[(NodeId, Reference)],
        images: &mut KnownImages,
        checks: &mut Checks,
    ) {
        let mut unknown: BTreeMap<_, Vec<NodeId>> = BTreeMap::new();
        for (id, reference) in pulled {
            let key = (reference.to_string(), self.platform(&graph.nodes[*id]));
            if !images.contains_key(&key) {
                unknown.entry(key).or_default().push(*id);
            }
        }
        let requests: Vec<ImageRequest> = unknown
            .keys()
            .map(|(name, platform)| ImageRequest {
                location: ImageLocation::Registry(name.clone()),
                platform: platform.clone(),
            })
            .collect();
        let ask = |request| match self.glances {
            true => self.gateway.glance_at_image(request),
            false => self.gateway.resolve_image(request),
        };
        let answers = concurrent::all(requests.iter().map(ask)).await;
        for ((key, ids), answer) in unknown.into_iter().zip(answers) {
            match answer {
                Ok(ResolvedImage { digest, config, .. }) => {
                    images.insert(key, (digest, image::understood(config)));
                }
                Err(error) => {
                    ids.iter().for_each(|id| checks.tell(missing(graph, &graph.nodes[*id], &error)));
                }
            }
        }
    }
}

/// Reads the name of an image.
fn reference(graph: &Graph, node: &Node) -> Fallible<Reference> {
    node.base_name.parse().map_err(|error: rb_oci::ReferenceError| {
        let message = format!("failed to parse stage name {}: {error}", crate::go::quote(&node.base_name));
        let found = named_there(Diagnostic::error(codes::BAD_BASE, message), node);
        match node.number {
            Some(_) => found.with_help("FROM takes an image, a stage above it (in lower case) or `scratch`"),
            None => found.with_help("files are taken from a stage, an image or a further context"),
        }
        .with_nearest(near_stage(graph, node))
    })
}

/// Tells that an image cannot be had; what is near a stage's name was likely meant to be the stage.
fn missing(graph: &Graph, node: &Node, error: &WorldError) -> Diagnostic {
    named_there(failure::world(codes::IMAGE, error, None), node).with_nearest(near_stage(graph, node))
}

/// Shows each place that names what a node begins as.
fn named_there(found: Diagnostic, node: &Node) -> Diagnostic {
    node.named_at.iter().fold(found, |found, at| found.with_label(*at, ""))
}

/// Returns the stage that a name was likely meant to be: for FROM, one above.
fn near_stage<'a>(graph: &'a Graph, node: &Node) -> Option<&'a str> {
    let name = node.base_name.split_once([':', '@']).map_or(node.base_name.as_str(), |(name, _)| name);
    nearest(name, graph.stage_names_above(node.number))
}
