//! Devices of a step: which this build lets it have, and what comes with them.
//!
//! In: the names in an op, what the job allows, the descriptions of this machine. Out: a refusal before any result is looked up, or
//! edits of the sandbox. As in BuildKit a key holds the names alone: what they stand for is this machine's business.
//! Source: BuildKit, solver/llbsolver/vertex.go and cdidevices (facts).

use rb_api::AllowedDevices;
use rb_exec::{Devices, Spec};
use rb_llb::ExecOp;

use super::StepTerms;
use crate::error::EngineError;

/// Refuses what is not there and may not be missing, and what the user does not allow.
pub(super) fn refuse(op: &ExecOp, allowed: &AllowedDevices, terms: &StepTerms) -> Result<(), EngineError> {
    if op.cdi_devices.is_empty() {
        return Ok(());
    }
    let devices = Devices::load(&terms.device_folders);
    let wanted = find(op, &devices)?;
    let granted: Vec<String> = allowed.names.iter().flat_map(|name| all_of(&devices, name)).collect();
    let is_granted = |name: &String| allowed.all || granted.contains(name) || devices.is_for_everybody(name);
    match wanted.into_iter().find(|name| !is_granted(name)) {
        Some(name) => Err(EngineError::DeviceStep { name }),
        None => Ok(()),
    }
}

/// Gives a step its devices.
pub(super) fn give(op: &ExecOp, terms: &StepTerms, spec: &mut Spec) -> Result<(), EngineError> {
    if op.cdi_devices.is_empty() {
        return Ok(());
    }
    let devices = Devices::load(&terms.device_folders);
    let found = find(op, &devices)?;
    Ok(devices.give(&found, spec)?)
}

/// Returns the whole names of what an op asks for, each once.
fn find(op: &ExecOp, devices: &Devices) -> Result<Vec<String>, EngineError> {
    let mut found: Vec<String> = Vec::new();
    for wanted in &op.cdi_devices {
        let names =
            if wanted.optional { devices.find(&wanted.name) } else { devices.find_required(&wanted.name)? };
        for name in names {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    Ok(found)
}

/// Who allows a kind allows all of it, not the first.
fn all_of(devices: &Devices, name: &str) -> Vec<String> {
    let whole = if name.contains('/') && !name.contains('=') { format!("{name}=*") } else { name.to_owned() };
    devices.find(&whole)
}
