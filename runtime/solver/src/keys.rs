//! Cache keys: from what, and in which bytes, they are made. The table in the crate's header says why.
//!
//! In: digests. Out: digests. Each key is the sha256 of a fixed encoding: a kind, [`KEY_SCHEMA`], then fields of
//! fixed length, lists and options preceded by their length. No two different inputs have one encoding.

use rb_oci::{Digest, Hasher};

/// Number of the key schema. To be raised whenever a key would find a result that it should not.
pub const KEY_SCHEMA: u32 = 1;

/// One input, as the fast key of its user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastInput {
    /// Fast key of the input's vertex.
    pub key: Digest,
    /// Which of its outputs.
    pub index: u32,
    /// Which part of that.
    pub selector: Option<Digest>,
}

/// One input, as the content key or the slow key of its user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentInput {
    /// Known by all of its content.
    Whole {
        /// Its content key.
        content: Digest,
        /// Which part of it is meant.
        selector: Option<Digest>,
    },
    /// Known by the content of the part that is read.
    Part {
        /// Digest of that part.
        content: Digest,
    },
}

/// Returns the fast key of a vertex whose cache map has this digest.
pub fn fast_key(definition: &Digest, inputs: &[FastInput]) -> Digest {
    let mut key = Encoder::new(b"rb fast key\n", definition, inputs.len());
    for input in inputs {
        key.digest(&input.key);
        key.bytes(&input.index.to_le_bytes());
        key.option(input.selector.as_ref());
    }
    key.finish()
}

/// Returns the content key of a vertex, or its slow key, if any of `inputs` is a part.
pub fn content_key(definition: &Digest, inputs: &[ContentInput]) -> Digest {
    let mut key = Encoder::new(b"rb data key\n", definition, inputs.len());
    for input in inputs {
        match input {
            ContentInput::Whole { content, selector } => {
                key.bytes(&[0]);
                key.digest(content);
                key.option(selector.as_ref());
            }
            ContentInput::Part { content } => {
                key.bytes(&[1]);
                key.digest(content);
            }
        }
    }
    key.finish()
}

/// Returns the digest of one input for [`InputTrace`](crate::InputTrace): index and selector included.
pub(crate) fn input_key(input: &FastInput) -> Digest {
    let mut key = Encoder::new(b"rb edge key\n", &input.key, 1);
    key.bytes(&input.index.to_le_bytes());
    key.option(input.selector.as_ref());
    key.finish()
}

struct Encoder(Hasher);

impl Encoder {
    fn new(kind: &[u8; 12], definition: &Digest, inputs: usize) -> Self {
        let mut encoder = Self(Hasher::default());
        encoder.bytes(kind);
        encoder.bytes(&KEY_SCHEMA.to_le_bytes());
        encoder.digest(definition);
        encoder.bytes(&(inputs as u64).to_le_bytes());
        encoder
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn digest(&mut self, digest: &Digest) {
        self.bytes(digest.as_bytes());
    }

    fn option(&mut self, digest: Option<&Digest>) {
        match digest {
            Some(digest) => {
                self.bytes(&[1]);
                self.digest(digest);
            }
            None => self.bytes(&[0]),
        }
    }

    fn finish(self) -> Digest {
        self.0.finish().0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_encoding_does_not_change_by_accident() {
        // Whoever changes these raises KEY_SCHEMA: stored results are found by them.
        let input = FastInput { key: Digest::of("k"), index: 1, selector: Some(Digest::of("s")) };
        let fast = fast_key(&Digest::of("op"), &[input]);
        let whole = ContentInput::Whole { content: Digest::of("c"), selector: None };
        let part = ContentInput::Part { content: Digest::of("p") };
        let content = content_key(&Digest::of("op"), &[whole, part]);
        let expected: Vec<u8> = [
            b"rb fast key\n\x01\0\0\0".as_slice(),
            Digest::of("op").as_bytes(),
            &1_u64.to_le_bytes(),
            Digest::of("k").as_bytes(),
            &1_u32.to_le_bytes(),
            &[1],
            Digest::of("s").as_bytes(),
        ]
        .concat();
        assert_eq!(fast, Digest::of(expected));
        let expected: Vec<u8> = [
            b"rb data key\n\x01\0\0\0".as_slice(),
            Digest::of("op").as_bytes(),
            &2_u64.to_le_bytes(),
            &[0],
            Digest::of("c").as_bytes(),
            &[0, 1],
            Digest::of("p").as_bytes(),
        ]
        .concat();
        assert_eq!(content, Digest::of(expected));
    }

    #[test]
    fn everything_in_the_table_tells_keys_apart() {
        let (op, key, selector) = (Digest::of("op"), Digest::of("key"), Some(Digest::of("selector")));
        let input = FastInput { key, index: 0, selector: None };
        let whole = |selector| ContentInput::Whole { content: key, selector };
        let keys = [
            fast_key(&op, &[]),
            fast_key(&Digest::of("other"), &[]),
            fast_key(&op, &[input]),
            fast_key(&op, &[FastInput { key: op, ..input }]),
            fast_key(&op, &[FastInput { index: 1, ..input }]),
            fast_key(&op, &[FastInput { selector, ..input }]),
            fast_key(&op, &[input, input]),
            content_key(&op, &[]),
            content_key(&op, &[whole(None)]),
            content_key(&op, &[whole(selector)]),
            content_key(&op, &[ContentInput::Part { content: key }]),
            content_key(&op, &[whole(None), ContentInput::Part { content: key }]),
            content_key(&op, &[ContentInput::Part { content: key }, whole(None)]),
        ];
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    }
}
