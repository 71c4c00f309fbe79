//! An app's image of which an engine elsewhere makes the trees: they are gathered there, come here, and are packed here.
//!
//! BuildKit packs layers by its own rules, and tells diff ids of none before it has written the image whose labels name them. So what the
//! layers consist of is copied there into one tree, which is sent as a layout and lent to the bundled engine: that packs, names, pushes
//! and finds again what it packed, as it does with trees of its own.
//! **Invariant:** the image is byte for byte that of the bundled runtime: of the trees only their place differs. The base is not sent
//! where it is an image as it is; where extensions laid layers upon it, those are BuildKit's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use rb_api::{ExportResult, SolveResult};
use rb_diag::{ErrorKind, SourceMap};
use rb_llb::{CopyAction, Edge, NodeMeta, Op, State, attr};
use rb_oci::{Choice, Digest, ImageConfig, LayerPart, Platform};
use rb_session::LocalSession;

use super::whole::{Whole, of_sboms};
use crate::commands::exports::Wanted;
use crate::report::Failure;

/// What the layout of the gathered tree is lent as.
const GATHERED: &str = "gathered";
/// The same for a base with layers of extensions.
const BASE: &str = "base";

/// An image whose trees are yet to come.
pub(super) struct Gathering {
    /// What is planned, without what is made elsewhere.
    whole: Whole,
    layers: Vec<(String, Vec<LayerPart<()>>)>,
    platform: Platform,
    /// Whether the base comes too.
    with_base: bool,
    /// Where layouts lie once they are here.
    folder: PathBuf,
}

impl Gathering {
    /// Plans it. Returns what the engine elsewhere is asked for as well.
    pub(super) fn of(
        mut whole: Whole,
        sbom_folder: Option<&Path>,
        platform: &Platform,
        folder: &Path,
        sources: &SourceMap,
    ) -> Result<(Self, Wanted), Failure> {
        let mut slots = Slots::default();
        let mut layers = Vec::with_capacity(whole.layers.len());
        for (label, parts) in std::mem::take(&mut whole.layers) {
            let parts = parts.into_iter().map(|part| slots.placed(part));
            layers.push((label, parts.collect::<Result<_, Failure>>()?));
        }
        let mut wanted = Wanted::annotated(&[]);
        let root = wanted.root("what the image is packed of", &slots.tree(), sources)?;
        let Platform { os, architecture, variant } = platform.clone();
        let config = ImageConfig { os, architecture, variant, ..ImageConfig::default() };
        wanted.layout((root, config), folder.join(GATHERED));
        let with_base = !is_image(&whole.base, sources)?;
        if with_base {
            let root = wanted.root(&format!("run image {}", whole.run_image), &whole.base, sources)?;
            wanted.layout((root, whole.base_config.clone()), folder.join(BASE));
        }
        for (label, state) in std::mem::take(&mut whole.keeps) {
            wanted.root(&label, &state, sources)?;
        }
        of_sboms(&mut wanted, whole.sboms.take().as_ref(), sbom_folder, sources)?;
        let (platform, folder) = (platform.clone(), folder.to_owned());
        Ok((Self { whole, layers, platform, with_base, folder }, wanted))
    }

    /// Returns what the bundled engine packs, and the session that lends it what came; `written` keeps what else was.
    pub(super) fn arrived(
        self,
        written: &mut SolveResult,
        session: &LocalSession,
    ) -> Result<(Whole, LocalSession), Failure> {
        let layouts = 1 + usize::from(self.with_base);
        let mut digests = Vec::with_capacity(layouts);
        for export in written.exports.drain(..layouts.min(written.exports.len())) {
            if let ExportResult::Image { digest, .. } = export {
                digests.push(digest);
            }
        }
        let mut session = session.clone();
        let mut lend = |name: &str, digest: &Digest| {
            session = std::mem::take(&mut session).with_oci_layout(name, self.folder.join(name));
            let attrs = BTreeMap::from([(attr::OCI_STORE.to_owned(), name.to_owned())]);
            let meta = NodeMeta::named(format!("[internal] take what came: {name}"));
            State::source(format!("oci-layout://rb/{name}@{digest}"), attrs, Some(&self.platform), meta)
        };
        let (tree, base) = match (digests.as_slice(), self.with_base) {
            ([tree], false) => (lend(GATHERED, tree), self.whole.base),
            ([tree, base], true) => (lend(GATHERED, tree), lend(BASE, base)),
            _ => return Err(lacking()),
        };
        let of = |part: LayerPart<()>| match part.try_map(|()| Ok::<_, Infallible>(tree.clone())) {
            Ok(part) => part,
        };
        let layers = self.layers.into_iter();
        let layers = layers.map(|(label, parts)| (label, parts.into_iter().map(of).collect()));
        Ok((Whole { base, layers: layers.collect(), ..self.whole }, session))
    }
}

