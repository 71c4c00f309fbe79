//! Platforms as texts of a Dockerfile, and the arguments that stand for them.
//!
//! `linux` and `arm64` alone are platforms, too: what is missing is taken from the machine that steps run on.
//! Source: containerd's `platforms.Parse`; BuildKit's predefined arguments.

use rb_diag::{Diagnostic, Span, nearest};
use rb_oci::{Platform, PlatformError};

use crate::codes;
use crate::environment::Environment;

/// Operating systems that Go knows.
const SYSTEMS: [&str; 15] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "windows",
];

/// Operating systems that images are made for besides those: WebAssembly's, and what says that there is none.
const MORE_SYSTEMS: [&str; 6] = ["solaris", "unknown", "wasi", "wasip1", "wasip2", "zos"];

/// Architectures that Go knows, and those that images are made for besides.
const ARCHITECTURES: [&str; 28] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv32",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "unknown",
    "wasm",
    "wasm32",
    "wasm64",
];

/// What of a platform nobody knows, and what was likely meant.
pub(crate) struct Unknown {
    what: &'static str,
    name: String,
    near: Option<String>,
}

impl Unknown {
    /// Looks whether an image can be made for a platform at all.
    pub(crate) fn of(platform: &Platform) -> Option<Self> {
        let Platform { os, architecture, variant } = platform;
        let variant = variant.iter().map(|variant| format!("/{variant}")).collect::<String>();
        let systems = SYSTEMS.into_iter().chain(MORE_SYSTEMS);
        if !systems.clone().any(|known| known == os) {
            let near = nearest(os, systems).map(|near| format!("{near}/{architecture}{variant}"));
            return Some(Self { what: "operating system", name: os.clone(), near });
        }
        if ARCHITECTURES.contains(&architecture.as_str()) {
            return None;
        }
        let near = nearest(architecture, ARCHITECTURES).map(|near| format!("{os}/{near}{variant}"));
        Some(Self { what: "architecture", name: architecture.clone(), near })
    }

    /// Tells it of a platform that was asked for; `at` is where, if that is in the file.
    pub(crate) fn diagnostic(&self, platform: &Platform, at: Option<Span>) -> Diagnostic {
        let message = format!("there are no images for {platform}: `{}` is no {}", self.name, self.what);
        let found = Diagnostic::error(codes::BAD_PLATFORM, message);
        let found = at.into_iter().fold(found, |found, at| found.with_label(at, ""));
        match &self.near {
            Some(near) => found.with_nearest(Some(near)),
            None => {
                found.with_help("platforms are such as linux/amd64, linux/arm64, linux/arm/v7, linux/riscv64")
            }
        }
    }
}

/// Reads a platform; one word alone is a system or an architecture, and the rest is the host's.
///
/// A system may have a version and features in parentheses, such as `windows(10.0.17763)/amd64`: they are read over.
pub fn parse(text: &str, host: &Platform) -> Result<Platform, PlatformError> {
    let plain = without_version(text);
    match plain.as_str() {
        single if single.contains('/') || single.is_empty() => single.parse(),
        system if SYSTEMS.contains(&system.to_lowercase().as_str()) => {
            let variant = host.variant.iter().map(|variant| format!("/{variant}")).collect::<String>();
            format!("{system}/{}{variant}", host.architecture).parse()
        }
        architecture => format!("{}/{architecture}", host.os).parse(),
    }
}

/// Leaves out what stands in parentheses behind a system, if it can be a version and features: `(10.0.17763+feature)`.
fn without_version(text: &str) -> String {
    let split = || {
        let (system, rest) = text.split_once('(')?;
        let (version, rest) = rest.split_once(')')?;
        let is_word =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        let mut parts = version.split('+');
        let is_version =
            parts.next().is_some_and(is_word) && parts.all(|feature| !feature.is_empty() && is_word(feature));
        let is_whole = !system.contains('/') && (rest.is_empty() || rest.starts_with('/'));
        (is_version && is_whole).then(|| format!("{system}{rest}"))
    };
    split().unwrap_or_else(|| text.to_owned())
}

/// Sets the arguments that every build has, unless the user gives them another value.
pub(crate) fn predefined(
    build: &Platform,
    target: &Platform,
    stage: &str,
    given: impl Fn(&str) -> Option<String>,
) -> Environment {
    let mut variables = Environment::default();
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    for (name, value) in [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", variant(build)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("TARGETSTAGE", if stage.is_empty() { "default".to_owned() } else { stage.to_owned() }),
    ] {
        variables.set(name, given(name).unwrap_or(value));
    }
    variables
}

