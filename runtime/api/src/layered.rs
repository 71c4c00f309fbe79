//! Images whose layers are packed of parts of several trees, and whose config is known once they are: apps of buildpacks.
//!
//! Whoever asks for one says for each layer what its tar consists of; the engine packs it, and hands the diff ids to [`Finish`],
//! which makes the config.

use std::fmt;
use std::sync::Arc;

use rb_oci::{Digest, ImageConfig, LayerPart};

/// How an image is put together upon the layers of its root.
#[derive(Clone, Debug)]
pub struct Layered {
    /// The layers above, lowest first; each consists of these, in order. Trees are roots of the request, by their place.
    pub layers: Vec<Vec<LayerPart<usize>>>,
    /// Makes the config.
    pub finish: Finish,
    /// The layers of the base, which its config names, are left out of layouts that are written: whoever reads them has those. What
    /// goes elsewhere is whole.
    pub without_base: bool,
}

/// Makes a config of the diff ids of the base's layers and of those above; or says why it cannot be.
#[derive(Clone)]
pub struct Finish(Arc<FinishFn>);

type FinishFn = dyn Fn(&[Digest], &[Digest]) -> Result<ImageConfig, String> + Send + Sync;

impl Finish {
    /// Takes what makes it.
    pub fn new(
        make: impl Fn(&[Digest], &[Digest]) -> Result<ImageConfig, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(make))
    }

    /// Makes the config.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn config(&self, base: &[Digest], own: &[Digest]) -> Result<ImageConfig, String> {
        (self.0)(base, own)
    }
}

impl fmt::Debug for Finish {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Finish")
    }
}
