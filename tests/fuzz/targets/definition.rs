//! Any bytes as a definition of LLB: a graph that can be told and written again, or a typed error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rb_llb::{Definition, Op, dump, to_json};

fuzz_target!(|bytes: &[u8]| {
    let Ok(definition) = Definition::from_bytes(bytes) else { return };
    let Ok(graph) = definition.graph() else { return };
    assert_eq!(Definition::from_bytes(&definition.to_bytes()).as_ref(), Ok(&definition));
    std::hint::black_box((dump(&graph), to_json(&graph)));
    for vertex in graph.vertices() {
        assert!(vertex.inputs.iter().all(|edge| edge.index < graph.vertex(&edge.vertex).op.output_count()));
        if let Op::Build(build) = &vertex.op {
            // An error is an answer, too.
            drop(build.definition());
        }
    }
});
