//! Images of a registry as definitions of others name them: BuildKit's attributes, and layers that are not what they say.

use std::collections::BTreeMap;

use rb_api::PullPolicy;
use rb_diag::ErrorKind;
use rb_llb::{NodeMeta, State, attr};
use rb_oci::{Digest, Platform};
use serde_json::{Value, json};

use super::{Bench, JobOptions, SolveError};

#[path = "../../../registry/tests/support/scripted.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "other tests use the rest; a server may panic")]
mod scripted;

use scripted::{Reply, Scripted};

/// Packs one file, as tar has it.
fn tar(name: &str, content: &str) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(content.as_bytes());
    tar.resize(tar.len().div_ceil(512) * 512 + 1024, 0);
    tar
}

/// A registry with one image: its layers, each with what its config says of it.
struct Images {
    server: Scripted,
    digest: Digest,
    layers: Vec<Digest>,
}

impl Images {
    fn start(layers: &[(Vec<u8>, Digest)], media_type: &str) -> Self {
        let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut put = |bytes: &[u8], media_type: &str| {
            let digest = Digest::of(bytes);
            blobs.insert(digest.to_string(), bytes.to_vec());
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let described: Vec<Value> = layers.iter().map(|(bytes, _)| put(bytes, media_type)).collect();
        let diff_ids: Vec<&Digest> = layers.iter().map(|(_, diff_id)| diff_id).collect();
        let config = json!({
            "architecture": Platform::host().architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": described,
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = Digest::of(&manifest);
        let layers = layers.iter().map(|(bytes, _)| Digest::of(bytes)).collect();
        let server = Scripted::start(move |request, _| {
            let (kind, name) = request.path.rsplit_once('/').unwrap_or_default();
            let found = if kind.ends_with("/manifests") { Some(&manifest) } else { blobs.get(name) };
            match found {
                _ if request.path == "/v2/" => Reply::new(200, "{}"),
                Some(bytes) => {
                    Reply::new(200, bytes.clone()).with("Docker-Content-Digest", Digest::of(bytes))
                }
                None => Reply::new(404, "{}"),
            }
        });
        Self { server, digest, layers }
    }

    fn of_files(files: &[(&str, &str)]) -> Self {
        let layers: Vec<_> = files.iter().map(|(name, content)| tar(name, content)).collect();
        let layers: Vec<_> = layers.into_iter().map(|tar| (tar.clone(), Digest::of(&tar))).collect();
        Self::start(&layers, "application/vnd.oci.image.layer.v1.tar")
    }

    fn state(&self, attrs: &[(&str, &str)]) -> State {
        let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let identifier = format!("docker-image://{}/some/image:1", self.server.host);
        State::source(identifier, attrs, None, NodeMeta::default())
    }

    fn asked_for(&self, digest: &Digest) -> usize {
        let digest = digest.to_string();
        self.server.asked().iter().filter(|request| request.path.ends_with(&digest)).count()
    }
}

fn refused(bench: &Bench, state: &State, kind: ErrorKind, text: &str) {
    let error = bench.solve_request(bench.request(state)).expect_err("is refused");
    assert_eq!(error.kind(), Some(kind), "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn as_many_layers_as_a_definition_wants() {
    let bench = Bench::new();
    let images = Images::of_files(&[("one", "1"), ("two", "2")]);
    bench.solve(&images.state(&[(attr::IMAGE_LAYER_LIMIT, "1")]));
    assert_eq!(bench.out("one"), "1");
    assert!(!bench.dir.path().join("out/two").exists());
    assert_eq!((images.asked_for(&images.layers[0]), images.asked_for(&images.layers[1])), (1, 0));
    bench.solve(&images.state(&[]));
    assert_eq!((bench.out("one"), bench.out("two")), ("1".to_owned(), "2".to_owned()));
    assert_eq!((images.asked_for(&images.layers[0]), images.asked_for(&images.layers[1])), (1, 1));
    refused(&bench, &images.state(&[(attr::IMAGE_LAYER_LIMIT, "x")]), ErrorKind::Input, "image.layerlimit");
}

#[test]
fn a_checksum_is_compared_with_what_the_name_stands_for() {
    let bench = Bench::new();
    let images = Images::of_files(&[("one", "1")]);
    let digest = images.digest.to_string();
    bench.solve(&images.state(&[(attr::IMAGE_CHECKSUM, digest.as_str())]));
    let other = Digest::of("other").to_string();
    refused(&bench, &images.state(&[(attr::IMAGE_CHECKSUM, other.as_str())]), ErrorKind::Input, &other);
}

#[test]
fn a_definition_may_want_what_is_known() {
    let bench = Bench::new();
    let images = Images::of_files(&[("one", "1")]);
    bench.solve(&images.state(&[]));
    let asked = images.server.asked().len();
    bench.solve(&images.state(&[(attr::IMAGE_RESOLVE_MODE, "local")]));
    assert_eq!(images.server.asked().len(), asked);
    bench.solve(&images.state(&[(attr::IMAGE_RESOLVE_MODE, "pull")]));
    assert_eq!(images.server.asked().len(), asked + 1);
    // What the user says of all images counts more.
    let options = || JobOptions { pull: PullPolicy::Never, ..bench.options() };
    let pulled = images.state(&[(attr::IMAGE_RESOLVE_MODE, "pull")]);
    bench.solve_with(options(), bench.request(&pulled)).expect("is known");
    let error: SolveError = {
        let unknown = Images::of_files(&[("other", "1")]);
        bench.solve_with(options(), bench.request(&unknown.state(&[]))).expect_err("is not here")
    };
    assert!(error.to_string().contains("--pull=never"), "{error}");
    assert_eq!(images.server.asked().len(), asked + 1);
}

#[test]
fn layers_prove_what_the_config_says_of_them() {
    let good = tar("one", "1");
    let liar =
        Images::start(&[(good.clone(), Digest::of("other"))], "application/vnd.oci.image.layer.v1.tar");
    refused(&Bench::new(), &liar.state(&[]), ErrorKind::Input, "diff id");
    let odd = Images::start(&[(good.clone(), Digest::of(&good))], "application/x-unknown");
    refused(&Bench::new(), &odd.state(&[]), ErrorKind::Input, "application/x-unknown");
    // What is packed in another way than its media type says is read all the same, as containerd does.
    let bench = Bench::new();
    let mislabelled = Images::start(
        &[(good.clone(), Digest::of(&good))],
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    );
    bench.solve(&mislabelled.state(&[]));
    assert_eq!(bench.out("one"), "1");
}
