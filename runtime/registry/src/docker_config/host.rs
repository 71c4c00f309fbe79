//! Names of registries, as people write them in configuration files.
//!
//! In: a host as images name it (`ghcr.io`, `localhost:5000`, `docker.io`), and keys of a file. Out: which keys mean that
//! host. Docker's own registry has a name from before there were others.

/// Docker's own registry, as its files call it.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// All its names, the usual one first.
const DOCKER_HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Docker's: a key is a host, whatever path stands behind it.
    Docker,
    /// Podman's: a key without a scheme may be a part of a registry (`quay.io/team`), which says nothing of the whole.
    Podman,
}

fn is_docker_hub(host: &str) -> bool {
    DOCKER_HUB_HOSTS.contains(&host)
}

/// Returns what a login for a host is kept under, and what helpers are asked for.
pub(super) fn server(host: &str, habit: Habit) -> &str {
    match habit {
        Habit::Docker if is_docker_hub(host) => DOCKER_HUB_KEY,
        Habit::Docker | Habit::Podman => host,
    }
}

/// Returns how exactly a key means a host, 0 for word by word, none if it means another.
pub(super) fn matches(key: &str, host: &str, habit: Habit) -> Option<usize> {
    let names: Vec<&str> = if is_docker_hub(host) {
        std::iter::once(DOCKER_HUB_KEY).chain(DOCKER_HUB_HOSTS).collect()
    } else {
        vec![host]
    };
    if let Some(at) = names.iter().position(|name| *name == key) {
        return Some(at);
    }
    let bare = ["https://", "http://"].iter().find_map(|scheme| key.strip_prefix(scheme));
    let cut = match (bare, habit) {
        (Some(bare), _) => bare,
        (None, Habit::Docker) => key,
        (None, Habit::Podman) => return None,
    };
    let found = cut.split('/').next().unwrap_or_default();
    names.contains(&found).then_some(names.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_hosts() {
        use Habit::{Docker, Podman};
        for (key, host, habit, expected) in [
            ("ghcr.io", "ghcr.io", Docker, Some(0)),
            ("ghcr.io", "ghcr.io", Podman, Some(0)),
            ("https://ghcr.io", "ghcr.io", Docker, Some(1)),
            ("https://ghcr.io/v1/", "ghcr.io", Podman, Some(1)),
            ("http://localhost:5000/v2/", "localhost:5000", Docker, Some(1)),
            ("ghcr.io/team", "ghcr.io", Docker, Some(1)),
            ("ghcr.io/team", "ghcr.io", Podman, None),
            ("localhost", "localhost:5000", Docker, None),
            ("ghcr.io.evil.example", "ghcr.io", Docker, None),
            ("evil.example/ghcr.io", "ghcr.io", Docker, None),
            ("https://index.docker.io/v1/", "docker.io", Docker, Some(0)),
            ("docker.io", "docker.io", Podman, Some(1)),
            ("index.docker.io", "docker.io", Docker, Some(2)),
            ("https://index.docker.io/v2/", "registry-1.docker.io", Docker, Some(4)),
            ("mirror.docker.io", "docker.io", Docker, None),
        ] {
            assert_eq!(matches(key, host, habit), expected, "{key} {host} {habit:?}");
        }
        assert_eq!(server("docker.io", Docker), "https://index.docker.io/v1/");
        assert_eq!((server("docker.io", Podman), server("ghcr.io", Docker)), ("docker.io", "ghcr.io"));
    }
}
