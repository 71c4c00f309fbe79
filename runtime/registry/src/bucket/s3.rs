//! S3: objects by URLs that are signed for one request each (AWS Signature Version 4, in the query).
//!
//! Blobs lie under `PREFIX BLOBS_PREFIX DIGEST`, documents under `PREFIX MANIFESTS_PREFIX NAME`, as BuildKit has them. Large ones go
//! in parts; what is given up in the midst is taken away again, unless the process ends: rules of the bucket are for those.
//! Source: Amazon's "Authenticating Requests: Using Query Parameters" and its API reference.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rb_oci::Digest;
use rb_session::{ObjectNames, S3Bucket, Secret};
use reqwest::header::{DATE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED};
use reqwest::{Method, Url};
use rusty_s3::{UrlStyle, signing};

use super::line::{Answer, Call, Line, element};
use super::{Object, Objects, read_url};
use crate::RegistryError;

/// How long a URL is good; a body that has begun by then goes on.
const GOOD_SECONDS: u64 = 3600;
/// Objects up to this size are sent whole.
const WHOLE_BYTES: u64 = 64 << 20;
/// The size of a part, unless there would be more than [`PARTS`].
const PART_BYTES: u64 = 32 << 20;
const PARTS: u64 = 10_000;
/// Above this the service copies no object in one request: such ones are not touched.
const COPY_BYTES: u64 = 5 << 30;
/// The longest tag of a part, and the longest name of an upload.
const WORD_BYTES: usize = 2048;

/// A bucket.
pub(super) struct S3 {
    bucket: rusty_s3::Bucket,
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
    objects: ObjectNames,
    touch_refresh: Duration,
}

impl S3 {
    pub(super) fn new(place: &S3Bucket) -> Result<Self, RegistryError> {
        let unusable = |option: &str, reason: &str| RegistryError::Options {
            option: option.to_owned(),
            reason: reason.to_owned(),
        };
        let is_word = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !is_word(&place.region) {
            return Err(unusable("region", "it is no region, such as us-east-1"));
        }
        for (option, secret) in [
            ("secret_access_key", Some(&place.secret_access_key)),
            ("session_token", place.session_token.as_ref()),
        ] {
            if secret.is_some_and(|secret| std::str::from_utf8(secret.as_ref()).is_err()) {
                return Err(unusable(option, "it is no text"));
            }
        }
        let domain = if place.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let (option, endpoint) = match &place.endpoint_url {
            Some(url) => ("endpoint_url", read_url("endpoint_url", url)?),
            None => ("region", read_url("region", &format!("https://s3.{}.{domain}", place.region))?),
        };
        // Neither is a bucket a part of an address, nor is a certificate for more than one label.
        let host = endpoint.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_path = place.path_style || host.parse::<IpAddr>().is_ok() || place.bucket.contains('.');
        let style = if is_path { UrlStyle::Path } else { UrlStyle::VirtualHost };
        if place.bucket.is_empty() || place.bucket.contains('/') {
            return Err(unusable("bucket", "it is no name of a bucket"));
        }
        let bucket = rusty_s3::Bucket::new(endpoint, style, place.bucket.clone(), place.region.clone());
        let bucket = bucket.map_err(|_| {
            unusable(option, "with this bucket it makes no host; use_path_style=true needs none")
        })?;
        Ok(Self {
            bucket,
            access_key_id: place.access_key_id.clone(),
            secret_access_key: place.secret_access_key.clone(),
            session_token: place.session_token.clone(),
            objects: place.objects.clone(),
            touch_refresh: place.touch_refresh,
        })
    }

