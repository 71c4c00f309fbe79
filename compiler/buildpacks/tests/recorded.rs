//! Random orders and builds: what the reference lifecycle made of them is what this crate makes of them.
//!
//! `tests/recorded` holds a case per line, each with the lifecycle's answer under `want`; `tests/peers/lifecycle/record` makes
//! them anew. `RB_RECORDED` names another folder of such files. Groups, what programs see, `metadata.toml`, bills of
//! materials and configs with their labels have to be equal, plans equal as sets: their order is by chance in the lifecycle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use rb_buildpacks::detect::{DetectRequest, DetectRun, Detection, Modules, detect};
use rb_buildpacks::environment::{
    BuildEnvironment, EnvironmentFiles, LayerEnvironment, ModulePhase, ModuleRun, RootFolder,
};
use rb_buildpacks::export::{self, AppConfig, AppLayer, AppLayers, BuiltBuildpack};
use rb_buildpacks::labels::{RunImageRecord, StoreRecord};
use rb_buildpacks::sbom::{BomEntry, legacy_sbom};
use rb_buildpacks::trials::TrialLimits;
use rb_buildpacks::{
    BaseTarget, BuildMetadata, BuildOutputs, Group, LayerFile, LayersFolder, Module, ModuleKey, ModuleKind,
    OrderFile, Plan, PlatformApi, Processes, ProjectMetadata, RunImageNames, System, escape_id, parse_store,
    read_outputs,
};
use rb_oci::{Digest, ImageConfig};
use serde_json::{Value, json};

fn cases(file: &str) -> Vec<Value> {
    let other =
        std::env::vars_os().find(|(name, _)| name == "RB_RECORDED").map(|(_, folder)| PathBuf::from(folder));
    let folder = other.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recorded"));
    let text = fs::read_to_string(folder.join(file)).expect("the recorded cases");
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a case")).collect();
    assert!(cases.len() >= 100, "there are too few cases");
    cases
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is a text"))
}

fn platform(case: &Value) -> PlatformApi {
    let version: rb_buildpacks::ApiVersion = text(case, "platform").parse().expect("a version");
    version.try_into().expect("a platform")
}

fn base() -> BaseTarget {
    let base = BaseTarget { os: "linux".into(), arch: "amd64".into(), ..BaseTarget::default() };
    base.with_os_release("ID=debian\nVERSION_ID=12\n")
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn detections() {
    let cases = cases("detect.jsonl");
    let mut codes = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        let (code, group, plan) = detected(case);
        *codes.entry(code).or_insert(0) += 1;
        let want = &case["want"];
        assert_eq!(json!(code), want["code"], "case {number}: {case}");
        if code == 0 {
            assert_eq!(json!(group), want["group"], "case {number}: {case}");
            let entries = plan_set(&json!(plan)["entries"]);
            assert_eq!(entries, plan_set(&want["plan"]["entries"]), "case {number}: {case}");
        }
    }
    // The dice are worth something only if they fall on all sides.
    assert!([0, 20, 21].iter().all(|code| codes.get(code).is_some_and(|count| *count >= 10)), "{codes:?}");
}

fn plan_set(entries: &Value) -> BTreeSet<String> {
    entries.as_array().into_iter().flatten().map(ToString::to_string).collect()
}

