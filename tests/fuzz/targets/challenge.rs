//! Any text as the `WWW-Authenticate` of a registry: a way in, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../runtime/registry/src/challenge.rs"]
mod challenge;

use challenge::{Challenge, parse_challenges};

fuzz_target!(|text: &str| {
    let found = parse_challenges(text.lines());
    assert_eq!(found, parse_challenges(text.lines()));
    if let Some(Challenge::Bearer { realm, service, scope }) = found {
        assert!(realm.has_host() || !matches!(realm.scheme(), "http" | "https"), "{realm}");
        for value in [service, scope].into_iter().flatten() {
            assert!(!value.is_empty());
        }
    }
});
