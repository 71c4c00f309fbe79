//! One entry of `auths`: a credential, encoded.
//!
//! `auth` is the base64 of `user:password` and counts before `username` and `password`; `identitytoken` is what a token
//! service gave, `registrytoken` what a registry takes as it is. Anything else in an entry says nothing here.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rb_session::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::Credential;

/// Writes padding, and reads what others left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Reads an entry; none if it says nothing, as docker writes it where a helper keeps the credential.
///
/// The error says what is wrong, without what stands there.
pub(super) fn decode(json: &str) -> Result<Option<Credential>, &'static str> {
    let entry: Option<Entry> =
        serde_json::from_str(json).map_err(|_| "expected an object of texts, such as { \"auth\": \"…\" }")?;
    let Entry { auth, username, password, identitytoken, registrytoken } = entry.unwrap_or_default();
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    if let Some(token) = said(registrytoken) {
        return Ok(Some(Credential::RegistryToken(Secret::new(token))));
    }
    if let Some(token) = said(identitytoken) {
        return Ok(Some(Credential::IdentityToken(Secret::new(token))));
    }
    if let Some(auth) = said(auth) {
        return basic(&Zeroizing::new(auth)).map(Some);
    }
    let password = Secret::new(password.unwrap_or_default());
    let user = username.unwrap_or_default();
    let is_empty = user.is_empty() && password.as_ref().is_empty();
    Ok((!is_empty).then_some(Credential::Password { user, password }))
}

fn basic(auth: &str) -> Result<Credential, &'static str> {
    // Programs that encode for people break lines.
    let auth: Zeroizing<String> =
        Zeroizing::new(auth.chars().filter(|next| !matches!(next, '\r' | '\n')).collect());
    let bytes = BASE64.decode(auth.as_bytes()).map_err(|_| "`auth` is not base64")?;
    let bytes = Zeroizing::new(bytes);
    let colon = bytes.iter().position(|byte| *byte == b':');
    let (user, password) =
        colon.and_then(|at| bytes.split_at_checked(at)).ok_or("`auth` holds no `user:password`")?;
    let user = std::str::from_utf8(user).map_err(|_| "the name in `auth` is not UTF-8")?;
    // Some programs fill up with zeros.
    let password = password.get(1..).unwrap_or_default();
    let end = password.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let password = Secret::new(password.get(..end).unwrap_or_default());
    Ok(Credential::Password { user: user.to_owned(), password })
}

/// Writes an entry for a name and a password, as JSON.
pub(super) fn encode(user: &str, password: &Secret) -> Zeroizing<String> {
    let pair = Zeroizing::new([user.as_bytes(), b":", password.as_ref()].concat());
    // No character of base64 needs an escape.
    Zeroizing::new(format!("{{\n\t\t\t\"auth\": \"{}\"\n\t\t}}", *Zeroizing::new(BASE64.encode(&*pair))))
}

/// Writes an entry that says only that there is a login.
pub(super) fn empty() -> Zeroizing<String> {
    Zeroizing::new("{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Credential {
        Credential::Password { user: user.to_owned(), password: Secret::new(password) }
    }

    #[test]
    fn entries_are_read_in_all_their_shapes() {
        for (json, expected) in [
            ("{}", None),
            ("null", None),
            (r#"{"auth": "", "email": "a@b"}"#, None),
            (r#"{"auth": "dXNlcjpwYXNz"}"#, Some(password("user", "pass"))),
            (r#"{"auth": "dXNlcjpwYTpz\ncw=="}"#, Some(password("user", "pa:ss"))),
            (r#"{"auth": "dXNlcjpwYTpzcw"}"#, Some(password("user", "pa:ss"))),
            (r#"{"auth": "dXNlcjpwAAA="}"#, Some(password("user", "p"))),
            (r#"{"auth": "dXNlcjpwYXNz", "username": "x", "password": "y"}"#, Some(password("user", "pass"))),
            (r#"{"username": "x", "password": "y"}"#, Some(password("x", "y"))),
            (
                r#"{"auth": "dXNlcjo=", "identitytoken": "t"}"#,
                Some(Credential::IdentityToken(Secret::new("t"))),
            ),
            (r#"{"registrytoken": "t", "other": [1]}"#, Some(Credential::RegistryToken(Secret::new("t")))),
        ] {
            assert_eq!(decode(json), Ok(expected), "{json}");
        }
    }

    #[test]
    fn wrong_entries_are_told_without_what_they_hold() {
        for (json, expected) in [
            (r#""aHVudGVyMg==""#, "expected an object"),
            (r#"{"auth": ["aHVudGVyMg=="]}"#, "expected an object"),
            (r#"{"auth": "hunter 2"}"#, "`auth` is not base64"),
            (r#"{"auth": "aHVudGVyMg=="}"#, "`auth` holds no `user:password`"),
            (r#"{"auth": "/zpodW50ZXIy"}"#, "the name in `auth` is not UTF-8"),
        ] {
            let error = decode(json).expect_err(json);
            assert!(error.starts_with(expected), "{json}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(user in "[^:\0]{1,9}", pass in "[^\0]{0,19}") {
            let json = encode(&user, &Secret::new(pass.as_str()));
            proptest::prop_assert_eq!(decode(&json), Ok(Some(password(&user, &pass))));
        }
    }
}
