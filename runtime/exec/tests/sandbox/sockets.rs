//! Sockets of outside, inside.

use std::io::{Read as _, Write as _};

use rb_exec::{Bind, ExecError, ExtraMount, RootMount, Socket, SocketMount, UserSpec};

use crate::support::{Scratch, listing, output, shell, stepping_aside, try_spec, words};

/// Connects to a socket, says a word and prints the answer.
const TALK: &str = "socket(my $s, 1, 1, 0) or die; connect($s, pack('S a*', 1, '/run/agent/sock')) or die \"$!\\n\"; \
    syswrite($s, 'hello'); while (sysread($s, my $word, 99)) { print $word }";

/// This machine's own programs, of which busybox has none for sockets, and the socket.
fn mounts(socket: Socket) -> Vec<ExtraMount> {
    let own = ["/usr", "/lib", "/lib64"].into_iter().filter(|path| std::path::Path::new(path).exists());
    let own = own.map(|path| {
        let (source, target) = (path.into(), path.to_owned());
        ExtraMount::Bind(Bind { source, target, readonly: true, ..Bind::default() })
    });
    let target = "/run/agent/sock".to_owned();
    own.chain([ExtraMount::Socket(SocketMount { socket, target })]).collect()
}

#[test]
fn a_command_talks_to_who_listens_outside() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let upper = scratch.upper();
    let root = RootMount::overlay(vec![scratch.busybox("base")], Some(upper.clone()));
    let (socket, listener) = Socket::listen(7, 8, 0o600).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut word = [0; 5];
        client.read_exact(&mut word).unwrap();
        client.write_all(b"heard ").unwrap();
        client.write_all(&word).unwrap();
    });
    if !std::path::Path::new("/usr/bin/perl").exists() {
        eprintln!("stepping aside: this needs perl");
        return;
    }
    let script = "stat -c '%a %u:%g %F' /run/agent/sock; exec /usr/bin/perl -e \"$0\"";
    let mut spec = shell(root, script);
    spec.args.push(TALK.to_owned());
    spec.user = UserSpec("7:8".to_owned());
    spec.mounts = mounts(socket);
    assert_eq!(output(&spec), "600 7:8 socket\nheard hello");
    answering.join().unwrap();
    assert_eq!(listing(&upper.upper), [""; 0]);

    // Its permissions hold.
    let (socket, _listener) = Socket::listen(0, 0, 0o600).unwrap();
    spec.args = words(&["/usr/bin/perl", "-e", TALK]);
    spec.mounts = mounts(socket);
    let refused = try_spec(&spec).unwrap();
    assert!(refused.stderr.contains("Permission denied"), "{refused:?}");
    // Nor does any path of this machine lead to it.
    let own = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!own.contains("/run/agent"));
}

#[test]
fn an_owner_that_does_not_exist_is_an_error() {
    if stepping_aside() {
        return;
    }
    let made = Socket::listen(u32::MAX, 0, 0o600);
    assert!(matches!(made, Err(ExecError::UnmappedId { .. })), "{made:?}");
}