fn detected(case: &Value) -> (u8, Group, Plan) {
    let (mut modules, mut all_runs) = (Modules::new(), BTreeMap::new());
    for (path, file) in case["modules"].as_object().expect("modules") {
        let file = file.as_str().expect("a text").as_bytes();
        let run = &case["runs"][path];
        let module = match (path.starts_with("buildpacks/"), run.is_null()) {
            (true, true) => Module::buildpack(file, &BTreeSet::new()),
            (true, false) => Module::buildpack(file, &names(&["build", "detect"])),
            (false, _) => Module::extension(file, &names(&["detect"])),
        };
        let module = module.expect("a module");
        if let Some(code) = run["code"].as_i64() {
            let code = i32::try_from(code).expect("an exit code");
            all_runs.insert(module.key(), DetectRun { code, plan: text(run, "plan").into() });
        }
        modules.insert(module.key(), module);
    }
    let order = OrderFile::parse(text(case, "order").as_bytes()).expect("an order");
    let system = System::parse(text(case, "system").as_bytes()).expect("a system");
    let request = DetectRequest {
        platform: platform(case),
        order: &order,
        system: &system,
        modules: &modules,
        base: &base(),
        execution_environment: text(case, "execution_environment"),
        limits: TrialLimits::default(),
    };
    // Only what is asked for is told.
    let mut runs = BTreeMap::new();
    let (result, explanation) = loop {
        match detect(&request, &runs) {
            Detection::Ask(keys) => {
                assert!(keys.iter().all(|key| !runs.contains_key(key)), "asked twice");
                runs.extend(keys.into_iter().map(|key| (key.clone(), all_runs[&key].clone())));
            }
            Detection::Done { result, explanation } => break (result, explanation),
        }
    };
    assert_eq!(explanation.to_string().is_empty(), explanation.groups.is_empty());
    match result {
        Err(error) => (error.exit().code(), Group::default(), Plan::default()),
        Ok(detected) => {
            // The lifecycle's detector goes on to what extensions generate, which meets all that they are asked for.
            let mut plan = detected.plan;
            for extension in &detected.group.extensions {
                let asked = plan.of(ModuleKind::Extension, &extension.id);
                plan = plan.without(&asked.entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>());
            }
            (0, detected.group, plan)
        }
    }
}

#[test]
fn builds() {
    let mut codes = BTreeMap::new();
    for (number, case) in cases("build.jsonl").iter().enumerate() {
        let want = &case["want"];
        let made = built(case);
        *codes.entry(made["code"].as_u64()).or_insert(0) += 1;
        for (key, want) in want.as_object().expect("an answer") {
            assert_eq!(&made[key], want, "case {number}, {key}: {case}");
        }
    }
    assert!(
        [0, 52].iter().all(|code| codes.get(&Some(*code)).is_some_and(|count| *count >= 10)),
        "{codes:?}"
    );
}

#[test]
fn images() {
    let mut codes = BTreeMap::new();
    for (number, case) in cases("export.jsonl").iter().enumerate() {
        let made = exported(case);
        *codes.entry(made["code"].as_u64()).or_insert(0) += 1;
        // As texts in the labels, too.
        assert_eq!(made, case["want"], "case {number}: {case}");
    }
    assert!(codes[&Some(0)] >= 50 && codes[&Some(62)] >= 5, "{codes:?}");
}

