//! A proxy on the level of TCP that cuts and delays connections on their way to a server.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fault {
    /// It is cut after so many bytes from the client.
    pub(crate) cut_up: Option<usize>,
    /// It is cut after so many bytes from the server.
    pub(crate) cut_down: Option<usize>,
    /// Each piece waits so long.
    pub(crate) delay: Duration,
}

/// The proxy; it ends with the process.
pub(crate) struct FaultProxy {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    next: Arc<Mutex<Vec<Fault>>>,
    down: Arc<AtomicUsize>,
}

impl FaultProxy {
    /// Starts to lead to `target` (`127.0.0.1:PORT`).
    pub(crate) fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (next, down) = (Arc::new(Mutex::new(Vec::new())), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&down);
        let (faults, target) = (Arc::clone(&next), target.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let faults = Arc::clone(&faults);
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (up, down) = (Arc::clone(&faults), Arc::clone(&counted));
                std::thread::spawn(move || {
                    carry(from, to, &up, &AtomicUsize::new(0), |fault| &mut fault.cut_up);
                });
                std::thread::spawn(move || {
                    carry(server, client, &faults, &down, |fault| &mut fault.cut_down);
                });
            }
        });
        Self { host, next, down }
    }

    /// Lets the first of these faults happen, then the next, and then none.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.next.lock().unwrap() = faults.into_iter().collect();
    }

    /// How many bytes the server has sent.
    pub(crate) fn down(&self) -> usize {
        self.down.load(Ordering::SeqCst)
    }

    /// How many faults have not happened yet.
    pub(crate) fn left(&self) -> usize {
        self.next.lock().unwrap().len()
    }
}

/// Carries bytes; the fault at the front counts the bytes of all connections, so that those kept alive count as well.
fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    faults: &Mutex<Vec<Fault>>,
    carried: &AtomicUsize,
    side: fn(&mut Fault) -> &mut Option<usize>,
) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        let (mut pass, mut cut, mut delay) = (count, false, Duration::ZERO);
        {
            let mut faults = faults.lock().unwrap();
            if let Some(fault) = faults.first_mut() {
                delay = fault.delay;
                if let Some(left) = side(fault) {
                    cut = *left <= count;
                    pass = count.min(*left);
                    *left -= pass;
                }
                if cut {
                    faults.remove(0);
                }
            }
        }
        std::thread::sleep(delay);
        if count == 0 || to.write_all(&buffer[..pass]).is_err() || cut {
            break;
        }
        carried.fetch_add(pass, Ordering::SeqCst);
    }
    // Either side may be gone.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}
