//! What a job knows of its steps, to be written for others: what finds each, and what it gave.
//!
//! In: the graphs of roots that were solved. Out: for each step of them whose result is known, all keys that find it. A step
//! that was found by its definition alone was not compared by content; the content of what it reads is looked up, or read,
//! here, so that a cache finds the step also where something else of the context has changed. Nothing is run or fetched for it,
//! but a look at folders of the client.
//! **Invariants:** a key that is made of contents is given on only if the store, or a cache, has that very result under it: what a
//! step reads now need not be what its result was made of. What cannot be looked at is left out, and is counted; that fails nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_diag::chain;
use rb_llb::{Edge, Graph, Op, Vertex};
use rb_oci::Digest;
use rb_oci::cache::CACHE_FEW;
use rb_solver::keys::{self, ContentInput};
use rb_solver::{CacheInput, Context, JobHandle, Op as _, OpError, Recognised};
use rb_store::{Store, StoreError};

use crate::error::EngineError;
use crate::ops::LlbOp;
use crate::parts::Parts;
use crate::value::{self, Product, Value};

/// Keys of a kind that are handed on from cache to cache: of a step whose inputs are not read any more they are all there is.
const HANDED_ON: usize = 8;

/// A step and what is known of it.
#[derive(Clone)]
pub(super) struct Surveyed {
    /// Its keys, but for those by parts.
    pub(super) keys: Vec<Digest>,
    /// Its keys by the parts of its inputs that it reads.
    pub(super) parts: Vec<Digest>,
    pub(super) values: Vec<Product>,
}

/// All that was found out, by vertex.
#[derive(Default)]
pub(super) struct Survey {
    values: BTreeMap<Digest, Vec<Product>>,
    pub(super) steps: BTreeMap<Digest, Surveyed>,
    /// Steps that could not be looked at.
    pub(super) left_out: usize,
}

impl Survey {
    /// Adds what a graph has that is not known yet.
    pub(super) async fn add(
        &mut self,
        parts: &Arc<Parts>,
        handle: &JobHandle<LlbOp>,
        graph: &Graph,
    ) -> Result<(), OpError> {
        for vertex in graph.vertices() {
            if self.values.contains_key(&vertex.digest) {
                continue;
            }
            match self.add_vertex(parts, handle, (graph, vertex)).await {
                Err(error) if !error.is_cancelled() => {
                    tracing::warn!(vertex = %vertex.digest, error = chain(&error), "a step is in no cache");
                    self.left_out += 1;
                }
                done => done?,
            }
        }
        Ok(())
    }

    async fn add_vertex(
        &mut self,
        parts: &Arc<Parts>,
        handle: &JobHandle<LlbOp>,
        (graph, vertex): (&Graph, &Vertex),
    ) -> Result<(), OpError> {
        let Some(known) = handle.recognised(vertex.digest).await else { return Ok(()) };
        let cx = Context::detached(vertex.digest);
        let values = match (known.values.clone(), &vertex.op) {
            (Some(values), _) => Some(values),
            // What was pinned for its key is there for a look.
            (None, Op::Source(op)) if matches!(op.scheme().0, "local" | "docker-image" | "oci-layout") => {
                Some(known.op.run(&cx, Vec::new()).await?)
            }
            (None, Op::Source(_)) => None,
            (None, _) => handle.peek(vertex.digest).await?,
        };
        let Some(values) = values else { return Ok(()) };
        self.values.insert(vertex.digest, values.clone());
        if is_written(graph, vertex) && values.len() <= CACHE_FEW && values.iter().all(may_leave) {
            let mut keys = Vec::from_iter(known.fast);
            let (mut wholes, mut of_parts) = self.content_keys(&cx, &known).await?;
            let asked = [keys.as_slice(), &wholes, &of_parts].concat();
            let (store, made) = (parts.store.clone(), values.clone());
            (wholes, of_parts) = crate::blocking(move || {
                Ok((leading_to(&store, wholes, &made)?, leading_to(&store, of_parts, &made)?))
            })
            .await?;
            keys.append(&mut wholes);
            let beside = parts.shared.keys_beside(&asked, &values);
            hand_on(&mut keys, beside.0);
            hand_on(&mut of_parts, beside.1);
            if !keys.is_empty() || !of_parts.is_empty() {
                self.steps.insert(vertex.digest, Surveyed { keys, parts: of_parts, values });
            }
        }
        Ok(())
    }

