//! Signatures of commits and tags.
//!
//! In: a request that wants one, and the commit that it stands for, which is brought here. Out: nothing, or why it does not hold.
//! What a tag signs is the tag, and with it the commit that it names; where the tag is not signed, or not by one of the keys, the
//! commit's own signature counts, unless a signed tag is asked for. Keys are of OpenPGP, or lines as ssh writes them.
//! Source: gitformat-signature(5); OpenSSH, PROTOCOL.sshsig; BuildKit's git source, its `git.sig.…` attributes.

use std::collections::BTreeMap;
use std::io::{self, Read};

use rb_llb::attr;
use rb_oci::Digest;
use ssh_key::{PublicKey, SshSig};

use super::refs::Pinned;
use super::repository::Repository;
use super::{Connection, GitError, GitRequest};
use crate::SourceError;
use crate::signature::{Moment, SignatureError, Signed};

const PGP: &str = "-----BEGIN PGP SIGNATURE-----";
const SSH: &str = "-----BEGIN SSH SIGNATURE-----";
/// What git says that it signs for.
const NAMESPACE: &str = "git";
/// Headers of a commit that hold its signature. All are left out of what is signed.
const HEADERS: [&str; 2] = ["gpgsig", "gpgsig-sha256"];

/// What must be signed, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCommit {
    /// Keys of OpenPGP, armored, or of ssh, one in a line.
    pub keys: String,
    /// Whether a key must still be valid now.
    pub reject_expired: bool,
    /// Whether it must be the tag.
    pub require_tag: bool,
    /// Whether it must be the commit.
    pub ignore_tag: bool,
}

