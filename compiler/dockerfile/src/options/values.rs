//! Values of options: each from its text, or why not.

use rb_llb::{HostAddress, NetworkMode, Ulimit};
use rb_oci::Platform;

use super::ResolveMode;
use crate::go;
use crate::platform;

/// Limits that Linux knows.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads `linux/amd64,linux/arm64`.
pub(super) fn platforms(text: &str, host: &Platform) -> Result<Vec<Platform>, String> {
    text.split(',').map(|one| platform::parse(one.trim(), host).map_err(|error| error.to_string())).collect()
}

/// Reads `host=address,…`.
pub(super) fn hosts(text: &str) -> Result<Vec<HostAddress>, String> {
    let address = |field: &String| {
        let (host, ip) = field.split_once('=').ok_or_else(|| format!("`{field}` is not `NAME=ADDRESS`"))?;
        let ip: std::net::IpAddr = ip.parse().map_err(|_| format!("`{ip}` is not an address"))?;
        Ok(HostAddress { host: host.to_lowercase(), ip: ip.to_string() })
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    go::csv_fields(text)?.iter().map(address).collect()
}

/// Reads `nofile=1024:2048,…`.
pub(super) fn ulimits(text: &str) -> Result<Vec<Ulimit>, String> {
    go::csv_fields(text)?.iter().map(|field| ulimit(field)).collect()
}

fn ulimit(field: &str) -> Result<Ulimit, String> {
    let (name, limits) =
        field.split_once('=').ok_or_else(|| format!("`{field}` is not `NAME=SOFT[:HARD]`"))?;
    if !ULIMITS.contains(&name) {
        let near = rb_diag::nearest(name, ULIMITS);
        let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        return Err(format!("there is no limit `{name}`{hint}"));
    }
    let number =
        |text: &str| text.parse::<i64>().map_err(|_| format!("`{text}` in `{field}` is not a number"));
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!("in `{field}` the soft limit is above the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// Reads `none`, `host` or `sandbox`.
pub(super) fn network(text: &str) -> Result<NetworkMode, String> {
    match text {
        "" | "sandbox" => Ok(NetworkMode::Sandbox),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        other => Err(format!("`{other}` is neither `none`, `host` nor `sandbox`")),
    }
}

/// Reads `default`, `pull` or `local`.
pub(super) fn resolve_mode(text: &str) -> Result<ResolveMode, String> {
    match text {
        "" | "default" => Ok(ResolveMode::Default),
        "pull" => Ok(ResolveMode::Pull),
        "local" => Ok(ResolveMode::Local),
        other => Err(format!("`{other}` is neither `default`, `pull` nor `local`")),
    }
}

/// Reads a whole number for which `allowed` holds.
pub(super) fn number<T: std::str::FromStr + Copy>(
    text: &str,
    allowed: impl Fn(T) -> bool,
    wanted: &str,
) -> Result<T, String> {
    let number: Option<T> = text.parse().ok();
    number.filter(|number| allowed(*number)).ok_or_else(|| format!("`{text}` is not {wanted}"))
}

/// Reads a list of processors or memory nodes: `0-3,5`.
pub(super) fn cpuset(text: &str) -> Result<String, String> {
    let number = |part: &str| part.trim().parse::<u32>().ok();
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
        None => number(part).is_some(),
    };
    match text.split(',').all(range) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is not a list such as `0-3,5`")),
    }
}

/// Reads what Go takes for a truth value.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    go::parse_bool(text).ok_or_else(|| format!("`{text}` is neither `true` nor `false`"))
}
