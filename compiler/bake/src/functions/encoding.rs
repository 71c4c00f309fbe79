//! Base64, JSON, CSV, addresses, digests and identifiers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest as _;

use super::{Call, Function, function, not};
use crate::value::{Kind, Value, encode, parse_as};

pub(super) const FUNCTIONS: &[Function] = &[
    function("base64decode", 1, 1, |call| {
        let bytes = STANDARD.decode(call.text(0)?).map_err(|error| format!("this is no base64: {error}"))?;
        String::from_utf8(bytes).map(Value::Text).map_err(|_| "what is decoded is no UTF-8 text".to_owned())
    }),
    function("base64encode", 1, 1, |call| Ok(Value::text(STANDARD.encode(call.text(0)?)))),
    function("bcrypt", 1, 2, |call| {
        let cost = if call.values.len() > 1 { call.whole(1)? } else { 10 };
        let cost = u32::try_from(cost).map_err(|_| not(1, "a cost between 4 and 31"))?;
        let hash = bcrypt::hash_with_salt(call.text(0)?, cost, call.outside.chance());
        hash.map(|hash| Value::text(hash.format_for_version(bcrypt::Version::TwoA)))
            .map_err(|error| error.to_string())
    }),
    function("byteslen", 1, 1, |_| Err(NO_BUFFER.to_owned())),
    function("bytesslice", 3, 3, |_| Err(NO_BUFFER.to_owned())),
    function("csvdecode", 1, 1, csvdecode),
    function("jsondecode", 1, 1, |call| parse_as(&call.text(0)?, &Kind::Any)),
    function("jsonencode", 1, 1, |call| Ok(Value::text(encode(&call.values[0])))),
    function("md5", 1, 1, |call| Ok(Value::text(hex::encode(md5::Md5::digest(call.text(0)?))))),
    function("rsadecrypt", 2, 2, |_| {
        Err("it is not supported: a private key has no place in a build file; pass what is secret by `secret`".to_owned())
    }),
    function("sha1", 1, 1, |call| Ok(Value::text(hex::encode(sha1::Sha1::digest(call.text(0)?))))),
    function("sha256", 1, 1, |call| Ok(Value::text(hex::encode(sha2::Sha256::digest(call.text(0)?))))),
    function("sha512", 1, 1, |call| Ok(Value::text(hex::encode(sha2::Sha512::digest(call.text(0)?))))),
    function("urlencode", 1, 1, |call| Ok(Value::text(query(&call.text(0)?)))),
    function("uuidv4", 0, 0, |call| {
        Ok(Value::text(uuid::Builder::from_random_bytes(call.outside.chance()).into_uuid().to_string()))
    }),
    function("uuidv5", 2, 2, |call| {
        let namespace = call.text(0)?;
        let namespace = match namespace.as_str() {
            "dns" => uuid::Uuid::NAMESPACE_DNS,
            "url" => uuid::Uuid::NAMESPACE_URL,
            "oid" => uuid::Uuid::NAMESPACE_OID,
            "x500" => uuid::Uuid::NAMESPACE_X500,
            other => other
                .parse()
                .map_err(|_| format!("there is no namespace `{other}`: dns, url, oid, x500 or a UUID"))?,
        };
        Ok(Value::text(uuid::Uuid::new_v5(&namespace, call.text(1)?.as_bytes()).to_string()))
    }),
];

const NO_BUFFER: &str =
    "it takes a buffer of bytes, and nothing in a bake file makes one; `strlen` and `substr` take texts";

/// Writes a text as part of a query: a space is a plus.
fn query(text: &str) -> String {
    let mut made = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => made.push('+'),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                made.push(char::from(byte));
            }
            byte => made.push_str(&format!("%{byte:02X}")),
        }
    }
    made
}

/// Reads a table whose first row names its columns.
fn csvdecode(call: &Call<'_>) -> Result<Value, String> {
    let text = call.text(0)?;
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let names: Vec<String> =
        reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect();
    if names.iter().all(String::is_empty) {
        return Err("there is no row with the names of the columns".to_owned());
    }
    let kind = Kind::Object(names.iter().map(|name| (name.clone(), (Kind::Text, false))).collect());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let row: BTreeMap<_, _> = names.iter().cloned().zip(record.iter().map(Value::text)).collect();
        rows.push(Value::Object(row));
    }
    Ok(Value::List(kind, rows))
}
