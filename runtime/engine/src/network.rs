//! How steps reach the network: by one that leads outside and not to this machine, or by this machine's own; proxies, and
//! authorities that only this machine trusts.
//!
//! In: what the user's settings say. It reaches every command that has a network and is in no key, no image and no layer:
//! it says how to reach, not what. Passwords of proxies are struck out of what a command writes, as secrets are.
//! Source: buildkit's `ProxyEnv`; podman's `--http-proxy`.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use percent_encoding::percent_decode_str;
use rb_exec::{Network, NetworkError, Router};
use rb_llb::{NetworkMode, ProxyEnv};
use rb_session::Secret;

/// What commands are lent of this machine's ways to the network.
#[derive(Clone, Default)]
pub struct StepNetwork {
    /// Proxies, for variables in both spellings; those of a definition itself count before.
    pub proxies: ProxyEnv,
    /// Certificates of authorities in PEM, trusted beside those that an image trusts.
    pub authorities: Vec<u8>,
    /// Steps that ask for nothing else have this machine's network, with its services: the user said so.
    pub on_host: bool,
}

impl fmt::Debug for StepNetwork {
    /// Says how much there is; the address of a proxy may hold a password.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxies = variables(&self.proxies).count() / 2;
        out.debug_struct("StepNetwork")
            .field("proxies", &proxies)
            .field("authority_bytes", &self.authorities.len())
            .field("on_host", &self.on_host)
            .finish()
    }
}

impl StepNetwork {
    /// Returns the network of a step that asks for one.
    pub(crate) fn mode(&self, asked: NetworkMode) -> NetworkMode {
        match asked {
            NetworkMode::Sandbox if self.on_host => NetworkMode::Host,
            asked => asked,
        }
    }

    /// Returns the proxies of a step: its own before this machine's.
    pub(crate) fn proxies_under(&self, own: Option<&ProxyEnv>) -> ProxyEnv {
        let Some(own) = own else { return self.proxies.clone() };
        let or = |own: &String, ours: &String| if own.is_empty() { ours.clone() } else { own.clone() };
        ProxyEnv {
            http_proxy: or(&own.http_proxy, &self.proxies.http_proxy),
            https_proxy: or(&own.https_proxy, &self.proxies.https_proxy),
            ftp_proxy: or(&own.ftp_proxy, &self.proxies.ftp_proxy),
            no_proxy: or(&own.no_proxy, &self.proxies.no_proxy),
            all_proxy: or(&own.all_proxy, &self.proxies.all_proxy),
        }
    }
}

/// Networks for commands of this process, all of one router, which is started for the first of them.
#[derive(Debug, Default)]
pub(crate) struct Networks(Mutex<Option<Router>>);

impl Networks {
    /// Makes what a command runs in. Where it cannot be made, that is an error: nothing else stands in for it.
    pub(crate) fn make(&self, mode: NetworkMode) -> Result<Network, NetworkError> {
        Ok(match mode {
            NetworkMode::Host => Network::Host,
            NetworkMode::None => Network::None,
            NetworkMode::Sandbox => Network::Member(self.router()?.join()?),
        })
    }

    fn router(&self) -> Result<Router, NetworkError> {
        // It is either there or not, whoever panicked.
        let mut router = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*router {
            Some(router) => Ok(router.clone()),
            None => Ok(router.insert(Router::start()?).clone()),
        }
    }
}

