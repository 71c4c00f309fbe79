//! Private keys that we sign with ourselves: `rb --ssh default=KEYFILE`.
//!
//! In: a file of OpenSSH without a passphrase, with a key of ed25519, ECDSA (P-256, P-384) or RSA. Out: answers of an agent
//! that has it. RSA signs with SHA-256 or SHA-512 only.
//! **Invariant:** the file's bytes are wiped; what is kept is never printed.
//! Source: OpenSSH, PROTOCOL.key; RFC 5656; RFC 8332; RFC 8709.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};
use zeroize::Zeroizing;

use super::wire::{self, Fields};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Flags of a request for a signature.
const WITH_SHA256: u32 = 2;
const WITH_SHA512: u32 = 4;

/// A file is no key that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SshKeyError {
    /// Something else.
    #[error("is not a private key of OpenSSH")]
    NotAKey,
    /// A private key in a form of other programs.
    #[error("is a private key of an older form")]
    OldForm,
    /// It can be read with a passphrase only.
    #[error("has a passphrase")]
    Passphrase,
    /// An algorithm that is not ours, such as of a security token.
    #[error("is a key of a kind that only an agent can use")]
    Kind,
    /// Its parts do not fit each other, or it is too short to be safe.
    #[error("is damaged, or too short to be safe")]
    Damaged,
}

/// A private key.
pub struct SshKey {
    /// As peers know it.
    public: Vec<u8>,
    comment: Vec<u8>,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair, &'static str),
    Rsa(Box<RsaKeyPair>),
}

impl fmt::Debug for SshKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SshKey")
    }
}

impl SshKey {
    /// Reads a key file.
    pub fn parse(file: &[u8]) -> Result<Self, SshKeyError> {
        let text = std::str::from_utf8(file).map_err(|_| SshKeyError::NotAKey)?;
        let Some((_, body)) = text.split_once(BEGIN) else {
            let old = text.contains("-----BEGIN ") && text.contains(" PRIVATE KEY-----");
            return Err(if old { SshKeyError::OldForm } else { SshKeyError::NotAKey });
        };
        let (body, _) = body.split_once(END).ok_or(SshKeyError::Damaged)?;
        let body: Zeroizing<Vec<u8>> =
            Zeroizing::new(body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
        let bytes = Zeroizing::new(STANDARD.decode(&*body).map_err(|_| SshKeyError::Damaged)?);
        Self::from_parts(&bytes)
    }

    fn from_parts(bytes: &[u8]) -> Result<Self, SshKeyError> {
        let mut fields = Fields(bytes.strip_prefix(MAGIC).ok_or(SshKeyError::Damaged)?);
        let mut next = || fields.string().ok_or(SshKeyError::Damaged);
        let (cipher, _derivation, _salt) = (next()?, next()?, next()?);
        if cipher != b"none" {
            return Err(SshKeyError::Passphrase);
        }
        // Files of several keys were foreseen and never made.
        if fields.u32() != Some(1) {
            return Err(SshKeyError::Damaged);
        }
        let mut next = || fields.string().ok_or(SshKeyError::Damaged);
        let (public, private) = (next()?, next()?);
        let mut fields = Fields(private);
        if fields.u32().zip(fields.u32()).is_none_or(|(one, other)| one != other) {
            return Err(SshKeyError::Damaged);
        }
        let mut next = || fields.string().ok_or(SshKeyError::Damaged);
        let pair = match next()? {
            b"ssh-ed25519" => {
                let (public, secret) = (next()?, next()?);
                let seed = secret.get(..32).ok_or(SshKeyError::Damaged)?;
                let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
                Pair::Ed25519(pair.map_err(|_| SshKeyError::Damaged)?)
            }
            b"ecdsa-sha2-nistp256" => ecdsa(256, next()?, next()?, next()?)?,
            b"ecdsa-sha2-nistp384" => ecdsa(384, next()?, next()?, next()?)?,
            b"ssh-rsa" => rsa([next()?, next()?, next()?, next()?, next()?, next()?])?,
            _ => return Err(SshKeyError::Kind),
        };
        let comment = next()?.to_vec();
        Ok(Self { public: public.to_vec(), comment, pair })
    }

    /// Signs; nothing if it cannot in the way that is asked for.
    fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (name, signature) = match &self.pair {
            Pair::Ed25519(pair) => ("ssh-ed25519", pair.sign(data).as_ref().to_vec()),
            Pair::Ecdsa(pair, name) => {
                let signature = pair.sign(&random, data).ok()?;
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                (*name, [wire::number(r), wire::number(s)].concat())
            }
            Pair::Rsa(pair) => {
                let (name, padding) = match flags {
                    flags if flags & WITH_SHA512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & WITH_SHA256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, data, &mut signature).ok()?;
                (name, signature)
            }
        };
        Some([wire::string(name.as_bytes()), wire::string(&signature)].concat())
    }
}

