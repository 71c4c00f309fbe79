//! Registries of buildpacks, as `rb pack config registries` knows them.
//!
//! In: a name, or nothing for the default one; ids. Out: the files of a registry, a repository that the engine reads; the image that an
//! id stands for, by its digest.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_buildpacks::frontend;
use rb_diag::SourceMap;
use rb_llb::{NodeMeta, State, attr};
use rb_session::LocalSession;

use super::super::build::open_job_here;
use super::super::gateway::{BuildGateway, Settling};
use super::super::run::Shown;
use super::super::workbench::Workbench;
use super::phases;
use crate::progress::terminal_columns;
use crate::report::{self, Failure};
use crate::settings::pack::{PackSettings, Registry};
use crate::settings::{ProgressMode, Settings};

/// Returns the files of the registry of a name, or of the default one, if there is one.
pub(super) fn chosen(known: &PackSettings, name: Option<&str>) -> Result<Option<State>, Failure> {
    let registry = known.registry(name);
    if let Some(name) = name.filter(|_| registry.is_none()) {
        let help = Some("`rb pack config registries add NAME URL` adds one".to_owned());
        return Err(Failure::input(format!("there is no registry of buildpacks `{name}`"), help));
    }
    registry.map(index).transpose()
}

/// Returns the image that an id stands for, and warns of one that is yanked.
pub(super) fn image_of(
    settings: &Settings,
    bench: &Workbench,
    files: &State,
    (id, version): (&str, Option<&str>),
) -> Result<String, Failure> {
    let shown = Shown::default();
    let found = bench.run(async {
        let events = shown.sink(settings.display, "the registry of buildpacks");
        let job = open_job_here(settings, bench, Arc::new(LocalSession::default()), events);
        let sources = SourceMap::default();
        let gateway = BuildGateway::new(job, sources.clone(), settings.cwd.clone(), Settling::Nothing);
        let found = frontend::in_registry(&gateway, files, id, version).await;
        found.map_err(|error| phases::failed(error, &gateway, &sources, settings.display))
    });
    shown.finish();
    let found = found?;
    if let Some(warning) = found.warning.filter(|_| settings.display.mode != ProgressMode::Quiet) {
        report::tell(&report::warning(&warning, settings.display, terminal_columns()));
    }
    Ok(found.image)
}

/// Returns the files of a registry of buildpacks.
fn index(registry: &Registry) -> Result<State, Failure> {
    let Registry { name, url, .. } = registry;
    let wrong = || {
        let help = Some("http(s)://HOST/PATH, ssh://… and git://… are addresses of repositories".to_owned());
        Failure::input(format!("registry of buildpacks `{name}`: `{url}` is no address"), help)
    };
    let (scheme, place) = url.split_once("://").ok_or_else(wrong)?;
    if !["http", "https", "git", "ssh"].contains(&scheme) || !place.contains('/') {
        return Err(wrong());
    }
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let mut attrs = BTreeMap::from([
        (attr::GIT_FULL_URL.to_owned(), url.clone()),
        (attr::GIT_AUTH_TOKEN_SECRET.to_owned(), "GIT_AUTH_TOKEN".to_owned()),
        (attr::GIT_AUTH_HEADER_SECRET.to_owned(), "GIT_AUTH_HEADER".to_owned()),
    ]);
    if scheme == "ssh" {
        attrs.insert(attr::GIT_MOUNT_SSH_SOCK.to_owned(), "default".to_owned());
    }
    let meta = NodeMeta::named(format!("load the registry of buildpacks {name}"));
    Ok(State::source(format!("git://{}", place.trim_end_matches('/')), attrs, None, meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_registries() {
        let of = |url: &str| index(&Registry { url: url.to_owned(), ..Registry::default() });
        for url in ["https://example.com/index", "ssh://git@example.com/index.git", "git://localhost:1/r"] {
            assert!(of(url).is_ok(), "{url}");
        }
        for url in ["example.com/index", "file:///index", "https://example.com", ""] {
            assert!(of(url).is_err(), "{url}");
        }
    }
}
