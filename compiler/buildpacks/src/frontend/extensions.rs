//! Image extensions: what each generates, and the images that follow.
//!
//! In: the extensions of the group that was chosen. Out: another build image for the steps, another base for the app. A Dockerfile
//! goes through the Dockerfile frontend, as an image's own would: `base_image` stands for the image as it is by then, and `COPY`
//! takes from the extension's own folder, else from the app.
//! **Invariant:** `build_id` follows from the Dockerfile, and whoever asks for it runs in each build; so two clean builds are equal.
//! Source: image extension spec; the lifecycle's generator and extender.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_diag::{SourceFile, SourceMap};
use rb_dockerfile::{Given, Input, Instruction, NoCache, Options};
use rb_frontend::FileKind;
use rb_llb::State;
use rb_oci::{Digest, ImageConfig, RootFs};

use super::base::RunBase;
use super::error::FrontendError;
use super::gate::{Folder, Gate};
use super::ground::Ground;
use super::steps::APP;
use super::walk::Chosen;
use super::{PackRequest, Teller, Told};
use crate::environment::BuildEnvironment;
use crate::extend::{
    BASE_IMAGE, ExtendConfig, ExtendError, Extends, GIVEN, ImageKind, Rebasable, base_switch, check, is_root,
    user_of,
};
use crate::{ModuleKey, ModuleKind};

/// What an extension gives both Dockerfiles to copy from.
const CONTEXT: &str = "context";

/// What an extension generated.
struct Generated {
    module: ModuleKey,
    files: BTreeMap<ImageKind, (Arc<SourceFile>, Extends)>,
    config: ExtendConfig,
    contexts: BTreeMap<ImageKind, Folder>,
}

/// An image as it is by now.
struct Image {
    state: State,
    config: ImageConfig,
    /// What history says of the layers that were laid upon it.
    lines: Vec<String>,
}

impl Ground {
    /// Extends both images as the chosen extensions say. What extensions meet is out of the plan.
    pub(super) async fn extend(
        &mut self,
        gate: Gate<'_>,
        request: &PackRequest,
        sources: &SourceMap,
        tell: Teller<'_>,
        chosen: &mut Chosen,
    ) -> Result<(), FrontendError> {
        if chosen.group.extensions.is_empty() {
            return Ok(());
        }
        let mut all = Vec::new();
        for element in &chosen.group.extensions {
            let key = element.key(ModuleKind::Extension);
            let own = chosen.plan.of(ModuleKind::Extension, &element.id);
            all.push(self.generate(gate, key, &own.text()?, sources).await?);
            let met: Vec<String> = own.entries.into_iter().map(|entry| entry.name).collect();
            chosen.plan = chosen.plan.without(&met);
        }
        for Generated { module, files, .. } in &all {
            for (kind, (_, extends)) in files {
                for (instruction, line) in &extends.unusual {
                    let file = kind.file();
                    tell(Told::Warning(format!(
                        "{file} of {module}: {instruction} in line {line} is not meant for extensions"
                    )));
                }
            }
        }
        self.extend_base(gate, request, sources, tell, &all).await?;
        self.extend_build_image(gate, request, sources, tell, &all).await
    }

    /// Has an extension generate its files, and reads them.
    async fn generate(
        &self,
        gate: Gate<'_>,
        module: ModuleKey,
        plan: &str,
        sources: &SourceMap,
    ) -> Result<Generated, FrontendError> {
        let candidate = self.candidates.get(&module)?;
        let has_program = gate.exists(&candidate.place, "bin/generate").await?;
        let folder = match has_program {
            true => self.site.generate(
                candidate,
                &self.app,
                &BuildEnvironment::of_container(&self.site.container),
                plan,
            ),
            false => candidate.place.below("generate"),
        };
        let wrong = |source| FrontendError::Generated { module: module.clone(), source };
        let names = gate.list(&folder).await?;
        let is_there = |name: &str| names.contains_key(name);
        let is_folder = |name: &str| names.get(name) == Some(&FileKind::Directory);
        let config = match is_there("extend-config.toml") {
            true => ExtendConfig::parse(&gate.read(&folder, "extend-config.toml").await?).map_err(wrong)?,
            false => ExtendConfig::default(),
        };
        let contexts_named = [CONTEXT, ImageKind::Run.context(), ImageKind::Build.context()];
        if let Some(other) = contexts_named.into_iter().find(|name| is_there(name) && !is_folder(name)) {
            return Err(wrong(ExtendError::NoFolder(other)));
        }
        let (mut files, mut contexts) = (BTreeMap::new(), BTreeMap::new());
        for kind in [ImageKind::Run, ImageKind::Build] {
            if is_there(kind.file()) {
                let text = String::from_utf8_lossy(&gate.read(&folder, kind.file()).await?).into_owned();
                // What a program wrote lies nowhere that a user could look.
                let place =
                    if has_program { String::new() } else { format!("{}/generate/", candidate.folder()) };
                let source = sources.add(format!("{place}{} of {module}", kind.file()), text);
                let parsed = rb_dockerfile::parse(&source);
                if !parsed.errors.is_empty() {
                    let (file, errors) = (kind.file(), parsed.errors);
                    return Err(FrontendError::Extension { module, file, errors });
                }
                let extends = check(&parsed.dockerfile, &source, kind).map_err(wrong)?;
                files.insert(kind, (source, extends));
            }
            let context = match (is_folder(CONTEXT), is_folder(kind.context())) {
                (true, true) => return Err(wrong(ExtendError::Contexts(kind.context()))),
                (true, false) => folder.below(CONTEXT),
                (false, true) => folder.below(kind.context()),
                (false, false) => Folder::new(self.app.clone(), APP),
            };
            contexts.insert(kind, context);
        }
        Ok(Generated { module, files, config, contexts })
    }

