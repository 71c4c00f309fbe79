//! What a step in a chroot is other than one in a sandbox, as far as its definition tells; the rest is `rb_exec`'s to refuse.
//!
//! That it runs in one is in its key: a command that asks for the machine's name or looks into `/proc` has other results there, and
//! nobody can tell which commands do. Weighed: to give it the name of a sandbox, which needs a namespace that cannot be made where a
//! chroot is needed. What both make alike has one content, so that what follows is found by that, steps aside.

use rb_api::{KeyPart, PartKind};
use rb_exec::{ExecError, Isolation};
use rb_llb::ExecOp;
use rb_oci::{Digest, Hasher};

use super::StepTerms;
use crate::error::EngineError;

/// Returns the digest of what is run as that of what is run so.
pub(super) fn keyed(digest: Digest, terms: &StepTerms) -> Digest {
    match terms.isolation {
        Isolation::Sandbox => digest,
        Isolation::Chroot => {
            let mut hasher = Hasher::default();
            hasher.update(b"in a chroot\0");
            hasher.update(digest.as_bytes());
            hasher.finish().0
        }
    }
}

/// Returns the part of a key that says so.
pub(super) fn part(terms: &StepTerms) -> Option<KeyPart> {
    (terms.isolation == Isolation::Chroot).then(|| KeyPart::new(PartKind::Setting, "isolation", "chroot"))
}

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
    if terms.isolation == Isolation::Sandbox {
        return None;
    }
    // They lead there.
    if let Some(name) = ["/dev/stdin", "/dev/stdout", "/dev/fd"].into_iter().find(|name| says(name)) {
        return Some(format!(
            "with --isolation=chroot a step has no {name}, since it has no /proc: most commands take `-` instead, or write there anyway"
        ));
    }
    says("/proc").then(|| {
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
        let told = hint(&chroot, |words| words == "/dev/stdout");
        assert!(told.is_some_and(|told| told.contains("no /dev/stdout")));
        assert!(hint(&StepTerms::default(), |_| true).is_none());
    }

    #[test]
    fn a_key_says_that_it_is_one() {
        let chroot = StepTerms { isolation: Isolation::Chroot, ..StepTerms::default() };
        let digest = Digest::of("a command");
        assert_eq!((keyed(digest, &StepTerms::default()), part(&StepTerms::default())), (digest, None));
        assert_ne!(keyed(digest, &chroot), digest);
        assert_ne!(keyed(digest, &chroot), keyed(Digest::of("another"), &chroot));
        assert!(part(&chroot).is_some());
    }
}