/// Returns the variables that say so, name and value, in capitals and not.
pub(crate) fn variables(proxies: &ProxyEnv) -> impl Iterator<Item = (&'static str, &str)> {
    [
        (["HTTP_PROXY", "http_proxy"], &proxies.http_proxy),
        (["HTTPS_PROXY", "https_proxy"], &proxies.https_proxy),
        (["FTP_PROXY", "ftp_proxy"], &proxies.ftp_proxy),
        (["NO_PROXY", "no_proxy"], &proxies.no_proxy),
        (["ALL_PROXY", "all_proxy"], &proxies.all_proxy),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .flat_map(|(names, value)| names.map(|name| (name, value.as_str())))
}

/// Puts `set` into an environment, over what it says of the same names.
pub(crate) fn set_over(own: &[String], set: &[(&str, &str)]) -> Vec<String> {
    let is_replaced = |line: &str| {
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        set.iter().any(|(replaced, _)| *replaced == name)
    };
    let kept = own.iter().filter(|line| !is_replaced(line)).cloned();
    kept.chain(set.iter().map(|(name, value)| format!("{name}={value}"))).collect()
}

/// Puts `set` into an environment where it says nothing of the same names.
pub(crate) fn set_under(own: &mut Vec<String>, set: impl IntoIterator<Item = (&'static str, String)>) {
    for (name, value) in set {
        let says = |line: &String| line.split_once('=').map_or(line.as_str(), |(name, _)| name) == name;
        if !own.iter().any(says) {
            own.push(format!("{name}={value}"));
        }
    }
}

/// Returns the passwords in the addresses of proxies, as they are written and as they are meant.
pub(crate) fn passwords(proxies: &ProxyEnv) -> Vec<Secret> {
    let addresses = [&proxies.http_proxy, &proxies.https_proxy, &proxies.ftp_proxy, &proxies.all_proxy];
    let mut found: Vec<Vec<u8>> = Vec::new();
    for password in addresses.into_iter().filter_map(|address| password(address)) {
        found.extend([password.as_bytes().to_vec(), percent_decode_str(password).collect()]);
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(Secret::new).collect()
}

fn password(address: &str) -> Option<&str> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    // A password that was not encoded may hold any of these.
    let user = authority.rsplit_once('@').or_else(|| rest.rsplit_once('@'))?.0;
    user.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(address: &str) -> ProxyEnv {
        ProxyEnv { http_proxy: address.to_owned(), ..ProxyEnv::default() }
    }

    #[test]
    fn passwords_are_found_as_written_and_as_meant() {
        let found = |address: &str| {
            let found = passwords(&proxy(address));
            found
                .iter()
                .map(|secret| String::from_utf8_lossy(secret.as_ref()).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("http://user:hunter2@proxy:3128"), ["hunter2"]);
        assert_eq!(found("user:hun%21ter@proxy/"), ["hun!ter", "hun%21ter"]);
        assert_eq!(found("http://u:a/b@c@proxy:1/x"), ["a/b@c"]);
        for none in ["", "http://proxy:3128", "http://user@proxy", "http://user:@proxy", "http://proxy/a%"] {
            assert!(found(none).is_empty(), "{none}");
        }
        // What is not quite encoded stays as it is.
        assert_eq!(found("http://u:%4%zz%41%@p"), ["%4%zz%41%", "%4%zzA%"]);
    }

    #[test]
    fn a_steps_own_proxies_count_before_the_machines() {
        let machine = ProxyEnv { no_proxy: "a".to_owned(), all_proxy: "all".to_owned(), ..proxy("http://m") };
        let network = StepNetwork { proxies: machine, ..StepNetwork::default() };
        let merged = network.proxies_under(Some(&ProxyEnv { no_proxy: "b".to_owned(), ..proxy("http://s") }));
        let said: Vec<_> = variables(&merged).collect();
        let expected = [
            ("HTTP_PROXY", "http://s"),
            ("http_proxy", "http://s"),
            ("NO_PROXY", "b"),
            ("no_proxy", "b"),
            ("ALL_PROXY", "all"),
            ("all_proxy", "all"),
        ];
        assert_eq!(said, expected);
        let own = ["A=1", "http_proxy=mine", "B=2"].map(ToOwned::to_owned);
        let [first, second, ..] = expected;
        assert_eq!(
            set_over(&own, &[first, second]),
            ["A=1", "B=2", "HTTP_PROXY=http://s", "http_proxy=http://s"]
        );
        let mut own = own.to_vec();
        set_under(&mut own, [("A", "9".to_owned()), ("C", "3".to_owned())]);
        assert_eq!(own, ["A=1", "http_proxy=mine", "B=2", "C=3"]);
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let network =
            StepNetwork { proxies: proxy("http://u:hunter2@p"), authorities: b"PEM".to_vec(), on_host: true };
        assert_eq!(format!("{network:?}"), "StepNetwork { proxies: 1, authority_bytes: 3, on_host: true }");
    }
}
