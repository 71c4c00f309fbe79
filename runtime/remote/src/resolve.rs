//! What names stand for: images as the daemon's registries have them, layouts of this machine, repositories.

use std::path::Path;
use std::sync::Arc;

use rb_api::{PullPolicy, SolveError};
use rb_diag::{ErrorKind, chain};
use rb_frontend::{GitFacts, ImageLocation, ImageRequest, RepositoryRequest, ResolvedImage, WorldError};
use rb_oci::{Digest, Platform, Reference};
use rb_session::Session;
use rb_sources::layout::{self, Wanted};
use rb_wire::control;
use rb_wire::gateway::{ResolveGitRequest, ResolveSourceMetaRequest, ResolveSourceMetaResponse, Source};
use tonic::Status;

use crate::build::Build;
use crate::error::{classify, said};
use crate::session::Images;
use crate::{ImageStore, KnownImage};

/// Name of every image that comes from a layout; which one it is, its digest says.
pub(crate) const LAYOUT_NAME: &str = "rb/layout";
/// Digits of a commit, by SHA-1 and by SHA-256.
const HASHES: [usize; 2] = [40, 64];
/// Digits of a commit's short form.
const SHORT: usize = 8;

fn failed(what: &str, status: &Status) -> WorldError {
    let source = rb_llb::Op::Source(rb_llb::SourceOp::default());
    let (kind, message) = classify(Some(&source), &said(status));
    WorldError::Failed { kind, message: format!("{what}: {message}") }
}

/// Tells whether a registry has said that it does not have what was asked for, and not that it does not answer or lets nobody in.
fn is_absent(error: &WorldError) -> bool {
    match error {
        WorldError::NotFound { .. } => true,
        WorldError::Failed { kind, .. } | WorldError::Step { kind, .. } => *kind == ErrorKind::Input,
    }
}

fn wrong(what: &str, reason: &str) -> WorldError {
    let message = format!("the engine's answer about {what} makes no sense: {reason}");
    WorldError::Failed { kind: ErrorKind::Environment, message }
}

async fn ask(
    build: &Build,
    what: &str,
    request: ResolveSourceMetaRequest,
) -> Result<ResolveSourceMetaResponse, WorldError> {
    let request = build.about(request);
    let answer = build.call(async { build.bridge().resolve_source_meta(request).await }).await;
    answer.map_err(|status| failed(what, &status))
}

/// What this machine has of images.
pub(crate) struct Here<'a> {
    pub(crate) session: &'a dyn Session,
    pub(crate) store: Option<&'a Arc<dyn ImageStore>>,
    /// What of the store is lent.
    pub(crate) lent: &'a Images,
    /// Where layouts are made.
    pub(crate) scratch: &'a Path,
}

