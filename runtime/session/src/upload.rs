//! A file that a client sends rather than lends, such as a tar on its standard input.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that can be read once. Clones are the same upload.
#[derive(Clone)]
pub struct Upload(Arc<Mutex<Option<Box<dyn Read + Send>>>>);

impl Upload {
    /// Sends what `reader` reads to its end.
    pub fn new(reader: impl Read + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(reader)))))
    }

    /// Takes the bytes; nothing if somebody has.
    pub fn take(&self) -> Option<Box<dyn Read + Send>> {
        // Taking is a single step, so a panicked holder leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Upload")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_once() {
        let upload = Upload::new(b"bytes".as_slice());
        let mut read = String::new();
        upload.clone().take().expect("nobody has it").read_to_string(&mut read).expect("reads");
        assert_eq!(read, "bytes");
        assert!(upload.take().is_none());
    }
}
