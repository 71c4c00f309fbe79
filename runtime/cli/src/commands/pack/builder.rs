//! `rb pack builder create` and `suggest`.
//!
//! In: a `builder.toml`. Out: a builder: the image that builds run in, with layers of folders, of the lifecycle, of each module
//! and of the files that say what is tried. Two that are made of the same have the same digest.
//! Source: distribution spec, "Builder"; what pack makes of the same file.

use std::collections::BTreeSet;
use std::path::Path;

use rb_buildpacks::distribution::{
    BuilderFile, BuilderLabels, DEFAULT_LIFECYCLE, Descriptor, ModuleSource, checks, environment_files,
    order_text, release, run_text, stack_text, system_text,
};
use rb_buildpacks::{ModuleKind, OrderFile};
use rb_engine::ImageDetails;
use rb_exporters::{GoEntry, GoKind, ImageOptions};
use rb_oci::{ImageConfig, Platform};

use super::super::record::Asked;
use super::super::scratch::Scratch;
use super::super::workbench::Workbench;
use super::images::{Images, allow_insecure, delivery};
use super::layers::Layers;
use super::modules::{Finder, PackedModule};
use super::{CREATED, config, document, registry, targets};
use crate::args::BuilderCreate;
use crate::environment::Environment;
use crate::progress::terminal_columns;
use crate::report::{self, Failure};
use crate::settings::{ProgressMode, Settings};

/// Folders of every builder: those of whom builds run as, and root's.
const OWN_FOLDERS: [&str; 2] = ["/workspace", "/layers"];
const FOLDERS: [&str; 7] = [
    "/cnb",
    "/cnb/buildpacks",
    "/cnb/extensions",
    "/platform",
    "/platform/env",
    "/cnb/build-config",
    "/cnb/build-config/env",
];

/// Builders that others make and publish, and what they are for.
const SUGGESTED: [(&str, &str); 5] = [
    ("docker.io/heroku/builder:24", "Go, Java, Node.js, PHP, Python, Ruby, Scala, .NET on Ubuntu 24.04"),
    ("docker.io/paketobuildpacks/builder-jammy-base", "most languages on Ubuntu 22.04"),
    ("docker.io/paketobuildpacks/builder-jammy-full", "the same, with more of the system's libraries"),
    ("docker.io/paketobuildpacks/builder-jammy-tiny", "Go and native Java, on a base without a shell"),
    ("docker.io/paketobuildpacks/ubuntu-noble-builder", "most languages on Ubuntu 24.04"),
];

/// Returns the names of builders that others make: pack trusts them.
pub(super) fn suggested() -> [&'static str; SUGGESTED.len()] {
    SUGGESTED.map(|(name, _)| name)
}

/// Names builders of others.
pub(super) fn suggest() -> Result<u8, Failure> {
    let width = SUGGESTED.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = SUGGESTED.iter().map(|(name, what)| format!("{name:width$}  {what}\n"));
    report::print(lines.collect::<String>().as_bytes()).map(|()| 0)
}

/// Makes a builder.
pub(super) fn create(
    environment: &Environment,
    mut settings: Settings,
    args: &BuilderCreate,
) -> Result<u8, Failure> {
    let registry = registry::chosen(&config::read(environment)?, args.buildpack_registry.as_deref())?;
    allow_insecure(&mut settings, &args.pulls.insecure_registry);
    let path = settings.cwd.join(&args.config);
    let file = document::read(&path, BuilderFile::parse)?;
    let named = args.target.iter().map(|target| target.platform.clone()).collect::<Vec<_>>();
    let of_file = document::platforms(&file.targets);
    let platforms = targets(if named.is_empty() { of_file } else { named }, args.publish)?;
    let to = delivery(&args.name, &args.tag, args.publish)?;
    let together = args.flatten.iter().map(|set| set.split(',').map(|id| id.trim().to_owned()).collect());
    let together: Vec<BTreeSet<String>> = together.collect();
    let scratch = Scratch::new()?;
    let bench = Workbench::open(&settings, Asked::of("pack", format!("builder {}", args.name)), None)?;
    if file.order.is_empty() && settings.display.mode != ProgressMode::Quiet {
        let line = report::warning(
            "the builder tries nothing: it has no [[order]]",
            settings.display,
            terminal_columns(),
        );
        report::tell(&line);
    }
    let images = Images::new(&bench, args.publish, &args.pulls);
    let mut made = Vec::new();
    for platform in &platforms {
        let base = path.parent().unwrap_or(Path::new("/"));
        let (registry, settings) = (registry.as_ref(), &settings);
        let finder = Finder { bench: &bench, images, base, platform, scratch: &scratch, settings, registry };
        let base = bench.run(images.take(&file.build.image, platform))?;
        let (layers, config) = one(&bench, &finder, &file, base, args, &together)?;
        let options = ImageOptions::default();
        let root = bench.run(async { Ok(bench.engine.put_image(layers.all, config, options).await?) })?;
        made.push((platform.clone(), root));
    }
    super::finish(&settings, &bench, made, &to, (&args.name, args.append_image_name_suffix))?;
    bench.close();
    Ok(0)
}

