//! The wire: protobuf messages, their bounds, and the one place where bytes and typed values meet.
//!
//! **Invariants:** bytes made here are those of Go's deterministic encoding; no number that comes is used before it
//! was checked for sign and meaning; what a message may hold is counted before it is decoded.
//! Source: `proto/ops.proto`; BuildKit's `client/llb` for the order of Go's bytes.

mod bounds;
mod decode;
mod encode;

pub(crate) use bounds::{MAX_DEFINITION_BYTES, MAX_DEPTH};
pub(crate) use decode::{DecodedOp, decode_definition, decode_op};
pub(crate) use encode::{encode_definition, encode_op};

/// What `proto/ops.proto` describes.
#[allow(unreachable_pub, missing_docs, clippy::all, clippy::restriction)]
pub(crate) mod pb {
    include!(concat!(env!("OUT_DIR"), "/pb.rs"));
}

/// How the wire says that an index points to nothing.
pub(crate) const NONE: i64 = -1;
