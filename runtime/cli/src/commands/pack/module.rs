//! `rb pack buildpack package`, `new`, and the same of extensions.
//!
//! In: a `package.toml` or a folder; an id. Out: a package, as an image or a `.cnb` file; files to begin with.
//! Source: distribution spec, "Buildpackage"; what pack makes of the same.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rb_buildpacks::builder::{BUILDPACK_LAYERS, BUILDPACKAGE_METADATA, EXTENSION_LAYERS};
use rb_buildpacks::distribution::{Descriptor, PackageFile, PackageSource, buildpackage_label, checks};
use rb_buildpacks::{BuildpackApi, ModuleKind};
use rb_engine::Delivery;
use rb_exporters::ImageOptions;
use rb_oci::{ImageConfig, Platform};

use super::super::pull::named;
use super::super::record::Asked;
use super::super::scratch::Scratch;
use super::super::workbench::Workbench;
use super::images::{Images, allow_insecure, delivery};
use super::layers::Layers;
use super::modules::{Finder, PackedModule};
use super::{CREATED, config, document, registry, targets};
use crate::args::{ModuleNew, ModulePackage, ModulePull, PackPulls, PackageFormat};
use crate::environment::Environment;
use crate::report::{self, Failure};
use crate::settings::Settings;

/// Makes a package.
pub(super) fn package(
    environment: &Environment,
    mut settings: Settings,
    args: &ModulePackage,
    kind: ModuleKind,
) -> Result<u8, Failure> {
    let registry = registry::chosen(&config::read(environment)?, args.buildpack_registry.as_deref())?;
    allow_insecure(&mut settings, &args.pulls.insecure_registry);
    let (file, base) = package_file(&settings, args, kind)?;
    let named = args.target.iter().map(|target| target.platform.clone()).collect::<Vec<_>>();
    let named = if named.is_empty() { document::platforms(&file.targets) } else { named };
    let is_file = args.format == PackageFormat::File;
    if is_file && (args.publish || !args.tag.is_empty()) {
        return Err(Failure::input(
            "`--publish` and `--tag` are for images, and `--format file` makes a file",
            None,
        ));
    }
    // A package that names no system is for all of them.
    let anywhere = named.is_empty();
    let platforms = if anywhere { vec![Platform::host()] } else { targets(named, args.publish || is_file)? };
    if is_file && platforms.len() > 1 {
        let help = "make one file for each `--target`".to_owned();
        return Err(Failure::input("a .cnb file is for one system", Some(help)));
    }
    let to = match args.format {
        PackageFormat::Image => delivery(&args.name, &args.tag, args.publish)?,
        PackageFormat::File => Delivery::File(settings.cwd.join(file_name(&args.name))),
    };
    let scratch = Scratch::new()?;
    let bench = Workbench::open(&settings, Asked::of("pack", format!("{kind} {}", args.name)), None)?;
    let images = Images::new(&bench, args.publish, &args.pulls);
    let mut made = Vec::new();
    for platform in &platforms {
        let (base, settings, registry) = (base.as_path(), &settings, registry.as_ref());
        let finder = Finder { bench: &bench, images, base, platform, scratch: &scratch, settings, registry };
        let (layers, mut config) = one(&bench, &finder, &file, args, kind)?;
        config.os.clone_from(&platform.os);
        if !anywhere {
            config.architecture.clone_from(&platform.architecture);
            config.variant.clone_from(&platform.variant);
        }
        let options = ImageOptions::default();
        let root = bench.run(async { Ok(bench.engine.put_image(layers.all, config, options).await?) })?;
        made.push((platform.clone(), root));
    }
    super::finish(&settings, &bench, made, &to, (&args.name, args.append_image_name_suffix))?;
    bench.close();
    Ok(0)
}

