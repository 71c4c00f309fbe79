//! Options of everything that builds.
//!
//! They stand before a target, and on both sides of the name of a command that builds ([`BuildOptions::over`]).

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args as ClapArgs, ValueEnum, ValueHint};
use rb_oci::Platform;
use serde::Deserialize;

use super::LimitOptions;
use crate::settings;
use crate::settings::engine::EngineName;

/// Options of everything that builds.
#[derive(Debug, Default, Clone, PartialEq, Eq, ClapArgs)]
pub(crate) struct BuildOptions {
    /// Build on a BuildKit daemon, by name or address
    ///
    /// A name of `rb engine ls`, or unix:///PATH, tcp://HOST:PORT, ssh://USER@HOST, docker-container://NAME,
    /// podman-container://NAME, nerdctl-container://NAME, kube-pod://NAME or docker://. `here` is this machine, whatever RB_ENGINE and
    /// config.toml say. Images that are not pushed come back into the image store. For tcp:// RB_ENGINE_CERTS names a folder of
    /// certificates.
    #[arg(long, value_name = "NAME|ADDRESS", help_heading = "Build")]
    pub(crate) engine: Option<EngineName>,
    /// Look no result up, but store them
    #[arg(long, help_heading = "Build")]
    pub(crate) no_cache: bool,
    /// Steps at once [default: processors, at least 8]
    #[arg(long, short, value_name = "N", value_parser = count, help_heading = "Build")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Let `FROM @host --bind` show this folder
    ///
    /// Folders that hold software, such as /usr and /opt, are shown without.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Build")]
    pub(crate) allow_bind: Vec<PathBuf>,
    /// Platforms to build for, separated by commas
    ///
    /// Of several an image becomes an index. Steps run for this machine's own.
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',', help_heading = "Build")]
    pub(crate) platform: Vec<Platform>,
    /// Value for an ARG of any target
    ///
    /// Weaker than one behind the target. `NAME` alone passes this shell's value on.
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Build")]
    pub(crate) build_arg: Vec<String>,
    /// When to ask registries: always, missing, never
    ///
    /// For what their tags stand for. always: also for what the image store has; missing: for what is not known here, from the
    /// store or from an earlier time; never: for nothing, so that what is not here is an error. Unless given, for what the
    /// store does not have; --pull alone means always.
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always",
        hide_possible_values = true,
        help_heading = "Build"
    )]
    pub(crate) pull: Option<PullChoice>,
    /// Trust the authorities in this PEM file, too
    ///
    /// So do steps, of which nothing is kept.
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub(crate) ca: Vec<PathBuf>,
    /// Lend proxies to steps [default: true]
    ///
    /// Those of this machine, as variables of which nothing is kept.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        help_heading = "Network"
    )]
    pub(crate) http_proxy: Option<bool>,
    /// Who runs steps: rb, crun, runc, runsc, or a path
    ///
    /// Unless named, rb does, in a sandbox of its own. Another runtime of containers is given the same root, mounts, network,
    /// limits and rights, so results are the same and found again; what it cannot do is refused. `runsc` is gVisor's.
    #[arg(long, value_name = "RUNTIME", help_heading = "Build")]
    pub(crate) runtime: Option<String>,
    /// What steps run in [default: sandbox]
    ///
    /// `chroot` is for containers and pods without privileges, where no sandbox can be made: a root of its own, and no more. It
    /// implies --step-network=host, needs root, and copies the root of each step. Steps have no /proc; what needs a mount, such as
    /// `FROM @host`, a device or --network=none, is refused. What such steps make is found again by such steps only. `rb doctor` tells what is possible.
    #[arg(
        long,
        value_name = "sandbox|chroot",
        value_enum,
        hide_possible_values = true,
        help_heading = "Build"
    )]
    pub(crate) isolation: Option<IsolationChoice>,
    /// Network of steps that name none [default: sandbox]
    ///
    /// `sandbox` leads outside and not to this machine: not to what listens here, be it on localhost. `host` is this machine's.
    #[arg(
        long,
        value_name = "sandbox|host",
        value_enum,
        hide_possible_values = true,
        help_heading = "Network"
    )]
    pub(crate) step_network: Option<StepNetworkChoice>,
    /// Let `RUN --network=host` have the host's network
    #[arg(long, help_heading = "Network")]
    pub(crate) allow_host_network: bool,
    /// Let `RUN --device` have devices of this machine
    ///
    /// All, or those named: `vendor/class=name`, `vendor/class` for all of its kind, or a class that their descriptions name. Devices are those that
    /// vendors describe in /etc/cdi and /var/run/cdi (CDI).
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "*",
        value_delimiter = ',',
        help_heading = "Build"
    )]
    pub(crate) allow_device: Vec<String>,
    /// Run what is marked `--push`, and push images
    #[arg(long, help_heading = "Build")]
    pub(crate) push: bool,
    /// As a CI run: --strict, and write no output
    ///
    /// Of a target that is named as such no image is saved and no artifact written; --push, -a and -o count.
    #[arg(long, help_heading = "Build")]
    pub(crate) ci: bool,
    /// Run nothing outside of sandboxes (LOCALLY)
    #[arg(long, help_heading = "Build")]
    pub(crate) strict: bool,
    /// Let `RUN --privileged` have all privileges
    #[arg(long, short = 'P', help_heading = "Build")]
    pub(crate) allow_privileged: bool,
    /// Lend a secret to steps that ask for it
    ///
    /// `NAME` alone passes this shell's value on.
    #[arg(long, short, value_name = "NAME[=VALUE]", help_heading = "Secrets and files")]
    pub(crate) secret: Vec<Hidden>,
    /// Lend an ssh agent to steps that ask for it
    ///
    /// They can have it list its keys and sign. `ID` alone is the one that SSH_AUTH_SOCK names; a SOCKET is another, KEYFILEs are
    /// keys of OpenSSH without a passphrase. Targets that ask for `default` get that of SSH_AUTH_SOCK anyway.
    #[arg(long, value_name = "ID[=SOCKET|KEYFILE,...]", help_heading = "Secrets and files")]
    pub(crate) ssh: Vec<String>,
    /// Lend a file's content as a secret
    #[arg(long, value_name = "NAME=PATH", help_heading = "Secrets and files")]
    pub(crate) secret_file: Vec<String>,
    /// File of ARGs [default: .arg, if there]
    ///
    /// A NAME=value per line, weaker than all that is typed and than the environment.
    #[arg(long, value_name = "PATH", help_heading = "Secrets and files")]
    pub(crate) arg_file_path: Option<PathBuf>,
    /// File of secrets [default: .secret, if there]
    #[arg(long, value_name = "PATH", help_heading = "Secrets and files")]
    pub(crate) secret_file_path: Option<PathBuf>,
    /// File of variables [default: .env, if there]
    ///
    /// Of RB_… and EARTHLY_…, those that `rb help environment` marks; what allows or lends something is not taken from it.
    #[arg(long, value_name = "PATH", help_heading = "Secrets and files")]
    pub(crate) env_file_path: Option<PathBuf>,
    /// Latest time in images [env: SOURCE_DATE_EPOCH]
    ///
    /// In seconds since 1970; unless given 2020-04-16T12:00:00Z.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = settings::epoch_seconds,
        allow_negative_numbers = true,
        help_heading = "Build"
    )]
    pub(crate) epoch: Option<i64>,
    #[command(flatten)]
    pub(crate) limits: LimitOptions,
    /// How to show progress, on stderr
    #[arg(long, value_name = "HOW", value_enum, help_heading = "Display")]
    pub(crate) progress: Option<ProgressChoice>,
    /// Show errors only, and digests of images
    ///
    /// The digests stand on stdout; as --progress=quiet.
    #[arg(long, short, help_heading = "Display")]
    pub(crate) quiet: bool,
    /// Tell of each step why it runs, or is cached
    ///
    /// In the words that --progress=json and the records of builds have.
    #[arg(long, short = 'V', help_heading = "Display")]
    pub(crate) verbose: bool,
    /// Whether there are colours, where a command says so.
    #[arg(skip)]
    pub(crate) colours: Option<bool>,
}