fn lacking() -> Failure {
    let message = "the engine wrote fewer images than it was asked for".to_owned();
    Failure::Said { kind: ErrorKind::Internal, message, help: None }
}

/// Whether a tree is an image as it is, whose layers need not come from where it was used.
fn is_image(tree: &State, sources: &SourceMap) -> Result<bool, Failure> {
    let graph = tree.marshal(sources)?.graph()?;
    let root = graph.root().map(|edge| &graph.vertex(&edge.vertex).op);
    Ok(matches!(root, Some(Op::Source(source)) if matches!(source.scheme().0, "docker-image" | "oci-layout")))
}

/// What layers are packed of, side by side in one tree.
#[derive(Default)]
struct Slots {
    copies: Vec<(State, CopyAction)>,
    /// By tree, by path, and whether it is a folder without what is in it.
    found: BTreeMap<(Option<Edge>, String, bool), String>,
}

impl Slots {
    /// Gives a part its place.
    fn placed(&mut self, part: LayerPart<State>) -> Result<LayerPart<()>, Failure> {
        Ok(match part {
            LayerPart::Tree { tree, from, to, owner, choice } => {
                let from = self.slot(tree, from, choice == Choice::Alone)?;
                LayerPart::Tree { tree: (), from, to, owner, choice }
            }
            LayerPart::File { tree, from, to, mode } => {
                LayerPart::File { tree: (), from: self.slot(tree, from, false)?, to, mode }
            }
            LayerPart::Packed { tree, from } => {
                LayerPart::Packed { tree: (), from: self.slot(tree, from, false)? }
            }
            LayerPart::Folder { path, mode, owner } => LayerPart::Folder { path, mode, owner },
            LayerPart::Text { path, owner, text } => LayerPart::Text { path, owner, text },
            LayerPart::Stored { descriptor, diff_id } => LayerPart::Stored { descriptor, diff_id },
            LayerPart::Link { path, target } => LayerPart::Link { path, target },
        })
    }

    fn slot(&mut self, tree: State, from: String, alone: bool) -> Result<String, Failure> {
        let key = (tree.digest()?, from, alone);
        if let Some(slot) = self.found.get(&key) {
            return Ok(slot.clone());
        }
        let slot = format!("/{}", self.copies.len());
        // It comes with its owner and mode, as there is nothing at its place yet.
        let copy = CopyAction {
            src: key.1.clone(),
            dest: slot.clone(),
            follow_symlink: true,
            exclude_patterns: if alone { vec!["*".to_owned()] } else { Vec::new() },
            ..CopyAction::default()
        };
        self.copies.push((tree, copy));
        self.found.insert(key, slot.clone());
        Ok(slot)
    }

    fn tree(self) -> State {
        let copies = self.copies.into_iter();
        let files = copies.fold(State::scratch().files(), |files, (tree, copy)| files.copy(&tree, copy));
        files.finish(NodeMeta::named("gather what the image is packed of"))
    }
}

#[cfg(test)]
mod tests {
    use rb_llb::MkdirAction;

    use super::*;

    #[test]
    fn what_is_taken_twice_comes_once() {
        let tree = |name: &str| {
            let folder = MkdirAction { path: format!("/{name}"), ..MkdirAction::default() };
            State::scratch().mkdir(folder, NodeMeta::named(name))
        };
        let part = |of: &str, choice: Choice| {
            let (from, to) = (format!("/{of}"), "/to".to_owned());
            LayerPart::Tree { tree: tree(of), from, to, owner: None, choice }
        };
        let mut slots = Slots::default();
        let mut from = |part| match slots.placed(part) {
            Ok(LayerPart::Tree { from, .. }) => from,
            _ => panic!("is a tree still"),
        };
        assert_eq!(from(part("a", Choice::All)), "/0");
        assert_eq!(from(part("b", Choice::All)), "/1");
        assert_eq!(from(part("a", Choice::Alone)), "/2");
        assert_eq!(from(part("a", Choice::These(vec!["x".to_owned()]))), "/0");
        let graph = slots.tree().marshal(&SourceMap::default()).expect("marshals").graph().expect("a graph");
        assert_eq!(graph.vertices().filter(|vertex| matches!(vertex.op, Op::File(_))).count(), 3);
    }

    #[test]
    fn only_an_image_as_it_is_stays_where_it_is() {
        let named = NodeMeta::named;
        let source =
            |scheme: &str| State::source(format!("{scheme}://a"), BTreeMap::new(), None, named("a source"));
        let is = |state: &State| is_image(state, &SourceMap::default()).ok();
        assert_eq!(is(&source("docker-image")), Some(true));
        assert_eq!(is(&source("local")), Some(false));
        assert_eq!(is(&source("docker-image").mkdir(MkdirAction::default(), named("more"))), Some(false));
        assert_eq!(is(&State::scratch()), Some(false));
    }
}
