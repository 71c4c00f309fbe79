//! What the command line means, beside the environment, its files and the defaults.
//!
//! In: [`crate::args`], the [`Environment`] and the user's files ([`config`]). Out: [`Settings`], plain values that the
//! commands take. What a build is given (arguments, secrets) is collected in [`given`], how registries are reached in
//! [`mod@registry`], how steps reach the network in [`mod@network`]. Strongest first: what is typed, the environment, the
//! user's file, the machine's file, the default.
//! **Invariant:** what a build may do comes from what is typed and from the user's own environment alone.

pub(crate) mod config;
mod display;
pub(crate) mod edit;
pub(crate) mod engine;
mod error;
mod git;
pub(crate) mod given;
pub(crate) mod in_force;
mod jobs;
pub(crate) mod keys;
pub(crate) mod lent;
mod memory;
mod network;
pub(crate) mod pack;
pub(crate) mod registry;
pub(crate) mod snapshotter;
mod space;
pub(crate) mod steps;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use rb_api::{AllowedDevices, CachePlace, PullPolicy};
use rb_engine::{Snapshotter, StepNetwork, StepTerms};
use rb_oci::Platform;
use rb_session::{Secret, SshAgent};

use crate::args::{BuildOptions, IsolationChoice, OutputOptions, PullChoice, StepNetworkChoice};
use crate::environment::Environment;
use crate::report::github::GitHub;
use config::Config;
pub(crate) use display::{Display, ProgressMode, display};
use engine::EngineSettings;
pub(crate) use error::SettingsError;
pub(crate) use git::GitHosts;
use given::{Given, OwnFile};
use jobs::jobs;
pub(crate) use memory::MemoryBudget;
use registry::RegistrySettings;

/// Latest time that images show where neither `--epoch` nor SOURCE_DATE_EPOCH say: 2020-04-16T12:00:00Z, the time
/// Earthly gives to what it copies.
pub(crate) const DEFAULT_EPOCH_SECONDS: i64 = 1_587_038_400;

/// 9999-12-31T23:59:59Z: the formats that images are written in hold no later year.
const LATEST_EPOCH_SECONDS: i64 = 253_402_300_799;

const EPOCH_EXPECTED: &str =
    "a number of seconds since 1970, at most 253402300799 (the end of the year 9999)";

/// Reads the time of `--epoch` and SOURCE_DATE_EPOCH.
pub(crate) fn epoch_seconds(text: &str) -> Result<i64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0..=LATEST_EPOCH_SECONDS).contains(seconds));
    seconds.ok_or_else(|| format!("expected {EPOCH_EXPECTED}"))
}

/// What a command that builds needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Working directory, absolute.
    pub(crate) cwd: PathBuf,
    /// State directory, absolute.
    pub(crate) state_directory: PathBuf,
    /// The user's home.
    pub(crate) home: Option<PathBuf>,
    /// Steps at once.
    pub(crate) jobs: NonZeroUsize,
    /// How roots of steps are made of layers.
    pub(crate) snapshotter: Snapshotter,
    /// Folders that `FROM @host --bind` may show, absolute.
    pub(crate) allowed_binds: Vec<PathBuf>,
    /// The engine elsewhere that builds.
    pub(crate) engine: Option<EngineSettings>,
    /// What was asked for of the bundled runtime alone, by its option or variable; what a file says asks for nothing.
    pub(crate) asked_of_here: Option<&'static str>,
    /// Look nothing up.
    pub(crate) no_cache: bool,
    /// Where results are looked for that are not here.
    pub(crate) cache_from: Vec<CachePlace>,
    /// When registries are asked.
    pub(crate) pull: PullPolicy,
    /// Write no output of a target.
    pub(crate) no_output: bool,
    /// Platforms of the result, each once; never empty.
    pub(crate) platforms: Vec<Platform>,
    /// The user named them; else the project may name another.
    pub(crate) platform_named: bool,
    /// What the user allows and wants of a build as a whole.
    pub(crate) build: rb_frontend::BuildOptions,
    /// Arguments for the target, weaker than those behind it.
    pub(crate) args: BTreeMap<String, String>,
    /// Values for arguments that nobody has to declare.
    pub(crate) defaults: BTreeMap<String, String>,
    /// Secrets by id.
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// Files that a folder is lent without.
    pub(crate) own_files: Vec<OwnFile>,
    /// Latest time that images show.
    pub(crate) epoch_seconds: i64,
    /// How registries are reached.
    pub(crate) registry: RegistrySettings,
    /// Where repositories elsewhere are fetched from.
    pub(crate) git: GitHosts,
    /// How much the state directory may hold.
    pub(crate) space: rb_store::Policy,
    /// How steps and programs reach the network.
    pub(crate) network: StepNetwork,
    /// Steps may ask for this machine's network.
    pub(crate) allow_host_network: bool,
    /// Devices of this machine that steps may ask for.
    pub(crate) allowed_devices: AllowedDevices,
    /// On which terms steps and programs run.
    pub(crate) steps: StepTerms,
    /// Ssh agents by id.
    pub(crate) agents: BTreeMap<String, SshAgent>,
    /// The socket of the user's own.
    pub(crate) own_agent: Option<PathBuf>,
    /// Progress and colours.
    pub(crate) display: Display,
    /// Where a run on GitHub puts what it has to say.
    pub(crate) github: GitHub,
    /// What is to be told before anything begins.
    pub(crate) warnings: Vec<String>,
}

