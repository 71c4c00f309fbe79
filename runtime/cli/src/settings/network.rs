//! How steps and programs reach the network: this machine's proxies, and authorities that only its user trusts.
//!
//! In: what is typed, the user's [`Config`], the [`Environment`], docker's configuration. Out: a [`StepNetwork`]. Of a
//! proxy the first of these that says something counts; docker gives its containers the proxies of its configuration
//! (`proxies.default`), and so does `rb` where nobody says better.
//! **Invariant:** nothing of a project has a word in this.
//! Source: docker's "Use a proxy server with the Docker CLI"; podman's `--http-proxy`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use rb_engine::StepNetwork;
use rb_llb::ProxyEnv;
use serde::Deserialize;

use super::SettingsError;
use super::config::Config;
use super::registry::RegistrySettings;
use super::steps::isolation;
use crate::args::{BuildOptions, IsolationChoice, StepNetworkChoice};
use crate::environment::Environment;
use crate::world::{ReadError, read_regular, scrub};

/// Largest file that is read.
const LIMIT_BYTES: u64 = 1 << 20;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Settles it; what is to be told about it is added to `warnings`.
pub(super) fn settle(
    options: &BuildOptions,
    config: &Config,
    environment: &Environment,
    registry: &RegistrySettings,
    warnings: &mut Vec<String>,
) -> Result<StepNetwork, SettingsError> {
    let mut authorities = String::new();
    for file in &registry.ca_files {
        authorities.push_str(&certificates(file)?);
    }
    let proxies = if options.http_proxy == Some(false) {
        ProxyEnv::default()
    } else {
        proxies(config, environment, &of_docker(registry.docker_config.as_deref(), warnings))
    };
    // Who asks for a chroot asks for this: there is no other network in it.
    let in_chroot = isolation(options, config, environment)?.0 == IsolationChoice::Chroot;
    let on_host = in_chroot || steps(options, config, environment)?.0 == StepNetworkChoice::Host;
    let of_steps = [&proxies.http_proxy, &proxies.https_proxy, &proxies.all_proxy];
    if let Some(proxy) = of_steps.into_iter().find(|proxy| is_here(proxy)).filter(|_| !on_host) {
        warnings.push(format!(
            "the proxy {} is on this machine, which steps do not reach: give them its network by `--step-network=host`",
            scrub(proxy)
        ));
    }
    Ok(StepNetwork { proxies, authorities: authorities.into_bytes(), on_host })
}

