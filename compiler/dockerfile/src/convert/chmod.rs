//! `--chmod` and `--chown`: octal bits, or what `chmod` reads; users and groups by number or name.

use std::sync::LazyLock;

use rb_llb::{CopyMode, Owner, UserSpec};
use regex::Regex;

/// `u=rwX,go=rX`. Source: POSIX, `chmod`.
static SYMBOLIC: LazyLock<Regex> = LazyLock::new(|| {
    let clause = "[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+";
    Regex::new(&format!("^{clause}(?:,{clause})*$")).expect("the clause above is a regular expression")
});

/// Reads `--chmod`; an empty text keeps what is copied as it is.
pub(super) fn mode(text: &str) -> Result<CopyMode, String> {
    if text.is_empty() {
        return Ok(CopyMode::Keep);
    }
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o7777 => Ok(CopyMode::Bits(bits)),
        Err(_) if SYMBOLIC.is_match(text) => Ok(CopyMode::Symbolic(text.to_owned())),
        Ok(_) | Err(_) => Err(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        )),
    }
}

/// Reads `user[:group]`.
pub(super) fn owner(text: &str) -> Owner {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    Owner { user: Some(spec(user)), group: group.map(spec) }
}

/// A name is looked up in the tree that is copied into; `root`, or none, is 0 in every tree.
fn spec(text: &str) -> UserSpec {
    match text.parse() {
        _ if ["", "root"].contains(&text) => UserSpec::Id(0),
        Ok(id) => UserSpec::Id(id),
        Err(_) => UserSpec::Name { name: text.to_owned(), input: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_bits_or_what_chmod_reads() {
        for (text, expected) in [
            ("", CopyMode::Keep),
            ("0755", CopyMode::Bits(0o755)),
            ("4755", CopyMode::Bits(0o4755)),
            ("+x", CopyMode::Symbolic("+x".to_owned())),
            ("u=rwX,go=rX", CopyMode::Symbolic("u=rwX,go=rX".to_owned())),
            ("a-w+x,g=u", CopyMode::Symbolic("a-w+x,g=u".to_owned())),
        ] {
            assert_eq!(mode(text), Ok(expected), "{text}");
        }
        for text in ["99", "10000", "rwx", "u=q", "u=r,", ",+x"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn owners_are_numbers_or_names() {
        let name = |name: &str| UserSpec::Name { name: name.to_owned(), input: None };
        for (text, user, group) in [
            ("root", UserSpec::Id(0), None),
            ("1000:app", UserSpec::Id(1000), Some(name("app"))),
            ("app:root", name("app"), Some(UserSpec::Id(0))),
            (":app", UserSpec::Id(0), Some(name("app"))),
            (":7", UserSpec::Id(0), Some(UserSpec::Id(7))),
            ("app:", name("app"), Some(UserSpec::Id(0))),
        ] {
            assert_eq!(owner(text), Owner { user: Some(user), group }, "{text}");
        }
    }
}
