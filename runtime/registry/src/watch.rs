//! What a registry client tells while it works.

use std::fmt;
use std::time::Duration;

use rb_oci::Digest;

/// Is told of progress and of what goes on; both come from any thread, and often.
pub trait Watch: Send + Sync {
    /// `done` of `total` bytes of a blob were received or sent. After a restart, `done` is smaller than before.
    fn transferred(&self, blob: &Digest, done: u64, total: u64) {
        let _ = (blob, done, total);
    }

    /// Something takes longer than one would think.
    fn notice(&self, notice: &Notice) {
        let _ = notice;
    }
}

/// Is told nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWatch;

impl Watch for NoWatch {}

/// Why something takes longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A request is made again after a pause. Told once for all requests of a registry that fail at about the same time, and
    /// again when it gets worse.
    Again {
        /// The registry.
        host: String,
        /// Why the one before failed.
        reason: String,
        /// How long the pause is.
        pause: Duration,
        /// Which try comes then, from 2 on.
        number: u32,
        /// How many there are at most, unless something comes meanwhile.
        allowed: u32,
    },
    /// A host that was asked says nothing. Told once for all requests that wait for it at about the same time.
    Silent {
        /// The host.
        host: String,
        /// For how long.
        after: Duration,
    },
    /// A mirror cannot help; the next one, or the registry itself, is asked.
    MirrorSkipped {
        /// The mirror.
        mirror: String,
        /// Why not.
        reason: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Again { host, reason, pause, number, allowed } => {
                let pause = pause.as_secs_f64();
                write!(out, "{host}: tries again in {pause:.1} s (try {number} of {allowed}): {reason}")
            }
            Self::Silent { host, after } => {
                write!(out, "{host}: nothing came for {} s; it is waited for", after.as_secs_f64())
            }
            Self::MirrorSkipped { mirror, reason } => write!(out, "mirror {mirror} is skipped: {reason}"),
        }
    }
}