/// Puts an image together as a platform does; which diff id each layer has is taken from the answer.
fn exported(case: &Value) -> Value {
    let build = built(case);
    assert_eq!(build["code"], 0);
    let metadata = BuildMetadata::parse(text(&build, "metadata").as_bytes()).expect("reads");
    let mut all = Vec::new();
    for element in &metadata.buildpacks {
        let left = &case["left"][&element.id];
        let (beside, inside) = layers_of(left, "");
        let mut layers = BTreeMap::new();
        for (file, text) in &beside.files {
            if let Some(name) =
                file.strip_suffix(".toml").filter(|name| !["launch", "build", "store"].contains(name))
            {
                layers.insert(name.to_owned(), LayerFile::parse(file, text).expect("reads"));
            }
        }
        for (name, layer) in layers.iter().filter(|(_, layer)| layer.launch) {
            let has_folder = inside.iter().any(|one| one.name == *name);
            if let Err(error) = rb_buildpacks::exported(name, layer, has_folder, None) {
                return json!({ "code": error.exit().code() });
            }
        }
        let store = beside.files.get("store.toml").map(|text| parse_store(text).expect("reads"));
        all.push((element, layers, store));
    }
    let buildpacks: Vec<_> = all
        .iter()
        .map(|(element, layers, store)| {
            let store = store.as_ref().map(|store| StoreRecord::new(store.as_ref()).expect("writes"));
            BuiltBuildpack { element, layers, store }
        })
        .collect();
    let order = export::layers(&AppLayers {
        buildpacks: &buildpacks,
        sbom: true,
        slices: metadata.slices.len(),
        processes: !metadata.processes.is_empty(),
    });
    let want = &case["want"]["config"];
    // There is nothing to take diff ids from where the lifecycle refuses.
    let digest = |value: &Value| value.as_str().and_then(|digest| digest.parse().ok()).expect("a digest");
    let diff_ids: Vec<Digest> =
        want["rootfs"]["diff_ids"].as_array().into_iter().flatten().map(digest).collect();
    let base = base_config(diff_ids.first().copied());
    let packed: Vec<(AppLayer, Digest)> = order.into_iter().zip(diff_ids.into_iter().skip(1)).collect();
    let names =
        RunImageNames { image: "docker.io/library/run".into(), mirrors: vec!["example.com/run".into()] };
    let top_layer = base.rootfs.diff_ids.last().map(ToString::to_string).unwrap_or_default();
    let run_image = RunImageRecord { top_layer, reference: text(case, "base").to_owned(), names };
    let entrypoint = export::entrypoint(&metadata, text(case, "process"));
    if let Err(error) = entrypoint {
        return json!({ "code": error.exit().code() });
    }
    let lifecycle = export::lifecycle_metadata(&buildpacks, &packed, run_image).expect("all are packed");
    // The version of the lifecycle is its own.
    let label = text(&want["config"]["Labels"], "io.buildpacks.build.metadata");
    let label: Value = serde_json::from_str(label).expect("JSON");
    let config = export::config(
        &base,
        &packed.iter().map(|(layer, diff_id)| (layer.created_by(), *diff_id)).collect::<Vec<_>>(),
        &AppConfig {
            platform: platform(case),
            layers_folder: "@/layers",
            app_folder: "@/app",
            execution_environment: text(case, "execution_environment"),
            process: text(case, "process"),
            created: export::EPOCH,
            build: &metadata,
            lifecycle: Some(&lifecycle),
            launcher: &serde_json::from_value(label["launcher"].clone()).expect("a launcher"),
            project: &ProjectMetadata::parse(b"[source]\ntype='git'\n[source.version]\ncommit='c'\n")
                .expect("reads"),
        },
    );
    json!({ "code": 0, "config": config.expect("a config") })
}

/// The base that `record` makes.
fn base_config(diff_id: Option<Digest>) -> ImageConfig {
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "BASE=1"], "User": "1000", "Cmd": ["sh"], "Labels": {"base": "<b>", "k": "base"}},
        "history": [{"created_by": "base", "comment": "c"}, {"created_by": "nothing", "empty_layer": true}],
        "rootfs": {"type": "layers", "diff_ids": diff_id.as_slice()},
    });
    serde_json::from_value(config).expect("a config")
}

fn files(value: &Value) -> EnvironmentFiles {
    let mut files = EnvironmentFiles::default();
    for (name, text) in value.as_object().into_iter().flatten() {
        files.insert(name, text.as_str().expect("a text").as_bytes()).expect("a file");
    }
    files
}

