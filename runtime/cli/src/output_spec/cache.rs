//! Values of `--cache-from` and `--cache-to`: caches elsewhere, as buildx has them.
//!
//! In: `type=registry,ref=NAME`, `type=local,src=DIR`, `type=inline`, `type=gha|s3|azblob` (`bucket`), or a name alone, which is one of
//! a registry; and the variables that stand for fields. Out: places, or an error that names the field.
//! **Invariant:** what is secret in a value is in no error, and not in what [`without_secrets`] leaves of it.

pub(crate) mod aws;
mod bucket;

use std::collections::BTreeMap;
use std::path::Path;

use rb_api::{CacheExport, CacheExtent, CachePlace, CacheTarget};
use rb_diag::nearest;
use rb_oci::{Digest, Reference};

use super::fields::{Fields, value_error};
use super::{OutputSpecError, image, split_csv};
use crate::commands::dockerfile::words;

/// Types that are known.
pub(crate) const KINDS: [&str; 6] = ["registry", "local", "inline", "gha", "s3", "azblob"];

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CacheSpecError {
    #[error(transparent)]
    Fields(#[from] OutputSpecError),
    #[error(
        "it is empty: expected type=registry,ref=NAME, type=local,src=DIR (dest=DIR where it is written), or the name of an image"
    )]
    Empty,
    #[error(
        "type `{kind}` is unknown: expected registry, local, inline, gha, s3 or azblob{}",
        super::near(nearest)
    )]
    Type { kind: String, nearest: Option<&'static str> },
    #[error("type=s3 finds no keys: {profile}")]
    Profile { profile: String },
    #[error("type={kind} needs {key}=…, or {variable} in the environment")]
    Unsaid { kind: &'static str, key: &'static str, variable: &'static str },
    #[error(
        "type={kind}: {variable} is for the service's own addresses, or the one that the environment names: for another, type {key}="
    )]
    Elsewhere { kind: &'static str, key: &'static str, variable: &'static str },
    #[error(
        "type=gha speaks version 2 of the service alone, and {said} is version 1, which GitHub has switched off"
    )]
    ActionsVersion { said: &'static str },
    #[error(
        "type=azblob proves who asks by secret_access_key=…, AZURE_STORAGE_KEY, or a signature (SAS) in the query of account_url"
    )]
    AzureKey,
    #[error("ref={name}: {reason}")]
    Reference { name: String, reason: String },
    #[error("type=inline says where a cache is written: it is read as type=registry,ref=IMAGE")]
    Inline,
    #[error("type=inline holds the steps of the image alone: leave mode=max out, or name a place of its own")]
    InlineMax,
}

impl CacheSpecError {
    /// Tells whether what lacks is what GitHub gives to its jobs.
    pub(crate) fn is_outside_of_actions(&self) -> bool {
        matches!(self, Self::Unsaid { kind: "gha", .. })
    }
}

/// A value: its type and fields, and what is to be told of it.
fn fields(text: &str) -> Result<Fields, CacheSpecError> {
    let words = split_csv(text);
    let mut map = BTreeMap::new();
    if let [only] = words.as_slice()
        && !only.contains('=')
    {
        if only.trim().is_empty() {
            return Err(CacheSpecError::Empty);
        }
        map.insert("ref".to_owned(), only.trim().to_owned());
        return Ok(Fields::of("registry".to_owned(), map));
    }
    for field in words {
        let (key, value) =
            field.split_once('=').ok_or_else(|| OutputSpecError::Field { field: field.clone() })?;
        let key = key.trim().to_lowercase();
        if map.insert(key.clone(), value.to_owned()).is_some() {
            return Err(OutputSpecError::Twice { key }.into());
        }
    }
    let kind = map.remove("type").unwrap_or_else(|| "registry".to_owned());
    match kind.as_str() {
        known if KINDS.contains(&known) => Ok(Fields::of(kind, map)),
        _ => {
            let nearest = nearest(&kind, KINDS);
            Err(CacheSpecError::Type { kind, nearest })
        }
    }
}

