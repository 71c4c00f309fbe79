//! Caches elsewhere: results of others, beside the store's own records, and those of a job written for others.
//!
//! In: the places that a job names. Out, for a key that the store does not have: outputs whose layers come once something reads
//! them ([`Product::Image`]), as the layers of an image do. `load` reads what a place holds, once, and only if something is missed
//! here; `survey` finds what there is to be written, `forest` puts it into layers, `export` writes it.
//!
//! What a cache has is found by the very keys of the solver: what finds a result on one machine finds it on every one. That a key
//! leads to a tree, and what the tree is found by, is believed of whoever may write to the place; that a layer is the one which is
//! named is proved by its digests, as with images. Never in a cache: what lies on `FROM @host`, what a resumed step made, what was
//! made with a single user id, caches of steps, values of secrets.
//! **Invariant:** nothing that is wrong with a place fails a build: it is told once, and what it might have had is made. A result is
//! answered only while all layers are there that it lacks here.

mod bucket;
mod export;
mod forest;
mod load;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rb_api::{CachePlace, EventSink};
use rb_diag::chain;
use rb_exporters::Epoch;
use rb_oci::cache::{CacheRecord, CacheTable};
use rb_oci::{Descriptor, Digest, ImageConfig};
use rb_snapshot::ContentKey;
use rb_sources::{SourceError, layout};
use tokio::sync::OnceCell;

pub(crate) use self::bucket::{client, unread};
pub(crate) use self::export::{Caches, check, check_names};

use self::load::LoadError;
use crate::error::EngineError;
use crate::fetch::{self, Listener, Told, ToldLate};
use crate::parts::Parts;
use crate::pinned::{Origin, PinnedImage};
use crate::value::{self, Product, Tree, Value};

/// What the caches of this process's jobs hold.
#[derive(Default)]
pub(crate) struct Shared {
    sources: Mutex<Vec<Arc<Source>>>,
    /// Which place had the result of a key.
    found: Mutex<BTreeMap<Digest, Arc<str>>>,
    /// Results that were found, and by which key, for records of the store's own once their layers are here. What else a cache
    /// says that finds them stays with the cache: it was not asked, so nobody can say what it stands for.
    taken: Mutex<Vec<(Digest, Vec<Product>)>>,
}

/// One place.
struct Source {
    place: CachePlace,
    name: Arc<str>,
    epoch: Epoch,
    events: EventSink,
    caches: OnceCell<Vec<Loaded>>,
    /// Blobs that were looked for there.
    there: Mutex<BTreeMap<Digest, bool>>,
    /// It did not answer: nothing more is asked of it.
    is_silent: AtomicBool,
}

/// What one manifest of a place holds.
struct Loaded {
    manifest: Digest,
    origin: Origin,
    /// Its layers, each with the digest of its uncompressed tar.
    layers: Vec<(Descriptor, Digest)>,
    table: CacheTable,
    /// Places of records, by their keys.
    by_key: BTreeMap<Digest, usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Adds places, behind those that are known; `events` hears what is wrong with them. Layers there are to be packed for `epoch`.
    pub(crate) fn add(&self, places: Vec<CachePlace>, is_single_id: bool, epoch: Epoch, events: &EventSink) {
        if is_single_id && !places.is_empty() {
            return tell_single_id(events);
        }
        let mut sources = lock(&self.sources);
        for place in places {
            if sources.iter().any(|known| known.place == place && known.epoch == epoch) {
                continue;
            }
            let name = place.to_string().into();
            let (caches, there, is_silent) = (OnceCell::new(), Mutex::default(), AtomicBool::new(false));
            let events = Arc::clone(events);
            sources.push(Arc::new(Source { place, name, epoch, events, caches, there, is_silent }));
        }
    }

    /// Returns all outputs that stand under a key somewhere.
    pub(crate) async fn find(&self, parts: &Arc<Parts>, key: &Digest) -> Option<Vec<Product>> {
        for source in self.sources() {
            for cache in source.caches(parts).await {
                let Some(record) = cache.record(key) else { continue };
                let Some(products) = source.products(parts, cache, record).await else { continue };
                lock(&self.found).insert(*key, Arc::clone(&source.name));
                lock(&self.taken).push((*key, products.clone()));
                return Some(products);
            }
        }
        None
    }

    /// Returns which place had the result of a key, for people.
    pub(crate) fn place_of(&self, key: &Digest) -> Option<Arc<str>> {
        lock(&self.found).get(key).cloned()
    }

    /// Returns blobs of folders that were found missing or damaged.
    fn damaged(&self) -> BTreeSet<Digest> {
        let sources = self.sources();
        let folders = sources.iter().filter(|source| matches!(source.place, CachePlace::Folder { .. }));
        let looked = folders.flat_map(|source| lock(&source.there).clone());
        looked.filter(|(_, is_there)| !is_there).map(|(digest, _)| digest).collect()
    }

