//! What `rb pack build` and `detect` were asked for, settled.
//!
//! In: [`PackChoices`], the project's descriptor, the environment. Out: an [`Order`]: what is lent to the engine, and the request
//! for the frontend. Strongest first: what is typed, `--env-file`, the descriptor, the builder.
//! **Invariant:** the frontend is told no path of this machine; folders are lent under names of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rb_buildpacks::environment::EnvironmentFiles;
use rb_buildpacks::frontend::{
    AppFilter, AppSource, BuildpackChoice, BuildpackWord, PRODUCTION, PackRequest, Volume, WordError,
    user_variables,
};
use rb_buildpacks::includes;
use rb_buildpacks::project::{BuildpackSource, Project, ProjectBuildpack};
use rb_frontend::ImageLocation;
use rb_llb::{NetworkMode, NodeMeta, State, attr, json_list};
use rb_oci::{Digest, Platform, Reference};
use rb_session::{LocalDir, LocalSession};

use super::super::scratch::Scratch;
use super::app::App;
use super::images::allow_insecure;
use super::{bindings, names, package, registry};
use crate::args::{PackChoices, PackNetwork, StepVolume};
use crate::environment::Environment;
use crate::report::Failure;
use crate::settings::Settings;
use crate::settings::pack::PackSettings;
use crate::world::{ReadError, read_regular};

/// Largest descriptor and file of variables.
const LIMIT_BYTES: u64 = 1 << 20;

/// The name that the app is lent by.
const APP: &str = "app";

/// All that a build with buildpacks needs to know.
pub(super) struct Order {
    pub(super) session: LocalSession,
    pub(super) request: PackRequest,
    pub(super) settings: Settings,
    /// The folder of the app.
    pub(super) folder: PathBuf,
    /// What is to be told before anything begins.
    pub(super) warnings: Vec<String>,
    /// An app and packages that were unpacked, for as long as they are lent.
    _unpacked: [Option<Scratch>; 2],
}

impl Order {
    /// Settles it for one platform. `targets` are what the image will be called, `session` what is lent already, for another one.
    pub(super) fn read(
        settings: &Settings,
        known: &PackSettings,
        choices: &PackChoices,
        targets: &[Reference],
        (platform, session): (&Platform, LocalSession),
    ) -> Result<Self, Failure> {
        let mut settings = settings.clone();
        allow_insecure(&mut settings, &choices.pulls.insecure_registry);
        let platform = platform.clone();
        let App { folder, unpacked } =
            App::at(&settings.cwd, choices.path.as_deref().unwrap_or(Path::new(".")))?;
        let (project, base) = descriptor(&settings.cwd, &folder, choices.descriptor.as_deref())?;
        let mut warnings: Vec<String> = Vec::new();
        if project.undeclared {
            warnings.push("project.toml declares no `schema-version`: it is read as one of 0.1".to_owned());
        }
        let unknown = project.unknown.iter();
        warnings.extend(unknown.map(|key| format!("project.toml: `{key}` is not known, and passed over")));
        if choices.trust_builder || choices.trust_extra_buildpacks {
            warnings.push(
                "--trust-builder and --trust-extra-buildpacks say nothing here: no builder sees credentials"
                    .to_owned(),
            );
        }
        warnings.extend(StepVolume::forgotten(&choices.volume));
        warnings.extend(choices.volume.iter().filter_map(sensitive));
        let named = choices.exec_env.clone().filter(|name| !name.is_empty());
        let execution_environment = named.unwrap_or_else(|| PRODUCTION.to_owned());
        let builder =
            choices.builder.clone().or_else(|| Some(project.builder.clone()).filter(|name| !name.is_empty()));
        let builder = builder.or_else(|| known.default_builder.clone().filter(|name| !name.is_empty()));
        let builder = builder.ok_or_else(|| {
            let help = "name one: `rb pack build -B IMAGE NAME`, `builder = \"IMAGE\"` in project.toml, or `rb pack config default-builder IMAGE`";
            Failure::input("there is no builder", Some(help.to_owned()))
        })?;
        names::forbid(targets, &builder, choices.run_image.as_deref(), known)?;
        if let Some(pull) = choices.pulls.pull_policy.or(known.pull_policy) {
            settings.pull = pull.policy();
        }
        let registry = registry::chosen(known, choices.buildpack_registry.as_deref())?;
        let mut lent = Lent {
            cwd: settings.cwd.clone(),
            session,
            count: 0,
            platform: platform.clone(),
            registry,
            packages: None,
        };
        let app = lent.app(&folder, &AppFilter::of(&project));
        let in_time = |one: &&ProjectBuildpack| includes(&one.exec_env, &execution_environment);
        let mut chosen =
            |typed: &[String], of_project: &[ProjectBuildpack]| -> Result<Vec<BuildpackChoice>, Failure> {
                if typed.is_empty() {
                    return of_project
                        .iter()
                        .filter(in_time)
                        .map(|one| lent.of_project(&one.source, &base))
                        .collect();
                }
                typed.iter().map(|word| lent.buildpack(word, &settings.cwd)).collect()
            };
        let buildpacks = chosen(&choices.buildpack, &project.buildpacks)?;
        let pre = chosen(&choices.pre_buildpack, &project.pre)?;
        let post = chosen(&choices.post_buildpack, &project.post)?;
        let extensions = chosen(&choices.extension, &[])?;
        let volumes = choices.volume.iter().map(|volume| {
            let (state, path) = lent.place(&volume.host, "--volume")?;
            let (is_folder, target, readonly) = (path == "/", volume.target.clone(), volume.readonly);
            Ok(Volume { state, path, is_folder, target, readonly })
        });
        let volumes = volumes.collect::<Result<Vec<_>, Failure>>()?;
        let bindings = bindings::read(&settings.cwd, &choices.binding, &volumes, &mut lent.session)?;
        let environment = variables(&settings.cwd, choices, &project, &execution_environment)?;
        let network = match choices.network {
            PackNetwork::Default => NetworkMode::Sandbox,
            PackNetwork::Host => NetworkMode::Host,
            PackNetwork::None => NetworkMode::None,
        };
        let (target, tags) = (targets.first().cloned(), targets.get(1..).unwrap_or_default().to_vec());
        let namespace = target.as_ref().map(|name| name.repository().familiar()).unwrap_or_default();
        let request = PackRequest {
            builder,
            run_image: choices.run_image.clone(),
            run_mirrors: known.mirrors(),
            user: (choices.uid, choices.gid),
            app: AppSource::whole(app),
            place: None,
            target,
            tags,
            buildpacks,
            pre,
            post,
            extensions,
            environment,
            platform,
            execution_environment,
            process: String::new(),
            workspace: "/workspace".to_owned(),
            network,
            volumes,
            bindings,
            namespace,
            afresh: choices.clear_cache,
            without_system: choices.disable_system_buildpacks,
            created: rb_buildpacks::export::EPOCH.to_owned(),
            launcher: None,
        };
        // One for all folders, as caches go by the image's name; no path's digest is this, so no build file reaches them.
        let session = lent.session.with_cache_scope(Digest::of("rb pack").hex());
        Ok(Self { session, request, settings, folder, warnings, _unpacked: [unpacked, lent.packages] })
    }
}

