//! Provenance in SLSA's words, as BuildKit has them.
//!
//! In: a draft, when it was built, what it is about. Out: the predicate, as v1 or v0.2 has it: the same facts under other names.
//! Source: slsa.dev/spec/v1.1/provenance, slsa.dev/spec/v0.2/provenance; BuildKit's `docs/attestations/slsa-provenance.md`.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use rb_api::{AskedBuild, Detail, ProvenanceVersion};
use rb_exporters::Subject;
use rb_llb::STRUCK;
use rb_oci::{Descriptor, Platform};
use serde_json::{Map, Value, json};

use super::Draft;
use super::strike::without_credentials;

/// What kind of build it is, by version: one whose facts stand as BuildKit has them.
const BUILD_TYPE_1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_02: &str = "https://mobyproject.org/buildkit@v1";
/// Options of a frontend that are about this machine and this client.
const OF_HOST: [&str; 4] = ["cgroup-parent", "image-resolve-mode", "platform", "cache-imports"];

/// When a job was, and what it is called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moment {
    pub(super) invocation: String,
    pub(super) began_unix: i64,
    pub(super) ended_unix: i64,
}

impl Moment {
    /// Returns the same, ended at a time.
    pub(super) fn until(&self, ended_unix: i64) -> Self {
        Self { ended_unix, ..self.clone() }
    }
}

/// What a statement is about.
pub(super) struct Told<'a> {
    pub(super) subjects: Vec<Subject>,
    /// Layers of the image, lowest first.
    pub(super) layers: Option<&'a [Descriptor]>,
}

/// Returns the type of a predicate.
pub(super) fn kind(version: ProvenanceVersion) -> &'static str {
    match version {
        ProvenanceVersion::V02 => "https://slsa.dev/provenance/v0.2",
        ProvenanceVersion::V1 => "https://slsa.dev/provenance/v1",
    }
}

/// Returns what is said of where something came from.
pub(super) fn of(draft: &Draft, moment: &Moment, told: &Told<'_>) -> Value {
    let Draft { wish, captured, steps, .. } = draft;
    let is_full = wish.detail == Detail::Max;
    let (config, request, is_whole) = request(draft, is_full);
    let metadata = metadata(draft, &wish.asked, told);
    let materials = captured.materials();
    let is_hermetic = captured.is_complete() && !captured.has_network;
    let (began, ended) = (time(moment.began_unix), time(moment.ended_unix));
    let platform = Platform::host().to_string();
    let build_config = steps.as_ref().map(super::steps::Steps::config);
    match wish.version {
        ProvenanceVersion::V1 => {
            let mut internal = json!({ "builderPlatform": platform });
            put(&mut internal, "buildConfig", build_config);
            let mut definition = json!({
                "buildType": BUILD_TYPE_1,
                "externalParameters": { "configSource": config, "request": request },
                "internalParameters": internal,
            });
            put(&mut definition, "resolvedDependencies", some(materials));
            let mut told = json!({
                "invocationId": moment.invocation, "startedOn": began, "finishedOn": ended,
                "buildkit_metadata": metadata,
                "buildkit_completeness": { "request": is_whole, "resolvedDependencies": captured.is_complete() },
            });
            put(&mut told, "buildkit_hermetic", is_hermetic.then_some(true.into()));
            put(&mut told, "buildkit_reproducible", wish.is_reproducible.then_some(true.into()));
            json!({
                "buildDefinition": definition,
                "runDetails": { "builder": { "id": wish.builder_id }, "metadata": told },
            })
        }
        ProvenanceVersion::V02 => {
            let mut config = config;
            if let Some(path) = config.as_object_mut().and_then(|config| config.remove("path")) {
                config["entryPoint"] = path;
            }
            let mut told = json!({
                "buildInvocationID": moment.invocation, "buildStartedOn": began, "buildFinishedOn": ended,
                "completeness": { "parameters": is_whole, "environment": true, "materials": captured.is_complete() },
                "reproducible": wish.is_reproducible,
                "https://mobyproject.org/buildkit@v1#metadata": metadata,
            });
            put(
                &mut told,
                "https://mobyproject.org/buildkit@v1#hermetic",
                is_hermetic.then_some(true.into()),
            );
            let mut all = json!({
                "builder": { "id": wish.builder_id },
                "buildType": BUILD_TYPE_02,
                "invocation": {
                    "configSource": config, "parameters": request, "environment": { "platform": platform },
                },
                "metadata": told,
            });
            put(&mut all, "materials", some(materials));
            put(&mut all, "buildConfig", build_config);
            all
        }
    }
}

