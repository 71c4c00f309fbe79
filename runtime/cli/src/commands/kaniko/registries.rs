//! What kaniko's flags say of registries, in our settings of hosts.

use std::collections::BTreeMap;

use clap::ArgMatches;
use rb_oci::Reference;
use rb_registry::HostOptions;

use crate::environment::Environment;
use crate::report::Failure;
use crate::settings::registry::{DOCKER_HUB, usual_name};

/// What is special about hosts.
pub(super) type Hosts = BTreeMap<String, HostOptions>;

/// Reads it.
pub(super) fn of(matches: &ArgMatches, destinations: &[Reference]) -> Result<Hosts, Failure> {
    let all = |name: &str| matches.get_many::<String>(name).into_iter().flatten();
    let is = |name: &str| matches.get_one::<bool>(name).copied().unwrap_or(false);
    let mut hosts = Hosts::new();
    let host = |hosts: &mut Hosts, name: &str, change: &dyn Fn(&mut HostOptions)| {
        change(hosts.entry(usual_name(name).to_owned()).or_default());
    };
    for name in destinations {
        if is("insecure") {
            host(&mut hosts, name.repository().host(), &|host| host.plain_http = true);
        }
        if is("skip-tls-verify") {
            host(&mut hosts, name.repository().host(), &|host| host.skip_verify = true);
        }
    }
    all("insecure-registry").for_each(|name| host(&mut hosts, name, &|host| host.plain_http = true));
    all("skip-tls-verify-registry").for_each(|name| host(&mut hosts, name, &|host| host.skip_verify = true));
    let plain: Vec<&String> = all("insecure-registry").collect();
    let mirror = |place: &str| {
        let is_plain = plain.iter().any(|host| place.split('/').next() == Some(host.as_str()));
        if is_plain { format!("http://{place}") } else { place.to_owned() }
    };
    let of_environment =
        Environment::pass_on("KANIKO_REGISTRY_MIRROR").and_then(|text| text.into_string().ok());
    for place in all("registry-mirror").chain(&of_environment).flat_map(|text| text.split(',')) {
        host(&mut hosts, DOCKER_HUB, &|host| host.mirrors.push(mirror(place)));
    }
    for (name, place) in pairs("registry-map", all("registry-map").flat_map(|text| text.split(';')))? {
        host(&mut hosts, name, &|host| host.mirrors.push(mirror(place)));
    }
    for (name, file) in pairs("registry-certificate", all("registry-certificate").map(String::as_str))? {
        host(&mut hosts, name, &|host| host.ca.push(file.into()));
    }
    for (name, files) in pairs("registry-client-cert", all("registry-client-cert").map(String::as_str))? {
        let Some((certificate, key)) = files.split_once(',') else {
            let help = "write HOST=CERTIFICATE,KEY".to_owned();
            return Err(Failure::input(format!("--registry-client-cert {name}={files}"), Some(help)));
        };
        host(&mut hosts, name, &|host| host.client_certificate = Some((certificate.into(), key.into())));
    }
    Ok(hosts)
}

/// Reads `HOST=VALUE`.
fn pairs<'a>(flag: &str, words: impl Iterator<Item = &'a str>) -> Result<Vec<(&'a str, &'a str)>, Failure> {
    let pair = |word: &'a str| {
        let wrong = || Failure::input(format!("--{flag} {word}: it is not of the form HOST=VALUE"), None);
        word.split_once('=').ok_or_else(wrong)
    };
    words.filter(|word| !word.is_empty()).map(pair).collect()
}

/// Lays it over what is known of hosts.
pub(super) fn add(known: &mut Hosts, hosts: Hosts) {
    for (name, HostOptions { mut mirrors, plain_http, skip_verify, ca, client_certificate }) in hosts {
        let host = known.entry(name).or_default();
        mirrors.append(&mut host.mirrors);
        host.mirrors = mirrors;
        host.plain_http |= plain_http;
        host.skip_verify |= skip_verify;
        host.ca.extend(ca);
        host.client_certificate = client_certificate.or(host.client_certificate.take());
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::kaniko;

    #[test]
    fn hosts_are_those_that_flags_name() {
        let line = "executor -d host:5000/a --insecure --skip-tls-verify-registry other --registry-mirror m/p \
                    --registry-map index.docker.io=n;x=y --registry-certificate host:5000=ca.pem \
                    --registry-client-cert x=c,k --insecure-registry n";
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let matches = kaniko::read(&words).expect("reads");
        let names = ["host:5000/a".parse().expect("a name")];
        let mut known = Hosts::from([(
            "docker.io".to_owned(),
            HostOptions { mirrors: vec!["before".to_owned()], ..HostOptions::default() },
        )]);
        add(&mut known, of(&matches, &names).expect("is right"));
        assert!(known["host:5000"].plain_http && known["other"].skip_verify && !known["x"].skip_verify);
        assert_eq!(known["docker.io"].mirrors, ["m/p", "http://n", "before"]);
        assert_eq!(known["x"].mirrors, ["y"]);
        assert_eq!(known["x"].client_certificate, Some(("c".into(), "k".into())));
        assert_eq!(known["host:5000"].ca.len(), 1);
        let wrong = kaniko::read(&["executor", "--registry-map=x"].map(OsString::from)).expect("reads");
        of(&wrong, &[]).expect_err("is no pair");
    }
}
