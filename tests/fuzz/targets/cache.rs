//! Any bytes as the table of a stranger's cache: one that leads nowhere else than into its manifest, or a typed error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rb_oci::cache::CacheTable;
use rb_oci::index::LAYERS;

fuzz_target!(|bytes: &[u8]| {
    // The first byte says how many layers the manifest has.
    let Some((layers, json)) = bytes.split_first() else { return };
    let layers = usize::from(*layers);
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(json) else { return };
    let Ok(table) = CacheTable::read(&value, layers) else { return };
    for record in &table.records {
        for tree in record.outputs.iter().flatten() {
            let chain = table.chain(*tree);
            assert!((1..=LAYERS).contains(&chain.len()) && chain.last() == Some(tree));
            assert!(chain.iter().all(|place| table.trees[*place].layer < layers));
        }
    }
    let again = serde_json::to_value(&table).expect("plain data");
    assert_eq!(CacheTable::read(&again, layers), Ok(table));
});
