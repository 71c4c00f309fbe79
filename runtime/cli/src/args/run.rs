//! `rb run` as it was typed: the options of `docker run` that mean something here, with docker's names.
//!
//! Each value is read into its own type. What docker would keep for later (a named volume, a range of ports, UDP) is
//! refused with what to write instead.
//! Source: docker's reference of `docker container run`.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use rb_diag::nearest;

use super::BuildOptions;
use crate::sizes;

/// `rb run`
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "rb run [OPTIONS] [DIR]+TARGET [--NAME=VALUE]... [--] [COMMAND]...\n       rb run [OPTIONS] IMAGE [COMMAND]...",
    after_help = "\
A word with a `+` is a target: it is built, and the last image it saves is run; where it saves none, its filesystem \
is. stdout and stderr are the program's own, stdin with -i, and its exit code is that of `rb` (128+N for signal N). \
What the program writes to the image's files is gone when it ends; what it writes to a folder of yours stays. Signals \
that rb gets are the program's; SIGINT or SIGTERM twice within ten seconds kills it. Where rb \
is not run by root, root in the program is you: its files in your folders are yours.

Examples:
  rb run ./examples/hello+image         build and run
  rb run +image --MODE=debug -- --help  a build argument, and the program's own
  rb run -it -v ./src:/src +image sh    a shell, with a folder of yours
  rb run -p 8080:80 app:latest          its port 80 as port 8080 at 127.0.0.1"
)]
pub(crate) struct RunArgs {
    /// Give the program stdin, which else is empty
    #[arg(long, short, help_heading = "Program")]
    pub(crate) interactive: bool,
    /// Give the program a terminal
    ///
    /// With -i all keys are the program's.
    #[arg(long, short, help_heading = "Program")]
    pub(crate) tty: bool,
    /// Set an environment variable
    ///
    /// `NAME` alone passes this shell's value on.
    #[arg(long, short, value_name = "NAME[=VALUE]", help_heading = "Program")]
    pub(crate) env: Vec<String>,
    /// File of environment variables
    ///
    /// A `NAME[=VALUE]` per line; -e counts before.
    #[arg(long, value_name = "FILE", help_heading = "Program")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Run as this user [default: the image's]
    #[arg(long, short, value_name = "USER[:GROUP]", help_heading = "Program")]
    pub(crate) user: Option<String>,
    /// Run in this folder [default: the image's]
    ///
    /// It is made if it is not there.
    #[arg(long, short, value_name = "DIR", help_heading = "Program")]
    pub(crate) workdir: Option<String>,
    /// Run this instead of the image's entrypoint
    ///
    /// It comes before the command; empty for nothing.
    #[arg(long, value_name = "PROGRAM", help_heading = "Program")]
    pub(crate) entrypoint: Option<String>,
    /// Show a folder or file of this machine
    ///
    /// It has to be there; its path is absolute, or begins with `./` or `../`.
    #[arg(long, short, value_name = "SRC:DST[:ro]", help_heading = "Files")]
    pub(crate) volume: Vec<Volume>,
    /// As --volume, or --tmpfs
    ///
    /// type=bind,src=SRC,dst=DST (and readonly) or type=tmpfs,dst=DST (and tmpfs-size=SIZE, tmpfs-mode=MODE).
    #[arg(long, value_name = "type=TYPE,…", help_heading = "Files")]
    pub(crate) mount: Vec<RunMount>,
    /// Show an empty folder in memory
    ///
    /// Options are size=64m and mode=1777.
    #[arg(long, value_name = "DST[:OPTIONS]", help_heading = "Files")]
    pub(crate) tmpfs: Vec<Tmpfs>,
    /// Let the program write to nothing of the image
    #[arg(long, help_heading = "Files")]
    pub(crate) read_only: bool,
    /// Network of the program
    #[arg(
        long,
        alias = "net",
        value_name = "host|sandbox|none",
        value_enum,
        hide_possible_values = true,
        default_value = "host",
        help_heading = "Network"
    )]
    pub(crate) network: NetworkChoice,
    /// Let a port of this machine lead to the program
    ///
    /// The first is this machine's, at 127.0.0.1 unless given; also with --network=none.
    #[arg(long, short, value_name = "[IP:]PORT:PORT", help_heading = "Network")]
    pub(crate) publish: Vec<Publish>,
    /// Host name [default: --name, or localhost]
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub(crate) hostname: Option<String>,
    /// Let the program know a host by this name
    #[arg(long, value_name = "NAME:IP", help_heading = "Network")]
    pub(crate) add_host: Vec<AddHost>,
    /// Name of the run
    #[arg(long, value_name = "NAME", help_heading = "Program")]
    pub(crate) name: Option<String>,
    /// Pass signals on to the program [default: true]
    ///
    /// Without, they end it at once, as they do with -t.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        hide_default_value = true,
        help_heading = "Program"
    )]
    pub(crate) sig_proxy: bool,
    /// Kill the program so long after a signal to end
    ///
    /// After SIGINT, SIGTERM or SIGHUP; unless given, it may take its time.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Program")]
    pub(crate) stop_timeout: Option<Duration>,
    /// Give the program an init as its parent
    ///
    /// It ends what processes leave behind that are gone, and passes signals on.
    #[arg(long, help_heading = "Program")]
    pub(crate) init: bool,
    /// Keep nothing of the run; so it is anyway
    #[arg(long, help_heading = "Program")]
    pub(crate) rm: bool,
    /// What to run, and its command
    #[arg(value_name = "IMAGE|TARGET", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) build: BuildOptions,
}

