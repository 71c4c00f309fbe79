//! Any text as every file and label that buildpacks and builders write: a typed error, or data that holds together.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::fuzz_target;
use rb_buildpacks::analyzed::{Analyzed, previous_metadata};
use rb_buildpacks::builder::{BUILDER_METADATA, BUILDPACK_LAYERS, BUILDPACK_ORDER, Builder, SYSTEM};
use rb_buildpacks::environment::LaunchEnvironment;
use rb_buildpacks::labels::LIFECYCLE_METADATA;
use rb_buildpacks::project::Project;
use rb_buildpacks::trials::{Candidate, TrialLimits, Tried, try_plans};
use rb_buildpacks::{
    ApiVersion, BaseTarget, BuildMetadata, BuildPlan, BuildpackPlan, CacheMetadata, Group, LaunchFile,
    LayerFile, LayersFolder, LifecycleMetadata, Module, ModuleKey, ModuleKind, OrderFile, Plan,
    ProjectMetadata, RunFile, System, parse_stack, parse_store, read_outputs,
};
use rb_oci::ImageConfig;

fuzz_target!(|text: &str| {
    let bytes = text.as_bytes();
    if let Ok(version) = text.parse::<ApiVersion>() {
        assert_eq!(version.to_string().parse(), Ok(version));
    }
    modules(bytes);
    plans(bytes);
    // What is written reads again as the same.
    if let Ok(group) = Group::parse(bytes) {
        let written = group.text().expect("a group is written");
        assert_eq!(Group::parse(written.as_bytes()), Ok(group));
    }
    if let Ok(metadata) = BuildMetadata::parse(bytes) {
        let _ = metadata.label(&Default::default()).is_ok();
        let written = metadata.text();
        let again = BuildMetadata::parse(written.as_bytes()).expect("what is written reads");
        assert_eq!(again.text(), written);
    }
    if let Ok(metadata) = LifecycleMetadata::parse(text) {
        let label = metadata.label().expect("a label is written");
        assert_eq!(LifecycleMetadata::parse(&label).expect("reads").label().expect("is written"), label);
    }
    let mut config = ImageConfig::default();
    for label in [BUILDER_METADATA, BUILDPACK_LAYERS, BUILDPACK_ORDER, SYSTEM, LIFECYCLE_METADATA] {
        config.config.labels.insert(label.to_owned(), text.to_owned());
    }
    config.config.env = vec!["CNB_USER_ID=1".to_owned(), "CNB_GROUP_ID=1".to_owned()];
    let _ = (Builder::of_image(&config).is_ok(), previous_metadata(&config).is_some());
    let _ =
        (CacheMetadata::parse(text).is_ok(), Analyzed::parse(bytes).is_ok(), RunFile::parse(bytes).is_ok());
    let _ = (OrderFile::parse(bytes).is_ok(), System::parse(bytes).is_ok(), parse_stack(bytes).is_ok());
    let _ = ProjectMetadata::parse(bytes).is_ok_and(|project| project.label().is_ok());
    drop(BaseTarget::default().with_os_release(text).variables());
    let _ = LaunchEnvironment::default().add_program(bytes).is_ok();
    if let Ok(project) = Project::parse(bytes) {
        assert!(project.include.is_none() || project.exclude.is_none());
    }
});

/// A module's folder is a name, and what a buildpack leaves is read in every API.
fn modules(bytes: &[u8]) {
    let programs = BTreeSet::from(["build".to_owned()]);
    let _ = Module::extension(bytes, &programs).is_ok();
    if let Ok(module) = Module::buildpack(bytes, &programs) {
        let folder = rb_buildpacks::escape_id(&module.info.id);
        assert!(!folder.contains('/') && folder != ".." && folder != "." && !folder.is_empty());
        assert!(!module.info.version.contains('/') && module.info.version != "..");
    }
    for api in ["0.7", "0.8", "0.9", "0.12"] {
        let _ = LaunchFile::parse(bytes, api.parse().expect("supported"), "a").is_ok();
        let head = format!("api='{api}'\n[buildpack]\nid='a'\nversion='1'\n");
        let module = Module::buildpack(head.as_bytes(), &programs).expect("a module");
        for name in ["launch.toml", "build.toml", "a.toml"] {
            let files = BTreeMap::from([(name.to_owned(), bytes.to_vec())]);
            let folder = LayersFolder { files, folders: BTreeSet::new() };
            let _ = read_outputs(&module, &BuildpackPlan::default(), &folder).is_ok();
        }
    }
    let _ = parse_store(bytes).is_ok();
    if let Ok(layer) = LayerFile::parse("a.toml", bytes) {
        let text = layer.restored_text().expect("metadata is written");
        let again = LayerFile::parse("a.toml", text.as_bytes()).expect("reads again");
        assert!(again.is_ignored());
    }
}

/// Trials end within their limits, and what fits is asked for and offered.
fn plans(bytes: &[u8]) {
    let _ = Plan::parse(bytes).is_ok();
    let _ = BuildPlan::parse(bytes, ModuleKind::Extension).is_ok();
    let Ok(plan) = BuildPlan::parse(bytes, ModuleKind::Buildpack) else { return };
    let keys = ["a", "b"].map(|id| ModuleKey::buildpack(id, "1"));
    let candidates = [
        Candidate { key: &keys[0], optional: false, plan: &plan },
        Candidate { key: &keys[1], optional: true, plan: &plan },
    ];
    let limits = TrialLimits { trials: 1000, entries: 100_000, kept: 3 };
    if let Tried::Fits { stay, plan, .. } = try_plans(&candidates, limits) {
        assert!(stay.contains(&0));
        assert!(plan.entries.iter().all(|entry| !entry.providers.is_empty() && !entry.requires.is_empty()));
    }
}
