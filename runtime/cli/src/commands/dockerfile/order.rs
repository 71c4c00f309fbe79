//! What `rb build` was asked for, settled.
//!
//! In: [`DockerfileArgs`], the options before the command, the environment. Out: an [`Order`]: settings as every command that
//! builds has them, options for the frontend as BuildKit's client gives them, what is lent, what is written.
//! Source: buildx, how it makes a request of its flags.

use std::collections::BTreeMap;
use std::path::Path;

use rb_api::{CacheExport, PullPolicy};
use rb_oci::Platform;
use rb_session::{Bucket, LocalSession};

use super::attest::Wishes;
use super::caches::{bucket, caches};
use super::context::{self, Lent};
use super::metadata::Metadata;
use super::outputs::{self, Outputs};
use super::{contexts, help, limits, volumes, words};
use crate::args::{
    Allowed, BuildOptions, CallChoice, Called, DockerNetwork, DockerfileArgs, HostAddress, OutputOptions,
    StepVolume, TargetCall,
};
use crate::commands::engines;
use crate::commands::record::Asked;
use crate::commands::record::document::OfDockerfile;
use crate::environment::Environment;
use crate::output_spec::OutputSpec;
use crate::report::Failure;
use crate::settings::given::Given;
use crate::settings::{self, Settings, lent};
use crate::world::read_regular;

/// All that a build of a Dockerfile needs to know.
pub(in crate::commands) struct Order {
    pub(super) settings: Settings,
    /// Options of the frontend.
    pub(super) options: BTreeMap<String, String>,
    pub(super) lent: Lent,
    /// Where the context is, with the keys to it, if it is a tar in a bucket.
    pub(super) bucket: Option<Bucket>,
    pub(super) outputs: Outputs,
    /// What is done with the Dockerfile.
    pub(super) called: Called,
    /// What the build is called: `build .`
    pub(super) title: String,
    /// What is built, in the summary: the first name of the image, or the context.
    pub(super) shown: String,
    /// What is said of the image.
    pub(super) attests: Wishes,
    /// What the metadata file says beside images.
    pub(super) metadata: Metadata,
    /// Where its steps are written for others; of which roots is not known yet.
    pub(super) cache_to: Vec<CacheExport>,
    /// What the image is made without.
    pub(super) changes: Changes,
    /// What is to be told before anything begins.
    pub(super) warnings: Vec<String>,
    /// What the record of the build says of it.
    pub(super) told: OfDockerfile,
    /// Names of the arguments that it is given.
    pub(super) args: Vec<String>,
    /// What stood behind `rb build`, with all that is secret; for what is kept with a step that fails.
    pub(super) typed: Vec<String>,
    /// How far it goes.
    pub(super) reach: Reach,
    /// Text of the ignore file that was named.
    pub(super) ignore: Option<String>,
    /// What of this machine every RUN sees.
    pub(super) volumes: Vec<rb_dockerfile::Volume>,
}

/// How far a build goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// To its end.
    Whole,
    /// It is told what would run.
    Look,
    /// To its end if nothing has to run.
    Cached,
    /// To its end, or to a shell where a step failed.
    Shell,
}

/// What is done to an image after the Dockerfile.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Its layers become one.
    pub(super) squash: bool,
    pub(super) unset_env: Vec<String>,
    pub(super) unset_labels: Vec<String>,
}

impl Order {
    /// Settles what was asked of `rb build`, for the platform of docker's `DOCKER_DEFAULT_PLATFORM` unless another is named.
    pub(in crate::commands) fn read(
        environment: &Environment,
        outer: BuildOptions,
        mut args: DockerfileArgs,
    ) -> Result<Self, Failure> {
        if args.platform.is_empty()
            && outer.platform.is_empty()
            && let Some((name, text)) = environment.get(DEFAULT_PLATFORM)
        {
            let text = text.to_string_lossy();
            let wrong = |error| Failure::input(format!("{name}={text}: {error}"), None);
            args.platform.push(text.parse().map_err(wrong)?);
        }
        Self::settle(environment, outer, args).map_err(help::as_docker_has_it)
    }

