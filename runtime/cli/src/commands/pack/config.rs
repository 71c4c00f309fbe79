//! `rb pack config`: what holds for commands of pack that do not say otherwise.
//!
//! In: what was typed. Out: `pack.toml` changed, or what it says. Texts are pack's, as scripts read them.

use rb_buildpacks::builder::Builder;
use rb_engine::Place;
use rb_oci::Platform;
use toml_edit::{Array, Table, value};

use super::super::image::about;
use super::super::record::Asked;
use super::super::workbench::Workbench;
use crate::args::{
    AddRegistry, DefaultBuilder, DefaultRegistry, Experimental, Listed, Mirrors, PackConfig, PackPull,
    PullPolicy, Registries, RegistryType, RunImageMirrors, TrustedBuilders,
};
use crate::environment::Environment;
use crate::report::{self, Failure};
use crate::settings::Settings;
use crate::settings::pack::{
    DEFAULT_BUILDER, DEFAULT_REGISTRY, EXPERIMENTAL, PULL_POLICY, PackSettings, REGISTRIES, RUN_IMAGES,
    TRUSTED_BUILDERS, change, replace, set,
};

/// Tells or changes something.
pub(super) fn execute(
    environment: &Environment,
    settings: &dyn Fn() -> Result<Settings, Failure>,
    command: &PackConfig,
) -> Result<u8, Failure> {
    let known = read(environment)?;
    let text = match command {
        PackConfig::DefaultBuilder(args) => default_builder(environment, settings, &known, args)?,
        PackConfig::PullPolicy(args) => pull_policy(environment, &known, args)?,
        PackConfig::RunImageMirrors(Listed { command }) => {
            run_image_mirrors(environment, &known, command.as_ref().unwrap_or(&RunImageMirrors::List))?
        }
        PackConfig::Registries(Listed { command }) => {
            registries(environment, &known, command.as_ref().unwrap_or(&Registries::List))?
        }
        PackConfig::TrustedBuilders(Listed { command }) => {
            trusted_builders(environment, &known, command.as_ref().unwrap_or(&TrustedBuilders::List))?
        }
        PackConfig::Experimental(args) => experimental(environment, &known, args)?,
        PackConfig::LifecycleImage(_) => {
            let help = "rb is the lifecycle; `rb pack build --lifecycle=builder` takes the builder's own";
            return Err(refused("lifecycle-image", help));
        }
        PackConfig::RegistryMirrors(_) => {
            let help = "mirrors of registries stand in config.toml: `rb help config`";
            return Err(refused("registry-mirrors", help));
        }
    };
    report::print(text.as_bytes())?;
    Ok(0)
}

/// Reads what is kept.
pub(super) fn read(environment: &Environment) -> Result<PackSettings, Failure> {
    PackSettings::read(environment).map_err(|error| Failure::input(rb_diag::chain(&error), None))
}

/// Checks that there is a builder of this name, here or in its registry.
fn check_builder(mut settings: Settings, name: &str) -> Result<(), Failure> {
    settings.registry.tries = Some(1);
    let bench = Workbench::open(&settings, Asked::of("pack", "config default-builder"), None)?;
    let place = match bench.engine.has_image(name)? {
        true => Place::Store(name.to_owned()),
        false => Place::Registry(super::images::reference(name)?),
    };
    let host = Platform::host();
    let found = bench.run(async {
        let found = bench.engine.details_of(&place, &host).await;
        found.map_err(|error| about(name, error))
    });
    let found = found.map_err(|failure| super::names::with_meant(failure, &bench, name, &host))?;
    let read = Builder::of_image(&found.config);
    bench.close();
    read.map(drop).map_err(|error| {
        let help = Some("`rb pack builder create` makes a builder".to_owned());
        Failure::input(format!("`{name}` is no builder: {}", rb_diag::chain(&error)), help)
    })
}

fn refused(word: &str, help: &str) -> Failure {
    let message = format!("`rb pack config {word}` is not part of this version of rb");
    Failure::input(message, Some(help.to_owned()))
}

