//! OpenPGP signatures over one text, made by gpg with keys that are good, revoked, expired, too short, or in two parts.

use std::io::Read;

use rb_sources::signature::{Moment, SignatureError, Signed};

const TEXT: &[u8] = b"what is signed\n";
/// 2020-01-02, when all were made.
const MADE: u64 = 1_577_923_200;
const YEAR: u64 = 365 * 24 * 3600;
const LATER: Moment = Moment { now: MADE + YEAR, reject_expired: false };

fn read(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/signatures/");
    std::fs::read_to_string(format!("{folder}{name}")).expect("is there")
}

fn verify(keys: &str, signature: &str, text: &'static [u8], moment: Moment) -> Result<(), SignatureError> {
    let signed = Signed { keys: keys.to_owned(), signature: signature.to_owned() };
    signed.verify(&mut || Ok(Box::new(text) as Box<dyn Read>), moment)
}

fn of(keys: &str, signature: &str) -> Result<(), SignatureError> {
    verify(&read(&format!("{keys}.key")), &read(&format!("{signature}.sig")), TEXT, LATER)
}

#[test]
fn a_good_key_signs_by_itself_or_by_a_part() {
    for (key, signature) in [("good", "good"), ("good", "text"), ("parted", "parted"), ("expired", "expired")]
    {
        of(key, signature).unwrap_or_else(|error| panic!("{key} {signature}: {error}"));
    }
    // Several keys, one block after the other, with words around them.
    let several = format!("# one\n{}\n# two\n{}", read("other.key"), read("good.key"));
    verify(&several, &read("good.sig"), TEXT, LATER).expect("the second made it");
    // Another's ends of lines are the same text, where it was signed as one.
    verify(&read("good.key"), &read("text.sig"), b"what is signed\r\n", LATER).expect("as text");
}

#[test]
fn others_and_other_bytes_are_refused() {
    assert!(matches!(of("other", "good"), Err(SignatureError::Wrong)));
    let changed = verify(&read("good.key"), &read("good.sig"), b"what is signed", LATER);
    assert!(matches!(changed, Err(SignatureError::Wrong)));
    let refused = |key: &str, words: &str| {
        let told = of(key, key).expect_err(key);
        assert!(matches!(told, SignatureError::Key { .. }) && told.to_string().contains(words), "{told}");
    };
    refused("revoked", "was revoked");
    refused("short", "is too short");
    assert!(matches!(of("good", "sha1"), Err(SignatureError::Weak(_))));
    assert!(matches!(of("good", "late"), Err(SignatureError::Future)));
    for (keys, signature) in
        [("", read("good.sig")), ("-----BEGIN PGP PUBLIC KEY BLOCK-----", read("good.sig"))]
    {
        assert!(matches!(verify(keys, &signature, TEXT, LATER), Err(SignatureError::Keys(_))), "{keys}");
    }
    for signature in ["", "x", "-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"] {
        let told = verify(&read("good.key"), signature, TEXT, LATER);
        assert!(matches!(told, Err(SignatureError::Signature(_))), "{signature}: {told:?}");
    }
}

#[test]
fn an_expired_key_had_to_be_valid_when_it_signed() {
    let (key, signature) = (read("expired.key"), read("expired.sig"));
    let at = |now, reject_expired| verify(&key, &signature, TEXT, Moment { now, reject_expired });
    assert!(at(MADE + YEAR, false).is_ok() && at(MADE + 60, true).is_ok());
    assert!(at(MADE + YEAR, true).is_err_and(|told| told.to_string().contains("had expired")));
}
