//! `rb compile --frontend dockerfile`: what the Dockerfile frontend would send to an engine, as JSON.
//!
//! Nothing is built and no registry is asked: images are made up by the rule of [`RecordingGateway`]. The JSON has the shape
//! of BuildKit's own requests, so that the two can be compared.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rb_diag::SourceMap;
use rb_dockerfile::{Finding, Options, Planned, PlannedImage, plan};
use rb_frontend::{Asked, RecordingGateway};
use rb_llb::{Definition, Op, to_json};
use serde_json::{Map, Value, json};

use crate::args::{CompileArgs, ResolverChoice};
use crate::report::{self, Failure};
use crate::settings::Settings;

/// What an engine would call the session.
const SESSION: &str = "SESSION";

/// Prints what would be asked of an engine.
pub(super) fn execute(settings: &Settings, compile: &CompileArgs) -> Result<u8, Failure> {
    let [folder] = compile.words.as_slice() else {
        let help = Some("write `rb compile --frontend dockerfile [--opt NAME=VALUE]... DIR`".to_owned());
        return Err(Failure::input("one folder is the context of a Dockerfile", help));
    };
    let folder: PathBuf = settings.cwd.join(folder);
    let sources = SourceMap::default();
    let failed = |items| Failure::Diagnostics { items, sources: sources.clone() };
    let ResolverChoice::Golden = compile.resolver;
    let pairs: BTreeMap<String, String> = compile.opt.iter().cloned().collect();
    let start = Options { session: Some(SESSION.to_owned()), ..Options::default() };
    let options = Options::read(&pairs, start).map_err(failed)?;
    let read = move |_: &str, path: &str| std::fs::read(folder.join(path)).ok();
    let gateway = RecordingGateway::new(sources.clone(), Box::new(read));
    let threads = tokio::runtime::Builder::new_current_thread().build();
    let threads = threads.map_err(|error| Failure::environment("no thread can be started", &error))?;
    let planned = threads.block_on(plan(&gateway, &options, &sources)).map_err(failed)?;
    let told = requests(&planned, gateway.asked(), &options, &sources)?;
    report::print(format!("{told:#}\n").as_bytes())?;
    Ok(0)
}

/// Returns what would be asked.
fn requests(
    planned: &Planned,
    asked: Asked,
    options: &Options,
    sources: &SourceMap,
) -> Result<Value, Failure> {
    let mut requests = Vec::new();
    for definition in &asked.solved {
        requests.push(request(&purpose(definition)?, definition)?);
    }
    let (mut metadata, mut refs, mut platforms) = (Map::new(), Map::new(), Vec::new());
    for image in &planned.images {
        let definition = image.state.marshal(sources)?;
        let request = request("build", &definition)?;
        let id = if options.multi_platform { image.platform.to_string() } else { String::new() };
        refs.insert(id.clone(), request["head"].clone());
        requests.push(request);
        add_metadata(&mut metadata, &id, image);
        platforms.push(json!({ "ID": image.platform.to_string(), "Platform": image.platform }));
    }
    metadata.insert("refs.platforms".to_owned(), json!({ "Platforms": platforms }));
    let resolved = asked.images.iter().map(|((identifier, platform), digest)| {
        json!({ "identifier": identifier, "platform": platform.to_string(), "digest": digest.to_string(),
                "resolveMode": options.resolve_mode.as_str() })
    });
    let warnings = planned.findings.iter().map(|finding| warning(finding, sources));
    Ok(json!({
        "requests": requests,
        "refs": refs,
        "metadata": metadata,
        "warnings": warnings.collect::<Vec<_>>(),
        "resolved": resolved.collect::<Vec<_>>(),
    }))
}