/// Looks a variable of the environment up.
pub(crate) type Variables<'a> = &'a dyn Fn(&'static str) -> Option<String>;

/// Returns a value without what is secret in it: such fields are left out, and so is the query of a URL.
pub(crate) fn without_secrets(text: &str) -> String {
    let kept = split_csv(text).into_iter().filter_map(|field| {
        let key = field.split('=').next().unwrap_or_default().trim().to_lowercase();
        // By what it sounds like, since one that is misspelt is no less secret.
        if rb_llb::is_secret(&key) {
            return None;
        }
        let is_url = key == "account_url" || key == "endpoint_url" || key.starts_with("url");
        let shown =
            if is_url { field.split(['?', '#']).next().unwrap_or_default().to_owned() } else { field };
        let shown = if is_url { words::without_password(&shown) } else { shown };
        Some(if shown.contains([',', '"']) { format!("\"{}\"", shown.replace('"', "\"\"")) } else { shown })
    });
    kept.collect::<Vec<_>>().join(",")
}

/// Tells whether a value wants a registry to be spoken to without proof.
pub(crate) fn is_insecure(text: &str) -> bool {
    let wants = |field: String| {
        let said = field
            .split_once('=')
            .is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case("registry.insecure"));
        said && !field.trim_end().ends_with("=false")
    };
    split_csv(text).into_iter().any(wants)
}

fn registry(fields: &mut Fields) -> Result<CachePlace, CacheSpecError> {
    let name = fields.take("ref").ok_or_else(|| fields.missing("ref"))?;
    let reference: Result<Reference, _> = name.parse();
    // How a host is spoken to stands in the settings.
    fields.flag("registry.insecure")?;
    match reference {
        Ok(reference) => Ok(CachePlace::Registry(reference)),
        Err(error) => Err(CacheSpecError::Reference { name, reason: error.reason().to_owned() }),
    }
}

fn folder(
    fields: &mut Fields,
    key: &'static str,
    cwd: &Path,
    digest: Option<Digest>,
) -> Result<CachePlace, CacheSpecError> {
    let path = fields.take(key).filter(|path| !path.is_empty()).ok_or_else(|| fields.missing(key))?;
    let tag = fields.take("tag").filter(|tag| !tag.is_empty());
    let tag = tag.unwrap_or_else(|| CachePlace::TAG.to_owned());
    Ok(CachePlace::Folder { path: cwd.join(path), tag, digest })
}

/// Reads a value of `--cache-from`.
pub(crate) fn read_from(
    text: &str,
    cwd: &Path,
    variables: Variables<'_>,
) -> Result<CachePlace, CacheSpecError> {
    let mut fields = fields(text)?;
    // Some write one value for both.
    if matches!(fields.kind(), "gha" | "s3" | "azblob") {
        fields.take("mode");
        fields.take("ignore-error");
    }
    let place = match fields.kind() {
        "inline" => return Err(CacheSpecError::Inline),
        "local" => {
            let wrong = |text: String| value_error("digest", text, "sha256:…");
            let digest =
                fields.take("digest").map(|text| text.parse().map_err(|_| wrong(text))).transpose()?;
            folder(&mut fields, "src", cwd, digest)?
        }
        "registry" => registry(&mut fields)?,
        _ => bucket::read(&mut fields, variables)?,
    };
    fields.end()?;
    Ok(place)
}

