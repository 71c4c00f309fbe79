//! `rb pack inspect`, `builder inspect`, `buildpack inspect`, `extension inspect`.
//!
//! In: the name of an image, here and in its registry; of a module a file or folder, too. Out: what its labels say, for people
//! or, with the keys that pack's output has, for programs.

use std::fmt::Write as _;

use rb_buildpacks::builder::{BUILDER_METADATA, Builder, ModuleLayer};
use rb_buildpacks::labels::{
    BUILD_METADATA, LIFECYCLE_METADATA, LifecycleMetadata, REBASABLE, RunImageNames,
};
use rb_buildpacks::{ModuleInfo, ModuleKey, ModuleKind, Order, OrderElement};
use rb_engine::{EngineError, ImageDetails, Place};
use rb_oci::{ImageConfig, Platform};
use serde_json::{Map, Value, json};

use super::super::image::about;
use super::super::record::Asked;
use super::super::scratch::Scratch;
use super::super::workbench::Workbench;
use super::images::{Images, reference};
use super::modules::{Finder, PackedModule};
use super::phases::cleaned;
use super::show::structured;
use super::{config, registry};
use crate::args::{BuilderInspect, ModuleInspect, PackFormat, PackInspect, PackPull, PackPulls};
use crate::environment::Environment;
use crate::report::{self, Failure};
use crate::settings::Settings;

/// How deep composites may lie in one another.
const DEEPEST: usize = 64;
/// Members of orders that are shown: composites that name one another twice have no end of them.
const MOST_MEMBERS: usize = 10_000;

/// An image, in its registry and here.
struct Both {
    remote: Result<ImageDetails, Failure>,
    local: Result<ImageDetails, Failure>,
}

impl Both {
    fn find(bench: &Workbench, name: &str) -> Result<Self, Failure> {
        let bare = name.strip_prefix("docker://").unwrap_or(name);
        let platform = Platform::host();
        let look = |place: Place| {
            let platform = platform.clone();
            async move {
                let found = bench.engine.details_of(&place, &platform).await;
                Ok(found.map_err(|error: EngineError| about(name, error)))
            }
        };
        let local = bench.run(look(Place::Store(bare.to_owned())))?;
        let remote = bench.run(look(Place::Registry(reference(bare)?)))?;
        // What is in neither place is told as the registry tells it.
        match (remote, local) {
            (Err(error), Err(_)) => Err(error),
            (remote, local) => Ok(Self { remote, local }),
        }
    }

    /// Returns what is said of each side, or why nothing is; one side at least says something.
    fn told<T>(
        &self,
        tell: impl Fn(&ImageConfig) -> Result<T, Failure>,
    ) -> Result<[Result<T, String>; 2], Failure> {
        let mut first = None;
        let [remote, local] = [&self.remote, &self.local].map(|found| match found {
            Ok(details) => tell(&details.config).map_err(|error| {
                let message = error.message();
                first.get_or_insert(error);
                message
            }),
            Err(error) => Err(error.message()),
        });
        match first {
            Some(error) if remote.is_err() && local.is_err() => Err(error),
            _ => Ok([remote, local]),
        }
    }
}

/// Prints both sides: as one value for programs, one after the other for people.
fn print(
    name: (&str, &str),
    sides: [Result<Value, String>; 2],
    format: PackFormat,
    people: impl Fn(&Value) -> String,
) -> Result<u8, Failure> {
    let [remote, local] = &sides;
    let value = json!({
        name.0: name.1,
        "remote_info": remote.as_ref().ok(),
        "local_info": local.as_ref().ok(),
    });
    if let Some(text) = structured(&value, format)? {
        return report::print(text.as_bytes()).map(|()| 0);
    }
    let mut out = format!("{}\n", name.1);
    for (title, side) in ["REMOTE:", "LOCAL:"].iter().zip(&sides) {
        match side {
            Ok(value) => write!(out, "\n{title}\n{}", cleaned(&people(value))),
            Err(reason) => write!(out, "\n{title}\n(not present: {reason})\n"),
        }
        .expect("a text takes all");
    }
    report::print(out.as_bytes()).map(|()| 0)
}

/// Asks a registry once: what it says is shown beside what is here, and so is that it cannot be reached.
fn ask_once(settings: &mut Settings) {
    settings.registry.tries = Some(1);
}

