//! What names stand for: images as the daemon's registries have them, layouts of this machine, repositories.

use rb_api::PullPolicy;
use rb_diag::{ErrorKind, chain};
use rb_frontend::{GitFacts, ImageLocation, ImageRequest, RepositoryRequest, ResolvedImage, WorldError};
use rb_oci::{Platform, Reference};
use rb_session::Session;
use rb_sources::layout::{self, Wanted};
use rb_wire::control;
use rb_wire::gateway::{ResolveGitRequest, ResolveSourceMetaRequest, ResolveSourceMetaResponse, Source};
use tonic::Status;

use crate::build::Build;
use crate::error::{classify, said};

/// Name of every image that comes from a layout; which one it is, its digest says.
const LAYOUT_NAME: &str = "rb/layout";
/// Digits of a commit's short form.
const SHORT: usize = 8;

fn failed(what: &str, status: &Status) -> WorldError {
    let source = rb_llb::Op::Source(rb_llb::SourceOp::default());
    let (kind, message) = classify(Some(&source), &said(status));
    WorldError::Failed { kind, message: format!("{what}: {message}") }
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

/// Pins an image and returns its config.
pub(crate) async fn image(
    build: &Build,
    session: &dyn Session,
    pull: PullPolicy,
    request: &ImageRequest,
) -> Result<ResolvedImage, WorldError> {
    let (store, shown, wanted) = match &request.location {
        ImageLocation::Registry(name) => return named(build, name, pull, &request.platform).await,
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
    let folder = session.oci_layout(&store).ok_or_else(missing)?;
    let platform = request.platform.clone();
    let found = tokio::task::spawn_blocking(move || layout::find(&folder, &wanted, &platform)).await;
    let found = found
        .map_err(|error| WorldError::Failed { kind: ErrorKind::Internal, message: error.to_string() })?;
    let image = found.map_err(|error| WorldError::Failed { kind: error.kind(), message: chain(&error) })?;
    Ok(ResolvedImage {
        identifier: format!("oci-layout://{LAYOUT_NAME}@{}", image.digest),
        attrs: [(rb_llb::attr::OCI_STORE.to_owned(), store)].into(),
        digest: image.digest,
        config: image.config,
    })
}

async fn named(
    build: &Build,
    name: &str,
    pull: PullPolicy,
    platform: &Platform,
) -> Result<ResolvedImage, WorldError> {
    let reference: Reference = name.parse().map_err(|error: rb_oci::ReferenceError| WorldError::Failed {
        kind: ErrorKind::Input,
        message: error.to_string(),
    })?;
    let shown = reference.familiar();
    let resolve_mode = match pull {
        PullPolicy::Newest => "default",
        PullPolicy::Always => "pull",
        PullPolicy::Missing | PullPolicy::Never => "local",
    };
    let request = ResolveSourceMetaRequest {
        source: Some(Source { identifier: format!("docker-image://{reference}"), ..Source::default() }),
        platform: Some(wire_platform(platform)),
        log_name: format!("look up {shown}"),
        resolve_mode: resolve_mode.to_owned(),
        git: None,
    };
    let image =
        ask(build, &shown, request).await?.image.ok_or_else(|| wrong(&shown, "it is about no image"))?;
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

fn wire_platform(platform: &Platform) -> control::Platform {
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
    let git = ask(build, shown, asked).await?.git.ok_or_else(|| wrong(shown, "it is about no repository"))?;
    let hash = if git.commit_checksum.is_empty() { &git.checksum } else { &git.commit_checksum };
    if hash.len() < 40 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
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
