//! What FROM BUILDPACKS asks for, settled.
//!
//! In: a statement, and the app's `project.toml` or what `--descriptor` names. Out: [`Asked`]: the request for the frontend, where
//! in the text each part of it stands, and trees that other targets made. Strongest first: what the statement says, the
//! descriptor, the builder. Places in a descriptor are as seen from the app's folder.
//! **Invariant:** every path is one of the project or of an artifact; nothing of this machine decides.

use std::collections::BTreeMap;

use rb_buildpacks::frontend::{AppFilter, AppSource, PRODUCTION, PackRequest, user_variables};
use rb_buildpacks::includes;
use rb_buildpacks::project::Project;
use rb_diag::{Diagnostic, Span, nearest};
use rb_frontend::{Answer, FileKind, ImageLocation, ImageRequest, ProjectRef, Query};
use rb_llb::{NetworkMode, NodeMeta, State};
use rb_oci::Platform;
use rb_syntax::{CallArg, FileSource, FromBuildpacks, Stmt, Word};

use crate::codes;
use crate::evaluate::base::OCI_LAYOUT;
use crate::evaluate::found::{Context, Found, span_of};
use crate::evaluate::frame::Frame;
use crate::evaluate::{Evaluator, Fallible, caches, internal, world_error};
use crate::lower::{self, paths};
use crate::resolve::{Resolved, dividing_plus, near_folder};
use crate::word::Escapes;

/// The descriptor of an app that names no other.
const DESCRIPTOR: &str = "project.toml";
/// Largest descriptor.
const MOST_BYTES: u64 = 1 << 20;

/// A build with buildpacks, as it is asked for.
pub(super) struct Asked {
    pub(super) request: PackRequest,
    pub(super) places: Places,
    /// What other targets made of it.
    pub(super) kept: Vec<State>,
}

/// Where the parts of a request stand.
pub(super) struct Places {
    pub(super) statement: Span,
    pub(super) app: Span,
    /// Who names the builder: the statement, or the app by its descriptor.
    pub(super) builder: Span,
    /// Buildpacks that the statement names, as they are known.
    buildpacks: Vec<(String, Span)>,
}

impl Places {
    /// Returns where the buildpack is named that a text is about; the app's place for one that its descriptor names.
    pub(super) fn of_buildpack(&self, about: &str) -> Span {
        let named = self.buildpacks.iter().find(|(name, _)| about.contains(name.as_str()));
        match (named, self.buildpacks.as_slice()) {
            (Some((_, at)), _) | (None, [(_, at)]) => *at,
            (None, []) => self.app,
            (None, _) => self.statement,
        }
    }
}

/// What is lent of a folder, and where it lies in that.
pub(super) struct Lent {
    pub(super) state: State,
    pub(super) path: String,
    /// Patterns that still have to be applied.
    pub(super) filter: AppFilter,
}

