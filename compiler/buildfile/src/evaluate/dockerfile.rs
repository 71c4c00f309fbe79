//! FROM DOCKERFILE, and stages of Dockerfiles as targets.
//!
//! In: a statement, or a target whose project is a Dockerfile. Out: the filesystem and the config that `rb_dockerfile`
//! plans for it, in the one graph of the build. What of it lies in the tree is lent as it is, with the modes of its files;
//! what a target makes is taken from its artifacts, and a Dockerfile among them is made first, as it decides the graph.
//! Which files COPY and ADD do not see: what the ignore file beside the Dockerfile says, or else `.dockerignore`; in
//! Earthfiles their own ignore file comes before both. Source: earthly-language section 4, FROM DOCKERFILE; section 6.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_diag::{Diagnostic, Diagnostics, SourceFile, Span};
use rb_dockerfile::{Dockerfile, Finding, Given, Instruction, LentContext, Options, Run};
use rb_frontend::{Answer, ProjectRef, Query, Repository, SavedArtifact};
use rb_llb::State;
use rb_oci::{ImageConfig, Platform, RootFs};
use rb_syntax::{CallArg, Edition, FromDockerfile, Stmt};

use super::arguments::Args;
use super::found::{Artifact, Context, Found, span_of};
use super::frame::Frame;
use super::owner::Owner;
use super::{Evaluator, Fallible, inputs, internal, trust, world_error};
use crate::resolve::{Resolved, dockerfile, read};
use crate::word::Escapes;
use crate::{codes, lower};

/// Largest Dockerfile and ignore file.
const MOST_BYTES: u64 = 16 << 20;

/// Names of a Dockerfile that nobody named, in order.
const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// A Dockerfile, and where it stands, if that is in a tree.
struct Text {
    source: Arc<SourceFile>,
    place: Option<ProjectRef>,
}

/// What is built.
struct Order<'a> {
    context: &'a Context,
    text: Text,
    target: Option<String>,
    args: BTreeMap<String, String>,
    platform: &'a Platform,
    /// The repository elsewhere that it is of, if nobody trusts that.
    stranger: Option<Repository>,
    /// The rules of the ignore files.
    edition: Edition,
    /// What asks for it.
    at: Span,
}

