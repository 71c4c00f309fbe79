//! Values of the options of `rb build`, each read into its own type.
//!
//! Source: docker buildx build reference; buildah-build(1).

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use rb_oci::Platform;

use crate::args::{IsolationChoice, PullChoice};
use crate::output_spec::split_csv;
use crate::world::normalise;

/// `--label KEY=VALUE`, `--resource KEY=VALUE`; without `=` the value is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            return Err(format!("`{text}` has no key: expected KEY=VALUE"));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// `--platform`: one or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Platforms(pub(crate) Vec<Platform>);

impl FromStr for Platforms {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |word: &str| match word.trim() {
            "local" => Ok(Platform::host()),
            word => rb_dockerfile::parse_platform(word, &Platform::host()).map_err(|error| error.to_string()),
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Self)
    }
}

/// `--pull`, as docker has it and as buildah has it. None is docker's `false`: tags are looked up where the store has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DockerPull(pub(crate) Option<PullChoice>);

impl FromStr for DockerPull {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "true" | "always" | "newer" => Ok(Self(Some(PullChoice::Always))),
            "false" => Ok(Self(None)),
            "missing" | "ifmissing" => Ok(Self(Some(PullChoice::Missing))),
            "never" => Ok(Self(Some(PullChoice::Never))),
            _ => Err("expected true, false, always, missing or never".to_owned()),
        }
    }
}

/// Reads what steps run in, in our words, docker's and buildah's.
pub(super) fn isolation(text: &str) -> Result<IsolationChoice, String> {
    match text {
        "sandbox" | "default" | "oci" | "rootless" => Ok(IsolationChoice::Sandbox),
        "chroot" => Ok(IsolationChoice::Chroot),
        _ => Err(
            "expected sandbox or chroot (docker's `default`, buildah's `oci` and `rootless` are the sandbox)"
                .to_owned(),
        ),
    }
}

/// `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DockerNetwork {
    /// What each RUN asks for, else one that leads outside and not to this machine
    #[value(alias = "bridge")]
    Default,
    /// This machine's
    Host,
    /// None
    None,
}

/// `--format` of buildah.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutFormat {
    /// OCI's
    Oci,
    /// Docker's
    Docker,
}

/// `--allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// `network.host`
    NetworkHost,
    /// `security.insecure`
    SecurityInsecure,
    /// `device`, `device=NAME`
    Device(String),
    /// `fs.read=PATH`: a volume may be this folder or file, or what is in it.
    Read(PathBuf),
    /// `buildx.local.delete`: an output's `mode=delete` says it already.
    LocalDelete,
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "network.host" => Ok(Self::NetworkHost),
            "security.insecure" => Ok(Self::SecurityInsecure),
            "device" => Ok(Self::Device("*".to_owned())),
            "buildx.local.delete" => Ok(Self::LocalDelete),
            _ => {
                match text.strip_prefix("device=") {
                    Some(name) if !name.is_empty() => Ok(Self::Device(name.to_owned())),
                    _ => match text.strip_prefix("fs.read=").or_else(|| text.strip_prefix("fs=")) {
                        Some(path) if !path.is_empty() => Ok(Self::Read(path.into())),
                        _ => Err("expected network.host, security.insecure, device[=NAME] or fs.read=PATH"
                            .to_owned()),
                    },
                }
            }
        }
    }
}

/// `--volume HOST:CONTAINER[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepVolume {
    pub(crate) host: PathBuf,
    pub(crate) target: String,
    pub(crate) readonly: bool,
    /// What steps change in it was to be seen here.
    pub(crate) is_kept: bool,
}

impl StepVolume {
    /// Returns what is told of volumes that are written, once for all.
    pub(crate) fn forgotten(volumes: &[Self]) -> Option<String> {
        let kept = volumes.iter().filter(|volume| volume.is_kept);
        let kept: Vec<String> =
            kept.map(|Self { host, target, .. }| format!("{}:{target}", host.display())).collect();
        (!kept.is_empty()).then(|| {
            format!("--volume {}: what steps change there is forgotten, also with `rw`", kept.join(", "))
        })
    }
}

