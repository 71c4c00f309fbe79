use rb_oci::{ImageManifest, Platform};
use rb_snapshot::DriverKind;

use super::*;
use crate::testing::{Fixture, file};

fn line(text: &str, empty_layer: bool) -> History {
    History { created_by: Some(text.to_owned()), empty_layer, ..History::default() }
}

fn read<T: serde::de::DeserializeOwned>(store: &Store, descriptor: &Descriptor) -> T {
    let digest = descriptor_digest(descriptor).expect("is sha256");
    serde_json::from_slice(&store.read_blob(&digest, 1 << 20).expect("is there")).expect("parses")
}

#[test]
fn a_chain_becomes_a_manifest() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let base = fixture.commit(None, |root| file(root, "one", "1", 0o644));
    let same = fixture.commit(Some(base), |_| {});
    let top = fixture.commit(Some(same), |root| file(root, "two", "2", 0o644));
    let mut config =
        ImageConfig::scratch(&Platform { os: "linux".into(), architecture: "amd64".into(), variant: None });
    config.config.cmd = Some(vec!["/two".into()]);
    config.history =
        vec![line("COPY one", false), line("ENV", true), line("RUN true", false), line("COPY two", false)];
    let annotations = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
    let options = ImageOptions { annotations, ..ImageOptions::default() };
    let export = || {
        export_image(&fixture.store, &fixture.snapshots, Some(top), &config, Epoch(5), &options)
            .expect("exports")
    };
    let descriptor = export();
    assert_eq!(export(), descriptor);
    let manifest: ImageManifest = read(&fixture.store, &descriptor);
    let written: ImageConfig = read(&fixture.store, manifest.config());
    assert_eq!(written.config, config.config);
    let chain = fixture.snapshots.chain(Some(top)).expect("reads");
    let layers: Vec<_> = [chain[0], top]
        .iter()
        .filter_map(|id| {
            pack_layer(&fixture.store, &fixture.snapshots, *id, Epoch(5), Packing::default()).expect("packs")
        })
        .collect();
    assert_eq!(written.rootfs.diff_ids, layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>());
    assert_eq!(manifest.layers(), &layers.iter().map(|layer| layer.descriptor.clone()).collect::<Vec<_>>());
    assert_eq!(written.history.iter().filter(|line| !line.empty_layer).count(), manifest.layers().len());
    let text =
        fixture.store.read_blob(&descriptor_digest(&descriptor).expect("is sha256"), 9999).expect("is there");
    let text = String::from_utf8(text).expect("is text");
    assert!(text.starts_with(
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":"#
    ));
    assert!(text.ends_with(r#""annotations":{"a":"1","b":"2"}}"#), "{text}");
}

#[test]
fn scratch_has_no_layers() {
    let fixture = Fixture::new(DriverKind::Copy);
    let config = ImageConfig::scratch(&Platform::host());
    let none = ImageOptions::default();
    let descriptor =
        export_image(&fixture.store, &fixture.snapshots, None, &config, Epoch(0), &none).expect("exports");
    let manifest: ImageManifest = read(&fixture.store, &descriptor);
    assert!(manifest.layers().is_empty() && manifest.annotations().is_none());
    let written: ImageConfig = read(&fixture.store, manifest.config());
    assert_eq!(written, config);
}

#[test]
fn history_and_layers_agree() {
    let (a, b, c) = (line("a", false), line("b", false), line("c", false));
    let e = line("e", true);
    let empty = |line: &History| History { empty_layer: true, ..line.clone() };
    let history = [a.clone(), e.clone(), b.clone()];
    assert_eq!(settle_history(&history, &[true, true]), history);
    assert_eq!(settle_history(&history, &[false, true]), [empty(&a), e.clone(), b.clone()]);
    assert_eq!(settle_history(&history, &[true]), [a.clone(), e.clone(), empty(&b)]);
    assert_eq!(
        settle_history(&history, &[true, false, true, true]),
        [History::default(), a.clone(), e, b.clone()]
    );
    assert_eq!(
        settle_history(&[a.clone(), b, c.clone()], &[true, false, false])
            .iter()
            .filter(|l| !l.empty_layer)
            .count(),
        1
    );
    assert!(settle_history(&[], &[true]).is_empty());
}

#[test]
fn dockers_media_types_become_ocis() {
    let digest = Digest::of("x");
    let docker = MediaType::from("application/vnd.docker.image.rootfs.diff.tar.gzip");
    let descriptor = describe(&docker, &digest, 3).expect("describes");
    let is = |types| part(&descriptor, types).expect("is sha256").media_type;
    assert_eq!((is(MediaTypes::Oci), is(MediaTypes::Docker)), (MediaType::ImageLayerGzip, docker));
}

#[test]
fn an_image_has_the_media_types_of_one_house() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let root = fixture.commit(None, |root| file(root, "one", "1", 0o644));
    let config = ImageConfig::scratch(&Platform::host());
    let options = ImageOptions { types: MediaTypes::Docker, ..ImageOptions::default() };
    let descriptor =
        export_image(&fixture.store, &fixture.snapshots, Some(root), &config, Epoch(0), &options)
            .expect("exports");
    let manifest: ImageManifest = read(&fixture.store, &descriptor);
    let types = [descriptor.media_type(), manifest.config().media_type(), manifest.layers()[0].media_type()];
    assert_eq!(
        types.map(|media_type| media_type.to_string()),
        [
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ]
    );
}
