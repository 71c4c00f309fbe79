//! What several targets need: bytes as a row of messages, and something to wait with.

use std::sync::LazyLock;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("starts"));

/// Reads messages that follow each other behind their length, of two bytes; the last may be cut short.
pub fn messages(mut bytes: &[u8]) -> Vec<Bytes> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (message, rest) = rest.split_at(length);
        found.push(message.to_vec().into());
        bytes = rest;
    }
    found
}

/// Waits for something, on this thread.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}