/// Looks into an app's image.
pub(super) fn image(mut settings: Settings, args: &PackInspect) -> Result<u8, Failure> {
    ask_once(&mut settings);
    let bench = Workbench::open(&settings, Asked::of("pack", format!("inspect {}", args.image)), None)?;
    let both = Both::find(&bench, &args.image)?;
    let code = if args.bom {
        let bom = |config: &ImageConfig| Ok(label(config, BUILD_METADATA)?["bom"].clone());
        let [remote, local] = both.told(bom)?;
        let value = json!({ "remote": remote.ok(), "local": local.ok() });
        // For people JSON is as good as anything.
        let format = if args.output == PackFormat::HumanReadable { PackFormat::Json } else { args.output };
        let text = structured(&value, format)?.unwrap_or_default();
        report::print(text.as_bytes()).map(|()| 0)
    } else {
        print(("image_name", &args.image), both.told(app)?, args.output, app_for_people)
    };
    bench.close();
    code
}

/// Reads a label of JSON.
fn label(config: &ImageConfig, name: &str) -> Result<Value, Failure> {
    let text = config.config.labels.get(name).ok_or_else(|| {
        let message = format!("the image has no label `{name}`: buildpacks did not build it");
        Failure::input(message, None)
    })?;
    serde_json::from_str(text)
        .map_err(|error| Failure::input(format!("label {name} cannot be read: {error}"), None))
}

fn app(config: &ImageConfig) -> Result<Value, Failure> {
    let text = config.config.labels.get(LIFECYCLE_METADATA).ok_or_else(|| {
        let message = format!("the image has no label `{LIFECYCLE_METADATA}`: buildpacks did not build it");
        Failure::input(message, None)
    })?;
    let metadata = LifecycleMetadata::parse(text).map_err(|error| Failure::input(error.to_string(), None))?;
    let build = label(config, BUILD_METADATA)?;
    let names = Some(&metadata.run_image.names).filter(|names| !names.image.is_empty());
    let names = names.or(metadata.stack.as_ref().map(|stack| &stack.run_image));
    let modules = |key: &str| -> Vec<Value> {
        let all = build[key].as_array().into_iter().flatten();
        let one = |module: &Value| {
            let kept = ["id", "version", "homepage"].iter().filter(|key| module[**key].is_string());
            Value::Object(kept.map(|key| ((*key).to_owned(), module[*key].clone())).collect())
        };
        all.map(one).collect()
    };
    let mut told = Map::new();
    let stack = config.config.labels.get("io.buildpacks.stack.id").cloned().unwrap_or_default();
    told.insert("stack".into(), stack.into());
    let base = &metadata.run_image;
    told.insert("base_image".into(), json!({ "top_layer": base.top_layer, "reference": base.reference }));
    told.insert("run_images".into(), names.map(run_images).unwrap_or_default().into());
    told.insert("buildpacks".into(), modules("buildpacks").into());
    if build["extensions"].is_array() {
        told.insert("extensions".into(), modules("extensions").into());
    }
    told.insert("processes".into(), processes(config, &build).into());
    let rebasable = config.config.labels.get(REBASABLE).is_none_or(|value| value != "false");
    told.insert("rebasable".into(), rebasable.into());
    Ok(Value::Object(told))
}

fn run_images(names: &RunImageNames) -> Vec<Value> {
    let all = std::iter::once(&names.image).chain(&names.mirrors);
    all.filter(|name| !name.is_empty()).map(|name| json!({ "name": name })).collect()
}

/// Returns what an app can start, what it starts by default first.
fn processes(config: &ImageConfig, build: &Value) -> Vec<Value> {
    let entrypoint = config.config.entrypoint.as_ref().and_then(|words| words.first());
    let default = entrypoint.and_then(|path| path.strip_prefix("/cnb/process/"));
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    };
    let one = |process: &Value| {
        let command = match &process["command"] {
            Value::String(text) => vec![text.clone()],
            list => texts(list),
        };
        let mut words = command.into_iter();
        let first = words.next().unwrap_or_default();
        let args: Vec<String> = words.chain(texts(&process["args"])).collect();
        let is_direct = process["direct"].as_bool().unwrap_or_default();
        json!({
            "type": process["type"],
            "shell": if is_direct { "" } else { "bash" },
            "command": first,
            "default": default.is_some_and(|default| process["type"] == default),
            "args": args,
            "working-dir": process["working-dir"].as_str().unwrap_or_default(),
        })
    };
    let mut all: Vec<Value> = build["processes"].as_array().into_iter().flatten().map(one).collect();
    all.sort_by_key(|process| process["default"] != true);
    all
}

