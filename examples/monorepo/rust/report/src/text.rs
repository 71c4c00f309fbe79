//! The C library `text`, as Rust sees it.

use std::ffi::{c_char, c_int};

extern "C" {
    fn text_words(text: *const c_char, length: usize) -> usize;
    fn text_fits_title(text: *const c_char, length: usize) -> c_int;
}

pub fn words(text: &str) -> usize {
    // SAFETY: the function reads `length` bytes from `text`, and keeps neither.
    unsafe { text_words(text.as_ptr().cast(), text.len()) }
}

pub fn fits_title(text: &str) -> bool {
    // SAFETY: as above.
    unsafe { text_fits_title(text.as_ptr().cast(), text.len()) != 0 }
}
