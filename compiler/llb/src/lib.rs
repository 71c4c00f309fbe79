//! LLB: the graph of operations that every frontend lowers to and every engine solves.
//!
//! In: calls of [`State`]'s builder, or bytes of a definition from anywhere. Out: [`Definition`]s as BuildKit
//! marshals them, verified [`Graph`]s of typed vertices, a stable text [`dump`] and JSON. No files, no time.
//!
//! **A definition both ways:** build [`State`]s (each node is encoded and digested as it is made) →
//! [`State::marshal`] → [`Definition::to_bytes`]; [`Definition::from_bytes`] (bounded) → [`Definition::graph`]
//! (decoded, digests recomputed, inputs first, every index in range) → [`Graph`].
//!
//! **What a vertex digest covers.** It is the sha256 of the op's bytes:
//!
//! | inside | outside, in [`VertexMeta`] or in sources |
//! | --- | --- |
//! | the op with all its fields; each input's digest and output number | display names and descriptions |
//! | platform of exec, build and image sources | `ignore_cache`, `export_cache`, progress groups |
//! | worker constraints | CPU and memory limits (`linux_resources`) |
//! | ulimits, cgroup parent, proxy variables | capabilities, source locations |
//!
//! **Invariant:** received ops are digested and kept as the bytes that came; only ops built here are encoded here.
//! Source: BuildKit's `solver/pb` (wire), `client/llb` (order and defaults of the builder).

mod attrs;
mod caps;
mod definition;
mod display;
mod dump;
mod error;
mod graph;
mod json;
mod meta;
mod op;
mod sensitive;
mod state;
mod validate;
mod wire;

pub mod extension;

pub use attrs::{attr, json_list};
pub use definition::Definition;
pub use dump::dump;
pub use error::LlbError;
pub use graph::{Graph, Vertex};
pub use json::to_json;
pub use meta::{
    LinuxResources, Location, Position, ProgressGroup, Range, SourceInfo, SourceMapping, VertexMeta,
};
pub use op::{
    BuildOp, CacheSharing, CdiDevice, ContentCache, CopyAction, CopyMode, DiffOp, Edge, ExecMeta, ExecOp,
    FileAction, FileActionKind, FileOp, HostAddress, MergeOp, MkdirAction, MkfileAction, Mount, MountKind,
    NetworkMode, Op, OpPlatform, Owner, ProxyEnv, RmAction, SecretEnv, SecretMount, SecurityMode, SourceOp,
    SshMount, SymlinkAction, Ulimit, UserSpec, WorkerConstraints,
};
pub use sensitive::{STRUCK, Struck, is_secret, struck_digits};
pub use state::{ExecBuilder, ExecState, FileBuilder, MountOptions, NodeMeta, State, absolute_path};
