//! `rb cache`: what is kept between builds.

use std::time::{Duration, Instant};

use rb_engine::{BrokenImage, Verified};
use rb_store::{BadSnapshot, GoneReason, Progress};
use serde_json::{Value, json};

use super::workbench::Workbench;
use crate::args::CacheCommand;
use crate::progress::human_bytes;
use crate::report::{self, Failure};
use crate::settings::{ProgressMode, Settings};

pub(super) mod space;

/// Exit code where damage was found.
const DAMAGED: u8 = 1;

/// Time between two words about how far it is: on a terminal, where the line is written over, and elsewhere.
const TELL_EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Does one of the subcommands.
pub(super) fn execute(settings: &Settings, command: &CacheCommand) -> Result<u8, Failure> {
    let name = match command {
        CacheCommand::Du(_) => "du",
        CacheCommand::Prune(_) => "prune",
        CacheCommand::Pin(_) => "pin",
        CacheCommand::Unpin(_) => "unpin",
        CacheCommand::Verify { .. } => "verify",
    };
    let bench = Workbench::open(settings, super::record::Asked::of("cache", name), None)?;
    let store = bench.engine.store();
    match command {
        CacheCommand::Verify { json } => return verify(settings, bench, *json),
        CacheCommand::Du(args) => space::du(store, &settings.space, args)?,
        CacheCommand::Prune(args) => space::prune(store, args)?,
        CacheCommand::Pin(args) => space::pin(store, args, true)?,
        CacheCommand::Unpin(args) => space::pin(store, args, false)?,
    }
    bench.close();
    Ok(0)
}

fn verify(settings: &Settings, bench: Workbench, json: bool) -> Result<u8, Failure> {
    let mut meter = Meter::new(settings.display.mode);
    let found = bench.engine.verify(&mut |progress| meter.tell(progress));
    meter.end();
    let found = found?;
    let text = if json { format!("{:#}\n", as_json(&found)) } else { lines(&found) };
    report::print(text.as_bytes())?;
    bench.close();
    Ok(if found.is_sound() { 0 } else { DAMAGED })
}

/// Says on stderr how far it is.
struct Meter {
    mode: ProgressMode,
    last: Instant,
    /// A line without its end is on the terminal.
    open: bool,
}

impl Meter {
    fn new(mode: ProgressMode) -> Self {
        Self { mode, last: Instant::now(), open: false }
    }

    fn tell(&mut self, progress: Progress) {
        let (on_terminal, elsewhere) = TELL_EVERY;
        let every = if self.mode == ProgressMode::Live { on_terminal } else { elsewhere };
        if self.mode == ProgressMode::Quiet || self.last.elapsed() < every {
            return;
        }
        self.last = Instant::now();
        self.open = self.mode == ProgressMode::Live;
        report::tell(&told(progress, self.mode));
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            report::tell("\r\x1b[K");
        }
    }
}

fn told(Progress { read_bytes, all_bytes }: Progress, mode: ProgressMode) -> String {
    let line = format!("read {} of {}", human_bytes(read_bytes), human_bytes(all_bytes));
    match mode {
        ProgressMode::Live => format!("\r{line}\x1b[K"),
        ProgressMode::Json => {
            format!("{}\n", json!({ "event": "progress", "read_bytes": read_bytes, "all_bytes": all_bytes }))
        }
        ProgressMode::Plain => format!("{line}\n"),
        ProgressMode::RawJson | ProgressMode::Quiet => String::new(),
    }
}

