//! A file of the web as a source: what its attributes say, and what it is called.
//!
//! In: the identifier and attributes of an `http://` or `https://` source, or of a `…+blob://` one, whose attributes
//! are the same. Out: [`FileRequest`]. The file itself is fetched by the engine, with the client that registries are
//! asked with.
//! Source: BuildKit's http and image blob sources; RFC 6266.

use std::collections::BTreeMap;

use rb_llb::attr;
use rb_oci::Digest;
use rb_session::{Secret, Session};

use crate::SourceError;
use crate::signature::Signed;
use crate::single::{DEFAULT_MODE, SingleFile, number, safe_name};

/// What of a file is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRequest {
    /// What it is called in its tree, where that is said.
    pub name: Option<String>,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Its digest, where that is said.
    pub checksum: Option<Digest>,
    /// Secret with the value of an `Authorization` header, which must be lent.
    pub header_secret: Option<String>,
    /// Headers to send along.
    pub headers: Vec<(String, String)>,
    /// How it must be signed.
    pub signed: Option<Signed>,
}

/// Headers that a definition may set, as in BuildKit.
const HEADERS: [&str; 2] = ["accept", "user-agent"];
/// What a file is called that says nothing of itself.
const NAMELESS: &str = "download";

impl FileRequest {
    /// Reads the attributes of a source.
    pub fn parse(attrs: &BTreeMap<String, String>) -> Result<Self, SourceError> {
        let wrong = |name: &str, reason: String| SourceError::Attribute { name: name.to_owned(), reason };
        let text = |name: &str| attrs.get(name).filter(|text| !text.is_empty()).cloned();
        let checksum = match text(attr::HTTP_CHECKSUM) {
            Some(text) => Some(text.parse().map_err(|error| wrong(attr::HTTP_CHECKSUM, format!("{error}")))?),
            None => None,
        };
        let mut headers = Vec::new();
        for (name, value) in attrs {
            let Some(header) = name.strip_prefix(attr::HTTP_HEADER_PREFIX) else { continue };
            let header = header.to_ascii_lowercase();
            if !HEADERS.contains(&header.as_str()) {
                let reason = format!("only {} can be set", HEADERS.join(" and "));
                return Err(wrong(name, reason));
            }
            headers.push((header, value.clone()));
        }
        Ok(Self {
            name: match text(attr::HTTP_FILENAME) {
                Some(text) => {
                    let name = safe_name(&text).map(ToOwned::to_owned);
                    Some(
                        name.ok_or_else(|| wrong(attr::HTTP_FILENAME, "it is no name of a file".to_owned()))?,
                    )
                }
                None => None,
            },
            mode: match number(attrs, attr::HTTP_PERM, 0)? & 0o7777 {
                0 => DEFAULT_MODE,
                mode => mode,
            },
            owner: (number(attrs, attr::HTTP_UID, 0)?, number(attrs, attr::HTTP_GID, 0)?),
            checksum,
            header_secret: text(attr::HTTP_AUTH_HEADER_SECRET),
            headers,
            signed: match (text(attr::HTTP_SIGNATURE_KEYS), text(attr::HTTP_SIGNATURE)) {
                (Some(keys), Some(signature)) => Some(Signed { keys, signature }),
                (None, None) => None,
                (Some(_), None) => {
                    return Err(wrong(attr::HTTP_SIGNATURE, "a key needs a signature".to_owned()));
                }
                (None, Some(_)) => {
                    return Err(wrong(attr::HTTP_SIGNATURE_KEYS, "a signature needs a key".to_owned()));
                }
            },
        })
    }

    /// Returns the file under the name it gets: the one that is wanted, or what its server says, or the URL's last
    /// part.
    pub fn file(&self, url: &str, disposition: Option<&str>, digest: Digest, modified_ns: i64) -> SingleFile {
        let name = self.name.clone().or_else(|| disposition.and_then(disposed)).or_else(|| last_part(url));
        self.named(name.unwrap_or_else(|| NAMELESS.to_owned()), digest, modified_ns)
    }

    /// Returns the file under the name that is wanted, or else under this one.
    pub fn named(&self, name: String, digest: Digest, modified_ns: i64) -> SingleFile {
        let name = self.name.clone().unwrap_or(name);
        SingleFile { name, mode: self.mode, owner: self.owner, modified_ns, digest }
    }

    /// Returns what is shown to the host of a URL: the secret that is named; else one that is lent for the host under
    /// BuildKit's names.
    ///
    /// `Err` is the id of a secret that is named and not lent.
    pub fn authorization(&self, url: &str, session: &dyn Session) -> Result<Option<Secret>, String> {
        if let Some(id) = &self.header_secret {
            return session.secret(id).map(Some).ok_or_else(|| id.clone());
        }
        let Some(host) = host_of(url) else { return Ok(None) };
        if let Some(header) = session.secret(&format!("HTTP_AUTH_HEADER_{host}")) {
            return Ok(Some(header));
        }
        let token = session.secret(&format!("HTTP_AUTH_TOKEN_{host}"));
        Ok(token.map(|token| Secret::new([b"Bearer ", token.as_ref().trim_ascii()].concat())))
    }
}