fn default_builder(
    environment: &Environment,
    settings: &dyn Fn() -> Result<Settings, Failure>,
    known: &PackSettings,
    args: &DefaultBuilder,
) -> Result<String, Failure> {
    let now = known.default_builder.as_deref().filter(|name| !name.is_empty());
    Ok(match (&args.image, now, args.unset) {
        (Some(image), ..) => {
            super::images::reference(image)?;
            check_builder(settings()?, image)?;
            change(environment, |document| set(document, DEFAULT_BUILDER, Some(image)))?;
            format!("Builder '{image}' is now the default builder\n")
        }
        (None, None, true) => "No default builder was set\n".to_owned(),
        (None, Some(old), true) => {
            change(environment, |document| set(document, DEFAULT_BUILDER, None))?;
            format!("Successfully unset default builder '{old}'\n")
        }
        (None, Some(now), false) => format!("The current default builder is '{now}'\n"),
        (None, None, false) => {
            "No default builder is set. `rb pack config default-builder IMAGE` sets one\n".to_owned()
        }
    })
}

fn pull_policy(
    environment: &Environment,
    known: &PackSettings,
    args: &PullPolicy,
) -> Result<String, Failure> {
    let now = known.pull_policy.unwrap_or(PackPull::IfNotPresent);
    Ok(match args.policy {
        Some(policy) if known.pull_policy == Some(policy) => {
            format!("Pull policy is already set to '{policy}'\n")
        }
        Some(policy) => {
            change(environment, |document| set(document, PULL_POLICY, Some(&policy.to_string())))?;
            format!("Successfully set '{policy}' as the pull policy\n")
        }
        None if args.unset => {
            change(environment, |document| set(document, PULL_POLICY, None))?;
            format!(
                "Successfully unset pull policy '{now}'\nPull policy has been set to '{}'\n",
                PackPull::IfNotPresent
            )
        }
        None => format!("The current pull policy is '{now}'\n"),
    })
}

fn run_image_mirrors(
    environment: &Environment,
    known: &PackSettings,
    command: &RunImageMirrors,
) -> Result<String, Failure> {
    let all = known.mirrors();
    let write = |image: &str, mirrors: &[String]| {
        let table = (!mirrors.is_empty()).then(|| {
            let mut table = Table::new();
            table["image"] = value(image);
            table["mirrors"] = value(mirrors.iter().collect::<Array>());
            table
        });
        change(environment, |document| replace(document, RUN_IMAGES, ("image", image), table))
    };
    let have = |image: &str| all.get(image).cloned().unwrap_or_default();
    Ok(match command {
        RunImageMirrors::List if all.is_empty() => "No run image mirrors have been set\n".to_owned(),
        RunImageMirrors::List => {
            let one = |(image, mirrors): (&String, &Vec<String>)| {
                let lines: String = mirrors.iter().map(|mirror| format!("    {mirror}\n")).collect();
                format!("  '{image}':\n{lines}")
            };
            format!("Run Image Mirrors:\n{}", all.iter().map(one).collect::<String>())
        }
        RunImageMirrors::Add(Mirrors { mirror, .. }) if mirror.is_empty() => {
            "No run image mirrors were provided.\n".to_owned()
        }
        RunImageMirrors::Add(Mirrors { image, mirror }) => {
            for name in std::iter::once(image).chain(mirror) {
                super::images::reference(name)?;
            }
            let mut names = have(image);
            names.extend(
                mirror.iter().filter(|name| !all.get(image).is_some_and(|have| have.contains(name))).cloned(),
            );
            names.dedup();
            write(image, &names)?;
            mirror
                .iter()
                .map(|name| format!("Run Image '{image}' configured with mirror '{name}'\n"))
                .collect()
        }
        RunImageMirrors::Remove(Mirrors { image, .. }) if have(image).is_empty() => {
            format!("No run image mirrors have been set for '{image}'\n")
        }
        RunImageMirrors::Remove(Mirrors { image, mirror }) if mirror.is_empty() => {
            write(image, &[])?;
            format!("Removed all run image mirrors for '{image}'\n")
        }
        RunImageMirrors::Remove(Mirrors { image, mirror }) => {
            let mut names = have(image);
            names.retain(|name| !mirror.contains(name));
            write(image, &names)?;
            format!("Removed mirrors {} for '{image}'\n", mirror.join(", "))
        }
    })
}

