//! One job: definitions come in, are bound and solved; trees are exported, or read for an answer.
//!
//! All calls of a job share one job of the solver, so what one has solved the others have.
//! **Invariant:** vertices reach the solver's job inputs first, whatever calls run at once: binding and adding happen
//! under one lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use rb_api::{
    Attest, Course, Detail, Engine, EventSink, Export, Job, JobOptions, Outlook, ProcessRequest, SolveError,
    SolveRequest, SolveResult, Summary,
};
use rb_diag::chain;
use rb_exec::Rootless;
use rb_exporters::Epoch;
use rb_frontend::{Answer, GitFacts, ImageRequest, Query, RepositoryRequest, ResolvedImage, WorldError};
use rb_llb::Definition;
use rb_oci::Digest;
use rb_solver::{Failure, Mode};

use crate::error::EngineError;
use crate::exports::Need;
use crate::exports::attest::{self, Attests, Depths, Seen};
use crate::fetch::{self, Told};
use crate::graph::{Graphs, Output};
use crate::job::JobContext;
use crate::ops::Nesting;
use crate::progress::{self, Gauge};
use crate::shared::{self, Caches};
use crate::value::{Product, Root, Tree, Value};
use crate::watch::Watch;
use crate::{LocalEngine, exports, gateway, history, look, push};

#[async_trait]
impl Engine for LocalEngine {
    fn job(&self, options: JobOptions, events: EventSink) -> Arc<dyn Job> {
        let JobOptions {
            session,
            no_cache,
            cache_from,
            pull,
            allow_insecure,
            allow_host_network,
            allowed_devices,
            epoch_seconds,
            course,
        } = options;
        let context = JobContext::new(self.parts.clone(), session, no_cache, self.allowed_binds.clone());
        let seen = Arc::new(Seen::new(self.parts.store.now_unix()));
        let watch = Watch::new(attest::listen(&seen, events)).asking(&self.parts);
        let watch = Arc::new(watch);
        let is_single_id = self.parts.privileges.mode == Rootless::SingleId;
        self.parts.shared.add(cache_from, is_single_id, Epoch(epoch_seconds), watch.events());
        let handle = self.solver().job_in(mode_of(course), Vec::new(), watch.clone());
        let nesting = Arc::new(Nesting::new(handle, watch.clone()));
        let context = context.with_insecure(allow_insecure).with_host_network(allow_host_network);
        let context = context.with_devices(allowed_devices).with_pull(pull).on_course(course);
        context.nest(&nesting);
        let (context, epoch, ended) = (Arc::new(context), Epoch(epoch_seconds), Arc::clone(&self.ended));
        Arc::new(LocalJob { nesting, context, watch, seen, epoch, ended })
    }

    async fn idle(&self) {
        if let Some(solver) = self.solver.get() {
            solver.idle().await;
        }
    }
}

/// After so many jobs memory is given back.
const THRIFT_JOBS: usize = 16;

/// A job of this process.
struct LocalJob {
    nesting: Arc<Nesting>,
    context: Arc<JobContext>,
    watch: Arc<Watch>,
    /// What sources stood for.
    seen: Arc<Seen>,
    epoch: Epoch,
    ended: Arc<AtomicUsize>,
}

