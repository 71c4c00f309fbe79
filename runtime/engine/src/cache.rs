//! Cache records in the store: key → the outputs of a vertex. Behind them stand those of caches elsewhere ([`crate::shared`]).
//!
//! **Invariant:** a record is answered only if every snapshot it names is there. What was made with a single user id
//! (no subordinate ids) is kept apart, since its trees cannot hold other owners: it never stands in for a full one. Of what was
//! made by going on where a step had failed nothing is stored; from the first such result on nor are traces, which would say
//! of what the next build has to make that it was there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use rb_oci::{Digest, Hasher};
use rb_solver::{Cache, Claim, Gone, GoneReason, Guard, OpError, Trace};
use rb_store::{Store, Tombstone};

use crate::claims::{Claims, Taken, name_of};
use crate::error::EngineError;
use crate::parts::Parts;
use crate::value::{self, Product};

/// The local database as the solver sees it.
pub(crate) struct StoreCache {
    store: Store,
    claims: Claims,
    /// Where results of others are looked for.
    parts: Arc<Parts>,
    single_id: bool,
    /// Something was made that is not to be found again.
    has_resumed: AtomicBool,
}

impl StoreCache {
    pub(crate) fn new(parts: &Arc<Parts>, single_id: bool) -> Self {
        let (store, claims) = (parts.store.clone(), parts.claims.clone());
        Self { store, claims, parts: Arc::clone(parts), single_id, has_resumed: AtomicBool::new(false) }
    }

    /// Returns the key under which the store keeps what the solver calls `key`.
    fn stored_key(&self, key: &Digest) -> Digest {
        if self.single_id { derived(b"single id", key) } else { *key }
    }

    /// Returns the key of what is remembered of a lineage: apart, as its results are, so that none explains the others'.
    fn trace_key(&self, lineage: &Digest) -> Digest {
        self.stored_key(&derived(b"trace", lineage))
    }

    async fn on_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, rb_store::StoreError> + Send + 'static,
    ) -> Result<T, OpError> {
        let store = self.store.clone();
        crate::blocking(move || work(&store).map_err(EngineError::from)).await
    }
}

fn derived(purpose: &[u8], key: &Digest) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(purpose);
    hasher.update(key.as_bytes());
    hasher.finish().0
}

#[async_trait]
impl Cache<Product> for StoreCache {
    async fn lookup(&self, key: &Digest) -> Result<Option<Vec<Product>>, OpError> {
        let stored = self.stored_key(key);
        let found = self.on_store(move |store| {
            let key = stored;
            let Some(record) = store.record(&key)? else { return Ok(None) };
            let Some(found) = value::decode(&record.value) else { return Ok(None) };
            if value::are_those_of(store, &found)? {
                return Ok(Some(found));
            }
            tracing::warn!(%key, "a record of the database is damaged: it is dropped, and its result made again");
            store.remove_record(&key).map(|_| None)
        });
        match found.await? {
            Some(found) => Ok(Some(found)),
            None => Ok(self.parts.shared.find(&self.parts, key).await),
        }
    }

    async fn store(&self, keys: &[Digest], values: &[Product]) -> Result<(), OpError> {
        if values.iter().any(Product::is_resumed) {
            self.has_resumed.store(true, Ordering::Relaxed);
        }
        let Some((bytes, snapshots)) = value::encode(values) else { return Ok(()) };
        let keys: Vec<Digest> = keys.iter().map(|key| self.stored_key(key)).collect();
        self.on_store(move |store| keys.iter().try_for_each(|key| store.put_record(key, &bytes, &snapshots)))
            .await
    }

    async fn claim(&self, key: &Digest) -> Result<Claim, OpError> {
        let (claims, key) = (self.claims.clone(), self.stored_key(key));
        Ok(match crate::blocking(move || claims.take(&key)).await? {
            Taken::Ours(claimed) => Claim::Acquired(Guard::new(claimed)),
            Taken::Theirs { process } => Claim::Held { by: name_of(process) },
        })
    }

    async fn trace(&self, lineage: &Digest) -> Result<Option<Trace>, OpError> {
        let key = self.trace_key(lineage);
        let record = self.on_store(move |store| store.record(&key)).await?;
        Ok(record.and_then(|record| serde_json::from_slice(&record.value).ok()))
    }

    async fn gone(&self, keys: &[Digest]) -> Result<Option<Gone>, OpError> {
        let keys: Vec<Digest> = keys.iter().map(|key| self.stored_key(key)).collect();
        let last = move |store: &Store| {
            let found = keys.iter().filter_map(|key| store.tombstone(key).transpose());
            Ok(found.collect::<Result<Vec<_>, _>>()?.into_iter().max_by_key(|tombstone| tombstone.gone_unix))
        };
        Ok(self.on_store(last).await?.map(|Tombstone { reason, gone_unix }| Gone {
            reason: match reason {
                rb_store::GoneReason::Removed => GoneReason::Removed,
                rb_store::GoneReason::Cap => GoneReason::Cap,
                rb_store::GoneReason::Quota => GoneReason::Quota,
                rb_store::GoneReason::Age => GoneReason::Age,
                rb_store::GoneReason::Pruned => GoneReason::Pruned,
                rb_store::GoneReason::Unsynced => GoneReason::Unsynced,
                rb_store::GoneReason::Lost => GoneReason::Lost,
                rb_store::GoneReason::Corrupt => GoneReason::Corrupt,
            },
            at_unix: gone_unix,
        }))
    }

    async fn keep_trace(&self, lineage: &Digest, trace: &Trace) -> Result<(), OpError> {
        if self.has_resumed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let key = self.trace_key(lineage);
        let bytes = serde_json::to_vec(trace).expect("plain data serialises");
        self.on_store(move |store| store.put_record(&key, &bytes, &[])).await
    }
}
