//! The steps: what runs the programs of modules, and what each of them sees.
//!
//! In: a module, the app as it is by then, what earlier buildpacks made. Out: trees that are not made yet. Every program runs
//! as the builder's user in the build image; its module is mounted read-only, `/platform` too, `/tmp` is empty. What it writes
//! elsewhere than into the app and its own layers is forgotten. Of earlier buildpacks it sees the layers that are for builds.
//!
//! A detection ends well for the engine, however its program did: a shell writes the exit code down. What a build kept from
//! its last time lies in a cache mount, which is in no key: it is copied into the fresh folder of layers before the program
//! runs, and launch layers that the program speaks of without having made them are taken from there when it has ended. A
//! step of its own fills the cache once the build is known to be good. What is recalled of the previous image is in no key either.
//! **Invariant:** a step depends on what is mounted into it, its variables and its words alone; the cache and the previous image are
//! hints.

use rb_diag::Span;
use rb_llb::{
    CacheSharing, ContentCache, CopyAction, ExecBuilder, ExecMeta, ExecState, MkdirAction, MkfileAction,
    MountOptions, NetworkMode, NodeMeta, Owner, SecretMount, State, UserSpec, extension,
};
use rb_oci::Platform;

use super::app::AppSource;
use super::binding::Binding;
use super::gate::Folder;
use super::modules::Candidate;
use super::previous::recalled_as;
use super::scripts::{BUILD, DETECT, FORGET, KEEP, RUNS, TOOLS};
use crate::environment::{BuildEnvironment, EnvironmentFiles, ModulePhase, ModuleRun, Variables};
use crate::export::EPOCH_SECONDS;
use crate::{BaseTarget, ModuleKey, escape_id};

/// Where layers lie.
pub(super) const LAYERS: &str = "/layers";
/// Where the platform's files lie.
pub(super) const PLATFORM: &str = "/platform";
/// Where extensions write what they generate.
const GENERATED: &str = "/layers/generated";
/// Where a detection writes its plan, and its exit code is written.
const ANSWER: &str = "/cnb/answer";
/// Where the plan of a build lies.
const PLAN: &str = "/cnb/plan";
/// Where a cache is mounted.
pub(super) const HINT: &str = "/cnb/hint";
/// Where what is recalled of the previous image is mounted ([`super::previous`]).
const PREVIOUS: &str = "/cnb/previous";
/// How files end that note which layer of the previous image is spoken of.
pub(super) const OF_PREVIOUS: &str = ".of-previous";
/// Where what a build left is mounted for the cache to be filled.
const LEFT: &str = "/cnb/left";
/// Where texts for the cache are mounted.
const NOTES: &str = "/cnb/notes";

/// Folders of trees that steps work on.
pub(super) const APP: &str = "/app";
const LENT: &str = "/lent";
pub(super) const OWN_LAYERS: &str = "/layers";
pub(super) const OWN_NOTES: &str = "/notes";
pub(super) const SEED: &str = "/hint";

const NANOSECONDS: i64 = 1_000_000_000;

/// A folder or file that programs see beside their own.
#[derive(Clone, Debug)]
pub struct Volume {
    /// The tree that it comes from.
    pub state: State,
    /// Where in the tree; absolute.
    pub path: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Where programs see it; absolute.
    pub target: String,
    /// Whether it can be written to. What is written is forgotten.
    pub readonly: bool,
}

/// Where programs run: the same for all modules of a build.
#[derive(Clone)]
pub(super) struct Site {
    /// The build image, without its modules where they can be told apart.
    pub(super) root: State,
    pub(super) user: (u32, u32),
    /// Variables of the build image.
    pub(super) container: Vec<String>,
    pub(super) platform: Platform,
    pub(super) platform_files: EnvironmentFiles,
    pub(super) builder_files: EnvironmentFiles,
    pub(super) base: BaseTarget,
    pub(super) execution_environment: String,
    /// Where the app lies.
    pub(super) workspace: String,
    pub(super) network: NetworkMode,
    /// As programs see them: their user's.
    pub(super) volumes: Vec<Volume>,
    pub(super) bindings: Vec<Binding>,
    /// What caches are named by.
    pub(super) namespace: String,
    /// Nothing that is known or kept is taken.
    pub(super) afresh: bool,
    /// Where the build is asked for, if a build file does.
    pub(super) place: Option<Span>,
}

/// Whether a buildpack sees what was kept of its last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hints {
    /// It does, if there is anything.
    Given,
    /// It does not.
    Withheld,
}

/// What a detection left.
pub(super) struct Detected {
    pub(super) answer: Folder,
}

