//! What a step in a chroot is other than one in a sandbox, as far as its definition tells; the rest is `rb_exec`'s to refuse.

use rb_exec::{ExecError, Isolation};
use rb_llb::ExecOp;

use super::StepTerms;
use crate::error::EngineError;

/// Refuses what a definition asks for that shows only here: the sandbox is given a host name in any case.
pub(super) fn refuse(op: &ExecOp, terms: &StepTerms) -> Result<(), EngineError> {
    if terms.isolation == Isolation::Sandbox || op.meta.hostname.is_empty() {
        return Ok(());
    }
    let what = format!("give a command the host name `{}`", op.meta.hostname);
    Err(ExecError::ChrootUnable { what }.into())
}

/// What may be behind the failure of a step, of whose last lines `says` tells what they hold.
pub(super) fn hint(terms: &StepTerms, says: impl Fn(&str) -> bool) -> Option<String> {
    let is_it = terms.isolation == Isolation::Chroot && says("/proc");
    is_it.then(|| {
        "with --isolation=chroot a step has no /proc: what needs it runs in a sandbox only".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use rb_llb::ExecMeta;

    use super::*;

    #[test]
    fn a_host_name_is_for_sandboxes() {
        let named = |hostname: &str| ExecOp {
            meta: ExecMeta { hostname: hostname.to_owned(), ..ExecMeta::default() },
            ..ExecOp::default()
        };
        let chroot = StepTerms { isolation: Isolation::Chroot, ..StepTerms::default() };
        assert!(refuse(&named("box"), &StepTerms::default()).is_ok() && refuse(&named(""), &chroot).is_ok());
        assert!(refuse(&named("box"), &chroot).is_err_and(|error| error.to_string().contains("`box`")));
        assert!(hint(&chroot, |words| words == "/proc").is_some() && hint(&chroot, |_| false).is_none());
        assert!(hint(&StepTerms::default(), |_| true).is_none());
    }
}
