//! The cache of GitHub Actions, version 2: entries under keys that are written once, found by what their keys begin with.
//!
//! An entry is reserved, its bytes go to a signed URL of Azure's blob storage, and then it is said to be whole. A blob is an entry;
//! a document is a new entry each time, the last number under a key, as nothing is ever written over. Caches of a repository are
//! apart by branch: a job reads those of its own and of the branch it will go to, and writes its own. Which those are says the
//! token; so each branch has documents of its own, and all that the token may read are looked at.
//! Source: the services `CreateCacheEntry`, `FinalizeCacheEntryUpload` and `GetCacheEntryDownloadURL` (Twirp, JSON) as GitHub's own
//! client and BuildKit speak them.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rb_oci::Digest;
use rb_oci::index::JSON_LIMIT_BYTES;
use rb_session::{ActionsCache, Secret};
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::azure::{is_taken, put_blob};
use super::line::{Call, Line};
use super::{Object, Objects, read_url};
use crate::RegistryError;

const SERVICE: &str = "twirp/github.actions.results.api.v1.CacheService";
/// Entries of another version are never found.
const VERSION: &str = "rb cache 1";
/// The longest scope: a key has 512 characters.
const SCOPE_BYTES: usize = 256;
/// The longest signed URL.
const URL_LIMIT_BYTES: usize = 16 << 10;
/// Numbers that others may have taken since it was asked for the last one.
const TAKEN: u64 = 16;
/// Branches whose documents are looked at.
const BRANCHES: usize = 16;
const MAY_WRITE: i64 = 2;

/// The cache of one repository.
pub(super) struct Actions {
    url: Url,
    bearer: HeaderValue,
    scope: String,
    timeout: Duration,
    /// Branches, and whether entries are written there.
    branches: Vec<(String, bool)>,
}

/// An entry that is there.
#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    ok: bool,
    #[serde(default, alias = "signedDownloadUrl")]
    signed_download_url: String,
    #[serde(default, alias = "matchedKey")]
    matched_key: String,
}

/// An entry that is reserved.
#[derive(Deserialize)]
struct Reserved {
    #[serde(default)]
    ok: bool,
    #[serde(default, alias = "signedUploadUrl")]
    signed_upload_url: String,
}

impl Actions {
    pub(super) fn new(place: &ActionsCache) -> Result<Self, RegistryError> {
        let unusable =
            |option: &str, reason: String| RegistryError::Options { option: option.to_owned(), reason };
        let mut url = read_url("url_v2", &place.url)?;
        url.set_query(None);
        url.set_fragment(None);
        let ActionsCache { scope, timeout, .. } = place.clone();
        if scope.len() > SCOPE_BYTES || scope.contains([',', '#']) || scope.chars().any(char::is_control) {
            let reason =
                format!("it is longer than {SCOPE_BYTES} characters, or has one of `,` and `#` in it");
            return Err(unusable("scope", reason));
        }
        let shown = [b"Bearer ", place.token.as_ref().trim_ascii()].concat();
        let bearer = HeaderValue::from_bytes(&shown);
        let mut bearer = bearer.map_err(|_| unusable("token", "it is no token".to_owned()))?;
        bearer.set_sensitive(true);
        Ok(Self { url, bearer, scope, timeout, branches: branches(&place.token) })
    }

    /// Calls the service; nothing where it says that the entry is there already, or that there is none.
    async fn call(
        &self,
        line: &Line,
        method: &str,
        key: &str,
        question: Value,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{SERVICE}/{method}", url.path().trim_end_matches('/')));
        let host = url.host_str().unwrap_or_default().to_owned();
        let json = HeaderValue::from_static("application/json");
        let mut call = Call::new(Method::POST, url, key, &[200, 404, 409]).with("content-type", json);
        call.authorization = Some(self.bearer.clone());
        let answer = line.call(&call.sending(Line::text(question.to_string()))).await?;
        match (answer.status, answer.code().as_str()) {
            (200, _) => Ok(Some(answer.body)),
            (409, _) | (404, "not_found") => Ok(None),
            (status, code) => Err(line.refused(&host, key, status, code.to_owned())),
        }
    }

    /// Looks for an entry: with that very key, or the newest whose key begins so.
    async fn find(
        &self,
        line: &Line,
        key: &str,
        is_beginning: bool,
    ) -> Result<Option<(String, Url)>, RegistryError> {
        let question = json!({"key": key, "restore_keys": [key], "version": version()});
        let answer = self.call(line, "GetCacheEntryDownloadURL", key, question);
        let Some(answer) = self.in_time(answer).await? else { return Ok(None) };
        let found: Found = self.read(key, &answer)?;
        let is_it = if is_beginning { found.matched_key.starts_with(key) } else { found.matched_key == key };
        if !found.ok || !is_it {
            return Ok(None);
        }
        let url = self.signed(key, &found.signed_download_url)?;
        Ok(Some((found.matched_key, url)))
    }

