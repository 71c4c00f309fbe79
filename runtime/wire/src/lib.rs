//! BuildKit's wire: its messages and services, and how trees of files travel on it.
//!
//! In: the `.proto` files of this crate, which hold the facts of the wire (names, numbers, types) and no more of it than is used.
//! Out: messages, clients and servers as [`control`], [`gateway`] and their like; [`diffcopy`], the two ends of the exchange by
//! which a folder is sent, and of it only what changed.
//! **Invariants:** a definition is a field of bytes: what is in it is made, kept and digested by `rb-llb` and never encoded
//! again here. Maps are sorted. What comes from the other side is bounded and checked before it is used.

pub mod diffcopy;
pub mod frame;

/// What was generated, in the order of its packages.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::nursery, rustdoc::all)]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, let_underscore_drop)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/all.rs"));

    pub mod filesend {
        include!(concat!(env!("OUT_DIR"), "/moby.filesync.v1.FileSend.rs"));
    }
}

pub use generated::containerd::services::content::v1 as content;
pub use generated::filesend;
pub use generated::fsutil::types as files;
pub use generated::grpc::health::v1 as health;
pub use generated::moby::buildkit::secrets::v1 as secrets;
pub use generated::moby::buildkit::v1 as control;
pub use generated::moby::buildkit::v1::frontend as gateway;
pub use generated::moby::filesync::v1 as filesync;
pub use generated::moby::sshforward::v1 as ssh;
pub use generated::moby::upload::v1 as upload;

/// Longest message that is taken: what BuildKit takes, too.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