    /// Takes the base that extensions choose, and extends it.
    async fn extend_base(
        &mut self,
        gate: Gate<'_>,
        request: &PackRequest,
        sources: &SourceMap,
        tell: Teller<'_>,
        all: &[Generated],
    ) -> Result<(), FrontendError> {
        let of_run: Vec<(&Generated, &Extends)> =
            all.iter().filter_map(|one| Some((one, &one.files.get(&ImageKind::Run)?.1))).collect();
        let (from, switched) = base_switch(&of_run.iter().map(|(_, extends)| *extends).collect::<Vec<_>>());
        if let Some(name) = switched.filter(|name| *name != self.base.name) {
            if !self.run_file.images.iter().any(|names| names.contains(&name)) {
                let builder = &request.builder;
                tell(Told::Warning(format!("`{name}`, the new run image, is none that `{builder}` names")));
            }
            (self.base, self.site.base) = RunBase::find(gate, vec![name], &request.platform).await?;
        }
        self.base.names = self.run_file.recorded(&self.base.name, true);
        let steps: Vec<&Generated> =
            of_run[from..].iter().filter(|(_, extends)| extends.steps).map(|(one, _)| *one).collect();
        if steps.is_empty() {
            return Ok(());
        }
        tell(Told::Extending(ImageKind::Run));
        let image =
            Image { state: self.base.tree.clone(), config: self.base.config.clone(), lines: Vec::new() };
        let image = extended(gate, request, sources, tell, ImageKind::Run, image, &steps).await?;
        // Which layers it has is known once they are packed.
        let below = std::mem::take(&mut self.base.config);
        self.base.tree = image.state;
        self.base.config = ImageConfig { rootfs: below.rootfs, history: below.history, ..image.config };
        self.base.extended = image.lines;
        Ok(())
    }

    /// Extends the image that buildpacks build in.
    async fn extend_build_image(
        &mut self,
        gate: Gate<'_>,
        request: &PackRequest,
        sources: &SourceMap,
        tell: Teller<'_>,
        all: &[Generated],
    ) -> Result<(), FrontendError> {
        let steps: Vec<&Generated> =
            all.iter().filter(|one| one.files.contains_key(&ImageKind::Build)).collect();
        if steps.is_empty() {
            return Ok(());
        }
        tell(Told::Extending(ImageKind::Build));
        // Its root may be a part of the builder's layers.
        let config = ImageConfig { rootfs: RootFs::default(), history: Vec::new(), ..self.config.clone() };
        let image = Image { state: self.site.root.clone(), config, lines: Vec::new() };
        let image = extended(gate, request, sources, tell, ImageKind::Build, image, &steps).await?;
        self.site.root = image.state;
        self.site.container = image.config.config.env;
        Ok(())
    }
}