/// Finds what is to be packaged, and where relative paths of it begin.
fn package_file(
    settings: &Settings,
    args: &ModulePackage,
    kind: ModuleKind,
) -> Result<(PackageFile, PathBuf), Failure> {
    let of_path = |path: &Path| {
        let uri = path.display().to_string();
        let source = PackageSource { uri, image: String::new() };
        let file = PackageFile::default();
        match kind {
            ModuleKind::Buildpack => PackageFile { buildpack: source, ..file },
            ModuleKind::Extension => PackageFile { extension: source, ..file },
        }
    };
    let usual = settings.cwd.join("package.toml");
    let config = match (&args.config, &args.path) {
        (Some(_), Some(_)) => {
            return Err(Failure::input("`--config` and `--path` both say what is packaged: give one", None));
        }
        (Some(config), None) => settings.cwd.join(config),
        (None, Some(path)) => return Ok((of_path(&settings.cwd.join(path)), settings.cwd.clone())),
        (None, None) if usual.is_file() => usual,
        (None, None) => return Ok((of_path(&settings.cwd), settings.cwd.clone())),
    };
    let file = document::read(&config, PackageFile::parse)?;
    let is_there = match kind {
        ModuleKind::Buildpack => !file.buildpack.uri.is_empty(),
        ModuleKind::Extension => !file.extension.uri.is_empty(),
    };
    if !is_there {
        let message = format!("`{}` has no `uri` in [{kind}]", config.display());
        return Err(Failure::input(message, None));
    }
    Ok((file, config.parent().unwrap_or(Path::new("/")).to_owned()))
}

/// Returns the name of a package's file.
fn file_name(name: &str) -> PathBuf {
    let path = PathBuf::from(name);
    if path.extension().is_some_and(|end| end == "cnb") { path } else { PathBuf::from(format!("{name}.cnb")) }
}

/// Makes the package for one system.
fn one(
    bench: &Workbench,
    finder: &Finder<'_>,
    file: &PackageFile,
    args: &ModulePackage,
    kind: ModuleKind,
) -> Result<(Layers, ImageConfig), Failure> {
    let source = match kind {
        ModuleKind::Buildpack => &file.buildpack,
        ModuleKind::Extension => &file.extension,
    };
    let (main, _) = finder.module(kind, &source.uri, &source.image)?;
    let mut modules = Vec::new();
    for dependency in file.dependencies.iter().filter(|_| kind == ModuleKind::Buildpack) {
        let (module, others) = finder.module(kind, &dependency.uri, &dependency.image)?;
        modules.push(module);
        modules.extend(others);
    }
    let mut labels = std::collections::BTreeMap::new();
    labels.extend(args.label.iter().flat_map(|labels| labels.0.iter().cloned()));
    let of = |all: &[PackedModule]| all.iter().map(|one| one.descriptor.clone()).collect::<Vec<Descriptor>>();
    let stacks = match kind {
        ModuleKind::Buildpack => checks::package(&main.descriptor, &of(&modules))
            .map_err(|error| Failure::input(error.to_string(), None))?,
        ModuleKind::Extension => Vec::new(),
    };
    let wrong = |error: rb_buildpacks::json::JsonError| Failure::input(rb_diag::chain(&error), None);
    let metadata = buildpackage_label(&main.descriptor, &stacks).map_err(wrong)?;
    labels.insert(BUILDPACKAGE_METADATA.to_owned(), metadata);
    // The package's own module is the last of a layer that holds all.
    modules.push(main);
    let together: Vec<BTreeSet<String>> = match args.flatten {
        true => {
            let names = modules.iter().map(|one| one.descriptor.key().to_string());
            vec![names.filter(|name| !args.flatten_exclude.contains(name)).collect()]
        }
        false => Vec::new(),
    };
    let mut layers = Layers::default();
    let placed = layers.modules(bench, &modules, &together)?;
    let name = match kind {
        ModuleKind::Buildpack => BUILDPACK_LAYERS,
        ModuleKind::Extension => EXTENSION_LAYERS,
    };
    labels.insert(name.to_owned(), placed.label().map_err(wrong)?);
    let mut config = ImageConfig { created: Some(CREATED.to_owned()), ..ImageConfig::default() };
    config.config.labels = labels;
    super::tell_history(&mut config, 0, &layers.history);
    Ok((layers, config))
}

