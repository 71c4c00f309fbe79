//! From pairs to options: which name sets what.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, Diagnostics, nearest};
use rb_llb::LinuxResources;
use serde::Deserialize;

use super::{CacheImport, NoCache, Options, values};
use crate::codes;

/// Options that are one name, for "did you mean".
const NAMES: [&str; 31] = [
    "add-hosts",
    "cache-from",
    "cache-imports",
    "cgroup-parent",
    "cmdline",
    "context",
    "contextkey",
    "contextsubdir",
    "cpuperiod",
    "cpuquota",
    "cpusetcpus",
    "cpusetmems",
    "cpushares",
    "dockerfilekey",
    "filename",
    "force-network-mode",
    "frontend.caps",
    "hostname",
    "image-resolve-mode",
    "memory",
    "memswap",
    "multi-platform",
    "no-cache",
    "platform",
    "proxy-network",
    "requestid",
    "shm-size",
    "source",
    "source-policy",
    "target",
    "ulimit",
];

/// Options that begin so and go on with a name.
const PREFIXES: [&str; 7] = [
    "attest:",
    "build-arg:",
    "context:",
    "input-metadata:",
    "label:",
    "local-sessionid:",
    "sharedkey:localdir:",
];

/// Capabilities that a client may ask of the frontend.
const CAPABILITIES: [&str; 4] = [
    "moby.buildkit.frontend.inputs",
    "moby.buildkit.frontend.subrequests",
    "moby.buildkit.frontend.contexts",
    "moby.buildkit.frontend.gitquerystring",
];

impl Options {
    /// Tells whether this is the name of an option.
    pub fn is_known(name: &str) -> bool {
        NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    }

    /// Reads options; for what is no option, the value has to be set by the caller.
    ///
    /// # Errors
    /// Every option that is unknown or has a value that it cannot have.
    pub fn from_map(pairs: &BTreeMap<String, String>) -> Result<Self, Diagnostics> {
        Self::read(pairs, Self::default())
    }

    /// Reads options over those of `start`.
    ///
    /// # Errors
    /// As [`Options::from_map`].
    pub fn read(pairs: &BTreeMap<String, String>, start: Self) -> Result<Self, Diagnostics> {
        let context_key = pairs.get("contextkey").map_or("context", String::as_str);
        let mut options = start;
        let mut errors = Vec::new();
        for (name, value) in pairs {
            let set = match name == context_key {
                true => {
                    options.context = Some(value.clone());
                    Ok(())
                }
                false => options.set(name, value),
            };
            errors.extend(set.err().map(|wrong| wrong.diagnostic(name)));
        }
        errors.extend(options.settle(pairs).err());
        if errors.is_empty() { Ok(options) } else { Err(errors) }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Wrong> {
        if let Some(prefix) = PREFIXES.iter().find(|prefix| name.starts_with(**prefix)) {
            return self.set_named(prefix, &name[prefix.len()..], value).map_err(Wrong::Value);
        }
        if NAMES.contains(&name) {
            return self.set_plain(name, value).map_err(Wrong::Value);
        }
        Err(Wrong::Unknown)
    }

    /// Sets an option that stands for itself.
    fn set_plain(&mut self, name: &str, value: &str) -> Result<(), String> {
        let text = || (!value.is_empty()).then(|| value.to_owned());
        match name {
            "add-hosts" => self.add_hosts = values::hosts(value)?,
            "cache-from" => self.cache_imports.extend(value.split(',').map(registry_cache)),
            "cache-imports" => self.cache_imports.extend(cache_imports(value)?),
            "cgroup-parent" => self.cgroup_parent = text(),
            "contextsubdir" => self.context_sub_dir = text(),
            "dockerfilekey" => self.dockerfile_folder = text(),
            "filename" => self.filename = text().unwrap_or_else(|| "Dockerfile".to_owned()),
            "force-network-mode" => self.network = values::network(value)?,
            "frontend.caps" => capabilities(value)?,
            "hostname" => self.hostname = text(),
            "image-resolve-mode" => self.resolve_mode = values::resolve_mode(value)?,
            "no-cache" => self.no_cache = no_cache(value),
            "platform" if !value.is_empty() => {
                self.platforms = values::platforms(value, &self.build_platform)?;
            }
            "requestid" => self.request = text(),
            "shm-size" if !value.is_empty() => {
                self.shm_size_bytes = values::number(value, |size: i64| size >= 0, "a number of bytes")?;
            }
            "source" => self.frontend = text(),
            "target" => self.target = text(),
            "ulimit" if !value.is_empty() => self.ulimits = values::ulimits(value)?,
            "source-policy" | "proxy-network" if value.is_empty() || value == "false" => {}
            "source-policy" | "proxy-network" => return Err("this version cannot honour it".to_owned()),
            // The line itself says nothing that `source` does not; the others are read where they belong together.
            "platform" | "shm-size" | "ulimit" | "cmdline" | "contextkey" | "context" | "multi-platform" => {}
            limit => self.set_limit(limit, value)?,
        }
        Ok(())
    }

    /// Sets a limit of the steps' cgroup; an empty value sets none.
    fn set_limit(&mut self, name: &str, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Ok(());
        }
        let limits = self.resources.get_or_insert_with(LinuxResources::default);
        match name {
            "memory" => limits.memory_bytes = values::number(value, |bytes: i64| bytes > 0, ABOVE_ZERO)?,
            "memswap" => {
                let wanted = "-1 (no limit) or a number above 0";
                limits.memory_swap_bytes =
                    values::number(value, |bytes: i64| bytes == -1 || bytes > 0, wanted)?;
            }
            "cpushares" => limits.cpu_shares = values::number(value, |shares: u64| shares > 0, ABOVE_ZERO)?,
            "cpuperiod" => {
                limits.cpu_period_us = values::number(value, |period: u64| period > 0, ABOVE_ZERO)?;
            }
            "cpuquota" => limits.cpu_quota_us = values::number(value, |quota: i64| quota > 0, ABOVE_ZERO)?,
            "cpusetcpus" => limits.cpuset_cpus = values::cpuset(value)?,
            "cpusetmems" => limits.cpuset_mems = values::cpuset(value)?,
            other => unreachable!("`{other}` is in the list of names and is set nowhere"),
        }
        Ok(())
    }

