//! What a registry sends and is not true ends with the exit code of the network, whichever command met it; the same in a
//! file of the user's, with that of what he named.

use rb_oci::Digest;
use serde_json::{Value, json};

use super::{INDEX, MANIFEST, Place};

/// An index of an index of … of the image, deeper than anybody needs. Returns all its documents, the outermost last.
fn deep(place: &Place) -> Vec<Vec<u8>> {
    let mut documents = vec![place.documents.lock().unwrap()["1"].clone()];
    for _ in 0..6 {
        let inner = documents.last().expect("has one");
        let media_type = if documents.len() == 1 { MANIFEST } else { INDEX };
        let entry = json!({"mediaType": media_type, "digest": Digest::of(inner), "size": inner.len()});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        documents.push(index.to_string().into_bytes());
    }
    documents
}

/// Every way to have something from a registry.
fn is_of_the_network(place: &Place, tag: &str, says: &str) {
    let name = format!("{}:{tag}", place.name());
    let at = format!("docker://{name}");
    place.target(&name, super::RUN);
    for command in [
        &["+t"][..],
        &["image", "pull", &name],
        &["image", "copy", "--all", &at, "copied:1"],
        &["image", "copy", "--all", &at, "oci:layout:1"],
        &["run", &name, "true"],
    ] {
        place.env.rb(command).expect(3).says(says).says(&place.server.host).says("ask who runs");
    }
    assert!(!place.env.rb(["image", "ls"]).expect(0).stdout.contains("copied"));
}

#[test]
fn wrong_bytes_under_a_digest() {
    let Some(place) = Place::new() else { return };
    let layer = place.layer();
    let mut blobs = place.blobs.lock().unwrap();
    let mut wrong = blobs[&layer].clone();
    wrong[1000] ^= 1;
    blobs.insert(layer, wrong);
    drop(blobs);
    is_of_the_network(&place, "1", "sent a wrong blob");
}

#[test]
fn a_size_that_is_not_the_blobs() {
    let Some(place) = Place::new() else { return };
    let mut manifest = place.document("1");
    manifest["layers"][0]["size"] = json!(5);
    place.tag("short", manifest.to_string().as_bytes());
    is_of_the_network(&place, "short", "sent a wrong blob");
    let mut manifest = place.document("1");
    manifest["config"]["size"] = json!(6_000_000);
    place.tag("long", manifest.to_string().as_bytes());
    is_of_the_network(&place, "long", "6000000");
    // Of what is here already, too.
    place.env.rb(["image", "pull", &format!("{}:1", place.name())]).expect(0);
    is_of_the_network(&place, "short", "sent a wrong");
}

#[test]
fn a_manifest_that_its_digest_does_not_prove() {
    let Some(place) = Place::new() else { return };
    let digest = Digest::of(&place.documents.lock().unwrap()["1"]);
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{"mediaType": MANIFEST, "digest": digest, "size": place.documents.lock().unwrap()["1"].len()}],
    });
    place.tag("index", index.to_string().as_bytes());
    // Of the same length.
    let other = String::from_utf8(place.documents.lock().unwrap()["1"].clone()).expect("text");
    let other = other.replacen("\"schemaVersion\":2", "\"schemaVersion\":3", 1);
    place.documents.lock().unwrap().insert(digest.to_string(), other.into_bytes());
    is_of_the_network(&place, "index", "its digest is");
}

#[test]
fn indexes_that_lead_ever_deeper() {
    let Some(place) = Place::new() else { return };
    let documents = deep(&place);
    for document in &documents {
        place.tag("deep", document);
    }
    is_of_the_network(&place, "deep", "too deep");
    // The same in a layout of the user's is what the user named.
    for document in &documents {
        place.env.write(&format!("mine/blobs/sha256/{}", Digest::of(document).hex()), document);
    }
    let outermost = documents.last().expect("has one");
    let entry = json!({"mediaType": INDEX, "digest": Digest::of(outermost), "size": outermost.len()});
    let index: Value = json!({"schemaVersion": 2, "manifests": [entry]});
    place.env.write("mine/index.json", index.to_string());
    place.env.write("mine/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    place.env.rb(["image", "copy", "--all", "oci:mine", "copied:1"]).expect(2).says("too deep");
}

#[test]
fn a_blob_that_is_no_sha256() {
    let Some(place) = Place::new() else { return };
    let mut manifest = place.document("1");
    manifest["layers"][0]["digest"] = json!("md5:d41d8cd98f00b204e9800998ecf8427e");
    place.tag("md5", manifest.to_string().as_bytes());
    let name = format!("{}:md5", place.name());
    place.env.rb(["image", "pull", &name]).expect(3).says("sent a wrong descriptor");
    let at = format!("docker://{name}");
    place.env.rb(["image", "copy", &at, "copied:1"]).expect(3).says("cannot be checked");
    place.target(&name, "");
    place.env.rb(["+t"]).expect(3).says("sent a wrong descriptor");
}
