//! Containers that `rb` itself is run in: which kind it is, and what has to be asked of who started it.
//!
//! Source: the files that Docker, Podman, systemd and Kubernetes put into theirs; the security options of each.

use super::Host;

/// A container around this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    Kubernetes,
    Docker,
    Podman,
    /// Another one, which says how it is called.
    Other(String),
}

impl Container {
    pub(super) fn of(host: &Host) -> Option<Self> {
        // A pod's containers are made by some engine, too.
        let service_account = ["run/secrets/kubernetes.io", "var/run/secrets/kubernetes.io"];
        if service_account.iter().any(|path| host.path(path).exists()) {
            return Some(Self::Kubernetes);
        }
        if host.path("run/.containerenv").exists() {
            return Some(Self::Podman);
        }
        if host.path(".dockerenv").exists() {
            return Some(Self::Docker);
        }
        match host.text("run/systemd/container")?.as_str() {
            "docker" => Some(Self::Docker),
            "podman" => Some(Self::Podman),
            "" => None,
            other => Some(Self::Other(other.to_owned())),
        }
    }

    /// Returns what to call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Kubernetes => "a pod of Kubernetes".to_owned(),
            Self::Docker => "a container of Docker".to_owned(),
            Self::Podman => "a container of Podman".to_owned(),
            Self::Other(name) => format!("a container of {name}"),
        }
    }

    /// Returns how it is started so that sandboxes can be made in it.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Docker => {
                "start it with: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
                 --security-opt systempaths=unconfined …"
            }
            Self::Podman => {
                "start it with: podman run --security-opt seccomp=unconfined --security-opt label=disable --security-opt \
                 unmask=ALL …"
            }
            Self::Kubernetes => {
                "give the pod hostUsers: false, and its container securityContext: {procMount: Unmasked, seccompProfile: \
                 {type: Unconfined}, appArmorProfile: {type: Unconfined}}; or securityContext: {privileged: true}"
            }
            Self::Other(_) => "start it as a privileged one (--privileged)",
        }
        .to_owned()
    }
}
