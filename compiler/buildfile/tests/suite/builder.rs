//! A builder of buildpacks in a world of maps.
//!
//! In: `NAME CODE ID@VERSION…`, from a case. Out: the images `NAME` and `run:1`, and the files that all trees of the world have:
//! those of the builder, and what its detections left.

use serde_json::{Map, json};

/// Names, and what stands behind each.
type Named = Vec<(String, String)>;

/// Returns images with their configs, and files with their texts.
pub(crate) fn of(text: &str) -> (Named, Named) {
    let mut words = text.split(' ');
    let (name, code) = (words.next().unwrap(), words.next().unwrap());
    let mut files = vec![
        ("/bin/sh".to_owned(), String::new()),
        ("/cnb/lifecycle/launcher".to_owned(), String::new()),
        ("/code".to_owned(), format!("{code}\n")),
        ("/plan.toml".to_owned(), String::new()),
        ("/log".to_owned(), "written by a detection\n".to_owned()),
    ];
    let (mut layers, mut group) = (Map::new(), Vec::new());
    for word in words {
        let (id, version) = word.split_once('@').unwrap();
        let layer = json!({ "api": "0.10", "layerDiffID": format!("sha256:{}", "0".repeat(64)) });
        layers.insert(id.to_owned(), json!({ version: layer }));
        group.push(json!({ "id": id, "version": version }));
        let folder = format!("/cnb/buildpacks/{}/{version}", id.replace('/', "_"));
        let about = format!("api = \"0.10\"\n[buildpack]\nid = \"{id}\"\nversion = \"{version}\"\n");
        files.push((format!("{folder}/buildpack.toml"), about));
        files.extend(["detect", "build"].map(|program| (format!("{folder}/bin/{program}"), String::new())));
    }
    let metadata = json!({
        "images": [{ "image": "run:1" }],
        "lifecycle": { "version": "0.21.0", "apis": { "platform": { "supported": ["0.12"] } } },
    });
    let builder = json!({
        // Whichever a case builds for.
        "architecture": "",
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin", "CNB_USER_ID=1000", "CNB_GROUP_ID=1000"],
            "Labels": {
                "io.buildpacks.builder.metadata": metadata.to_string(),
                "io.buildpacks.buildpack.order": json!([{ "group": group }]).to_string(),
                "io.buildpacks.buildpack.layers": json!(layers).to_string(),
            },
        },
    });
    let run = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Env": ["PATH=/bin"], "User": "1000:1000", "Labels": { "of": "run" } },
    });
    (vec![(name.to_owned(), builder.to_string()), ("run:1".to_owned(), run.to_string())], files)
}