impl Drop for LocalJob {
    fn drop(&mut self) {
        self.context.packing.cancel();
        if let Some(admission) = &self.context.parts.admission {
            admission.save();
        }
        // A process of one build ends soon; one that goes on shall not keep what its builds have freed.
        if (self.ended.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(THRIFT_JOBS) {
            rb_sys::memory::give_back();
        }
    }
}

/// What the writing of a job's outputs is called.
const OUTPUTS: &str = "writing outputs";

#[async_trait]
impl Job for LocalJob {
    async fn solve(&self, mut request: SolveRequest) -> Result<SolveResult, SolveError> {
        exports::check(&request.exports, &request.attests).map_err(|error| engine_error(&error))?;
        shared::check(&self.context.parts, &request.cache_to).map_err(|error| engine_error(&error))?;
        // The keys are those of everybody, and the owners in its trees are not.
        if self.context.parts.privileges.mode == Rootless::SingleId && !request.cache_to.is_empty() {
            shared::tell_single_id(self.watch.events());
            request.cache_to.clear();
        }
        let names = attest::names(&request.exports);
        let targets = push::take(&mut request.exports).map_err(|error| engine_error(&error))?;
        shared::check_names(&request.cache_to, &targets).map_err(|error| engine_error(&error))?;
        let products =
            self.products(request.roots.iter().map(|root| &root.definition), &request.exports).await?;
        if let Some(resumption) = self.context.parts.resumption.get() {
            let is_resumed = |index: usize| products.get(index).is_some_and(Product::is_resumed);
            resumption.refuse_images(&request.exports, is_resumed).map_err(|error| engine_error(&error))?;
        }
        let mut made = Vec::with_capacity(products.len());
        for (index, product) in products.into_iter().enumerate() {
            let need = exports::need(&request.exports, &request.layered, index)
                .max(attest::need(&request.attests, index));
            made.push(self.root(product, need).await?);
        }
        let roots = made.iter().map(Root::key).collect();
        for root in &made {
            if let Root::Tree(tree @ Tree { host: Some(_), .. }) = root {
                let mut on_host = self.context.parts.on_host.lock().unwrap_or_else(PoisonError::into_inner);
                on_host.insert(root.key(), tree.clone());
            }
        }
        let definitions = request.roots.iter().map(|root| &root.definition);
        let settled = history::settle(
            &self.context.parts,
            self.nesting.handle(),
            definitions,
            &made,
            &mut request.exports,
        );
        settled.await.map_err(|error| job_error(&error))?;
        let attests = self.attests(&request, names, &made).await?;
        let caches = self.caches(&request).await?;
        let inline = caches.put_inline(&made, &mut request.exports, &request.cache_to);
        let inline = inline.await;
        let formats = request.exports.clone();
        let (parts, epoch) = (Arc::clone(&self.context.parts), self.epoch);
        let packing = Arc::clone(&self.context.packing);
        let are_written = !request.exports.is_empty();
        let gauge = Arc::new(Gauge::new("packing"));
        let write = {
            let gauge = Arc::clone(&gauge);
            move || {
                gauge.follow("packing", packing.tally());
                let _alone = packing.alone();
                exports::write(&parts, &request.exports, &made, (&attests, &request.layered), epoch, &gauge)
            }
        };
        let written = if are_written {
            let told = Told::begin(self.watch.events(), OUTPUTS);
            let written = progress::told(&told.listener(), &gauge, || true, crate::blocking(write)).await;
            told.end(&written);
            written
        } else {
            crate::blocking(write).await
        };
        let exports = written.map_err(|error| job_error(&error))?;
        let pushed = push::written(&self.context.parts, &targets, &exports, self.watch.events()).await;
        let pushed = pushed.map_err(|error| engine_error(&error))?;
        let written = caches.write(&request.cache_to, &formats, inline).await;
        let caches = written.map_err(|error| job_error(&error))?;
        let parts = Arc::clone(&self.context.parts);
        let settled = crate::blocking(move || {
            parts.shared.settle(&parts);
            Ok(())
        });
        settled.await.map_err(|error| job_error(&error))?;
        Ok(SolveResult { roots, exports, pushed, caches, summary: self.summary() })
    }

    async fn query(&self, definition: Definition, query: Query) -> Result<Answer, SolveError> {
        let product = self.products([&definition], &[]).await?.into_iter().next();
        if let Some(resumption) = self.context.parts.resumption.get()
            && product.as_ref().is_some_and(Product::is_resumed)
        {
            resumption.note_answer();
        }
        let value = match product {
            // What is read of the user's folder is no part of a tree: it is read where it lies.
            Some(Product::Here(value @ Value::Local(_))) => value,
            Some(product) => Value::Tree(self.tree(product).await?),
            None => Value::Tree(Tree::scratch()),
        };
        let view = crate::ops::view(&self.context.parts, &value).map_err(|error| engine_error(&error))?;
        gateway::answer(view, query, matches!(value, Value::Local(_))).await
    }

