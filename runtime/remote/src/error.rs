//! What can go wrong between us and a daemon, and what its errors mean.
//!
//! A failed call carries which vertex failed, as JSON in the details of its status; what kind of failure it is, the vertex and the
//! daemon's words tell.

use std::time::Duration;

use prost::Message as _;
use rb_api::SolveError;
use rb_diag::ErrorKind;
use rb_frontend::WorldError;
use rb_llb::{Op, Range, SourceInfo};
use rb_oci::Digest;
use rb_wire::diffcopy::DiffCopyError;
use serde::Deserialize;
use tonic::{Code, Status};

use crate::proof::Proof;

/// Why a daemon cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody answers.
    #[error("the engine at {address} cannot be reached: {reason}")]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        reason: String,
        /// Somebody hangs up there, by TCP without certificates: that may be what is missing.
        is_bare: bool,
    },
    /// Our certificate and key make no sense.
    #[error("the certificates for {address} cannot be used: {reason}")]
    Certificates {
        /// Where they were to be shown.
        address: String,
        /// What is wrong with them.
        reason: String,
    },
    /// It is connected to, and does not answer.
    #[error("the engine at {address} does not answer: {what} within {} seconds", limit.as_secs())]
    Silent {
        /// Where.
        address: String,
        /// What was waited for: `nothing came of a build`.
        what: &'static str,
        /// How long that was.
        limit: Duration,
    },
    /// Who it is, or who we are, is not proved.
    #[error("the engine at {address} cannot be trusted: {proof}")]
    Proof {
        /// Where.
        address: String,
        /// What is missing.
        proof: Proof,
    },
    /// It went away in the middle.
    #[error("the engine at {address} went away{}", while_ran(.running))]
    Gone {
        /// Where it was.
        address: String,
        /// Names of what it was at.
        running: Vec<String>,
    },
    /// A call failed.
    #[error("the engine says: {}", said(.0))]
    Call(Box<Status>),
    /// It said what makes no sense.
    #[error("the engine's answer makes no sense: {reason}")]
    Answer {
        /// What is wrong with it.
        reason: String,
    },
    /// Files did not come over.
    #[error("files of the engine did not come over")]
    Files(#[from] DiffCopyError),
    /// What came cannot be written.
    #[error(transparent)]
    Export(#[from] rb_exporters::ExportError),
    /// A file of this machine.
    #[error("{what} cannot be written")]
    Disk {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No node of an engine can build it.
    #[error("no node of `{engine}` can build this: {}", each(.reasons))]
    NoNode {
        /// The engine's name.
        engine: String,
        /// Each node, and why not.
        reasons: Vec<(String, String)>,
        /// Whether one might, were it there.
        is_away: bool,
    },
    /// A node went away, and what it was at is done nowhere else.
    #[error("node `{node}` failed: {reason}; nothing is tried elsewhere, as {what}")]
    NotTwice {
        /// The node.
        node: String,
        /// What is wrong with it.
        reason: String,
        /// `a RUN --push may have run`.
        what: &'static str,
    },
    /// A step that only the bundled runtime can do.
    #[error("{what}, and the engine at another place cannot")]
    OnlyHere {
        /// The step, as the frontend knows it.
        vertex: Digest,
        /// What it is called.
        name: String,
        /// `FROM @host shows this machine`.
        what: String,
        /// What to do.
        help: &'static str,
        /// Where it is written.
        place: Option<Box<(SourceInfo, Range)>>,
    },
    /// What only the bundled runtime can do.
    #[error("{what}, and the engine at another place cannot")]
    Unsupported {
        /// `FROM @host shows this machine`.
        what: String,
        /// What to do.
        help: &'static str,
    },
}

impl RemoteError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. }
            | Self::OnlyHere { .. }
            | Self::NoNode { is_away: false, .. }
            | Self::Certificates { .. } => ErrorKind::Input,
            Self::Export(error) => error.kind(),
            Self::Connect { .. }
            | Self::Silent { .. }
            | Self::Proof { .. }
            | Self::Gone { .. }
            | Self::NoNode { .. }
            | Self::NotTwice { .. }
            | Self::Call(_)
            | Self::Answer { .. }
            | Self::Files(_)
            | Self::Disk { .. } => ErrorKind::Environment,
        }
    }

    /// Returns what to do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Unsupported { help, .. } | Self::OnlyHere { help, .. } => Some((*help).to_owned()),
            Self::Export(error) => error.help(),
            Self::Connect { is_bare: true, .. } => Some(
                "where it expects certificates, name their folder: RB_ENGINE_CERTS=DIR, or `rb engine add NAME ADDRESS --certs DIR`"
                    .to_owned(),
            ),
            Self::Connect { address, .. } => Some(format!(
                "`rb engine inspect {address}` tries it; with --engine=here rb builds on this machine"
            )),
            Self::Certificates { .. } => {
                Some("cert.pem is your certificate, and key.pem the key that it was made for".to_owned())
            }
            Self::Silent { .. } => {
                Some("start it again; with --engine=here rb builds on this machine".to_owned())
            }
            Self::Proof { proof, .. } => Some(proof.help().to_owned()),
            Self::Gone { .. } => Some(
                "start it again and build again: what it had finished it finds; with --engine=here rb builds on this machine"
                    .to_owned(),
            ),
            Self::NoNode { engine, .. } => Some(format!(
                "`rb engine inspect {engine}` asks its nodes, `rb engine drain --undo {engine}/NODE` has one build again"
            )),
            Self::NotTwice { .. } => Some("see what it has pushed, and build again".to_owned()),
            Self::Call(status) => help_of(status.message()),
            Self::Answer { .. } | Self::Files(_) | Self::Disk { .. } => None,
        }
    }

    /// Whether machines or the way to them failed, and not what the user wrote: another node may do better.
    pub(crate) fn is_infrastructure(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Proof { .. } | Self::Gone { .. } | Self::Silent { .. } => true,
            Self::Call(status) => is_broken(status) || is_of_machine(status),
            Self::NoNode { .. }
            | Self::NotTwice { .. }
            | Self::Answer { .. }
            | Self::Files(_)
            | Self::Export(_)
            | Self::Disk { .. }
            | Self::Certificates { .. }
            | Self::OnlyHere { .. }
            | Self::Unsupported { .. } => false,
        }
    }

    pub(crate) fn scans() -> Self {
        Self::Unsupported {
            what: "what a scanner finds in an image (--sbom) is written here".to_owned(),
            help: "leave --sbom out, or build it with --engine=here",
        }
    }

    pub(crate) fn beside_files() -> Self {
        Self::Unsupported {
            what: "what is said beside files (--provenance with type=local or type=tar) is written here"
                .to_owned(),
            help: "leave --provenance out, write an image, or build it with --engine=here",
        }
    }

    pub(crate) fn cache_of_nodes() -> Self {
        Self::Unsupported {
            what: "these platforms are built by several nodes, and each would write its cache over that of the other (--cache-to)"
                .to_owned(),
            help: "build each platform with a cache of its own, or write `type=inline`",
        }
    }

    pub(crate) fn statement_of_nodes() -> Self {
        Self::Unsupported {
            what: "these platforms are built by several nodes, none of which can speak of all (--provenance)"
                .to_owned(),
            help: "leave --provenance out, or build each platform by itself",
        }
    }

    pub(crate) fn layered() -> Self {
        Self::Unsupported {
            what: "the image of an app is packed layer by layer by rb (rb pack build)".to_owned(),
            help: "build it without --engine (RB_ENGINE), on this machine",
        }
    }

    pub(crate) fn answer(reason: impl Into<String>) -> Self {
        Self::Answer { reason: reason.into() }
    }
}

