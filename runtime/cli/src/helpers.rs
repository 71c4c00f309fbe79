//! Credentials of the user, and the helpers that keep them, run on the user's own machine, where their keychains are.
//!
//! In: a program's name, a word, and what it is told on standard input. Out: what it said. It has no terminal, half a
//! minute, and so many bytes to say.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rb_diag::chain;
use rb_exec::{ExecError, ExitStatus, HostCommand, KillSwitch, Outside, Stream};
use rb_registry::{DockerConfig, HelperFailure, HelperOutput, HelperRunner};
use rb_session::Secret;
use zeroize::Zeroize as _;

use crate::settings::registry::RegistrySettings;

/// How long a helper may take; it may have to ask for a keychain to be opened.
const LIMIT: Duration = Duration::from_secs(30);

/// How much it may say.
const LIMIT_BYTES: usize = 1 << 20;

/// Returns who knows the user's credentials.
pub(crate) fn docker_config(settings: &RegistrySettings, outside: Arc<Outside>) -> DockerConfig {
    let RegistrySettings { docker_config, podman_auth_files, .. } = settings;
    let helpers = Arc::new(OutsideHelpers { outside, limit: LIMIT });
    DockerConfig::new(docker_config.clone(), podman_auth_files.clone(), helpers)
}

/// Runs helpers outside of all sandboxes.
struct OutsideHelpers {
    outside: Arc<Outside>,
    limit: Duration,
}

impl HelperRunner for OutsideHelpers {
    fn run(&self, program: &str, action: &str, input: &Secret) -> Result<HelperOutput, HelperFailure> {
        let mut command = HostCommand {
            args: vec![program.into(), action.into()],
            // Not the user's folder: a PATH with a dot in it must not find what a project holds.
            cwd: "/".into(),
            stdin: input.as_ref().to_vec(),
            ..HostCommand::default()
        };
        let ended = within(self.limit, |kill, sink| self.outside.run(&command, kill, sink));
        command.stdin.zeroize();
        ended
    }
}

/// Takes output.
type Sink<'a> = &'a mut dyn FnMut(Stream, &[u8]);

/// Runs a helper by `start` and ends it at the limits.
fn within(
    limit: Duration,
    start: impl FnOnce(&KillSwitch, Sink<'_>) -> Result<ExitStatus, ExecError>,
) -> Result<HelperOutput, HelperFailure> {
    let kill = KillSwitch::new();
    let (done, waiting) = channel::<()>();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut too_long = false;
    let (ended, timed_out) = std::thread::scope(|scope| {
        let watched = &kill;
        let watch = scope.spawn(move || {
            let timed_out = matches!(waiting.recv_timeout(limit), Err(RecvTimeoutError::Timeout));
            if timed_out {
                watched.kill();
            }
            timed_out
        });
        let ended = start(&kill, &mut |stream, bytes| {
            let said = match stream {
                Stream::Stdout => &mut stdout,
                Stream::Stderr => &mut stderr,
            };
            if said.len() + bytes.len() > LIMIT_BYTES {
                too_long = true;
                kill.kill();
            } else {
                grow(said, bytes);
            }
        });
        drop(done);
        // The watch only waits and looks, so it does not panic.
        (ended, watch.join().unwrap_or(false))
    });
    let (stdout, stderr) = (Secret::new(stdout), Secret::new(stderr));
    match ended {
        _ if too_long => Err(HelperFailure::TooLong { limit_bytes: LIMIT_BYTES }),
        _ if timed_out => Err(HelperFailure::TimedOut { limit }),
        Ok(status) => Ok(HelperOutput { success: status == ExitStatus::Exited(0), stdout, stderr }),
        Err(ExecError::NotFoundOutside { .. }) => Err(HelperFailure::NotInstalled),
        Err(error) => Err(HelperFailure::NotRun { reason: chain(&error), kind: error.kind() }),
    }
}

/// Appends, and leaves nothing behind where the bytes have to move.
fn grow(said: &mut Vec<u8>, bytes: &[u8]) {
    if said.capacity() - said.len() < bytes.len() {
        let mut larger = Vec::with_capacity(2 * (said.len() + bytes.len()));
        larger.extend_from_slice(said);
        said.zeroize();
        *said = larger;
    }
    said.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[test]
    fn what_it_says_is_told_apart() {
        let output = within(LIMIT, |_, sink| {
            sink(Stream::Stdout, b"ou");
            sink(Stream::Stderr, b"err");
            sink(Stream::Stdout, b"t");
            Ok(ExitStatus::Exited(1))
        });
        let expected = HelperOutput { success: false, stdout: secret("out"), stderr: secret("err") };
        assert_eq!(output, Ok(expected));
        let missing = || ExecError::NotFoundOutside { program: "x".to_owned() };
        assert_eq!(within(LIMIT, |_, _| Err(missing())), Err(HelperFailure::NotInstalled));
        let output = within(LIMIT, |_, _| Ok(ExitStatus::Signaled(9)));
        assert!(output.is_ok_and(|output| !output.success));
    }

    #[test]
    fn it_ends_at_the_limits() {
        let until_killed = |kill: &KillSwitch| {
            while !kill.is_killed() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(ExitStatus::Signaled(9))
        };
        let limit = Duration::from_millis(20);
        assert_eq!(within(limit, |kill, _| until_killed(kill)), Err(HelperFailure::TimedOut { limit }));
        let much = within(LIMIT, |kill, sink| {
            sink(Stream::Stdout, &vec![b'x'; LIMIT_BYTES]);
            assert!(!kill.is_killed());
            sink(Stream::Stdout, b"x");
            until_killed(kill)
        });
        assert_eq!(much, Err(HelperFailure::TooLong { limit_bytes: LIMIT_BYTES }));
    }
}
