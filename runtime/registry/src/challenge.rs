//! Challenges: what a registry's `WWW-Authenticate` asks for.
//!
//! In: header texts of a stranger. Out: the one way in that we take. The grammar is the `http-auth` crate's.
//! Source: RFC 7235; distribution, "Token Authentication Specification".

use reqwest::Url;

/// How a registry wants to be shown who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token, to be fetched elsewhere.
    Bearer {
        /// From where.
        realm: Url,
        /// For whom.
        service: Option<String>,
        /// For what, where the registry says so.
        scope: Option<String>,
    },
}

/// Longer headers are not looked at.
const LIMIT_BYTES: usize = 8 << 10;

/// Reads challenges and picks the best: a token before a password. `None` where there is none that we know.
pub(crate) fn parse_challenges<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers.into_iter().filter(|header| header.len() <= LIMIT_BYTES) {
        for challenge in http_auth::parse_challenges(header).unwrap_or_default() {
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let param = |name: &str| {
                    let mut found = challenge.params.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.next().map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
                };
                let Some(realm) = param("realm").and_then(|realm| Url::parse(&realm).ok()) else { continue };
                return Some(Challenge::Bearer { realm, service: param("service"), scope: param("scope") });
            }
        }
    }
    basic
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_of_registries() {
        let bearer = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#;
        let expected = Challenge::Bearer {
            realm: Url::parse("https://auth.docker.io/token").unwrap(),
            service: Some("registry.docker.io".to_owned()),
            scope: Some("repository:library/busybox:pull".to_owned()),
        };
        assert_eq!(parse_challenges([bearer]), Some(expected.clone()));
        assert_eq!(parse_challenges(["Basic realm=\"x\"", bearer]), Some(expected));
        assert_eq!(parse_challenges(["BASIC realm=\"Registry Realm\""]), Some(Challenge::Basic));
        assert_eq!(parse_challenges(["Negotiate"]), None);
        assert_eq!(parse_challenges(["Bearer service=\"x\""]), None);
        assert_eq!(parse_challenges(["Bearer realm=\"not a url\""]), None);
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_ignored(header in any::<String>(), more in "[Bb]earer realm=\"?[a-z:/\\\\\"]{0,20}\"?,[a-z=\",]{0,20}") {
            parse_challenges([header.as_str(), more.as_str()]);
        }
    }
}
