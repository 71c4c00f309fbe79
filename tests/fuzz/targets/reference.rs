//! Any text as the name of an image: what is read is written the same, and read again as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rb_oci::{Digest, Platform, Reference, Repository};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let whole = reference.to_string();
        assert_eq!(whole.parse::<Reference>().as_ref(), Ok(&reference), "{whole}");
        let familiar = reference.familiar();
        assert_eq!(familiar.parse::<Reference>().as_ref(), Ok(&reference), "{familiar}");
        // Both go into the URL of a request.
        let repository = reference.repository();
        for part in [repository.host(), repository.path()] {
            assert!(!part.is_empty() && !part.contains(['\\', '?', '#', '@', ' ', '\r', '\n']), "{part:?}");
            assert!(part.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{part:?}");
        }
        drop((reference.identifier(), reference.pinned(Digest::of(text))));
    }
    if let Ok(repository) = text.parse::<Repository>() {
        assert_eq!(repository.to_string().parse::<Repository>().as_ref(), Ok(&repository));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse::<Platform>(), Ok(platform));
    }
});
