//! The state directory: everything of `rb` that outlives a process.
//!
//! In: bytes, keys, names. Out: blobs by digest, records by key, rows about snapshots, images and layers. What a
//! record means, what a snapshot holds and how a layer is packed is decided by the crates above.
//!
//! ```text
//! <root>/format              number of the format of all below
//! <root>/oci-layout          blobs/ is that of an OCI layout; names live in rb.db
//! <root>/blobs/sha256/<hex>  content-addressed, durable before anything names them
//! <root>/snapshots/<id>/fs   a layer's directory; `work` beside it while the snapshot is written
//! <root>/caches/            what steps keep between builds, in the engine's layout; never cleaned
//! <root>/tmp/<owner>.<n>     half-made or half-removed things of one process
//! <root>/partial/<hex>       the first bytes of a blob that is, or was, on its way here
//! <root>/locks/<owner>       held by `flock` while that process lives
//! <root>/leases              what processes need, as locks on places of this file
//! <root>/logs/<time>-<owner>/  what the steps of a build wrote, the newest builds' kept; the client's layout
//! <root>/builds/<time>-<owner>.json  a record of each build, the newest kept; what is in it is the client's
//! <root>/rb.db               SQLite, WAL: records, snapshots, images, layers, stat cache, tombstones, uses, pins
//! <root>/rb.db.aside         the last one that was found damaged
//! ```
//!
//! **Invariants:** several processes may use one directory at once. After `kill -9` or power loss at any instant the
//! next open finds the old or the new state: a blob's name is its verified digest, a record never names a snapshot that
//! is not there, what a dead process left half made is removed, what a live one holds is not touched, and a
//! snapshot that was not synced before the machine went down is not served after it. What somebody removed or changed by
//! hand is made anew or forgotten, not served; a damaged database is put aside and begun anew, and a file in its place that never was
//! one is named, with what to remove. A folder that cannot hold all this is refused when it is opened.

mod blobs;
mod builds;
mod cleaning;
mod clock;
mod damage;
mod database;
mod error;
mod failures;
mod folder;
mod images;
mod layers;
mod leases;
mod locks;
mod logs;
mod lost;
mod open;
mod origins;
mod partial;
mod place;
mod processes;
mod records;
mod remove;
mod reserve;
mod snapshots;
mod space;
mod stat_cache;
mod sync;
mod tombstones;
mod verify;

pub use blobs::{BlobReader, BlobWriter};
pub use builds::{BuildFile, BuildList, MOST_BUILDS, MOST_BYTES, build, build_list, builds, remove_build};
pub use cleaning::boot_id;
pub use clock::{Clock, FixedClock, SystemClock};
pub use error::StoreError;
pub use failures::{FAILURE_KEPT, FailureRow, MOST_FAILURES};
pub use images::{ImageRow, descriptor_digest, image_names};
pub use layers::LayerRow;
pub use logs::{BuildLogs, MOST_LOG_BYTES, logs};
pub use lost::{Seal, Sealer, shows_damage};
pub use open::{FORMAT, Store};
pub use partial::PartialBlob;
pub use place::Unsuitable;
pub use processes::{Process, living};
pub use records::Record;
pub use remove::remove_tree;
pub use snapshots::{Ended, SnapshotId, SnapshotRow, SnapshotState};
pub use space::admit::{SpaceNote, tidy_apart};
pub use space::collect::{Prune, Removed};
pub use space::holders::Holder;
pub use space::inventory::{Entry, Inventory};
pub use space::items::{Item, Kind};
pub use space::policy::{Amount, Bounds, Disk, Policy};
pub use stat_cache::{FileStamp, StatCache, StatChange};
pub use sync::sync_apart;
pub use tombstones::{GoneReason, Tombstone};
pub use verify::{BadSnapshot, Progress, Truth, Verified};

pub(crate) type Result<T, E = StoreError> = std::result::Result<T, E>;
