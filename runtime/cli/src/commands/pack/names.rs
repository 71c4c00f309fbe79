//! Names of images that a build is given: what an app may not be called, and what was probably meant.
//!
//! In: names, as typed. Out: a refusal, or words to add to one. Source: pack, `isForbiddenTag`: an app in the place of its builder would be
//! taken for the builder by the next build.

use rb_diag::nearest;
use rb_engine::Place;
use rb_oci::index::config_platform;
use rb_oci::{Platform, Reference};

use super::builder::suggested;
use super::images::reference;
use crate::commands::workbench::Workbench;
use crate::report::Failure;
use crate::settings::pack::PackSettings;

/// The lifecycle's own images.
const LIFECYCLE: &str = "docker.io/buildpacksio/lifecycle";

/// Refuses names of apps that are those of what builds them.
pub(super) fn forbid(
    targets: &[Reference],
    builder: &str,
    run_image: Option<&str>,
    known: &PackSettings,
) -> Result<(), Failure> {
    if targets.is_empty() {
        return Ok(());
    }
    let own = [(builder, "the builder"), (LIFECYCLE, "the lifecycle")].into_iter();
    let own = own.chain(run_image.map(|name| (name, "the run image")));
    let own = own.chain(
        known
            .default_builder
            .as_deref()
            .filter(|name| !name.is_empty())
            .map(|name| (name, "the default builder")),
    );
    let trusted: Vec<&str> = known.trusted().into_iter().chain(suggested()).collect();
    for (name, what) in own.chain(trusted.into_iter().map(|name| (name, "a trusted builder"))) {
        let name = reference(name)?;
        // As for pack the same path in another registry counts, too.
        if let Some(target) =
            targets.iter().find(|target| target.repository().path() == name.repository().path())
        {
            return Err(refused(target, what, &name));
        }
    }
    Ok(())
}

fn refused(target: &Reference, what: &str, name: &Reference) -> Failure {
    let message = format!("the image cannot be called `{}`", target.familiar());
    let help =
        format!("that is the repository of {what} `{}`: give the app a name of its own", name.familiar());
    Failure::input(message, Some(help))
}

/// Adds to a failure what the name of a builder may have meant, if it is about that one.
pub(super) fn with_meant(failure: Failure, bench: &Workbench, builder: &str, platform: &Platform) -> Failure {
    match failure {
        Failure::Said { kind, message, help } if message.contains(builder) => {
            let meant = meant(bench, builder, platform);
            Failure::Said { kind, message, help: meant.or(help) }
        }
        other => other,
    }
}

/// Says what the image store has that a builder's name may have meant, where none of this name could be had.
pub(super) fn meant(bench: &Workbench, builder: &str, platform: &Platform) -> Option<String> {
    let local = bench.engine.has_image(builder).ok()?;
    if local {
        let host = Platform::host();
        let found = bench.run(async {
            let place = Place::Store(builder.to_owned());
            match bench.engine.details_of(&place, platform).await {
                Ok(found) => Ok(Some(found)),
                Err(_) => Ok(bench.engine.details_of(&place, &host).await.ok()),
            }
        });
        let is = config_platform(&found.ok()??.config)?;
        if (&is.os, &is.architecture) == (&platform.os, &platform.architecture) {
            return None;
        }
        return Some(format!("the image store has `{builder}` for {is}, and not for {platform}"));
    }
    let rows = bench.engine.images().ok()?;
    let names: Vec<String> = rows
        .iter()
        .map(|row| row.name.parse::<Reference>().map_or_else(|_| row.name.clone(), |name| name.familiar()))
        .collect();
    nearest(builder, names.iter().map(String::as_str))
        .map(|near| format!("did you mean `{near}`? the image store has it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_not_called_as_what_builds_it() {
        let refused = |target: &str, run: Option<&str>| {
            let target: Reference = target.parse().expect("a name");
            let error = forbid(&[target], "me/builder:1", run, &PackSettings::default()).err()?;
            match error {
                Failure::Said { help, .. } => help,
                other => panic!("{other:?}"),
            }
        };
        for (target, what) in [
            ("me/builder", "the builder `me/builder:1`"),
            ("me/builder:app", "the builder"),
            ("registry.example.com/me/builder:1", "the builder"),
            ("buildpacksio/lifecycle:1", "the lifecycle"),
            ("run:2", "the run image `run:1`"),
            ("heroku/builder:24", "a trusted builder"),
        ] {
            let said = refused(target, Some("run:1")).unwrap_or_default();
            assert!(said.contains(what), "{target}: {said}");
        }
        for target in ["app", "me/builder2", "builder", "run/app"] {
            assert_eq!(refused(target, Some("run:1")), None, "{target}");
        }
    }
}
