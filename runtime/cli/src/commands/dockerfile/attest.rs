//! What is said of an image beside it: `--attest`, `--provenance`, `--sbom`.
//!
//! In: those flags, as buildx has them. Out: [`Wishes`]; and once the Dockerfile is planned, for each image an [`rb_api::Attest`] and
//! the step that scans it ([`Ready`]). Nothing is said of an image unless somebody asks: a build without these flags gives one
//! manifest, and the same digest each time.
//!
//! | module | idea |
//! | --- | --- |
//! | `heard` | what the frontend asks for while it plans |
//! | `scanner` | the scanner as a step over the result |
//!
//! Source: buildx build reference, "--attest"; BuildKit's `docs/attestations`.

mod heard;
mod scanner;

use std::collections::BTreeMap;

use rb_api::{AskedBuild, Attest, Detail, Job, Provenance, ProvenanceVersion, Scan};
use rb_diag::{SourceMap, nearest};
use rb_dockerfile::PlannedImage;
use rb_llb::State;
use rb_oci::Platform;

use super::order::Order;
use crate::args::DockerfileArgs;
use crate::commands::elsewhere;
use crate::commands::exports::Wanted;
use crate::output_spec::split_csv;
use crate::report::Failure;
pub(super) use heard::{Heard, Listening};
use scanner::Scanner;

/// Scanner that is run where none is named, as BuildKit has it.
const SCANNER: &str = "docker/buildkit-syft-scanner:stable-1";
/// What a provenance file is called.
const FILE: &str = "provenance.json";
/// The frontend, as BuildKit calls it.
const FRONTEND: &str = "dockerfile.v0";
/// Arguments that say the same as `--attest`.
const ARGUMENT: &str = "BUILDKIT_ATTEST_";

/// What is to be said.
#[derive(Default)]
pub(super) struct Wishes {
    provenance: Option<Provenance>,
    sbom: Option<Sbom>,
    pub(super) heard: Heard,
}

/// A scan.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sbom {
    /// Image of the scanner.
    generator: String,
    /// What it is told, by name.
    parameters: BTreeMap<String, String>,
}

impl Wishes {
    /// Reads the flags, and arguments of the build that say the same; of each kind the last one counts.
    pub(super) fn read(
        args: &DockerfileArgs,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let mut wishes = Self::default();
        for (name, value) in build_args {
            if let Some(kind) = name.strip_prefix(ARGUMENT) {
                wishes.put(&format!("--build-arg {name}"), &kind.to_lowercase(), split_csv(value))?;
            }
        }
        for text in &args.attest {
            let what = format!("--attest {text}");
            let mut fields = split_csv(text);
            let at = fields.iter().position(|field| field.trim_start().starts_with("type="));
            let Some(at) = at else {
                let help = "write `type=provenance` or `type=sbom`".to_owned();
                return Err(Failure::input(format!("{what} has no type"), Some(help)));
            };
            let kind = fields.remove(at).trim().trim_start_matches("type=").to_owned();
            wishes.put(&what, &kind, fields)?;
        }
        for (kind, text) in [("provenance", &args.provenance), ("sbom", &args.sbom)] {
            let Some(text) = text else { continue };
            let fields = match rb_bake::truth(text) {
                Some(says) => vec![format!("disabled={}", !says)],
                None => split_csv(text),
            };
            wishes.put(&format!("--{kind}={text}"), kind, fields)?;
        }
        Ok(wishes)
    }

    /// Tells whether it is said where the image comes from.
    pub(super) fn has_provenance(&self) -> bool {
        self.provenance.is_some()
    }