fn texts_of<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn app_for_people(value: &Value) -> String {
    let mut out = String::new();
    let base = &value["base_image"];
    if !texts_of(value, "stack").is_empty() {
        out.push_str(&format!("\nStack: {}\n", texts_of(value, "stack")));
    }
    out.push_str(&format!(
        "\nBase Image:\n  Reference: {}\n  Top Layer: {}\n",
        texts_of(base, "reference"),
        texts_of(base, "top_layer")
    ));
    out.push_str("\nRun Images:\n");
    list(&mut out, &value["run_images"], |one| texts_of(one, "name").to_owned());
    out.push_str(&format!("\nRebasable: {}\n", value["rebasable"]));
    out.push_str("\nBuildpacks:\n");
    list(&mut out, &value["buildpacks"], module_line);
    if value["extensions"].is_array() {
        out.push_str("\nExtensions:\n");
        list(&mut out, &value["extensions"], module_line);
    }
    out.push_str("\nProcesses:\n");
    list(&mut out, &value["processes"], |one| {
        let default = if one["default"] == true { " (default)" } else { "" };
        let args = one["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let words: Vec<&str> = std::iter::once(texts_of(one, "command")).chain(args).collect();
        format!("{}{default}: {}", texts_of(one, "type"), words.join(" "))
    });
    out
}

fn list(out: &mut String, items: &Value, line: impl Fn(&Value) -> String) {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        out.push_str("  (none)\n");
    }
    items.iter().for_each(|item| out.push_str(&format!("  {}\n", line(item))));
}

fn module_line(module: &Value) -> String {
    let (id, version) = (texts_of(module, "id"), texts_of(module, "version"));
    let homepage = texts_of(module, "homepage");
    let homepage = if homepage.is_empty() { String::new() } else { format!("  {homepage}") };
    format!("{id}@{version}{homepage}")
}

/// Looks into a builder.
pub(super) fn builder(mut settings: Settings, args: &BuilderInspect) -> Result<u8, Failure> {
    ask_once(&mut settings);
    let bench = Workbench::open(&settings, Asked::of("pack", format!("inspect {}", args.name)), None)?;
    let both = Both::find(&bench, &args.name)?;
    let depth = depth_of(args.depth);
    let sides = both.told(|config| of_builder(config, depth))?;
    let code = print(("builder_name", &args.name), sides, args.output, builder_for_people);
    bench.close();
    code
}

fn depth_of(depth: Option<i64>) -> usize {
    depth.and_then(|depth| usize::try_from(depth).ok()).unwrap_or(DEEPEST).min(DEEPEST)
}

fn of_builder(config: &ImageConfig, depth: usize) -> Result<Value, Failure> {
    let wrong = |error| Failure::input(rb_diag::chain(&error), None);
    let builder = Builder::of_image(config).map_err(wrong)?;
    let said = label(config, BUILDER_METADATA)?;
    let infos = |all: &[ModuleInfo]| -> Vec<Value> {
        all.iter().map(|info| serde_json::to_value(info).unwrap_or_default()).collect()
    };
    let order = |order: &Order, kind| detection_order(order, kind, &builder, depth);
    let apis = &builder.metadata.lifecycle.apis;
    let versions = |apis: &rb_buildpacks::builder::SupportedApis| {
        let texts = |all: &[rb_buildpacks::ApiVersion]| -> Vec<String> {
            all.iter().map(ToString::to_string).collect()
        };
        json!({ "deprecated": texts(&apis.deprecated), "supported": texts(&apis.supported) })
    };
    let run_images: Vec<Value> = builder.run_images().iter().flat_map(run_images).collect();
    let mut told = json!({
        "description": builder.metadata.description,
        "created_by": said["createdBy"],
        "lifecycle": {
            "version": builder.metadata.lifecycle.version,
            "buildpack_apis": versions(&apis.buildpack),
            "platform_apis": versions(&apis.platform),
        },
        "run_images": run_images,
        "buildpacks": infos(&builder.metadata.buildpacks),
        "detection_order": order(&builder.order.order, ModuleKind::Buildpack),
    });
    if !builder.metadata.extensions.is_empty() {
        told["extensions"] = infos(&builder.metadata.extensions).into();
        told["order_extensions"] = order(&builder.order.order_extensions, ModuleKind::Extension).into();
    }
    if let Some(stack) = config.config.labels.get("io.buildpacks.stack.id") {
        told["stack"] = json!({ "id": stack });
    }
    Ok(told)
}

