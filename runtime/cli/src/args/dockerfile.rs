//! `rb build` as it was typed: the flags of `docker build` and `docker buildx build`, and of `buildah build` those that mean
//! something here, with their names and grammar.
//!
//! What others have and `rb` cannot honour is refused by name ([`crate::habits`]); what changes nothing here (`--rm`) is taken.
//! Options that are about `rb` itself, such as `--ca`, stand before the command.
//! Source: docker buildx build reference; docker's `build` before BuildKit; buildah-build(1).

mod values;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, ValueHint};

use super::build::count;
use super::{
    Args, ArgsError, BuildOptions, Command, Hidden, IsolationChoice, LimitOptions, PackArgs, PackCommand,
    ProgressChoice, texts,
};
use crate::output_spec::Annotation;
use crate::settings;
use crate::settings::engine::EngineName;
use values::{AddHost, DockerPull, NoPolicy, Platforms};
pub(crate) use values::{
    Allowed, CallChoice, CallFormat, Called, DockerNetwork, HostAddress, LayoutFormat, NamedContext, Pair,
    StepVolume,
};

/// `rb build`
#[derive(Debug, Default, ClapArgs)]
#[command(
    args_override_self = true,
    override_usage = "rb build [OPTIONS] PATH | URL | -",
    after_help = "\
The context is a folder, the address of a git repository, of a tar or of a Dockerfile, a tar file, or `-`: a tar or a \
Dockerfile on stdin. Unless an output is named, the image goes into the image store of rb, under the names of -t: \
`rb run NAME` runs it, `rb image ls` lists it.

