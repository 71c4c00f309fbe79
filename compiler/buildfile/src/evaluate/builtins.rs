//! Built-in ARGs: names that `rb` itself gives a value. Each `EARTHLY_…` has a twin `RB_…`.
//!
//! Source: earthly-language section 3, "Builtin args".

use std::sync::Arc;

use rb_diag::{Diagnostic, Span};
use rb_frontend::{GitFacts, Repository, WorldError};
use rb_oci::Platform;

use super::frame::Frame;
use super::{Evaluator, Fallible, world_error};
use crate::codes;

/// A built-in ARG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builtin {
    Platform(Of, Part),
    Target(TargetPart),
    Git(GitPart),
    Build(BuildPart),
}

/// Whose platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Target,
    User,
    Native,
}

/// Which part of a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Os,
    Architecture,
    Variant,
}

/// What of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetPart {
    Reference,
    Project,
    ProjectNoTag,
    Name,
    Tag,
    TagDocker,
}

/// What of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitPart {
    Hash,
    ShortHash,
    Branch,
    Tag,
    Refs,
    OriginUrl,
    OriginUrlScrubbed,
    ProjectName,
    CommitTimestamp,
    AuthorTimestamp,
    Author,
    AuthorEmail,
    AuthorName,
    CoAuthors,
    SourceDateEpoch,
}

/// What of the build as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BuildPart {
    Ci,
    CiRunner,
    Push,
    Locally,
    Version,
    BuildSha,
}

/// Whose platform a name that starts so tells.
const OWNERS: [(&str, Of); 3] = [("TARGET", Of::Target), ("USER", Of::User), ("NATIVE", Of::Native)];

/// What of it a name that ends so tells.
const PARTS: [(&str, Part); 4] =
    [("PLATFORM", Part::Whole), ("OS", Part::Os), ("ARCH", Part::Architecture), ("VARIANT", Part::Variant)];

/// Prefixes of the other names.
const PREFIXES: [&str; 2] = ["RB_", "EARTHLY_"];

/// The other names, without their prefix.
const NAMES: &[(&str, Builtin)] = &[
    ("TARGET", Builtin::Target(TargetPart::Reference)),
    ("TARGET_PROJECT", Builtin::Target(TargetPart::Project)),
    ("TARGET_PROJECT_NO_TAG", Builtin::Target(TargetPart::ProjectNoTag)),
    ("TARGET_NAME", Builtin::Target(TargetPart::Name)),
    ("TARGET_TAG", Builtin::Target(TargetPart::Tag)),
    ("TARGET_TAG_DOCKER", Builtin::Target(TargetPart::TagDocker)),
    ("GIT_HASH", Builtin::Git(GitPart::Hash)),
    ("GIT_SHORT_HASH", Builtin::Git(GitPart::ShortHash)),
    ("GIT_BRANCH", Builtin::Git(GitPart::Branch)),
    ("GIT_TAG", Builtin::Git(GitPart::Tag)),
    ("GIT_REFS", Builtin::Git(GitPart::Refs)),
    ("GIT_ORIGIN_URL", Builtin::Git(GitPart::OriginUrl)),
    ("GIT_ORIGIN_URL_SCRUBBED", Builtin::Git(GitPart::OriginUrlScrubbed)),
    ("GIT_PROJECT_NAME", Builtin::Git(GitPart::ProjectName)),
    ("GIT_COMMIT_TIMESTAMP", Builtin::Git(GitPart::CommitTimestamp)),
    ("GIT_COMMIT_AUTHOR_TIMESTAMP", Builtin::Git(GitPart::AuthorTimestamp)),
    ("GIT_AUTHOR", Builtin::Git(GitPart::Author)),
    ("GIT_AUTHOR_EMAIL", Builtin::Git(GitPart::AuthorEmail)),
    ("GIT_AUTHOR_NAME", Builtin::Git(GitPart::AuthorName)),
    ("GIT_CO_AUTHORS", Builtin::Git(GitPart::CoAuthors)),
    ("SOURCE_DATE_EPOCH", Builtin::Git(GitPart::SourceDateEpoch)),
    ("CI", Builtin::Build(BuildPart::Ci)),
    ("CI_RUNNER", Builtin::Build(BuildPart::CiRunner)),
    ("PUSH", Builtin::Build(BuildPart::Push)),
    ("LOCALLY", Builtin::Build(BuildPart::Locally)),
    ("VERSION", Builtin::Build(BuildPart::Version)),
    ("BUILD_SHA", Builtin::Build(BuildPart::BuildSha)),
];

/// Returns the names of all built-in ARGs.
pub fn builtin_arguments() -> impl Iterator<Item = String> {
    let platforms =
        OWNERS.iter().flat_map(|(owner, _)| PARTS.iter().map(move |(part, _)| format!("{owner}{part}")));
    let others =
        PREFIXES.iter().flat_map(|prefix| NAMES.iter().map(move |(name, _)| format!("{prefix}{name}")));
    platforms.chain(others)
}