fn ecdsa(bits: usize, _curve: &[u8], public: &[u8], secret: &[u8]) -> Result<Pair, SshKeyError> {
    let (algorithm, name) = match bits {
        256 => (&ECDSA_P256_SHA256_FIXED_SIGNING, "ecdsa-sha2-nistp256"),
        _ => (&ECDSA_P384_SHA384_FIXED_SIGNING, "ecdsa-sha2-nistp384"),
    };
    let secret = wire::unsigned(secret);
    let zeros = (bits / 8).checked_sub(secret.len()).ok_or(SshKeyError::Damaged)?;
    let secret = Zeroizing::new([vec![0; zeros].as_slice(), secret].concat());
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, &secret, public, &SystemRandom::new());
    Ok(Pair::Ecdsa(pair.map_err(|_| SshKeyError::Damaged)?, name))
}

/// Modulus, exponents (public, private), inverse of `q`, `p`, `q`.
fn rsa([n, e, d, q_inverse, p, q]: [&[u8]; 6]) -> Result<Pair, SshKeyError> {
    let [n, e, d, q_inverse, p, q] = [n, e, d, q_inverse, p, q].map(wire::unsigned);
    let exponent = |prime: &[u8]| {
        // A prime is odd, so one less is its last bit.
        let mut less = Zeroizing::new(prime.to_vec());
        let last = less.last_mut().filter(|last| **last & 1 == 1).ok_or(SshKeyError::Damaged)?;
        *last -= 1;
        Ok(Zeroizing::new(wire::unsigned(&remainder(d, &less)).to_vec()))
    };
    let (d_p, d_q) = (exponent(p)?, exponent(q)?);
    let public_key = PublicKeyComponents { n, e };
    let components = KeyPairComponents { public_key, d, p, q, dP: &**d_p, dQ: &**d_q, qInv: q_inverse };
    let pair = RsaKeyPair::from_components(&components).map_err(|_| SshKeyError::Damaged)?;
    Ok(Pair::Rsa(Box::new(pair)))
}

/// Returns what is left of `dividend` after division by `divisor`, bit by bit; the file has it for neither prime.
fn remainder(dividend: &[u8], divisor: &[u8]) -> Zeroizing<Vec<u8>> {
    // One byte more than the divisor, for the bit that is shifted out.
    let divisor = Zeroizing::new([&[0], divisor].concat());
    let mut rest = Zeroizing::new(vec![0_u8; divisor.len()]);
    for bit in dividend.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            let high = *byte >> 7;
            *byte = *byte << 1 | carry;
            carry = high;
        }
        if *rest >= *divisor {
            let mut borrow = false;
            for (byte, less) in rest.iter_mut().zip(divisor.iter()).rev() {
                let (difference, first) = byte.overflowing_sub(*less);
                let (difference, second) = difference.overflowing_sub(u8::from(borrow));
                (*byte, borrow) = (difference, first || second);
            }
        }
    }
    rest
}

/// Answers a request as an agent that has `keys`.
pub(super) fn answer(keys: &[SshKey], request: &[u8]) -> Vec<u8> {
    let answer = match request.split_first() {
        Some((&wire::LIST, _)) => Some(list(keys)),
        Some((&wire::SIGN, fields)) => sign(keys, fields),
        _ => None,
    };
    answer.unwrap_or_else(|| vec![wire::FAILURE])
}

fn list(keys: &[SshKey]) -> Vec<u8> {
    let count = u32::try_from(keys.len()).expect("there are few keys");
    let mut answer = vec![wire::KEYS];
    answer.extend(count.to_be_bytes());
    for key in keys {
        answer.extend(wire::string(&key.public));
        answer.extend(wire::string(&key.comment));
    }
    answer
}

fn sign(keys: &[SshKey], fields: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Fields(fields);
    let (public, data, flags) = (fields.string()?, fields.string()?, fields.u32()?);
    let key = keys.iter().find(|key| key.public == public)?;
    let signature = key.sign(data, flags)?;
    Some([&[wire::SIGNATURE], wire::string(&signature).as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn remainders_are_right(dividend in any::<u128>(), divisor in 1..=u128::MAX) {
            let rest = remainder(&dividend.to_be_bytes(), &divisor.to_be_bytes());
            let expected = (dividend % divisor).to_be_bytes();
            prop_assert_eq!(wire::unsigned(&rest), wire::unsigned(&expected));
        }

        #[test]
        fn nothing_makes_it_stumble(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            SshKey::parse(&bytes).unwrap_err();
            SshKey::from_parts(&[MAGIC, &bytes].concat()).unwrap_err();
            prop_assert_eq!(answer(&[], &[&[wire::SIGN], bytes.as_slice()].concat()), [wire::FAILURE]);
        }
    }

    #[test]
    fn what_is_no_key_is_told_apart() {
        assert_eq!(SshKey::parse(b"hunter2").unwrap_err(), SshKeyError::NotAKey);
        let old = b"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(SshKey::parse(old).unwrap_err(), SshKeyError::OldForm);
        assert_eq!(SshKey::parse(BEGIN.as_bytes()).unwrap_err(), SshKeyError::Damaged);
    }
}