/// Builds as a platform does, with what buildpacks left taken from the case.
fn built(case: &Value) -> Value {
    let platform = platform(case);
    let group = Group::parse(text(case, "group").as_bytes()).expect("a group");
    let mut plan = Plan::parse(text(case, "plan").as_bytes()).expect("a plan");
    let container = case["container"].as_object().expect("variables").iter();
    let container: Vec<String> =
        container.map(|(name, value)| format!("{name}={}", value.as_str().expect("a text"))).collect();
    let mut environment = BuildEnvironment::of_container(&container);
    let (platform_files, builder_files, base) =
        (files(&case["platform_files"]), files(&case["builder_files"]), base());
    let (mut seen, mut asked, mut ignored) = (json!({}), json!({}), json!({}));
    let mut metadata = BuildMetadata { buildpacks: group.buildpacks.clone(), ..BuildMetadata::default() };
    let mut processes = Processes::default();
    let (mut launch_bom, mut build_bom): (Vec<(ModuleKey, BomEntry)>, Vec<_>) = Default::default();
    let mut sboms = BTreeMap::new();
    for element in &group.buildpacks {
        let left = &case["left"][&element.id];
        let module = text(&case["modules"], &element.id);
        let module = Module::buildpack(module.as_bytes(), &names(&["build"])).expect("a module");
        let folder = escape_id(&element.id);
        let own = plan.of(ModuleKind::Buildpack, &element.id);
        let layers = format!("@/layers/{folder}");
        seen[&element.id] = json!(environment.of_module(&ModuleRun {
            module: &module,
            module_folder: &format!("@/buildpacks/{folder}/1"),
            platform_folder: "@/platform",
            platform: &platform_files,
            builder: &builder_files,
            base: &base,
            execution_environment: text(case, "execution_environment"),
            plan_path: "plan",
            phase: ModulePhase::Build(&layers),
        }));
        asked[&element.id] = json!(own.entries);
        let code = |code: u8| json!({ "code": code, "seen": seen, "asked": asked });
        if left["exit"] != 0 {
            return code(51);
        }
        let (beside, inside) = layers_of(left, &layers);
        let outputs: BuildOutputs = match read_outputs(&module, &own, &beside) {
            Ok(outputs) => outputs,
            Err(error) => return code(error.exit().code()),
        };
        let build = |layer: &LayerEnvironment| outputs.layers.get(&layer.name).is_some_and(|file| file.build);
        environment.add(&inside.into_iter().filter(build).collect::<Vec<_>>());
        plan = plan.without(&outputs.met);
        ignored[&element.id] = json!(outputs.ignored);
        processes.add(&outputs.launch.processes);
        metadata.labels.extend(outputs.launch.labels);
        metadata.slices.extend(outputs.launch.slices);
        launch_bom.extend(outputs.launch.bom.into_iter().map(|entry| (module.key(), entry)));
        build_bom.extend(outputs.build_bom.into_iter().map(|entry| (module.key(), entry)));
        sboms.extend(outputs.sboms.into_iter().map(|copy| (copy.to, "{}".to_owned())));
    }
    metadata.processes = processes.list();
    metadata.buildpack_default_process_type = processes.default_type().unwrap_or_default().to_owned();
    for (kind, bom) in [("launch", launch_bom), ("build", build_bom)] {
        sboms.insert(format!("sbom/{kind}/sbom.legacy.json"), legacy_sbom(&bom).expect("writes"));
    }
    assert!(platform >= PlatformApi::OLDEST);
    let text = metadata.text();
    assert_eq!(BuildMetadata::parse(text.as_bytes()), Ok(metadata));
    json!({ "code": 0, "seen": seen, "asked": asked, "ignored": ignored, "metadata": text, "sboms": sboms })
}

/// Returns what lies beside the layers of a buildpack, and what lies in them.
fn layers_of(left: &Value, place: &str) -> (LayersFolder, Vec<LayerEnvironment>) {
    let mut folder = LayersFolder::default();
    let mut layers: BTreeMap<String, LayerEnvironment> = BTreeMap::new();
    for (path, content) in left.as_object().expect("files").iter().filter(|(path, _)| *path != "exit") {
        let content = content.as_str().expect("a text").as_bytes();
        let Some((name, inside)) = path.split_once('/') else {
            folder.files.insert(path.clone(), content.to_vec());
            continue;
        };
        folder.folders.insert(name.to_owned());
        let layer = layers.entry(name.to_owned()).or_default();
        (layer.name, layer.path) = (name.to_owned(), format!("{place}/{name}"));
        let (first, file) = inside.split_once('/').unwrap_or((inside, ""));
        if let Some(root) = RootFolder::ALL.into_iter().find(|root| root.name() == first) {
            layer.folders.insert(root);
        }
        match first {
            "env" => layer.both.insert(file, content).expect("a file"),
            "env.build" => layer.build.insert(file, content).expect("a file"),
            _ => {}
        }
    }
    (folder, layers.into_values().collect())
}
