//! Snapshots: directories layered on one another, read merged and written without mounting.
//!
//! In: a store, layers, file operations. Out: directories ready to be mounted, diffs, and keys of content. A snapshot is
//! prepared on its parent ([`Snapshots`], [`Active`]), written by a mounted step or by an [`Editor`], compared with its
//! parent ([`diff()`]) and committed under the key of its content, so that an equal one is kept once. A [`View`] reads any
//! stack of layers. The layers of several trees are laid over one another ([`Snapshots::merge`]), and what one tree has over
//! another becomes layers of its own ([`Snapshots::difference`]). What is unpacked from or packed into layers as tar files, and what is mounted where, is decided above.
//!
//! **Invariants:** a path never leads out of its tree; what the [`Editor`] writes is what overlayfs would have written;
//! equal [`ContentKey`]s mean equal trees, times aside, on every machine; a finished layer is served as long as it looks as
//! it did when it was finished.

mod apply;
mod beneath;
mod content;
mod continuing;
mod copy;
mod deletions;
mod diff;
mod directory;
mod editor;
mod effect;
mod error;
mod known;
mod laying;
mod linking;
mod listing;
mod manifest;
mod merging;
mod metadata;
mod mode;
mod overlay;
mod path;
pub mod patterns;
mod place;
mod plan;
mod reuse;
mod seal;
mod snapshots;
mod staged;
mod tally;
mod transfer;
mod upper;
pub mod users;
mod view;
mod walk;
mod whole;

pub use apply::{LayerEntry, LayerMetadata, LayerWriter};
pub use content::{ContentDigest, ContentKey};
pub use copy::{Copied, CopyOptions, Verify};
pub use diff::{Change, ChangeKind, ChangeMetadata, Diff, diff, layer_diff};
pub use editor::Editor;
pub use error::SnapshotError;
pub use listing::{Listing, compare_paths};
pub use manifest::Manifest;
pub use metadata::{ExtendedAttributes, FileType, Metadata};
pub use overlay::{Xattrs, make_whiteout, mark_opaque};
pub use rb_store::SnapshotId;
pub use reuse::Reuse;
pub use snapshots::{Active, DriverKind, Snapshots};
pub use tally::{Count, Counted, Tally};
pub use view::{Entry, Follow, Part, View};
pub use walk::Walk;