impl Evaluator<'_> {
    /// `FROM DOCKERFILE …`
    pub(super) async fn base_of_dockerfile(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        from: &FromDockerfile<Resolved>,
        platform: Platform,
    ) -> Fallible<()> {
        let mut args = Args::new();
        for arg in &from.args {
            args.insert(arg.name.value.clone(), self.call_value(frame, arg).await?);
        }
        let target = match &from.target {
            Some(word) => {
                Some(self.expand(frame, word, Escapes::Remove).await?).filter(|name| !name.is_empty())
            }
            None => None,
        };
        let context = self.folder(frame, &from.context, &from.args, ("a context", stmt.span)).await?;
        let text = match (&from.file, &context) {
            (Some(source), _) => match self.found(frame, source, &from.args).await? {
                Found::Artifact(artifact) => self.built_dockerfile(&artifact, span_of(source)).await?,
                Found::Path(project, path) => {
                    let (folder, file) = path.rsplit_once('/').unwrap_or(("", &path));
                    self.dockerfile_of(&project.folder().join(folder), file, span_of(source)).await?
                }
            },
            (None, Context::Folder(folder)) => self.own_dockerfile(folder, span_of(&from.context)).await?,
            (None, Context::Artifact(artifact)) => {
                let path = format!("{}/{}", artifact.path.trim_end_matches('/'), NAMES[0]);
                let shown = format!("{}/{}", artifact.shown, NAMES[0]);
                let file = Artifact { tree: artifact.tree.clone(), path, shown };
                self.built_dockerfile(&file, span_of(&from.context)).await?
            }
        };
        self.tell_unknown_arguments(&text.source, from);
        let project = match (&context, &text.place) {
            (Context::Folder(folder), _) if folder.repository().is_some() => folder,
            (_, Some(place)) => place,
            (_, None) => frame.project(),
        };
        let own = frame.scope.file.project.repository().filter(|_| !frame.scope.trusted);
        let trusted = self.trusts(&frame.scope, project, from.allow_privileged);
        let stranger = own.or_else(|| project.repository().filter(|_| !trusted)).cloned();
        let order = Order {
            context: &context,
            text,
            target,
            args,
            platform: &platform,
            stranger,
            edition: frame.edition(),
            at: from.target.as_ref().map_or(stmt.span, |word| word.span),
        };
        let made = self.dockerfile(frame, order).await;
        let (state, config) = made.map_err(|error| {
            let source = &frame.scope.file.source;
            let line = source.position(stmt.span.start).line;
            error.with_trail(format!("for FROM DOCKERFILE in line {line} of {}", source.name))
        })?;
        frame.start(state, config, false);
        frame.platform = platform;
        Ok(())
    }

    /// Evaluates a stage of a Dockerfile as the target that it is.
    pub(super) async fn stage(&self, frame: &mut Frame) -> Fallible<()> {
        let file = Arc::clone(&frame.scope.file);
        let name = &frame.key.target.name;
        let recipe =
            file.buildfile.target(name).ok_or_else(|| internal("a stage was asked for and is not there"))?;
        let args = frame.scope.overrides.clone();
        // What is not given is looked at, too: given, it would be another stage.
        frame.reads.extend(inputs::declared(&recipe.body).map(str::to_owned));
        let platform = frame.key.platform.clone();
        let at = recipe.name.span;
        let order = Order {
            context: &Context::Folder(file.project.folder().clone()),
            text: Text { source: Arc::clone(&file.source), place: Some(file.project.clone()) },
            target: dockerfile::target(&rb_dockerfile::parse(&file.source).dockerfile, name),
            args,
            platform: &platform,
            stranger: file.project.repository().filter(|_| !frame.scope.trusted).cloned(),
            edition: Edition::One,
            at,
        };
        let (state, config) = self.dockerfile(frame, order).await?;
        frame.start(state, config, false);
        frame.platform = platform;
        // All that lies in a stage may be taken from it.
        let state = frame.state.clone();
        frame.artifact_tree = state.clone();
        let path = "/".to_owned();
        frame.artifacts.push(SavedArtifact {
            path,
            many: false,
            optional: false,
            state,
            local: None,
            span: at,
        });
        Ok(())
    }

    /// Plans a Dockerfile.
    async fn dockerfile(&self, frame: &Frame, order: Order<'_>) -> Fallible<(State, ImageConfig)> {
        let Order { context, text: Text { source, place }, target, args, platform, stranger, edition, at } =
            order;
        if let Some(repository) = &stranger {
            refuse_privileges(&rb_dockerfile::parse(&source).dockerfile, repository)?;
        }
        let native = &self.request.native_platform;
        let mut options = Options {
            target,
            // As where none is asked for, so that what `rb build` makes of it is the same.
            platforms: if platform == native { Vec::new() } else { vec![platform.clone()] },
            build_platform: native.clone(),
            build_args: args,
            ..Options::default()
        };
        let mut ignore = String::new();
        match context {
            Context::Artifact(artifact) => {
                options = options.with_input("context", artifact.tree.clone());
                options.context_sub_dir = Some(artifact.path.clone()).filter(|path| path != "/");
            }
            Context::Folder(folder) => match folder.repository() {
                None => {
                    ignore = self.ignore_text(folder, place.as_ref(), edition, at).await?;
                    let (name, unique) = (lower::dockerfile_context(folder), self.look_after_commands());
                    options.lent_context = Some(LentContext { name, unique });
                }
                Some(repository) => {
                    let pinned = self.world.workspace().pin(repository).await;
                    let pinned = pinned.map_err(|error| world_error(codes::WORKSPACE, &error, at))?;
                    options = options.with_input("context", lower::tree_elsewhere(repository, &pinned));
                    options.context_sub_dir = Some(folder.dir().to_owned()).filter(|dir| !dir.is_empty());
                }
            },
        }
        options.given = Some(Given { dockerfile: Arc::clone(&source), ignore });
        let planned =
            rb_dockerfile::plan(self.world.gateway(), &options, self.world.workspace().sources()).await;
        let planned = planned.map_err(|errors| self.wrong(errors, at))?;
        if place.is_none_or(|place| place.repository().is_none()) {
            self.tell_findings(&planned.findings, &source);
        }
        let image = planned.images.into_iter().next();
        let image = image.ok_or_else(|| internal("a Dockerfile was planned for no platform"))?;
        let kept = options.inputs.values().map(|input| input.state.clone()).collect();
        let state = Owner::of(frame, kept).own(&image.state);
        // What the exporter makes anew: which layers there are, and when the image was made.
        Ok((state, ImageConfig { rootfs: RootFs::default(), created: None, ..image.config }))
    }

    /// Returns the first error; others of the text are told behind it.
    fn wrong(&self, errors: Diagnostics, at: Span) -> Diagnostic {
        let mut errors = errors.into_iter();
        let first = errors.next().unwrap_or_else(|| internal("a Dockerfile is wrong, and nothing in it"));
        self.aftermath.lock().expect("no holder of this lock panics").extend(errors);
        // What is wrong with no line of the file is wrong with how it is asked for.
        if first.labels.is_empty() { first.with_label(at, "asked for here") } else { first }
    }

    /// Tells what the build checks found, as briefly as `rb build` does.
    fn tell_findings(&self, findings: &[Finding], source: &SourceFile) {
        const SHOWN: usize = 5;
        let Some(first) = findings.first() else { return };
        let mut listed: Vec<String> = findings
            .iter()
            .take(SHOWN)
            .map(|finding| {
                format!("{} (line {})", finding.rule.name(), source.position(finding.span.start).line)
            })
            .collect();
        if findings.len() > SHOWN {
            listed.push(format!("{} more", findings.len() - SHOWN));
        }
        let message = format!("the build checks found something in {}: {}", source.name, listed.join(", "));
        self.warn(
            Diagnostic::warning(codes::DOCKERFILE_CHECKS, message)
                .with_label(first.span, &first.message)
                .with_help("`rb build --check` with the folder shows more; `# check=skip=RULE` at its top turns rules off"),
        );
    }

    /// Warns of build arguments that no line of the Dockerfile declares.
    fn tell_unknown_arguments(&self, source: &SourceFile, from: &FromDockerfile<Resolved>) {
        let file = rb_dockerfile::parse(source).dockerfile;
        let steps = file.global_args.iter().chain(file.stages.iter().flat_map(|stage| &stage.steps));
        let known: Vec<&str> = steps
            .filter_map(|step| match &step.instruction {
                Instruction::Arg(definitions) => Some(definitions),
                _ => None,
            })
            .flatten()
            .map(|arg| arg.name.value.as_str())
            .collect();
        for CallArg { name, value: _ } in &from.args {
            let text = name.value.as_str();
            let is_predefined = text.starts_with("BUILDKIT_")
                || text == "SOURCE_DATE_EPOCH"
                || text.to_ascii_lowercase().ends_with("_proxy");
            if is_predefined || known.contains(&text) {
                continue;
            }
            let message = format!("nothing in {} declares the argument `{text}`", source.name);
            let near = rb_diag::nearest(text, known.iter().copied());
            let warning =
                Diagnostic::warning(codes::UNUSED_ARGUMENT, message).with_label(name.span, "has no effect");
            let help = match text {
                "target" | "file" | "platform" => {
                    format!("flags stand before the folder: `FROM DOCKERFILE --{text}=… .`")
                }
                text => format!("drop it, or declare it there with `ARG {text}`"),
            };
            self.warn(warning.with_help(help).with_nearest(near));
        }
    }

    /// Reads a Dockerfile that a target makes.
    async fn built_dockerfile(&self, artifact: &Artifact, at: Span) -> Fallible<Text> {
        let query = Query::ReadFile { path: artifact.path.clone(), limit_bytes: MOST_BYTES };
        let answer = self.world.gateway().query(&artifact.tree, query).await;
        let answer = answer.map_err(|error| world_error(codes::WORKSPACE, &error, at))?;
        let Answer::File(bytes) = answer else {
            return Err(internal("a file was asked for and not read"));
        };
        let text = String::from_utf8(bytes).map_err(|_| {
            Diagnostic::error(codes::WORKSPACE, format!("`{}` is not UTF-8 text", artifact.shown))
                .with_label(at, "no Dockerfile")
                .with_help("write it in UTF-8")
        })?;
        Ok(Text { source: self.world.workspace().sources().add(artifact.shown.clone(), text), place: None })
    }

    /// Reads the Dockerfile of a context that the statement does not name.
    async fn own_dockerfile(&self, folder: &ProjectRef, at: Span) -> Fallible<Text> {
        for name in NAMES {
            if self.has_file(folder, name, at).await? {
                return self.dockerfile_of(folder, name, at).await;
            }
        }
        self.dockerfile_of(folder, NAMES[0], at).await
    }

    async fn dockerfile_of(&self, folder: &ProjectRef, file: &str, at: Span) -> Fallible<Text> {
        let place = folder.with_dockerfile(file);
        let source = read(self.world.workspace(), &place, Some(at)).await?;
        Ok(Text { source, place: Some(place) })
    }

    /// Returns the text of the ignore file that counts for a folder.
    async fn ignore_text(
        &self,
        folder: &ProjectRef,
        place: Option<&ProjectRef>,
        edition: Edition,
        at: Span,
    ) -> Fallible<String> {
        if edition < Edition::One {
            let patterns = self.ignored(folder, at).await?;
            if !patterns.is_empty() {
                return Ok(patterns.join("\n"));
            }
        }
        let beside =
            place.and_then(|place| Some((place.folder(), format!("{}.dockerignore", place.dockerfile()?))));
        let own = (folder, ".dockerignore".to_owned());
        for (folder, name) in beside.into_iter().chain([own]) {
            if !self.has_file(folder, &name, at).await? {
                continue;
            }
            let bytes = self.world.workspace().read(folder, &name).await;
            let bytes = bytes.map_err(|error| world_error(codes::WORKSPACE, &error, at))?;
            return String::from_utf8(bytes).map_err(|_| {
                Diagnostic::error(codes::IGNORE_FILE, format!("`{name}` is not UTF-8 text"))
                    .with_label(at, "copies from its folder")
                    .with_help("write it in UTF-8")
            });
        }
        Ok(String::new())
    }
}

/// Refuses what of a stranger's Dockerfile reaches out of the sandbox.
fn refuse_privileges(file: &Dockerfile, repository: &Repository) -> Fallible<()> {
    for step in file.stages.iter().flat_map(|stage| &stage.steps) {
        let Instruction::Run(Run { security, network, .. }) = &step.instruction else { continue };
        for (flag, word, harmless) in
            [("security", security, &["sandbox"][..]), ("network", network, &["default", "none"][..])]
        {
            if let Some(word) = word.as_ref().filter(|word| !harmless.contains(&word.value.as_str())) {
                return Err(trust::refused(&format!("RUN --{flag}={}", word.value), repository, word.span));
            }
        }
    }
    Ok(())
}