fn each_once(platforms: Vec<Platform>) -> Vec<Platform> {
    let mut once = Vec::with_capacity(platforms.len());
    for platform in platforms {
        if !once.contains(&platform) {
            once.push(platform);
        }
    }
    once
}

/// Checks that what is for a platform runs here.
pub(crate) fn check_platform(platform: &Platform) -> Result<(), SettingsError> {
    if *platform == Platform::host() {
        Ok(())
    } else {
        Err(SettingsError::Platform { platform: platform.clone() })
    }
}

/// Reads the user's files.
pub(crate) fn read_config(environment: &Environment) -> Result<Config, SettingsError> {
    config::load(environment).map_err(|errors| SettingsError::Config { errors })
}

/// The same for what changes the user's file: where that is not there, it comes to be, whoever names it.
pub(crate) fn read_config_to_change(environment: &Environment) -> Result<Config, SettingsError> {
    config::load_to_change(environment).map_err(|errors| SettingsError::Config { errors })
}

/// Settles where the state directory is, absolute, for what needs no more than that.
pub(crate) fn state_directory(environment: &Environment) -> Result<PathBuf, SettingsError> {
    environment.state_directory(read_config(environment)?.root.as_deref())
}

/// Settles how registries are reached, for what needs no more than that.
pub(crate) fn registry(environment: &Environment) -> Result<RegistrySettings, SettingsError> {
    Ok(registry::settle(&read_config(environment)?, environment))
}

/// Finds what was typed, or stands in the environment, that the bundled runtime alone can do. Its own defaults ask for nothing.
fn asked_of_here(
    options: &BuildOptions,
    config: &Config,
    environment: &Environment,
) -> Result<Option<&'static str>, SettingsError> {
    let (runtime, runtime_from) = steps::runtime(options, config, environment)?;
    let (isolation, isolation_from) = steps::isolation(options, config, environment)?;
    let (network, network_from) = network::steps(options, config, environment)?;
    let budget = memory::settle(&options.limits, config, environment)?;
    let budget = budget.from.filter(|_| budget.amount().is_some());
    let binds = if options.allow_bind.is_empty() {
        (!environment.folders("RB_ALLOW_BIND").is_empty()).then_some("RB_ALLOW_BIND")
    } else {
        Some("--allow-bind")
    };
    Ok(runtime_from
        .filter(|_| runtime.is_some())
        .or_else(|| isolation_from.filter(|_| isolation == IsolationChoice::Chroot))
        .or_else(|| network_from.filter(|_| network == StepNetworkChoice::Host))
        .or(budget)
        .or(binds))
}

