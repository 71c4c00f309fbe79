//! Where a daemon is, as people write it.
//!
//! `unix:///run/buildkit/buildkitd.sock`, `tcp://HOST:PORT`, `ssh://USER@HOST:PORT/SOCKET`, `docker-container://NAME`,
//! `podman-container://NAME`, `nerdctl-container://NAME`, `kube-pod://NAME?namespace=N&container=C&context=X`: those that BuildKit's own
//! client takes; and `docker://`, `docker:///run/docker.sock`: the BuildKit in Docker's own daemon.
//! **Invariant:** no part of an address is read as an option by the program that it is handed to, and none by a shell.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::docker;

/// An address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    way: Way,
}

/// How a daemon is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A socket of this machine.
    Socket(PathBuf),
    /// The socket of Docker's own daemon.
    Docker(PathBuf),
    /// A host and port.
    Tcp { host: String, port: u16 },
    /// A program whose input and output lead to the daemon.
    Program(Vec<String>),
}

/// A text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no address of an engine: {reason}")]
pub struct AddressError {
    text: String,
    reason: String,
}

impl AddressError {
    /// Returns what to write.
    pub fn help(&self) -> String {
        "write unix:///PATH, tcp://HOST:PORT, ssh://USER@HOST, docker-container://NAME, podman-container://NAME, \
         nerdctl-container://NAME, kube-pod://NAME or docker://"
            .to_owned()
    }
}

impl Address {
    /// Whether it is reached by TCP, where certificates prove who is who.
    pub fn is_tcp(&self) -> bool {
        matches!(self.way, Way::Tcp { .. })
    }

    /// Whether it is the Docker that is in use, wherever that is.
    pub fn is_docker_in_use(&self) -> bool {
        self.text == IN_USE
    }

    pub(crate) fn way(&self) -> &Way {
        &self.way
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// Docker, without a place.
const IN_USE: &str = "docker://";

/// Port of a daemon where none is given.
const PORT: u16 = 1234;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let way =
            way(text).map_err(|reason| AddressError { text: text.chars().take(200).collect(), reason })?;
        Ok(Self { text: text.to_owned(), way })
    }
}

fn way(text: &str) -> Result<Way, String> {
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let query: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Ok((name.to_owned(), decoded(value)?)))
        .collect::<Result<_, String>>()?;
    let allowed: &[&str] = match scheme {
        "docker-container" => &["context"],
        "nerdctl-container" => &["namespace"],
        "kube-pod" => &["context", "namespace", "container"],
        _ => &[],
    };
    if let Some((name, _)) = query.iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
        return Err(format!("`{scheme}` has no option `{name}`"));
    }
    let option = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    match scheme {
        "unix" if rest.starts_with('/') => {
            let path = PathBuf::from(decoded(rest)?);
            Ok(if docker::is_its_socket(&path) { Way::Docker(path) } else { Way::Socket(path) })
        }
        "docker" if rest.is_empty() => Ok(Way::Docker(docker::USUAL_SOCKET.into())),
        "docker" if rest.starts_with('/') => Ok(Way::Docker(decoded(rest)?.into())),
        "docker" => Err("the path of Docker's socket begins with `/`: docker:///run/docker.sock".to_owned()),
        "unix" => Err("the path of a socket begins with `/`".to_owned()),
        "tcp" => {
            let (host, port) = host_and_port(rest.trim_end_matches('/'))?;
            Ok(Way::Tcp { host, port: port.unwrap_or(PORT) })
        }
        "docker-container" => {
            let mut command = words(&["docker"]);
            command.extend(option("context").map(|context| format!("--context={context}")));
            command.extend(words(&["exec", "-i", plain(rest)?, "buildctl", "dial-stdio"]));
            Ok(Way::Program(command))
        }
        "podman-container" => {
            Ok(Way::Program(words(&["podman", "exec", "-i", plain(rest)?, "buildctl", "dial-stdio"])))
        }
        "nerdctl-container" => {
            let mut command = words(&["nerdctl", "exec"]);
            command.extend(option("namespace").map(|namespace| format!("--namespace={namespace}")));
            command.extend(words(&["-i", plain(rest)?, "buildctl", "dial-stdio"]));
            Ok(Way::Program(command))
        }
        "kube-pod" => {
            let mut command = words(&["kubectl"]);
            command.extend(option("context").map(|context| format!("--context={context}")));
            command.extend(option("namespace").map(|namespace| format!("--namespace={namespace}")));
            command.push("exec".to_owned());
            command.extend(option("container").map(|container| format!("--container={container}")));
            command.extend(words(&["-i", plain(rest)?, "--", "buildctl", "dial-stdio"]));
            Ok(Way::Program(command))
        }
        "ssh" => ssh(rest),
        other => Err(format!("`{other}` is no way to an engine")),
    }
}

