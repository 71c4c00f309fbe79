//! What a job writes of trees that are made: images, files and caches, each by a build of its own at the daemon.
//!
//! **Invariant:** one is under way at a time, so that what comes back is its own.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use rb_api::{
    CacheExport, CacheTarget, CacheWritten, Export, Job as _, Provenance, SolveError, SolveRequest,
    SolveResult,
};
use rb_wire::control::{self, CacheOptionsEntry};

use super::{Opened, RemoteJob, is_of_stream};
use crate::build::Build;
use crate::error::RemoteError;
use crate::exports::{self, Here, Written};
use crate::prepare::Prepared;
use crate::{caches, results, statements};

/// What goes into an image beside its layers.
struct Beside<'a> {
    /// A cache.
    inline: Vec<CacheOptionsEntry>,
    /// Where it came from.
    provenance: Option<&'a Provenance>,
}

impl RemoteJob {
    /// Writes all that a request wants of roots that are made: exports in their order, each with the caches that go into its images, then
    /// the other caches.
    pub(super) async fn write(
        &self,
        opened: &Opened,
        roots: &[Prepared],
        request: &SolveRequest,
    ) -> Result<SolveResult, SolveError> {
        let (inline, elsewhere): (Vec<_>, Vec<_>) =
            request.cache_to.iter().partition(|cache| cache.target == CacheTarget::Inline);
        let (mut written, mut pushed, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for cache in &inline {
            if inline_of(cache, &request.exports).next().is_some() {
                told.push(told_of(cache, None));
            }
        }
        for export in &request.exports {
            let _alone = self.exporting.lock().await;
            // A daemon takes one.
            let mut own = inline.iter().filter(|cache| inline_of(cache, [export]).next().is_some());
            let own =
                own.next().map(|cache| caches::export(cache, &self.caches, &self.engine.options.scratch));
            let inline = own.transpose()?.map(|writing| writing.entry).into_iter().collect();
            let beside = Beside { inline, provenance: statements::said(export, &request.attests) };
            let Written { result, pushed: more } = self.export(opened, roots, export, beside).await?;
            written.push(result);
            pushed.extend(more);
        }
        for cache in elsewhere {
            let _alone = self.exporting.lock().await;
            told.push(match self.cache(opened, roots, cache).await {
                Err(error) if cache.ignore_error && !matches!(error, SolveError::Cancelled) => {
                    told_of(cache, Some(rb_diag::chain(&error)))
                }
                ended => ended?,
            });
        }
        let keys = roots.iter().map(Prepared::key).collect();
        Ok(SolveResult { roots: keys, exports: written, pushed, caches: told, summary: self.summary() })
    }

    /// Has the daemon write a cache, by a build of its own.
    async fn cache(
        &self,
        opened: &Opened,
        roots: &[Prepared],
        cache: &CacheExport,
    ) -> Result<CacheWritten, SolveError> {
        let writing = caches::export(cache, &self.caches, &self.engine.options.scratch)?;
        let options = control::CacheOptions { exports: vec![writing.entry.clone()], imports: Vec::new() };
        let request = control::SolveRequest { cache: Some(options), ..self.request(&opened.lent) };
        let build = Build::open(&opened.daemon, request, &self.vertices).await?;
        self.is_open(&build, &opened.lent).await?;
        let wanted = cache.roots.iter().filter_map(|root| roots.get(*root));
        let trees = try_join_all(wanted.map(|root| self.tree(opened, &build, root))).await?;
        // Which trees are for which platform says nothing of a cache.
        let result = results::of_trees(&trees);
        let response = match build.finish(result, false).await {
            Ok(response) => response,
            Err(status) => return Err(self.failure(opened, status, false).await),
        };
        let cache = cache.clone();
        let written = tokio::task::spawn_blocking(move || caches::written(&cache, &writing, &response)).await;
        Ok(written.map_err(|error| RemoteError::answer(error.to_string()))??)
    }

    async fn export(
        &self,
        opened: &Opened,
        roots: &[Prepared],
        export: &Export,
        beside: Beside<'_>,
    ) -> Result<Written, SolveError> {
        let options = &self.engine.options;
        let here = Here {
            scratch: &options.scratch,
            precious: &options.precious,
            images: options.images.as_ref(),
            epoch_seconds: self.options.epoch_seconds,
        };
        let Beside { inline, provenance } = beside;
        let exporter = exports::exporter(export, &here, provenance.is_some())?;
        let wanted = export.roots().into_iter().map(|root| {
            let missing = || RemoteError::answer(format!("an export names root {root}, which is not there"));
            roots.get(root).ok_or_else(missing)
        });
        let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
        let platforms: Vec<String> =
            export.images().iter().map(|image| results::platform_of(image).to_string()).collect();
        // What the exporter compares the image with; nothing is what the daemon runs on.
        let mut frontend_attrs: BTreeMap<String, String> = BTreeMap::new();
        if !platforms.is_empty() {
            frontend_attrs.insert("platform".to_owned(), platforms.join(","));
        }
        if let Some(wish) = provenance {
            frontend_attrs.insert("attest:provenance".to_owned(), statements::provenance(wish));
        }
        let cache =
            (!inline.is_empty()).then(|| control::CacheOptions { exports: inline, imports: Vec::new() });
        let request = control::SolveRequest {
            exporters: vec![exporter],
            frontend_attrs,
            cache,
            ..self.request(&opened.lent)
        };
        let build = Build::open(&opened.daemon, request, &self.vertices).await?;
        self.is_open(&build, &opened.lent).await?;
        let trees = try_join_all(wanted.iter().map(|root| self.tree(opened, &build, root))).await?;
        let result = results::result(export, &trees, self.options.epoch_seconds)?;
        let is_pushed = matches!(export, Export::Image { push: Some(_), .. });
        if is_pushed {
            self.once.get_or_init(|| "an image may have been pushed");
        }
        let arriving = &opened.lent.arriving;
        let streams = arriving.expect();
        let finishing = async {
            let finished = build.finish(result, !is_pushed).await;
            // Who waits for a stream hears that none comes.
            arriving.close();
            match finished {
                Ok(response) => Ok(response),
                // A disk that is full may be the one of here.
                Err(status) => Err(self.failure(opened, status, is_pushed).await),
            }
        };
        // What this machine cannot write is the better reason of two.
        let (response, taken) = tokio::join!(finishing, exports::take(export, &here, streams));
        match (response, taken) {
            (Ok(response), taken) => exports::described(export, taken?, &response),
            (Err(failure), Ok(_)) => Err(failure),
            (Err(failure), Err(own)) if is_of_stream(&own) => Err(failure),
            (Err(_), Err(own)) => Err(own),
        }
    }
}

/// Returns the images of exports that a cache goes into.
fn inline_of<'e>(
    cache: &CacheExport,
    exports: impl IntoIterator<Item = &'e Export>,
) -> impl Iterator<Item = &'e Export> {
    exports.into_iter().filter(|export| export.images().iter().any(|image| cache.roots.contains(&image.root)))
}

/// Says what became of a cache that a build of its own did not write.
fn told_of(cache: &CacheExport, failed: Option<String>) -> CacheWritten {
    CacheWritten { place: cache.target.to_string(), digest: None, holds: None, failed }
}