/// Settles all that a build needs to know.
pub(crate) fn settle(
    options: &BuildOptions,
    output: &OutputOptions,
    given: Given,
    environment: &Environment,
) -> Result<Settings, SettingsError> {
    let parse = |text: &str| text.split(',').map(|one| one.trim().parse().ok()).collect();
    let typed = Some(options.platform.clone()).filter(|typed| !typed.is_empty());
    let named: Option<Vec<Platform>> = match typed {
        None => environment.parsed("RB_PLATFORMS", parse)?,
        typed => typed,
    };
    let config = read_config(environment)?;
    let epoch = match options.epoch {
        Some(epoch) => Some(epoch),
        None => environment.parsed("SOURCE_DATE_EPOCH", |text| epoch_seconds(text).ok())?,
    };
    let push = options.push || environment.flag("RB_PUSH")?;
    let ci = options.ci || environment.flag("RB_CI")?;
    let no_output = output.no_output || environment.flag("RB_NO_OUTPUT")?;
    let Given { args, defaults, secrets, files, mut warnings } = given;
    let mut registry = registry::settle(&config, environment);
    registry.ca_files = network::ca_files(options, &config, environment);
    let isolation = steps::settled_isolation(options, &config, environment)?;
    let network = network::settle(options, &config, environment, &registry, &mut warnings)?;
    let state_directory = environment.state_directory(config.root.as_deref())?;
    Ok(Settings {
        cwd: environment.cwd.clone(),
        state_directory: state_directory.clone(),
        home: environment.home().map(ToOwned::to_owned),
        jobs: jobs(options, &config, environment)?,
        snapshotter: snapshotter::settle(&config, environment)?.0.into(),
        allowed_binds: [options.allow_bind.clone(), environment.folders("RB_ALLOW_BIND")]
            .concat()
            .iter()
            .map(|dir| environment.cwd.join(dir))
            .collect(),
        engine: engine::settle(options.engine.as_ref(), &config, environment)?,
        asked_of_here: asked_of_here(options, &config, environment)?,
        no_cache: options.no_cache || environment.flag("RB_NO_CACHE")?,
        pull: match options.pull {
            None => PullPolicy::Newest,
            Some(PullChoice::Always) => PullPolicy::Always,
            Some(PullChoice::Missing) => PullPolicy::Missing,
            Some(PullChoice::Never) => PullPolicy::Never,
        },
        no_output: no_output || (ci && !output.force_output),
        platform_named: named.is_some(),
        platforms: each_once(named.unwrap_or_else(|| vec![Platform::host()])),
        build: rb_frontend::BuildOptions {
            push,
            ci,
            strict: ci || options.strict || environment.flag("RB_STRICT")?,
            allow_privileged: options.allow_privileged || environment.flag("RB_ALLOW_PRIVILEGED")?,
            withhold_outputs: false,
            here: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build_sha: String::new(),
        },
        args,
        defaults,
        secrets,
        own_files: files,
        epoch_seconds: epoch.unwrap_or(DEFAULT_EPOCH_SECONDS),
        registry,
        git: config.git.clone(),
        space: space::settle(&config.cache, environment)?,
        network,
        allow_host_network: options.allow_host_network || environment.flag("RB_ALLOW_HOST_NETWORK")?,
        cache_from: Vec::new(),
        allowed_devices: steps::allowed_devices(options, environment)?,
        steps: StepTerms {
            runtime: steps::runtime_at(steps::runtime(options, &config, environment)?.0, &state_directory),
            memory_budget: memory::settle(&options.limits, &config, environment)?.amount(),
            isolation,
            ..steps::terms(&options.limits, &config)
        },
        agents: steps::agents(options, environment)?,
        own_agent: steps::own_agent(environment),
        display: display(options, environment)?,
        github: GitHub::of(environment),
        warnings,
    })
}

#[cfg(test)]
mod tests {
    use crate::environment::tests::environment;

    use super::*;
    use crate::args::ProgressChoice;

    fn settled(options: &BuildOptions, environment: &Environment) -> Result<Settings, SettingsError> {
        settle(options, &OutputOptions::default(), Given::default(), environment)
    }

    #[test]
    fn options_win_over_the_environment() {
        let environment = environment(&[
            ("HOME", "/h"),
            ("RB_JOBS", "3"),
            ("SOURCE_DATE_EPOCH", "5"),
            ("RB_PROGRESS", "json"),
            ("TERM", "xterm"),
        ]);
        let settings = settled(&BuildOptions::default(), &environment).expect("settles");
        assert_eq!((settings.jobs.get(), settings.epoch_seconds), (3, 5));
        let expected = Display { mode: ProgressMode::Json, colours: true, github: false, verbose: false };
        assert_eq!(settings.display, expected);
        let options = BuildOptions {
            jobs: NonZeroUsize::new(2),
            epoch: Some(7),
            progress: Some(ProgressChoice::Auto),
            ..BuildOptions::default()
        };
        let settings = settled(&options, &environment).expect("settles");
        assert_eq!((settings.jobs.get(), settings.epoch_seconds), (2, 7));
        assert_eq!(settings.display.mode, ProgressMode::Live);
    }

    #[test]
    fn folders_to_show_are_allowed_by_option_and_by_variable() {
        let environment = environment(&[("HOME", "/h"), ("RB_ALLOW_BIND", "/opt/a::b")]);
        let options = BuildOptions { allow_bind: vec!["c".into()], ..BuildOptions::default() };
        let settings = settled(&options, &environment).expect("settles");
        assert_eq!(settings.allowed_binds, ["/ws/c", "/opt/a", "/ws/b"].map(PathBuf::from));
    }