impl FromStr for StepVolume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (Some(host), Some(target)) = (parts.next(), parts.next()) else {
            return Err(format!("`{text}`: expected HOST:CONTAINER[:ro]"));
        };
        if host.is_empty() || !target.starts_with('/') {
            return Err(format!("`{text}`: expected HOST:CONTAINER[:ro], and CONTAINER from the root on"));
        }
        let target = normalise(Path::new(target));
        if let Some(place) = taken_place(&target) {
            return Err(format!(
                "`{text}`: nothing can be laid over `{place}`, which each step has of its own"
            ));
        }
        let (mut readonly, mut is_kept) = (false, false);
        for option in parts.flat_map(|options| options.split(',')).filter(|option| !option.is_empty()) {
            match option {
                "ro" => readonly = true,
                // What steps change is never seen here, nor labelled.
                "O" | "z" | "Z" => {}
                "rw" => is_kept = true,
                option => {
                    return Err(format!("`{option}` of `{text}` is unknown: expected ro, rw, O, z or Z"));
                }
            }
        }
        if readonly && is_kept {
            return Err(format!("`{text}` is ro and rw at once: say one of them"));
        }
        Ok(Self { host: host.into(), target: target.display().to_string(), readonly, is_kept })
    }
}

/// Returns the place of a step's own that a path would cover: its root, its devices, or something in `/proc` or `/sys`.
fn taken_place(target: &Path) -> Option<&'static str> {
    let parts: Vec<&str> = target.iter().skip(1).filter_map(OsStr::to_str).collect();
    match parts.as_slice() {
        [] => Some("/"),
        ["proc", ..] => Some("/proc"),
        ["sys", ..] => Some("/sys"),
        ["dev"] => Some("/dev"),
        _ => None,
    }
}

/// `--add-host`: `NAME:IP` or `NAME=IP`, IPv6 in brackets or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddHost {
    pub(crate) name: String,
    pub(crate) address: HostAddress,
}

/// What a name of `--add-host` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostAddress {
    /// An address.
    Is(IpAddr),
    /// `host-gateway`: the machine that builds, as its steps reach it.
    Gateway,
}

impl fmt::Display for HostAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(address) => address.fmt(formatter),
            // Who has the machine's own network reaches it as it reaches itself.
            Self::Gateway => Ipv4Addr::LOCALHOST.fmt(formatter),
        }
    }
}

impl FromStr for AddHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text
            .split_once('=')
            .or_else(|| text.split_once(':'))
            .ok_or_else(|| format!("`{text}`: expected NAME:IP"))?;
        if address == "host-gateway" {
            return match name {
                "" => Err(format!("`{text}`: expected NAME:IP")),
                name => Ok(Self { name: name.to_owned(), address: HostAddress::Gateway }),
            };
        }
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        match bare.parse() {
            Ok(address) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), address: HostAddress::Is(address) })
            }
            _ => Err(format!("`{text}`: expected NAME:IP")),
        }
    }
}

/// `--policy`, where it says that none counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoPolicy;

impl FromStr for NoPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields = split_csv(text);
        let said = |key: &str| {
            fields.iter().filter_map(|field| field.trim().split_once('=')).find(|field| field.0 == key)
        };
        match said("disabled").and_then(|(_, value)| rb_bake::truth(value)) {
            Some(true) => Ok(Self),
            Some(false) | None => {
                Err("this version of rb applies no policies: leave it out, or say disabled=true".to_owned())
            }
        }
    }
}

/// `--build-context NAME=CONTEXT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedContext {
    pub(crate) name: String,
    pub(crate) context: String,
}

impl FromStr for NamedContext {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, context)) if !name.is_empty() && !context.is_empty() => {
                // As images are named: `base` and `base:latest` are one.
                let name = name.strip_suffix(":latest").unwrap_or(name).to_owned();
                Ok(Self { name, context: context.to_owned() })
            }
            _ => Err(format!("`{text}`: expected NAME=CONTEXT")),
        }
    }
}

/// `--call`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) method: CallChoice,
    pub(crate) format: CallFormat,
    /// What is found does not decide how rb ends.
    pub(crate) ignore_status: bool,
}

/// What is to be done with a Dockerfile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum CallChoice {
    /// It is built.
    #[default]
    Build,
    /// What is unusual in it is told.
    Check,
    /// What a target takes is told.
    Outline,
    /// Which targets it has is told.
    Targets,
}

/// How that is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum CallFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// Findings, for programs that gather those of many tools.
    Sarif,
}