impl SignedCommit {
    /// Reads the attributes of a source.
    pub(super) fn parse(attrs: &BTreeMap<String, String>) -> Result<Option<Self>, SourceError> {
        let wrong = |name: &str, reason: &str| SourceError::Attribute {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        let known = [
            attr::GIT_SIGNATURE_KEYS,
            attr::GIT_SIGNATURE_REJECT_EXPIRED,
            attr::GIT_SIGNATURE_REQUIRE_TAG,
            attr::GIT_SIGNATURE_IGNORE_TAG,
        ];
        let mut said = attrs.keys().filter(|name| name.starts_with(attr::GIT_SIGNATURE_PREFIX)).peekable();
        if said.peek().is_none() {
            return Ok(None);
        }
        if let Some(name) = said.find(|name| !known.contains(&name.as_str())) {
            return Err(wrong(name, "there is no such attribute"));
        }
        let keys = attrs.get(attr::GIT_SIGNATURE_KEYS).filter(|keys| !keys.trim().is_empty());
        let keys = keys.ok_or_else(|| wrong(attr::GIT_SIGNATURE_KEYS, "a signature needs a key"))?;
        let is = |name: &str| attrs.get(name).is_some_and(|value| value == "true");
        Ok(Some(Self {
            keys: keys.clone(),
            reject_expired: is(attr::GIT_SIGNATURE_REJECT_EXPIRED),
            require_tag: is(attr::GIT_SIGNATURE_REQUIRE_TAG),
            ignore_tag: is(attr::GIT_SIGNATURE_IGNORE_TAG),
        }))
    }
}

/// Brings what a request stands for here, and verifies its signature; `now` is in seconds since 1970.
pub fn verify(
    connection: &Connection<'_>,
    request: &GitRequest,
    pinned: &Pinned,
    now: u64,
) -> Result<(), SourceError> {
    let Some(wanted) = &request.signed else { return Ok(()) };
    let repository = Repository::open(connection, &request.remote, &pinned.commit, connection.bundle)?;
    let commit = repository.bring(pinned)?;
    let failed = |source| SourceError::Signature { name: format!("{}#{commit}", request.remote), source };
    let by_tag = match wanted.ignore_tag {
        true => None,
        false => tag(&repository, pinned, &commit)?.map(|object| of_tag(&object)),
    };
    let by_tag = by_tag.map(|object| object.and_then(|object| object.verify(wanted, now)));
    match by_tag {
        Some(Ok(())) => return Ok(()),
        Some(Err(error)) if wanted.require_tag => return Err(failed(error)),
        None if wanted.require_tag => return Err(failed(SignatureError::Unsigned("a tag"))),
        Some(Err(_)) | None => {}
    }
    let object = repository.object("commit", &commit)?;
    of_commit(&object).and_then(|object| object.verify(wanted, now)).map_err(failed)
}

/// Returns the tag object by which a commit was named, if it was by one.
fn tag(repository: &Repository<'_>, pinned: &Pinned, commit: &str) -> Result<Option<Vec<u8>>, GitError> {
    if pinned.commit != commit {
        return repository.object("tag", &pinned.commit).map(Some);
    }
    let Some(name) = pinned.reference.as_deref().filter(|name| name.starts_with("refs/tags/")) else {
        return Ok(None);
    };
    let to = format!("refs/rb-signed/{}", &Digest::of(name).hex()[..16]);
    repository.bring_tag(name, &to, commit)?;
    let kind = repository.ask(&["cat-file", "-t", &to])?;
    if kind == "tag" { repository.object("tag", &to).map(Some) } else { Ok(None) }
}

/// A signature, and what it is over.
#[derive(Debug, PartialEq, Eq)]
struct SignedObject {
    signature: String,
    text: Vec<u8>,
}

/// Takes a commit apart: the signature stands in a header, whose further lines begin with a blank.
fn of_commit(object: &[u8]) -> Result<SignedObject, SignatureError> {
    let (mut text, mut signature, mut inside) = (Vec::new(), Vec::new(), None);
    let mut rest = object;
    while !rest.is_empty() && !rest.starts_with(b"\n") {
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        let name = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        if !name.is_empty() {
            inside = HEADERS.iter().find(|header| header.as_bytes() == name);
        }
        match inside {
            None => text.extend_from_slice(line),
            Some(header) => signature.push((header, line.get(name.len() + 1..).unwrap_or_default())),
        }
    }
    text.extend_from_slice(rest);
    // The first of them is the one that this kind of repository has.
    let of = signature.first().map(|(header, _)| *header);
    let lines: Vec<&[u8]> =
        signature.iter().filter(|(header, _)| Some(*header) == of).map(|(_, line)| *line).collect();
    let signature = String::from_utf8_lossy(&lines.concat()).into_owned();
    if signature.is_empty() {
        return Err(SignatureError::Unsigned("the commit"));
    }
    Ok(SignedObject { signature, text })
}

/// Takes a tag apart: the signature is its end.
fn of_tag(object: &[u8]) -> Result<SignedObject, SignatureError> {
    let begins = |line: &[u8]| line.starts_with(PGP.as_bytes()) || line.starts_with(SSH.as_bytes());
    let starts = object.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let found = starts.rev().find(|at| object.get(*at..).is_some_and(begins));
    let (text, signature) = found.map_or((object, [].as_slice()), |at| object.split_at(at));
    if signature.is_empty() {
        return Err(SignatureError::Unsigned("the tag"));
    }
    Ok(SignedObject { signature: String::from_utf8_lossy(signature).into_owned(), text: text.to_vec() })
}

impl SignedObject {
    fn verify(self, wanted: &SignedCommit, now: u64) -> Result<(), SignatureError> {
        let Self { signature, text } = self;
        if signature.starts_with(SSH) {
            return by_ssh(&wanted.keys, &signature, &text);
        }
        let signed = Signed { keys: wanted.keys.clone(), signature };
        let mut open = || -> io::Result<Box<dyn Read>> { Ok(Box::new(io::Cursor::new(text.clone()))) };
        signed.verify(&mut open, Moment { now, reject_expired: wanted.reject_expired })
    }
}

fn by_ssh(keys: &str, signature: &str, text: &[u8]) -> Result<(), SignatureError> {
    let signature = SshSig::from_pem(signature.trim_end())
        .map_err(|error| SignatureError::Signature(error.to_string()))?;
    let lines = keys.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut found = false;
    for line in lines {
        let Ok(key) = PublicKey::from_openssh(line) else { continue };
        found = true;
        if key.verify(NAMESPACE, text, &signature).is_ok() {
            return Ok(());
        }
    }
    Err(if found {
        SignatureError::Wrong
    } else {
        SignatureError::Keys("it is signed by ssh, and there is no public key of ssh".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_taken_out_of_a_commit() {
        let commit = b"tree 1\nauthor a\ngpgsig -----BEGIN\n \n x\n -----END\nencoding utf-8\n\nsubject\n\n gpgsig no\n";
        let object = of_commit(commit).expect("is signed");
        assert_eq!(object.signature, "-----BEGIN\n\nx\n-----END\n");
        assert_eq!(object.text, b"tree 1\nauthor a\nencoding utf-8\n\nsubject\n\n gpgsig no\n");
        // Both kinds go, and the first is it.
        let both = b"tree 1\ngpgsig-sha256 A\n B\ngpgsig C\n\nx";
        let object = of_commit(both).expect("is signed");
        assert_eq!(
            (object.signature.as_str(), object.text.as_slice()),
            ("A\nB\n", b"tree 1\n\nx".as_slice())
        );
        for unsigned in [b"".as_slice(), b"tree 1\n\ngpgsig x\n", b"tree 1"] {
            assert!(matches!(of_commit(unsigned), Err(SignatureError::Unsigned(_))));
        }
    }

    #[test]
    fn a_signature_is_the_end_of_a_tag() {
        let tag = format!("object 1\n\nabout\n{PGP}\nold\n{SSH}\nnew\n");
        let object = of_tag(tag.as_bytes()).expect("is signed");
        assert_eq!(object.signature, format!("{SSH}\nnew\n"));
        assert_eq!(object.text, format!("object 1\n\nabout\n{PGP}\nold\n").into_bytes());
        assert!(matches!(of_tag(b"object 1\n\nabout\n"), Err(SignatureError::Unsigned(_))));
    }
}