/// Returns where the frontend found its file, what it was asked for, and whether that is all.
fn request(draft: &Draft, is_full: bool) -> (Value, Value, bool) {
    let asked = &draft.wish.asked;
    let mut args: BTreeMap<&str, String> = BTreeMap::new();
    let mut is_whole = !asked.frontend.is_empty();
    for (name, value) in &asked.args {
        if OF_HOST.contains(&name.as_str()) || name.starts_with("attest:") {
            continue;
        }
        let own = name.strip_prefix("build-arg:").or_else(|| name.strip_prefix("label:"));
        if own.is_some() && !is_full {
            is_whole = false;
            continue;
        }
        let is_secret = own.is_some_and(rb_llb::is_secret);
        is_whole &= !is_secret;
        args.insert(name, if is_secret { STRUCK.to_owned() } else { without_credentials(value) });
    }
    let mut config = Map::new();
    let key = args.get("contextkey").cloned().unwrap_or_else(|| "context".to_owned());
    if let Some(address) = args.remove(key.as_str()) {
        let known = draft.captured.config(&address);
        let known = known.unwrap_or_else(|| json!({ "uri": address }));
        config.extend(known.as_object().cloned().unwrap_or_default());
    }
    if let Some(path) = args.remove("filename") {
        config.insert("path".to_owned(), path.into());
    }
    let mut request = json!({});
    put(&mut request, "frontend", (!asked.frontend.is_empty()).then(|| asked.frontend.clone().into()));
    put(&mut request, "args", (!args.is_empty()).then(|| json!(args)));
    let folders = draft.captured.folders.iter().map(|name| json!({ "name": name }));
    put(&mut request, "locals", some(folders.collect()));
    if is_full {
        put(&mut request, "secrets", some(ids(&draft.captured.secret_ids)));
        put(&mut request, "ssh", some(ids(&draft.captured.agents)));
    }
    (config.into(), request, is_whole)
}

fn ids(ids: &BTreeMap<String, bool>) -> Vec<Value> {
    let told = |(id, is_optional): (&String, &bool)| match is_optional {
        true => json!({ "id": id, "optional": true }),
        false => json!({ "id": id }),
    };
    ids.iter().map(told).collect()
}

/// Returns what only BuildKit's builds have.
fn metadata(draft: &Draft, asked: &AskedBuild, told: &Told<'_>) -> Value {
    let mut metadata = json!({});
    let vcs: Map<String, Value> = asked
        .args
        .iter()
        .filter_map(|(name, value)| {
            Some((name.strip_prefix("vcs:")?.to_owned(), without_credentials(value).into()))
        })
        .collect();
    put(&mut metadata, "vcs", (!vcs.is_empty()).then(|| vcs.into()));
    let Some(steps) = &draft.steps else { return metadata };
    put(&mut metadata, "source", steps.source().cloned());
    let layers = layers(draft, told.layers.unwrap_or_default());
    put(&mut metadata, "layers", (!layers.is_empty()).then(|| layers.into()));
    metadata
}

/// Returns the layers of the steps that the image is a chain of, as far as their numbers are known.
fn layers(draft: &Draft, layers: &[Descriptor]) -> Map<String, Value> {
    let mut told = Map::new();
    let Some(steps) = &draft.steps else { return told };
    let listed = |count: usize| -> Value {
        let layer = |layer: &Descriptor| json!({ "mediaType": layer.media_type(), "digest": layer.digest(), "size": layer.size() });
        json!([layers.iter().take(count).map(layer).collect::<Vec<_>>()])
    };
    let mut tell = |(vertex, index): &(rb_oci::Digest, u32), count: usize| {
        if let Some(step) = steps.called(vertex).filter(|_| count > 0 && count <= layers.len()) {
            told.insert(format!("{step}:{index}"), listed(count));
        }
    };
    // Where a layer was left out because it is empty, the numbers of those below say nothing.
    let is_known = draft.depths.first().is_some_and(|(_, depth)| *depth == Some(layers.len()));
    for (output, depth) in draft.depths.iter().filter(|_| is_known) {
        depth.iter().for_each(|depth| tell(output, *depth));
    }
    steps.root.iter().for_each(|root| tell(root, layers.len()));
    told
}

fn put(object: &mut Value, name: &str, value: Option<Value>) {
    if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
        object.insert(name.to_owned(), value);
    }
}

fn some(values: Vec<Value>) -> Option<Value> {
    (!values.is_empty()).then(|| values.into())
}

fn time(unix: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or_default());
    humantime::format_rfc3339_seconds(at).to_string()
}
