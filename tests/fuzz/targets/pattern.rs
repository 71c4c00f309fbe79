//! Any two lines as a pattern of slices and a path: an error or an answer, soon, and a file in exactly one layer.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use rb_buildpacks::{Slice, slice};
use rb_path::{Dialect, Glob, clean};

fuzz_target!(|text: &str| {
    let (pattern, path) = text.split_once('\n').unwrap_or((text, ""));
    let read = Glob::new(&clean(pattern), Dialect::Go);
    let fits = read.as_ref().is_ok_and(|read| read.matches(path.as_bytes()));
    // Escaped letter by letter, a path that is clean fits itself.
    let is_clean = !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let escaped: String = path
        .chars()
        .map(|letter| if letter == '/' { "/".to_owned() } else { format!("\\{letter}") })
        .collect();
    if is_clean && !path.contains('\\') {
        assert!(Glob::new(&escaped, Dialect::Go).is_ok_and(|read| read.matches(path.as_bytes())), "{path}");
    }
    if is_clean && !path.contains('/') {
        let files = BTreeSet::from([path.to_owned(), "other".to_owned()]);
        let slices = [Slice { paths: vec![pattern.to_owned()] }];
        match slice(&BTreeSet::new(), &files, &slices) {
            Err(_) => assert!(read.is_err()),
            Ok(layers) => {
                assert_eq!(layers[0].iter().any(|one| one == path), fits);
                for file in &files {
                    assert_eq!(layers.iter().filter(|layer| layer.contains(file)).count(), 1);
                }
            }
        }
    }
});