/// Reads a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u32>().map(|seconds| Duration::from_secs(seconds.into()));
    seconds.map_err(|_| "expected a number of seconds, such as 10".to_owned())
}

/// Networks of `rb run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkChoice {
    /// That of this machine
    Host,
    /// One that leads outside and not to this machine
    Sandbox,
    /// Only a loopback of its own
    None,
}

/// `-v SRC:DST[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Absolute, or relative to the working directory.
    pub(crate) source: PathBuf,
    /// Absolute path inside.
    pub(crate) target: String,
    /// Cannot be written to.
    pub(crate) readonly: bool,
}

/// Options of a volume that change nothing here: this is what there is, or there is nothing to relabel or to copy.
const IDLE_OPTIONS: [&str; 10] =
    ["rw", "z", "Z", "cached", "delegated", "consistent", "nocopy", "rprivate", "private", "exec"];

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match *parts.as_slice() {
            [source, target] => (source, target, ""),
            [source, target, options] => (source, target, options),
            [target] if target.starts_with('/') => {
                return Err(format!(
                    "it names one place; write SRC:{target}, or `--tmpfs {target}` for an empty folder"
                ));
            }
            _ => return Err("expected SRC:DST or SRC:DST:ro".to_owned()),
        };
        let mut readonly = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" | "readonly" => readonly = true,
                idle if IDLE_OPTIONS.contains(&idle) => {}
                other => return Err(format!("there is no option `{other}`; `ro` is one")),
            }
        }
        Ok(Self { source: folder(source)?, target: inside(target)?, readonly })
    }
}

/// Reads a path of this machine.
fn folder(text: &str) -> Result<PathBuf, String> {
    let is_path = text.starts_with('/') || matches!(text.split('/').next(), Some("." | ".."));
    match text {
        "" => Err("the folder of this machine has no name".to_owned()),
        "~" => Err("write the path of your home: `$HOME`".to_owned()),
        _ if is_path => Ok(PathBuf::from(text)),
        _ => Err(match text.strip_prefix("~/") {
            Some(rest) => format!("write the path of your home: `$HOME/{rest}`"),
            None => {
                format!("`{text}` is the name of a volume, and rb keeps none; write `./{text}` for a folder")
            }
        }),
    }
}

/// Reads a path inside.
fn inside(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("`{text}` is not an absolute path, as a place in the program's files has to be"));
    }
    if text.split('/').all(|name| matches!(name, "" | "." | "..")) {
        return Err("that is the root of the program's files".to_owned());
    }
    if text.contains('\0') {
        return Err("it has a NUL byte".to_owned());
    }
    Ok(text.to_owned())
}

/// `--tmpfs DST[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tmpfs {
    /// Absolute path inside.
    pub(crate) target: String,
    /// Its size at most.
    pub(crate) size_bytes: Option<u64>,
    /// Mode of the folder.
    pub(crate) mode: u32,
}

/// Mode of a folder in memory of which nobody says.
const TMPFS_MODE: u32 = 0o1777;

/// Options of a tmpfs that change nothing here.
const IDLE_TMPFS_OPTIONS: [&str; 6] = ["rw", "nosuid", "nodev", "noexec", "exec", "noatime"];

impl FromStr for Tmpfs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let mut tmpfs = Self { target: inside(target)?, size_bytes: None, mode: TMPFS_MODE };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", size)) => tmpfs.size_bytes = Some(size_of(size)?),
                Some(("mode", mode)) => tmpfs.mode = mode_of(mode)?,
                None if IDLE_TMPFS_OPTIONS.contains(&option) => {}
                _ => {
                    return Err(format!(
                        "there is no option `{option}`; `size=64m` and `mode=1777` are some"
                    ));
                }
            }
        }
        Ok(tmpfs)
    }
}