/// Pins an image and returns its config. What the store of this machine has under a name is that image, as for the bundled runtime:
/// the daemon gets it from its registry, if that has it, else from here.
pub(crate) async fn image(
    build: &Build,
    here: &Here<'_>,
    pull: PullPolicy,
    request: &ImageRequest,
) -> Result<ResolvedImage, WorldError> {
    let (store, shown, wanted) = match &request.location {
        ImageLocation::Registry(name) => {
            let reference: Reference = name.parse().map_err(|error: rb_oci::ReferenceError| {
                WorldError::Failed { kind: ErrorKind::Input, message: error.to_string() }
            })?;
            let known = if matches!(pull, PullPolicy::Always | PullPolicy::Within(_)) {
                None
            } else {
                known(here, &reference).await?
            };
            let Some(known) = known else {
                return named(build, &reference, pull, &request.platform).await;
            };
            if known.is_of_registry {
                let pinned = reference.pinned(known.digest);
                let absent = match named(build, &pinned, PullPolicy::Missing, &request.platform).await {
                    Err(error) if is_absent(&error) => error,
                    settled => return settled,
                };
                // Why the registry's cannot be had says more than why that of here cannot, too.
                return lent(here, reference, known.digest, &request.platform).await.map_err(|_| absent);
            }
            return lent(here, reference, known.digest, &request.platform).await;
        }
        ImageLocation::OciLayout { project, path, tag } => {
            let store = project.join(path).dir().to_owned();
            let store = if store.is_empty() { ".".to_owned() } else { store };
            (store, format!("the folder `{path}`"), Wanted::Tag(tag.clone()))
        }
        ImageLocation::OciStore { store, digest } => {
            (store.clone(), format!("the OCI layout `{store}`"), Wanted::Digest(*digest))
        }
    };
    let missing = || WorldError::NotFound { what: shown, help: None };
    let folder = here.session.oci_layout(&store).ok_or_else(missing)?;
    let platform = request.platform.clone();
    let found = blocking(move || layout::find(&folder, &wanted, &platform)).await?;
    let image = found.map_err(|error| WorldError::Failed { kind: error.kind(), message: chain(&error) })?;
    Ok(ResolvedImage {
        identifier: format!("oci-layout://{LAYOUT_NAME}@{}", image.digest),
        attrs: [(rb_llb::attr::OCI_STORE.to_owned(), store)].into(),
        digest: image.digest,
        config: image.config,
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WorldError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| WorldError::Failed { kind: ErrorKind::Internal, message: error.to_string() })
}

fn of_store(error: SolveError) -> WorldError {
    WorldError::Failed { kind: error.kind().unwrap_or(ErrorKind::Environment), message: chain(&error) }
}

/// Looks for a name in the store of this machine.
async fn known(here: &Here<'_>, name: &Reference) -> Result<Option<KnownImage>, WorldError> {
    let Some(store) = here.store.map(Arc::clone) else { return Ok(None) };
    let name = name.clone();
    blocking(move || store.known(&name)).await?.map_err(of_store)
}

/// Lends an image of the store of this machine.
async fn lent(
    here: &Here<'_>,
    name: Reference,
    digest: Digest,
    platform: &Platform,
) -> Result<ResolvedImage, WorldError> {
    let Some(store) = here.store.map(Arc::clone) else {
        return Err(WorldError::NotFound { what: format!("the image `{name}`"), help: None });
    };
    let (images, scratch, platform) = (here.lent.clone(), here.scratch.to_owned(), platform.clone());
    let told = name.clone();
    let made = blocking(move || {
        let write = |folder: &Path| store.write_layout(&name, folder);
        let (lent_as, folder) = images.lend(&digest, &scratch, write)?;
        Ok((lent_as, layout::find(&folder, &Wanted::Digest(digest), &platform)))
    });
    let (lent_as, found) = made.await?.map_err(of_store)?;
    let image = found.map_err(|error| WorldError::Failed { kind: error.kind(), message: chain(&error) })?;
    here.lent.note(&told, lent_as, digest, image.digest);
    // It keeps its name: where it comes from is said as it is sent.
    Ok(ResolvedImage {
        identifier: format!("docker-image://{}", told.pinned(image.digest)),
        attrs: Default::default(),
        digest: image.digest,
        config: image.config,
    })
}

pub(crate) async fn named(
    build: &Build,
    reference: &Reference,
    pull: PullPolicy,
    platform: &Platform,
) -> Result<ResolvedImage, WorldError> {
    let shown = reference.familiar();
    let resolve_mode = match pull {
        PullPolicy::Newest => "default",
        PullPolicy::Always | PullPolicy::Within(_) => "pull",
        PullPolicy::Missing | PullPolicy::Never => "local",
    };
    let request = ResolveSourceMetaRequest {
        source: Some(Source { identifier: format!("docker-image://{reference}"), ..Source::default() }),
        platform: Some(wire_platform(platform)),
        log_name: format!("look up {shown}"),
        resolve_mode: resolve_mode.to_owned(),
        git: None,
    };
    told_of_image(reference, ask(build, &shown, request).await?)
}

/// Reads what the daemon says of an image.
pub(crate) fn told_of_image(
    reference: &Reference,
    told: ResolveSourceMetaResponse,
) -> Result<ResolvedImage, WorldError> {
    let shown = reference.familiar();
    let image = told.image.ok_or_else(|| wrong(&shown, "it is about no image"))?;
    let digest = image.digest.parse().map_err(|_| wrong(&shown, "its digest is none"))?;
    let config = serde_json::from_slice(&image.config).map_err(|error| wrong(&shown, &error.to_string()))?;
    if reference.digest().is_some_and(|asked| asked != digest) {
        return Err(wrong(&shown, "it has another digest than the one that was named"));
    }
    Ok(ResolvedImage {
        identifier: format!("docker-image://{}", reference.pinned(digest)),
        attrs: Default::default(),
        digest,
        config,
    })
}

/// Reads a platform as the wire has it.
pub(crate) fn platform_of(told: &control::Platform) -> Platform {
    Platform {
        os: told.os.clone(),
        architecture: told.architecture.clone(),
        variant: Some(told.variant.clone()).filter(|variant| !variant.is_empty()),
    }
}

pub(crate) fn wire_platform(platform: &Platform) -> control::Platform {
    control::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        ..control::Platform::default()
    }
}