/// Says what is read of a tree.
fn purpose(definition: &Definition) -> Result<String, Failure> {
    let graph = definition.graph()?;
    let root = graph.root().map(|root| &graph.vertex(&root.vertex).op);
    Ok(match root {
        Some(Op::Source(source)) => match source.scheme() {
            ("local", name) => format!("read local {name}"),
            _ => format!("read {}", source.identifier),
        },
        Some(_) | None => "read".to_owned(),
    })
}

fn request(purpose: &str, definition: &Definition) -> Result<Value, Failure> {
    let graph = definition.graph()?;
    let Value::Array(ops) = to_json(&graph) else { return Ok(Value::Null) };
    let op = |mut op: Value| json!({ "Digest": op["Digest"].take(), "Op": op["Op"].take(), "OpMetadata": op["Metadata"].take() });
    let locations: Map<String, Value> = definition
        .sources
        .locations
        .iter()
        .map(|(digest, places)| {
            let place = |place: &rb_llb::Location| {
                let position = |at: rb_llb::Position| json!({ "line": at.line, "character": at.character });
                let range =
                    |range: &rb_llb::Range| json!({ "start": position(range.start), "end": position(range.end) });
                json!({ "ranges": place.ranges.iter().map(range).collect::<Vec<_>>() })
            };
            (digest.to_string(), json!({ "locations": places.iter().map(place).collect::<Vec<_>>() }))
        })
        .collect();
    Ok(json!({
        "purpose": purpose,
        "head": graph.root().map(|root| root.vertex.to_string()),
        "ops": ops.into_iter().map(op).collect::<Vec<_>>(),
        "source": { "locations": locations },
    }))
}

fn add_metadata(metadata: &mut Map<String, Value>, id: &str, image: &PlannedImage) {
    let key = |name: &str| if id.is_empty() { name.to_owned() } else { format!("{name}/{id}") };
    metadata.insert(key("containerimage.config"), json!(image.config));
    if let Some(base) = &image.base {
        metadata.insert(key("containerimage.base.config"), json!(base));
    }
    if let Some(epoch) = image.epoch {
        metadata.insert(key("source.date.epoch"), json!(epoch));
    }
}

fn warning(finding: &Finding, sources: &SourceMap) -> Value {
    let line = sources.get(finding.span.source).map_or(0, |file| file.position(finding.span.start).line);
    let text = format!("{}: {} (line {line})", finding.rule.name(), finding.message);
    json!({ "level": 1, "msg": text, "url": finding.rule.url() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_shape_of_buildkits() {
        let sources = SourceMap::default();
        let read =
            |_: &str, path: &str| (path == "Dockerfile").then(|| b"FROM a\nCOPY x /\nENV A=$NONE\n".to_vec());
        let gateway = RecordingGateway::new(sources.clone(), Box::new(read));
        let pairs = [("platform".to_owned(), "linux/amd64,linux/arm64".to_owned())].into();
        let options = Options::from_map(&pairs).expect("the options are right");
        let threads = tokio::runtime::Builder::new_current_thread().build().expect("a thread");
        let planned = threads.block_on(plan(&gateway, &options, &sources)).expect("is planned");
        let told = requests(&planned, gateway.asked(), &options, &sources).expect("is told");
        let purposes: Vec<&str> = told["requests"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["purpose"].as_str())
            .collect();
        assert_eq!(purposes, ["read local dockerfile", "read local context", "build", "build"]);
        let build = &told["requests"][3];
        assert_eq!(told["refs"]["linux/arm64"], build["head"]);
        assert_eq!(
            build["ops"][0]["OpMetadata"]["description"]["llb.customname"].as_str().map(|name| &name[..19]),
            Some("[linux/arm64 1/2] F")
        );
        assert_eq!(told["metadata"]["containerimage.config/linux/arm64"]["architecture"], "arm64");
        assert_eq!(told["warnings"][0]["msg"], "UndefinedVar: Usage of undefined variable '$NONE' (line 3)");
        assert_eq!(told["resolved"].as_array().map(Vec::len), Some(2));
    }
}
