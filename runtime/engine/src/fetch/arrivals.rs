//! Blobs on their way into the store.
//!
//! In: descriptors, and where the blobs are. Out: a task for each that is missing, and an [`Arrival`] to watch. A blob of a
//! registry can be read while it comes ([`Growth`]): what is read then is proven when the whole blob is. What has come of
//! one when its process ends is there for the next.
//! Whoever pulls a blob holds a claim meanwhile, so that others wait for it and find it done.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rb_oci::{Descriptor, Digest};
use rb_registry::{BlobSink, RegistryError};
use rb_solver::OpError;
use rb_sources::{SourceError, unpack};
use rb_store::{PartialBlob, Store};
use tokio::sync::watch;

use super::layers::Crew;
use super::{Listener, Progress, Waits, claim, digest_of};
use crate::error::EngineError;
use crate::parts::Parts;
use crate::pinned::Origin;

/// How far a blob is.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    /// Nothing of it is here.
    Awaited,
    /// Its first bytes are.
    Growing(Arc<Growth>),
    /// All of it is, and proven.
    There,
}

/// Where each blob is watched.
pub(super) type Arrivals = BTreeMap<Digest, watch::Receiver<Arrival>>;

/// Starts to fetch what is missing, a task for each, and returns where it is watched. What is there is not in it.
pub(super) async fn start(
    parts: &Arc<Parts>,
    origin: &Origin,
    wanted: &[&Descriptor],
    listener: &Listener,
    crew: &mut Crew,
) -> Result<Arrivals, OpError> {
    let missing = {
        let (parts, wanted) = (Arc::clone(parts), wanted.iter().copied().cloned().collect::<Vec<_>>());
        let origin = origin.clone();
        crate::blocking(move || missing(&parts.store, wanted).map_err(|error| blamed(error, &origin))).await?
    };
    let total = missing.values().map(Descriptor::size).sum();
    let told: Arc<dyn rb_registry::Watch> = Arc::new(Progress::new(listener.clone(), total));
    let mut arrivals = Arrivals::new();
    for (digest, descriptor) in missing {
        let (parts, origin, told, waits) =
            (Arc::clone(parts), origin.clone(), Arc::clone(&told), Arc::clone(&crew.waits));
        let (sender, arrival) = watch::channel(Arrival::Awaited);
        arrivals.insert(digest, arrival);
        crew.tasks.spawn(async move {
            let sender = Arc::new(sender);
            bring(&parts, &origin, &descriptor, (told, &waits), &sender).await?;
            sender.send_replace(Arrival::There);
            Ok(())
        });
    }
    Ok(arrivals)
}

/// Returns what is not in the store, each once.
pub(super) fn missing(
    store: &Store,
    wanted: Vec<Descriptor>,
) -> Result<BTreeMap<Digest, Descriptor>, EngineError> {
    let mut missing = BTreeMap::new();
    for descriptor in wanted {
        if !unpack::has_blob(store, &descriptor)? {
            missing.insert(rb_sources::layout::digest_of(&descriptor)?, descriptor);
        }
    }
    Ok(missing)
}

/// Says of a descriptor that is wrong of a blob which is here, that the registry sent it.
fn blamed(error: EngineError, origin: &Origin) -> EngineError {
    match (error, origin) {
        (EngineError::Source(SourceError::Blob { digest, reason }), Origin::Registry(repository)) => {
            let (host, what) = (repository.host().to_owned(), format!("manifest that names blob {digest}"));
            RegistryError::Content { host, what, reason }.into()
        }
        (EngineError::Source(SourceError::Blob { digest, reason }), Origin::Bucket(bucket)) => {
            let (host, what) = (bucket.to_string(), format!("manifest that names blob {digest}"));
            RegistryError::Content { host, what, reason }.into()
        }
        (error, _) => error,
    }
}

/// Brings one blob, or waits for who does.
async fn bring(
    parts: &Arc<Parts>,
    origin: &Origin,
    descriptor: &Descriptor,
    (told, waits): (Arc<dyn rb_registry::Watch>, &Waits),
    arrival: &Arc<watch::Sender<Arrival>>,
) -> Result<(), OpError> {
    let digest = digest_of(descriptor)?;
    let claimed = claim(parts, Digest::of(format!("fetching {digest}")), waits).await?;
    let store = parts.store.clone();
    let folder = match origin {
        Origin::Layout(folder) => Some(folder.clone()),
        Origin::Store => Some(store.root().to_owned()),
        Origin::Registry(_) | Origin::Bucket(_) => None,
    };
    let known = {
        let descriptor = descriptor.clone();
        crate::blocking(move || match folder {
            Some(folder) => {
                unpack::keep_blob(&store, &folder, &descriptor)?;
                Ok(true)
            }
            None => Ok(unpack::has_blob(&store, &descriptor)?),
        })
        .await?
    };
    match origin {
        Origin::Registry(_) | Origin::Bucket(_) if known => {}
        Origin::Registry(repository) => {
            let registry = parts.registry.watched(told);
            let blob = async |sink| Ok(registry.blob(repository, descriptor, sink).await?);
            let digest = pull(parts, descriptor, blob, arrival).await?;
            let (store, from) = (parts.store.clone(), repository.to_string());
            // Where it is pushed to may take it over from there.
            crate::blocking(move || Ok(store.put_origin(&digest, &from)?)).await?;
        }
        Origin::Bucket(bucket) => {
            let client = crate::shared::client(parts, bucket).map_err(crate::op_error)?.watched(told);
            let blob = async |sink| {
                client.blob(descriptor, sink).await.map_err(|source| crate::shared::unread(bucket, source))
            };
            pull(parts, descriptor, blob, arrival).await?;
        }
        Origin::Layout(_) | Origin::Store => {}
    }
    drop(claimed);
    Ok(())
}

