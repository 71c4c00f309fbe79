//! Bytes from anywhere: an answer or a typed error, never a panic.

use bytes::Bytes;
use proptest::prelude::*;
use rb_llb::{Definition, LlbError, dump, to_json};

use super::{golden, named};

/// Does all that can be done with a definition. What is accepted must survive its own bytes.
fn take(bytes: &[u8]) -> Result<(), LlbError> {
    let definition = Definition::from_bytes(bytes)?;
    let graph = definition.graph()?;
    assert_eq!(Definition::from_bytes(&definition.to_bytes()).as_ref(), Ok(&definition));
    let _text = dump(&graph);
    let _json = to_json(&graph);
    for vertex in graph.vertices() {
        let (_, _, _) = (vertex.op_digest(), vertex.encode(), graph.name(vertex));
        for edge in &vertex.inputs {
            assert!(edge.index < graph.vertex(&edge.vertex).op.output_count());
        }
        if let rb_llb::Op::Build(build) = &vertex.op {
            let _inner = build.definition();
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _answer = take(&bytes);
        let alone = Definition { ops: vec![Bytes::from(bytes)], ..Definition::default() };
        let _answer = alone.graph();
    }

    #[test]
    fn mutated_definitions_do_not_panic(
        which in 0_usize..37,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let mut bytes = golden()[which].bytes.clone();
        for (at, value, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => bytes.insert(at, value),
                _ => drop(bytes.remove(at)),
            }
        }
        let _answer = take(&bytes);
    }

    /// Mutating ops one by one, with a head that names the mutated op, gets past the check that inputs exist.
    #[test]
    fn mutated_ops_do_not_panic(
        which in 0_usize..37,
        op in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut ops = golden()[which].definition().ops;
        ops.pop();
        let at = op.index(ops.len());
        let mut bytes = ops[at].to_vec();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let root = rb_oci::Digest::of(&bytes);
        ops.truncate(at);
        ops.push(bytes.into());
        ops.push(head(&root.to_string(), 0));
        let definition = Definition { ops, ..Definition::default() };
        if let Ok(graph) = definition.graph() {
            prop_assert_eq!(take(&definition.to_bytes()), Ok(()));
            prop_assert_eq!(graph.root().map(|edge| edge.vertex), Some(root));
        }
    }
}

/// Encodes an op without an operation, whose input is output `index` of `digest`.
fn head(digest: &str, index: u8) -> Bytes {
    let mut input = vec![0x0a, digest.len() as u8];
    input.extend(digest.as_bytes());
    if index > 0 {
        input.extend([0x10, index]);
    }
    let mut op = vec![0x0a, input.len() as u8];
    op.extend(input);
    op.into()
}

fn image() -> Definition {
    named("image").definition()
}

/// What lies beneath the error of a vertex.
fn cause(definition: &Definition) -> LlbError {
    match definition.graph().unwrap_err() {
        LlbError::Vertex { source, .. } => *source,
        other => other,
    }
}

#[test]
fn the_head_made_here_is_buildkits() {
    let image = image();
    assert_eq!(head(&rb_oci::Digest::of(&image.ops[0]).to_string(), 0), image.ops[1]);
}

#[test]
fn inputs_must_come_first() {
    let mut image = image();
    image.ops.remove(0);
    assert!(matches!(cause(&image), LlbError::MissingInput { .. }));
    let mut chain = named("exec").definition();
    chain.ops.swap(0, 1);
    assert!(matches!(cause(&chain), LlbError::MissingInput { .. }));
}

#[test]
fn outputs_must_exist() {
    let mut image = image();
    image.ops[1] = head(&rb_oci::Digest::of(&image.ops[0]).to_string(), 1);
    assert!(matches!(cause(&image), LlbError::Index { index: 1, limit: 1, .. }));
}

#[test]
fn a_definition_must_end_with_its_root() {
    let mut headless = image();
    headless.ops.pop();
    assert!(matches!(cause(&headless), LlbError::Invalid(_)));
    let mut two_heads = image();
    two_heads.ops.push(two_heads.ops[1].clone());
    assert!(matches!(cause(&two_heads), LlbError::Unsupported { .. }));
    let mut twice = image();
    twice.ops.insert(0, twice.ops[0].clone());
    assert_eq!(twice.graph().unwrap().len(), 1);
}

#[test]
fn too_much_is_refused_before_it_is_decoded() {
    let large = vec![0; Definition::MAX_BYTES + 1];
    assert!(matches!(Definition::from_bytes(&large), Err(LlbError::TooLarge { .. })));
    let many_empty_ops = [0x0a, 0].repeat(1 << 17);
    assert!(matches!(Definition::from_bytes(&many_empty_ops), Err(LlbError::TooLarge { .. })));
    let nested = std::iter::repeat_n([0x1b; 8], 5000).flatten().collect::<Vec<u8>>();
    assert!(matches!(Definition::from_bytes(&nested), Err(LlbError::Malformed { .. })));
}

#[test]
fn a_long_chain_is_refused() {
    let state = (0..20_000).fold(rb_llb::State::scratch(), |state, _| {
        let action = rb_llb::MkdirAction { path: "/a".to_owned(), ..rb_llb::MkdirAction::default() };
        state.mkdir(action, rb_llb::NodeMeta::default())
    });
    let definition = state.marshal(&rb_diag::SourceMap::default()).unwrap();
    assert!(matches!(cause(&definition), LlbError::TooLarge { what: "chain of inputs", .. }));
}
