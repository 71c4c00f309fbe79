//! `rb pack`: pack's commands.
//!
//! In: what was typed, and the settings. Out: images, files, texts.
//!
//! | module | idea |
//! | --- | --- |
//! | `build`, `detect` | an app is built, or what would build it is told; `order` is what is asked for, `phases` what is said |
//! | `foresee` | what a build would do now, for `rb why` |
//! | `launcher` | the program that starts an image's processes |
//! | `app`, `bindings`, `names` | where an app lies; what of an order is secret; what images may be called |
//! | `previous` | what is used again of an app's last image |
//! | `whole`, `gathered` | an image that is planned; what of it comes from an engine elsewhere |
//! | `builder`, `module` | what is made of `builder.toml` and `package.toml` |
//! | `config` | what is kept of what pack is told |
//! | `modules`, `layers`, `package` | modules found, and packed; packages in files lent |
//! | `images`, `document`, `registry` | images taken and delivered; files read; what registries of buildpacks say |
//! | `inspect`, `show` | what is in images, in several forms |
//! | `rebase`, `sbom` | what is done with images of apps; `report` is what is told of one |

mod app;
mod bindings;
mod build;
mod builder;
mod config;
mod detect;
mod document;
mod foresee;
mod gathered;
mod images;
mod inspect;
mod launcher;
mod layers;
mod module;
mod modules;
mod names;
mod order;
mod package;
mod phases;
mod previous;
mod rebase;
mod registry;
mod report;
mod sbom;
mod show;
mod whole;

use rb_buildpacks::ModuleKind;
use rb_engine::Delivery;
use rb_oci::{Descriptor, History, ImageConfig, Platform};

use super::refuse_options;
use super::workbench::Workbench;
use crate::args::{
    BuildOptions, OutputOptions, PackArgs, PackBuilder, PackBuildpack, PackCommand, PackExtension, PackSbom,
};
use crate::environment::Environment;
use crate::progress::terminal_columns;
use crate::report::{Failure, tell, warning};
use crate::settings::given::Given;
use crate::settings::{self, Settings};
pub(super) use foresee::Subject;

/// When all that pack makes was made.
const CREATED: &str = "1980-01-01T00:00:01Z";

/// Does one of the commands.
pub(super) fn execute(
    environment: &Environment,
    build: BuildOptions,
    args: &PackArgs,
) -> Result<u8, Failure> {
    let output = OutputOptions::default();
    refuse_options("pack", &build, &output)?;
    let (options, command) = (args.options().over(build), &args.command);
    if args.everywhere.timestamps && !options.quiet {
        let display = settings::display(&options, environment)?;
        let line = "--timestamps says nothing here: a step's line tells how long it took";
        tell(&warning(line, display, terminal_columns()));
    }
    let settings = || Ok::<_, Failure>(settings::settle(&options, &output, Given::default(), environment)?);
    let (buildpack, extension) = (ModuleKind::Buildpack, ModuleKind::Extension);
    let done = match command {
        PackCommand::Build(args) => build::execute(environment, &settings()?, args),
        PackCommand::Detect(args) => detect::execute(environment, &settings()?, args),
        PackCommand::Config(command) => config::execute(environment, &settings, command),
        PackCommand::Rebase(args) => rebase::execute(environment, settings()?, args),
        PackCommand::Inspect(args) => inspect::image(settings()?, args),
        PackCommand::Sbom(PackSbom::Download(args)) => sbom::download(&settings()?, args),
        PackCommand::Builder(PackBuilder::Create(args)) => builder::create(environment, settings()?, args),
        PackCommand::Builder(PackBuilder::Inspect(args)) => inspect::builder(settings()?, args),
        PackCommand::Builder(PackBuilder::Suggest) => builder::suggest(),
        PackCommand::Buildpack(PackBuildpack::Package(args)) => {
            module::package(environment, settings()?, args, buildpack)
        }
        PackCommand::Extension(PackExtension::Package(args)) => {
            module::package(environment, settings()?, args, extension)
        }
        PackCommand::Buildpack(PackBuildpack::Inspect(args)) => {
            inspect::module(environment, &settings()?, args, buildpack)
        }
        PackCommand::Extension(PackExtension::Inspect(args)) => {
            inspect::module(environment, &settings()?, args, extension)
        }
        PackCommand::Buildpack(PackBuildpack::Pull(args)) => module::pull(environment, &settings()?, args),
        PackCommand::Buildpack(PackBuildpack::New(args)) => module::new(environment, args, buildpack),
        PackCommand::Extension(PackExtension::New(args)) => module::new(environment, args, extension),
    };
    done.map_err(phases::in_words_of_pack)
}

/// Returns the systems that something is made for. The store takes one: this machine's, if that is among them.
fn targets(named: Vec<Platform>, elsewhere: bool) -> Result<Vec<Platform>, Failure> {
    let host = Platform::host();
    match named.len() {
        0 => Ok(vec![host]),
        1 => Ok(named),
        _ if elsewhere => Ok(named),
        _ if named.contains(&host) => Ok(vec![host]),
        _ => {
            let help = "name one of them, or publish all: `--publish`".to_owned();
            Err(Failure::input(format!("none of the targets is this machine's, {host}"), Some(help)))
        }
    }
}

/// Writes the lines of layers that were added to an image of `count` layers, if its history has one for each of those.
fn tell_history(config: &mut ImageConfig, count: usize, lines: &[History]) {
    let with_layers = config.history.iter().filter(|line| !line.empty_layer).count();
    if with_layers != count {
        config.history = vec![History::default(); count];
    }
    config.history.extend_from_slice(lines);
}

/// Brings what was made to where it belongs: one image, or several under one index, and each under a name of its own if that is
/// asked for.
fn finish(
    settings: &Settings,
    bench: &Workbench,
    made: Vec<(Platform, Descriptor)>,
    to: &Delivery,
    (name, suffixes): (&str, bool),
) -> Result<(), Failure> {
    if let [(_, root)] = made.as_slice() {
        return images::deliver(settings, bench, root, to);
    }
    if suffixes {
        for (platform, root) in &made {
            let to = images::delivery(&suffixed(name, platform)?, &[], matches!(to, Delivery::Registry(_)))?;
            images::deliver(settings, bench, root, &to)?;
        }
    }
    let index = bench.run(async { Ok(bench.engine.put_index(made).await?) })?;
    images::deliver(settings, bench, &index, to)
}

/// Returns the name of an image of several for one system: `NAME:TAG-linux-amd64`.
fn suffixed(name: &str, platform: &Platform) -> Result<String, Failure> {
    let reference = images::reference(name)?;
    let tag = reference.tag().unwrap_or("latest");
    let Platform { os, architecture, variant } = platform;
    let variant = variant.as_ref().map(|variant| format!("-{variant}")).unwrap_or_default();
    Ok(format!("{}:{tag}-{os}-{architecture}{variant}", reference.repository()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_and_names() {
        let other: Platform = "linux/s390x".parse().expect("a platform");
        assert_eq!(targets(Vec::new(), false).expect("this one"), [Platform::host()]);
        assert_eq!(targets(vec![other.clone(), Platform::host()], false).expect("one"), [Platform::host()]);
        assert_eq!(targets(vec![other.clone(), Platform::host()], true).expect("both").len(), 2);
        assert!(targets(vec![other.clone(), other.clone()], false).is_err());
        let name = suffixed("registry.example.com/b:1", &other).expect("a name");
        assert_eq!(name, "registry.example.com/b:1-linux-s390x");
    }
}
