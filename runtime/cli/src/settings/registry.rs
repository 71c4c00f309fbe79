//! How registries are reached, and where their credentials are kept.
//!
//! In: the user's [`Config`] and the [`Environment`]. Out: [`RegistrySettings`].
//! **Invariant:** nothing of a project has a word in this: its files name registries, and cannot turn off TLS, lead to
//! other hosts, or have credentials sent there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rb_registry::{HostOptions, Proxies, RegistryOptions};

use super::config::Config;
use crate::environment::Environment;

/// All that is known of registries before one is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RegistrySettings {
    /// What is special about a host, by its name in images.
    pub(crate) hosts: BTreeMap<String, HostOptions>,
    /// The way out. Addresses may hold passwords; the type never prints them.
    pub(crate) proxies: Proxies,
    /// Files of authorities that are trusted besides the system's.
    pub(crate) ca_files: Vec<PathBuf>,
    /// Docker's configuration file, if there is a place for it.
    pub(crate) docker_config: Option<PathBuf>,
    /// Files of podman, read where docker's says nothing.
    pub(crate) podman_auth_files: Vec<PathBuf>,
    /// How often something is tried, and the first pause; none leaves it to the client.
    pub(crate) tries: Option<u32>,
    pub(crate) first_pause: Option<Duration>,
}

impl RegistrySettings {
    /// Returns what a client of registries is told.
    pub(crate) fn options(&self) -> RegistryOptions {
        let mut options = RegistryOptions {
            hosts: self.hosts.clone(),
            proxies: self.proxies.clone(),
            ca_files: self.ca_files.clone(),
            ..RegistryOptions::default()
        };
        let limits = &mut options.limits;
        limits.tries = self.tries.unwrap_or(limits.tries);
        if let Some(pause) = self.first_pause {
            (limits.first_pause, limits.longest_pause) = (pause, limits.longest_pause.max(pause));
        }
        options
    }
}

/// Settles how registries are reached.
pub(super) fn settle(config: &Config, environment: &Environment) -> RegistrySettings {
    let text = |name| environment.get(name).map(|(_, value)| value.to_string_lossy().into_owned());
    // An empty text in the file means none, whatever the environment says.
    let chosen = |own: &Option<String>, name: &'static str| match own {
        Some(own) => Some(own.clone()),
        None => text(name),
    };
    let proxy = |own, name| chosen(own, name).or_else(|| text("ALL_PROXY")).filter(|text| !text.is_empty());
    RegistrySettings {
        hosts: config.hosts.clone(),
        proxies: Proxies {
            http: proxy(&config.network.http_proxy, "HTTP_PROXY"),
            https: proxy(&config.network.https_proxy, "HTTPS_PROXY"),
            none: chosen(&config.network.no_proxy, "NO_PROXY").unwrap_or_default(),
        },
        ca_files: config.network.ca.clone().unwrap_or_default(),
        docker_config: docker_config(environment),
        podman_auth_files: podman_auth_files(environment),
        tries: None,
        first_pause: None,
    }
}

/// Returns the place of docker's configuration.
fn docker_config(environment: &Environment) -> Option<PathBuf> {
    let folder = match environment.path("DOCKER_CONFIG") {
        Some(folder) => environment.cwd.join(folder),
        None => environment.home().filter(|home| home.is_absolute())?.join(".docker"),
    };
    Some(folder.join("config.json"))
}

/// Returns where podman keeps logins. Source: containers-auth.json(5).
fn podman_auth_files(environment: &Environment) -> Vec<PathBuf> {
    if let Some(file) = environment.path("REGISTRY_AUTH_FILE") {
        return vec![environment.cwd.join(file)];
    }
    let runtime = environment.path("XDG_RUNTIME_DIR").filter(|folder| folder.is_absolute());
    runtime.iter().map(|folder| folder.join("containers/auth.json")).collect()
}

/// Docker's own registry.
pub(crate) const DOCKER_HUB: &str = "docker.io";

/// Returns a registry's name as images have it: Docker's own has several.
pub(crate) fn usual_name(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        other => other,
    }
}

/// Says what is wrong with a registry's host.
pub(crate) fn check_host(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        Err("it is empty")
    } else if host.contains("://") {
        Err("it has a scheme")
    } else if host.contains(|next: char| next.is_whitespace() || next.is_control()) {
        Err("it has a space")
    } else if host.contains(['@', '?', '#']) {
        Err("it is more than a host")
    } else {
        Ok(())
    }
}

/// Returns a file's path as its place and the user's home have it.
pub(super) fn resolve(path: &Path, folder: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => folder.join(path),
    }
}

#[cfg(test)]
mod tests {
    use crate::environment::tests::environment;

    use super::*;

    #[test]
    fn proxies_of_the_file_count_before_those_of_the_environment() {
        let environment = environment(&[
            ("HTTP_PROXY", "http://one"),
            ("https_proxy", "http://u:hunter2@two"),
            ("ALL_PROXY", "http://all"),
            ("no_proxy", "a,b"),
        ]);
        let mut config = Config::default();
        let settled = settle(&config, &environment);
        let some = |text: &str| Some(text.to_owned());
        let expected =
            Proxies { http: some("http://one"), https: some("http://u:hunter2@two"), none: "a,b".to_owned() };
        assert_eq!(settled.proxies, expected);
        assert!(!format!("{settled:?}").contains("hunter2"));
        config.network.http_proxy = some("");
        config.network.https_proxy = some("http://mine");
        config.network.no_proxy = some("");
        let expected = Proxies { http: None, https: some("http://mine"), none: String::new() };
        assert_eq!(settle(&config, &environment).proxies, expected);
    }

    #[test]
    fn one_proxy_may_stand_for_all() {
        let proxies = settle(&Config::default(), &environment(&[("all_proxy", "http://all")])).proxies;
        assert_eq!(proxies.http.as_deref().zip(proxies.https.as_deref()), Some(("http://all", "http://all")));
    }

    #[test]
    fn credentials_lie_where_docker_and_podman_have_them() {
        let places = |variables: &[(&'static str, &str)]| {
            let settled = settle(&Config::default(), &environment(variables));
            (settled.docker_config, settled.podman_auth_files)
        };
        assert_eq!(places(&[]), (None, vec![]));
        assert_eq!(
            places(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/1")]),
            (Some("/h/.docker/config.json".into()), vec!["/run/user/1/containers/auth.json".into()])
        );
        assert_eq!(
            places(&[("HOME", "/h"), ("DOCKER_CONFIG", "d"), ("REGISTRY_AUTH_FILE", "a.json")]),
            (Some("/ws/d/config.json".into()), vec!["/ws/a.json".into()])
        );
    }
}