impl From<RemoteError> for WorldError {
    fn from(error: RemoteError) -> Self {
        Self::Failed { kind: error.kind(), message: rb_diag::chain(&error) }
    }
}

/// A failed call, whatever it was about.
pub(crate) trait Failed: From<RemoteError> {
    /// Whether it is what the user wrote that fails.
    fn is_users(&self) -> bool;
}

impl Failed for SolveError {
    fn is_users(&self) -> bool {
        match self {
            Self::Vertex { kind, .. } | Self::Job { kind, .. } => *kind != ErrorKind::Environment,
            Self::NoSuchFile { .. } | Self::Withheld { .. } => true,
            Self::Several(errors) => errors.iter().any(Self::is_users),
            Self::Cancelled => false,
        }
    }
}

impl Failed for WorldError {
    fn is_users(&self) -> bool {
        self.kind() != ErrorKind::Environment
    }
}

impl From<Status> for RemoteError {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

impl From<RemoteError> for SolveError {
    fn from(error: RemoteError) -> Self {
        match &error {
            RemoteError::Call(status) if is_cancelled(status) => Self::Cancelled,
            RemoteError::OnlyHere { vertex, name, .. } => Self::Vertex {
                vertex: *vertex,
                name: name.clone(),
                kind: error.kind(),
                message: rb_diag::chain(&error),
                help: error.help(),
                log_tail: Vec::new(),
            },
            _ => Self::Job { kind: error.kind(), message: rb_diag::chain(&error), help: error.help() },
        }
    }
}

/// Names nodes and what is wrong with each.
fn each(reasons: &[(String, String)]) -> String {
    let lines = reasons.iter().map(|(node, why)| format!("`{node}` {why}"));
    lines.collect::<Vec<_>>().join("; ")
}

/// Names what ran, the first of many.
fn while_ran(running: &[String]) -> String {
    match running {
        [] => String::new(),
        [one] => format!(" while `{one}` ran"),
        [one, others @ ..] => format!(" while `{one}` and {} more ran", others.len()),
    }
}

/// Says what to do about rights that the daemon was not given.
pub(crate) fn help_of(words: &str) -> Option<String> {
    let right = ["security.insecure", "network.host"].into_iter().find(|right| words.contains(right))?;
    let is_daemons = words.contains("not allowed by build daemon configuration");
    is_daemons.then(|| {
        format!("start the daemon with `--allow-insecure-entitlement {right}`, or name it in `insecure-entitlements` of its buildkitd.toml")
    })
}

/// Whether a call failed because its connection broke, and not because somebody said so.
pub(crate) fn is_broken(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// Returns the words of a status, bounded; those of a broken connection are in its cause.
pub(crate) fn said(status: &Status) -> String {
    let text = match std::error::Error::source(status) {
        Some(source) => format!("{}: {}", status.message(), rb_diag::chain(source)),
        None => status.message().to_owned(),
    };
    let text: String =
        text.chars().filter(|letter| !letter.is_control() || *letter == '\n').take(4_000).collect();
    without_codes(&text)
}

/// Leaves out what gRPC writes before the words of an error that passed through it: `rpc error: code = NotFound desc = `.
fn without_codes(text: &str) -> String {
    let mut left = text;
    let mut kept = String::with_capacity(text.len());
    while let Some((before, behind)) = left.split_once("rpc error: code = ") {
        let words = behind
            .split_once(" desc = ")
            .filter(|(code, _)| code.bytes().all(|byte| byte.is_ascii_alphabetic()));
        let Some((_, words)) = words else { break };
        kept.push_str(before);
        left = words;
    }
    kept + left
}

/// What the kernel says where a disk is full.
const FULL: &str = "no space left on device";

/// Whether a call failed by what is wrong with the daemon's machine: its disk is full, or it has too much to do. A step that
/// fills a disk ends with a code of its own.
pub(crate) fn is_of_machine(status: &Status) -> bool {
    let is_of_transport =
        matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::Internal);
    let words = status.message();
    (is_of_transport && failed_vertex(status).is_none())
        || (words.contains(FULL) && exit_code(words).is_none())
}

fn is_cancelled(status: &Status) -> bool {
    status.code() == Code::Cancelled
}

/// Returns the vertex that a status is about.
pub(crate) fn failed_vertex(status: &Status) -> Option<Digest> {
    #[derive(Deserialize)]
    struct Vertex {
        digest: String,
    }
    let decoded = rb_wire::control::Status::decode(status.details()).ok()?;
    // The innermost comes first.
    decoded
        .details
        .iter()
        .filter(|detail| detail.type_url.contains("errdefs.Vertex"))
        .find_map(|detail| serde_json::from_slice::<Vertex>(&detail.value).ok()?.digest.parse().ok())
}

/// Returns who has to act on the failure of an op, and what is to be said of it.
pub(crate) fn classify(op: Option<&Op>, said: &str) -> (ErrorKind, String) {
    let is_missing =
        ["not found", "no such file", "does not exist", "404", "pull access denied", "no match for"]
            .iter()
            .any(|word| said.to_ascii_lowercase().contains(word));
    match op {
        Some(Op::Exec(_)) => match exit_code(said) {
            Some(code) => (ErrorKind::Build, format!("exit code {code}")),
            None => (ErrorKind::Environment, said.to_owned()),
        },
        Some(Op::File(_)) => (ErrorKind::Input, inner(said)),
        Some(Op::Source(_)) if is_missing => (ErrorKind::Input, inner(said)),
        Some(Op::Source(_)) => (ErrorKind::Environment, inner(said)),
        Some(Op::Build(_) | Op::Merge(_) | Op::Diff(_)) | None => (ErrorKind::Environment, said.to_owned()),
    }
}

/// Leaves out what a daemon puts before the words of an op, and what it calls trees among themselves.
fn inner(said: &str) -> String {
    let said = ["failed to solve: ", "failed to compute cache key: "]
        .iter()
        .fold(said, |said, prefix| said.strip_prefix(prefix).unwrap_or(said));
    let Some((_, said)) = said.strip_prefix(OF_TREE).and_then(|rest| rest.split_once(": ")) else {
        return said.to_owned();
    };
    // As the bundled runtime says it.
    match said.strip_prefix("\"/").and_then(|rest| rest.strip_suffix("\": not found")) {
        Some(path) if !path.contains('"') => format!("/{path} does not exist"),
        Some(_) | None => said.to_owned(),
    }
}

/// What comes before the name of a tree in which something was looked for.
const OF_TREE: &str = "failed to calculate checksum of ref ";

/// Reads `… did not complete successfully: exit code: 3`.
fn exit_code(said: &str) -> Option<u32> {
    let (_, rest) = said.rsplit_once("exit code: ")?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use rb_llb::{ExecOp, SourceOp};
    use rb_wire::control::Detail;
    use tonic::metadata::MetadataMap;

    use super::*;

    #[test]
    fn a_failure_is_that_of_its_vertex() {
        let digest = Digest::of("op");
        let detail =
            |type_url: &str, value: String| Detail { type_url: type_url.to_owned(), value: value.into() };
        let details = rb_wire::control::Status {
            code: 2,
            message: "failed".into(),
            details: vec![
                detail("github.com/moby/buildkit/stack.Stack+json", "{".to_owned()),
                detail("github.com/moby/buildkit/errdefs.Vertex+json", format!(r#"{{"digest":"{digest}"}}"#)),
            ],
        };
        let status = |details: Vec<u8>| {
            Status::with_details_and_metadata(Code::Unknown, "failed", details.into(), MetadataMap::new())
        };
        assert_eq!(failed_vertex(&status(details.encode_to_vec())), Some(digest));
        for bytes in [&b""[..], b"\xff\xff", b"{}"] {
            assert_eq!(failed_vertex(&status(bytes.to_vec())), None);
        }
    }

    #[test]
    fn words_of_a_daemon_are_those_of_the_user() {
        let exec = Op::Exec(ExecOp::default());
        let words = "process \"/bin/sh -c false\" did not complete successfully: exit code: 3";
        assert_eq!(classify(Some(&exec), words), (ErrorKind::Build, "exit code 3".to_owned()));
        assert_eq!(classify(Some(&exec), "no runc").0, ErrorKind::Environment);
        let source = Op::Source(SourceOp::default());
        assert_eq!(classify(Some(&source), "docker.io/library/x: not found").0, ErrorKind::Input);
        assert_eq!(classify(Some(&source), "dial tcp: timeout").0, ErrorKind::Environment);
        let file = Op::File(rb_llb::FileOp::default());
        let words = "failed to compute cache key: failed to calculate checksum of ref lj3tf::iir: \"/nofile\": not found";
        assert_eq!(classify(Some(&file), words), (ErrorKind::Input, "/nofile does not exist".to_owned()));
        let status = Status::unknown(
            "rpc error: code = FailedPrecondition desc = a: rpc error: code = Unknown desc = b",
        );
        assert_eq!(said(&status), "a: b");
        let status = Status::unknown("rpc error: code = desc");
        assert_eq!(said(&status), "rpc error: code = desc");
    }

    #[test]
    fn a_full_disk_is_the_machines_and_what_a_step_says_of_one_is_not() {
        let full = Status::unknown("failed to prepare x: mkdir /var/lib/x: no space left on device");
        let overrun = Status::unavailable("too many builds");
        let step = "process \"dd # no space left on device\" did not complete successfully: exit code: 1";
        assert!(is_of_machine(&full) && is_of_machine(&overrun));
        assert!(
            !is_of_machine(&Status::unknown(step)) && !is_of_machine(&Status::unknown("\"/x\": not found"))
        );
    }
}
