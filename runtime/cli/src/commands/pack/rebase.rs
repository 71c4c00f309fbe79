//! `rb pack rebase`: an app's image on another base.
//!
//! In: names of the image and of the base. Out: an image of the app's own layers above those of the base, in the store or in a
//! registry, where no layer is downloaded. What speaks against it is told, and with `--force` it is done all the same.
//! Source: platform spec, "Phase: rebase"; `rb_buildpacks::rebase`.

use std::collections::BTreeMap;

use rb_buildpacks::labels::{LIFECYCLE_METADATA, LifecycleMetadata, RunImageNames};
use rb_buildpacks::rebase::{Layered, NewBase, rebase};
use rb_engine::{Delivery, ImageDetails};
use rb_exporters::ImageOptions;
use rb_oci::Platform;
use rb_oci::index::config_platform;

use super::super::record::Asked;
use super::super::workbench::Workbench;
use super::config;
use super::images::{Images, allow_insecure, deliver, delivery, reference};
use crate::args::PackRebase;
use crate::environment::Environment;
use crate::progress::terminal_columns;
use crate::report::{self, Failure};
use crate::settings::{ProgressMode, Settings};

/// Rebases an image.
pub(super) fn execute(
    environment: &Environment,
    mut settings: Settings,
    args: &PackRebase,
) -> Result<u8, Failure> {
    let known = config::read(environment)?;
    allow_insecure(&mut settings, &args.pulls.insecure_registry);
    let to = delivery(&args.image, &[], args.publish)?;
    let bench = Workbench::open(&settings, Asked::of("pack", format!("rebase {}", args.image)), None)?;
    let images = Images::new(&bench, args.publish, &args.pulls);
    let previous = args.previous_image.as_deref().unwrap_or(&args.image);
    let host = Platform::host();
    let app = bench.run(images.take(previous, &host))?;
    let platform = config_platform(&app.config).unwrap_or(host);
    let (name, base) = base(&bench, images, args, &known.mirrors(), &app, &platform)?;
    let pinned = format!("{}@{}", reference(&name)?.repository(), base.manifest.digest());
    let (app, base) = (layered(app), layered(base));
    let refused = |error: &rb_buildpacks::rebase::RebaseError| {
        let help = error.yields_to_force().then(|| "`--force` goes on all the same".to_owned());
        Failure::input(rb_diag::chain(error), help)
    };
    let new = NewBase { image: &base, name: &name, reference: &pinned };
    let (made, against) = rebase(&app, &new, args.force).map_err(|error| refused(&error))?;
    if settings.display.mode != ProgressMode::Quiet {
        for error in &against {
            let line = report::warning(&rb_diag::chain(error), settings.display, terminal_columns());
            report::tell(&line);
        }
    }
    let layers = made.layers.into_iter().zip(made.config.rootfs.diff_ids.clone()).collect();
    let report = args.report_output_dir.as_ref().map(|folder| settings.cwd.join(folder));
    if let Some(folder) = &report {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::environment(&format!("cannot make `{}`", folder.display()), &error))?;
    }
    let options = ImageOptions::default();
    let root = bench.run(async { Ok(bench.engine.put_image(layers, made.config, options).await?) })?;
    deliver(&settings, &bench, &root, &to)?;
    if let Some(folder) = &report {
        let text = report_text(&args.image, &to, root.digest().as_ref(), root.size());
        super::report::write(folder, &text).map_err(|error| {
            Failure::environment(&format!("cannot write report.toml into `{}`", folder.display()), &error)
        })?;
    }
    bench.close();
    Ok(0)
}

/// Finds the base: the one that was named, else the first of those that the image names, or `rb pack config` for it, which can be had:
/// that of its own registry before others.
fn base(
    bench: &Workbench,
    images: Images<'_>,
    args: &PackRebase,
    mirrors: &BTreeMap<String, Vec<String>>,
    app: &ImageDetails,
    platform: &Platform,
) -> Result<(String, ImageDetails), Failure> {
    if let Some(name) = &args.run_image {
        return Ok((name.clone(), bench.run(images.take(name, platform))?));
    }
    let no_base = || {
        let help = "name one with `--run-image`".to_owned();
        Failure::input(format!("`{}` does not say what its base is", args.image), Some(help))
    };
    let label = app.config.config.labels.get(LIFECYCLE_METADATA).ok_or_else(|| {
        let message =
            format!("`{}` has no label `{LIFECYCLE_METADATA}`: buildpacks did not build it", args.image);
        Failure::input(message, None)
    })?;
    let metadata =
        LifecycleMetadata::parse(label).map_err(|error| Failure::input(error.to_string(), None))?;
    let of_stack = metadata.stack.map(|stack| stack.run_image);
    let is_empty = |names: &RunImageNames| names.image.is_empty() && names.mirrors.is_empty();
    let names = Some(metadata.run_image.names).filter(|names| !is_empty(names)).or(of_stack);
    let names = names.ok_or_else(no_base)?;
    let preferred = mirrors.get(&names.image).cloned().unwrap_or_default();
    let names = names.preferring(preferred);
    let mut failure = None;
    for name in names.best_first(&reference(&args.image)?) {
        match bench.run(images.take(name, platform)) {
            Ok(found) => return Ok((name.to_owned(), found)),
            Err(error @ Failure::Interrupted(_)) => return Err(error),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(no_base))
}

fn layered(details: ImageDetails) -> Layered {
    Layered { config: details.config, layers: details.layers }
}

/// Returns `report.toml`.
fn report_text(name: &str, to: &Delivery, digest: &str, size: u64) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut fields = BTreeMap::from([("tags", format!("[{}]", quoted(name)))]);
    match to {
        Delivery::Registry(_) => fields.insert("digest", quoted(digest)),
        Delivery::Store(_) | Delivery::File(_) => fields.insert("image-id", quoted(digest)),
    };
    fields.insert("manifest-size", size.to_string());
    let lines = fields.iter().map(|(key, value)| format!("{key} = {value}\n"));
    format!("[image]\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use rb_oci::Digest;

    use super::*;

    #[test]
    fn what_a_report_says() {
        let digest = Digest::of("x").to_string();
        let text = report_text("a\"b", &Delivery::Store(Vec::new()), &digest, 7);
        let table: toml::Table = toml::from_str(&text).expect("is TOML");
        assert_eq!(table["image"]["image-id"].as_str(), Some(digest.as_str()));
        assert_eq!(table["image"]["tags"][0].as_str(), Some("a\"b"));
        assert!(report_text("a", &Delivery::Registry(Vec::new()), &digest, 7).contains("digest = "));
    }
}