    /// Sets one of the options that go on with a name of the user's.
    fn set_named(&mut self, prefix: &str, name: &str, value: &str) -> Result<(), String> {
        let map = match prefix {
            "attest:" => &mut self.attestations,
            "context:" => &mut self.named_contexts,
            "label:" => &mut self.labels,
            "local-sessionid:" => &mut self.local_sessions,
            "sharedkey:localdir:" => &mut self.shared_keys,
            "build-arg:" => {
                self.build_args.insert(name.to_owned(), value.to_owned());
                return self.set_build_arg(name, value);
            }
            _ => return Err("the caller hands inputs in with their configs".to_owned()),
        };
        map.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Build arguments that are options, too.
    fn set_build_arg(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "BUILDKIT_CACHE_MOUNT_NS" => self.cache_namespace = value.to_owned(),
            "BUILDKIT_CONTEXT_KEEP_GIT_DIR" => self.keep_git_dir = crate::go::parse_bool(value) == Some(true),
            "BUILDKIT_DOCKERFILE_CHECK" => self.check = Some(value.to_owned()),
            "BUILDKIT_DISABLE_FILEOP" if crate::go::parse_bool(value) == Some(true) => {
                return Err("files are changed by file operations alone".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// What depends on several options.
    fn settle(&mut self, pairs: &BTreeMap<String, String>) -> Result<(), Diagnostic> {
        if let Some(name) = self.build_args.get("BUILDKIT_SANDBOX_HOSTNAME").filter(|name| !name.is_empty()) {
            self.hostname = Some(name.clone());
        }
        let several = self.platforms.len() > 1;
        let given = |name: &&str| pairs.get(*name).is_some_and(|value| !value.is_empty());
        let Some(name) = ["build-arg:BUILDKIT_MULTI_PLATFORM", "multi-platform"].into_iter().find(given)
        else {
            self.multi_platform |= several;
            return Ok(());
        };
        let wrong = |message: String| Wrong::Value(message).diagnostic(name);
        self.multi_platform = values::truth(&pairs[name]).map_err(wrong)?;
        if several && !self.multi_platform {
            return Err(wrong("several platforms are asked for".to_owned()));
        }
        Ok(())
    }
}

const ABOVE_ZERO: &str = "a number above 0";

/// What is wrong with one option.
enum Wrong {
    Unknown,
    Value(String),
}

impl Wrong {
    fn diagnostic(self, name: &str) -> Diagnostic {
        match self {
            Self::Unknown => {
                let known = NAMES.into_iter().chain(PREFIXES);
                Diagnostic::error(codes::UNKNOWN_OPTION, format!("there is no option `{name}`"))
                    .with_nearest(nearest(name, known))
            }
            Self::Value(reason) => {
                Diagnostic::error(codes::BAD_OPTION, format!("the option `{name}` is wrong: {reason}"))
            }
        }
    }
}

fn no_cache(value: &str) -> NoCache {
    match value {
        "" => NoCache::All,
        names => NoCache::Stages(names.split(',').map(ToOwned::to_owned).collect()),
    }
}

fn registry_cache(reference: &str) -> CacheImport {
    let attrs = BTreeMap::from([("ref".to_owned(), reference.to_owned())]);
    CacheImport { kind: "registry".to_owned(), attrs }
}

fn cache_imports(json: &str) -> Result<Vec<CacheImport>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        #[serde(alias = "type")]
        r#type: String,
        #[serde(default, alias = "attrs")]
        attrs: BTreeMap<String, String>,
    }
    if json.is_empty() {
        return Ok(Vec::new());
    }
    let entries: Vec<Entry> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    Ok(entries.into_iter().map(|entry| CacheImport { kind: entry.r#type, attrs: entry.attrs }).collect())
}

fn capabilities(list: &str) -> Result<(), String> {
    let mut asked = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    match asked.find(|name| !CAPABILITIES.contains(&name.split_once('+').map_or(*name, |(name, _)| name))) {
        Some(name) => Err(format!("`{name}` is not a capability of this frontend")),
        None => Ok(()),
    }
}
