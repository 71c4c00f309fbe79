//! `rb run` as it was typed: the options of `docker run` that mean something here, with docker's names.
//!
//! Each value is read into its own type. What docker would keep for later (a named volume, a range of ports, UDP) is
//! refused with what to write instead.
//! Source: docker's reference of `docker container run`.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args as ClapArgs, ValueEnum};
use rb_diag::nearest;

use super::BuildOptions;

/// `rb run`
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "rb run [OPTIONS] [DIR]+TARGET [--NAME=VALUE]... [--] [COMMAND]...\n       rb run [OPTIONS] IMAGE [COMMAND]...",
    after_help = "\
A word with a `+` is a target: it is built, and the last image it saves is run; where it saves none, its filesystem \
is. stdout and stderr are the program's own, stdin with -i, and its exit code is that of `rb` (128+N for signal N). \
What the program writes to the image's files is gone when it ends; what it writes to a folder of yours stays. Where rb \
is not run by root, root in the program is you: its files in your folders are yours.

Examples:
  rb run ./examples/hello+image         build and run
  rb run +image --MODE=debug -- --help  a build argument, and an argument of the program
  rb run -it -v ./src:/src +image sh    a shell, with a folder of yours
  rb run -p 8080:80 app:latest          its port 80 as port 8080 of this machine's loopback"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) build: BuildOptions,
    /// Give the program stdin; without, it is empty
    #[arg(long, short, help_heading = "Program")]
    pub(crate) interactive: bool,
    /// Give the program a terminal of its own; with -i all keys are the program's
    #[arg(long, short, help_heading = "Program")]
    pub(crate) tty: bool,
    /// Set an environment variable; `NAME` alone passes this shell's value on
    #[arg(long, short, value_name = "NAME[=VALUE]", help_heading = "Program")]
    pub(crate) env: Vec<String>,
    /// File of environment variables, a `NAME[=VALUE]` per line; -e counts before
    #[arg(long, value_name = "FILE", help_heading = "Program")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Run as this user [default: the image's]
    #[arg(long, short, value_name = "USER[:GROUP]", help_heading = "Program")]
    pub(crate) user: Option<String>,
    /// Run in this folder, made if it is not there [default: the image's]
    #[arg(long, short, value_name = "DIR", help_heading = "Program")]
    pub(crate) workdir: Option<String>,
    /// Run this before the command, instead of what the image says; empty for nothing
    #[arg(long, value_name = "PROGRAM", help_heading = "Program")]
    pub(crate) entrypoint: Option<String>,
    /// Show a folder or file of this machine: absolute, or with `./` or `../`; it has to be there
    #[arg(long, short, value_name = "SRC:DST[:ro]", help_heading = "Files")]
    pub(crate) volume: Vec<Volume>,
    /// As --volume, or --tmpfs.
    #[arg(
        help = "As --volume, or --tmpfs: type=bind,src=SRC,dst=DST[,readonly] or type=tmpfs,dst=DST[,tmpfs-size=SIZE,tmpfs-mode=MODE]",
        long,
        value_name = "type=TYPE,…",
        help_heading = "Files"
    )]
    pub(crate) mount: Vec<RunMount>,
    /// Show an empty folder in memory
    #[arg(long, value_name = "DST[:size=SIZE,mode=MODE]", help_heading = "Files")]
    pub(crate) tmpfs: Vec<Tmpfs>,
    /// Let the program write to nothing of the image
    #[arg(long, help_heading = "Files")]
    pub(crate) read_only: bool,
    /// Network of the program: the host's, or none
    #[arg(
        long,
        alias = "net",
        value_name = "NETWORK",
        value_enum,
        default_value = "host",
        help_heading = "Network"
    )]
    pub(crate) network: NetworkChoice,
    /// Let a port of this machine lead to one of the program, also with --network=none; IP is 127.0.0.1 unless given
    #[arg(long, short, value_name = "[IP:]HOST:PROGRAM", help_heading = "Network")]
    pub(crate) publish: Vec<Publish>,
    /// Host name of the program [default: --name, or localhost]
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub(crate) hostname: Option<String>,
    /// Let the program know a host by this name
    #[arg(long, value_name = "NAME:IP", help_heading = "Network")]
    pub(crate) add_host: Vec<AddHost>,
    /// Name of the run
    #[arg(long, value_name = "NAME", help_heading = "Program")]
    pub(crate) name: Option<String>,
    /// Keep nothing when the program has ended; so it is anyway
    #[arg(long, help_heading = "Program")]
    pub(crate) rm: bool,
    /// What to run, and its command
    #[arg(value_name = "IMAGE|TARGET", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
}

/// Networks of `rb run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkChoice {
    /// That of this machine
    Host,
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
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|next: char| next.is_ascii_alphabetic());
    let shift = match lower.get(digits.len()..).unwrap_or_default() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => u32::MAX,
    };
    let size = digits.parse::<u64>().ok().filter(|size| *size > 0);
    let size = size.zip(1_u64.checked_shl(shift)).and_then(|(size, unit)| size.checked_mul(unit));
    size.ok_or_else(|| format!("`{text}` is no size, such as `64m`"))
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
mod tests {
    use super::*;

