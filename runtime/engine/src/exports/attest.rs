//! Attestations: what is said of a root, wherever it is written.
//!
//! In: the wishes of a request ([`rb_api::Attest`]), its graphs, and what the job saw of its sources. Out: statements about the
//! manifest of an image, which stand behind it in an index, or about files, which lie beside them.
//!
//! | module | idea |
//! | --- | --- |
//! | `seen` | what sources stood for, as the ops of the job tell it |
//! | `capture` | what a graph takes from outside: images, commits, files of the web, folders, secrets |
//! | `steps` | a graph as numbered steps |
//! | `predicate` | all that in SLSA's words |
//! | `purl` | names of images as package URLs |
//! | `scan` | statements that a scanner wrote |
//! | `strike` | what nobody is to read, struck out |
//!
//! **Invariant:** no value of a secret that the client lends, of a variable whose name says that it is secret, and no password of an
//! address is in a statement. Source: BuildKit's `docs/attestations`. Where this differs by choice:
//!
//! | what | here | BuildKit, buildx |
//! | --- | --- | --- |
//! | nobody asks for anything | nothing is said, so the same build has the same digest | buildx adds `mode=min` |
//! | values of variables that are called as secrets are, and of secrets that are lent | `***`, and the request is not complete | as they are |
//! | statements about an image without a name | about `_`, with its digest | about nobody |
//! | times | whole seconds | nanoseconds |
//! | an SBOM | as its scanner wrote it | names the layer of each file, and BuildKit as a tool |
//! | `type=docker` | has no attestations, which is told | an error where an index is needed |
//! | a file of the result that is called as a statement | an error | hides the statement, or is hidden |
//! | `capture-usage`, `dockerfileVersion`, `compatibilityVersion`, `request.root`, how the Dockerfile was read | none | there are |
//!
//! All else is equal to what BuildKit 0.31 said of one Dockerfile, which `tests/cli/attestations/buildkit.json` has.

mod capture;
mod predicate;
mod purl;
mod scan;
mod seen;
mod steps;
mod strike;

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_api::{Attached, Attest, Detail, Export, ImageFormat, ImageName, Provenance, Root as Asked};
use rb_exporters::{Statement, Subject};
use rb_oci::{Descriptor, Digest, ImageManifest, Platform};
use rb_session::Session;
use rb_snapshot::View;
use rb_sources::layout::digest_of;

use self::capture::Captured;
use self::predicate::{Moment, Told};
use self::steps::Steps;
use self::strike::Strike;
use crate::error::EngineError;
use crate::exports::Need;
use crate::parts::Parts;
use crate::value::Root;

pub(crate) use seen::Seen;

/// How many layers each output of a root's chain of steps has, where that is known, from the last one down.
pub(crate) type Depths = Vec<((Digest, u32), Option<usize>)>;

/// What is said of the roots of one request.
#[derive(Default)]
pub(crate) struct Attests {
    of: BTreeMap<usize, Of>,
    /// Names of the image of each export.
    names: Vec<Vec<String>>,
    moment: Moment,
}

/// What is said of one root.
struct Of {
    provenance: Option<Draft>,
    scan: Option<usize>,
    strike: Strike,
}

/// A statement of where a root came from, as far as it is known before the root is written.
struct Draft {
    wish: Provenance,
    captured: Captured,
    steps: Option<Steps>,
    depths: Depths,
}

/// A statement, and the file that it is in beside others.
pub(super) struct Named {
    pub(super) file: String,
    pub(super) statement: Statement,
}

impl Attests {
    /// Drafts what a request wants said; `depths` are those of the roots in order, empty where nobody asked.
    ///
    /// `Image` means that not every source can be told, where that was asked for.
    pub(crate) fn draft(
        wishes: &BTreeMap<usize, Attest>,
        roots: &[Asked],
        names: Vec<Vec<String>>,
        depths: &mut BTreeMap<usize, Depths>,
        seen: &Seen,
        session: &dyn Session,
    ) -> Result<Self, EngineError> {
        let mut of = BTreeMap::new();
        for (index, wish) in wishes {
            let root = roots.get(*index).ok_or_else(|| EngineError::Definition {
                reason: format!("something is to be said of root {index}, which is not there"),
            })?;
            let mut strike = Strike::default();
            let provenance = match &wish.provenance {
                None => None,
                Some(wish) => {
                    let captured = Captured::of(&root.definition, &wish.asked, seen)?;
                    if wish.complete_materials && !captured.is_complete() {
                        return Err(incomplete(&captured));
                    }
                    captured.secrets().for_each(|id| strike.add(session.secret(id)));
                    let is_full = wish.detail == Detail::Max;
                    let file_name = wish.asked.args.get("filename").map(String::as_str);
                    let steps = || Steps::of(&root.definition, file_name, &strike);
                    let steps = is_full.then(steps).transpose()?;
                    let depths = depths.remove(index).unwrap_or_default();
                    Some(Draft { wish: wish.clone(), captured, steps, depths })
                }
            };
            let scan = wish.scan.map(|scan| scan.root);
            of.insert(*index, Of { provenance, scan, strike });
        }
        Ok(Self { of, names, moment: seen.moment() })
    }