/// Whether a proxy is at this machine's loopback, which is another one in a step.
fn is_here(proxy: &str) -> bool {
    let rest = proxy.split_once("://").map_or(proxy, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let host = match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => place.split(':').next().unwrap_or(place),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns the network of steps that ask for none, and who says so: an option, a variable, or nobody but the file.
pub(super) fn steps(
    options: &BuildOptions,
    config: &Config,
    environment: &Environment,
) -> Result<(StepNetworkChoice, Option<&'static str>), SettingsError> {
    const VARIABLE: &str = "RB_STEP_NETWORK";
    let parse = |text: &str| StepNetworkChoice::from_str(text, false).ok();
    if let Some(typed) = options.step_network {
        return Ok((typed, Some("--step-network")));
    }
    match environment.parsed(VARIABLE, parse)? {
        Some(said) => Ok((said, Some(VARIABLE))),
        None => Ok((config.network.steps.unwrap_or(StepNetworkChoice::Sandbox), None)),
    }
}

/// Returns the files of authorities, those of the settings first.
pub(super) fn ca_files(options: &BuildOptions, config: &Config, environment: &Environment) -> Vec<PathBuf> {
    let typed = options.ca.iter().map(|file| environment.cwd.join(file));
    config.network.ca.iter().flatten().cloned().chain(typed).collect()
}

fn proxies(config: &Config, environment: &Environment, docker: &DockerProxies) -> ProxyEnv {
    // An empty text in the file means none, whatever others say.
    let first = |own: &Option<String>, name: Option<&'static str>, docker: &Option<String>| {
        let named = name.and_then(|name| environment.get(name));
        let said = || named.map(|(_, value)| value.to_string_lossy().into_owned());
        own.clone().or_else(said).or_else(|| docker.clone()).unwrap_or_default()
    };
    let network = &config.network;
    ProxyEnv {
        http_proxy: first(&network.http_proxy, Some("HTTP_PROXY"), &docker.http),
        https_proxy: first(&network.https_proxy, Some("HTTPS_PROXY"), &docker.https),
        ftp_proxy: first(&None, None, &docker.ftp),
        no_proxy: first(&network.no_proxy, Some("NO_PROXY"), &docker.none),
        all_proxy: first(&None, Some("ALL_PROXY"), &docker.all),
    }
}

/// Docker's configuration, as far as it is about proxies.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerConfig {
    proxies: DockerHosts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerHosts {
    default: DockerProxies,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerProxies {
    #[serde(rename = "httpProxy")]
    http: Option<String>,
    #[serde(rename = "httpsProxy")]
    https: Option<String>,
    #[serde(rename = "ftpProxy")]
    ftp: Option<String>,
    #[serde(rename = "noProxy")]
    none: Option<String>,
    #[serde(rename = "allProxy")]
    all: Option<String>,
}

fn of_docker(file: Option<&Path>, warnings: &mut Vec<String>) -> DockerProxies {
    let Some(file) = file else { return DockerProxies::default() };
    let read = match read_regular(file, LIMIT_BYTES) {
        // Who cannot read it has no docker that would.
        Err(ReadError::Io(_)) => return DockerProxies::default(),
        Err(error) => Err(error.to_string()),
        // The text may hold a password, so the reason does not say it.
        Ok(bytes) => serde_json::from_slice::<DockerConfig>(&bytes)
            .map_err(|error| format!("line {}, column {}", error.line(), error.column())),
    };
    match read {
        Ok(config) => config.proxies.default,
        Err(reason) => {
            warnings.push(format!("`{}` names no proxies, as it is not docker's: {reason}", file.display()));
            DockerProxies::default()
        }
    }
}

/// Reads the certificates of a file, and nothing else that it may hold.
fn certificates(file: &Path) -> Result<String, SettingsError> {
    let shown = || file.display().to_string();
    let bytes = read_regular(file, LIMIT_BYTES).map_err(|error| SettingsError::unreadable(shown(), error))?;
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("PRIVATE KEY-----") {
        return Err(SettingsError::Authority { file: shown(), trouble: "holds a private key" });
    }
    let mut found = String::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        inside |= line == BEGIN;
        if inside {
            found.push_str(line);
            found.push('\n');
        }
        inside &= line != END;
    }
    if found.is_empty() || inside {
        return Err(SettingsError::Authority { file: shown(), trouble: "holds no certificates in PEM" });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use crate::environment::tests::environment;

    use super::*;

    #[test]
    fn a_proxy_that_steps_do_not_reach_is_told() {
        for here in ["http://localhost:3128", "http://u:p@127.0.0.1:1/x", "[::1]:8", "127.9.9.9"] {
            assert!(is_here(here), "{here}");
        }
        for other in ["", "http://proxy:3128", "http://localhost@proxy", "http://192.0.2.1"] {
            assert!(!is_here(other), "{other}");
        }
        let environment = environment(&[("HTTP_PROXY", "http://u:hunter2@localhost:3128")]);
        let told = |options: &BuildOptions| {
            let mut warnings = Vec::new();
            settle(options, &Config::default(), &environment, &RegistrySettings::default(), &mut warnings)
                .expect("settles");
            warnings.join("\n")
        };
        let said = told(&BuildOptions::default());
        assert!(said.contains("localhost:3128") && said.contains("--step-network=host"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        let on_host = BuildOptions { step_network: Some(StepNetworkChoice::Host), ..BuildOptions::default() };
        assert_eq!(told(&on_host), "");
    }

    #[test]
    fn of_a_proxy_the_nearest_to_the_user_counts() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("config.json");
        let json = r#"{"auths": {}, "proxies": {"default": {"httpProxy": "http://d", "httpsProxy": "http://d",
            "noProxy": "d", "ftpProxy": "ftp://d"}, "https://other": {"httpProxy": "http://no"}}}"#;
        std::fs::write(&file, json).expect("writes");
        let environment = environment(&[("https_proxy", "http://u:hunter2@e"), ("ALL_PROXY", "socks5://e")]);
        let registry = RegistrySettings { docker_config: Some(file.clone()), ..RegistrySettings::default() };
        let mut config = Config::default();
        config.network.no_proxy = Some(String::new());
        let mut warnings = Vec::new();
        let mut settled = |options: &BuildOptions| {
            settle(options, &config, &environment, &registry, &mut warnings).expect("settles")
        };
        let network = settled(&BuildOptions::default());
        let expected = ProxyEnv {
            http_proxy: "http://d".to_owned(),
            https_proxy: "http://u:hunter2@e".to_owned(),
            ftp_proxy: "ftp://d".to_owned(),
            no_proxy: String::new(),
            all_proxy: "socks5://e".to_owned(),
        };
        assert!(network.proxies == expected && !format!("{network:?}").contains("hunter2"));
        let none = BuildOptions { http_proxy: Some(false), ..BuildOptions::default() };
        assert!(settled(&none).proxies == ProxyEnv::default());
        assert!(warnings.is_empty());
        std::fs::write(&file, r#"{"proxies": "hunter2"}"#).expect("writes");
        assert_eq!(of_docker(Some(&file), &mut warnings).http, None);
        assert!(warnings.len() == 1 && !warnings[0].contains("hunter2"), "{warnings:?}");
        assert_eq!(of_docker(Some(&dir.path().join("none")), &mut warnings).http, None);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn of_a_file_only_certificates_are_taken() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("ca.pem");
        let read = |text: &str| {
            std::fs::write(&file, text).expect("writes");
            certificates(&file).map_err(|error| error.to_string())
        };
        let one = format!("{BEGIN}\nAAAA\n{END}\n");
        assert_eq!(
            read(&format!("subject=me\r\n{}between\n{one}", one.replace('\n', "\r\n"))),
            Ok([one.clone(), one].concat())
        );
        let error = read("-----BEGIN RSA PRIVATE KEY-----\n").expect_err("a key");
        assert!(error.ends_with("holds a private key"), "{error}");
        for text in ["", "0\x01", BEGIN] {
            assert!(read(text).is_err_and(|error| error.contains("no certificates")), "{text}");
        }
        assert!(certificates(&dir.path().join("none")).is_err());
    }
}