    async fn process(&self, mut request: ProcessRequest) -> Result<i32, SolveError> {
        if self.context.course == Course::Look {
            let vertex = Digest::of(&request.name);
            return Err(SolveError::Withheld { vertex, name: request.name, reason: None });
        }
        let definitions = std::mem::take(&mut request.inputs);
        let products = self.products(&definitions, &[]).await?;
        if let Some(resumption) = self.context.parts.resumption.get()
            && products.iter().any(Product::is_resumed)
        {
            resumption.note_answer();
        }
        let mut inputs = Vec::with_capacity(products.len());
        for product in products {
            inputs.push(Value::Tree(self.tree(product).await?));
        }
        let ended = crate::ops::process::run(&self.context, request, inputs).await;
        ended.map_err(|error| job_error(&error))
    }

    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        gateway::resolve_image(&self.context, request, self.watch.events()).await
    }

    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        gateway::resolve_repository(&self.context, request, self.watch.events()).await
    }

    async fn look(&self, roots: &[rb_api::Root]) -> Result<Vec<Outlook>, SolveError> {
        if self.context.course != Course::Look {
            return Err(engine_error(&EngineError::Worker {
                reason: "this job does not only look".to_owned(),
            }));
        }
        let graphs =
            Graphs::of(roots.iter().map(|root| &root.definition)).map_err(|error| engine_error(&error))?;
        self.add(&graphs);
        let edges: Vec<Output> = graphs.roots().into_iter().flatten().collect();
        let failures = match self.nesting.handle().solve(&edges).await {
            Ok(_) => Vec::new(),
            Err(error @ rb_solver::SolveError::Failed { .. }) => error.failures(),
            Err(error) => return Err(solve_error(error, &self.context, &self.watch)),
        };
        let context = Arc::clone(&self.context);
        let absent =
            crate::blocking(move || look::absent(&context)).await.map_err(|error| job_error(&error))?;
        Ok(look::outlooks(&self.watch, failures, absent, &self.context))
    }

    fn summary(&self) -> Summary {
        self.watch.summary()
    }
}

fn mode_of(course: Course) -> Mode {
    match course {
        Course::Stop => Mode::Stop,
        Course::KeepGoing => Mode::KeepGoing,
        Course::Look => Mode::Look,
    }
}

impl LocalJob {
    /// Solves the roots of definitions, in order; the layers of what `exports` make images of are packed meanwhile.
    async fn products<'a>(
        &self,
        definitions: impl IntoIterator<Item = &'a Definition> + Send,
        exports: &[Export],
    ) -> Result<Vec<Product>, SolveError> {
        let graphs = Graphs::of(definitions).map_err(|error| engine_error(&error))?;
        self.context.packing.want(graphs.all(), exports, self.epoch);
        self.add(&graphs);
        if let Some(resumption) = self.context.parts.resumption.get() {
            let is_resumed =
                |index: usize| graphs.all().get(index).is_some_and(|graph| resumption.is_in(graph));
            resumption.refuse_images(exports, is_resumed).map_err(|error| engine_error(&error))?;
        }
        let roots = graphs.roots();
        drop(graphs);
        let edges: Vec<Output> = roots.iter().flatten().copied().collect();
        let solved = self.nesting.handle().solve(&edges).await;
        let mut values = solved.map_err(|error| solve_error(error, &self.context, &self.watch))?.into_iter();
        let product = |root: &Option<Output>| match root {
            None => Product::Here(Value::Tree(Tree::scratch())),
            Some(_) => values.next().expect("one value per edge"),
        };
        Ok(roots.iter().map(product).collect())
    }

    /// Drafts what is said of the roots of a request.
    async fn attests(
        &self,
        request: &SolveRequest,
        names: Vec<Vec<String>>,
        made: &[Root],
    ) -> Result<Attests, SolveError> {
        let mut depths: BTreeMap<usize, Depths> = BTreeMap::new();
        let is_full = |attest: &Attest| {
            attest.provenance.as_ref().is_some_and(|provenance| provenance.detail == Detail::Max)
        };
        for (index, _) in request.attests.iter().filter(|(_, attest)| is_full(attest)) {
            let (Some(root), Some(made)) = (request.roots.get(*index), made.get(*index)) else { continue };
            let handle = self.nesting.handle();
            let found = history::chain(&self.context.parts, handle, &root.definition, made).await;
            depths.insert(*index, found.map_err(|error| job_error(&error))?);
        }
        let (wishes, roots) = (&request.attests, request.roots.as_slice());
        let session = self.context.session.as_ref();
        Attests::draft(wishes, roots, names, &mut depths, &self.seen, session)
            .map_err(|error| engine_error(&error))
    }

    /// Finds out what there is to be written for others.
    async fn caches(&self, request: &SolveRequest) -> Result<Caches<'_>, SolveError> {
        let definitions = request.roots.iter().map(|root| &root.definition);
        let of = (&self.context.parts, self.nesting.handle());
        let surveyed =
            Caches::survey(of, definitions, &request.cache_to, self.epoch, self.watch.events()).await;
        surveyed.map_err(|error| job_error(&error))
    }

    /// Adds what the job does not know yet.
    fn add(&self, graphs: &Graphs) {
        self.nesting.add(graphs, &self.context);
    }

    async fn tree(&self, product: Product) -> Result<Tree, SolveError> {
        let parts = &self.context.parts;
        match product {
            Product::Here(Value::Tree(tree)) | Product::Resumed(Value::Tree(tree), _) => Ok(tree),
            Product::Here(value @ Value::Local(_)) | Product::Resumed(value @ Value::Local(_), _) => {
                let parts = Arc::clone(parts);
                let copied = crate::blocking(move || crate::ops::as_tree(&parts, &value)).await;
                copied.map_err(|error| job_error(&error))
            }
            Product::Image(image, _) => {
                let told = Told::begin(self.watch.events(), &image.name());
                let tree = fetch::tree(parts, &image, &told.listener()).await;
                told.end(&tree);
                tree.map_err(|error| job_error(&error))
            }
        }
    }

    /// Brings of a root what its exports need.
    async fn root(&self, product: Product, need: Need) -> Result<Root, SolveError> {
        match (product, need) {
            (Product::Image(image, content), Need::Nothing) => Ok(Root::Image(image, content)),
            (Product::Image(image, content), Need::Layers) => {
                let told = Told::begin(self.watch.events(), &image.name());
                let fetched = fetch::blobs(&self.context.parts, &image, &told.listener()).await;
                told.end(&fetched);
                fetched.map_err(|error| job_error(&error))?;
                Ok(Root::Image(image, content))
            }
            (product, Need::Nothing | Need::Layers | Need::Tree) => Ok(Root::Tree(self.tree(product).await?)),
        }
    }
}