/// Folders on their way to the engine.
struct Lent {
    cwd: PathBuf,
    session: LocalSession,
    count: usize,
    platform: Platform,
    /// The files of the registry of buildpacks.
    registry: Option<State>,
    /// Packages that were unpacked.
    packages: Option<Scratch>,
}

impl Lent {
    /// Lends a folder as it is.
    fn lend(&mut self, name: &str, path: PathBuf) {
        let lent = LocalDir { path, normalise_modes: false, hidden: Vec::new() };
        self.session = std::mem::take(&mut self.session).with_local(name, lent);
    }

    fn source(name: &str, shown: String, attrs: BTreeMap<String, String>) -> State {
        State::source(format!("local://{name}"), attrs, None, NodeMeta::named(shown))
    }

    fn app(&mut self, folder: &Path, filter: &AppFilter) -> State {
        self.lend(APP, folder.to_owned());
        let list = |items: &[String]| (!items.is_empty()).then(|| json_list(items));
        let attrs = [
            (attr::LOCAL_INCLUDE_PATTERNS, list(&filter.include)),
            (attr::LOCAL_EXCLUDE_PATTERNS, list(&filter.exclude)),
        ];
        let attrs = attrs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Self::source(APP, "load the app".to_owned(), attrs)
    }

    /// Lends a folder, or that of a file, under a name of its own.
    fn place(&mut self, path: &Path, what: &str) -> Result<(State, String), Failure> {
        let shown = path.display().to_string();
        let nowhere = || Failure::input(format!("{what}: there is no folder or file `{shown}`"), None);
        let real = std::fs::canonicalize(self.cwd.join(path)).map_err(|_| nowhere())?;
        let name = format!("lent-{}", self.count);
        self.count += 1;
        let file = real.file_name().and_then(|name| name.to_str()).map(ToOwned::to_owned);
        match (real.is_dir(), real.parent(), file) {
            (true, ..) => {
                self.lend(&name, real.clone());
                Ok((Self::source(&name, format!("load {shown}"), BTreeMap::new()), "/".to_owned()))
            }
            (false, Some(folder), Some(file)) if real.is_file() => {
                self.lend(&name, folder.to_owned());
                let only = json_list(std::slice::from_ref(&file));
                let attrs = BTreeMap::from([(attr::LOCAL_INCLUDE_PATTERNS.to_owned(), only)]);
                Ok((Self::source(&name, format!("load {shown}"), attrs), format!("/{file}")))
            }
            _ => Err(nowhere()),
        }
    }