fn ssh(rest: &str) -> Result<Way, String> {
    let (place, socket) = rest.split_once('/').map_or((rest, None), |(place, socket)| (place, Some(socket)));
    let (user, place) = place.split_once('@').map_or((None, place), |(user, place)| (Some(user), place));
    let (host, port) = host_and_port(place)?;
    let mut command =
        vec!["ssh".to_owned(), "-o".to_owned(), "ConnectTimeout=30".to_owned(), "-T".to_owned()];
    if let Some(user) = user {
        if user.contains(':') {
            return Err("a password has no place in it".to_owned());
        }
        command.extend(["-l".to_owned(), plain(user)?.to_owned()]);
    }
    command.extend(port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
    command.extend(["--".to_owned(), host, "buildctl".to_owned()]);
    if let Some(socket) = socket.filter(|socket| !socket.is_empty()) {
        let socket = decoded(socket)?;
        // The other side's shell reads it.
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
        if !socket.chars().all(is_plain) {
            return Err("the path of its socket has letters other than those of names".to_owned());
        }
        command.extend(["--addr".to_owned(), format!("unix:///{socket}")]);
    }
    command.push("dial-stdio".to_owned());
    Ok(Way::Program(command))
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("a port is behind `:`")?)),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(|port| port.parse().map_err(|_| format!("`{port}` is no port"))).transpose()?;
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || ".-_:%".contains(letter);
    if host.is_empty() || host.starts_with('-') || !host.chars().all(is_name) {
        return Err("it names no host".to_owned());
    }
    Ok((host.to_owned(), port))
}

/// Takes the name of a container, pod or user.
fn plain(text: &str) -> Result<&str, String> {
    let text = text.trim_end_matches('/');
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(is_name) {
        return Err(format!("`{text}` is no name"));
    }
    Ok(text)
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "it is no UTF-8".to_owned())?;
    if text.contains(char::is_control) {
        return Err("it holds control characters".to_owned());
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> String {
        match text.parse::<Address>().expect(text).way {
            Way::Program(words) => words.join(" "),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ways_are_those_of_buildctl() {
        let parse = |text: &str| text.parse::<Address>().expect(text).way;
        assert_eq!(parse("unix:///run/b%20k.sock"), Way::Socket("/run/b k.sock".into()));
        assert_eq!(parse("docker://"), Way::Docker("/var/run/docker.sock".into()));
        assert_eq!(parse("docker:///run/d.sock"), Way::Docker("/run/d.sock".into()));
        assert_eq!(parse("unix:///run/docker.sock"), Way::Docker("/run/docker.sock".into()));
        assert_eq!(
            parse("tcp://build.example.com:99"),
            Way::Tcp { host: "build.example.com".into(), port: 99 }
        );
        assert_eq!(parse("tcp://[::1]"), Way::Tcp { host: "::1".into(), port: PORT });
        assert_eq!(
            program("docker-container://bk?context=far"),
            "docker --context=far exec -i bk buildctl dial-stdio"
        );
        assert_eq!(program("podman-container://bk"), "podman exec -i bk buildctl dial-stdio");
        assert_eq!(program("nerdctl-container://bk"), "nerdctl exec -i bk buildctl dial-stdio");
        assert_eq!(
            program("kube-pod://bk-0?namespace=ci&container=c&context=user@cluster"),
            "kubectl --context=user@cluster --namespace=ci exec --container=c -i bk-0 -- buildctl dial-stdio"
        );
        assert_eq!(
            program("ssh://me@far:22"),
            "ssh -o ConnectTimeout=30 -T -l me -p 22 -- far buildctl dial-stdio"
        );
        assert_eq!(
            program("ssh://far/run/bk.sock"),
            "ssh -o ConnectTimeout=30 -T -- far buildctl --addr unix:///run/bk.sock dial-stdio"
        );
    }

    #[test]
    fn no_part_becomes_an_option_or_a_command() {
        for text in [
            "",
            "far",
            "unix://relative",
            "tcp://",
            "tcp://host:port",
            "tcp://-h",
            "http://far",
            "ssh://-oProxyCommand=x",
            "ssh://me:password@far",
            "ssh://-l@far",
            "ssh://far/run/$(x)",
            "docker-container://--rm",
            "docker-container://a b",
            "docker-container://a?x=1",
            "kube-pod://",
            "unix:///a%0Ab",
            "docker://name",
            "docker:///a?x=1",
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert!(error.to_string().contains(text) && error.help().contains("ssh://"));
        }
    }
}