impl FromStr for Called {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields = split_csv(text);
        let (first, rest) =
            fields.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let method = match first.strip_prefix("subrequests,method=").unwrap_or(first) {
            "build" => CallChoice::Build,
            "check" | "lint" => CallChoice::Check,
            "outline" => CallChoice::Outline,
            "targets" => CallChoice::Targets,
            _ => return Err("expected build, check, outline or targets".to_owned()),
        };
        let mut called = Self { method, ..Self::default() };
        for field in rest {
            match field.as_str() {
                "format=text" | "format=default" => called.format = CallFormat::Text,
                "format=json" | "json" => called.format = CallFormat::Json,
                "format=sarif" if method == CallChoice::Check => called.format = CallFormat::Sarif,
                "ignorestatus" | "ignorestatus=true" | "ignorestatus=1" => called.ignore_status = true,
                "ignorestatus=false" | "ignorestatus=0" => called.ignore_status = false,
                _ => {
                    return Err(format!(
                        "`{field}`: expected format=text, format=json (of check format=sarif, too) or ignorestatus=true"
                    ));
                }
            }
        }
        Ok(called)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_in_both_ways() {
        let read = |text: &str| text.parse::<AddHost>().map(|host| format!("{}={}", host.name, host.address));
        for (text, expected) in [
            ("db:10.0.0.1", "db=10.0.0.1"),
            ("db=10.0.0.1", "db=10.0.0.1"),
            ("db:::1", "db=::1"),
            ("db=[2001:db8::1]", "db=2001:db8::1"),
            ("db:host-gateway", "db=127.0.0.1"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected));
        }
        for text in ["db", "db:", ":10.0.0.1", "db:x", ":host-gateway"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_policy_is_only_switched_off() {
        for text in ["disabled=true", "disabled=1", "disabled=true,strict=true"] {
            assert_eq!(text.parse(), Ok(NoPolicy), "{text}");
        }
        for text in
            ["", "disabled=false", "disabled", "p.rego", "filename=p.rego", "strict=true", "reset=true"]
        {
            assert!(
                text.parse::<NoPolicy>().is_err_and(|error| error.contains("applies no policies")),
                "{text}"
            );
        }
    }

    #[test]
    fn volumes_are_read_as_buildah_reads_them() {
        let read = |text: &str| {
            text.parse::<StepVolume>().map(|volume| (volume.host, volume.target, volume.readonly))
        };
        assert_eq!(read("/a:/b"), Ok(("/a".into(), "/b".to_owned(), false)));
        assert_eq!(read("/a:/x/../b/"), Ok(("/a".into(), "/b".to_owned(), false)));
        assert_eq!(read("./a:/b:ro,z"), Ok(("./a".into(), "/b".to_owned(), true)));
        for text in ["/a", "/a:b", ":/b", "/a:/", "/a:/b:shared"] {
            assert!(read(text).is_err(), "{text}");
        }
        for (text, said) in [
            ("/a:/", "nothing can be laid over `/`"),
            ("/a:/x/..", "nothing can be laid over `/`"),
            ("/a:/proc", "nothing can be laid over `/proc`"),
            ("/a:/proc/sys/", "nothing can be laid over `/proc`"),
            ("/a://sys", "nothing can be laid over `/sys`"),
            ("/a:/b/../dev", "nothing can be laid over `/dev`"),
            ("/a:/b:ro,rw", "ro and rw at once"),
            ("/a:/b:rw:ro", "ro and rw at once"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(read("/a:/dev/thing").is_ok() && read("/a:/process").is_ok());
    }

    #[test]
    fn methods_have_formats() {
        let read = |text: &str| text.parse::<Called>().map(|called| (called.method, called.format));
        assert_eq!(read("check"), Ok((CallChoice::Check, CallFormat::Text)));
        assert_eq!(read("lint,format=sarif"), Ok((CallChoice::Check, CallFormat::Sarif)));
        assert_eq!(read("outline,format=json"), Ok((CallChoice::Outline, CallFormat::Json)));
        for text in ["", "x", "targets,format=sarif", "check,format=yaml"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn platforms_are_read_in_a_list() {
        let read = |text: &str| text.parse::<Platforms>().map(|platforms| platforms.0);
        let (host, arm) = (Platform::host(), "linux/arm64".parse().expect("a platform"));
        assert_eq!(read("local, linux/arm64"), Ok(vec![host, arm]));
        assert!(read("linux/arm64,").is_err());
    }

    #[test]
    fn what_is_allowed_has_its_name() {
        assert_eq!("device=vendor/gpu".parse(), Ok(Allowed::Device("vendor/gpu".to_owned())));
        assert_eq!("network.host".parse(), Ok(Allowed::NetworkHost));
        assert_eq!("fs.read=/x".parse(), Ok(Allowed::Read("/x".into())));
        for text in ["network.none", "device=", "all", "fs.read=", "fs.write=/x"] {
            assert!(text.parse::<Allowed>().is_err(), "{text}");
        }
    }
}