/// Returns an order with what composites in it stand for, to a depth.
fn detection_order(order: &Order, kind: ModuleKind, builder: &Builder, depth: usize) -> Vec<Value> {
    let find = |one: &OrderElement| {
        let fits = |key: &ModuleKey| {
            key.kind == kind && key.id == one.id && (one.version.is_empty() || key.version == one.version)
        };
        builder.modules.iter().find(|(key, _)| fits(key))
    };
    groups(order, &find, depth, &mut (Vec::new(), MOST_MEMBERS))
}

fn groups<'m>(
    order: &Order,
    find: &dyn Fn(&OrderElement) -> Option<(&'m ModuleKey, &'m ModuleLayer)>,
    depth: usize,
    (above, left): &mut (Vec<ModuleKey>, usize),
) -> Vec<Value> {
    if depth == 0 {
        return Vec::new();
    }
    let mut all = Vec::new();
    for group in order {
        let mut members = Vec::new();
        for one in &group.group {
            let Some(rest) = left.checked_sub(1) else { return all };
            *left = rest;
            let mut told = json!({ "id": one.id });
            let found = find(one);
            let version = found.map_or(one.version.as_str(), |(key, _)| key.version.as_str());
            if !version.is_empty() {
                told["version"] = version.into();
            }
            if one.optional {
                told["optional"] = true.into();
            }
            if let Some((key, layer)) = found.filter(|(_, layer)| !layer.order.is_empty()) {
                if above.contains(key) {
                    told["cyclic"] = true.into();
                } else {
                    above.push(key.clone());
                    let mut state = (std::mem::take(above), *left);
                    let below = groups(&layer.order, find, depth - 1, &mut state);
                    (*above, *left) = state;
                    above.pop();
                    if !below.is_empty() {
                        told["buildpacks"] = below.into();
                    }
                }
            }
            members.push(told);
        }
        all.push(json!({ "buildpacks": members }));
    }
    all
}

fn builder_for_people(value: &Value) -> String {
    let mut out = String::new();
    if !texts_of(value, "description").is_empty() {
        out.push_str(&format!("\nDescription: {}\n", texts_of(value, "description")));
    }
    let made = &value["created_by"];
    out.push_str(&format!(
        "\nCreated By:\n  Name: {}\n  Version: {}\n",
        texts_of(made, "name"),
        texts_of(made, "version")
    ));
    if let Some(stack) = value["stack"]["id"].as_str() {
        out.push_str(&format!("\nStack:\n  ID: {stack}\n"));
    }
    let lifecycle = &value["lifecycle"];
    out.push_str(&format!("\nLifecycle:\n  Version: {}\n", texts_of(lifecycle, "version")));
    for (title, key) in [("Buildpack APIs", "buildpack_apis"), ("Platform APIs", "platform_apis")] {
        for kind in ["deprecated", "supported"] {
            let texts: Vec<&str> =
                lifecycle[key][kind].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let texts = if texts.is_empty() { "(none)".to_owned() } else { texts.join(", ") };
            out.push_str(&format!("  {title}, {kind}: {texts}\n"));
        }
    }
    out.push_str("\nRun Images:\n");
    list(&mut out, &value["run_images"], |one| texts_of(one, "name").to_owned());
    out.push_str("\nBuildpacks:\n");
    list(&mut out, &value["buildpacks"], module_line);
    out.push_str("\nDetection Order:\n");
    tree(&mut out, &value["detection_order"], 1);
    if value["extensions"].is_array() {
        out.push_str("\nExtensions:\n");
        list(&mut out, &value["extensions"], module_line);
        out.push_str("\nDetection Order (Extensions):\n");
        tree(&mut out, &value["order_extensions"], 1);
    }
    out
}