/// What a build left.
pub(super) struct Built {
    pub(super) app: State,
    pub(super) layers: Folder,
}

impl Site {
    /// Returns who owns what programs may write.
    pub(super) fn owner(&self) -> Owner {
        Owner { user: Some(UserSpec::Id(self.user.0)), group: Some(UserSpec::Id(self.user.1)) }
    }

    /// Makes an empty folder that programs may write to.
    pub(super) fn empty(&self, path: &str) -> State {
        State::scratch().mkdir(self.folder(path), NodeMeta::named("[internal] make a folder"))
    }

    pub(super) fn folder(&self, path: &str) -> MkdirAction {
        MkdirAction {
            path: path.to_owned(),
            mode: 0o755,
            make_parents: true,
            owner: Some(self.owner()),
            timestamp: Some(EPOCH_SECONDS * NANOSECONDS),
        }
    }

    pub(super) fn file(&self, path: &str, text: impl Into<Vec<u8>>) -> MkfileAction {
        MkfileAction {
            path: path.to_owned(),
            mode: 0o644,
            data: text.into().into(),
            owner: Some(self.owner()),
            timestamp: Some(EPOCH_SECONDS * NANOSECONDS),
        }
    }

    /// Returns the app as the first module sees it: what is lent, owned by the builder's user.
    pub(super) fn app(&self, lent: &AppSource) -> State {
        let copy = CopyAction {
            src: lent.path.clone(),
            dest: format!("{APP}/"),
            owner: Some(self.owner()),
            dir_copy_contents: true,
            create_dest_path: true,
            include_patterns: lent.filter.include.clone(),
            exclude_patterns: lent.filter.exclude.clone(),
            ..CopyAction::default()
        };
        let meta = NodeMeta { span: self.place, ..NodeMeta::named("copy the app") };
        State::scratch().files().mkdir(self.folder(APP)).copy(&lent.state, copy).finish(meta)
    }

    /// Returns a volume as programs see it. Whoever owns its files where they come from may be nobody there: the builder's user does, with
    /// the modes that they have.
    pub(super) fn owned(&self, volume: &Volume) -> Volume {
        let is_folder = volume.is_folder;
        let copy = CopyAction {
            src: volume.path.clone(),
            dest: if is_folder { format!("{LENT}/") } else { LENT.to_owned() },
            owner: Some(self.owner()),
            dir_copy_contents: is_folder,
            create_dest_path: true,
            ..CopyAction::default()
        };
        let files = State::scratch().files();
        let files = if is_folder { files.mkdir(self.folder(LENT)) } else { files };
        let state =
            files.copy(&volume.state, copy).finish(NodeMeta::named(format!("copy {}", volume.target)));
        Volume { state, path: LENT.to_owned(), ..volume.clone() }
    }

    /// Runs the program of a module that tells whether it takes part.
    pub(super) fn detect(&self, module: &Candidate, app: &State) -> Detected {
        let files = ["/plan.toml", "/code", "/log"];
        let answer = files.iter().fold(State::scratch().files(), |all, path| all.mkfile(self.file(path, "")));
        let answer = answer.finish(NodeMeta::named("[internal] make a plan"));
        let plan = format!("{ANSWER}/plan.toml");
        let environment = self.variables(
            &BuildEnvironment::of_container(&self.container),
            module,
            &plan,
            ModulePhase::Detect,
        );
        let program = format!("{}/bin/detect", module.folder());
        let text = format!("{RUNS}{DETECT}");
        let words = [&text, "sh", &program, PLATFORM, &plan];
        let exec = ExecBuilder::new(&self.root, self.meta(&words, &environment));
        let exec = self.common(exec, module).mount(&self.workspace, app, at(APP, false)).mount(
            ANSWER,
            &answer,
            whole(false),
        );
        let made = self.finish(exec, detection(&module.key()));
        let answer = made.mount(ANSWER).unwrap_or_default();
        Detected { answer: Folder::new(answer, "/") }
    }

    /// Runs the program of an extension that generates, and returns the folder of what it wrote.
    pub(super) fn generate(
        &self,
        module: &Candidate,
        app: &State,
        environment: &BuildEnvironment,
        plan: &str,
    ) -> Folder {
        let output = format!("{GENERATED}/{}", escape_id(&module.key().id));
        let path = format!("{PLAN}/plan.toml");
        let environment = self.variables(environment, module, &path, ModulePhase::Generate(&output));
        let program = format!("{}/bin/generate", module.folder());
        let words = ["exec \"$@\"", "sh", &program, &output, PLATFORM, &path];
        let exec = ExecBuilder::new(&self.root, self.meta(&words, &environment));
        let exec = self
            .common(exec, module)
            .mount(&self.workspace, app, at(APP, false))
            .mount(PLAN, &self.plan(plan), whole(true))
            .mount(&output, &self.empty(OWN_LAYERS), at(OWN_LAYERS, false));
        let made = self.finish(exec, format!("generate {}", module.key()));
        Folder::new(made.mount(&output).unwrap_or_default(), OWN_LAYERS)
    }