    /// Reads what names a buildpack, as pack does; paths begin at `base`.
    fn buildpack(&mut self, word: &str, base: &Path) -> Result<BuildpackChoice, Failure> {
        let refused = |error: WordError| Failure::input(error.to_string(), Some(error.help.to_owned()));
        let (path, only) = match BuildpackWord::read(word).map_err(refused)? {
            BuildpackWord::Choice(choice) => return Ok(choice),
            BuildpackWord::Registered { id, version } => {
                let index = self.registry.clone().ok_or_else(|| refused(WordError::no_registry(word)))?;
                return Ok(BuildpackChoice::Registered { index, id, version });
            }
            // As it was typed, where it can be.
            BuildpackWord::Path { path, only } if base == self.cwd => (PathBuf::from(path), only),
            BuildpackWord::Path { path, only } => (base.join(path), only),
        };
        let place = self.cwd.join(&path);
        if place.is_dir() {
            let (state, path) = self.place(&path, "--buildpack")?;
            return Ok(BuildpackChoice::Folder { state, path, shown: word.to_owned() });
        }
        if place.is_file() && package::is_package(&place)? {
            return self.package(&place, word);
        }
        if place.is_file() {
            let (state, path) = self.place(&path, "--buildpack")?;
            return Ok(BuildpackChoice::unpacked(&state, &path, word));
        }
        if only {
            return Err(refused(WordError::nowhere(word)));
        }
        // What the builder has none of is looked for in the registry, as pack does.
        Ok(match (BuildpackChoice::by_id(word), self.registry.clone()) {
            (BuildpackChoice::Id { id, version, .. }, registry) => {
                BuildpackChoice::Id { id, version, registry }
            }
            (other, _) => other,
        })
    }

    /// Lends a package that lies in a file.
    fn package(&mut self, file: &Path, word: &str) -> Result<BuildpackChoice, Failure> {
        let packages = match self.packages.take() {
            Some(packages) => packages,
            None => Scratch::new()?,
        };
        // Of several platforms each has its own.
        let platform = self.platform.to_string().replace('/', "-");
        let store = format!("package-{}-{platform}", self.count);
        self.count += 1;
        let folder = packages.path().join(&store);
        self.packages = Some(packages);
        let digest = package::unpack(file, &folder, &self.platform)?;
        self.session = std::mem::take(&mut self.session).with_oci_layout(&store, folder);
        let location = ImageLocation::OciStore { store, digest };
        Ok(BuildpackChoice::Lent { location, shown: word.to_owned() })
    }

    /// As for pack, an id is a word as any other; places in a descriptor are as seen from its folder.
    fn of_project(&mut self, source: &BuildpackSource, base: &Path) -> Result<BuildpackChoice, Failure> {
        match source {
            BuildpackSource::Id { id, version: Some(version) } => {
                self.buildpack(&format!("{id}@{version}"), base)
            }
            BuildpackSource::Id { id: word, version: None } | BuildpackSource::Uri(word) => {
                self.buildpack(word, base)
            }
            BuildpackSource::Inline { id, version, api, script, shell } => Ok(BuildpackChoice::Inline {
                id: id.clone(),
                version: version.clone(),
                api: api.clone(),
                script: script.clone(),
                shell: shell.clone(),
            }),
        }
    }
}

/// Says of a volume that it lies where buildpacks' own things do. Source: pack, word for word.
fn sensitive(volume: &StepVolume) -> Option<String> {
    let target = volume.target.to_ascii_lowercase();
    let is_there = ["/cnb", "/layers", "/workspace"].iter().any(|place| target.starts_with(place));
    is_there.then(|| format!("Mounting to a sensitive directory '{}'", volume.target))
}

/// Reads the descriptor that was named, else that of the app, if there is one; returns its folder, too.
fn descriptor(cwd: &Path, folder: &Path, named: Option<&Path>) -> Result<(Project, PathBuf), Failure> {
    let path = named.map_or_else(|| folder.join("project.toml"), |named| cwd.join(named));
    let base = path.parent().unwrap_or(folder).to_owned();
    let shown = named.unwrap_or(Path::new("project.toml")).display();
    let bytes = match read_regular(&path, LIMIT_BYTES) {
        Ok(bytes) => bytes,
        Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok((Project::default(), base));
        }
        Err(error) => {
            return Err(Failure::input(
                format!("`{shown}` cannot be read: {}", rb_diag::chain(&error)),
                None,
            ));
        }
    };
    let project = Project::parse(&bytes).map_err(|error| {
        // Its words name what it is called in the folder of an app.
        let said = error.to_string();
        let said = said.strip_prefix("project.toml").map_or(said.clone(), |rest| format!("{shown}{rest}"));
        Failure::input(said, None)
    })?;
    Ok((project, base))
}