fn size_of(text: &str) -> Result<u64, String> {
    sizes::memory(text).map_err(|error| error.to_string())
}

fn mode_of(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o7777);
    mode.ok_or_else(|| format!("`{text}` is no mode, such as `1777`"))
}

/// `--mount type=TYPE,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunMount {
    /// `type=bind`.
    Bind(Volume),
    /// `type=tmpfs`.
    Tmpfs(Tmpfs),
}

impl FromStr for RunMount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const KEYS: [&str; 9] =
            ["type", "source", "src", "target", "dst", "destination", "readonly", "tmpfs-size", "tmpfs-mode"];
        let (mut kind, mut source, mut target) = (None, None, None);
        let (mut readonly, mut size_bytes, mut mode) = (false, None, None);
        for field in text.split(',') {
            let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
            let named = || value.ok_or_else(|| format!("`{key}` has no value"));
            match key {
                "type" => kind = Some(named()?),
                "source" | "src" => source = Some(named()?),
                "target" | "dst" | "destination" => target = Some(named()?),
                "readonly" | "ro" => {
                    readonly = match value {
                        None | Some("true" | "1") => true,
                        Some("false" | "0") => false,
                        Some(other) => return Err(format!("`{key}={other}` is neither true nor false")),
                    }
                }
                "tmpfs-size" => size_bytes = Some(size_of(named()?)?),
                "tmpfs-mode" => mode = Some(mode_of(named()?)?),
                other => {
                    let near = nearest(other, KEYS).map(|near| format!("; did you mean `{near}`?"));
                    return Err(format!("there is no key `{other}`{}", near.unwrap_or_default()));
                }
            }
        }
        let target = inside(target.ok_or("no dst= says where it is to be")?)?;
        match kind {
            Some("bind") if size_bytes.is_some() || mode.is_some() => {
                Err("tmpfs-size and tmpfs-mode belong to type=tmpfs".to_owned())
            }
            Some("bind") => {
                let source = folder(source.ok_or("no src= says what is to be shown")?)?;
                Ok(Self::Bind(Volume { source, target, readonly }))
            }
            Some("tmpfs") if source.is_some() || readonly => {
                Err("a folder in memory has no src= and is not readonly".to_owned())
            }
            Some("tmpfs") => Ok(Self::Tmpfs(Tmpfs { target, size_bytes, mode: mode.unwrap_or(TMPFS_MODE) })),
            Some("volume") | None => {
                Err("rb keeps no volumes: type=bind shows a folder of yours, type=tmpfs an empty one"
                    .to_owned())
            }
            Some(other) => Err(format!("there is no type `{other}`: type=bind or type=tmpfs")),
        }
    }
}

/// `-p [IP:]HOST:PROGRAM[/tcp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish {
    /// Where this machine listens.
    pub(crate) listen: SocketAddr,
    /// Port of the program.
    pub(crate) port: u16,
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = match text.rsplit_once('/') {
            None => text,
            Some((before, "tcp")) => before,
            Some((_, "udp" | "sctp")) => return Err("only TCP can be published".to_owned()),
            Some((_, other)) => return Err(format!("`{other}` is no protocol: `tcp` is one")),
        };
        let example = "expected [IP:]HOST:PROGRAM, such as 8080:80";
        let (rest, port) = text.rsplit_once(':').ok_or_else(|| match port_of(text) {
            Ok(port) => format!("it names one port; write {port}:{port}"),
            Err(_) => example.to_owned(),
        })?;
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (address_of(address)?, host),
            None => (IpAddr::V4(Ipv4Addr::LOCALHOST), rest),
        };
        Ok(Self { listen: SocketAddr::new(address, port_of(host)?), port: port_of(port)? })
    }
}

fn port_of(text: &str) -> Result<u16, String> {
    if text.contains('-') {
        return Err(format!("`{text}` is a range; name each port with a -p of its own"));
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or_else(|| format!("`{text}` is no port: a number from 1 to 65535"))
}

fn address_of(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(six) => six.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    };
    address.ok_or_else(|| format!("`{text}` is no address of this machine, such as 127.0.0.1 or [::1]"))
}

/// `--add-host NAME:IP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddHost {
    /// The name.
    pub(crate) name: String,
    /// Its address.
    pub(crate) address: IpAddr,
}

impl FromStr for AddHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, address) = split.ok_or("expected NAME:IP")?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || !name.bytes().all(good) {
            return Err(format!("`{name}` is no name of a host"));
        }
        let address = match address {
            // The program has this machine's network.
            "host-gateway" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            text => {
                let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
                bare.parse().map_err(|_| format!("`{text}` is no IP address"))?
            }
        };
        Ok(Self { name: name.to_owned(), address })
    }
}

#[cfg(test)]
mod tests;
