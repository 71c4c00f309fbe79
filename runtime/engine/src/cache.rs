//! Cache records in the store: key → the outputs of a vertex.
//!
//! **Invariant:** a record is answered only if every snapshot it names is there. What was made with a single user id
//! (no subordinate ids) is kept apart, since its trees cannot hold other owners: it never stands in for a full one.

use async_trait::async_trait;
use rb_oci::{Digest, Hasher};
use rb_solver::{Cache, Claim, Guard, OpError, Trace};
use rb_store::Store;

use crate::claims::{Claims, Taken};
use crate::error::EngineError;
use crate::value::{self, Value};

/// The local database as the solver sees it.
pub(crate) struct StoreCache {
    store: Store,
    claims: Claims,
    single_id: bool,
}

impl StoreCache {
    pub(crate) fn new(store: Store, claims: Claims, single_id: bool) -> Self {
        Self { store, claims, single_id }
    }

    /// Returns the key under which the store keeps what the solver calls `key`.
    fn stored_key(&self, key: &Digest) -> Digest {
        if self.single_id { derived(b"single id", key) } else { *key }
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
impl Cache<Value> for StoreCache {
    async fn lookup(&self, key: &Digest) -> Result<Option<Vec<Value>>, OpError> {
        let key = self.stored_key(key);
        let record = self.on_store(move |store| store.record(&key)).await?;
        Ok(record.and_then(|record| value::decode(&record.value)))
    }

    async fn store(&self, keys: &[Digest], values: &[Value]) -> Result<(), OpError> {
        let Some((bytes, snapshots)) = value::encode(values) else { return Ok(()) };
        let keys: Vec<Digest> = keys.iter().map(|key| self.stored_key(key)).collect();
        self.on_store(move |store| keys.iter().try_for_each(|key| store.put_record(key, &bytes, &snapshots)))
            .await
    }

    async fn claim(&self, key: &Digest) -> Result<Claim, OpError> {
        let (claims, key) = (self.claims.clone(), self.stored_key(key));
        Ok(match crate::blocking(move || claims.take(&key)).await? {
            Taken::Ours(claimed) => Claim::Acquired(Guard::new(claimed)),
            Taken::Theirs { process: Some(id) } => Claim::Held { by: format!("process {id}") },
            Taken::Theirs { process: None } => Claim::Held { by: "another process".to_owned() },
        })
    }

    async fn trace(&self, lineage: &Digest) -> Result<Option<Trace>, OpError> {
        let key = derived(b"trace", lineage);
        let record = self.on_store(move |store| store.record(&key)).await?;
        Ok(record.and_then(|record| serde_json::from_slice(&record.value).ok()))
    }

    async fn keep_trace(&self, lineage: &Digest, trace: &Trace) -> Result<(), OpError> {
        let key = derived(b"trace", lineage);
        let bytes = serde_json::to_vec(trace).expect("plain data serialises");
        self.on_store(move |store| store.put_record(&key, &bytes, &[])).await
    }
}