    /// Makes the plan that a module reads.
    fn plan(&self, text: &str) -> State {
        State::scratch().mkfile(self.file("/plan.toml", text), NodeMeta::named("[internal] make a plan"))
    }

    /// Runs the program of a buildpack that builds. `views` are layers of earlier ones.
    pub(super) fn build(
        &self,
        module: &Candidate,
        app: &State,
        environment: &BuildEnvironment,
        plan: &str,
        (views, hints): (&[(String, Folder)], Hints),
    ) -> Built {
        let own = format!("{LAYERS}/{}", escape_id(&module.key().id));
        let path = format!("{PLAN}/plan.toml");
        let environment = self.variables(environment, module, &path, ModulePhase::Build(&own));
        let plan = self.plan(plan);
        let program = format!("{}/bin/build", module.folder());
        let text = format!("{RUNS}{TOOLS}{BUILD}");
        let words = [&text, "sh", &own, &program, &own, PLATFORM, &path];
        let exec = ExecBuilder::new(&self.root, self.meta(&words, &environment));
        let exec = self
            .common(exec, module)
            .mount(&self.workspace, app, at(APP, false))
            .mount(PLAN, &plan, whole(true))
            .mount(&own, &self.empty(OWN_LAYERS), at(OWN_LAYERS, false));
        let exec = match hints {
            Hints::Given => self.recalling(self.hint(exec, module), module),
            Hints::Withheld => exec,
        };
        let exec = views
            .iter()
            .fold(exec, |exec, (path, folder)| exec.mount(path, &folder.state, at(&folder.path, true)));
        // What the last buildpack left may be what it left before, however it came to be: then this one is known.
        let anew = if hints == Hints::Withheld { " anew" } else { "" };
        let mut meta = self.named(format!("build {}{anew}", module.key()));
        meta.description.insert(extension::EXEC_BY_CONTENT.to_owned(), self.workspace.clone());
        let made = exec.finish(Some(&self.platform), meta);
        let tree = |path: &str| made.mount(path).unwrap_or_default();
        Built { app: tree(&self.workspace), layers: Folder::new(tree(&own), OWN_LAYERS) }
    }

    /// Keeps of what a build left what its next time is to see: texts, and words `layers:NAME` and `reuse:NAME`.
    pub(super) fn keep(&self, module: &Candidate, left: &Folder, notes: &State, words: &[String]) -> State {
        let text = format!("{TOOLS}{KEEP}");
        let words: Vec<&str> = [&text, "sh"].into_iter().chain(words.iter().map(String::as_str)).collect();
        // What changes a cache is for that one, and its key has to say so.
        let which = Variables::from([("CNB_KEEPS_IN".to_owned(), self.hint_id(module))]);
        let exec = ExecBuilder::new(&self.root, self.tending(&words, &which));
        let exec =
            exec.mount(LEFT, &left.state, at(&left.path, true)).mount(NOTES, notes, at(OWN_NOTES, true));
        let exec = self.hint(exec, module).network(NetworkMode::None);
        let name = format!("keep layers of {}", module.key());
        let made = exec.finish(Some(&self.platform), self.named(name));
        made.root()
    }

    /// Forgets what was kept for a buildpack.
    pub(super) fn forget(&self, module: &Candidate) -> State {
        let which = Variables::from([("CNB_KEEPS_IN".to_owned(), self.hint_id(module))]);
        let exec = ExecBuilder::new(&self.root, self.tending(&[&format!("{TOOLS}{FORGET}"), "sh"], &which));
        let exec = self.hint(exec, module).network(NetworkMode::None);
        let made =
            exec.finish(Some(&self.platform), self.named(format!("forget layers of {}", module.key())));
        made.root()
    }

    fn hint(&self, exec: ExecBuilder, module: &Candidate) -> ExecBuilder {
        exec.cache_at(HINT, &self.empty(SEED), SEED, self.hint_id(module), CacheSharing::Locked)
    }