impl Evaluator<'_> {
    /// Settles what a statement asks for.
    pub(super) async fn asked_of_buildpacks(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        from: &FromBuildpacks<Resolved>,
        platform: &Platform,
    ) -> Fallible<Asked> {
        let at = span_of(&from.app);
        let app = self.folder(frame, &from.app, &[], ("an app", at)).await?;
        if let Context::Folder(folder) = &app {
            self.check_folder(folder, at).await?;
        }
        let (project, descriptor_at) = self.descriptor(frame, from, &app).await?;
        let typed = match &from.builder {
            Some(word) => Some((self.image_name(frame, word, "builder", platform).await?, word.span)),
            None => None,
        };
        let of_project = || Some(project.builder.clone()).filter(|name| !name.is_empty());
        let (builder, builder_at) = match typed {
            Some(typed) => typed,
            None => (of_project().ok_or_else(|| no_builder(stmt.span))?, descriptor_at),
        };
        if from.builder.is_none() {
            self.check_image(&builder, platform, descriptor_at).await?;
        }
        let run_image = match &from.run_image {
            Some(word) => Some(self.image_name(frame, word, "run image", platform).await?),
            None => None,
        };
        let launcher = match &from.launcher {
            Some(source) => self.launcher(frame, source, platform).await?,
            None => None,
        };
        let environment = self.build_variables(frame, &project, &from.environment).await?;
        let mut kept = Vec::new();
        let mut places =
            Places { statement: stmt.span, app: at, builder: builder_at, buildpacks: Vec::new() };
        let mut buildpacks = Vec::new();
        for source in &from.buildpacks {
            let (choice, name) = self.buildpack(frame, source, &mut kept).await?;
            buildpacks.push(choice);
            places.buildpacks.push((name, span_of(source)));
        }
        let [own, pre, post] = [&project.buildpacks, &project.pre, &project.post];
        if from.buildpacks.is_empty() {
            buildpacks = self.of_descriptor(own, &app, descriptor_at).await?;
        }
        let (pre, post) = (
            self.of_descriptor(pre, &app, descriptor_at).await?,
            self.of_descriptor(post, &app, descriptor_at).await?,
        );
        let filter = AppFilter::of(&project);
        let lent = match &app {
            Context::Folder(folder) => {
                let meta = NodeMeta::named("load the app").at(at);
                let lent = self.lend_folder(folder, filter, meta, at).await?;
                kept.extend(folder.repository().map(|_| lent.state.clone()));
                lent
            }
            Context::Artifact(artifact) => {
                kept.push(artifact.tree.clone());
                Lent { state: artifact.tree.clone(), path: artifact.path.clone(), filter }
            }
        };
        let shown = match &app {
            Context::Folder(folder) => folder.to_string(),
            Context::Artifact(artifact) => artifact.shown.clone(),
        };
        let request = PackRequest {
            builder,
            run_image,
            run_mirrors: BTreeMap::new(),
            user: (None, None),
            app: AppSource { state: lent.state, path: lent.path, filter: lent.filter },
            place: Some(stmt.span),
            target: None,
            tags: Vec::new(),
            buildpacks,
            pre,
            post,
            extensions: Vec::new(),
            environment,
            platform: platform.clone(),
            execution_environment: PRODUCTION.to_owned(),
            process: String::new(),
            workspace: "/workspace".to_owned(),
            network: NetworkMode::Sandbox,
            volumes: Vec::new(),
            bindings: Vec::new(),
            namespace: format!("{} {shown}", caches::owner(frame)),
            afresh: false,
            without_system: false,
            launcher,
            created: rb_buildpacks::export::EPOCH.to_owned(),
        };
        Ok(Asked { request, places, kept })
    }

    /// Checks that a folder is there.
    async fn check_folder(&self, folder: &ProjectRef, at: Span) -> Fallible<()> {
        let entry = self.world.workspace().stat(folder, "").await;
        let entry = entry.map_err(|error| world_error(codes::WORKSPACE, &error, at))?;
        let shown = match folder {
            ProjectRef::Local { dir } => dir.clone(),
            other => other.to_string(),
        };
        let refuse = |message: String, help: String| {
            Err(Diagnostic::error(codes::WORKSPACE, message).with_label(at, "").with_help(help))
        };
        match entry.map(|entry| entry.kind) {
            Some(FileKind::Directory | FileKind::Symlink) => Ok(()),
            Some(FileKind::File | FileKind::Other) => {
                refuse(format!("`{shown}` is no folder"), "unpack it, and name the folder".to_owned())
            }
            None => {
                let near = near_folder(self.world.workspace(), folder).await;
                let help = near.map(|near| format!("did you mean `{near}`?"));
                let help =
                    help.unwrap_or_else(|| "paths start at this file's folder; `//` at the root".to_owned());
                refuse(format!("there is no folder `{shown}`"), help)
            }
        }
    }

    /// Reads the descriptor that is named, else that of the app, if there is one; returns who names it, too.
    async fn descriptor(
        &self,
        frame: &mut Frame,
        from: &FromBuildpacks<Resolved>,
        app: &Context,
    ) -> Fallible<(Project, Span)> {
        let at = from.descriptor.as_ref().map_or_else(|| span_of(&from.app), span_of);
        let unread = |error: &_| world_error(codes::WORKSPACE, error, at);
        let bytes = match (&from.descriptor, app) {
            (Some(source), _) => self.bytes_of(frame, source, MOST_BYTES).await?,
            (None, Context::Folder(folder)) => {
                if !self.has_file(folder, DESCRIPTOR, at).await? {
                    return Ok((Project::default(), at));
                }
                self.world.workspace().read(folder, DESCRIPTOR).await.map_err(|error| unread(&error))?
            }
            (None, Context::Artifact(artifact)) => {
                let path = paths::absolute(&artifact.path, DESCRIPTOR);
                let asked = Query::Exists { path: path.clone() };
                let answer = self.world.gateway().query(&artifact.tree, asked).await;
                if answer.map_err(|error| unread(&error))? != Answer::Exists(true) {
                    return Ok((Project::default(), at));
                }
                self.read_artifact(&artifact.tree, path, at, MOST_BYTES).await?
            }
        };
        let project = Project::parse(&bytes).map_err(|error| {
            Diagnostic::error(codes::BAD_DESCRIPTOR, error.to_string())
                .with_label(at, "described by it")
                .with_help("mend it there; `--descriptor=FILE` names another one")
        })?;
        if project.undeclared {
            let message = "project.toml declares no `schema-version`: it is read as one of 0.1";
            let warning =
                Diagnostic::warning(codes::BAD_DESCRIPTOR, message).with_label(at, "described by it");
            self.warn(warning.with_help("write `[_]`, and below it `schema-version = \"0.2\"`"));
        }
        for key in &project.unknown {
            let message = format!("project.toml: `{key}` is not known, and passed over");
            let warning =
                Diagnostic::warning(codes::BAD_DESCRIPTOR, message).with_label(at, "described by it");
            self.warn(warning.with_help("take it away"));
        }
        Ok((project, at))
    }

    /// Reads a file of the project or of an artifact.
    pub(super) async fn bytes_of(
        &self,
        frame: &mut Frame,
        source: &FileSource<Resolved>,
        limit_bytes: u64,
    ) -> Fallible<Vec<u8>> {
        let at = span_of(source);
        match self.found(frame, source, &[]).await? {
            Found::Path(project, path) => {
                let (folder, file) = path.rsplit_once('/').unwrap_or(("", &path));
                let folder = project.folder().join(folder);
                let read = self.world.workspace().read(&folder, file).await;
                read.map_err(|error| world_error(codes::WORKSPACE, &error, at))
            }
            Found::Artifact(artifact) => {
                self.read_artifact(&artifact.tree, artifact.path, at, limit_bytes).await
            }
        }
    }

    async fn read_artifact(
        &self,
        tree: &State,
        path: String,
        at: Span,
        limit_bytes: u64,
    ) -> Fallible<Vec<u8>> {
        let query = Query::ReadFile { path, limit_bytes };
        let answer = self.world.gateway().query(tree, query).await;
        match answer.map_err(|error| world_error(codes::WORKSPACE, &error, at))? {
            Answer::File(bytes) => Ok(bytes),
            _ => Err(internal("a file was asked for and not read")),
        }
    }

    /// Returns the name of an image that can be had.
    async fn image_name(
        &self,
        frame: &Frame,
        word: &Word,
        what: &str,
        platform: &Platform,
    ) -> Fallible<String> {
        let text = self.expand(frame, word, Escapes::KeepPlus).await?;
        let refuse = |message: String, help: &str| {
            Err(Diagnostic::error(codes::BAD_IMAGE, message).with_label(word.span, "").with_help(help))
        };
        if text.is_empty() || text.contains(char::is_whitespace) {
            let help = "name an image, such as `--builder=registry.example.com/builder:1`";
            return refuse(format!("`{text}` is not the name of an image"), help);
        }
        if dividing_plus(&text).is_some() || text.starts_with(OCI_LAYOUT) {
            let help = "save it under a name first: `SAVE IMAGE name`, or `rb image load`";
            return refuse(format!("a {what} is an image by its name, and `{text}` is none"), help);
        }
        let name = self.registry_name(&text.replace("\\+", "+"));
        self.check_image(&name, platform, word.span).await?;
        Ok(name)
    }

    async fn check_image(&self, name: &str, platform: &Platform, at: Span) -> Fallible<()> {
        let location = ImageLocation::Registry(name.to_owned());
        let request = ImageRequest { location, platform: platform.clone() };
        let image = self.world.gateway().resolve_image(&request).await;
        image.map(drop).map_err(|error| world_error(codes::IMAGE, &error, at))
    }

    /// Collects the variables of the build.
    async fn build_variables(
        &self,
        frame: &Frame,
        project: &Project,
        typed: &[CallArg],
    ) -> Fallible<rb_buildpacks::environment::EnvironmentFiles> {
        let of_project = project.environment.iter().filter(|one| includes(&one.exec_env, PRODUCTION));
        let mut all: BTreeMap<String, String> =
            of_project.map(|one| (one.name.clone(), one.value.clone())).collect();
        for arg in typed {
            let name = &arg.name.value;
            let value = self.call_value(frame, arg).await.map_err(|error| match &arg.value {
                Some(_) => error,
                None => {
                    let known = frame.scope.variables.names(&frame.config.config);
                    let near = nearest(name, known.iter().map(String::as_str));
                    error.with_help(format!("write `--env {name}=value`")).with_nearest(near)
                }
            })?;
            all.insert(name.clone(), value);
        }
        user_variables(all).map_err(|why| {
            let at = typed.first().map(|arg| arg.name.span);
            let error = Diagnostic::error(codes::BUILDPACKS, why).with_help("give it another name or value");
            at.map_or(error.clone(), |at| error.with_label(at, ""))
        })
    }

    /// Lends a folder as it is.
    pub(super) async fn lend_folder(
        &self,
        folder: &ProjectRef,
        filter: AppFilter,
        meta: NodeMeta,
        at: Span,
    ) -> Fallible<Lent> {
        let Some(repository) = folder.repository() else {
            let patterns = (filter.include.as_slice(), filter.exclude.as_slice());
            let state = lower::folder_as_it_is(folder, patterns, self.look_after_commands(), meta);
            return Ok(Lent { state, path: "/".to_owned(), filter: AppFilter::default() });
        };
        let pinned = self.world.workspace().pin(repository).await;
        let pinned = pinned.map_err(|error| world_error(codes::WORKSPACE, &error, at))?;
        let path = paths::absolute("/", folder.dir());
        Ok(Lent { state: lower::tree_elsewhere(repository, &pinned), path, filter })
    }
}

/// Says that there is no builder.
fn no_builder(at: Span) -> Diagnostic {
    Diagnostic::error(codes::NO_BUILDER, "there is no builder").with_label(at, "built by nobody").with_help(
        "name one: `FROM BUILDPACKS --builder=IMAGE folder`, or `builder = \"IMAGE\"` in the app's project.toml",
    )
}