    fn refused<T: FromStr<Err = String> + std::fmt::Debug>(text: &str, help: &str) {
        let error = text.parse::<T>().expect_err(text);
        assert!(error.contains(help), "{text}: {error}");
    }

    #[test]
    fn volumes_are_folders_of_this_machine() {
        let volume = |source: &str, target: &str, readonly| {
            Ok(Volume { source: source.into(), target: target.to_owned(), readonly })
        };
        assert_eq!("/a:/b".parse(), volume("/a", "/b", false));
        assert_eq!("./a b:/b/../c:ro,z".parse(), volume("./a b", "/b/../c", true));
        assert_eq!(".:/w:rw".parse(), volume(".", "/w", false));
        assert_eq!("..:/w:".parse(), volume("..", "/w", false));
        refused::<Volume>("data:/b", "write `./data` for a folder");
        refused::<Volume>(".data:/b", "write `./.data` for a folder");
        refused::<Volume>("~/x:/b", "`$HOME/x`");
        refused::<Volume>("/data", "--tmpfs /data");
        refused::<Volume>("/a:b", "not an absolute path");
        refused::<Volume>("/a:/", "the root");
        refused::<Volume>("/a:/..//.", "the root");
        refused::<Volume>("/a:/b:rO", "no option `rO`");
        refused::<Volume>("/a:/b:ro:x", "expected SRC:DST");
        refused::<Volume>(":/b", "no name");
    }

    #[test]
    fn ports_listen_on_the_loopback_unless_told() {
        let publish = |listen: &str, port| Ok(Publish { listen: listen.parse().expect("an address"), port });
        assert_eq!("8080:80".parse(), publish("127.0.0.1:8080", 80));
        assert_eq!("0.0.0.0:8080:80/tcp".parse(), publish("0.0.0.0:8080", 80));
        assert_eq!("[::1]:8080:80".parse(), publish("[::1]:8080", 80));
        refused::<Publish>("80", "write 80:80");
        refused::<Publish>("8000-8010:8000-8010", "is a range");
        refused::<Publish>("53:53/udp", "only TCP");
        refused::<Publish>("0:80", "no port");
        refused::<Publish>("+1:80", "no port");
        refused::<Publish>("65536:80", "no port");
        refused::<Publish>("localhost:80:80", "no address");
        refused::<Publish>("::1:80:80", "no address");
        refused::<Publish>("", "expected");
    }

    #[test]
    fn mounts_are_binds_or_in_memory() {
        let bind = Volume { source: "./a".into(), target: "/b".to_owned(), readonly: true };
        assert_eq!("type=bind,src=./a,dst=/b,readonly".parse(), Ok(RunMount::Bind(bind)));
        let tmpfs = Tmpfs { target: "/t".to_owned(), size_bytes: Some(64 << 20), mode: 0o700 };
        assert_eq!(
            "type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=700".parse(),
            Ok(RunMount::Tmpfs(tmpfs.clone()))
        );
        assert_eq!("/t:size=65536k,mode=0700,noexec".parse(), Ok(tmpfs));
        assert_eq!("/t".parse::<Tmpfs>().map(|tmpfs| (tmpfs.size_bytes, tmpfs.mode)), Ok((None, 0o1777)));
        refused::<RunMount>("src=./a,dst=/b", "rb keeps no volumes");
        refused::<RunMount>("type=bind,src=./a", "no dst=");
        refused::<RunMount>("type=bind,sorce=./a,dst=/b", "did you mean `source`?");
        refused::<RunMount>("type=tmpfs,src=./a,dst=/b", "has no src=");
        refused::<Tmpfs>("/t:size=99999999999g", "no size");
        refused::<Tmpfs>("/t:mode=8", "no mode");
        refused::<Tmpfs>("t", "absolute");
    }

    #[test]
    fn hosts_have_names_and_addresses() {
        let host = |name: &str, address: &str| {
            Ok(AddHost { name: name.to_owned(), address: address.parse().expect("an address") })
        };
        assert_eq!("db:10.0.0.7".parse(), host("db", "10.0.0.7"));
        assert_eq!("db:2001:db8::1".parse(), host("db", "2001:db8::1"));
        assert_eq!("db=[::1]".parse(), host("db", "::1"));
        assert_eq!("me:host-gateway".parse(), host("me", "127.0.0.1"));
        refused::<AddHost>("db", "NAME:IP");
        refused::<AddHost>("a\nb:10.0.0.7", "no name");
        refused::<AddHost>("db:there", "no IP");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_answer(text in "[a-z0-9./:,=~\\[\\]-]{0,24}|.{0,16}") {
            if let Ok(volume) = text.parse::<Volume>() {
                assert!(volume.target.starts_with('/') && !volume.source.as_os_str().is_empty());
            }
            if let Ok(publish) = text.parse::<Publish>() {
                assert!(publish.port != 0 && publish.listen.port() != 0);
            }
            text.parse::<RunMount>().ok();
            text.parse::<Tmpfs>().ok();
            text.parse::<AddHost>().ok();
        }
    }
}