    /// Lends what is recalled of the previous image. As a secret it is in no key, and nothing is missed where there is none.
    fn recalling(&self, exec: ExecBuilder, module: &Candidate) -> ExecBuilder {
        let (uid, gid) = self.user;
        let id = recalled_as(&self.platform, &module.key().id);
        exec.secret(PREVIOUS, SecretMount { id, uid, gid, mode: 0o400, optional: true })
    }

    fn hint_id(&self, module: &Candidate) -> String {
        self.hint_of(&module.key().id)
    }

    /// Returns what a cache is called.
    pub(super) fn hint_of(&self, id: &str) -> String {
        let Self { namespace, platform, execution_environment, .. } = self;
        format!("{}{namespace}/{platform}/{execution_environment}/{id}", extension::HINT_CACHE)
    }

    fn variables(
        &self,
        environment: &BuildEnvironment,
        module: &Candidate,
        plan_path: &str,
        phase: ModulePhase<'_>,
    ) -> Variables {
        environment.of_module(&ModuleRun {
            module: &module.module,
            module_folder: &module.folder(),
            platform_folder: PLATFORM,
            platform: &self.platform_files,
            builder: &self.builder_files,
            base: &self.base,
            execution_environment: &self.execution_environment,
            plan_path,
            phase,
        })
    }

    /// `words` are a shell's text, its name, and what it is given.
    pub(super) fn meta(&self, words: &[&str], environment: &Variables) -> ExecMeta {
        let words = ["/bin/sh", "-c"].iter().chain(words).map(|word| (*word).to_owned());
        ExecMeta {
            args: words.collect(),
            env: environment.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            cwd: self.workspace.clone(),
            user: format!("{}:{}", self.user.0, self.user.1),
            ..ExecMeta::default()
        }
    }

    /// The same for what tends a cache: the app is not there.
    pub(super) fn tending(&self, words: &[&str], environment: &Variables) -> ExecMeta {
        ExecMeta { cwd: "/".to_owned(), ..self.meta(words, environment) }
    }

    /// Mounts what every program sees.
    fn common(&self, exec: ExecBuilder, module: &Candidate) -> ExecBuilder {
        let folder = &module.place;
        let exec = exec.tmpfs("/tmp", 0).mount(PLATFORM, &self.platform_tree(), whole(true)).mount(
            module.folder(),
            &folder.state,
            at(&folder.path, true),
        );
        self.with_volumes(exec)
    }

    /// Mounts what the user has programs see, and lets them at the network that they may see.
    pub(super) fn with_volumes(&self, exec: ExecBuilder) -> ExecBuilder {
        let exec = self.volumes.iter().fold(exec.network(self.network), |exec, volume| {
            exec.mount(&volume.target, &volume.state, at(&volume.path, volume.readonly))
        });
        self.with_secrets(exec)
    }

    /// The platform's files. What is mounted below them needs a place to stand on.
    pub(super) fn platform_tree(&self) -> State {
        let root = |path: String| MkdirAction { owner: None, ..self.folder(&path) };
        let mut files = State::scratch().files().mkdir(root("/env".to_owned()));
        for (name, content) in self.platform_files.files() {
            let file = self.file(&format!("/env/{name}"), content.as_bytes());
            files = files.mkfile(MkfileAction { owner: None, ..file });
        }
        for volume in &self.volumes {
            let Some(target) = volume.target.strip_prefix("/platform/") else { continue };
            if volume.is_folder {
                files = files.mkdir(root(format!("/{target}")));
                continue;
            }
            if let Some((folder, _)) = target.rsplit_once('/') {
                files = files.mkdir(root(format!("/{folder}")));
            }
            files = files.mkfile(MkfileAction { owner: None, ..self.file(&format!("/{target}"), "") });
        }
        self.with_bindings(files).finish(NodeMeta::named("[internal] make the platform's files"))
    }

    fn named(&self, name: String) -> NodeMeta {
        NodeMeta { ignore_cache: self.afresh, span: self.place, ..NodeMeta::named(name) }
    }

    pub(super) fn finish(&self, exec: ExecBuilder, name: String) -> ExecState {
        exec.finish(Some(&self.platform), self.named(name))
    }
}

/// Returns what the step is called that asks a module.
pub(super) fn detection(module: &ModuleKey) -> String {
    format!("detect {module}")
}

/// Mounts a folder of a tree.
pub(super) fn at(path: &str, readonly: bool) -> MountOptions {
    let selector = if path == "/" { String::new() } else { path.to_owned() };
    MountOptions { selector, readonly, no_output: false, content_cache: ContentCache::Default }
}

pub(super) fn whole(readonly: bool) -> MountOptions {
    at("/", readonly)
}
