//! What is said between this process, the doorman and the keepers.
//!
//! Through the door: packets of one byte with four descriptors, the far ends of a command's line and of its standard
//! input, output and error. Down a line: once its length (four bytes), then the request: texts, each ended by a zero byte, which
//! none of them can hold. Up a line: five bytes, how it ended. Both ends are the same program, so there are no versions.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::HostCommand;

/// How a command ended, or why it did not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// Its working directory cannot be entered.
    NoCwd(i32),
    /// Its program does not exist.
    NotFound,
    /// Its program exists, what is to interpret it does not.
    NoInterpreter,
    /// Its program cannot be executed.
    NotExecuted(i32),
    /// Something else went wrong.
    Failed(i32),
}

const ANSWER_BYTES: usize = 5;

impl Answer {
    fn encode(self) -> [u8; ANSWER_BYTES] {
        let (kind, number) = match self {
            Self::Exited(code) => (0, code),
            Self::Signaled(signal) => (1, signal),
            Self::NoCwd(errno) => (2, errno),
            Self::NotFound => (3, 0),
            Self::NoInterpreter => (4, 0),
            Self::NotExecuted(errno) => (5, errno),
            Self::Failed(errno) => (6, errno),
        };
        let [a, b, c, d] = number.to_ne_bytes();
        [kind, a, b, c, d]
    }

    fn decode([kind, number @ ..]: [u8; ANSWER_BYTES]) -> Option<Self> {
        let number = i32::from_ne_bytes(number);
        Some(match kind {
            0 => Self::Exited(number),
            1 => Self::Signaled(number),
            2 => Self::NoCwd(number),
            3 => Self::NotFound,
            4 => Self::NoInterpreter,
            5 => Self::NotExecuted(number),
            6 => Self::Failed(number),
            _ => return None,
        })
    }
}

const FILES: usize = 4;

/// Sends descriptors through the door.
pub(super) fn send_files(door: &OwnedFd, files: [&OwnedFd; FILES]) -> io::Result<()> {
    let files = files.map(OwnedFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("no space for the descriptors"));
    }
    retry_on_intr(|| sendmsg(door, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives what [`send_files`] sent; `None` once nobody can send any more.
pub(super) fn receive_files(door: &OwnedFd) -> io::Result<Option<[OwnedFd; FILES]>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = retry_on_intr(|| {
        recvmsg(door, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    let told = |_| io::Error::new(io::ErrorKind::InvalidData, "a request without its descriptors");
    files.try_into().map(Some).map_err(told)
}

/// Sends a request. Its texts hold no zero bytes.
pub(super) fn write_request(line: &OwnedFd, command: &HostCommand) -> io::Result<()> {
    // Its input has a way of its own.
    let HostCommand { args, env, env_clear, cwd, stdin: _ } = command;
    let count = args.len().to_string();
    let mut body = Vec::new();
    let mut add = |text: &OsStr| {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    };
    add(cwd.as_os_str());
    add(OsStr::new(if *env_clear { "1" } else { "0" }));
    add(OsStr::new(&count));
    args.iter().for_each(|arg| add(arg));
    for (name, value) in env {
        add(name);
        add(value);
    }
    let length = u32::try_from(body.len()).map_err(|_| Errno::TOOBIG)?;
    write_all(line, &length.to_ne_bytes())?;
    write_all(line, &body)
}

/// Receives a request; `None` if the line was hung up before it was whole.
pub(super) fn read_request(line: &OwnedFd) -> io::Result<Option<HostCommand>> {
    let mut length = [0; 4];
    if !read_exact(line, &mut length)? {
        return Ok(None);
    }
    let mut body = vec![0; u32::from_ne_bytes(length) as usize];
    if !read_exact(line, &mut body)? {
        return Ok(None);
    }
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a request that cannot be read");
    decode_request(&body).ok_or_else(wrong).map(Some)
}

fn decode_request(body: &[u8]) -> Option<HostCommand> {
    let mut texts =
        body.strip_suffix(&[0])?.split(|byte| *byte == 0).map(<[u8]>::to_vec).map(OsString::from_vec);
    let cwd = PathBuf::from(texts.next()?);
    let env_clear = texts.next()? == "1";
    let count: usize = texts.next()?.to_str()?.parse().ok()?;
    let args: Vec<OsString> = texts.by_ref().take(count).collect();
    let mut env = Vec::new();
    while let Some(name) = texts.next() {
        env.push((name, texts.next()?));
    }
    (args.len() == count).then_some(HostCommand { args, env, env_clear, cwd, stdin: Vec::new() })
}

/// Sends an answer.
pub(super) fn write_answer(line: &OwnedFd, answer: Answer) -> io::Result<()> {
    write_all(line, &answer.encode())
}

/// Waits for the answer.
pub(super) fn read_answer(line: &OwnedFd) -> io::Result<Answer> {
    let mut bytes = [0; ANSWER_BYTES];
    if !read_exact(line, &mut bytes)? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Answer::decode(bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn write_all(line: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = retry_on_intr(|| rustix::net::send(line, bytes, SendFlags::NOSIGNAL))?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Fills `bytes`; false if the other end closed before.
fn read_exact(line: &OwnedFd, bytes: &mut [u8]) -> io::Result<bool> {
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match retry_on_intr(|| rustix::io::read(line, &mut *rest))? {
            0 => return Ok(false),
            length => at += length,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn line() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
    }

    proptest::proptest! {
        #[test]
        fn requests_arrive_as_sent(
            args in proptest::collection::vec("[^\0]{0,9}", 0..5),
            env in proptest::collection::vec(("[^\0=]{1,9}", "[^\0]{0,9}"), 0..5),
            env_clear: bool,
            cwd in "/[^\0]{0,9}",
        ) {
            let command = HostCommand {
                args: args.into_iter().map(OsString::from).collect(),
                env: env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
                env_clear,
                cwd: cwd.into(),
                stdin: Vec::new(),
            };
            let (near, far) = line();
            write_request(&near, &command).unwrap();
            proptest::prop_assert_eq!(read_request(&far).unwrap(), Some(command));
        }
    }

    #[test]
    fn what_is_cut_short_is_no_request() {
        for sent in [&b""[..], b"\0", &8u32.to_ne_bytes()] {
            let (near, far) = line();
            write_all(&near, sent).unwrap();
            drop(near);
            assert_eq!(read_request(&far).unwrap(), None);
        }
        for body in [&b""[..], b"/", b"/\0", b"/\x000\x002\0a\0", b"/\x000\x000\0NAME\0"] {
            assert_eq!(decode_request(body), None, "{body:?}");
        }
    }

    #[test]
    fn answers_arrive_as_sent() {
        use Answer::{Exited, Failed, NoCwd, NoInterpreter, NotExecuted, NotFound, Signaled};
        for answer in [
            Exited(0),
            Exited(255),
            Signaled(9),
            NoCwd(2),
            NotFound,
            NoInterpreter,
            NotExecuted(13),
            Failed(12),
        ] {
            assert_eq!(Answer::decode(answer.encode()), Some(answer));
        }
        assert_eq!(Answer::decode([9; ANSWER_BYTES]), None);
    }

    #[test]
    fn descriptors_arrive() {
        let (near, far) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (one, two) = line();
        send_files(&near, [&one, &two, &one, &two]).unwrap();
        let [first, second, _third, _fourth] = receive_files(&far).unwrap().unwrap();
        write_answer(&first, Answer::Exited(3)).unwrap();
        assert_eq!(read_answer(&second).unwrap(), Answer::Exited(3));
        drop(near);
        assert!(receive_files(&far).unwrap().is_none());
    }
}