/// Fetches a package into the image store.
pub(super) fn pull(environment: &Environment, settings: &Settings, args: &ModulePull) -> Result<u8, Failure> {
    let registry = registry::chosen(&config::read(environment)?, args.buildpack_registry.as_deref())?;
    let scratch = Scratch::new()?;
    let bench = Workbench::open(settings, Asked::of("pack", format!("pull {}", args.name)), None)?;
    let images = Images::new(&bench, false, &PackPulls::default());
    let (base, platform, registry) = (settings.cwd.as_path(), &Platform::host(), registry.as_ref());
    let finder = Finder { bench: &bench, images, base, platform, scratch: &scratch, settings, registry };
    let image = finder.image(&args.name)?;
    named(settings, &bench, &image, None)?;
    bench.close();
    Ok(0)
}

/// What a new module's programs are.
const DETECT: &str =
    "#!/bin/sh\n# Exit code 0: this takes part in the build. 100: it does not.\nset -eu\n\nexit 0\n";
const BUILD: &str = "#!/bin/sh\n# Layers go into folders below \"$layers\", each with a file NAME.toml beside it.\nset -eu\n\n\
    layers=\"$1\"\nplatform=\"$2\"\nplan=\"$3\"\n\nexit 0\n";
const GENERATE: &str = "#!/bin/sh\n# build.Dockerfile and run.Dockerfile in \"$output\" extend the base images.\nset -eu\n\n\
    output=\"$CNB_OUTPUT_DIR\"\n\nexit 0\n";

/// Writes the files of a new module.
pub(super) fn new(environment: &Environment, args: &ModuleNew, kind: ModuleKind) -> Result<u8, Failure> {
    let api: BuildpackApi = args.api.parse().map_err(|error: rb_buildpacks::ApiError| {
        Failure::input(format!("`--api {}`: {error}", args.api), None)
    })?;
    let last = args.id.rsplit('/').next().unwrap_or_default();
    let folder = environment.cwd.join(args.path.as_deref().unwrap_or(Path::new(last)));
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!("api = {}\n\n[{kind}]\n", quoted(&api.to_string()));
    text.push_str(&format!("id = {}\nversion = {}\n", quoted(&args.id), quoted(&args.version)));
    let host = crate::args::ModuleTarget { platform: Platform::host(), distros: Vec::new() };
    if kind == ModuleKind::Extension && !args.stacks.is_empty() {
        return Err(Failure::input("--stacks is for buildpacks: extensions have targets", None));
    }
    for stack in &args.stacks {
        text.push_str(&format!("\n[[stacks]]\nid = {}\n", quoted(stack)));
    }
    // As pack has it: stacks alone say whom it is for.
    let targets = match (args.targets.as_slice(), args.stacks.is_empty()) {
        ([], true) => std::slice::from_ref(&host),
        (targets, _) => targets,
    };
    for target in targets {
        let Platform { os, architecture, variant } = &target.platform;
        text.push_str(&format!("\n[[targets]]\nos = {}\narch = {}\n", quoted(os), quoted(architecture)));
        if let Some(variant) = variant {
            text.push_str(&format!("variant = {}\n", quoted(variant)));
        }
        for (name, version) in &target.distros {
            text.push_str(&format!("\n[[targets.distros]]\nname = {}\n", quoted(name)));
            if !version.is_empty() {
                text.push_str(&format!("version = {}\n", quoted(version)));
            }
        }
    }
    // What is written is read first: an id or a version that is none is refused before there is a folder.
    let read = Descriptor::read(kind, text.as_bytes(), &BTreeSet::new());
    read.map_err(|error| Failure::input(rb_diag::chain(&error), None))?;
    let failed = |error: &std::io::Error| {
        let message = format!("cannot write `{}`", folder.display());
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::input(format!("`{}` is there already", folder.display()), None)
            }
            _ => Failure::environment(&message, error),
        }
    };
    let programs = match kind {
        ModuleKind::Buildpack => [("detect", DETECT), ("build", BUILD)],
        ModuleKind::Extension => [("detect", DETECT), ("generate", GENERATE)],
    };
    fs::create_dir(&folder).map_err(|error| failed(&error))?;
    fs::create_dir(folder.join("bin")).map_err(|error| failed(&error))?;
    fs::write(folder.join(format!("{kind}.toml")), text).map_err(|error| failed(&error))?;
    for (name, text) in programs {
        let path = folder.join("bin").join(name);
        fs::write(&path, text).map_err(|error| failed(&error))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(|error| failed(&error))?;
    }
    report::print(format!("{}\n", folder.display()).as_bytes()).map(|()| 0)
}