fn solve_error(error: rb_solver::SolveError, job: &JobContext, watch: &Watch) -> SolveError {
    let mut failures = error.failures();
    if failures.is_empty() {
        return match error {
            rb_solver::SolveError::Cancelled => SolveError::Cancelled,
            other => SolveError::Job { kind: other.kind(), message: chain(&other), help: None },
        };
    }
    match job.course {
        // What fails beside the first is its like, or was told to stop.
        Course::Stop => failures.truncate(1),
        // A look that comes upon what is wrong says that, and not what it would have run.
        Course::Look if failures.iter().any(|failure| !failure.source.is_withheld()) => {
            failures.retain(|failure| !failure.source.is_withheld());
        }
        // Of what would run the first will do: there is more to run for it.
        Course::Look => failures.truncate(1),
        Course::KeepGoing => {}
    }
    let mut told: Vec<_> = failures.into_iter().map(|failure| failure_error(failure, job, watch)).collect();
    match told.len() {
        1 => told.remove(0),
        _ => SolveError::Several(told),
    }
}

/// Tells of one vertex that failed.
pub(crate) fn failure_error(failure: Failure, job: &JobContext, watch: &Watch) -> SolveError {
    let Failure { vertex, name, source } = failure;
    if source.is_cancelled() {
        return SolveError::Cancelled;
    }
    if source.is_withheld() {
        return SolveError::Withheld { vertex, name: name.to_string(), reason: watch.reason(&vertex) };
    }
    let engine = source.get_ref().downcast_ref::<EngineError>();
    let log_tail = match engine {
        Some(
            EngineError::Exit { log_tail, .. }
            | EngineError::NoRoom { log_tail, .. }
            | EngineError::Nested { log_tail, .. },
        ) => log_tail.clone(),
        _ => job.take_tail(&vertex),
    };
    SolveError::Vertex {
        vertex,
        name: name.to_string(),
        kind: source.kind(),
        message: chain(source.as_ref()),
        help: engine.and_then(EngineError::help),
        log_tail,
    }
}

/// The error of work that belongs to no vertex.
pub(crate) fn job_error(error: &rb_solver::OpError) -> SolveError {
    if error.is_cancelled() {
        return SolveError::Cancelled;
    }
    let help = error.get_ref().downcast_ref::<EngineError>().and_then(EngineError::help);
    SolveError::Job { kind: error.kind(), message: chain(error), help }
}

/// The same, before it became work.
pub(crate) fn engine_error(error: &EngineError) -> SolveError {
    SolveError::Job { kind: error.kind(), message: chain(error), help: error.help() }
}
