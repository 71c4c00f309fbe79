//! OpenPGP signatures: is it by one of these keys, over these bytes?
//!
//! In: a detached signature and public keys, armored, and the bytes. Out: nothing, or why not. A key signs if its own primary key
//! says so: of what vouches for a key only what verifies counts, the newest of it, and a revocation that verifies ends it. Keys and
//! signatures are looked at as they were when the signature was made, unless expired ones are to be refused.
//! **Invariant:** nothing weaker than SHA-256 and RSA of 2048 bits is taken.
//! Source: RFC 9580, sections 5.2 and 10; BuildKit's `pgpsign` (behaviour).

use std::io::{self, Read};

use pgp::composed::{Deserializable as _, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails, PublicParams, Tag};

/// How far another's clock may be ahead.
const SKEW_SECONDS: u64 = 300;

/// The shortest RSA key.
const RSA_BITS: u16 = 2048;

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// A signature that a source must bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// One or more armored public keys.
    pub keys: String,
    /// The armored signature.
    pub signature: String,
}

/// When a signature is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970.
    pub now: u64,
    /// Whether a key must still be valid now; if not, it must have been when it signed.
    pub reject_expired: bool,
}

/// Why a signature does not hold.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// It cannot be read.
    #[error("it is no armored OpenPGP signature: {0}")]
    Signature(String),
    /// The keys cannot be read.
    #[error("the public key is no armored OpenPGP key: {0}")]
    Keys(String),
    /// What it is made by is not safe, or not known.
    #[error("it is made by {0}, which is not accepted")]
    Weak(String),
    /// It is dated later than now.
    #[error("it was made in the future")]
    Future,
    /// None of the keys made it, or what it is over was changed.
    #[error("it is by none of the keys, or what it is over is not what was signed")]
    Wrong,
    /// The key is there, and may not have signed.
    #[error("the key {key} {reason}")]
    Key {
        /// Its fingerprint.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is none.
    #[error("{0} is not signed")]
    Unsigned(&'static str),
    /// What it is over cannot be read.
    #[error("cannot read what was signed")]
    Read(#[source] io::Error),
}

impl Signed {
    /// Verifies it over what `open` gives, which may be asked again.
    pub fn verify(
        &self,
        open: &mut dyn FnMut() -> io::Result<Box<dyn Read>>,
        moment: Moment,
    ) -> Result<(), SignatureError> {
        let parsed = DetachedSignature::from_armor_single(self.signature.as_bytes());
        let signature = parsed.map_err(|error| SignatureError::Signature(error.to_string()))?.0.signature;
        let made = check_kind(&signature)?;
        if made > moment.now.saturating_add(SKEW_SECONDS) {
            return Err(SignatureError::Future);
        }
        let at = if moment.reject_expired { moment.now } else { made };
        let lifetime = signature.signature_expiration_time().map_or(0, |time| u64::from(time.as_secs()));
        if lifetime > 0 && made + lifetime < at {
            return Err(SignatureError::Weak("a signature that has expired".to_owned()));
        }
        let mut refused = None;
        for key in keys(&self.keys)? {
            match by(&key, &signature, open, at) {
                Err(SignatureError::Wrong) => {}
                Err(error @ SignatureError::Key { .. }) => refused = Some(error),
                ended => return ended,
            }
        }
        Err(refused.unwrap_or(SignatureError::Wrong))
    }
}

/// Returns when it was made, if it is of a kind that is taken.
fn check_kind(signature: &Signature) -> Result<u64, SignatureError> {
    let weak = |what: String| Err(SignatureError::Weak(what));
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return weak(format!("a signature of the kind {:?}", signature.typ()));
    }
    match signature.hash_alg() {
        Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512) => {}
        other => return weak(other.map_or_else(|| "an unknown hash".to_owned(), |hash| hash.to_string())),
    }
    match signature.config().map(|config| config.pub_alg) {
        Some(
            PublicKeyAlgorithm::RSA
            | PublicKeyAlgorithm::RSASign
            | PublicKeyAlgorithm::ECDSA
            | PublicKeyAlgorithm::EdDSALegacy
            | PublicKeyAlgorithm::Ed25519,
        ) => {}
        other => return weak(format!("an algorithm like {other:?}")),
    }
    let made = signature.created().map(|time| u64::from(time.as_secs()));
    made.ok_or_else(|| SignatureError::Weak("a signature without a date".to_owned()))
}

/// Reads one armored block after the other.
fn keys(text: &str) -> Result<Vec<SignedPublicKey>, SignatureError> {
    let wrong = |error: pgp::errors::Error| SignatureError::Keys(error.to_string());
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(begin) = rest.find(BEGIN) {
        let block = rest.get(begin..).unwrap_or_default();
        let end =
            block.find(END).ok_or_else(|| SignatureError::Keys("it has no end".to_owned()))? + END.len();
        let (block, after) = block.split_at(end);
        let (all, _) = SignedPublicKey::from_armor_many(block.as_bytes()).map_err(wrong)?;
        for key in all {
            found.push(key.map_err(wrong)?);
        }
        rest = after;
    }
    if found.is_empty() {
        return Err(SignatureError::Keys(format!("there is no `{BEGIN}`")));
    }
    Ok(found)
}