/// Says what a step's platform is called before its name: `linux/amd64`, or `linux/amd64->arm64` where the stage builds
/// for another one, as its variables say.
pub(crate) fn shown(base: &Platform, variables: &Environment) -> String {
    match target_of(variables, base) {
        Some(target) if target.os != base.os => format!("{base}->{target}"),
        Some(target) if target.architecture != base.architecture => {
            let variant = target.variant.iter().map(|variant| format!("/{variant}")).collect::<String>();
            format!("{base}->{}{variant}", target.architecture)
        }
        Some(_) | None => base.to_string(),
    }
}

/// Returns the platform that `TARGET…` variables name: the whole of it, or parts of it over `base`.
fn target_of(variables: &Environment, base: &Platform) -> Option<Platform> {
    let whole = variables.value("TARGETPLATFORM").and_then(|text| parse(text, base).ok());
    whole.or_else(|| {
        let part = |name| variables.value(name);
        let (system, architecture) = (part("TARGETOS"), part("TARGETARCH"));
        if system.is_none() && architecture.is_none() && part("TARGETVARIANT").is_none() {
            return None;
        }
        let filled =
            |part: Option<&str>, base: &str| part.filter(|part| !part.is_empty()).unwrap_or(base).to_owned();
        let (os, architecture) = (filled(system, &base.os), filled(architecture, &base.architecture));
        let variant = part("TARGETVARIANT").filter(|variant| !variant.is_empty());
        let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{os}/{architecture}{variant}").parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().expect(text)
    }

    #[test]
    fn one_word_is_completed_by_the_host() {
        let host = platform("linux/arm/v6");
        for (text, expected) in
            [("arm64", "linux/arm64"), ("linux", "linux/arm/v6"), ("Windows/amd64", "windows/amd64")]
        {
            assert_eq!(parse(text, &host).expect(text).to_string(), expected);
        }
        assert!(parse("", &host).is_err() && parse("a b", &host).is_err());
    }

    #[test]
    fn what_no_image_is_made_for_has_a_near_name() {
        for (text, near) in [
            ("linux/amd46", Some("linux/amd64")),
            ("linxu/arm64", Some("linux/arm64")),
            ("linux/amr/v6", Some("linux/arm/v6")),
            ("beos/amd64", None),
        ] {
            let unknown = Unknown::of(&platform(text)).expect(text);
            assert_eq!(unknown.near.as_deref(), near, "{text}");
        }
        for text in ["linux/x86_64", "linux/riscv64", "wasi/wasm", "windows/amd64", "unknown/unknown"] {
            assert!(Unknown::of(&platform(text)).is_none(), "{text}");
        }
    }

    #[test]
    fn a_system_may_have_a_version() {
        let host = platform("linux/arm64");
        let read = |text: &str| parse(text, &host).map(|platform| platform.to_string());
        for (text, expected) in [
            ("windows(10.0.17763)/amd64", "windows/amd64"),
            ("windows(10.0.17763+win32k+a-b)/arm/v7", "windows/arm/v7"),
            ("windows(10.0.17763)", "windows/arm64"),
            ("linux()/amd64", "linux/amd64"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "windows(10/amd64",
            "windows10)/amd64",
            "windows(a b)/amd64",
            "windows(1+)/amd64",
            "linux/amd64(1)",
            "windows(1)x/amd64",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_given_wins_over_what_is_predefined() {
        let (build, target) = (platform("linux/amd64"), platform("linux/arm/v7"));
        let variables = predefined(&build, &target, "", |name| (name == "BUILDOS").then(|| "x".to_owned()));
        let value = |name: &str| variables.value(name).unwrap_or("unset").to_owned();
        assert_eq!(value("TARGETPLATFORM"), "linux/arm/v7");
        assert_eq!(value("TARGETVARIANT"), "v7");
        assert_eq!(value("BUILDOS"), "x");
        assert_eq!(value("TARGETSTAGE"), "default");
    }

    #[test]
    fn cross_builds_are_shown() {
        let base = platform("linux/amd64");
        let with = |pairs: &[(&str, &str)]| {
            let mut variables = Environment::default();
            pairs.iter().for_each(|(name, value)| variables.set(name, *value));
            shown(&base, &variables)
        };
        assert_eq!(with(&[]), "linux/amd64");
        assert_eq!(with(&[("TARGETARCH", "arm64")]), "linux/amd64->arm64");
        assert_eq!(with(&[("TARGETPLATFORM", "linux/arm/v7")]), "linux/amd64->arm/v7");
        assert_eq!(with(&[("TARGETOS", "windows")]), "linux/amd64->windows/amd64");
        assert_eq!(with(&[("TARGETOS", "linux")]), "linux/amd64");
    }
}
