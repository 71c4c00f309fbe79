//! Every golden case: operations, names, configs, histories, warnings and look-ups as BuildKit's own frontend made them.
//!
//! `golden/NAME/context` is the context, `case.json` the options, `llb.json` what BuildKit sent. Digests of operations are
//! compared, so inputs, mounts and environments are, too. What differs by choice stands in the header of the crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rb_diag::SourceMap;
use rb_dockerfile::{Options, Planned, plan};
use rb_frontend::{Asked, RecordingGateway};
use rb_llb::Definition;
use serde_json::{Value, json};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the cases are there")
        .map(|entry| entry.expect("is read").path())
        .collect();
    cases.sort();
    cases
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("is there")).expect("is JSON")
}

/// Finishes a future that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a recording answers at once"),
    }
}

fn options(case: &Path) -> Options {
    let given = read_json(&case.join("case.json"));
    let pairs: BTreeMap<String, String> = given["opts"]
        .as_array()
        .expect("is a list")
        .iter()
        .map(|pair| pair.as_str().expect("is a text").split_once('=').expect("is a pair"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let build_platform = "linux/amd64".parse().expect("is one");
    let start = Options { session: Some("SESSION".to_owned()), build_platform, ..Options::default() };
    Options::read(&pairs, start).expect("the options are right")
}

/// What our frontend makes of a case, in the shape that is compared.
fn ours(case: &Path) -> Value {
    let folder = case.join("context");
    let sources = SourceMap::default();
    let read = move |_: &str, path: &str| fs::read(folder.join(path)).ok();
    let gateway = RecordingGateway::new(sources.clone(), Box::new(read));
    let options = options(case);
    let planned = now(plan(&gateway, &options, &sources)).expect("is planned");
    let Asked { solved, images } = gateway.asked();
    let built = planned.images.iter().map(|image| image.state.marshal(&sources).expect("is marshalled"));
    let requests: Vec<Value> =
        solved.into_iter().chain(built).map(|definition| request(&definition)).collect();
    let mut images: Vec<_> = images.into_iter().collect();
    images.sort_by_key(|(_, digest)| digest.to_string());
    let resolved: Vec<Value> = images
        .iter()
        .map(|((identifier, platform), digest)| {
            json!({ "identifier": identifier, "platform": platform.to_string(), "digest": digest.to_string(),
                    "resolveMode": options.resolve_mode.as_str() })
        })
        .collect();
    let image = &planned.images[0];
    json!({
        "requests": requests,
        "resolved": resolved,
        "warnings": warnings(&planned, &sources),
        "config": image.config,
        "base": image.base,
        "epoch": image.epoch,
    })
}

fn request(definition: &Definition) -> Value {
    let graph = definition.graph().expect("is a graph");
    let ops: Vec<Value> = graph
        .vertices()
        .map(|vertex| {
            let meta = graph.meta(&vertex.digest);
            json!({ "digest": vertex.digest.to_string(), "description": meta.description,
                    "ignore_cache": meta.ignore_cache,
                    "group": meta.progress_group.as_ref().map(|group| &group.name) })
        })
        .collect();
    Value::Array(ops)
}

fn warnings(planned: &Planned, sources: &SourceMap) -> Vec<Value> {
    let told = planned.findings.iter().map(|finding| {
        let file = sources.get(finding.span.source).expect("is a file of the build");
        let line = file.position(finding.span.start).line;
        json!({ "msg": format!("{}: {} (line {line})", finding.rule.name(), finding.message) })
    });
    told.collect()
}

/// The same of what BuildKit made.
fn golden(case: &Path) -> Value {
    let golden = read_json(&case.join("llb.json"));
    let empty = Vec::new();
    let list = |value: &Value| value.as_array().unwrap_or(&empty).clone();
    let op = |op: &Value| {
        let meta = &op["OpMetadata"];
        json!({ "digest": op["Digest"], "description": meta["description"].as_object().cloned().unwrap_or_default(),
                "ignore_cache": meta["ignore_cache"].as_bool().unwrap_or(false),
                "group": meta["progress_group"]["name"] })
    };
    // The last operation of a request names its root.
    let request = |request: &Value| {
        let ops = list(&request["ops"]);
        Value::Array(ops.iter().take(ops.len().saturating_sub(1)).map(op).collect())
    };
    let warning = |warning: &Value| json!({ "msg": warning["msg"] });
    let metadata = &golden["metadata"];
    json!({
        "requests": list(&golden["requests"]).iter().map(request).collect::<Vec<_>>(),
        "resolved": list(&golden["resolved"]),
        "warnings": list(&golden["warnings"]).iter().map(warning).collect::<Vec<_>>(),
        "config": with_layers(&metadata["containerimage.config"]),
        "base": with_layers(&metadata["containerimage.base.config"]),
        "epoch": metadata["source.date.epoch"],
    })
}

/// Go writes no layers as `null`, we as `[]`.
fn with_layers(config: &Value) -> Value {
    let mut config = config.clone();
    if config["rootfs"]["diff_ids"].is_null() && config.is_object() {
        config["rootfs"]["diff_ids"] = json!([]);
    }
    config
}

/// Tells the first place where two values differ.
fn difference(path: &str, ours: &Value, golden: &Value) -> Option<String> {
    match (ours, golden) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            keys.into_iter().find_map(|key| difference(&format!("{path}.{key}"), &ours[key], &golden[key]))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(at, (ours, golden))| difference(&format!("{path}[{at}]"), ours, golden)),
        _ if ours == golden => None,
        _ => Some(format!("{path}\n    ours   {ours}\n    golden {golden}")),
    }
}

#[test]
fn every_case_is_what_buildkit_makes() {
    let cases = cases();
    assert_eq!(cases.len(), 42);
    let told: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let name = case.file_name().expect("has a name").to_string_lossy().into_owned();
            difference(&name, &ours(case), &golden(case))
        })
        .collect();
    assert!(told.is_empty(), "{} of {} differ:\n{}", told.len(), cases.len(), told.join("\n"));
}