/// Reads a number of things of which there is at least one.
pub(super) fn count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected a number, 1 or more".to_owned())
}

/// A word that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hidden(String);

impl Hidden {
    /// Returns the word.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Hidden")
    }
}

impl BuildOptions {
    /// Returns these options for what builds nothing: which engine would build is not asked.
    pub(crate) fn building_nothing(self) -> Self {
        Self { engine: Some(EngineName::Here), ..self }
    }

    /// Returns these options without those that say how to show things.
    pub(crate) fn without_display(self) -> Self {
        Self { progress: None, quiet: false, verbose: false, colours: None, ..self }
    }

    /// Joins options typed before and behind the name of a command; those behind win.
    pub(crate) fn over(self, outer: Self) -> Self {
        Self {
            engine: self.engine.or(outer.engine),
            no_cache: self.no_cache || outer.no_cache,
            jobs: self.jobs.or(outer.jobs),
            allow_bind: [outer.allow_bind, self.allow_bind].concat(),
            platform: if self.platform.is_empty() { outer.platform } else { self.platform },
            build_arg: [outer.build_arg, self.build_arg].concat(),
            pull: self.pull.or(outer.pull),
            ca: [outer.ca, self.ca].concat(),
            http_proxy: self.http_proxy.or(outer.http_proxy),
            step_network: self.step_network.or(outer.step_network),
            runtime: self.runtime.or(outer.runtime),
            isolation: self.isolation.or(outer.isolation),
            allow_host_network: self.allow_host_network || outer.allow_host_network,
            allow_device: [outer.allow_device, self.allow_device].concat(),
            push: self.push || outer.push,
            ci: self.ci || outer.ci,
            strict: self.strict || outer.strict,
            allow_privileged: self.allow_privileged || outer.allow_privileged,
            secret: [outer.secret, self.secret].concat(),
            ssh: [outer.ssh, self.ssh].concat(),
            secret_file: [outer.secret_file, self.secret_file].concat(),
            arg_file_path: self.arg_file_path.or(outer.arg_file_path),
            secret_file_path: self.secret_file_path.or(outer.secret_file_path),
            env_file_path: self.env_file_path.or(outer.env_file_path),
            epoch: self.epoch.or(outer.epoch),
            limits: self.limits.over(outer.limits),
            progress: self.progress.or(outer.progress),
            quiet: self.quiet || outer.quiet,
            verbose: self.verbose || outer.verbose,
            colours: self.colours.or(outer.colours),
        }
    }
}

/// When registries are asked what a tag stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullChoice {
    /// Also for what the image store has
    #[value(alias = "true")]
    Always,
    /// For what is not known here, from the image store or from an earlier time
    Missing,
    /// For nothing: what is not here is an error
    Never,
}

/// What steps run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IsolationChoice {
    /// Namespaces of their own
    Sandbox,
    /// A root of their own, and nothing else
    Chroot,
}

impl IsolationChoice {
    /// Returns how it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Chroot => "chroot",
        }
    }
}

/// Networks of steps that ask for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StepNetworkChoice {
    /// One that leads outside and not to this machine
    Sandbox,
    /// That of this machine
    Host,
}

/// Ways to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressChoice {
    /// `tty` on a terminal, else `plain`
    Auto,
    /// Lines `+target | output`
    Plain,
    /// A live view that is gone when the build is done
    Tty,
    /// One JSON object per line
    Json,
    /// BuildKit's JSON, for programs that read that
    #[value(name = "rawjson")]
    RawJson,
    /// Errors only
    #[value(alias = "none")]
    Quiet,
}