/// Collects the variables of the build.
fn variables(
    cwd: &Path,
    choices: &PackChoices,
    project: &Project,
    execution_environment: &str,
) -> Result<EnvironmentFiles, Failure> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for one in project.environment.iter().filter(|one| includes(&one.exec_env, execution_environment)) {
        all.insert(one.name.clone(), one.value.clone());
    }
    for file in &choices.env_file {
        let shown = file.display();
        let wrong = |what: String| Failure::input(format!("--env-file `{shown}` {what}"), None);
        let bytes = read_regular(&cwd.join(file), LIMIT_BYTES)
            .map_err(|error| wrong(format!("cannot be read: {}", rb_diag::chain(&error))))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8 text".to_owned()))?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            set(&mut all, line);
        }
    }
    choices.env.iter().for_each(|word| set(&mut all, word));
    user_variables(all).map_err(|why| Failure::input(why, None))
}

/// Takes `NAME=VALUE`, or `NAME`, whose value is this shell's; as for pack, one that the shell does not have is empty.
fn set(all: &mut BTreeMap<String, String>, word: &str) {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            (word, Environment::pass_on(word).and_then(|value| value.into_string().ok()).unwrap_or_default())
        }
    };
    all.insert(name.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent() -> (tempfile::TempDir, Lent) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("mine/bin")).expect("makes");
        std::fs::write(folder.path().join("a.tgz"), b"").expect("writes");
        std::fs::write(folder.path().join("a.cnb"), b"").expect("writes");
        let lent = Lent {
            cwd: folder.path().to_owned(),
            session: LocalSession::default(),
            count: 0,
            platform: Platform::host(),
            registry: None,
            packages: None,
        };
        (folder, lent)
    }

    #[test]
    fn words_for_buildpacks() {
        let (folder, mut lent) = lent();
        let mut named = |word: &str| lent.buildpack(word, folder.path());
        assert!(matches!(named("a/b"), Ok(BuildpackChoice::Id { version: None, .. })));
        assert!(
            matches!(named("a/b@1.2"), Ok(BuildpackChoice::Id { version: Some(version), .. }) if version == "1.2")
        );
        assert!(matches!(named("urn:cnb:builder:a/b@1"), Ok(BuildpackChoice::Id { version: Some(_), .. })));
        assert!(matches!(named("from=builder"), Ok(BuildpackChoice::FromBuilder)));
        assert!(
            matches!(named("docker://example.com/bp:1"), Ok(BuildpackChoice::Package(image)) if image == "example.com/bp:1")
        );
        for word in ["mine", "./mine", "a.tgz", "https://example.com/bp.tgz", "https://example.com/b.cnb"] {
            assert!(matches!(named(word), Ok(BuildpackChoice::Folder { .. })), "{word}");
        }
        for word in ["./none", "/none", "a.cnb", "urn:cnb:registry:a/b@1", "s3://example.com/b.cnb"] {
            assert!(named(word).is_err(), "{word}");
        }
        lent.registry = Some(State::scratch());
        let found = lent.buildpack("urn:cnb:registry:a/b@1", folder.path());
        assert!(
            matches!(found, Ok(BuildpackChoice::Registered { version: Some(version), .. }) if version == "1")
        );
    }

    #[test]
    fn variables_from_everywhere() {
        let (folder, _) = lent();
        std::fs::write(folder.path().join("env"), "# no\nB=file\nC=file\n\nRB_NO_SUCH\n").expect("writes");
        let text = "[_]\nschema-version='0.2'\n[[io.buildpacks.build.env]]\nname='A'\nvalue='project'\n\
                    [[io.buildpacks.build.env]]\nname='B'\nvalue='project'\n";
        let project = Project::parse(text.as_bytes()).expect("reads");
        let choices = PackChoices {
            env_file: vec!["env".into()],
            env: vec!["C=typed".to_owned(), "D=x=y".to_owned()],
            ..PackChoices::default()
        };
        let all = variables(folder.path(), &choices, &project, "").expect("variables");
        let all: Vec<_> = all.files().iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(all, ["A=project", "B=file", "C=typed", "D=x=y", "RB_NO_SUCH="]);
        let bad = PackChoices { env: vec!["../x=1".to_owned()], ..PackChoices::default() };
        assert!(variables(folder.path(), &bad, &project, "").is_err());
    }
}