impl Builtin {
    /// Looks a name up.
    pub(super) fn of(name: &str) -> Option<Self> {
        let find = |short: &str| NAMES.iter().find(|(name, _)| *name == short).map(|(_, builtin)| *builtin);
        if let Some(short) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
            return find(short);
        }
        OWNERS.iter().find_map(|(owner, of)| {
            let rest = name.strip_prefix(owner)?;
            PARTS.iter().find(|(part, _)| *part == rest).map(|(_, part)| Self::Platform(*of, *part))
        })
    }
}

impl Evaluator<'_> {
    /// Returns what a built-in ARG is at this point of a recipe.
    pub(super) async fn builtin(&self, frame: &Frame, builtin: Builtin, at: Span) -> Fallible<String> {
        Ok(match builtin {
            Builtin::Platform(of, part) => {
                let platform = match of {
                    Of::Target => &frame.platform,
                    Of::User => &self.request.user_platform,
                    Of::Native => &self.request.native_platform,
                };
                platform_part(platform, part)
            }
            Builtin::Target(part) => self.target_part(frame, part, at).await?,
            Builtin::Git(part) => git_part(self.git(frame, at).await?.as_deref(), part),
            Builtin::Build(part) => {
                let options = &self.request.options;
                match part {
                    BuildPart::Ci => options.ci.to_string(),
                    BuildPart::CiRunner => false.to_string(),
                    BuildPart::Push => options.push.to_string(),
                    BuildPart::Locally => frame.locally.is_some().to_string(),
                    BuildPart::Version => options.version.clone(),
                    BuildPart::BuildSha => options.build_sha.clone(),
                }
            }
        })
    }

    async fn git(&self, frame: &Frame, at: Span) -> Fallible<Option<Arc<GitFacts>>> {
        let facts = self.world.workspace().git(&frame.scope.file.project).await;
        facts.map_err(|error: WorldError| world_error(codes::WORKSPACE, &error, at))
    }

    async fn target_part(&self, frame: &Frame, part: TargetPart, at: Span) -> Fallible<String> {
        let target = &frame.key.target;
        if part == TargetPart::Name {
            return Ok(target.name.clone());
        }
        let dir = target.project.dir();
        let remote = match target.project.repository() {
            Some(repository) => Some(Remote::named(repository, dir)),
            None => {
                let facts = self.git(frame, at).await?;
                facts.as_deref().and_then(|facts| Remote::of(facts, dir))
            }
        };
        let tag = remote.as_ref().map(|remote| remote.tag.clone()).unwrap_or_default();
        let project = remote.as_ref().map(|remote| remote.project.clone()).unwrap_or_default();
        let with_tag =
            if tag.is_empty() { project.clone() } else { format!("{project}:{}", plus_escaped(&tag)) };
        Ok(match part {
            TargetPart::Reference if remote.is_none() => target.to_string(),
            TargetPart::Reference => format!("{with_tag}+{}", target.name),
            TargetPart::Project => with_tag,
            TargetPart::ProjectNoTag => project,
            TargetPart::Name => target.name.clone(),
            TargetPart::Tag => tag,
            TargetPart::TagDocker => docker_tag(&tag),
        })
    }

    /// Refuses a value for a built-in ARG.
    pub(super) fn refuse_builtin(name: &str, at: Option<Span>) -> Diagnostic {
        let message = format!("`{name}` is set by rb itself and cannot be passed");
        let error =
            Diagnostic::error(codes::BUILTIN_ARGUMENT, message).with_help("drop it, or give it another name");
        match at {
            Some(span) => error.with_label(span, "built in"),
            None => error,
        }
    }
}

/// What a folder of this tree is called from outside, where its repository has a remote.
#[derive(Debug, PartialEq, Eq)]
struct Remote {
    /// `host/path[/folder]`
    project: String,
    /// The first tag of the commit, else the branch, else the hash.
    tag: String,
}

impl Remote {
    /// As who called it wrote it.
    fn named(repository: &Repository, dir: &str) -> Self {
        let place = repository.place();
        let project = if dir.is_empty() { place.to_owned() } else { format!("{place}/{dir}") };
        Self { project: plus_escaped(&project), tag: repository.reference().to_owned() }
    }

    fn of(facts: &GitFacts, dir: &str) -> Option<Self> {
        let url = facts.origin_url_scrubbed.as_str();
        let url = url.split_once("://").map_or(url, |(_, rest)| rest);
        let url = url.split_once('@').map_or(url, |(_, rest)| rest).replacen(':', "/", 1);
        let url = url.strip_suffix(".git").unwrap_or(&url);
        let tag = [&facts.tag, &facts.branch, &facts.hash].into_iter().find(|name| !name.is_empty());
        let project = if dir.is_empty() { url.to_owned() } else { format!("{url}/{dir}") };
        (!url.is_empty())
            .then(|| Self { project: plus_escaped(&project), tag: tag.cloned().unwrap_or_default() })
    }
}