    /// Says what is known of a root whose manifest is among the blobs, if anything. Returns the descriptor for its index.
    pub(super) fn about_image(
        &self,
        parts: &Parts,
        roots: &[Root],
        (export, index): (usize, usize),
        (platform, manifest): (&Platform, &Descriptor),
        format: &ImageFormat,
    ) -> Result<Option<Descriptor>, EngineError> {
        let (Some(of), false) = (self.of.get(&index), format.attached == Attached::Nowhere) else {
            return Ok(None);
        };
        let digest = digest_of(manifest)?;
        let names = self.names.get(export).map(Vec::as_slice).unwrap_or_default();
        let name = |name: &String| Ok(Subject::new(purl::image(name, Some(platform))?, &digest));
        let mut subjects: Vec<Subject> = names.iter().map(name).collect::<Result<_, EngineError>>()?;
        if subjects.is_empty() {
            subjects.push(Subject::new("_", &digest));
        }
        let layers = self::layers(parts, &digest)?;
        let told = Told { subjects, layers: Some(&layers) };
        let statements = self.statements(parts, roots, of, &told)?;
        let statements: Vec<Statement> = statements.into_iter().map(|named| named.statement).collect();
        let as_artifact = format.attached == Attached::Artifact;
        Ok(match statements.is_empty() {
            true => None,
            false => Some(rb_exporters::attach(&parts.store, manifest, &statements, as_artifact)?),
        })
    }

    /// Says what is known of files: a statement for each file that is to lie beside them.
    pub(super) fn about_files(
        &self,
        parts: &Parts,
        roots: &[Root],
        index: usize,
        view: &View,
    ) -> Result<Vec<Named>, EngineError> {
        let Some(of) = self.of.get(&index) else { return Ok(Vec::new()) };
        let is_beside = |draft: &Draft| !draft.wish.inline_only;
        if of.scan.is_none() && !of.provenance.as_ref().is_some_and(is_beside) {
            return Ok(Vec::new());
        }
        let told = Told { subjects: rb_exporters::files_of(view)?, layers: None };
        let mut statements = self.statements(parts, roots, of, &told)?;
        if !of.provenance.as_ref().is_some_and(is_beside) && of.provenance.is_some() {
            // It is the last one.
            statements.pop();
        }
        for (at, named) in statements.iter().enumerate() {
            let is_twice = statements[..at].iter().any(|before| before.file == named.file);
            if is_twice || view.lookup(format!("/{}", named.file), rb_snapshot::Follow::No)?.is_some() {
                return Err(EngineError::Image {
                    what: format!("the attestation `{}`", named.file),
                    reason: "would take the place of a file of that name".to_owned(),
                    help: Some("`filename=NAME` gives provenance another name".to_owned()),
                });
            }
        }
        Ok(statements)
    }

    fn statements(
        &self,
        parts: &Parts,
        roots: &[Root],
        of: &Of,
        told: &Told<'_>,
    ) -> Result<Vec<Named>, EngineError> {
        let mut statements = match of.scan {
            None => Vec::new(),
            Some(index) => {
                let view = super::files(parts, roots, index)?;
                scan::statements(&view, &told.subjects)?
            }
        };
        if let Some(draft) = &of.provenance {
            let mut predicate = predicate::of(draft, &self.moment.until(parts.store.now_unix()), told);
            of.strike.strike(&mut predicate);
            statements.push(Named {
                file: draft.wish.file_name.clone(),
                statement: Statement {
                    predicate_type: predicate::kind(draft.wish.version).to_owned(),
                    subjects: told.subjects.clone(),
                    predicate,
                },
            });
        }
        Ok(statements)
    }

    /// Tells whether something is said of an image of these.
    pub(super) fn has(&self, mut roots: impl Iterator<Item = usize>) -> bool {
        roots.any(|root| self.of.contains_key(&root))
    }
}

/// Returns what a root has to be for what is said of others.
pub(crate) fn need(wishes: &BTreeMap<usize, Attest>, index: usize) -> Need {
    let is_read = wishes.values().any(|wish| wish.scan.is_some_and(|scan| scan.root == index));
    if is_read { Need::Tree } else { Need::Nothing }
}

/// Returns the names that the image of each export gets.
pub(crate) fn names(exports: &[Export]) -> Vec<Vec<String>> {
    let names = |export: &Export| match export {
        Export::Image { names, .. } => {
            let text = |name: &ImageName| match name {
                ImageName::Plain(name) | ImageName::Digest(name) => name.clone(),
            };
            names.iter().map(text).collect()
        }
        Export::OciLayout { names, .. } => names.clone(),
        Export::Local { .. } | Export::Tar { .. } => Vec::new(),
    };
    exports.iter().map(names).collect()
}

fn layers(parts: &Parts, manifest: &Digest) -> Result<Vec<Descriptor>, EngineError> {
    let bytes = parts.store.read_blob(manifest, rb_oci::index::JSON_LIMIT_BYTES)?;
    let parsed: ImageManifest = serde_json::from_slice(&bytes)
        .map_err(|source| rb_exporters::ExportError::Json { what: format!("manifest {manifest}"), source })?;
    Ok(parsed.layers().clone())
}

fn incomplete(captured: &Captured) -> EngineError {
    EngineError::Image {
        what: "provenance".to_owned(),
        reason: format!(
            "is to tell all materials, and these have no digest for others: {}",
            captured.untold().join(", ")
        ),
        help: Some("build from a git repository, or leave `complete-materials` out".to_owned()),
    }
}

/// Hears what a job is told, and passes it on.
pub(crate) fn listen(seen: &Arc<Seen>, events: rb_api::EventSink) -> rb_api::EventSink {
    let seen = Arc::clone(seen);
    Arc::new(move |event| {
        seen.note(&event);
        events(event);
    })
}