/// Makes the builder for one system.
fn one(
    bench: &Workbench,
    finder: &Finder<'_>,
    file: &BuilderFile,
    base: ImageDetails,
    args: &BuilderCreate,
    together: &[BTreeSet<String>],
) -> Result<(Layers, ImageConfig), Failure> {
    let refused = |error: checks::CheckError| Failure::input(error.to_string(), None);
    let mut config = base.config;
    if (&config.os, &config.architecture) != (&finder.platform.os, &finder.platform.architecture) {
        let (image, is) = (&file.build.image, format!("{}/{}", config.os, config.architecture));
        return Err(Failure::input(format!("`{image}` is for {is}, not for {}", finder.platform), None));
    }
    config.config.labels.extend(args.label.iter().flat_map(|labels| labels.0.iter().cloned()));
    let (uid, gid) = checks::build_image(&config, &file.stack.id).map_err(refused)?;
    let buildpacks = find(finder, ModuleKind::Buildpack, &file.buildpacks)?;
    let extensions = find(finder, ModuleKind::Extension, &file.extensions)?;
    let of = |all: &[PackedModule]| all.iter().map(|one| one.descriptor.clone()).collect::<Vec<Descriptor>>();
    let (own, own_extensions) = (of(&buildpacks), of(&extensions));
    let order = OrderFile {
        order: checks::resolve_order(&file.order, ModuleKind::Buildpack, &own).map_err(refused)?,
        order_extensions: checks::resolve_order(
            &file.order_extensions,
            ModuleKind::Extension,
            &own_extensions,
        )
        .map_err(refused)?,
    };
    let system = checks::resolve_system(&file.system, &own).map_err(refused)?;

    let mut layers = Layers {
        all: base.layers.into_iter().zip(config.rootfs.diff_ids.clone()).collect(),
        history: Vec::new(),
    };
    let count = layers.all.len();
    let own_folder = |path| (GoEntry::new(path, GoKind::Directory, 0o755).owned(uid, gid), &b""[..]);
    let folder = |path| (GoEntry::new(path, GoKind::Directory, 0o755), &b""[..]);
    let folders = OWN_FOLDERS.map(own_folder).into_iter().chain(FOLDERS.map(folder)).collect::<Vec<_>>();
    layers.entries(bench, &folders, "folders of a builder")?;
    let lifecycle = layers.lifecycle(bench, &finder.content(&lifecycle_of(file, finder.platform)?)?)?;
    checks::builder(&own, &own_extensions, &lifecycle, &config).map_err(refused)?;
    let placed = [
        (ModuleKind::Buildpack, layers.modules(bench, &buildpacks, together)?),
        (ModuleKind::Extension, layers.modules(bench, &extensions, together)?),
    ];
    layers.text(bench, "/cnb/order.toml", &order_text(&order.order, &order.order_extensions))?;
    if !(system.pre.buildpacks.is_empty() && system.post.buildpacks.is_empty()) {
        layers.text(bench, "/cnb/system.toml", &system_text(&system))?;
    }
    layers.text(bench, "/cnb/stack.toml", &stack_text(file))?;
    layers.text(bench, "/cnb/run.toml", &run_text(file))?;
    let variables = environment_files(&file.build.env);
    if !variables.is_empty() {
        let entry = |(name, value): (&String, &String)| {
            GoEntry::new(format!("/cnb/build-config/env/{name}"), GoKind::File(value.len() as u64), 0o644)
        };
        let entries = variables.iter().map(|both| (entry(both), both.1.as_bytes())).collect::<Vec<_>>();
        layers.entries(bench, &entries, "variables of builds")?;
    }
    // Variables that the platform gives; none yet.
    layers.entries(bench, &[], "/platform/env")?;

    let labels = BuilderLabels {
        file,
        buildpacks: &own,
        extensions: &own_extensions,
        lifecycle: &lifecycle,
        layers: &placed,
        made_by: ("rb", env!("CARGO_PKG_VERSION")),
    };
    labels.put(&mut config.config.labels).map_err(|error| Failure::input(rb_diag::chain(&error), None))?;
    config.config.working_dir = Some("/layers".to_owned());
    config.created = Some(CREATED.to_owned());
    super::tell_history(&mut config, count, &layers.history);
    Ok((layers, config))
}

/// Finds modules, each followed by what its package holds beside it.
fn find(
    finder: &Finder<'_>,
    kind: ModuleKind,
    sources: &[ModuleSource],
) -> Result<Vec<PackedModule>, Failure> {
    let mut all = Vec::new();
    for source in sources {
        let (main, mut others) = finder.module(kind, &source.uri, &source.image)?;
        let info = &main.descriptor.info;
        if !checks::is_wanted(&source.id, &source.version, info) {
            let place = if source.uri.is_empty() { &source.image } else { &source.uri };
            let wanted = if source.version.is_empty() {
                source.id.clone()
            } else {
                format!("{}@{}", source.id, source.version)
            };
            let message =
                format!("`{place}` is {kind} {}, and the file says {wanted}", main.descriptor.key());
            return Err(Failure::input(message, None));
        }
        others.sort_by_key(|one| one.descriptor.key());
        all.push(main);
        if kind == ModuleKind::Buildpack {
            all.append(&mut others);
        }
    }
    Ok(all)
}

/// Returns where the lifecycle is.
fn lifecycle_of(file: &BuilderFile, platform: &Platform) -> Result<String, Failure> {
    if !file.lifecycle.uri.is_empty() {
        return Ok(file.lifecycle.uri.clone());
    }
    let version = match file.lifecycle.version.as_str() {
        "" => DEFAULT_LIFECYCLE,
        version => version.strip_prefix('v').unwrap_or(version),
    };
    release(version, &platform.architecture).ok_or_else(|| {
        let message = format!("there is no release `{version}` of the lifecycle for {platform}");
        Failure::input(message, Some("name one by `uri` in [lifecycle]".to_owned()))
    })
}
