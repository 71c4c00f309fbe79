//! The filter of system calls in the words of the OCI, for other runtimes.
//!
//! It allows the same calls, by name. What cannot be said: that calls newer than the table are unknown (ENOSYS). runc says
//! so by itself; crun refuses them with EPERM.
//! Source: OCI runtime-spec, config-linux.md, "Seccomp".

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use oci_spec::OciSpecError;

use super::{ABIS, CONDITIONAL, EPERM, Verdict, table};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: &[Arch] = &[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];
#[cfg(not(target_arch = "x86_64"))]
const ARCHITECTURES: &[Arch] = &[Arch::ScmpArchAarch64];

/// Returns the profile for everything but insecure runs.
pub(crate) fn profile() -> Result<LinuxSeccomp, OciSpecError> {
    let is_here = |row: &&table::Row| {
        let (_, numbers) = row;
        ABIS.iter().any(|abi| numbers.get(abi.column).is_some_and(|number| *number >= 0))
    };
    let names = table::ALLOWED.iter().filter(is_here).map(|(name, _)| (*name).to_owned()).collect();
    let mut calls = vec![allow(names, None)?];
    for ((name, _), verdict) in CONDITIONAL {
        let names = || vec![(*name).to_owned()];
        match *verdict {
            Verdict::Allow => calls.push(allow(names(), None)?),
            Verdict::Refuse(errno) => {
                let refused = LinuxSyscallBuilder::default().names(names()).errno_ret(errno);
                calls.push(refused.action(LinuxSeccompAction::ScmpActErrno).build()?);
            }
            Verdict::WithoutBits(bits) => {
                // What is left of the first argument under this mask is nothing.
                let operator = LinuxSeccompOperator::ScmpCmpMaskedEq;
                let first = first(operator).value(u64::from(bits)).value_two(0u64).build()?;
                calls.push(allow(names(), Some(first))?);
            }
            // One rule may compare an argument once only.
            Verdict::OneOf(ranges) => {
                for value in ranges.iter().flat_map(|(low, high)| *low..=*high) {
                    let first = first(LinuxSeccompOperator::ScmpCmpEq).value(u64::from(value)).build()?;
                    calls.push(allow(names(), Some(first))?);
                }
            }
        }
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(EPERM)
        .architectures(ARCHITECTURES)
        .syscalls(calls)
        .build()
}

fn first(operator: LinuxSeccompOperator) -> LinuxSeccompArgBuilder {
    LinuxSeccompArgBuilder::default().index(0usize).op(operator)
}

fn allow(names: Vec<String>, argument: Option<LinuxSeccompArg>) -> Result<LinuxSyscall, OciSpecError> {
    let mut call =
        LinuxSyscallBuilder::default().names(names).action(LinuxSeccompAction::ScmpActAllow).build()?;
    call.set_args(argument.map(|argument| vec![argument]));
    Ok(call)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn it_says_what_the_filter_does() {
        let said = serde_json::to_value(profile().expect("is made")).expect("is JSON");
        assert_eq!((&said["defaultAction"], &said["defaultErrnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(1)));
        let calls = said["syscalls"].as_array().expect("is a list");
        let of = |name: &str| {
            let has =
                |call: &&Value| call["names"].as_array().is_some_and(|names| names.contains(&json!(name)));
            calls.iter().filter(has).collect::<Vec<_>>()
        };
        assert_eq!((of("read").len(), of("mount").len(), of("keyctl").len()), (1, 0, 0));
        assert_eq!(of("clone3"), [&json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38})]);
        let namespaces =
            json!([{"index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
        assert_eq!(of("clone")[0]["args"], namespaces);
        let families: Vec<_> = of("socket").iter().map(|call| call["args"][0]["value"].as_u64()).collect();
        assert!(families.contains(&Some(1)) && !families.contains(&Some(40)), "{families:?}");
        assert_eq!(of("personality").len(), 5);
    }
}
