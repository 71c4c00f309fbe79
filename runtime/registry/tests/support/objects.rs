//! A stand-in for S3, Azure's blob storage and the cache of GitHub Actions: objects in memory, every signature checked.
//!
//! S3 is below `/bucket/`, Azure below `/account/`, the cache at `/twirp/`. What is refused is refused with the URL in its words, as
//! a service may say anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};
use serde_json::{Value, json};

use super::support::scripted::{Reply, Request, Scripted};

pub(crate) const S3_KEY: (&str, &str) = ("AKIDEXAMPLE", "s3-hunter2/secret+key");
pub(crate) const AZURE_KEY: &str = "YXp1cmUtaHVudGVyMg==";
pub(crate) const TOKEN: &str = "actions-hunter2";

#[derive(Default)]
pub(crate) struct Kept {
    /// By path; of the cache by key.
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<String, Vec<u8>>,
    has_container: bool,
    /// Keys that are reserved, and their places.
    reserved: Vec<String>,
    /// Keys of whole entries, in order.
    pub(crate) entries: Vec<String>,
    /// What was refused.
    pub(crate) refused: Vec<String>,
}

/// The server.
pub(crate) struct Objects {
    pub(crate) server: Scripted,
    pub(crate) kept: Arc<Mutex<Kept>>,
}

impl Objects {
    pub(crate) fn start() -> Self {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let own = Arc::clone(&kept);
        let server = Scripted::start(move |request, _| answer(request, &mut own.lock().unwrap()));
        Self { server, kept }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.host)
    }

    /// Returns names of objects, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.kept.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Changes all objects whose names contain a text.
    pub(crate) fn change(&self, part: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut kept = self.kept.lock().unwrap();
        kept.objects.iter_mut().filter(|(name, _)| name.contains(part)).for_each(|(_, bytes)| change(bytes));
    }

    /// Forgets all objects whose names contain a text.
    pub(crate) fn forget(&self, part: &str) {
        let mut kept = self.kept.lock().unwrap();
        kept.objects.retain(|name, _| !name.contains(part));
        kept.entries.retain(|name| !name.contains(part));
    }
}

fn answer(request: &Request, kept: &mut Kept) -> Reply {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let is_good = match path.split('/').nth(1) {
        Some("bucket") => is_signed_by_amazon(request, path, query),
        Some("account") => is_signed_by_azure(query),
        Some("entry") => query.starts_with("sig=entry-hunter2"),
        _ => request.header("authorization") == Some(&format!("Bearer {TOKEN}")),
    };
    if !is_good {
        kept.refused.push(request.path.clone());
        let said =
            format!("<Error><Code>SignatureDoesNotMatch</Code><Message>{}</Message></Error>", request.path);
        return Reply::new(403, said);
    }
    if path.starts_with("/twirp/") {
        service(request, path, kept)
    } else {
        object(request, path, query, kept)
    }
}

