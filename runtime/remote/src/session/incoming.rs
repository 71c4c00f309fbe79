//! One blob that the daemon writes to a store of this client, piece by piece.
//!
//! In: what containerd's writer sends: how large the blob is to be and its digest, its bytes in order, and that it is whole. Out: a file
//! under its digest. **Invariants:** no more is kept than was announced; a name comes last, once the digest is proved.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rb_oci::{Digest, Hasher};
use rb_wire::content::{WriteAction, WriteContentRequest, WriteContentResponse};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::Fed;

/// Takes a blob; `known` says which are there already.
pub(super) fn take(
    mut requests: Streaming<WriteContentRequest>,
    folder: PathBuf,
    known: impl Fn(&Digest) -> bool + Send + 'static,
) -> Fed<WriteContentResponse> {
    let (answers, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut blob: Option<Blob> = None;
        while let Ok(Some(request)) = requests.message().await {
            let (had, folder) = (blob.take(), folder.clone());
            let is_known = had.is_none() && request.expected.parse().is_ok_and(|digest| known(&digest));
            let done = if is_known {
                Err(Status::already_exists(format!("{} is there", request.expected)))
            } else {
                let step = tokio::task::spawn_blocking(move || Blob::step(had, &folder, &request)).await;
                step.unwrap_or_else(|error| Err(Status::internal(error.to_string())))
            };
            let (answer, left) = match done {
                Ok((answer, left)) => (Ok(answer), left),
                Err(status) => (Err(status), None),
            };
            blob = left;
            // Who asked may be gone; a blob that is whole or wrong needs no more.
            if answers.send(answer).await.is_err() || blob.is_none() {
                return;
            }
        }
    });
    Fed::new(stream)
}

/// Does what messages ask for, one after the other, as those of one stream; the first that is refused ends it, and so does a whole blob.
pub(crate) fn all(folder: &Path, requests: &[WriteContentRequest]) -> Result<(), Status> {
    let mut blob = None;
    for request in requests {
        (_, blob) = Blob::step(blob, folder, request)?;
        if blob.is_none() {
            break;
        }
    }
    Ok(())
}

/// A blob on its way.
struct Blob {
    file: NamedTempFile,
    hasher: Hasher,
    expected: Digest,
    total: u64,
}

fn disk(error: std::io::Error) -> Status {
    Status::aborted(format!("this client cannot keep it: {error}"))
}

impl Blob {
    fn begin(folder: &Path, request: &WriteContentRequest) -> Result<Self, Status> {
        let expected = request.expected.parse();
        let expected = expected.map_err(|_| Status::invalid_argument("a blob without a digest"))?;
        let total =
            u64::try_from(request.total).map_err(|_| Status::invalid_argument("a blob below nothing"))?;
        let file = NamedTempFile::new_in(folder).map_err(disk)?;
        // Who announces more than there is room for would fill the disk of everything else here.
        let room = rustix::fs::fstatvfs(&file).map_err(|error| disk(error.into()))?;
        let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
        if total > free_bytes {
            return Err(Status::resource_exhausted(format!(
                "a blob of {total} bytes, where this client has room for {free_bytes}"
            )));
        }
        Ok(Self { file, hasher: Hasher::default(), expected, total })
    }

    /// Does what one message asks for; returns what is left to be written.
    fn step(
        had: Option<Self>,
        folder: &Path,
        request: &WriteContentRequest,
    ) -> Result<(WriteContentResponse, Option<Self>), Status> {
        let mut blob = match had {
            Some(blob) => blob,
            None => Self::begin(folder, request)?,
        };
        let action = WriteAction::try_from(request.action);
        let action = action.map_err(|_| Status::invalid_argument("an action that is none"))?;
        if action != WriteAction::Stat {
            blob.append(request)?;
        }
        let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut answer = WriteContentResponse {
            action: request.action,
            offset: size(blob.hasher.size_bytes()),
            total: size(blob.total),
            ..WriteContentResponse::default()
        };
        if action == WriteAction::Commit {
            answer.digest = blob.expected.to_string();
            blob.keep(folder, request)?;
            return Ok((answer, None));
        }
        Ok((answer, Some(blob)))
    }

    fn append(&mut self, request: &WriteContentRequest) -> Result<(), Status> {
        let at = self.hasher.size_bytes();
        let is_next = u64::try_from(request.offset).is_ok_and(|offset| offset == at);
        if !is_next && !request.data.is_empty() {
            return Err(Status::out_of_range(format!("{at} comes next, not {}", request.offset)));
        }
        if at.saturating_add(request.data.len() as u64) > self.total {
            return Err(Status::out_of_range(format!("it was to have {} bytes", self.total)));
        }
        self.hasher.update(&request.data);
        self.file.write_all(&request.data).map_err(disk)
    }

    fn keep(self, folder: &Path, request: &WriteContentRequest) -> Result<(), Status> {
        let (actual, size_bytes) = self.hasher.finish();
        let is_whole = size_bytes == self.total || self.total == 0;
        let is_meant = request.expected.is_empty() || request.expected == self.expected.to_string();
        if actual != self.expected || !is_whole || !is_meant {
            return Err(Status::failed_precondition(format!("{} has the digest {actual}", self.expected)));
        }
        self.file.persist(folder.join(actual.hex())).map_err(|error| disk(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(action: WriteAction, offset: i64, data: &'static str) -> WriteContentRequest {
        WriteContentRequest {
            action: action.into(),
            r#ref: "x".into(),
            total: 6,
            expected: Digest::of("abcdef").to_string(),
            offset,
            data: data.into(),
        }
    }

    #[test]
    fn a_blob_is_kept_by_its_digest_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = |requests: &[WriteContentRequest]| all(folder.path(), requests);
        let kept = || std::fs::read_dir(folder.path()).expect("lists").count();
        let stat = request(WriteAction::Stat, 0, "");
        for (requests, code) in [
            (vec![stat.clone(), request(WriteAction::Write, 0, "abcdefg")], tonic::Code::OutOfRange),
            (vec![stat.clone(), request(WriteAction::Write, 3, "abc")], tonic::Code::OutOfRange),
            (vec![stat.clone(), request(WriteAction::Commit, 0, "abcdeX")], tonic::Code::FailedPrecondition),
            (vec![stat.clone(), request(WriteAction::Commit, 0, "abc")], tonic::Code::FailedPrecondition),
            (vec![WriteContentRequest::default()], tonic::Code::InvalidArgument),
            (vec![WriteContentRequest { total: i64::MAX, ..stat.clone() }], tonic::Code::ResourceExhausted),
            (vec![WriteContentRequest { total: -1, ..stat.clone() }], tonic::Code::InvalidArgument),
            (vec![stat.clone(), request(WriteAction::Write, i64::MIN, "abc")], tonic::Code::OutOfRange),
            (vec![stat.clone(), request(WriteAction::Write, i64::MAX, "abc")], tonic::Code::OutOfRange),
        ] {
            assert_eq!(run(&requests).expect_err("is wrong").code(), code, "{requests:?}");
            assert_eq!(kept(), 0);
        }
        // Who goes away in the middle leaves nothing.
        run(&[stat.clone(), request(WriteAction::Write, 0, "abc")]).expect("is right so far");
        assert_eq!(kept(), 0);
        run(&[stat, request(WriteAction::Write, 0, "abc"), request(WriteAction::Commit, 3, "def")])
            .expect("is right");
        let path = folder.path().join(Digest::of("abcdef").hex());
        assert_eq!(std::fs::read_to_string(path).expect("is there"), "abcdef");
    }
}
