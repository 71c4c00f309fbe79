//! Tests of our crates against what the systems we must match really make. Everything lies in `tests/`; the data in
//! `golden/` was made by those systems and is never edited.