/// Returns the host of a URL, without its port.
pub fn host_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => host.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}

fn last_part(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (_, path) = rest.split(['?', '#']).next()?.split_once('/')?;
    safe_name(&percent_decoded(path)?).map(ToOwned::to_owned)
}

/// Returns the file's name that a `Content-Disposition` says.
fn disposed(text: &str) -> Option<String> {
    let mut plain = None;
    for parameter in parameters(text) {
        let Some((key, value)) = parameter.split_once('=') else { continue };
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            // This one counts before the other.
            "filename*" => {
                let (charset, rest) = value.split_once('\'')?;
                let (_, encoded) = rest.split_once('\'')?;
                if charset.eq_ignore_ascii_case("utf-8") {
                    let name = percent_decoded(encoded)?;
                    return safe_name(&name).filter(|_| !name.ends_with('/')).map(ToOwned::to_owned);
                }
            }
            "filename" => plain = Some(unquoted(value)),
            _ => {}
        }
    }
    let plain = plain.filter(|name| !name.ends_with('/'))?;
    safe_name(&plain).map(ToOwned::to_owned)
}

/// Splits at semicolons outside of quotes.
fn parameters(text: &str) -> Vec<String> {
    let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for letter in text.chars() {
        match letter {
            ';' if !quoted => {
                parts.push(String::new());
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && letter == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    parts
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut plain = String::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    plain
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use rb_session::LocalSession;

    use super::*;

    fn attrs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn name_of(url: &str, disposition: Option<&str>) -> String {
        let request = FileRequest::parse(&BTreeMap::new()).expect("no attributes");
        request.file(url, disposition, Digest::of(""), 0).name
    }

    #[test]
    fn a_file_is_called_what_is_wanted_said_or_last_in_its_url() {
        assert_eq!(name_of("https://h/a/b.tar?x=/y#z", None), "b.tar");
        assert_eq!(name_of("https://h/a%20b", None), "a b");
        assert_eq!(name_of("https://h/..%2f..%2fetc%2fpasswd", None), "passwd");
        for nameless in ["https://h", "https://h/", "https://h/..", "https://h/%2e%2e", "https://h/%ff"] {
            assert_eq!(name_of(nameless, None), "download", "{nameless}");
        }
        for (disposition, name) in [
            ("attachment; filename=\"c d.txt\"", "c d.txt"),
            ("attachment; filename=e", "e"),
            ("attachment; filename=\"a\\\"b;c\"; x=1", "a\"b;c"),
            ("attachment; filename=\"../../etc/passwd\"", "passwd"),
            ("attachment; filename=x; filename*=UTF-8''%c3%a4.txt", "ä.txt"),
            ("attachment; filename=\"..\"", "url"),
            ("attachment; filename=\"a/\"", "url"),
            ("inline", "url"),
        ] {
            assert_eq!(name_of("http://h/url", Some(disposition)), name, "{disposition}");
        }
        let wanted = FileRequest::parse(&attrs(&[("http.filename", "w")])).expect("parses");
        assert_eq!(wanted.file("http://h/url", Some("attachment; filename=x"), Digest::of(""), 0).name, "w");
    }

    #[test]
    fn attributes_are_read_and_the_malformed_refused() {
        let request = FileRequest::parse(&attrs(&[
            ("http.perm", "0755"),
            ("http.uid", "1"),
            ("http.gid", "0x2"),
            ("http.header.Accept", "text/plain"),
        ]))
        .expect("parses");
        assert_eq!((request.mode, request.owner), (0o755, (1, 2)));
        assert_eq!(request.headers, [("accept".to_owned(), "text/plain".to_owned())]);
        assert_eq!(FileRequest::parse(&BTreeMap::new()).expect("parses").mode, 0o600);
        for (name, value) in [
            ("http.perm", "rwx"),
            ("http.checksum", "sha256:x"),
            ("http.filename", ".."),
            ("http.header.cookie", "x"),
            ("http.uid", "-1"),
        ] {
            assert!(FileRequest::parse(&attrs(&[(name, value)])).is_err(), "{name}");
        }
    }

    #[test]
    fn secrets_are_asked_for_by_name_and_by_host() {
        let session = LocalSession::default()
            .with_secret("HTTP_AUTH_TOKEN_h", Secret::new("t\n"))
            .with_secret("mine", Secret::new("Basic x"));
        let shown = |attributes: &[(&str, &str)], url: &str| {
            let request = FileRequest::parse(&attrs(attributes)).expect("parses");
            let shown = request.authorization(url, &session);
            shown.map(|shown| shown.map(|secret| String::from_utf8_lossy(secret.as_ref()).into_owned()))
        };
        assert_eq!(shown(&[], "http://h:80/x"), Ok(Some("Bearer t".to_owned())));
        assert_eq!(shown(&[], "http://other/x"), Ok(None));
        assert_eq!(shown(&[("http.authheadersecret", "mine")], "http://h/x"), Ok(Some("Basic x".to_owned())));
        assert_eq!(shown(&[("http.authheadersecret", "none")], "http://h/x"), Err("none".to_owned()));
    }
}
