use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    (root, store)
}

fn describe(media_type: &str, digest: &str, size_bytes: usize) -> Descriptor {
    let json = format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size_bytes}}}"#);
    serde_json::from_str(&json).expect("is a descriptor")
}

fn put(store: &Store, media_type: &str, json: &str) -> Descriptor {
    let digest = store.put_blob(json.as_bytes()).expect("puts");
    describe(media_type, &digest.to_string(), json.len())
}

fn manifest(store: &Store, salt: &str) -> Descriptor {
    let digest = Digest::of(salt);
    let json = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":10}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":100}},
        {{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":1000}}]}}"#
    );
    put(store, "application/vnd.oci.image.manifest.v1+json", &json)
}

#[test]
fn names_come_and_go() {
    let (root, store) = store();
    let (one, two) = (manifest(&store, "one"), manifest(&store, "two"));
    store.set_image("docker.io/library/b:1", &one, 5).expect("sets");
    store.set_image("docker.io/library/a:1", &one, 6).expect("sets");
    store.set_image("docker.io/library/b:1", &two, 7).expect("sets");
    let row = store.image("docker.io/library/b:1").expect("reads").expect("is there");
    assert_eq!((row.descriptor, row.created_unix, row.size_bytes), (two.clone(), 7, 1110));
    let names: Vec<_> = store.images().expect("reads").into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["docker.io/library/a:1", "docker.io/library/b:1"]);
    assert_eq!(image_names(root.path()).expect("reads beside it"), names);

    let digest = descriptor_digest(&two).expect("is sha256");
    assert!(matches!(store.remove_blob(&digest), Err(StoreError::BlobInUse { .. })));
    assert!(store.remove_image("docker.io/library/b:1").expect("removes"));
    assert!(!store.remove_image("docker.io/library/b:1").expect("removes"));
    assert_eq!(store.image("docker.io/library/b:1").expect("reads"), None);
    assert!(store.remove_blob(&digest).expect("removes"));
}

#[test]
fn names_of_a_store_that_is_not_there_make_none() {
    let root = tempfile::tempdir().expect("temp dir");
    assert!(image_names(root.path()).is_err() && image_names(&root.path().join("none")).is_err());
    assert_eq!(std::fs::read_dir(root.path()).expect("lists").count(), 0);
}

#[test]
fn an_index_counts_the_platforms_that_are_here() {
    let (_root, store) = store();
    let here = manifest(&store, "here");
    let digest = Digest::of("not here");
    let json = format!(
        r#"{{"schemaVersion":2,"manifests":[{},{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":3}}]}}"#,
        serde_json::to_string(&here).expect("serialises")
    );
    let index = put(&store, "application/vnd.oci.image.index.v1+json", &json);
    store.set_image("multi", &index, 0).expect("sets");
    assert_eq!(store.image("multi").expect("reads").map(|row| row.size_bytes), Some(1110));
}

#[test]
fn a_name_needs_a_manifest_that_is_there_and_is_one() {
    let (_root, store) = store();
    let descriptor = manifest(&store, "x");
    store.remove_blob(&descriptor_digest(&descriptor).expect("is sha256")).expect("removes");
    assert!(matches!(store.set_image("x", &descriptor, 0), Err(StoreError::UnknownBlob(_))));
    let text = put(&store, "application/vnd.oci.image.manifest.v1+json", "no json");
    assert!(matches!(store.set_image("x", &text, 0), Err(StoreError::Json { .. })));
    let other =
        describe("application/vnd.oci.image.manifest.v1+json", &format!("sha512:{}", "0".repeat(128)), 1);
    assert!(matches!(store.set_image("x", &other, 0), Err(StoreError::UnsupportedDigest(_))));
}

#[test]
fn names_are_bounded() {
    let (_root, store) = store();
    let descriptor = manifest(&store, "x");
    for name in
        [String::new(), "a b".to_owned(), "a\nb".to_owned(), "\u{1b}[31m".to_owned(), "x".repeat(1025)]
    {
        let error = store.set_image(&name, &descriptor, 0).expect_err("is no name");
        assert!(matches!(error, StoreError::BadName { .. }), "{error}");
        assert!(error.to_string().len() < 200);
    }
    store.set_image(&"x".repeat(1024), &descriptor, 0).expect("is a name");
}
