//! A terminal of its own for a command, and this process's terminal while the command has it.
//!
//! In: a [`Terminal`] in the [`Spec`](crate::Spec). The pair is opened in the sandbox's own `/dev/pts`, so that the name
//! the command sees is one of its root; its end becomes the controlling terminal and the three streams. What is typed
//! goes in as it is, and what comes out is written as it is: all keys that mean something (Ctrl-C, Ctrl-Z) mean it to the
//! command, once [`RawMode`] has taken their meaning here.
//! **Invariant:** the settings of the user's terminal come back when [`RawMode`] is dropped, however that comes about.
//! Source: pty(7), ioctl_tty(2), termios(3).

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rb_sys::child::Child;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, Winsize, tcgetattr, tcgetpgrp, tcgetwinsize,
    tcsetattr, tcsetwinsize,
};

use crate::kill::Registration;
use crate::run::Stream;
use crate::signals;
use crate::spec::{Output, Spec, Stdin};

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl Default for Size {
    /// What a terminal has of which nobody says.
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

impl Size {
    /// Returns the size of a terminal; nothing if `file` is none or does not know it.
    pub fn of(file: impl AsFd) -> Option<Self> {
        let found = tcgetwinsize(file).ok()?;
        (found.ws_col > 0 && found.ws_row > 0).then_some(Self { columns: found.ws_col, rows: found.ws_row })
    }
}

/// A terminal that a command is given. Clones are one terminal; usable from any thread, before, during and after the run.
#[derive(Clone, Debug)]
pub struct Terminal {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    size: Size,
    /// Our end of it, while a command has it.
    ours: Option<OwnedFd>,
}

impl Terminal {
    /// Returns a terminal of this size.
    pub fn new(size: Size) -> Self {
        Self { state: Arc::new(Mutex::new(State { size, ours: None })) }
    }

    /// Gives it another size; the command is sent SIGWINCH.
    pub fn resize(&self, size: Size) {
        let mut state = self.lock();
        state.size = size;
        if let Some(ours) = &state.ours {
            // Nothing more can be done about a terminal that does not take it.
            set_size(ours, size).ok();
        }
    }

    fn attach(&self, ours: OwnedFd) -> io::Result<()> {
        let mut state = self.lock();
        set_size(&ours, state.size)?;
        state.ours = Some(ours);
        Ok(())
    }

    fn detach(&self) {
        self.lock().ours = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a single step, so a panicked holder leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_size(file: &OwnedFd, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(file, size)?)
}

/// The user's terminal, on which no key means anything, until this is dropped.
#[derive(Debug)]
pub struct RawMode {
    file: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Takes the meaning of keys, the echo and the editing of lines from a terminal.
    pub fn enter(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&file)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&file, OptionalActions::Now, &raw)?;
        Ok(Self { file, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that went away needs no settings.
        tcsetattr(&self.file, OptionalActions::Now, &self.before).ok();
    }
}

/// Both ends of a terminal.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) ours: OwnedFd,
    pub(crate) theirs: OwnedFd,
}

/// Name in a new file system of terminals of the first one.
pub(crate) const FIRST: &str = "0";

/// Opens the first terminal of `terminals`, a mount of devpts, for the user `uid` inside. It has its size already: a command
/// may ask for it first of all.
pub(crate) fn open(terminals: &OwnedFd, uid: u32, terminal: &Terminal) -> io::Result<Pair> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let ours = rustix::fs::openat(terminals, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&ours)?;
    let theirs = rustix::fs::openat(terminals, FIRST, flags, Mode::empty())?;
    rustix::fs::fchown(&theirs, Some(rustix::fs::Uid::from_raw(uid)), None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    set_size(&ours, terminal.lock().size)?;
    Ok(Pair { ours, theirs })
}

const BUFFER_BYTES: usize = 16 << 10;

/// Carries what is typed in, and what is written out, until the command has ended and all it wrote is out.
pub(crate) fn carry(
    run: (&Child, &Registration),
    pair: Pair,
    terminal: &Terminal,
    spec: &Spec,
    log: &mut dyn FnMut(Stream, &[u8]),
) -> io::Result<()> {
    let Pair { ours, theirs } = pair;
    terminal.attach(ours.try_clone()?)?;
    let carried = relay(run, &ours, theirs, spec, log);
    terminal.detach();
    carried
}

fn relay(
    (child, registration): (&Child, &Registration),
    ours: &OwnedFd,
    theirs: OwnedFd,
    spec: &Spec,
    log: &mut dyn FnMut(Stream, &[u8]),
) -> io::Result<()> {
    let pidfd = Arc::clone(child.pidfd());
    let (typed, mut typing) = match &spec.stdio.stdin {
        Stdin::Inherit => (rustix::stdio::stdin(), true),
        Stdin::From(file) => (file.0.as_fd(), true),
        Stdin::Null => (rustix::stdio::stdin(), false),
    };
    let mut buffer = vec![0; BUFFER_BYTES];
    // What was typed and not yet taken; nothing more is read until it is.
    let mut pending: Vec<u8> = Vec::new();
    let mut say = out(spec.stdio.output, log)?;
    loop {
        let ours_events = if pending.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut polled = vec![PollFd::new(&pidfd, PollFlags::IN), PollFd::new(ours, ours_events)];
        if typing && pending.is_empty() {
            polled.push(PollFd::from_borrowed_fd(typed, PollFlags::IN));
        }
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut ready = polled.iter().map(|polled| polled.revents());
        let ended = !ready.next().unwrap_or(PollFlags::empty()).is_empty();
        let of_ours = ready.next().unwrap_or(PollFlags::empty());
        let of_typed = ready.next().unwrap_or(PollFlags::empty());
        drop(polled);
        if ended {
            break;
        }
        if of_ours.contains(PollFlags::IN) {
            read_once(ours, &mut buffer, &mut say)?;
        }
        if of_ours.contains(PollFlags::OUT) {
            send(ours, &mut pending)?;
        }
        if !of_typed.is_empty() {
            typing = take(typed, &mut buffer, &mut pending)?;
            // Asked before the key arrives: a program may do less about the next one than about this one.
            let kept = kept_key(ours, &pending, &pidfd);
            send(ours, &mut pending)?;
            if let Some(signal) = kept {
                registration.end_by(signal);
            }
        }
    }
    // While our copy of the other end was open there was no end; now what is left ends.
    drop(theirs);
    while read_once(ours, &mut buffer, &mut say)? {}
    Ok(())
}

/// Returns the signal of a key that was typed (Ctrl-C, Ctrl-\), if the kernel keeps it from the command: it is the first
/// process of its sandbox, has the terminal to itself and does nothing about that signal.
fn kept_key(ours: &OwnedFd, typed: &[u8], process: &OwnedFd) -> Option<Signal> {
    let modes = tcgetattr(ours).ok()?;
    if !modes.local_modes.contains(LocalModes::ISIG) {
        return None;
    }
    let keys = [(SpecialCodeIndex::VINTR, Signal::INT), (SpecialCodeIndex::VQUIT, Signal::QUIT)];
    let mut meant =
        keys.into_iter().filter(|(key, _)| is_typed(&modes, *key, typed)).map(|(_, signal)| signal);
    let kept = meant.find(|signal| signals::is_kept(process, *signal))?;
    let in_front = tcgetpgrp(ours).ok()?.as_raw_pid();
    (signals::id(process) == Some(in_front)).then_some(kept)
}

/// Whether a key is among these, and not as a character that Ctrl-V takes the meaning of.
fn is_typed(modes: &Termios, key: SpecialCodeIndex, typed: &[u8]) -> bool {
    let key = modes.special_codes[key];
    let literal = modes.special_codes[SpecialCodeIndex::VLNEXT];
    let mut is_quoted = false;
    typed.iter().any(|byte| {
        let means = *byte == key && !is_quoted;
        is_quoted = *byte == literal && !is_quoted;
        // A zero is no key.
        means && key != 0
    })
}

/// What takes output.
type Say<'a> = Box<dyn FnMut(&[u8]) + 'a>;

/// Where output goes.
fn out<'a>(output: Output, log: &'a mut dyn FnMut(Stream, &[u8])) -> io::Result<Say<'a>> {
    Ok(match output {
        Output::Pipes => Box::new(move |bytes| log(Stream::Stdout, bytes)),
        Output::Inherit => {
            let mut stdout = File::from(rustix::stdio::stdout().try_clone_to_owned()?);
            // The command does not end because nobody looks any more.
            Box::new(move |bytes| drop(stdout.write_all(bytes)))
        }
    })
}