    fn put(&mut self, what: &str, kind: &str, fields: Vec<String>) -> Result<(), Failure> {
        let mut settings = BTreeMap::new();
        for field in fields.iter().filter(|field| !field.is_empty()) {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| Failure::input(format!("{what}: `{field}` is not key=value"), None))?;
            settings.insert(key.trim().to_owned(), value.to_owned());
        }
        let is_disabled = switch(what, &mut settings, "disabled")?;
        match kind {
            "provenance" if is_disabled => self.provenance = None,
            "sbom" if is_disabled => self.sbom = None,
            "provenance" => self.provenance = Some(provenance(what, settings)?),
            "sbom" => self.sbom = Some(sbom(what, settings)?),
            other => {
                let help = "there are `provenance` and `sbom`".to_owned();
                return Err(Failure::input(format!("{what}: the type `{other}` is unknown"), Some(help)));
            }
        }
        Ok(())
    }

    /// Makes ready what is said of the images of an order, once they are planned. A scanner's image is looked up on the job.
    pub(super) async fn ready(
        order: &Order,
        job: &dyn Job,
        images: &[PlannedImage],
        sources: &SourceMap,
    ) -> Result<Ready, Failure> {
        let Self { provenance, sbom, heard } = &order.attests;
        if sbom.is_some() {
            elsewhere::only_here(&order.settings, "what a scanner finds in an image (--sbom)")?;
        }
        let scanner = match sbom {
            None => None,
            Some(sbom) => Some(Scanner::find(job, &sbom.generator, &sbom.parameters).await?),
        };
        let Some(wish) = provenance else { return Ok(Ready { provenance: None, scanner }) };
        let mut args = order.options.clone();
        args.entry("filename".to_owned()).or_insert_with(|| "Dockerfile".to_owned());
        let (read, images_asked) = heard.said(sources)?;
        let asked = AskedBuild {
            frontend: FRONTEND.to_owned(),
            args,
            read,
            images: images_asked,
            platforms: images.iter().map(|image| image.platform.clone()).collect(),
            platform: None,
            folders: order.lent.renamed.clone(),
        };
        Ok(Ready { provenance: Some(Provenance { asked, ..wish.clone() }), scanner })
    }
}

/// What is said of the images of one build.
#[derive(Default)]
pub(super) struct Ready {
    provenance: Option<Provenance>,
    scanner: Option<Scanner>,
}

/// A result of which something may be said.
pub(super) struct About<'a> {
    pub(super) label: &'a str,
    pub(super) state: &'a State,
    pub(super) platform: &'a Platform,
    /// What a scanner looks at beside it.
    pub(super) scans: &'a BTreeMap<String, State>,
}

impl Ready {
    /// Adds a result to what is wanted, with what is said of it, and returns its root.
    pub(super) fn root(
        &self,
        wanted: &mut Wanted,
        about: &About<'_>,
        sources: &SourceMap,
    ) -> Result<usize, Failure> {
        let About { label, state, platform, scans } = about;
        if self.provenance.is_none() && self.scanner.is_none() {
            return Ok(wanted.root(label, state, sources)?);
        }
        // What is said is of this build alone, however many have the same result.
        let root = wanted.definition(label, state.marshal(sources)?);
        let scan = match &self.scanner {
            None => None,
            Some(scanner) => {
                let found = scanner.over(state, scans, platform);
                Some(Scan { root: wanted.root(&format!("{label} (sbom)"), &found, sources)? })
            }
        };
        let provenance = self.provenance.clone().map(|mut provenance| {
            provenance.asked.platform = Some((*platform).clone());
            provenance
        });
        wanted.attest(root, Attest { provenance, scan });
        Ok(root)
    }
}

fn provenance(what: &str, mut settings: BTreeMap<String, String>) -> Result<Provenance, Failure> {
    let expected = |key: &str, value: &str, words: &str| {
        Failure::input(format!("{what}: {key} is {words}, not `{value}`"), None)
    };
    let detail = match settings.remove("mode").as_deref() {
        None | Some("max" | "full") => Detail::Max,
        Some("min") => Detail::Min,
        Some(other) => return Err(expected("mode", other, "min or max")),
    };
    let version = match settings.remove("version").as_deref() {
        None | Some("v1") => ProvenanceVersion::V1,
        Some("v0.2") => ProvenanceVersion::V02,
        Some(other) => return Err(expected("version", other, "v0.2 or v1")),
    };
    let file_name = settings.remove("filename").unwrap_or_else(|| FILE.to_owned());
    if file_name.is_empty() || file_name.contains('/') || [".", ".."].contains(&file_name.as_str()) {
        return Err(expected("filename", &file_name, "the name of a file"));
    }
    let builder_id = settings.remove("builder-id").unwrap_or_default();
    let is_reproducible = switch(what, &mut settings, "reproducible")?;
    let inline_only = switch(what, &mut settings, "inline-only")?;
    let complete_materials = switch(what, &mut settings, "complete-materials")?;
    if switch(what, &mut settings, "capture-usage")? {
        let message = format!("{what}: this version of rb does not tell what steps took of the machine");
        return Err(Failure::input(message, Some("leave `capture-usage` out".to_owned())));
    }
    if let Some(key) = settings.keys().next() {
        let known = [
            "mode",
            "version",
            "builder-id",
            "filename",
            "reproducible",
            "inline-only",
            "complete-materials",
        ];
        let near = nearest(key, known).map(|near| format!("did you mean `{near}`?"));
        return Err(Failure::input(format!("{what}: provenance has no `{key}`"), near));
    }
    Ok(Provenance {
        version,
        detail,
        builder_id,
        is_reproducible,
        inline_only,
        file_name,
        complete_materials,
        asked: AskedBuild::default(),
    })
}