fn plus_escaped(text: &str) -> String {
    text.replace('+', r"\+")
}

/// Makes a tag for an image of a text. Source: Docker's rules for tags: 128 letters, digits, `_`, `.` and `-`, the first
/// of them neither of the last two.
fn docker_tag(text: &str) -> String {
    if text.is_empty() {
        return "latest".to_owned();
    }
    let fits = |(at, next): (usize, char)| {
        let word = next.is_ascii_alphanumeric() || next == '_';
        if word || (at > 0 && matches!(next, '.' | '-')) { next } else { '_' }
    };
    text.chars().take(128).enumerate().map(fits).collect()
}

fn platform_part(platform: &Platform, part: Part) -> String {
    match part {
        Part::Whole => platform.to_string(),
        Part::Os => platform.os.clone(),
        Part::Architecture => platform.architecture.clone(),
        Part::Variant => platform.variant.clone().unwrap_or_default(),
    }
}

fn git_part(facts: Option<&GitFacts>, part: GitPart) -> String {
    let Some(facts) = facts else {
        return if part == GitPart::SourceDateEpoch { "0".to_owned() } else { String::new() };
    };
    match part {
        GitPart::Hash => facts.hash.clone(),
        GitPart::ShortHash => facts.short_hash.clone(),
        GitPart::Branch => facts.branch.clone(),
        GitPart::Tag => facts.tag.clone(),
        GitPart::Refs => facts.refs.join(" "),
        GitPart::OriginUrl => facts.origin_url.clone(),
        GitPart::OriginUrlScrubbed => facts.origin_url_scrubbed.clone(),
        GitPart::ProjectName => facts.project_name.clone(),
        GitPart::CommitTimestamp => facts.commit_timestamp.clone(),
        GitPart::AuthorTimestamp => facts.author_timestamp.clone(),
        GitPart::Author => facts.author.clone(),
        GitPart::AuthorEmail => facts.author_email.clone(),
        GitPart::AuthorName => facts.author_name.clone(),
        GitPart::CoAuthors => facts.co_authors.join(" "),
        GitPart::SourceDateEpoch => match facts.commit_timestamp.as_str() {
            "" => "0".to_owned(),
            timestamp => timestamp.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_earthly_name_has_a_twin() {
        for name in ["TARGET", "GIT_HASH", "CI", "SOURCE_DATE_EPOCH", "TARGET_TAG_DOCKER"] {
            let of = |prefix: &str| Builtin::of(&format!("{prefix}_{name}"));
            assert!(of("EARTHLY").is_some() && of("EARTHLY") == of("RB"), "{name}");
        }
        assert_eq!(Builtin::of("USEROS"), Some(Builtin::Platform(Of::User, Part::Os)));
        assert_eq!(Builtin::of("TARGETS"), None);
        assert_eq!(Builtin::of("EARTHLY_GIT"), None);
        assert!(builtin_arguments().all(|name| Builtin::of(&name).is_some()));
    }

    #[test]
    fn a_folder_is_called_by_its_remote() {
        let remote = |url: &str, tag: &str, branch: &str| {
            let facts = GitFacts {
                origin_url_scrubbed: url.to_owned(),
                tag: tag.to_owned(),
                branch: branch.to_owned(),
                hash: "abc".to_owned(),
                ..GitFacts::default()
            };
            Remote::of(&facts, "sub").map(|remote| (remote.project, remote.tag))
        };
        let is = |project: &str, tag: &str| Some((project.to_owned(), tag.to_owned()));
        assert_eq!(
            remote("https://example.org:8443/a/b.git", "v1", "main"),
            is("example.org/8443/a/b/sub", "v1")
        );
        assert_eq!(remote("git@example.org:a/c++.git", "", "main"), is(r"example.org/a/c\+\+/sub", "main"));
        assert_eq!(remote("ssh://git@example.org/a/b", "", ""), is("example.org/a/b/sub", "abc"));
        assert_eq!(remote("", "v1", "main"), None);
    }

    #[test]
    fn tags_of_images_hold_what_docker_takes() {
        assert_eq!(docker_tag(""), "latest");
        assert_eq!(docker_tag("feature/x+1"), "feature_x_1");
        assert_eq!(docker_tag("-.a-b.c"), "_.a-b.c");
        assert_eq!(docker_tag(&"x".repeat(200)).len(), 128);
    }

    #[test]
    fn without_a_repository_facts_are_empty() {
        assert_eq!(git_part(None, GitPart::Hash), "");
        assert_eq!(git_part(None, GitPart::SourceDateEpoch), "0");
        let facts = GitFacts { commit_timestamp: "7".to_owned(), ..GitFacts::default() };
        assert_eq!(git_part(Some(&facts), GitPart::SourceDateEpoch), "7");
    }
}
