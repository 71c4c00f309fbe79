//! Blobs of which a sink has a part from an earlier time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rb_registry::{BlobSink, HostOptions, Notice, RegistryError};

use crate::client::{Notes, anonymous, descriptor, noise, plain, repository, with_host};
use crate::support::scripted::{Reply, Request, Scripted};

const SIZE: usize = 100_000;

/// Bytes, some of which were there before.
pub(crate) struct Kept {
    pub(crate) bytes: Vec<u8>,
    pub(crate) restarts: usize,
}

impl BlobSink for Kept {
    fn kept(&mut self, tell: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        self.bytes.chunks(1000).try_for_each(tell)?;
        Ok(self.bytes.len() as u64)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.bytes.clear();
        self.restarts += 1;
        Ok(())
    }
}

/// Answers a range as it should be.
pub(crate) fn ranged(request: &Request, bytes: &[u8]) -> Reply {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match range.map(|start| start.parse::<usize>().unwrap()) {
        None => Reply::new(200, bytes),
        Some(start) => Reply::new(206, &bytes[start..])
            .with("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
    }
}

/// Pulls with `kept` there already, and returns the ranges that were asked for.
async fn pull(
    kept: Vec<u8>,
    script: impl Fn(&Request, usize, &[u8]) -> Reply + Send + Sync + 'static,
) -> (Vec<Option<String>>, Result<Kept, RegistryError>) {
    let bytes = noise(SIZE);
    let server = Scripted::start(move |request, number| script(request, number, &bytes));
    let sink = Kept { bytes: kept, restarts: 0 };
    let blob = descriptor(&noise(SIZE));
    let got = anonymous(plain(&server.host)).blob(&repository(&server.host), &blob, sink).await;
    if let Ok(got) = &got {
        assert!(got.bytes == noise(SIZE));
    }
    (server.asked().iter().map(|request| request.header("range").map(ToOwned::to_owned)).collect(), got)
}

fn torn(count: usize) -> Vec<u8> {
    let mut bytes = noise(SIZE);
    bytes.truncate(count);
    bytes[count / 2] ^= 1;
    bytes
}

#[tokio::test]
async fn only_what_is_missing_is_asked_for() {
    let (asked, got) = pull(noise(SIZE)[..70_000].to_vec(), |request, _, bytes| ranged(request, bytes)).await;
    assert_eq!((asked, got.unwrap().restarts), (vec![Some("bytes=70000-".to_owned())], 0));
    // Nothing is missing but the proof.
    let (asked, got) = pull(noise(SIZE), |request, _, bytes| ranged(request, bytes)).await;
    assert_eq!((asked.len(), got.unwrap().restarts), (0, 0));
}

#[tokio::test]
async fn what_is_wrong_is_asked_for_anew_and_once() {
    for kept in [torn(70_000), torn(SIZE)] {
        let (asked, got) = pull(kept, |request, _, bytes| ranged(request, bytes)).await;
        assert_eq!((asked.last(), got.unwrap().restarts), (Some(&None), 1), "{asked:?}");
        assert!(asked.len() <= 2, "{asked:?}");
    }
    // More than the blob has.
    let (asked, got) = pull(vec![0; SIZE + 1], |request, _, bytes| ranged(request, bytes)).await;
    assert_eq!((asked, got.unwrap().restarts), (vec![None], 1));
    // Then the registry is to blame.
    let (asked, got) = pull(torn(70_000), |request, _, bytes| {
        let mut other = bytes.to_vec();
        other[99_999] ^= 1;
        ranged(request, &other)
    })
    .await;
    assert!(matches!(got, Err(RegistryError::Content { .. })));
    assert_eq!(asked, [Some("bytes=70000-".to_owned()), None]);
}

#[tokio::test]
async fn a_registry_without_ranges_sends_it_anew() {
    for kept in [noise(SIZE)[..70_000].to_vec(), torn(70_000)] {
        let (asked, got) = pull(kept, |_, _, bytes| Reply::new(200, bytes)).await;
        assert_eq!((asked.len(), got.unwrap().restarts), (1, 1));
    }
    let (asked, got) = pull(noise(SIZE)[..70_000].to_vec(), |request, _, bytes| {
        if request.header("range").is_some() { Reply::new(416, "") } else { Reply::new(200, bytes) }
    })
    .await;
    assert_eq!((asked, got.unwrap().restarts), (vec![Some("bytes=70000-".to_owned()), None], 1));
    // What it sends wrong is not asked for a second time.
    let (asked, got) = pull(noise(SIZE)[..70_000].to_vec(), |_, _, _| Reply::new(200, noise(SIZE - 1))).await;
    assert!(matches!(got, Err(RegistryError::Content { .. })));
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn a_failure_of_many_at_once_is_told_once() {
    let server = Scripted::start(|request, _| {
        let number: usize = request.path.len();
        assert!(number > 0);
        Reply::new(503, "")
    });
    let limits = rb_registry::Limits {
        tries: 3,
        first_pause: Duration::from_secs(1),
        ..rb_registry::Limits::default()
    };
    let host = HostOptions { plain_http: true, ..HostOptions::default() };
    let options = rb_registry::RegistryOptions { limits, ..with_host(&server.host, host) };
    let (registry, notes) = (anonymous(options), Arc::new(Notes::default()));
    let mut pulls = tokio::task::JoinSet::new();
    for size in 1..=5 {
        let (registry, place) = (registry.watched(notes.clone()), repository(&server.host));
        pulls.spawn(async move { registry.blob(&place, &descriptor(&noise(size)), Vec::new()).await });
    }
    while let Some(pull) = pulls.join_next().await {
        pull.unwrap().unwrap_err();
    }
    assert_eq!(server.asked().len(), 15);
    let told: Vec<String> = notes.notices.lock().unwrap().iter().map(Notice::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for (line, number) in told.iter().zip(2..) {
        let begins = format!("{}: tries again in ", server.host);
        assert!(line.starts_with(&begins) && line.contains(&format!("(try {number} of 3): ")), "{line}");
    }
}