fn sbom(what: &str, mut settings: BTreeMap<String, String>) -> Result<Sbom, Failure> {
    let generator = settings.remove("generator").unwrap_or_else(|| SCANNER.to_owned());
    if let Err(error) = generator.parse::<rb_oci::Reference>() {
        return Err(Failure::input(format!("{what}: {error}"), None));
    }
    Ok(Sbom { generator, parameters: settings })
}

/// Takes a setting that is true or false.
fn switch(what: &str, settings: &mut BTreeMap<String, String>, key: &str) -> Result<bool, Failure> {
    let Some(value) = settings.remove(key) else { return Ok(false) };
    rb_bake::truth(&value)
        .ok_or_else(|| Failure::input(format!("{what}: {key} is true or false, not `{value}`"), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str], build_args: &[(&str, &str)]) -> Result<Wishes, String> {
        let args = DockerfileArgs::parse(words)?;
        let build_args = build_args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Wishes::read(&args, &build_args.collect()).map_err(|failure| failure.message())
    }

    #[test]
    fn nothing_is_said_unless_somebody_asks() {
        for words in [
            &["."][..],
            &["--provenance=false", "."],
            &["--attest", "type=provenance,mode=max", "--provenance=false", "."],
            &["--attest=type=sbom,disabled=true", "."],
        ] {
            let Wishes { provenance, sbom, .. } = read(words, &[]).expect("reads");
            assert!(provenance.is_none() && sbom.is_none(), "{words:?}");
        }
    }

    #[test]
    fn flags_are_buildxs() {
        let wishes = read(&["--provenance=true", "--sbom=true", "."], &[]).expect("reads");
        let provenance = wishes.provenance.expect("is wanted");
        assert_eq!((provenance.detail, provenance.version), (Detail::Max, ProvenanceVersion::V1));
        assert_eq!(wishes.sbom.expect("is wanted").generator, SCANNER);
        let words = [
            "--attest=type=provenance,mode=min,version=v0.2,builder-id=https://ci,inline-only=true",
            "--attest",
            "type=sbom,generator=me/scan:1,LEVEL=2",
            ".",
        ];
        let wishes = read(&words, &[]).expect("reads");
        let provenance = wishes.provenance.expect("is wanted");
        assert_eq!((provenance.detail, provenance.version), (Detail::Min, ProvenanceVersion::V02));
        assert!(provenance.inline_only && provenance.builder_id == "https://ci");
        let sbom = wishes.sbom.expect("is wanted");
        assert_eq!((sbom.generator.as_str(), sbom.parameters["LEVEL"].as_str()), ("me/scan:1", "2"));
        let wishes = read(&["."], &[("BUILDKIT_ATTEST_PROVENANCE", "mode=min")]).expect("reads");
        assert_eq!(wishes.provenance.expect("is wanted").detail, Detail::Min);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (word, said) in [
            ("--provenance=mode=middle", "min or max"),
            ("--provenance=version=v2", "v0.2 or v1"),
            ("--provenance=filename=a/b", "the name of a file"),
            ("--provenance=moed=min", "no `moed`"),
            ("--provenance=reproducible=maybe", "true or false"),
            ("--provenance=yes", "key=value"),
            ("--sbom=generator=A B", "not the name of an image"),
            ("--attest=type=vuln", "`vuln` is unknown"),
            ("--attest=mode=min", "no type"),
        ] {
            let message = read(&[word, "."], &[]).err().expect(word);
            assert!(message.contains(said), "{word}: {message}");
        }
    }
}