/// Reads a value of `--cache-to`. Its roots are not known yet. Returns what is to be told of it, too.
pub(crate) fn read_to(
    text: &str,
    cwd: &Path,
    variables: Variables<'_>,
) -> Result<(CacheExport, Vec<String>), CacheSpecError> {
    let mut fields = fields(text)?;
    let extent = fields.choice("mode", &[("min", CacheExtent::Min), ("max", CacheExtent::Max)])?;
    let target = match fields.kind() {
        "inline" if extent == Some(CacheExtent::Max) => return Err(CacheSpecError::InlineMax),
        "inline" => CacheTarget::Inline,
        "local" => CacheTarget::Place(folder(&mut fields, "dest", cwd, None)?),
        "registry" => CacheTarget::Place(registry(&mut fields)?),
        _ => CacheTarget::Place(bucket::read(&mut fields, variables)?),
    };
    let mut told = Vec::new();
    for key in ["image-manifest", "oci-mediatypes"] {
        if fields.flag(key)? == Some(false) {
            told.push(format!(
                "--cache-to: {key}=false changes nothing: a cache is a manifest with OCI's media types"
            ));
        }
    }
    let is_packed_so = fields.has("compression") || fields.has("compression-level");
    let compression = image::compression(&mut fields)?;
    let export = CacheExport {
        roots: Vec::new(),
        target,
        extent: extent.unwrap_or_default(),
        compression: is_packed_so.then_some(compression),
        force_compression: fields.flag("force-compression")?.unwrap_or(false),
        ignore_error: fields.flag("ignore-error")?.unwrap_or(false),
        reset: fields.flag("reset")?.unwrap_or(false),
    };
    fields.end()?;
    Ok((export, told))
}

#[cfg(test)]
mod tests {
    use rb_oci::Compression;

    use super::*;

    fn from(text: &str) -> Result<String, String> {
        read_from(text, Path::new("/w"), &|_| None)
            .map(|place| place.to_string())
            .map_err(|error| error.to_string())
    }

    fn to(text: &str) -> Result<(CacheExport, Vec<String>), String> {
        read_to(text, Path::new("/w"), &|_| None).map_err(|error| error.to_string())
    }

    #[test]
    fn places_are_read() {
        for (text, place) in [
            ("me/app", "me/app:latest"),
            ("host.example:5000/app:cache", "host.example:5000/app:cache"),
            ("type=registry,ref=me/app:cache", "me/app:cache"),
            ("ref=me/app:cache", "me/app:cache"),
            ("type=local,src=cache", "/w/cache"),
            ("type=local,src=/c,tag=main", "/c:main"),
            ("\"type=local\",\"src=/a,b\"", "/a,b"),
        ] {
            assert_eq!(from(text).as_deref(), Ok(place), "{text}");
        }
        let digest = Digest::of("x");
        let found = read_from(&format!("type=local,src=/c,digest={digest}"), Path::new("/w"), &|_| None);
        assert!(matches!(found, Ok(CachePlace::Folder { digest: Some(found), .. }) if found == digest));
    }

    #[test]
    fn what_is_written_is_read() {
        let (export, told) =
            to("type=registry,ref=a/b,mode=max,ignore-error=true,oci-mediatypes=true").expect("reads");
        assert_eq!((export.extent, export.ignore_error, export.compression), (CacheExtent::Max, true, None));
        assert!(told.is_empty());
        let (export, told) =
            to("type=local,dest=c,compression=zstd,force-compression=true,image-manifest=false,reset=true")
                .expect("reads");
        assert_eq!(export.compression, Some(Compression::Zstd { level: 3 }));
        assert!(export.force_compression && export.reset && told.len() == 1);
        assert_eq!(to("type=inline").expect("reads").0.target, CacheTarget::Inline);
        assert_eq!(to("a/b:c").expect("reads").0.extent, CacheExtent::Min);
    }

    #[test]
    fn what_is_wrong_is_told_by_name() {
        for (text, said) in [
            ("", "it is empty"),
            ("type=regisrty,ref=a", "did you mean `registry`?"),
            ("type=registry", "type=registry needs ref=…"),
            ("type=local,dest=c", "type=local needs src=…"),
            ("type=local,src=c,mode=max", "type=local has no `mode`"),
            ("type=local,src=c,digest=1", "`digest=1`: expected sha256:…"),
            ("ref=UPPER CASE", "ref=UPPER CASE: "),
            ("type=inline", "type=inline says where a cache is written"),
        ] {
            let error = from(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        for (text, said) in [
            ("type=local,src=c", "type=local needs dest=…"),
            ("type=inline,mode=max", "leave mode=max out"),
            ("type=registry,ref=a,mode=most", "`mode=most`: expected min or max"),
            ("type=registry,ref=a,compression=estargz", "estargz"),
            ("type=registry,ref=a,ref=b", "`ref` is given twice"),
        ] {
            let error = to(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