    /// Settles it.
    pub(super) fn settle(
        environment: &Environment,
        outer: BuildOptions,
        mut args: DockerfileArgs,
    ) -> Result<Self, Failure> {
        let by_ssh = args.context.first().and_then(|word| word.to_str()).is_some_and(context::is_by_ssh);
        if by_ssh && args.ssh.is_empty() && environment.get(AGENT).is_some() {
            args.ssh.push("default".to_owned());
        }
        refuse(&outer, &args)?;
        let reach = match &args {
            DockerfileArgs { dry_run: true, .. } => Reach::Look,
            DockerfileArgs { expect_cached: true, .. } => Reach::Cached,
            DockerfileArgs { interactive: true, .. } => Reach::Shell,
            _ => Reach::Whole,
        };
        let cwd = environment.cwd.display().to_string();
        let ignore =
            args.ignorefile.as_deref().map(|file| ignore_text(&environment.cwd, file)).transpose()?;
        let words = words::without_secrets(&args.words);
        let mut lent = context::lend(&environment.cwd, &args.context, args.file.as_deref())?;
        let bucket = lent.object.as_ref().map(|object| bucket(object, environment)).transpose()?;
        contexts::lend(&mut lent, &environment.cwd, &args.build_context)?;
        let volumes = volumes::lend(&mut lent, &environment.cwd, &args)?;
        let given = Given { secrets: lent::secrets(&args.secret, environment)?, ..Given::default() };
        let mut build_args = lent::arguments(
            args.build_arg_file.iter().map(AsRef::as_ref),
            &[outer.build_arg.clone(), args.build_arg.clone()].concat(),
            environment,
        )?;
        let engine = engines::meant(args.engine.as_ref(), args.builder.as_deref(), environment)?;
        let own = BuildOptions { engine, ..build_options(&args, &build_args)? };
        // Who says what time it is says so to the Dockerfile, too.
        let epoch_is_named = own.epoch.or(outer.epoch).is_some() || environment.get(EPOCH).is_some();
        let output = OutputOptions {
            annotation: args.annotation.clone(),
            metadata_file: args.metadata_file.clone(),
            iidfile: args.iidfile.clone(),
            ..OutputOptions::default()
        };
        let mut settings = settings::settle(&own.over(outer), &output, given, environment)?;
        settings.registry.tries = args.retry.map(|again| again.saturating_add(1));
        settings.registry.first_pause = args.retry_delay;
        if epoch_is_named {
            build_args.entry(EPOCH.to_owned()).or_insert_with(|| settings.epoch_seconds.to_string());
        }
        let mut outputs = outputs::read(&args, output, settings.build.push)?;
        if let Some(text) = build_args.get(AS_OF_SEVERAL).filter(|text| !text.is_empty()) {
            outputs.as_of_several(text)?;
        }
        let attests = Wishes::read(&args, &build_args)?;
        let metadata = Metadata::read(environment);
        let mut options = frontend(&args, &settings);
        options.extend(limits::frontend(&args)?);
        options.extend(build_args.into_iter().map(|(name, value)| (format!("build-arg:{name}"), value)));
        options.append(&mut lent.options);
        let context = args.context.first().map(|word| word.to_string_lossy()).unwrap_or_default();
        let told = OfDockerfile {
            file: lent.file.clone(),
            target: args.target.clone(),
            context: words::without_password(&context),
            folder: Some(cwd),
            words,
        };
        let title = words::title(&args, &context);
        let names = options.keys().filter_map(|name| name.strip_prefix("build-arg:").map(ToOwned::to_owned));
        let names = names.collect();
        let shown = args.tag.first().cloned().unwrap_or_else(|| words::without_password(&context));
        let called = args.called();
        let (cache_from, cache_to, told_of_caches) = caches(&args, &settings, environment)?;
        settings.cache_from = cache_from;
        let forgotten = StepVolume::forgotten(&args.volume).into_iter().collect();
        let unused = args.security_opt.iter().map(|option| {
            format!("--security-opt {option} changes nothing: `RUN --security=insecure` has all rights, with --allow security.insecure")
        });
        let unused = unused.collect();
        let policies = policies(&args, &environment.cwd, &lent.file, environment);
        let warnings = [settings.warnings.clone(), told_of_caches, forgotten, unused, policies].concat();
        let changes = Changes {
            squash: args.squash == Some(true),
            unset_env: args.unsetenv,
            unset_labels: args.unsetlabel,
        };
        Ok(Self {
            settings,
            options,
            lent,
            bucket,
            outputs,
            called,
            title,
            shown,
            attests,
            metadata,
            cache_to,
            changes,
            warnings,
            told,
            args: names,
            typed: args.words,
            reach,
            ignore,
            volumes,
        })
    }