    #[test]
    fn devices_are_allowed_by_option_and_by_variable() {
        let allowed = |typed: &[&str], variable: &str| {
            let environment = environment(&[("HOME", "/h"), ("RB_ALLOW_DEVICE", variable)]);
            let allow_device = typed.iter().map(|name| (*name).to_owned()).collect();
            let options = BuildOptions { allow_device, ..BuildOptions::default() };
            let allowed = settled(&options, &environment).expect("settles").allowed_devices;
            (allowed.all, allowed.names.join(" "))
        };
        assert_eq!(allowed(&[], "false"), (false, String::new()));
        assert_eq!(allowed(&["*"], "a/b=c"), (true, "a/b=c".to_owned()));
        assert_eq!(allowed(&["gpu"], "a/b=c,d/e"), (false, "gpu a/b=c d/e".to_owned()));
        assert_eq!(allowed(&[], "true"), (true, String::new()));
    }

    #[test]
    fn a_dumb_or_absent_terminal_has_no_live_view() {
        let mode = |environment: &Environment| {
            display(&BuildOptions::default(), environment).map(|display| (display.mode, display.colours)).ok()
        };
        assert_eq!(mode(&environment(&[("TERM", "xterm")])), Some((ProgressMode::Live, true)));
        assert_eq!(mode(&environment(&[("TERM", "dumb")])), Some((ProgressMode::Plain, false)));
        assert_eq!(
            mode(&environment(&[("TERM", "xterm"), ("NO_COLOR", "1")])),
            Some((ProgressMode::Live, false))
        );
        let mut piped = environment(&[("TERM", "xterm")]);
        piped.terminal = false;
        assert_eq!(mode(&piped), Some((ProgressMode::Plain, false)));
    }

    #[test]
    fn nonsense_is_named() {
        let error = settled(&BuildOptions::default(), &environment(&[("HOME", "/h"), ("RB_JOBS", "0")]));
        let error = error.expect_err("0 jobs build nothing");
        assert_eq!(error.to_string(), "the environment variable RB_JOBS has the value `0`");
        for (text, good) in [("0", true), ("253402300799", true), ("253402300800", false), ("-1", false)] {
            assert_eq!(epoch_seconds(text).is_ok(), good, "{text}");
            let environment = environment(&[("HOME", "/h"), ("SOURCE_DATE_EPOCH", text)]);
            assert_eq!(settled(&BuildOptions::default(), &environment).is_ok(), good, "{text}");
        }
        let error = settled(&BuildOptions::default(), &environment(&[("HOME", "/h"), ("RB_PLATFORMS", "x")]));
        assert!(error.expect_err("no platform").help().is_some_and(|help| help.contains("linux/arm64")));
    }

    #[test]
    fn platforms_are_named_once_and_the_command_line_wins() {
        let platform = |text: &str| text.parse::<Platform>().expect("a platform");
        let around = environment(&[("HOME", "/h"), ("EARTHLY_PLATFORMS", "linux/arm64, linux/s390x")]);
        let settings = settled(&BuildOptions::default(), &around).expect("settles");
        assert!(settings.platform_named);
        assert_eq!(settings.platforms, [platform("linux/arm64"), platform("linux/s390x")]);
        let named = ["linux/riscv64", "linux/amd64", "linux/x86_64"].map(platform).to_vec();
        let options = BuildOptions { platform: named, ..BuildOptions::default() };
        let settings = settled(&options, &around).expect("settles");
        assert_eq!(settings.platforms, [platform("linux/riscv64"), platform("linux/amd64")]);
        let settings = settled(&BuildOptions::default(), &environment(&[("HOME", "/h")])).expect("settles");
        assert!(!settings.platform_named && settings.platforms == [Platform::host()]);
    }

    #[test]
    fn a_ci_run_is_strict_and_puts_nothing_out() {
        let environment = environment(&[("HOME", "/h")]);
        let ci = BuildOptions { ci: true, ..BuildOptions::default() };
        let settings = settled(&ci, &environment).expect("settles");
        assert!(settings.build.ci && settings.build.strict && settings.no_output);
        let forced = OutputOptions { force_output: true, ..OutputOptions::default() };
        assert!(!settle(&ci, &forced, Given::default(), &environment).expect("settles").no_output);
    }

    #[test]
    fn earthlys_variables_are_options() {
        let names = ["EARTHLY_PUSH", "EARTHLY_STRICT", "EARTHLY_NO_CACHE", "EARTHLY_ALLOW_PRIVILEGED"];
        let mut variables: Vec<_> = names.iter().map(|name| (*name, "true")).collect();
        variables.push(("HOME", "/h"));
        let settings = settled(&BuildOptions::default(), &environment(&variables)).expect("settles");
        let build = &settings.build;
        assert!(build.push && build.strict && settings.no_cache && build.allow_privileged && !build.ci);
    }
}