/// Builds the Dockerfiles of one kind, each upon the last.
async fn extended(
    gate: Gate<'_>,
    request: &PackRequest,
    sources: &SourceMap,
    tell: Teller<'_>,
    kind: ImageKind,
    mut image: Image,
    steps: &[&Generated],
) -> Result<Image, FrontendError> {
    let mut rebasable = Rebasable::default();
    let (first_user, _) = user_of(image.config.config.user.as_deref());
    let mut user = first_user.clone();
    for one in steps {
        image = built(gate, request, sources, kind, image, one).await?;
        rebasable.look(&mut image.config.config.labels);
        (user, _) = user_of(image.config.config.user.as_deref());
        if is_root(&user) {
            let (file, module) = (kind.file(), &one.module);
            tell(Told::Warning(format!(
                "{file} of {module} leaves root as the user: a later one has to set another"
            )));
        }
    }
    if is_root(&user) && kind == ImageKind::Run {
        let module = steps.last().map(|one| one.module.clone());
        let module = module.unwrap_or_else(|| ModuleKey::buildpack("", ""));
        return Err(FrontendError::Generated { module, source: ExtendError::Root });
    }
    if user != first_user {
        let shown = kind.shown();
        tell(Told::Warning(format!("the user of the {shown} was `{first_user}`, and is `{user}` now")));
    }
    Ok(image)
}

/// Builds one Dockerfile upon an image.
async fn built(
    gate: Gate<'_>,
    request: &PackRequest,
    sources: &SourceMap,
    kind: ImageKind,
    image: Image,
    one: &Generated,
) -> Result<Image, FrontendError> {
    let Some((source, _)) = one.files.get(&kind) else { return Ok(image) };
    let name = kind.shown().replace(' ', "-");
    let (user, group) = user_of(image.config.config.user.as_deref());
    let [build_id, user_id, group_id] = GIVEN;
    let mut arguments: BTreeMap<String, String> =
        one.config.arguments(kind).iter().map(|arg| (arg.name.clone(), arg.value.clone())).collect();
    arguments.extend([
        (BASE_IMAGE.to_owned(), name.clone()),
        (user_id.to_owned(), user),
        (group_id.to_owned(), group),
    ]);
    let asks = asks_for(source, build_id);
    if asks {
        arguments.insert(build_id.to_owned(), id_of(source));
    }
    let context = one.contexts.get(&kind).cloned().unwrap_or_else(|| Folder::new(State::scratch(), "/"));
    let before = image.config.history.len();
    let mut options = Options {
        platforms: vec![request.platform.clone()],
        build_args: arguments,
        network: request.network,
        no_cache: if asks || request.afresh { NoCache::All } else { NoCache::None },
        named_contexts: [(name.clone(), format!("input:{name}"))].into(),
        owner: Some(one.module.to_string()),
        given: Some(Given { dockerfile: Arc::clone(source), ignore: String::new() }),
        context_sub_dir: Some(context.path).filter(|path| path != "/"),
        ..Options::default()
    };
    options = options.with_input(CONTEXT, context.state);
    options.inputs.insert(name, Input { state: image.state, config: Some(image.config) });
    let planned = rb_dockerfile::plan(gate.0, &options, sources).await;
    let wrong = |errors| FrontendError::Extension { module: one.module.clone(), file: kind.file(), errors };
    let planned = planned.map_err(wrong)?.images.into_iter().next();
    let planned = planned.ok_or_else(|| wrong(rb_diag::Diagnostics::default()))?;
    let id = &one.module.id;
    let laid = planned.config.history.iter().skip(before).filter(|line| !line.empty_layer);
    let laid = laid.map(|line| {
        let by = line.created_by.as_deref().unwrap_or_default();
        format!("Layer: '{by}', Created by extension: {id}")
    });
    let lines = image.lines.into_iter().chain(laid).collect();
    Ok(Image { state: planned.state, config: planned.config, lines })
}

/// Tells whether a Dockerfile declares an argument.
fn asks_for(source: &SourceFile, name: &str) -> bool {
    let file = rb_dockerfile::parse(source).dockerfile;
    let steps = file.global_args.iter().chain(file.stages.iter().flat_map(|stage| &stage.steps));
    let mut arguments = steps
        .filter_map(|step| match &step.instruction {
            Instruction::Arg(all) => Some(all),
            _ => None,
        })
        .flatten();
    arguments.any(|argument| argument.name.value == name)
}

/// Returns a UUID (version 8) for a text.
fn id_of(source: &SourceFile) -> String {
    let hex = Digest::of(source.text.as_bytes()).hex();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_follows_from_the_text() {
        let file = |text: &str| SourceMap::default().add("build.Dockerfile", text.to_owned());
        let asks = file("ARG base_image\nFROM ${base_image}\nARG build_id=0\nRUN echo ${build_id}\n");
        assert!(asks_for(&asks, "build_id") && !asks_for(&asks, "user_id"));
        let id = id_of(&asks);
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(id == id_of(&asks) && id != id_of(&file("FROM x\n")), "{id}");
    }
}
