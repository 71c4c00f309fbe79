//! Images of many layers.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use rb_oci::Digest;
use serde_json::{Value, json};

use super::support::scripted::{Gate, Reply};
use super::{MANIFEST, Place};
use crate::push::noise;

const LAYERS: usize = 8;

/// A tar with these files, packed; and the digest of the tar.
fn packed(files: &[(String, Vec<u8>)]) -> (Vec<u8>, Digest) {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(0);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, &bytes[..]).expect("in memory");
    }
    let tar = tar.into_inner().expect("in memory");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar).expect("in memory");
    (packed.finish().expect("in memory"), Digest::of(tar))
}

/// Puts an image of many layers into the registry: each has a file of its own, changes one of all, and deletes the one of
/// that below it. Returns the digests of its layers, lowest first.
fn tower(place: &Place) -> Vec<String> {
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for number in 0..LAYERS {
        let mut files = vec![
            (format!("d/first{number}"), vec![b'x'; 4096]),
            ("d/all".to_owned(), format!("layer {number}\n").into_bytes()),
            (format!("d/large{number}"), noise(number as u64, 1 << 20)),
        ];
        if number > 0 {
            files.push((format!("d/.wh.large{}", number - 1), Vec::new()));
        }
        let (blob, diff_id) = packed(&files);
        let mut described = place.put(&blob);
        described["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
        layers.push(described);
        diff_ids.push(diff_id);
    }
    let config = json!({
        "architecture": rb_oci::Platform::host().architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let mut config = place.put(config.to_string().as_bytes());
    config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    place.tag("tower", manifest.to_string().as_bytes());
    layers.iter().map(|layer: &Value| layer["digest"].as_str().expect("text").to_owned()).collect()
}

impl Place {
    fn blob(&self, digest: &str) -> Vec<u8> {
        self.blobs.lock().unwrap()[digest].clone()
    }

    /// The layers of which something is unpacked and nothing finished.
    fn begun(&self) -> BTreeSet<usize> {
        let folders = std::fs::read_dir(self.env.state().join("snapshots")).into_iter().flatten().flatten();
        let has =
            |folder: &std::path::Path, number: usize| folder.join(format!("fs/d/first{number}")).exists();
        folders
            .filter(|folder| folder.path().join("work").exists())
            .filter_map(|folder| (0..LAYERS).find(|number| has(&folder.path(), *number)))
            .collect()
    }
}

fn is_right(place: &Place) {
    let name = format!("{}:tower", place.name());
    place.target(&name, "    SAVE ARTIFACT /d AS LOCAL out\n");
    place.env.rb(["+t"]).expect(0);
    assert_eq!(place.env.read("out/all"), format!("layer {}\n", LAYERS - 1));
    for number in 0..LAYERS {
        assert_eq!(place.env.read(&format!("out/first{number}")).len(), 4096);
        assert_eq!(place.env.has(&format!("out/large{number}")), number == LAYERS - 1, "{number}");
    }
}

#[test]
fn layers_are_unpacked_at_once_while_they_come() {
    let Some(place) = Place::new() else { return };
    let gate = Gate::default();
    for digest in tower(&place) {
        let bytes = place.blob(&digest);
        let half = Reply { gate: Some((bytes.len() / 2, gate.clone())), ..Reply::new(200, bytes) };
        place.instead(&format!("/blobs/{digest}"), [half]);
    }
    place.target(&format!("{}:tower", place.name()), "    SAVE ARTIFACT /d/all AS LOCAL all\n");
    let build = place.env.spawn(["--jobs", "2", "+t"]);
    let patience = Instant::now();
    // No blob has come whole, and of two layers there is something.
    while place.begun().len() < 2 {
        assert!(patience.elapsed() < Duration::from_secs(120), "{:?}", place.begun());
        std::thread::sleep(Duration::from_millis(10));
    }
    gate.open();
    let output = build.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // And what was saved of them.
    assert_eq!(place.snapshots(), LAYERS + 1);
    is_right(&place);
}

#[test]
fn one_layer_that_is_wrong_ends_all_and_nothing_half_made_stays() {
    let Some(place) = Place::new() else { return };
    let layers = tower(&place);
    let mut wrong = place.blob(&layers[5]);
    let right = wrong.clone();
    wrong[100_000] ^= 1;
    place.blobs.lock().unwrap().insert(layers[5].clone(), wrong);
    place.target(&format!("{}:tower", place.name()), "    SAVE ARTIFACT /d/all AS LOCAL all\n");
    place.env.rb(["+t"]).expect(3).says("sent a wrong blob").says("ask who runs");
    assert!(!place.has_blob(&layers[5]));
    for folder in std::fs::read_dir(place.env.state().join("snapshots")).expect("lists") {
        let work = folder.expect("lists").path().join("work");
        assert!(!work.exists(), "{} is half made", work.display());
    }
    place.blobs.lock().unwrap().insert(layers[5].clone(), right);
    is_right(&place);
}

#[test]
fn two_builds_at_once_unpack_each_layer_once() {
    let Some(place) = Place::new() else { return };
    let name = format!("{}:tower", place.name());
    let layers = tower(&place);
    place.env.write(
        "Buildfile",
        format!(
            "VERSION 1\na:\n    FROM {name}\n    SAVE ARTIFACT /d/all AS LOCAL a\n\
             b:\n    FROM {name}\n    SAVE ARTIFACT /d/all AS LOCAL b\n"
        ),
    );
    let builds = ["+a", "+b"].map(|target| place.env.spawn([target]));
    for build in builds {
        let output = build.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // And what was saved of them.
    assert_eq!(place.snapshots(), LAYERS + 1);
    for layer in layers {
        let pulls = place.server.asked().iter().filter(|request| request.path.ends_with(&layer)).count();
        assert_eq!(pulls, 1);
    }
}
