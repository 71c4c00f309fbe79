//! No progress at all.

use std::time::Instant;

use rb_api::Event;

use super::{Renderer, Size};

/// The renderer.
pub(super) struct Quiet;

impl Renderer for Quiet {
    fn event(&mut self, _event: &Event, _now: Instant, _out: &mut Vec<u8>) {}

    fn finish(&mut self, _now: Instant, _size: Size, _out: &mut Vec<u8>) {}
}