fn tree(out: &mut String, groups: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    for (number, group) in groups.as_array().into_iter().flatten().enumerate() {
        out.push_str(&format!("{indent}Group #{}:\n", number + 1));
        for member in group["buildpacks"].as_array().into_iter().flatten() {
            let version = texts_of(member, "version");
            let at = if version.is_empty() { "" } else { "@" };
            let optional = if member["optional"] == true { " (optional)" } else { "" };
            let cyclic = if member["cyclic"] == true { " (cyclic)" } else { "" };
            let id = texts_of(member, "id");
            out.push_str(&format!("{indent}  {id}{at}{version}{optional}{cyclic}\n"));
            tree(out, &member["buildpacks"], depth + 2);
        }
    }
}

/// Looks into a module: a package, as an image or a file, or a folder.
pub(super) fn module(
    environment: &Environment,
    settings: &Settings,
    args: &ModuleInspect,
    kind: ModuleKind,
) -> Result<u8, Failure> {
    let registry = registry::chosen(&config::read(environment)?, args.buildpack_registry.as_deref())?;
    let scratch = Scratch::new()?;
    let bench = Workbench::open(settings, Asked::of("pack", format!("inspect {}", args.name)), None)?;
    let pulls = PackPulls { pull_policy: Some(PackPull::IfNotPresent), ..PackPulls::default() };
    let images = Images::new(&bench, false, &pulls);
    let platform = Platform::host();
    let (base, platform, registry) = (settings.cwd.as_path(), &platform, registry.as_ref());
    let finder = Finder { bench: &bench, images, base, platform, scratch: &scratch, settings, registry };
    let (main, others) = finder.module(kind, &args.name, "")?;
    let text = module_text(&args.name, &main, &others, depth_of(args.depth));
    bench.close();
    report::print(text.as_bytes()).map(|()| 0)
}

fn module_text(name: &str, main: &PackedModule, others: &[PackedModule], depth: usize) -> String {
    let all: Vec<&PackedModule> = std::iter::once(main).chain(others).collect();
    let descriptor = &main.descriptor;
    let mut out = format!("{name}\n\n{}: {}\n", descriptor.kind, descriptor.key());
    out.push_str(&format!("API: {}\n", descriptor.api));
    for (title, text) in [
        ("Name", &descriptor.info.name),
        ("Description", &descriptor.info.description),
        ("Homepage", &descriptor.info.homepage),
    ] {
        if !text.is_empty() {
            out.push_str(&format!("{title}: {text}\n"));
        }
    }
    let targets = descriptor.targets.iter().map(|target| {
        let distros = target.distros.iter().map(|one| format!(" {} {}", one.name, one.version));
        format!("  {}/{}{}\n", target.os, target.arch, distros.collect::<String>())
    });
    let targets: String = targets.collect();
    if !targets.is_empty() {
        out.push_str(&format!("\nTargets:\n{targets}"));
    }
    if !descriptor.stacks.is_empty() {
        out.push_str("\nStacks:\n");
        descriptor.stacks.iter().for_each(|stack| out.push_str(&format!("  {}\n", stack.id)));
    }
    out.push_str("\nModules:\n");
    all.iter().for_each(|one| out.push_str(&format!("  {}\n", one.descriptor.key())));
    if !descriptor.order.is_empty() {
        let layers: Vec<(ModuleKey, Order)> =
            all.iter().map(|one| (one.descriptor.key(), one.descriptor.order.clone())).collect();
        out.push_str("\nDetection Order:\n");
        order_lines(&mut out, &descriptor.order, &layers, depth, (1, &mut { MOST_MEMBERS }));
    }
    out
}

fn order_lines(
    out: &mut String,
    order: &Order,
    all: &[(ModuleKey, Order)],
    depth: usize,
    (at, left): (usize, &mut usize),
) {
    if depth == 0 {
        return;
    }
    let indent = "  ".repeat(at);
    for (number, group) in order.iter().enumerate() {
        out.push_str(&format!("{indent}Group #{}:\n", number + 1));
        for one in &group.group {
            let optional = if one.optional { " (optional)" } else { "" };
            out.push_str(&format!("{indent}  {}@{}{optional}\n", one.id, one.version));
            let Some(rest) = left.checked_sub(1) else { return };
            *left = rest;
            let fits = |key: &ModuleKey| key.id == one.id && key.version == one.version;
            if let Some((_, below)) = all.iter().find(|(key, _)| fits(key)) {
                // A package whose orders lead in circles ends at the depth.
                order_lines(out, below, all, depth - 1, (at + 2, &mut *left));
            }
        }
    }
}