/// Finds the commit that a repository stands for, and what git knows of it.
pub(crate) async fn repository(build: &Build, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
    let shown = &request.shown;
    let asked = ResolveSourceMetaRequest {
        source: Some(Source { identifier: request.identifier.clone(), attrs: request.attrs.clone() }),
        log_name: format!("look up {shown}"),
        git: Some(ResolveGitRequest { return_object: true }),
        ..ResolveSourceMetaRequest::default()
    };
    told_of_repository(shown, ask(build, shown, asked).await?)
}

/// Reads what the daemon says of a repository.
pub(crate) fn told_of_repository(
    shown: &str,
    told: ResolveSourceMetaResponse,
) -> Result<GitFacts, WorldError> {
    let git = told.git.ok_or_else(|| wrong(shown, "it is about no repository"))?;
    let hash = if git.commit_checksum.is_empty() { &git.checksum } else { &git.commit_checksum };
    if !HASHES.contains(&hash.len()) || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong(shown, "its commit is none"));
    }
    Ok(facts(hash, &git.r#ref, &String::from_utf8_lossy(&git.commit_object)))
}

/// Reads a commit as git keeps it: headers, an empty line, the message.
fn facts(hash: &str, reference: &str, object: &str) -> GitFacts {
    let (headers, body) = object.split_once("\n\n").unwrap_or((object, ""));
    let header = |name: &str| headers.lines().find_map(|line| line.strip_prefix(name)).and_then(person);
    let (author_name, author_email, author_timestamp) = header("author ").unwrap_or_default();
    let (_, _, commit_timestamp) = header("committer ").unwrap_or_default();
    let named = |kind: &str| reference.strip_prefix(kind).map(ToOwned::to_owned);
    let last = reference.rsplit('/').next().filter(|last| !last.is_empty());
    GitFacts {
        hash: hash.to_owned(),
        short_hash: hash.get(..SHORT).unwrap_or(hash).to_owned(),
        branch: named("refs/heads/").unwrap_or_else(|| "HEAD".to_owned()),
        tag: named("refs/tags/").unwrap_or_default(),
        refs: last.map(ToOwned::to_owned).into_iter().collect(),
        commit_timestamp,
        author_timestamp,
        author: author_email.clone(),
        author_email,
        author_name,
        co_authors: rb_frontend::co_authors(body),
        ..GitFacts::default()
    }
}

/// Reads `Name <address> SECONDS ZONE`.
fn person(text: &str) -> Option<(String, String, String)> {
    let (name, rest) = text.split_once(" <")?;
    let (address, rest) = rest.rsplit_once("> ")?;
    let seconds = rest.split(' ').next().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((name.to_owned(), address.to_owned(), seconds.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_registry_does_not_have_is_absent() {
        let said = |status: Status| is_absent(&failed("app", &status));
        assert!(said(Status::not_found("registry.example.com/app@sha256:00: not found")));
        assert!(said(Status::unknown("unexpected status: 404 Not Found")));
        for status in [
            Status::unknown("unexpected status from HEAD request: 401 Unauthorized"),
            Status::unknown("failed to do request: dial tcp 192.0.2.1:443: connect: connection refused"),
            Status::cancelled("context canceled"),
            Status::aborted("the build ended"),
        ] {
            assert!(!said(status.clone()), "{status}");
        }
        assert!(!is_absent(&wrong("app", "its digest is none")));
    }

    #[test]
    fn a_commit_tells_who_and_when() {
        let object = "tree 00\nparent 11\nauthor A <b> B <a@example.com> 5 +0100\ncommitter C <c@example.com> 7 +0000\n\n\
                      words\n\nCo-authored-by: D <d@example.com>\n";
        let facts = facts(&"0123456789".repeat(4), "refs/heads/main", object);
        assert_eq!(
            (facts.short_hash.as_str(), facts.branch.as_str(), facts.tag.as_str()),
            ("01234567", "main", "")
        );
        assert_eq!((facts.author_timestamp.as_str(), facts.commit_timestamp.as_str()), ("5", "7"));
        assert_eq!(facts.author_email, "b> B <a@example.com");
        assert_eq!(facts.co_authors, ["d@example.com"]);
        let none = super::facts("0123", "", "nonsense");
        assert_eq!((none.branch.as_str(), none.commit_timestamp.as_str()), ("HEAD", ""));
    }
}