fn fields(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

fn object(request: &Request, path: &str, query: &str, kept: &mut Kept) -> Reply {
    let (path, fields) = (decoded(path), fields(query));
    let is_azure = !path.starts_with("/bucket/");
    if fields.contains_key("restype") {
        let status = if kept.has_container { 409 } else { 201 };
        kept.has_container = true;
        return Reply::new(status, "").with("x-ms-error-code", "ContainerAlreadyExists");
    }
    if path.starts_with("/account/") && !kept.has_container {
        return Reply::new(404, "").with("x-ms-error-code", "ContainerNotFound");
    }
    let part = fields.get("partNumber").or(fields.get("blockid"));
    let is_list = fields.get("comp").is_some_and(|comp| comp == "blocklist");
    match request.method.as_str() {
        "GET" | "HEAD" => match kept.objects.get(&path) {
            Some(bytes) => Reply::new(200, bytes.clone()),
            None => Reply::new(404, "<Error><Code>NoSuchKey</Code></Error>"),
        },
        "PUT" if request.header("x-amz-copy-source").is_some() => {
            let found = kept.objects.contains_key(&decoded(request.header("x-amz-copy-source").unwrap()));
            Reply::new(if found { 200 } else { 404 }, "<CopyObjectResult></CopyObjectResult>")
        }
        "PUT" if is_list => {
            kept.objects.insert(path.clone(), whole(&path, &request.body, "Latest", &kept.parts));
            Reply::new(201, "")
        }
        "PUT" => {
            if is_azure && part.is_none() && request.header("x-ms-blob-type") != Some("BlockBlob") {
                return Reply::new(400, "");
            }
            match part {
                Some(part) => drop(kept.parts.insert(format!("{path} {part}"), request.body.clone())),
                None => drop(kept.objects.insert(path, request.body.clone())),
            }
            let tag = part.cloned().unwrap_or_default();
            Reply::new(if is_azure { 201 } else { 200 }, "").with("ETag", format!("\"tag-{tag}\""))
        }
        "POST" if fields.contains_key("uploads") => Reply::new(
            200,
            "<InitiateMultipartUploadResult><UploadId>up-1</UploadId></InitiateMultipartUploadResult>",
        ),
        "POST" if fields.get("uploadId").is_some_and(|upload| upload == "up-1") => {
            kept.objects.insert(path.clone(), whole(&path, &request.body, "PartNumber", &kept.parts));
            Reply::new(200, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
        }
        _ => Reply::new(400, ""),
    }
}

/// Puts the parts together that a list names.
fn whole(path: &str, list: &[u8], element: &str, parts: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let list = std::str::from_utf8(list).unwrap();
    let element = format!("<{element}>");
    let names = list.split(&element).skip(1).map(|rest| rest.split_once('<').unwrap().0);
    names.flat_map(|name| parts[&format!("{path} {name}")].clone()).collect()
}

fn service(request: &Request, path: &str, kept: &mut Kept) -> Reply {
    let question: Value = serde_json::from_slice(&request.body).unwrap();
    let key = question["key"].as_str().unwrap().to_owned();
    let host = request.header("host").unwrap();
    let place = |number: usize| format!("http://{host}/entry/{number}?sig=entry-hunter2");
    let number = |key: &String, kept: &Kept| kept.reserved.iter().position(|have| have == key);
    let answer = match path.rsplit('/').next().unwrap() {
        "CreateCacheEntry" if kept.reserved.contains(&key) => {
            return Reply::new(409, json!({"code": "already_exists", "msg": "no"}).to_string());
        }
        "CreateCacheEntry" => {
            kept.reserved.push(key);
            json!({"ok": true, "signed_upload_url": place(kept.reserved.len() - 1)})
        }
        "FinalizeCacheEntryUpload" => {
            let bytes = number(&key, kept).and_then(|number| kept.objects.get(&format!("/entry/{number}")));
            let is_whole = bytes.is_some_and(|bytes| question["size_bytes"] == bytes.len());
            if is_whole {
                kept.entries.push(key);
            }
            json!({"ok": is_whole, "entry_id": "1"})
        }
        "GetCacheEntryDownloadURL" => {
            let found = kept.entries.iter().rev().find(|have| have.starts_with(&key));
            match found.and_then(|found| Some((found.clone(), number(found, kept)?))) {
                Some((found, number)) => {
                    json!({"ok": true, "signed_download_url": place(number), "matched_key": found})
                }
                None => json!({"ok": false}),
            }
        }
        _ => return Reply::new(404, json!({"code": "bad_route"}).to_string()),
    };
    Reply::new(200, answer.to_string())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the signature of a request anew, as Amazon's document says.
fn is_signed_by_amazon(request: &Request, path: &str, query: &str) -> bool {
    let Some((signed, signature)) = query.split_once("&X-Amz-Signature=") else { return false };
    let fields = fields(signed);
    let (Some(date), Some(scope)) = (fields.get("X-Amz-Date"), fields.get("X-Amz-Credential")) else {
        return false;
    };
    let Some((id, scope)) = scope.split_once('/') else { return false };
    let headers = &fields["X-Amz-SignedHeaders"];
    let lines =
        headers.split(';').map(|name| format!("{name}:{}\n", request.header(name).unwrap_or_default()));
    let lines: String = lines.collect();
    let canonical = format!("{}\n{path}\n{signed}\n{lines}\n{headers}\nUNSIGNED-PAYLOAD", request.method);
    let canonical = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{canonical}");
    let key = scope.split('/').fold(format!("AWS4{}", S3_KEY.1).into_bytes(), |key, part| mac(&key, part));
    let is_ordered = signed.split('&').is_sorted();
    id == S3_KEY.0 && is_ordered && hex(&mac(&key, &text)) == signature
}

/// Makes the signature of a query anew, as Azure's document says.
fn is_signed_by_azure(query: &str) -> bool {
    let fields = fields(query);
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let words = ["sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses"].map(field);
    let text = format!("account\n{}\n", words.join("\n"));
    let key = STANDARD.decode(AZURE_KEY).unwrap();
    field("sig") == STANDARD.encode(mac(&key, &text))
}
