//! The standard streams as one connection.
//!
//! They may be pipes, sockets or files, of which each is waited for in another way: a thread each copies what comes, whatever it is.
//! Neither is waited for: they end with the streams, or with the process.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as BlockingStream;

use tokio::net::UnixStream;

/// So much is copied at once.
const PIECE_BYTES: usize = 64 << 10;

/// Returns the streams of this process as one.
pub(super) fn streams() -> io::Result<UnixStream> {
    let (ours, theirs) = BlockingStream::pair()?;
    ours.set_nonblocking(true)?;
    let (sender, receiver) = (theirs.try_clone()?, theirs);
    start("what the daemon says", move || {
        copy(&mut io::stdin().lock(), &mut &sender);
        sender.shutdown(Shutdown::Write).ok();
    })?;
    start("what it is told", move || copy(&mut &receiver, &mut io::stdout().lock()))?;
    UnixStream::from_std(ours)
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Copies until either end is gone, which the connection then says.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(length) => {
                if to.write_all(&piece[..length]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