Examples:
  rb build -t app .                    the Dockerfile here
  rb build -t app -f prod.Dockerfile --build-arg MODE=prod .
  rb build --target test -o out .      files of a stage, into a folder
  rb build --platform linux/amd64,linux/arm64 -t HOST/me/app --push .
  rb build --check .                   what is unusual in it; builds nothing"
)]
pub(crate) struct DockerfileArgs {
    /// Name of the Dockerfile [default: PATH/Dockerfile]
    ///
    /// As seen from here, not from PATH; an address; or `-` for stdin.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Build")]
    pub(crate) file: Option<String>,
    /// Name of the image, `NAME[:TAG]`; may be repeated
    #[arg(long, short, value_name = "NAME", help_heading = "Output")]
    pub(crate) tag: Vec<String>,
    /// Value for an ARG
    ///
    /// `NAME` alone passes this shell's value on, if it has one.
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Build")]
    pub(crate) build_arg: Vec<String>,
    /// File of values for ARGs, a NAME=VALUE per line
    #[arg(long, value_name = "FILE", help_heading = "Build")]
    pub(crate) build_arg_file: Vec<PathBuf>,
    /// Build on a BuildKit daemon, by name or address
    ///
    /// As `rb --engine` in front of the command; `rb engine ls` lists names.
    #[arg(long, value_name = "NAME|ADDRESS", help_heading = "Build")]
    pub(crate) engine: Option<EngineName>,
    /// As --engine NAME, if one is called so
    ///
    /// Else docker's builder of that name, which is rb itself.
    #[arg(long, short = 'B', value_name = "NAME", conflicts_with = "engine", help_heading = "Build")]
    pub(crate) builder: Option<String>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE", help_heading = "Build")]
    pub(crate) target: Option<String>,
    /// Platforms to build for, separated by commas
    ///
    /// Of several an image becomes an index. `local` is this machine's.
    #[arg(long, value_name = "OS/ARCH", help_heading = "Build")]
    pub(crate) platform: Vec<Platforms>,
    /// Set a label of the image
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Output")]
    pub(crate) label: Vec<Pair>,
    /// Annotate the image
    ///
    /// `index:KEY=VALUE`, `manifest-descriptor:KEY=VALUE` and `index-descriptor:KEY=VALUE` say what else is annotated.
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Output")]
    pub(crate) annotation: Vec<Annotation>,
    /// Write files or an image: a folder, or type=TYPE,…
    ///
    /// type=local and type=tar are files of the result, type=oci and type=docker an archive of the image (dest=- is stdout),
    /// type=image one in the store, type=registry one that is pushed; type=cacheonly is nothing. Names are those of -t unless name= says other ones.
    #[arg(long, short, value_name = "DIR|type=TYPE,…", help_heading = "Output")]
    pub(crate) output: Vec<String>,
    /// Hand the image to Docker, if it runs here
    ///
    /// Where it does not, the image goes into the image store of rb, and that is said.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Output")]
    pub(crate) load: Option<bool>,
    /// Hand the image to Docker where no output is named: what `docker rb build` adds
    #[arg(long, hide = true)]
    pub(crate) default_load: bool,
    /// Push the image to the registries that -t names
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Output")]
    pub(crate) push: Option<bool>,
    /// Write the id of the image, as docker shows it
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write digest and names of the image, as JSON
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Layers of the image as one, upon none
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Output")]
    pub(crate) squash: Option<bool>,
    /// Whose media types the image has: oci or docker
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true, help_heading = "Output")]
    pub(crate) format: Option<LayoutFormat>,
    /// Take a variable out of the image
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    pub(crate) unsetenv: Vec<String>,
    /// Take a label out of the image
    #[arg(long, value_name = "KEY", help_heading = "Output")]
    pub(crate) unsetlabel: Vec<String>,
    /// Latest time in the image, in seconds since 1970
    #[arg(
        long,
        visible_alias = "source-date-epoch",
        value_name = "SECONDS",
        value_parser = settings::epoch_seconds,
        allow_negative_numbers = true,
        help_heading = "Output"
    )]
    pub(crate) timestamp: Option<i64>,
    /// Look no result up, but store them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Build")]
    pub(crate) no_cache: Option<bool>,
    /// Look no result of these stages up
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = "Build")]
    pub(crate) no_cache_filter: Vec<String>,
    /// Ask registries what tags stand for, whatever is here
    ///
    /// Or as buildah has it: always, missing, never.
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Build"
    )]
    pub(crate) pull: Option<DockerPull>,
    /// A further context, for FROM, COPY --from and mounts
    ///
    /// A folder, `docker-image://NAME`, `oci-layout://DIR[:TAG][@DIGEST]`, the address of a repository or of a tar.
    #[arg(long, value_name = "NAME=CONTEXT", help_heading = "Build")]
    pub(crate) build_context: Vec<NamedContext>,
    /// Lend a secret to steps that ask for it
    ///
    /// id=NAME with src=FILE or env=VARIABLE; without, the variable NAME of this shell, else the file NAME.
    #[arg(long, value_name = "id=NAME[,src=FILE|,env=VAR]", help_heading = "Secrets and files")]
    pub(crate) secret: Vec<Hidden>,
    /// Lend an ssh agent to steps that ask for it
    #[arg(long, value_name = "default|ID[=SOCKET|KEYFILE,...]", help_heading = "Secrets and files")]
    pub(crate) ssh: Vec<String>,
    /// Show every RUN a folder or file of this machine
    ///
    /// As it is when the build begins; what steps change in it is forgotten (`:ro`: they cannot). What lies neither here nor in the
    /// context needs --allow fs.read=HOST. A change in it runs the steps again.
    #[arg(long, short, value_name = "HOST:CONTAINER[:ro]", help_heading = "Secrets and files")]
    pub(crate) volume: Vec<StepVolume>,
    /// Allow network.host, device[=NAME], fs.read=PATH, …
    ///
    /// And security.insecure.
    #[arg(long, value_name = "ENTITLEMENT", help_heading = "Build")]
    pub(crate) allow: Vec<Allowed>,
    /// disabled=true alone: rb applies no policies
    ///
    /// What names a policy is refused; a `Dockerfile.rego` beside the Dockerfile is told of, unless it is disabled.
    #[arg(long, value_name = "disabled=true", help_heading = "Build")]
    pub(crate) policy: Vec<NoPolicy>,
    /// Let steps know a host by this name
    ///
    /// `host-gateway` in the place of IP is this machine, which steps reach with --network=host alone.
    #[arg(long, value_name = "NAME:IP", value_delimiter = ',', help_heading = "Network")]
    pub(crate) add_host: Vec<AddHost>,
    /// Network of steps: default, host or none
    #[arg(long, value_name = "MODE", value_enum, hide_possible_values = true, help_heading = "Network")]
    pub(crate) network: Option<DockerNetwork>,
    /// What to do: build, check, outline or targets
    ///
    /// check tells what is unusual in the Dockerfile, outline what a target takes, targets which there are. `,format=json` is for
    /// programs; check has `,format=sarif`, too.
    #[arg(long, value_name = "METHOD[,format=F]", help_heading = "Build")]
    pub(crate) call: Option<Called>,
    /// As --call=check
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, conflicts_with = "call", help_heading = "Build")]
    pub(crate) check: Option<bool>,
    /// Show what would run, as `rb plan` does; run and write nothing
    #[arg(long, conflicts_with_all = ["expect_cached", "interactive", "call", "check"], help_heading = "Build")]
    pub(crate) dry_run: bool,
    /// Fail unless every step is cached
    ///
    /// Before anything runs; each step that is not is told, with why.
    #[arg(long, conflicts_with_all = ["no_cache", "no_cache_filter", "interactive", "call", "check"], help_heading = "Build")]
    pub(crate) expect_cached: bool,
    /// At a failure, open a shell in the step that failed
    ///
    /// With all that it saw, as `rb shell` does; what is changed there is thrown away.
    #[arg(long, conflicts_with_all = ["call", "check"], help_heading = "Build")]
    pub(crate) interactive: bool,
    /// File of what is left out of the context [default: .dockerignore]
    ///
    /// It counts instead of `Dockerfile.dockerignore` and of the context's own.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Build")]
    pub(crate) ignorefile: Option<PathBuf>,
    /// Try so often again what a registry fails at [default: 4]
    ///
    /// Of what was pulled or pushed of a blob by then nothing is sent again.
    #[arg(long, value_name = "N", help_heading = "Network")]
    pub(crate) retry: Option<u32>,
    /// Wait so long before the first time [default: 500ms]
    ///
    /// And before each further one twice as long.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Network")]
    pub(crate) retry_delay: Option<Duration>,
    /// Steps at once [default: processors, at least 8]
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Build")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// What steps run in: sandbox or chroot
    ///
    /// docker's `default` and buildah's `oci` and `rootless` are the sandbox.
    #[arg(long, value_name = "HOW", value_parser = values::isolation, help_heading = "Build")]
    pub(crate) isolation: Option<IsolationChoice>,
    #[command(flatten)]
    pub(crate) limits: LimitOptions,
    /// Weight of each step's processors' time
    #[arg(long, short, value_name = "N", help_heading = "Limits")]
    pub(crate) cpu_shares: Option<u64>,
    /// The scheduler's period, in microseconds
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) cpu_period: Option<u64>,
    /// Processors' time of each step in one period
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) cpu_quota: Option<i64>,
    /// Memory nodes that steps run on, such as 0-1
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    pub(crate) cpuset_mems: Option<String>,
    /// Limits as buildx has them: memory=2g,cpu-quota=50000
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', help_heading = "Limits")]
    pub(crate) resource: Vec<Pair>,
    /// Look for results in a cache elsewhere, too
    ///
    /// NAME or type=registry,ref=NAME; `type=local,src=DIR[,tag=TAG][,digest=DIGEST]`; type=gha, type=s3 and type=azblob: `rb help
    /// caching`. The name may be that of an image made with --cache-to=type=inline. One that is not there is told of, and left out.
    #[arg(long, value_name = "NAME|type=TYPE,…", help_heading = "Build")]
    pub(crate) cache_from: Vec<String>,
    /// Write results for other machines
    ///
    /// NAME or type=registry,ref=NAME; `type=local,dest=DIR[,tag=TAG][,reset=true]`; type=inline, in the image itself; type=gha,
    /// type=s3 and type=azblob: `rb help caching`. mode=max writes all steps, mode=min (as is) those that the image's layers are of; compression=, compression-level=,
    /// force-compression= and ignore-error= as buildx has them.
    #[arg(long, value_name = "NAME|type=TYPE,…", help_heading = "Build")]
    pub(crate) cache_to: Vec<String>,
    /// Say where the image comes from, in its index
    ///
    /// true, false, or mode=min|max, version=v0.2|v1, builder-id=ID, filename=NAME, reproducible=, inline-only=,
    /// complete-materials=. Beside files it is `provenance.json`.
    #[arg(long, value_name = "BOOL|mode=MODE[,...]", help_heading = "Output")]
    pub(crate) provenance: Option<String>,
    /// Say what is in the image, as a scanner finds it
    ///
    /// true, false, or generator=IMAGE; BuildKit's scanner where none is named.
    #[arg(long, value_name = "BOOL|generator=IMAGE", help_heading = "Output")]
    pub(crate) sbom: Option<String>,
    /// type=provenance or type=sbom, with their settings
    #[arg(long, value_name = "type=TYPE[,...]", help_heading = "Output")]
    pub(crate) attest: Vec<String>,
    /// How to show progress, on stderr
    #[arg(long, value_name = "HOW", value_enum, help_heading = "Display")]
    pub(crate) progress: Option<ProgressChoice>,
    /// Show errors only, and the digest of the image
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Display")]
    pub(crate) quiet: Option<bool>,
    /// Log what rb itself does, as RB_LOG=debug
    #[arg(long, short = 'D', value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Display")]
    pub(crate) debug: Option<bool>,
    /// Taken, and true of every build: `rb` keeps no containers of steps, and copies no context
    #[arg(long, visible_aliases = ["force-rm", "compress", "layers"], value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true, action = clap::ArgAction::Append)]
    pub(crate) rm: Vec<bool>,
    /// Taken with a word, as buildx does: what a step may do does not depend on it
    #[arg(long, value_name = "OPTION", hide = true)]
    pub(crate) security_opt: Vec<String>,
    /// The result goes nowhere: what needs it has it in the same build. No flag.
    #[arg(skip)]
    pub(crate) nowhere: bool,
    /// A folder, an address, a tar file, or `-` for stdin
    #[arg(value_name = "CONTEXT", value_hint = ValueHint::AnyPath)]
    pub(crate) context: Vec<OsString>,
    /// What stood behind `rb build`, where that is known.
    #[arg(skip)]
    pub(crate) words: Vec<String>,
}

