//! Images that commands of pack take, and where their results go.
//!
//! In: names, and what was said of registries. Out: places, images looked into, deliveries. An image is taken from the store
//! where it is there, unless registries are to be asked always; what is published is made of images of registries alone, as pack
//! does.

use rb_engine::{Delivery, ImageDetails, Place};
use rb_oci::{Descriptor, Platform, Reference};
use rb_registry::HostOptions;

use super::super::image::about;
use super::super::run::Shown;
use super::super::workbench::Workbench;
use crate::args::{PackPull, PackPulls};
use crate::report::summary::pushed_line;
use crate::report::{self, Failure};
use crate::settings::{ProgressMode, Settings};

/// Where images are looked for.
#[derive(Clone, Copy)]
pub(super) struct Images<'a> {
    bench: &'a Workbench,
    publish: bool,
    pull: PackPull,
}

impl<'a> Images<'a> {
    /// `publish`: the result goes to a registry.
    pub(super) fn new(bench: &'a Workbench, publish: bool, pulls: &PackPulls) -> Self {
        let pull = pulls.pull_policy.unwrap_or(PackPull::IfNotPresent);
        Self { bench, publish, pull }
    }

    /// Returns where an image is.
    pub(super) fn place(&self, name: &str) -> Result<Place, Failure> {
        let bare = name.strip_prefix("docker://").unwrap_or(name).trim_start_matches('/');
        let in_registry = || -> Result<Place, Failure> { Ok(Place::Registry(reference(bare)?)) };
        match self.pull {
            _ if self.publish => in_registry(),
            PackPull::Never => Ok(Place::Store(bare.to_owned())),
            PackPull::Always => in_registry(),
            PackPull::IfNotPresent if self.bench.engine.has_image(bare)? => Ok(Place::Store(bare.to_owned())),
            PackPull::IfNotPresent => in_registry(),
            PackPull::Within(_) => {
                let age = self.pull.age().unwrap_or_default();
                let is_young = self.bench.engine.asked_within(&reference(bare)?, age)?;
                match is_young && self.bench.engine.has_image(bare)? {
                    true => Ok(Place::Store(bare.to_owned())),
                    false => in_registry(),
                }
            }
        }
    }

    /// Looks into an image.
    pub(super) async fn take(&self, name: &str, platform: &Platform) -> Result<ImageDetails, Failure> {
        let place = self.place(name)?;
        let taken = self.bench.engine.take_image(&place, platform).await;
        taken.map_err(|error| about(name, error))
    }
}

/// Reads the name of an image.
pub(super) fn reference(name: &str) -> Result<Reference, Failure> {
    name.parse().map_err(|error: rb_oci::ReferenceError| Failure::input(format!("`{name}`: {error}"), None))
}

/// Has some registries asked by http.
pub(super) fn allow_insecure(settings: &mut Settings, hosts: &[String]) {
    for host in hosts {
        let own: &mut HostOptions = settings.registry.hosts.entry(host.clone()).or_default();
        own.plain_http = true;
    }
}

/// Returns where a result goes.
pub(super) fn delivery(name: &str, more: &[String], publish: bool) -> Result<Delivery, Failure> {
    let names = std::iter::once(name).chain(more.iter().map(String::as_str));
    if publish {
        return Ok(Delivery::Registry(names.map(reference).collect::<Result<_, _>>()?));
    }
    let names: Vec<String> = names.map(ToOwned::to_owned).collect();
    names.iter().try_for_each(|name| reference(name).map(drop))?;
    Ok(Delivery::Store(names))
}

/// Brings an image to where it belongs, and says what it is there.
pub(super) fn deliver(
    settings: &Settings,
    bench: &Workbench,
    root: &Descriptor,
    to: &Delivery,
) -> Result<(), Failure> {
    let shown = Shown::default();
    let events = shown.sink(settings.display, "pack");
    let pushed = bench.run(async { Ok(bench.engine.deliver(root, to, &events).await?) });
    shown.finish();
    let is_quiet = settings.display.mode == ProgressMode::Quiet;
    for image in pushed? {
        if !is_quiet {
            report::tell(&format!("{}\n", pushed_line(&image)));
        }
    }
    report::print(format!("{}\n", root.digest()).as_bytes())
}