/// Pulls one blob into the store: `blob` reads it, and proves it.
async fn pull(
    parts: &Parts,
    descriptor: &Descriptor,
    blob: impl AsyncFnOnce(StoreSink) -> Result<StoreSink, EngineError>,
    arrival: &Arc<watch::Sender<Arrival>>,
) -> Result<Digest, OpError> {
    let digest = digest_of(descriptor)?;
    let sink = {
        let (store, size, arrival) = (parts.store.clone(), descriptor.size(), Arc::clone(arrival));
        crate::blocking(move || StoreSink::new(&store, &digest, size, arrival)).await?
    };
    let sink = blob(sink).await.map_err(crate::op_error)?;
    crate::blocking(move || sink.end(&digest)).await?;
    Ok(digest)
}

/// A blob of the store as the client of registries writes it.
struct StoreSink {
    blob: PartialBlob,
    growth: Ended,
    arrival: Arc<watch::Sender<Arrival>>,
}

impl StoreSink {
    fn new(
        store: &Store,
        digest: &Digest,
        size: u64,
        arrival: Arc<watch::Sender<Arrival>>,
    ) -> Result<Self, EngineError> {
        let blob = store.partial_blob(digest, size)?;
        let growth = Ended(Arc::new(Growth::new(blob.reader()?)));
        Ok(Self { blob, growth, arrival })
    }

    /// Says that there is more to be read.
    fn tell(&self) {
        self.growth.0.reaches(self.blob.size_bytes());
        self.arrival.send_if_modified(|arrival| {
            let is_first = matches!(arrival, Arrival::Awaited);
            if is_first {
                *arrival = Arrival::Growing(Arc::clone(&self.growth.0));
            }
            is_first
        });
    }

    /// Keeps the blob, of which the registry's client has proven that it has this digest.
    fn end(self, actual: &Digest) -> Result<(), EngineError> {
        self.growth.0.end(Ending::Whole);
        Ok(self.blob.commit(actual)?)
    }
}

impl BlobSink for StoreSink {
    fn kept(&mut self, tell: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        self.blob.read(tell)?;
        if self.blob.size_bytes() > 0 {
            self.tell();
        }
        Ok(self.blob.size_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.blob.write_all(bytes)?;
        self.tell();
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        // Who reads along has read what it should not.
        self.growth.0.end(Ending::Broken);
        self.blob.restart()
    }
}

/// A file that grows, for who reads it meanwhile.
#[derive(Debug)]
pub(super) struct Growth {
    file: File,
    state: Mutex<(u64, Option<Ending>)>,
    changed: Condvar,
}

/// Why a file does not grow any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// That is all.
    Whole,
    /// Nothing more comes, or what came was wrong.
    Broken,
}

impl Growth {
    fn new(file: File) -> Self {
        Self { file, state: Mutex::default(), changed: Condvar::new() }
    }

    fn reaches(&self, size_bytes: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = size_bytes;
        self.changed.notify_all();
    }

    /// Ends it, if it has not ended.
    fn end(&self, how: Ending) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.get_or_insert(how);
        self.changed.notify_all();
    }

    /// Reads it from its beginning, as far as it is and as it grows.
    pub(super) fn reader(self: &Arc<Self>) -> GrowthReader {
        GrowthReader { growth: Arc::clone(self), at: 0 }
    }
}

/// Ends a growth when it is dropped: nobody waits for what does not come, of a pull that failed or was given up.
struct Ended(Arc<Growth>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end(Ending::Broken);
    }
}

/// Reads a file as it grows. Waits where there is no more; ends with an error where no more comes.
pub(super) struct GrowthReader {
    growth: Arc<Growth>,
    at: u64,
}

impl Read for GrowthReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Growth { file, state, changed } = &*self.growth;
        let mut now = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *now {
                (_, Some(Ending::Broken)) => return Err(io::Error::other("the blob did not come whole")),
                (size_bytes, _) if self.at < size_bytes => {
                    drop(now);
                    let most = usize::try_from(size_bytes - self.at).unwrap_or(usize::MAX).min(buffer.len());
                    let count = file.read_at(&mut buffer[..most], self.at)?;
                    self.at += count as u64;
                    return Ok(count);
                }
                (_, Some(Ending::Whole)) => return Ok(0),
                (_, None) => now = changed.wait(now).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth() -> Arc<Growth> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"0123456789").expect("writes");
        Arc::new(Growth::new(file))
    }

    #[test]
    fn a_reader_sees_what_has_come_and_waits_for_the_rest() {
        let growth = growth();
        growth.reaches(4);
        let mut reader = growth.reader();
        let mut buffer = [0; 100];
        assert_eq!(reader.read(&mut buffer).expect("reads"), 4);
        std::thread::scope(|threads| {
            let rest = threads.spawn(|| {
                let mut rest = String::new();
                reader.read_to_string(&mut rest).map(|_| rest)
            });
            growth.reaches(8);
            growth.reaches(10);
            growth.end(Ending::Whole);
            // What comes after the end is none.
            growth.end(Ending::Broken);
            assert_eq!(rest.join().expect("ends").expect("reads"), "456789");
        });
    }

    #[test]
    fn a_reader_of_what_breaks_off_fails() {
        let growth = growth();
        let mut reader = growth.reader();
        std::thread::scope(|threads| {
            let read = threads.spawn(|| reader.read(&mut [0; 100]));
            growth.end(Ending::Broken);
            read.join().expect("ends").expect_err("nothing comes");
        });
        growth.reaches(10);
        growth.reader().read(&mut [0; 100]).expect_err("it is not to be believed");
    }
}