/// Verifies a signature by one key or its subkeys.
fn by(
    key: &SignedPublicKey,
    signature: &Signature,
    open: &mut dyn FnMut() -> io::Result<Box<dyn Read>>,
    at: u64,
) -> Result<(), SignatureError> {
    let mut holds = |who: Who<'_>| -> Result<bool, SignatureError> {
        let named = signature.issuer_fingerprint();
        let is_named = named.is_empty() || named.iter().any(|name| **name == who.details().fingerprint());
        if !is_named {
            return Ok(false);
        }
        let data = open().map_err(SignatureError::Read)?;
        Ok(match who {
            Who::Primary(key) => signature.verify(&key.primary_key, data).is_ok(),
            Who::Sub(key) => signature.verify(&key.key, data).is_ok(),
        })
    };
    if holds(Who::Primary(key))? {
        return may_sign(key, at);
    }
    for subkey in &key.public_subkeys {
        if holds(Who::Sub(subkey))? {
            return is_vouched_for(key, at).and_then(|_| sub_may_sign(key, subkey, at));
        }
    }
    Err(SignatureError::Wrong)
}

enum Who<'a> {
    Primary(&'a SignedPublicKey),
    Sub(&'a SignedPublicSubKey),
}

impl Who<'_> {
    fn details(&self) -> &dyn KeyDetails {
        match self {
            Self::Primary(key) => &key.primary_key,
            Self::Sub(key) => &key.key,
        }
    }

    fn refused(&self, reason: &'static str) -> SignatureError {
        SignatureError::Key { key: format!("{:X}", self.details().fingerprint()), reason }
    }

    /// Refuses what is too short, or not valid at a time; `vouching` is what says how long it is.
    fn check(&self, vouching: &Signature, at: u64) -> Result<(), SignatureError> {
        let details = self.details();
        if let PublicParams::RSA(params) = details.public_params() {
            let written = params.to_bytes().map_err(|error| SignatureError::Keys(error.to_string()))?;
            // The modulus comes first, and before it how many bits it has.
            let bits = written.first_chunk().map_or(0, |bits| u16::from_be_bytes(*bits));
            if bits < RSA_BITS {
                return Err(self.refused("is too short"));
            }
        }
        let begins = u64::from(details.created_at().as_secs());
        let lifetime = vouching.key_expiration_time().map_or(0, |time| u64::from(time.as_secs()));
        if at < begins {
            return Err(self.refused("was made later than that"));
        }
        if lifetime > 0 && begins + lifetime < at {
            return Err(self.refused("had expired"));
        }
        Ok(())
    }
}

/// Whether one signature counts before another: it was made later.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Option<&'a Signature> {
    signatures.max_by_key(|signature| signature.created().map(|time| time.as_secs()))
}

/// Returns the newest signature by which a primary key says who it is.
fn is_vouched_for(key: &SignedPublicKey, at: u64) -> Result<&Signature, SignatureError> {
    let (primary, details) = (&key.primary_key, &key.details);
    let who = Who::Primary(key);
    let is_revoked = |signature: &Signature| {
        signature.typ() == Some(SignatureType::KeyRevocation) && signature.verify_key(primary).is_ok()
    };
    if details.revocation_signatures.iter().any(is_revoked) {
        return Err(who.refused("was revoked"));
    }
    let direct = details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
    let users = details.users.iter().flat_map(|user| {
        let own = move |signature: &&Signature| {
            signature.is_certification()
                && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        };
        user.signatures.iter().filter(own)
    });
    let vouching = newest(users.chain(direct)).ok_or_else(|| who.refused("does not say whose it is"))?;
    who.check(vouching, at)?;
    Ok(vouching)
}

fn may_sign(key: &SignedPublicKey, at: u64) -> Result<(), SignatureError> {
    let flags = is_vouched_for(key, at)?.key_flags();
    // One that says nothing of what it is for is for all.
    let says = flags.sign() || flags.certify() || flags.encrypt_comms() || flags.encrypt_storage();
    if says && !flags.sign() {
        return Err(Who::Primary(key).refused("is not for signing"));
    }
    Ok(())
}

fn sub_may_sign(key: &SignedPublicKey, subkey: &SignedPublicSubKey, at: u64) -> Result<(), SignatureError> {
    let (primary, who) = (&key.primary_key, Who::Sub(subkey));
    let is_of = |kind: SignatureType| {
        let own = move |signature: &&Signature| {
            signature.typ() == Some(kind) && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
        };
        subkey.signatures.iter().filter(own)
    };
    if is_of(SignatureType::SubkeyRevocation).next().is_some() {
        return Err(who.refused("was revoked"));
    }
    let binding = newest(is_of(SignatureType::SubkeyBinding));
    let binding = binding.ok_or_else(|| who.refused("is not bound to its primary key"))?;
    // It has to agree: another could be claimed.
    let agrees = binding
        .embedded_signature()
        .is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok());
    if !binding.key_flags().sign() || !agrees {
        return Err(who.refused("is not for signing"));
    }
    who.check(binding, at)
}