    /// Writes an entry; says whether it did, or there is one.
    async fn save(&self, line: &Line, key: &str, object: &Object) -> Result<bool, RegistryError> {
        let done = async {
            let question = json!({"key": key, "version": version()});
            let answer = self.call(line, "CreateCacheEntry", key, question).await?;
            let Some(answer) = answer else { return Ok(false) };
            let reserved: Reserved = self.read(key, &answer)?;
            if !reserved.ok {
                return Ok(false);
            }
            let url = self.signed(key, &reserved.signed_upload_url)?;
            let sent = put_blob(line, &url, key, object).await?;
            if !is_taken(&sent) {
                let host = url.host_str().unwrap_or_default();
                return Err(line.refused(host, key, sent.status, sent.code()));
            }
            let question = json!({"key": key, "size_bytes": object.size, "version": version()});
            let answer = self.call(line, "FinalizeCacheEntryUpload", key, question).await?;
            #[derive(Deserialize)]
            struct Whole {
                #[serde(default)]
                ok: bool,
            }
            match answer.map(|answer| self.read::<Whole>(key, &answer)).transpose()? {
                Some(Whole { ok: true }) => Ok(true),
                _ => Err(self.wrong(key, "it does not take the entry as whole")),
            }
        };
        self.in_time(done).await
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let late = |_| {
            let reason = format!("nothing came of it within {} s (timeout=)", self.timeout.as_secs());
            RegistryError::unreachable(self.host(), reason)
        };
        tokio::time::timeout(self.timeout, work).await.map_err(late)?
    }

    /// Reads where bytes are: never less safe than the service itself.
    fn signed(&self, key: &str, text: &str) -> Result<Url, RegistryError> {
        let wrong = || self.wrong(key, "it leads to where nothing is read or written");
        let url: Url = text.parse().map_err(|_| wrong())?;
        let is_safe = url.scheme() == "https" || url.scheme() == "http" && self.url.scheme() == "http";
        let is_plain = url.username().is_empty() && url.password().is_none() && url.host_str().is_some();
        if text.len() <= URL_LIMIT_BYTES && is_safe && is_plain { Ok(url) } else { Err(wrong()) }
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, key: &str, answer: &[u8]) -> Result<T, RegistryError> {
        serde_json::from_slice(answer).map_err(|_| self.wrong(key, "it is not the JSON of this service"))
    }

    fn wrong(&self, key: &str, reason: &str) -> RegistryError {
        RegistryError::content(self.host(), format!("answer for {key}"), reason)
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Returns what the keys of a branch's documents begin with.
    fn documents_of(&self, branch: &str) -> String {
        let branch =
            if branch.is_empty() { String::new() } else { format!("-{}", &Digest::of(branch).hex()[..16]) };
        format!("rb-index-1-{}{branch}#", self.scope)
    }
}

#[async_trait]
impl Objects for Actions {
    fn attributes(&self) -> &'static str {
        "token and url_v2 (ACTIONS_RUNTIME_TOKEN and ACTIONS_RESULTS_URL), and whether the job may write to the cache"
    }

    fn blob_key(&self, digest: &Digest) -> String {
        format!("rb-blob-1-{digest}")
    }

    async fn has(&self, line: &Line, key: &str) -> Result<bool, RegistryError> {
        Ok(self.find(line, key, false).await?.is_some())
    }

    async fn place(&self, line: &Line, key: &str) -> Result<Option<Url>, RegistryError> {
        Ok(self.find(line, key, false).await?.map(|(_, url)| url))
    }

    async fn put(&self, line: &Line, key: &str, object: &Object) -> Result<(), RegistryError> {
        // Who wrote it meanwhile wrote the same.
        self.save(line, key, object).await.map(drop)
    }

    async fn documents(&self, line: &Line) -> Result<Vec<Url>, RegistryError> {
        let mut found = Vec::new();
        for (branch, _) in &self.branches {
            found.extend(self.find(line, &self.documents_of(branch), true).await?.map(|(_, url)| url));
        }
        Ok(found)
    }

    async fn put_document(&self, line: &Line, document: &Object) -> Result<(), RegistryError> {
        let own = self.branches.iter().rev().find(|(_, is_written)| *is_written);
        let beginning = self.documents_of(own.map_or("", |(branch, _)| branch));
        let mut last = 0_u64;
        if let Some((key, url)) = self.find(line, &beginning, true).await? {
            last = key[beginning.len()..].parse().unwrap_or(0);
            let call = Call::new(Method::GET, url, &key, &[200, 404]);
            let known = line.call(&Call { limit_bytes: JSON_LIMIT_BYTES, ..call }).await?;
            if known.status == 200 && Digest::of(&known.body) == document.digest {
                return Ok(());
            }
        }
        for number in 1..=TAKEN {
            let number = last.saturating_add(number);
            if self.save(line, &format!("{beginning}{number}"), document).await? {
                return Ok(());
            }
        }
        Err(self.wrong(&beginning, "others write there all the time"))
    }
}

/// What sets our entries apart: a digest of what they are.
fn version() -> String {
    Digest::of(VERSION).hex().to_owned()
}

/// Reads from a token which branches it is for. One of another service may say nothing of that: it has one branch, without a name.
fn branches(token: &Secret) -> Vec<(String, bool)> {
    #[derive(Deserialize)]
    struct Claims {
        ac: String,
    }
    #[derive(Deserialize)]
    struct Branch {
        #[serde(rename = "Scope")]
        scope: String,
        #[serde(rename = "Permission")]
        permission: i64,
    }
    let claims = std::str::from_utf8(token.as_ref()).ok().and_then(|token| token.trim().split('.').nth(1));
    let claims = claims.and_then(|claims| URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok());
    let claims = claims.and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok());
    let branches = claims.and_then(|claims| serde_json::from_str::<Vec<Branch>>(&claims.ac).ok());
    let branches = branches.unwrap_or_default().into_iter().take(BRANCHES);
    let branches: Vec<_> =
        branches.map(|branch| (branch.scope, branch.permission & MAY_WRITE != 0)).collect();
    if branches.is_empty() { vec![(String::new(), true)] } else { branches }
}