    /// Returns the keys of records that one of `keys` finds in a cache and that lead to these very results: those of definitions and
    /// whole contents, and those of parts.
    fn keys_beside(&self, keys: &[Digest], values: &[Product]) -> (Vec<Digest>, Vec<Digest>) {
        let (mut wholes, mut parts) = (Vec::new(), Vec::new());
        for source in self.sources() {
            for cache in source.caches.get().into_iter().flatten() {
                for record in keys.iter().filter_map(|key| cache.record(key)) {
                    if cache.leads_to(record, values) {
                        wholes.extend(&record.keys);
                        parts.extend(&record.parts);
                    }
                }
            }
        }
        (wholes, parts)
    }

    /// Keeps in the store what was found and is here by now, so that the next build needs no cache for it. Blocking.
    pub(crate) fn settle(&self, parts: &Parts) {
        let taken = std::mem::take(&mut *lock(&self.taken));
        let mut open = Vec::new();
        for (key, products) in taken {
            match keep(parts, &key, &products) {
                Ok(true) => {}
                Ok(false) => open.push((key, products)),
                Err(error) => tracing::debug!(error = chain(&error), "a result of a cache is not kept"),
            }
        }
        lock(&self.taken).append(&mut open);
    }

    fn sources(&self) -> Vec<Arc<Source>> {
        lock(&self.sources).clone()
    }
}

/// Says that owners cannot be kept, so that nothing is taken from others or given to them.
pub(crate) fn tell_single_id(events: &EventSink) {
    let told = Told::begin(events, "cache");
    told.listener().say(
        "caches elsewhere are neither used nor written: this user has a single id here, and what steps make is not what others make",
    );
    told.end(&Ok(()));
}

/// Puts a result into the store's records, if its trees are here.
fn keep(parts: &Parts, key: &Digest, products: &[Product]) -> Result<bool, EngineError> {
    let mut here = Vec::with_capacity(products.len());
    for product in products {
        here.push(match product {
            Product::Image(image, _) => match fetch::unpacked(parts, image)? {
                Some(tree) => Product::Here(Value::Tree(tree)),
                None => return Ok(false),
            },
            other => other.clone(),
        });
    }
    if let Some((bytes, snapshots)) = value::encode(&here) {
        parts.store.put_record(key, &bytes, &snapshots)?;
    }
    Ok(true)
}

impl Source {
    /// Returns what the place holds; nothing where it is of no use, which is told.
    async fn caches(&self, parts: &Arc<Parts>) -> &[Loaded] {
        let load = async {
            let told = Told::begin(&self.events, &format!("cache | importing {}", self.name));
            let listener = told.listener();
            let loading = load::load(parts, &self.place, self.epoch, &listener);
            let loaded = telling(&listener, &self.name, Box::pin(loading)).await;
            let caches = loaded.unwrap_or_else(|error| {
                let end = if matches!(error, LoadError::Nothing) { "" } else { "; it is not used" };
                listener.say(&format!("{}: {}{end}", self.name, chain(&error)));
                Vec::new()
            });
            told.end(&Ok(()));
            caches
        };
        self.caches.get_or_init(|| load).await
    }

    /// Makes values of a record; none where a layer is missing.
    async fn products(
        &self,
        parts: &Arc<Parts>,
        cache: &Loaded,
        record: &CacheRecord,
    ) -> Option<Vec<Product>> {
        let mut products = Vec::with_capacity(record.outputs.len());
        for output in &record.outputs {
            let Some(tree) = output else {
                products.push(Product::Here(Value::Tree(Tree::scratch())));
                continue;
            };
            let image = Arc::new(cache.image(*tree)?);
            let (shared, pinned) = (Arc::clone(parts), Arc::clone(&image));
            let looked = crate::blocking(move || {
                Ok(match fetch::unpacked(&shared, &pinned)? {
                    Some(tree) => (Some(tree), BTreeMap::new()),
                    // All of them, whatever is unpacked: an image is made of layers as they are.
                    None => (None, fetch::without_blobs(&shared, &pinned)?),
                })
            });
            let (tree, lacking) = match looked.await {
                Ok(looked) => looked,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a result of a cache is not used");
                    return None;
                }
            };
            products.push(match tree {
                Some(tree) => Product::Here(Value::Tree(tree)),
                None if self.has(parts, cache, lacking).await => {
                    let content = image.content(parts);
                    Product::Image(image, content)
                }
                None => return None,
            });
        }
        Some(products)
    }

    /// Says whether blobs are there. That one is missing is told.
    async fn has(&self, parts: &Parts, cache: &Loaded, blobs: BTreeMap<Digest, Descriptor>) -> bool {
        for (digest, descriptor) in blobs {
            let known = lock(&self.there).get(&digest).copied();
            let is_there = match known {
                Some(known) => known,
                None if self.is_silent.load(Ordering::Relaxed) => false,
                None => {
                    let looked = look_for(parts, &cache.origin, &digest, &descriptor).await;
                    let is_there = matches!(looked, Ok(true));
                    if looked.is_err() && !matches!(cache.origin, Origin::Layout(_)) {
                        self.is_silent.store(true, Ordering::Relaxed);
                    }
                    if !is_there {
                        let why = match &looked {
                            Ok(_) => format!("layer {} is not there any more", digest.short()),
                            Err(error) => chain(error),
                        };
                        let told = ToldLate::new(&self.events, format!("cache | importing {}", self.name));
                        told.listener().say(&format!("{}: {why}; what needs it is made again", self.name));
                        told.end(true);
                    }
                    lock(&self.there).insert(digest, is_there);
                    is_there
                }
            };
            if !is_there {
                return false;
            }
        }
        true
    }
}

