//! What came from BuildKit is read as it is: digests, bytes, JSON.

use rb_llb::to_json;
use rb_oci::Digest;
use serde_json::Value;

use super::{golden, named};

#[test]
fn every_op_has_the_digest_that_buildkit_says() {
    let mut count = 0;
    for golden in golden() {
        let definition = golden.definition();
        let expected: Vec<&str> =
            golden.json.as_array().unwrap().iter().map(|op| op["Digest"].as_str().unwrap()).collect();
        let actual: Vec<String> = definition.ops.iter().map(|op| Digest::of(op).to_string()).collect();
        assert_eq!(actual, expected, "{}", golden.name);
        count += actual.len();
    }
    assert_eq!(count, 113);
}

#[test]
fn every_op_decoded_and_encoded_again_is_the_same_bytes() {
    let mut count = 0;
    for golden in golden() {
        let definition = golden.definition();
        let graph = definition.graph().unwrap();
        for vertex in graph.vertices() {
            assert_eq!(vertex.encode(), vertex.bytes, "{}: {}", golden.name, vertex.display());
            assert_eq!(Digest::of(&vertex.bytes), vertex.digest);
            count += 1;
        }
        assert_eq!(graph.len() + 1, definition.ops.len(), "{}", golden.name);
        let root = graph.root().unwrap();
        assert!(graph.get(&root.vertex).is_some());
    }
    // All but the last op of each definition, which has no operation; the builder's tests compare those.
    assert_eq!(count, 113 - 37);
}

#[test]
fn a_definition_decoded_and_encoded_again_is_the_same() {
    for golden in golden() {
        let definition = golden.definition();
        let again = rb_llb::Definition::from_bytes(&definition.to_bytes()).unwrap();
        assert_eq!(again, definition, "{}", golden.name);
        // Go wrote the entries of maps in any order; nothing else may differ, so the length is the same.
        assert_eq!(definition.to_bytes().len(), golden.bytes.len(), "{}", golden.name);
    }
}

#[test]
fn json_is_what_buildkits_tools_print() {
    for golden in golden() {
        let mut golden = golden.clone();
        if golden.name == "file-symlink" {
            // BuildKit's JSON leaves symlinks out; ours has them.
            let owner = |id: u32| serde_json::json!({ "User": { "byId": id } });
            golden.json[0]["Op"]["Op"]["file"]["actions"][0]["Action"] = serde_json::json!({ "symlink": {
                "oldpath": "/target", "newpath": "/link", "timestamp": -1,
                "owner": { "user": owner(1000), "group": owner(1000) },
            }});
        }
        let actual: Value = to_json(&golden.definition().graph().unwrap());
        assert_eq!(actual, golden.json, "{}", golden.name);
    }
}

#[test]
fn metadata_is_read() {
    let graph = named("ignore-cache").definition().graph().unwrap();
    let vertex = graph.vertex(&graph.root().unwrap().vertex);
    assert_eq!(graph.name(vertex), "named");
    let meta = graph.meta(&vertex.digest);
    assert!(meta.ignore_cache);
    assert_eq!(meta.progress_group.as_ref().map(|group| group.name.as_str()), Some("group"));
}
