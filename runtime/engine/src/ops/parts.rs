//! What the key of an exec or file op is made of: that parts and digests ([`super::exec::digest`], `Vertex::op_digest`) go together.

pub(super) use rb_api::op_parts::{of_digest, of_exec, of_files, patterns};

#[cfg(test)]
mod tests;
