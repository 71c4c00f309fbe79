//! `rb image pull`: an image of a registry, into the image store.
//!
//! stdout gets the digest of the manifest, by which the store knows it; stderr, what the registry calls it.

use rb_api::PullPolicy;
use rb_oci::Platform;

use super::run::Shown;
use super::workbench::Workbench;
use crate::args::ImagePullArgs;
use crate::report::{self, Failure};
use crate::settings::{ProgressMode, Settings};

/// Pulls an image.
pub(super) fn pull(settings: &Settings, bench: &Workbench, args: &ImagePullArgs) -> Result<(), Failure> {
    named(settings, bench, &args.name, args.platform.as_ref())
}

/// Pulls the image of a name; that for this machine, if no platform is said.
pub(super) fn named(
    settings: &Settings,
    bench: &Workbench,
    name: &str,
    platform: Option<&Platform>,
) -> Result<(), Failure> {
    let shown = Shown::default();
    let events = shown.sink(settings.display, &format!("pull {name}"));
    let pulled =
        bench.run(async { Ok(bench.engine.pull_image(name, platform, PullPolicy::Always, &events).await) });
    shown.finish();
    let pulled = pulled?.map_err(|error| super::image::about(name, error))?;
    if settings.display.mode != ProgressMode::Quiet {
        report::tell(&format!("{} is {}\n", pulled.name, pulled.pinned));
    }
    report::print(format!("{}\n", pulled.digest).as_bytes())
}