/// Reads what is there, one buffer of it; says whether there may be more.
fn read_once(ours: &OwnedFd, buffer: &mut [u8], say: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
    loop {
        return match rustix::io::read(ours, &mut *buffer) {
            // EIO: nobody has the other end.
            Ok(0) | Err(Errno::AGAIN | Errno::IO) => Ok(false),
            Ok(length) => {
                say(buffer.get(..length).unwrap_or_default());
                Ok(true)
            }
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Reads what was typed; says whether more can come.
fn take(typed: BorrowedFd<'_>, buffer: &mut [u8], pending: &mut Vec<u8>) -> io::Result<bool> {
    match rustix::io::read(typed, &mut *buffer) {
        // A terminal that went away (EIO) types no more either.
        Ok(0) | Err(Errno::IO) => Ok(false),
        Ok(length) => {
            pending.extend_from_slice(buffer.get(..length).unwrap_or_default());
            Ok(true)
        }
        Err(Errno::INTR | Errno::AGAIN) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Hands on what was typed, as much as is taken.
fn send(ours: &OwnedFd, pending: &mut Vec<u8>) -> io::Result<()> {
    while !pending.is_empty() {
        match rustix::io::write(ours, pending) {
            Ok(length) => drop(pending.drain(..length.min(pending.len()))),
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(Errno::IO) => pending.clear(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Option<(OwnedFd, OwnedFd)> {
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let ours = rustix::pty::openpt(flags).ok()?;
        rustix::pty::unlockpt(&ours).ok()?;
        let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags).ok()?;
        Some((ours, theirs))
    }

    #[test]
    fn settings_come_back_on_every_way_out() {
        let Some((_ours, theirs)) = pair() else { return };
        let modes = || tcgetattr(&theirs).map(|found| (found.local_modes, found.input_modes)).unwrap();
        let before = modes();
        let raw = RawMode::enter(&theirs).unwrap();
        assert_ne!(modes(), before);
        drop(raw);
        assert_eq!(modes(), before);
        let panicked = std::panic::catch_unwind(|| {
            let _raw = RawMode::enter(&theirs).unwrap();
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!(modes(), before);
        assert!(RawMode::enter(File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn a_size_is_kept_until_there_is_a_terminal_and_told_when_it_changes() {
        let Some((ours, theirs)) = pair() else { return };
        let terminal = Terminal::new(Size { columns: 100, rows: 30 });
        terminal.resize(Size { columns: 101, rows: 31 });
        terminal.attach(ours).unwrap();
        assert_eq!(Size::of(&theirs), Some(Size { columns: 101, rows: 31 }));
        terminal.resize(Size { columns: 7, rows: 5 });
        assert_eq!(Size::of(&theirs), Some(Size { columns: 7, rows: 5 }));
        terminal.detach();
        terminal.resize(Size::default());
        assert_eq!(Size::of(File::open("/dev/null").unwrap()), None);
    }
}
