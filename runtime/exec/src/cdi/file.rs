//! One file that describes devices, as its vendor wrote it: JSON or YAML → [`Described`], checked.
//!
//! In: bytes and the name of the file, which tells the format. Out: everything in it, or what is wrong with it. A key that is not of
//! the format is an error, as in the format's own library: what it asks for would be left out silently.
//! Source: Container Device Interface, SPEC.md of version 1.1.0, and its schema (facts).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::spec::Moment;

/// What a file says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Described {
    #[serde(rename = "cdiVersion")]
    version: String,
    /// `vendor/class`.
    pub(super) kind: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<Device>,
    /// What each device of the file needs beside its own.
    #[serde(default, rename = "containerEdits")]
    pub(super) edits: Edits,
}

/// A device.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(rename = "containerEdits")]
    pub(super) edits: Edits,
}

/// What a sandbox gets with a device.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<Node>,
    pub(super) mounts: Vec<Shown>,
    pub(super) additional_gids: Vec<u32>,
    pub(super) hooks: Vec<Hook>,
    pub(super) net_devices: Vec<NetDevice>,
    pub(super) intel_rdt: Option<IntelRdt>,
}

/// A node of a device.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Node {
    pub(super) path: String,
    /// Where this machine has it; `path` if absent.
    pub(super) host_path: Option<String>,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) major: u32,
    #[serde(default)]
    pub(super) minor: u32,
    pub(super) file_mode: Option<u32>,
    #[serde(default)]
    pub(super) permissions: String,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// A file or directory of this machine.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Shown {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
}

/// A program that a runtime is to start outside of the sandbox.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    pub(super) timeout: Option<i64>,
}

/// An interface that is to be moved into the sandbox.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NetDevice {
    pub(super) host_interface_name: String,
    name: String,
}

/// A share of the processor's caches.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[derive(Default)]
pub(super) struct IntelRdt {
    #[serde(rename = "closID")]
    clos_id: String,
    l3_cache_schema: String,
    mem_bw_schema: String,
    schemata: Vec<String>,
    enable_monitoring: bool,
    #[serde(rename = "enableCMT")]
    enable_cmt: bool,
    #[serde(rename = "enableMBM")]
    enable_mbm: bool,
}

impl Edits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads a file; the error says what is wrong.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Described, String> {
    let described: Described = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?
    } else {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        // Its messages show the lines around; the first says it.
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        serde_saphyr::from_str(text).map_err(|error| first(error.to_string()))?
    };
    check(&described)?;
    Ok(described)
}

fn check(described: &Described) -> Result<(), String> {
    check_version(&described.version)?;
    let (vendor, class) = described.kind.split_once('/').unwrap_or((&described.kind, ""));
    if !is_name(vendor, false) || !is_name(class, false) {
        return Err(format!("the kind `{}` is not of the form `vendor.example/class`", described.kind));
    }
    if described.devices.is_empty() {
        return Err("it describes no device".to_owned());
    }
    check_edits(&described.edits)?;
    let mut names = BTreeSet::new();
    for device in &described.devices {
        let name = &device.name;
        if !is_name(name, true) {
            return Err(format!("`{name}` cannot be the name of a device"));
        }
        if !names.insert(name) {
            return Err(format!("it describes the device `{name}` twice"));
        }
        if device.edits.is_empty() {
            return Err(format!("the device `{name}` gives nothing"));
        }
        check_edits(&device.edits).map_err(|problem| format!("the device `{name}`: {problem}"))?;
    }
    Ok(())
}

/// Versions up to 1 are known; what a later one of it adds is a key that is not.
fn check_version(version: &str) -> Result<(), String> {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(0 | 1)), Some(Ok(_)), Some(Ok(_)), None) => Ok(()),
        _ => Err(format!("the version `{version}` of the format is not known")),
    }
}

fn check_edits(edits: &Edits) -> Result<(), String> {
    let names_one = |line: &&String| line.find('=').is_none_or(|at| at == 0);
    if let Some(line) = edits.env.iter().find(names_one) {
        return Err(format!("`{line}` sets no variable"));
    }
    for node in &edits.device_nodes {
        check_path(&node.path)?;
        node.host_path.as_deref().map(check_path).transpose()?;
        if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
            return Err(format!("`{}` is not a type of the node {}", node.kind, node.path));
        }
        if !node.permissions.chars().all(|letter| matches!(letter, 'r' | 'w' | 'm')) {
            return Err(format!("`{}` are no permissions of the node {}", node.permissions, node.path));
        }
    }
    for hook in &edits.hooks {
        if Moment::named(&hook.hook_name).is_none() {
            return Err(format!("`{}` is not the name of a hook", hook.hook_name));
        }
        check_path(&hook.path)?;
        if let Some(line) = hook.env.iter().find(names_one) {
            return Err(format!("`{line}` sets no variable"));
        }
    }
    for shown in &edits.mounts {
        check_path(&shown.host_path)?;
        check_path(&shown.container_path)?;
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), String> {
    let strange = |part: &str| matches!(part, "." | "..");
    if !path.starts_with('/') || path.len() < 2 || path.contains('\0') || path.split('/').any(strange) {
        return Err(format!("`{path}` is not an absolute path below `/` without `.` and `..`"));
    }
    Ok(())
}

/// Tells whether something may be called so: letters, digits, `_`, `-`, `.` in between. Devices may begin with a digit and hold `:`.
pub(super) fn is_name(name: &str, is_device: bool) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || (is_device && byte.is_ascii_digit());
    let inner =
        |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) || (is_device && byte == b':');
    let bytes = name.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(begins), Some(ends)) => {
            first(*begins) && ends.is_ascii_alphanumeric() && bytes.iter().all(|byte| inner(*byte))
        }
        _ => false,
    }
}