/// `rb build` alone, as other commands take its words.
#[derive(Debug, Parser)]
#[command(name = "rb build", no_binary_name = true, disable_help_flag = true)]
struct Alone {
    #[command(flatten)]
    args: DockerfileArgs,
}

/// Says what is wrong with words, without what clap says below.
pub(super) fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

impl DockerfileArgs {
    /// Reads words as `rb build` has them; what is wrong is told in one line.
    pub(crate) fn parse(
        words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, String> {
        Alone::try_parse_from(words).map(|alone| alone.args).map_err(|error| in_one_line(&error))
    }

    /// Reads the words that stand behind `rb build`.
    pub(crate) fn read(words: &[OsString]) -> Result<Self, ArgsError> {
        let args = Self::parse(words).map_err(|message| ArgsError::OfBuild { command: "build", message })?;
        Ok(Self { words: texts(words)?, ..args })
    }

    /// Tells whether it reads stdin, which is there once.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.context.iter().any(|word| word == "-") || self.file.as_deref() == Some("-")
    }

    /// Takes the word behind the context, where `rb why` has one.
    pub(crate) fn step_behind(&mut self) -> Option<String> {
        let step = (self.context.len() == 2).then(|| self.context.pop()).flatten()?;
        Some(step.to_string_lossy().into_owned())
    }

