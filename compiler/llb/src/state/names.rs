//! Other names for the steps of a tree that is made already: digests and places stay.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{CUSTOM_NAME, Encoded, Node, State};

impl State {
    /// Returns the same tree with other names for its steps, each of which gets further texts: for all but those that trees in
    /// `kept` end with, and what these are made of.
    #[must_use]
    pub fn renamed(
        &self,
        kept: &[&Self],
        name: impl Fn(&str) -> String,
        texts: &BTreeMap<String, String>,
    ) -> Self {
        let Some(root) = &self.node else { return self.clone() };
        let of = |node: &Arc<Node>| Arc::as_ptr(node) as usize;
        let mut known: HashMap<usize, Arc<Node>> = kept
            .iter()
            .filter_map(|state| state.node.as_ref())
            .map(|node| (of(node), Arc::clone(node)))
            .collect();
        // A stack of our own: a tree may be deeper than ours goes.
        let mut open = vec![Arc::clone(root)];
        while let Some(node) = open.last().cloned() {
            if known.contains_key(&of(&node)) {
                open.pop();
                continue;
            }
            let inputs = || node.inputs.iter().filter_map(|input| input.node.as_ref());
            let waits: Vec<_> = inputs().filter(|input| !known.contains_key(&of(input))).cloned().collect();
            if !waits.is_empty() {
                open.extend(waits);
                continue;
            }
            let renewed = match &node.encoded {
                Ok(Encoded { bytes, digest, outputs }) => {
                    let input = |input: &Self| Self {
                        node: input.node.as_ref().and_then(|node| known.get(&of(node)).cloned()),
                        output: input.output,
                    };
                    let inputs = node.inputs.iter().map(input).collect();
                    let mut meta = node.meta.clone();
                    if let Some(shown) = meta.description.get_mut(CUSTOM_NAME) {
                        *shown = name(shown);
                    }
                    meta.description.extend(texts.clone());
                    let encoded = Encoded { bytes: bytes.clone(), digest: *digest, outputs: *outputs };
                    Arc::new(Node { inputs, encoded: Ok(encoded), meta, span: node.span })
                }
                // It cannot be marshalled, so nobody sees its name.
                Err(_) => Arc::clone(&node),
            };
            known.insert(of(&node), renewed);
            open.pop();
        }
        Self { node: known.get(&of(root)).cloned(), output: self.output }
    }
}

#[cfg(test)]
mod tests {
    use rb_diag::SourceMap;

    use super::*;
    use crate::{CopyAction, NodeMeta};

    #[test]
    fn names_change_and_digests_stay() {
        let source = |name: &str| {
            State::source(format!("local://{name}"), BTreeMap::new(), None, NodeMeta::named(name))
        };
        let copy = |base: &State, from: &State, name: &str| {
            let action = CopyAction { src: "/".to_owned(), dest: "/".to_owned(), ..CopyAction::default() };
            base.copy(from, action, NodeMeta::named(name))
        };
        let (one, two) = (source("one"), source("two"));
        let kept = copy(&State::scratch(), &one, "kept");
        let tree = copy(&copy(&kept, &two, "a"), &two, "b");
        let texts = BTreeMap::from([("why".to_owned(), "test".to_owned())]);
        let renamed = tree.renamed(&[&kept], |name| format!("+t | {name}"), &texts);
        assert_eq!(renamed.digest().expect("is one"), tree.digest().expect("is one"));
        let definition = renamed.marshal(&SourceMap::default()).expect("marshals");
        let graph = definition.graph().expect("is a graph");
        let mut names: Vec<_> =
            graph.vertices().filter_map(|vertex| graph.meta(&vertex.digest).name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["+t | a", "+t | b", "+t | two", "kept", "one"]);
        let told =
            graph.vertices().filter(|vertex| graph.meta(&vertex.digest).description.contains_key("why"));
        assert_eq!(told.count(), 3);
        assert!(State::scratch().renamed(&[], str::to_owned, &texts).is_scratch());
    }
}