/// Waits for what is asked of a place, and tells from time to time that it does.
async fn telling<T>(listener: &Listener, name: &str, mut asked: impl Future<Output = T> + Unpin) -> T {
    let began = Instant::now();
    loop {
        match tokio::time::timeout(TELL_EVERY, &mut asked).await {
            Ok(answer) => return answer,
            Err(_) => listener.say(&format!(
                "{name}: has not answered whole for {} s; it is waited for a while, and the build goes on without it then",
                began.elapsed().as_secs()
            )),
        }
    }
}

/// How often it is told that a cache is waited for.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Looks whether a blob is where it is said to be. One in a folder is read, as it costs no more than what it is read for; what a registry
/// has is proved when it comes.
async fn look_for(
    parts: &Parts,
    origin: &Origin,
    digest: &Digest,
    descriptor: &Descriptor,
) -> Result<bool, EngineError> {
    match origin {
        Origin::Registry(repository) => {
            Ok(parts.registry.for_hints().has_blob(repository, descriptor).await?)
        }
        Origin::Layout(folder) => {
            let (folder, descriptor) = (folder.clone(), descriptor.clone());
            let proof = move || match layout::prove_blob(&folder, &descriptor) {
                Err(SourceError::MissingBlob { .. }) => Ok(false),
                proved => Ok(proved.map(|()| true)?),
            };
            let joined = tokio::task::spawn_blocking(proof).await;
            joined.unwrap_or_else(|error| Err(EngineError::Worker { reason: error.to_string() }))
        }
        Origin::Bucket(bucket) => Ok(bucket::reader(parts, bucket)?.has_blob(digest).await?),
        Origin::Store => Ok(parts.store.has_blob(digest)?),
    }
}

impl Loaded {
    fn new(manifest: Digest, origin: Origin, layers: Vec<(Descriptor, Digest)>, table: CacheTable) -> Self {
        let mut by_key = BTreeMap::new();
        for (place, record) in table.records.iter().enumerate() {
            for key in record.keys.iter().chain(&record.parts) {
                by_key.entry(*key).or_insert(place);
            }
        }
        Self { manifest, origin, layers, table, by_key }
    }

    fn record(&self, key: &Digest) -> Option<&CacheRecord> {
        self.table.records.get(*self.by_key.get(key)?)
    }

    /// Says whether a record's outputs are these, by their content.
    fn leads_to(&self, record: &CacheRecord, values: &[Product]) -> bool {
        let content = |output: &Option<usize>| match output {
            Some(tree) => self.table.trees.get(*tree).map(|tree| tree.content),
            None => Some(Tree::scratch().key()),
        };
        record.outputs.len() == values.len()
            && record.outputs.iter().zip(values).all(|(output, value)| content(output) == Some(value.key()))
    }

    /// Returns a tree as an image that nobody runs: its layers, and what each is found by.
    fn image(&self, tree: usize) -> Option<PinnedImage> {
        let trees = self.table.chain(tree).into_iter().map(|place| self.table.trees.get(place));
        let trees: Vec<_> = trees.collect::<Option<_>>()?;
        let layers = trees.iter().map(|tree| self.layers.get(tree.layer).cloned()).collect::<Option<_>>()?;
        let contents = trees.iter().map(|tree| ContentKey::from_bytes(*tree.content.as_bytes()));
        Some(PinnedImage {
            digest: self.manifest,
            config: ImageConfig::default(),
            layers,
            contents: Some(contents.collect()),
            origin: self.origin.clone(),
        })
    }
}