fn lines(Verified { stored: found, broken_images, absent_platforms }: &Verified) -> String {
    let mut out = format!(
        "read {} ({}) and {} ({})\n",
        counted(found.snapshots, "layer"),
        human_bytes(found.snapshot_bytes),
        counted(found.blobs, "blob"),
        human_bytes(found.blob_bytes)
    );
    if found.unknown_snapshots > 0 {
        let layers = counted(found.unknown_snapshots, "layer");
        out += &format!("{layers} by an older version: it is not recorded what should be there\n");
    }
    for BadSnapshot { id, reason, size_bytes, children, children_bytes } in &found.bad_snapshots {
        let what = if *reason == GoneReason::Lost { "is gone from the disk" } else { "is damaged" };
        let with_it = match children {
            0 => String::new(),
            _ => format!(", with {children} built on it ({})", human_bytes(*children_bytes)),
        };
        out += &format!("layer {id} ({}) {what}: dropped{with_it}\n", human_bytes(*size_bytes));
    }
    for (digest, size_bytes) in &found.damaged_blobs {
        out += &format!("blob {} ({}) is damaged: dropped\n", digest.short(), human_bytes(*size_bytes));
    }
    for BrokenImage { name, missing } in broken_images {
        let missing: Vec<String> =
            missing.iter().map(|(what, digest)| format!("{what} {}", digest.short())).collect();
        out += &format!("image {name} lacks {}\n", missing.join(", "));
    }
    for (name, platform) in absent_platforms {
        out += &format!("image {name} is an index of which {platform} is not here\n");
    }
    if !found.is_sound() {
        out += "the next build makes again what it needs of this\n";
    }
    out += match (found.is_sound(), broken_images.is_empty()) {
        (true, true) => "nothing is damaged\n",
        (false, true) => "",
        (_, false) => "build, pull or load these images again, or remove them: `rb image rm NAME`\n",
    };
    out
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn as_json(verified: &Verified) -> Value {
    let found = &verified.stored;
    let images: Vec<Value> = verified
        .broken_images
        .iter()
        .map(|BrokenImage { name, missing }| {
            let missing: Vec<Value> =
                missing.iter().map(|(what, digest)| json!({ "what": what, "digest": digest })).collect();
            json!({ "name": name, "missing": missing })
        })
        .collect();
    let absent: Vec<Value> = verified
        .absent_platforms
        .iter()
        .map(|(name, platform)| json!({ "name": name, "platform": platform }))
        .collect();
    let layers: Vec<Value> = found
        .bad_snapshots
        .iter()
        .map(|bad| {
            json!({
                "id": bad.id.0,
                "reason": if bad.reason == GoneReason::Lost { "lost" } else { "damaged" },
                "size_bytes": bad.size_bytes,
                "dropped_with_it": bad.children,
                "dropped_with_it_bytes": bad.children_bytes,
            })
        })
        .collect();
    let blobs: Vec<Value> = found
        .damaged_blobs
        .iter()
        .map(|(digest, size_bytes)| json!({ "digest": digest, "size_bytes": size_bytes }))
        .collect();
    json!({
        "sound": verified.is_sound(),
        "layers": {
            "read": found.snapshots, "read_bytes": found.snapshot_bytes,
            "not_comparable": found.unknown_snapshots, "dropped": layers,
        },
        "blobs": { "read": found.blobs, "read_bytes": found.blob_bytes, "dropped": blobs },
        "images": { "broken": images, "absent_platforms": absent },
    })
}

#[cfg(test)]
mod tests {
    use rb_oci::Digest;
    use rb_store::SnapshotId;

    use super::*;

    fn found() -> Verified {
        let bad = |id, reason, children| BadSnapshot {
            id: SnapshotId(id),
            reason,
            size_bytes: 4096,
            children,
            children_bytes: 1_000_000 * children as u64,
        };
        let stored = rb_store::Verified {
            blobs: 1,
            blob_bytes: 17,
            damaged_blobs: vec![(Digest::of("blob"), 17)],
            snapshots: 5,
            snapshot_bytes: 5_000_000,
            unknown_snapshots: 1,
            bad_snapshots: vec![bad(3, GoneReason::Corrupt, 2), bad(7, GoneReason::Lost, 0)],
        };
        let missing = vec![("config", Digest::of("config"))];
        Verified {
            stored,
            broken_images: vec![BrokenImage { name: "app:1".to_owned(), missing }],
            absent_platforms: vec![("many:1".to_owned(), "linux/arm64".to_owned())],
        }
    }

    #[test]
    fn what_was_found_is_told_with_its_size() {
        insta::assert_snapshot!(lines(&found()), @r"
        read 5 layers (5.0 MB) and 1 blob (17 B)
        1 layer by an older version: it is not recorded what should be there
        layer 3 (4.1 kB) is damaged: dropped, with 2 built on it (2.0 MB)
        layer 7 (4.1 kB) is gone from the disk: dropped
        blob fa2c8cc4f281 (17 B) is damaged: dropped
        image app:1 lacks config b79606fb3afe
        image many:1 is an index of which linux/arm64 is not here
        the next build makes again what it needs of this
        build, pull or load these images again, or remove them: `rb image rm NAME`
        ");
        let nothing = "read 0 layers (0 B) and 0 blobs (0 B)\nnothing is damaged\n";
        assert_eq!(lines(&Verified::default()), nothing);
    }

    #[test]
    fn programs_are_told_the_same() {
        insta::assert_snapshot!(as_json(&found()), @r#"{"blobs":{"dropped":[{"digest":"sha256:fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8","size_bytes":17}],"read":1,"read_bytes":17},"images":{"absent_platforms":[{"name":"many:1","platform":"linux/arm64"}],"broken":[{"missing":[{"digest":"sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910","what":"config"}],"name":"app:1"}]},"layers":{"dropped":[{"dropped_with_it":2,"dropped_with_it_bytes":2000000,"id":3,"reason":"damaged","size_bytes":4096},{"dropped_with_it":0,"dropped_with_it_bytes":0,"id":7,"reason":"lost","size_bytes":4096}],"not_comparable":1,"read":5,"read_bytes":5000000},"sound":false}"#);
        assert_eq!(as_json(&Verified::default())["sound"], true);
    }

    #[test]
    fn progress_is_said_in_the_way_that_was_asked_for() {
        let progress = Progress { read_bytes: 1_000, all_bytes: 2_000_000 };
        assert_eq!(told(progress, ProgressMode::Plain), "read 1.0 kB of 2.0 MB\n");
        assert_eq!(told(progress, ProgressMode::Quiet), "");
        assert!(told(progress, ProgressMode::Json).contains("\"read_bytes\":1000"));
    }
}