    /// Returns how things are to be shown, for what comes before the settings.
    pub(crate) fn display(&self) -> BuildOptions {
        BuildOptions { progress: self.progress, quiet: self.quiet == Some(true), ..BuildOptions::default() }
    }
}

impl Args {
    /// Notes with `rb build`, `rb bake` and `rb pack build` what stands behind it: others do the same again.
    pub(crate) fn noting(mut self, argv: &[OsString]) -> Self {
        match &mut self.command {
            Some(Command::Build(build)) => build.words = behind("build", argv),
            Some(Command::Bake(bake)) => bake.words = behind("bake", argv),
            Some(Command::Pack(PackArgs { command: PackCommand::Build(build), .. })) => {
                build.words = behind("build", argv);
            }
            _ => {}
        }
        self
    }
}

/// Returns the words behind the name of a command in all that was typed; none where that is no such command.
fn behind(name: &str, argv: &[OsString]) -> Vec<String> {
    // `rb pack build` alone is none: it needs the name of an image.
    let any_image = OsString::from("image");
    let is_it = |at: &usize| {
        let before = || argv.iter().take(*at + 1);
        argv.get(*at).is_some_and(|word| word == name)
            && (matches!(
                Args::try_parse_from(before()),
                Ok(Args { command: Some(Command::Build(_) | Command::Bake(_)), .. })
            ) || matches!(
                Args::try_parse_from(before().chain([&any_image])),
                Ok(Args {
                    command: Some(Command::Pack(PackArgs { command: PackCommand::Build(_), .. })),
                    ..
                })
            ))
    };
    let words = (1..argv.len()).find(is_it).and_then(|at| argv.get(at + 1..));
    words.and_then(|words| texts(words).ok()).unwrap_or_default()
}
