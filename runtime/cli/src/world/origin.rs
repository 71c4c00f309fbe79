//! What a remote's URL tells: the project's name, and what may be shown of it.
//!
//! Three forms are known: `scheme://[user[:password]@]host[:port]/path`, the short form of ssh `[user@]host:path`, and
//! paths. Source: git-fetch(1), "GIT URLS".

/// What stands for a credential.
const SCRUBBED: &str = "xxxxx";

/// What takes the place of a password where the token is in the user's name.
const TOKEN_IN_NAME: &str = "x-oauth-basic";

/// Returns `url` with `xxxxx` for each credential in it.
///
/// The user's name stays beside a password, and in ssh, where keys are the credential. Alone, over http, it is a token.
pub(crate) fn scrub(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, url),
    };
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    // The last one: a password may hold others.
    let Some((who, host)) = authority.rsplit_once('@') else { return url.to_owned() };
    let who = match who.split_once(':') {
        Some((_, password)) if password.is_empty() || password == TOKEN_IN_NAME => {
            format!("{SCRUBBED}:{password}")
        }
        Some((user, _)) => format!("{user}:{SCRUBBED}"),
        None if scheme.is_some_and(|scheme| scheme.to_ascii_lowercase().starts_with("http")) => {
            SCRUBBED.to_owned()
        }
        None => who.to_owned(),
    };
    let path = rest.strip_prefix(authority).unwrap_or_default();
    let scheme = scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
    format!("{scheme}{who}@{host}{path}")
}

/// Returns what stands behind the host, without `.git`: `organisation/repository`, or more parts where there are more.
///
/// Where there is no host, such as in `../sibling`, what stands behind the first `/`, as Earthly has it.
pub(super) fn project_name(url: &str) -> &str {
    let (scheme, rest) = match url.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, url),
    };
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.strip_suffix(".git").unwrap_or(rest);
    // A colon ends the host in the short form; behind a scheme it begins a port.
    let end = rest.find(|letter| letter == '/' || (letter == ':' && !scheme));
    end.and_then(|end| rest.get(end + 1..)).unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_scrubbed() {
        for (url, shown) in [
            ("https://github.com/org/repo.git", "https://github.com/org/repo.git"),
            ("https://user:secret@github.com/org/repo.git", "https://user:xxxxx@github.com/org/repo.git"),
            ("https://user:a@b:c@github.com:8443/org/repo", "https://user:xxxxx@github.com:8443/org/repo"),
            ("https://token@github.com/org/repo", "https://xxxxx@github.com/org/repo"),
            ("HTTP://token@host/r", "HTTP://xxxxx@host/r"),
            ("https://token:x-oauth-basic@github.com/o/r", "https://xxxxx:x-oauth-basic@github.com/o/r"),
            ("https://token:@github.com/o/r", "https://xxxxx:@github.com/o/r"),
            ("https://:secret@github.com/o/r", "https://:xxxxx@github.com/o/r"),
            ("https://host/path/with@sign", "https://host/path/with@sign"),
            ("ssh://git@github.com/org/repo", "ssh://git@github.com/org/repo"),
            ("ssh://git:secret@github.com:22/org/repo", "ssh://git:xxxxx@github.com:22/org/repo"),
            ("git@github.com:org/repo.git", "git@github.com:org/repo.git"),
            ("user:secret@github.com/org/repo.git", "user:xxxxx@github.com/org/repo.git"),
            ("github.com:org/repo", "github.com:org/repo"),
            ("/srv/git/repo.git", "/srv/git/repo.git"),
            ("", ""),
        ] {
            assert_eq!(scrub(url), shown, "{url}");
        }
    }

    #[test]
    fn project_names_are_what_stands_behind_the_host() {
        for (url, name) in [
            ("http://github.com/org/repo", "org/repo"),
            ("https://gitlab.com/org/repo.git", "org/repo"),
            ("https://user@github.com/org/repo", "org/repo"),
            ("https://user:secret@github.com/org/repo", "org/repo"),
            ("https://github.com:8443/org/repo", "org/repo"),
            ("git@github.com:org/repo.git", "org/repo"),
            ("github.com:org/repo", "org/repo"),
            ("ssh://git@github.com/org/repo", "org/repo"),
            ("ssh://git@github.com:22/org/repo", "org/repo"),
            ("https://gitlab.com/org/group/sub/repo", "org/group/sub/repo"),
            ("git@gitlab.com:org/group/sub/repo", "org/group/sub/repo"),
            ("/srv/git/repo.git", "srv/git/repo"),
            ("../sibling", "sibling"),
            ("file:///srv/git/repo", "srv/git/repo"),
            ("", ""),
        ] {
            assert_eq!(project_name(url), name, "{url}");
        }
    }
}