    /// Signs a request of now. `query` and `headers` are sorted.
    fn url(
        &self,
        method: rusty_s3::Method,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Url {
        self.signed((&Timestamp::now(), GOOD_SECONDS), (method, key), query, headers)
    }

    /// Signs a request.
    pub(super) fn signed(
        &self,
        (at, good_seconds): (&Timestamp, u64),
        (method, key): (rusty_s3::Method, &str),
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Url {
        let text = |secret: &Secret| String::from_utf8_lossy(secret.as_ref()).into_owned();
        signing::sign(
            at,
            method,
            self.bucket.object_url(key),
            &self.access_key_id,
            &text(&self.secret_access_key),
            self.session_token.as_ref().map(text).as_deref(),
            self.bucket.region(),
            good_seconds,
            query.iter().copied(),
            headers.iter().copied(),
        )
    }

    fn document_key(&self, name: &str) -> String {
        format!("{}{}{name}", self.objects.prefix, self.objects.manifests_prefix)
    }

    async fn head(&self, line: &Line, key: &str) -> Result<Answer, RegistryError> {
        let url = self.url(rusty_s3::Method::Head, key, &[], &[]);
        line.call(&Call::new(Method::HEAD, url, key, &[200, 404])).await
    }

    /// Copies an object onto itself, so that it is new.
    async fn touch(&self, line: &Line, key: &str) -> Result<(), RegistryError> {
        let source = self.bucket.object_url(key);
        // The path of a bucket in a host lacks the bucket.
        let named = format!("/{}/", self.bucket.name());
        let path = source.path();
        let path =
            if path.contains(&named) { path.to_owned() } else { format!("/{}{path}", self.bucket.name()) };
        let headers = [("x-amz-copy-source", path.as_str()), ("x-amz-metadata-directive", "REPLACE")];
        let url = self.url(rusty_s3::Method::Put, key, &[], &headers);
        let mut call = Call::new(Method::PUT, url, key, &[200]);
        for (name, value) in headers {
            call = call.with(name, header(value, line, key)?);
        }
        line.call(&call).await.map(drop)
    }

    async fn send(&self, line: &Line, key: &str, object: &Object) -> Result<(), RegistryError> {
        if object.size <= WHOLE_BYTES {
            let url = self.url(rusty_s3::Method::Put, key, &[], &[]);
            let call = Call::new(Method::PUT, url, key, &[200]).sending(line.part(object, 0, object.size));
            return line.call(&call).await.map(drop);
        }
        let url = self.url(rusty_s3::Method::Post, key, &[("uploads", "")], &[]);
        let opened = line.call(&Call::new(Method::POST, url, key, &[200])).await?;
        let upload = element(&opened.body, "UploadId").filter(|upload| upload.len() <= WORD_BYTES);
        let upload = upload.ok_or_else(|| self.wrong(key, "it names no upload"))?.to_owned();
        let sent = self.parts(line, key, &upload, object).await;
        if sent.is_err() {
            let url = self.url(rusty_s3::Method::Delete, key, &[("uploadId", &upload)], &[]);
            let ended = line.call(&Call::new(Method::DELETE, url, key, &[200, 204, 404])).await;
            if let Err(error) = ended {
                tracing::debug!(%error, "parts of an object stay");
            }
        }
        sent
    }

    async fn parts(
        &self,
        line: &Line,
        key: &str,
        upload: &str,
        object: &Object,
    ) -> Result<(), RegistryError> {
        let size = part_bytes(object.size);
        let mut text = "<CompleteMultipartUpload>".to_owned();
        let (mut start, mut number) = (0, 1_u32);
        while start < object.size {
            let end = object.size.min(start + size);
            let shown = number.to_string();
            let query = [("partNumber", shown.as_str()), ("uploadId", upload)];
            let url = self.url(rusty_s3::Method::Put, key, &query, &[]);
            let call = Call::new(Method::PUT, url, key, &[200]).sending(line.part(object, start, end));
            let answer = line.call(&call).await?;
            let tag = tag(&answer.headers).ok_or_else(|| self.wrong(key, "a part has no ETag"))?;
            text.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"));
            (start, number) = (end, number + 1);
        }
        text.push_str("</CompleteMultipartUpload>");
        let url = self.url(rusty_s3::Method::Post, key, &[("uploadId", upload)], &[]);
        let answer = line.call(&Call::new(Method::POST, url, key, &[200]).sending(Line::text(text))).await?;
        // It says that it goes well before it does.
        if answer.body.windows(6).any(|text| text == b"<Error") {
            return Err(line.refused(self.host(), key, answer.status, answer.code()));
        }
        Ok(())
    }

    fn host(&self) -> &str {
        self.bucket.name()
    }

    fn wrong(&self, key: &str, reason: &str) -> RegistryError {
        RegistryError::content(self.host(), format!("answer for {key}"), reason)
    }
}

#[async_trait]
impl Objects for S3 {
    fn attributes(&self) -> &'static str {
        "bucket, region, endpoint_url, access_key_id, secret_access_key and session_token"
    }

    fn blob_key(&self, digest: &Digest) -> String {
        format!("{}{}{digest}", self.objects.prefix, self.objects.blobs_prefix)
    }

    async fn has(&self, line: &Line, key: &str) -> Result<bool, RegistryError> {
        Ok(self.head(line, key).await?.status == 200)
    }

    async fn keep(&self, line: &Line, key: &str) -> Result<bool, RegistryError> {
        let answer = self.head(line, key).await?;
        if answer.status != 200 {
            return Ok(false);
        }
        let size = answer.headers.get("content-length").and_then(|size| size.to_str().ok()?.parse().ok());
        let is_small = size.is_none_or(|size: u64| size <= COPY_BYTES);
        if is_small && age(&answer.headers).is_some_and(|age| age > self.touch_refresh) {
            // It is there all the same.
            if let Err(error) = self.touch(line, key).await {
                tracing::warn!(%error, "an object of a bucket is not touched");
            }
        }
        Ok(true)
    }

    async fn place(&self, _line: &Line, key: &str) -> Result<Option<Url>, RegistryError> {
        Ok(Some(self.url(rusty_s3::Method::Get, key, &[], &[])))
    }

    async fn put(&self, line: &Line, key: &str, object: &Object) -> Result<(), RegistryError> {
        self.send(line, key, object).await
    }

    async fn documents(&self, _line: &Line) -> Result<Vec<Url>, RegistryError> {
        let url = |name: &String| self.url(rusty_s3::Method::Get, &self.document_key(name), &[], &[]);
        Ok(self.objects.names.iter().map(url).collect())
    }

    async fn put_document(&self, line: &Line, document: &Object) -> Result<(), RegistryError> {
        for name in &self.objects.names {
            self.send(line, &self.document_key(name), document).await?;
        }
        Ok(())
    }
}

/// Returns how large parts are, so that there are not too many.
fn part_bytes(size: u64) -> u64 {
    PART_BYTES.max(size.div_ceil(PARTS))
}

/// Reads the tag of a part, which goes back as it came.
fn tag(headers: &HeaderMap) -> Option<&str> {
    let tag = headers.get(ETAG)?.to_str().ok()?;
    (tag.len() <= WORD_BYTES && !tag.contains(['<', '>', '&'])).then_some(tag)
}

/// Returns how old an object is, by the service's own clock.
fn age(headers: &HeaderMap) -> Option<Duration> {
    let time = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    time(DATE)?.duration_since(time(LAST_MODIFIED)?).ok()
}

fn header(value: &str, line: &Line, key: &str) -> Result<HeaderValue, RegistryError> {
    HeaderValue::from_str(value).map_err(|_| line.refused("this client", key, 0, String::new()))
}