    /// Returns it as it is done again by going on where a step failed: what is no image is written, images only if that is said.
    /// Tells, too, whether an image is left out.
    pub(in crate::commands) fn resumed(
        mut self,
        writes: bool,
        images: bool,
        interactive: bool,
    ) -> (Self, bool) {
        let is_image = |spec: &OutputSpec| !matches!(spec, OutputSpec::Local { .. } | OutputSpec::Tar { .. });
        let output = &mut self.outputs.options;
        let before = output.output.iter().filter(|spec| is_image(spec)).count();
        output.output.retain(|spec| writes && (images || !is_image(spec)));
        let left_out = writes && !images && before > 0;
        if !writes || !images {
            (output.load, output.iidfile, output.metadata_file) = (None, None, None);
        }
        self.reach = if interactive { Reach::Shell } else { Reach::Whole };
        (self, left_out)
    }

    /// Returns the names of its arguments, and what it is asked for, as its record has them.
    pub(in crate::commands) fn given(&self) -> (Vec<String>, Option<OfDockerfile>) {
        (self.args.clone(), Some(self.told.clone()))
    }

    /// Returns the settings of the build.
    pub(in crate::commands) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the root of what is built: the context's folder, else where it was asked for.
    pub(in crate::commands) fn workspace(&self) -> &Path {
        self.lent.folder.as_deref().unwrap_or(&self.settings.cwd)
    }

    /// Returns the names by which builds of it are found again: one for the stage that is built, one for the file.
    pub(in crate::commands) fn names(&self) -> Vec<String> {
        let stage = self.told.target.as_deref().unwrap_or_default();
        words::names(&self.lent.known_as, stage)
    }

    /// Returns what its record says was asked for.
    pub(in crate::commands) fn asked(&self, command: &'static str) -> Asked {
        let asked = Asked::of(command, &self.title).naming(self.names());
        asked.of_dockerfile(self.told.clone(), self.args.clone())
    }

    /// Returns what the engine may ask the client for.
    pub(super) fn session(&self) -> LocalSession {
        let mut session = self.lent.session.clone();
        for (id, secret) in &self.settings.secrets {
            session = session.with_secret(id, secret.clone());
        }
        for (id, agent) in &self.settings.agents {
            session = session.with_ssh(id, agent.clone());
        }
        session
    }

    /// Tells whether an image is made.
    pub(super) fn builds(&self) -> bool {
        self.called.method == CallChoice::Build
    }
}

/// Largest ignore file that is read.
const IGNORE_LIMIT_BYTES: u64 = 16 << 20;

/// The variable that names the platform to build for, as docker has it.
const DEFAULT_PLATFORM: &str = "DOCKER_DEFAULT_PLATFORM";

/// The variable that names a policy for sources.
const POLICY: &str = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";

/// The variable that names the socket of this user's ssh agent.
const AGENT: &str = "SSH_AUTH_SOCK";

/// The argument that has one platform written as several are.
pub(super) const AS_OF_SEVERAL: &str = "BUILDKIT_MULTI_PLATFORM";

/// The argument that says what time it is.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

impl DockerfileArgs {
    fn called(&self) -> Called {
        let check = Called { method: CallChoice::Check, ..Called::default() };
        if self.check == Some(true) { check } else { self.call.unwrap_or_default() }
    }
}

/// Refuses what says nothing to a Dockerfile.
fn refuse(outer: &BuildOptions, args: &DockerfileArgs) -> Result<(), Failure> {
    if let [word] = args.context.as_slice()
        && TargetCall::is_target(word)
        && word.to_str().is_some_and(|word| word.starts_with('+'))
    {
        let word = word.to_string_lossy();
        let help =
            format!("targets need no command: `rb {word}`; `rb build` takes the folder of a Dockerfile");
        return Err(Failure::input(format!("`{word}` is a target"), Some(help)));
    }
    let gateway = args.add_host.iter().find(|host| host.address == HostAddress::Gateway);
    if let Some(host) = gateway.filter(|_| args.network != Some(DockerNetwork::Host)) {
        let help = "with --network=host every step has this machine's network, and the name is 127.0.0.1; else leave it out, or \
            name an address";
        return Err(Failure::input(
            format!("--add-host {}:host-gateway: steps do not reach the machine that builds", host.name),
            Some(help.to_owned()),
        ));
    }
    let of_targets = [
        ("--secret", !outer.secret.is_empty()),
        ("--secret-file", !outer.secret_file.is_empty()),
        ("--arg-file-path", outer.arg_file_path.is_some()),
        ("--secret-file-path", outer.secret_file_path.is_some()),
        ("--env-file-path", outer.env_file_path.is_some()),
        ("--allow-bind", !outer.allow_bind.is_empty()),
        ("--ci", outer.ci),
        ("--strict", outer.strict),
    ];
    if let Some((option, _)) = of_targets.iter().find(|(_, given)| *given) {
        let help = "`rb build --help` lists its options; they stand behind its name".to_owned();
        return Err(Failure::input(
            format!("{option} before the command says nothing to `rb build`"),
            Some(help),
        ));
    }
    Ok(())
}