    /// Returns the keys that the contents of a vertex's inputs make, as far as these are known: of all of them, and of the parts that
    /// it reads.
    async fn content_keys(
        &self,
        cx: &Context,
        known: &Recognised<LlbOp>,
    ) -> Result<(Vec<Digest>, Vec<Digest>), OpError> {
        let of_input = |(source, index, _): &(Digest, u32, CacheInput)| {
            self.values.get(source).and_then(|values| values.get(*index as usize)).cloned()
        };
        let products: Option<Vec<Product>> = known.inputs.iter().map(of_input).collect();
        let Some(products) = products.filter(|products| !products.is_empty()) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let used = || products.iter().zip(known.inputs.iter().map(|(_, _, used)| used));
        let whole = |(product, used): (&Product, &CacheInput)| ContentInput::Whole {
            content: product.key(),
            selector: used.selector,
        };
        let mut contents: Vec<_> = used().map(whole).collect();
        let whole = vec![keys::content_key(&known.definition, &contents)];
        let read: Vec<_> = used().enumerate().filter(|(_, (_, used))| used.content).collect();
        // What is not unpacked is not fetched for a key.
        if read.is_empty() || read.iter().any(|(_, (product, _))| matches!(product, Product::Image(..))) {
            return Ok((whole, Vec::new()));
        }
        for (index, (product, _)) in read {
            contents[index] = ContentInput::Part { content: known.op.content(cx, index, product).await? };
        }
        Ok((whole, vec![keys::content_key(&known.definition, &contents)]))
    }
}

/// Returns those of `keys` under which the store has this very result. Blocking.
fn leading_to(store: &Store, keys: Vec<Digest>, made: &[Product]) -> Result<Vec<Digest>, EngineError> {
    let leads = |key: &Digest| -> Result<bool, StoreError> {
        let found = store.record(key)?.and_then(|record| value::decode(&record.value));
        Ok(found.is_some_and(|found| found.iter().map(Product::key).eq(made.iter().map(Product::key))))
    };
    let mut leading = Vec::with_capacity(keys.len());
    for key in keys {
        if leads(&key)? {
            leading.push(key);
        }
    }
    Ok(leading)
}

/// Adds what is not among `keys` yet, while they are few.
fn hand_on(keys: &mut Vec<Digest>, others: Vec<Digest>) {
    for key in others {
        if keys.len() < HANDED_ON && !keys.contains(&key) {
            keys.push(key);
        }
    }
}

/// Says whether what a vertex gives is written. Not the difference of two trees, nor what is merged of one: a layer does not hold
/// what it deletes of others.
fn is_written(graph: &Graph, vertex: &Vertex) -> bool {
    let is_diff = |edge: &Edge| graph.get(&edge.vertex).is_some_and(|below| matches!(below.op, Op::Diff(_)));
    match vertex.op {
        Op::Exec(_) | Op::File(_) => true,
        Op::Merge(_) => !vertex.inputs.iter().any(is_diff),
        Op::Source(_) | Op::Diff(_) | Op::Build(_) => false,
    }
}

/// Says whether a value may leave this machine.
fn may_leave(value: &Product) -> bool {
    match value {
        Product::Here(Value::Tree(tree)) => tree.host.is_none(),
        Product::Image(..) => true,
        Product::Here(Value::Local(_)) | Product::Resumed(..) => false,
    }
}

#[cfg(test)]
mod tests {
    use rb_snapshot::ContentKey;

    use super::*;
    use crate::value::Tree;

    #[test]
    fn a_key_is_given_on_only_with_the_result_that_the_store_has_under_it() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::open(root.path()).expect("opens");
        let result = |content: u8| {
            let id = store.new_snapshot(None).expect("starts");
            let id = store.commit_snapshot(id, 0, Some([content; 32])).expect("commits");
            let content = ContentKey::from_bytes([content; 32]);
            vec![Product::Here(Value::Tree(Tree { snapshot: Some(id), content, host: None }))]
        };
        let (was, now) = (result(1), result(2));
        let (bytes, snapshots) = value::encode(&was).expect("trees");
        let (known, unknown) = (Digest::of("known"), Digest::of("unknown"));
        store.put_record(&known, &bytes, &snapshots).expect("puts");
        let given_on = |made: &[Product]| leading_to(&store, vec![known, unknown], made).expect("reads");
        assert_eq!(given_on(&was), [known]);
        // A step that gives something else now, or more.
        assert!(given_on(&now).is_empty());
        assert!(given_on(&[was, now].concat()).is_empty());
    }
}