fn registries(
    environment: &Environment,
    known: &PackSettings,
    command: &Registries,
) -> Result<String, Failure> {
    let is_known = |name: &str| known.registries.iter().any(|registry| registry.name == name);
    let unknown = |name: &str| Failure::input(format!("registry '{name}' does not exist"), None);
    let default = known.default_registry.as_deref();
    Ok(match command {
        Registries::List => {
            let mark = |name: &str| if default == Some(name) { "*" } else { " " };
            let line = |one: &crate::settings::pack::Registry| {
                format!("{} {} {}\n", mark(&one.name), one.name, one.url)
            };
            known.registries.iter().map(line).collect()
        }
        Registries::Add(AddRegistry { name, .. }) if is_known(name) => {
            return Err(Failure::input(format!("Buildpack registry '{name}' already exists."), None));
        }
        Registries::Add(AddRegistry { name, url, default, r#type }) => {
            let mut table = Table::new();
            let kind = match r#type {
                RegistryType::Git => "git",
                RegistryType::Github => "github",
            };
            for (key, text) in [("name", name.as_str()), ("type", kind), ("url", url)] {
                table[key] = value(text);
            }
            change(environment, |document| {
                replace(document, REGISTRIES, ("name", name), Some(table));
                if *default {
                    set(document, DEFAULT_REGISTRY, Some(name));
                }
            })?;
            format!("Successfully added '{name}' to registries\n")
        }
        Registries::Remove { name } if !is_known(name) => return Err(unknown(name)),
        Registries::Remove { name } => {
            change(environment, |document| {
                replace(document, REGISTRIES, ("name", name), None);
                if default == Some(name) {
                    set(document, DEFAULT_REGISTRY, None);
                }
            })?;
            format!("Successfully removed '{name}' from registries\n")
        }
        Registries::Default(DefaultRegistry { name: Some(name), .. }) => {
            if !is_known(name) {
                return Err(Failure::input(format!("no registry with the name '{name}' exists"), None));
            }
            change(environment, |document| set(document, DEFAULT_REGISTRY, Some(name)))?;
            format!("Successfully set '{name}' as the default registry\n")
        }
        Registries::Default(DefaultRegistry { name: None, unset }) => match (default, unset) {
            (Some(old), true) => {
                change(environment, |document| set(document, DEFAULT_REGISTRY, None))?;
                format!("Successfully unset default registry '{old}'\n")
            }
            (Some(now), false) => format!("The current default registry is '{now}'\n"),
            (None, _) => "No default registry is set\n".to_owned(),
        },
    })
}

fn trusted_builders(
    environment: &Environment,
    known: &PackSettings,
    command: &TrustedBuilders,
) -> Result<String, Failure> {
    let trusted = known.trusted();
    Ok(match command {
        TrustedBuilders::List => {
            let mut names = trusted;
            names.sort_unstable();
            format!(
                "Trusted Builders:\n{}",
                names.iter().map(|name| format!("  {name}\n")).collect::<String>()
            )
        }
        TrustedBuilders::Add { image } if trusted.contains(&image.as_str()) => {
            format!("Builder '{image}' is already trusted\n")
        }
        TrustedBuilders::Add { image } => {
            super::images::reference(image)?;
            let mut table = Table::new();
            table["name"] = value(image);
            change(environment, |document| {
                replace(document, TRUSTED_BUILDERS, ("name", image), Some(table));
            })?;
            format!("Builder '{image}' is now trusted\n")
        }
        TrustedBuilders::Remove { image } if !trusted.contains(&image.as_str()) => {
            format!("Builder '{image}' wasn't trusted\n")
        }
        TrustedBuilders::Remove { image } => {
            change(environment, |document| replace(document, TRUSTED_BUILDERS, ("name", image), None))?;
            format!("Builder '{image}' is no longer trusted\n")
        }
    })
}

fn experimental(
    environment: &Environment,
    known: &PackSettings,
    args: &Experimental,
) -> Result<String, Failure> {
    Ok(match args.on {
        Some(on) => {
            change(environment, |document| document[EXPERIMENTAL] = value(on))?;
            format!("Experimental features {}\n", if on { "enabled!" } else { "disabled" })
        }
        None if known.experimental => "Experimental features are enabled!\n".to_owned(),
        None => "Experimental features aren't currently enabled.\n".to_owned(),
    })
}