/// Tells of policies that buildx would apply: a file beside the Dockerfile, and one that the environment names.
fn policies(args: &DockerfileArgs, cwd: &Path, dockerfile: &str, environment: &Environment) -> Vec<String> {
    let beside = format!("{dockerfile}.rego");
    let beside = cwd.join(&beside).is_file().then_some(beside).filter(|_| args.policy.is_empty());
    let named = environment.get(POLICY).filter(|(_, value)| !value.is_empty());
    let told = |what: String| format!("{what} is not applied: this version of rb knows no policies");
    let quiet = "`--policy disabled=true` says that it need not be";
    let beside = beside.map(|file| format!("{}; {quiet}", told(format!("the policy {file}"))));
    let named = named.map(|(name, value)| told(format!("the policy {} of {name}", value.to_string_lossy())));
    beside.into_iter().chain(named).collect()
}

/// Reads an ignore file that was named.
fn ignore_text(cwd: &Path, file: &Path) -> Result<String, Failure> {
    let wrong = |what: String| Failure::input(format!("--ignorefile `{}` {what}", file.display()), None);
    let bytes =
        read_regular(&cwd.join(file), IGNORE_LIMIT_BYTES).map_err(|error| wrong(rb_diag::chain(&error)))?;
    String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8 text".to_owned()))
}

/// Returns the options that every build has.
fn build_options(
    args: &DockerfileArgs,
    build_args: &BTreeMap<String, String>,
) -> Result<BuildOptions, Failure> {
    let epoch = match (args.timestamp, build_args.get(EPOCH).filter(|text| !text.is_empty())) {
        (Some(seconds), _) => Some(seconds),
        // The frontend asks the context, or a stage of that name.
        (None, Some(text)) if !text.starts_with(|first: char| first.is_ascii_digit() || first == '-') => None,
        (None, Some(text)) => {
            Some(settings::epoch_seconds(text).map_err(|expected| {
                Failure::input(format!("--build-arg {EPOCH}={text}: {expected}"), None)
            })?)
        }
        (None, None) => None,
    };
    let allows = |what: &Allowed| args.allow.contains(what);
    let device = |allowed: &Allowed| match allowed {
        Allowed::Device(name) => Some(name.clone()),
        Allowed::NetworkHost | Allowed::SecurityInsecure | Allowed::LocalDelete | Allowed::Read(_) => None,
    };
    let platforms = args.platform.iter().flat_map(|platforms| platforms.0.clone());
    Ok(BuildOptions {
        no_cache: args.no_cache == Some(true),
        jobs: args.jobs,
        platform: platforms.collect::<Vec<Platform>>(),
        pull: args.pull.and_then(|pull| pull.0),
        isolation: args.isolation,
        // Who names it for every step allows it, too: as docker.
        allow_host_network: allows(&Allowed::NetworkHost) || args.network == Some(DockerNetwork::Host),
        allow_privileged: allows(&Allowed::SecurityInsecure),
        allow_device: args.allow.iter().filter_map(device).collect(),
        ssh: args.ssh.clone(),
        push: args.push == Some(true),
        epoch,
        limits: limits::of_steps(args),
        progress: args.progress,
        quiet: args.quiet == Some(true),
        ..BuildOptions::default()
    })
}

/// Returns the options of the frontend that are neither limits nor contexts nor arguments.
fn frontend(args: &DockerfileArgs, settings: &Settings) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let mut set = |name: &str, value: String| options.insert(name.to_owned(), value);
    if let Some(target) = &args.target {
        set("target", target.clone());
    }
    if settings.platform_named {
        let platforms: Vec<String> = settings.platforms.iter().map(ToString::to_string).collect();
        set("platform", platforms.join(","));
    }
    for label in &args.label {
        set(&format!("label:{}", label.key), label.value.clone());
    }
    if !args.no_cache_filter.is_empty() {
        set("no-cache", args.no_cache_filter.join(","));
    }
    if settings.pull == PullPolicy::Always {
        set("image-resolve-mode", "pull".to_owned());
    }
    match args.network {
        Some(DockerNetwork::Host) => drop(set("force-network-mode", "host".to_owned())),
        Some(DockerNetwork::None) => drop(set("force-network-mode", "none".to_owned())),
        Some(DockerNetwork::Default) | None => {}
    }
    let hosts: Vec<String> =
        args.add_host.iter().map(|host| format!("{}={}", host.name, host.address)).collect();
    if !hosts.is_empty() {
        set("add-hosts", hosts.join(","));
    }
    options
}
