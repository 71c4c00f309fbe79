//! The previous image of an app, where this machine keeps nothing of it: what buildpacks leave as it is comes from there.

use std::path::Path;

use serde_json::Value;

use crate::pack::{FOR_ALL, PASS, Packed, is_known, runs};
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

/// The layers of an image, as a registry has it.
fn layers(packed: &Packed, image: &str) -> Vec<String> {
    let text = packed.0.rb(["image", "inspect", &format!("docker://{image}")]).expect(0).stdout;
    let image: Value = serde_json::from_str(&text).expect("JSON");
    let layers = image[0]["layers"].as_array().expect("layers").iter();
    layers.map(|layer| layer["digest"].as_str().expect("a digest").to_owned()).collect()
}

/// Whether a file below a folder is called by a digest.
fn has_blob(folder: &Path, digest: &str) -> bool {
    let hex = digest.trim_start_matches("sha256:");
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains(hex) {
                return true;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    false
}

#[test]
fn layers_of_a_registry_are_used_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let image = format!("{}/app:1", registry.host);
    let Some(first) = Packed::new() else { return };
    let publish = |packed: &Packed, name: &str, more: &[&str]| {
        packed.pack("build", &[&[name, "--publish"][..], &FOR_ALL, more].concat()).expect(0)
    };
    publish(&first, &image, &[]).says("seen before: 0").hides("is used again");
    let before = layers(&first, &image);
    let greet = &before[1];
    assert!(has_blob(&first.0.state(), greet));
    // A machine that has built nothing, and a file that the layer does not depend on.
    let Some(second) = Packed::new() else { return };
    second.0.write("app/more.txt", "more");
    publish(&second, &image, &[]).says("seen before: 0").says("greet is used again");
    let after = layers(&second, &image);
    assert_eq!((greet, before.len()), (&after[1], after.len()));
    assert_ne!(before, after);
    assert!(!has_blob(&second.0.state(), greet), "nothing is fetched");
    let ran = first.0.rb(["run", "--pull=always", &image]).expect(0).stdout;
    assert_eq!(ran, "launched as web: hello world\n");
    // It changes no key: nothing runs, whatever the previous image is by now.
    publish(&second, &image, &[]).says("nothing to do: all");
    let why = ["why", "pack", "build", &image, "--publish", "-B", "builder:1", "-p", "app"];
    let why = second.0.rb(why.iter().chain(&FOR_ALL)).expect(0).stdout;
    assert!(why.contains("nothing would run now"), "{why}");
    // What is known speaks of a layer of that image: another one has it not, so the buildpack builds anew.
    let other = format!("{}/other:1", registry.host);
    publish(&second, &other, &[])
        .says(&is_known("build test/one@1.0"))
        .says(&runs("build test/one@1.0 anew"))
        .hides("is used again");
    assert_eq!(layers(&second, &other), after);
    // Into the store goes a whole image.
    let Some(third) = Packed::new() else { return };
    third.0.write("app/more.txt", "more");
    let here = |name: &str, previous: &str| {
        third.pack("build", &[&[name, "--previous-image", previous][..], &FOR_ALL].concat()).expect(0)
    };
    here("app:1", &image).says("greet is used again");
    assert_eq!(third.0.rb(["run", "app:1"]).expect(0).stdout, "launched as web: hello world\n");
    // In the store it is looked for, too, whoever built it.
    third.0.write("app/more.txt", "other");
    here("far:1", "app:1").says("seen before: 0").says("greet is used again");
    let none = format!("{}/none:1", registry.host);
    here("next:1", &none).says("no layer of the previous image");
    publish(&second, &image, &["--clear-cache"]).says("seen before: 0").hides("is used again");
}

/// Makes a layer once, with a bill of materials.
const BUILD_ONCE: &str = r#"#!/bin/sh
set -e
if [ -f "$1/lib.toml" ]; then
  echo "lib is used again: $(cat "$1/lib.toml" | tr '\n' ' ')$(cat "$1/store.toml" | tr '\n' ' ')"
else
  mkdir "$1/lib"
  echo '{"of": "lib"}' > "$1/lib.sbom.spdx.json"
fi
printf '[types]\nlaunch=true\n[metadata]\nodd="it'"'"'s $(so) \\"odd\\" 100%%\\n"\n' > "$1/lib.toml"
printf '[metadata]\nkept=[1, 2]\n' > "$1/store.toml"
"#;

#[test]
fn what_is_said_of_layers_comes_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let image = format!("{}/app:1", registry.host);
    let machine = || {
        let packed = Packed::new()?;
        packed.buildpack("test_mine", "1.0", "test/mine", PASS, &BUILD_ONCE.replace("tr ", "busybox tr "));
        let place = packed.0.project();
        std::fs::rename(place.join("buildpacks/test_mine/1.0"), place.join("mine")).expect("moves");
        Some(packed)
    };
    let (Some(first), Some(second)) = (machine(), machine()) else { return };
    let publish = |packed: &Packed| packed.pack("build", &[&image, "--publish", "-b", "./mine"]).expect(0);
    publish(&first).hides("is used again");
    second.0.write("app/more.txt", "more");
    // As TOML writes texts of several lines.
    publish(&second).says(
        r#"lib is used again: [metadata] odd = """ it's $(so) "odd" 100% """ [metadata] kept = [1, 2]"#,
    );
    second.0.rb(["pack", "sbom", "download", "--remote", &image, "-o", "sboms"]).expect(0);
    assert_eq!(second.0.read("sboms/layers/sbom/launch/test_mine/lib/sbom.spdx.json"), "{\"of\": \"lib\"}\n");
    // A third finds what the second has not made either.
    let Some(third) = machine() else { return };
    publish(&third).says("lib is used again: [metadata] odd = ");
}
