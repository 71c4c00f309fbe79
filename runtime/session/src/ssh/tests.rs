//! With OpenSSH's own programs, where they are installed.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use super::*;

fn program(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args).env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
    command
}

fn is_installed() -> bool {
    let found = program("ssh-keygen", &["-?"]).output().is_ok();
    if !found {
        eprintln!("stepping aside: this needs ssh-keygen, ssh-add and ssh-agent (openssh-client)");
    }
    found
}

fn text(path: &Path) -> &str {
    path.to_str().expect("is text")
}

fn make_key(path: &Path, options: &[&str]) {
    let args = [["-q", "-N", "", "-C", "me@here", "-f", text(path)].as_slice(), options].concat();
    // An empty passphrase of ours gives way to one of the options.
    let made = program("ssh-keygen", &args).output().expect("runs");
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn keys_sign_as_openssh_wants_it() {
    if !is_installed() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let kinds: [&[&str]; 5] = [
        &["-t", "ed25519"],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "rsa", "-b", "2048"],
        &["-t", "rsa", "-b", "3072"],
    ];
    let socket = dir.path().join("agent");
    let mut keys = Vec::new();
    for (at, options) in kinds.iter().enumerate() {
        let file = dir.path().join(format!("key{at}"));
        make_key(&file, options);
        let key = SshKey::parse(&std::fs::read(&file).expect("reads")).expect("is a key");
        assert_eq!(format!("{key:?}"), "SshKey");
        keys.push(key);
        // Who signs has the public half only.
        std::fs::remove_file(&file).expect("removes");
    }
    let lent = SshAgent::of_keys(keys).listen(&socket).expect("listens");
    let listed = program("ssh-add", &["-l"]).env("SSH_AUTH_SOCK", &socket).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&listed.stdout).matches("me@here").count(), kinds.len(), "{listed:?}");
    for at in 0..kinds.len() {
        let public = dir.path().join(format!("key{at}.pub"));
        let data = dir.path().join(format!("data{at}"));
        std::fs::write(&data, "a letter").expect("writes");
        let sign = ["-Y", "sign", "-n", "file", "-f", text(&public), text(&data)];
        let signed = program("ssh-keygen", &sign).env("SSH_AUTH_SOCK", &socket).output().expect("runs");
        assert!(signed.status.success(), "{signed:?}");
        let signature = format!("{}.sig", text(&data));
        let check = ["-Y", "check-novalidate", "-n", "file", "-s", &signature];
        let letter = std::fs::File::open(&data).expect("opens");
        let checked = program("ssh-keygen", &check).stdin(letter).output().expect("runs");
        assert!(checked.status.success(), "{at}: {checked:?}");
    }
    drop(lent);
    assert!(!socket.exists());
}

#[test]
fn keys_that_cannot_be_used_are_told_apart() {
    if !is_installed() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let refused = |name: &str, options: &[&str]| {
        let file = dir.path().join(name);
        make_key(&file, options);
        SshKey::parse(&std::fs::read(&file).expect("reads")).expect_err("cannot be used")
    };
    assert_eq!(refused("locked", &["-t", "ed25519", "-N", "hunter2"]), SshKeyError::Passphrase);
    assert_eq!(refused("old", &["-t", "rsa", "-m", "PEM"]), SshKeyError::OldForm);
    assert_eq!(refused("long", &["-t", "ecdsa", "-b", "521"]), SshKeyError::Kind);
    assert_eq!(refused("short", &["-t", "rsa", "-b", "1024"]), SshKeyError::Damaged);
}

#[test]
fn an_agent_lists_and_signs_and_does_nothing_else() {
    if !is_installed() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (real, ours) = (dir.path().join("real"), dir.path().join("ours"));
    let mut agent =
        program("ssh-agent", &["-D", "-a", text(&real)]).stdout(Stdio::null()).spawn().expect("runs");
    let there = std::time::Instant::now();
    while SshAgent::at(&real).try_it().is_err() {
        assert!(there.elapsed() < Duration::from_secs(60), "the agent does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
    let key = dir.path().join("key");
    make_key(&key, &["-t", "ed25519"]);
    let add = |args: &[&str], socket: &Path| {
        let told = program("ssh-add", args).env("SSH_AUTH_SOCK", socket).output().expect("runs");
        (told.status.success(), String::from_utf8_lossy(&told.stdout).into_owned())
    };
    let lent = SshAgent::at(&real).listen(&ours).expect("listens");
    assert!(!add(&["-q", text(&key)], &ours).0, "a key was added");
    assert!(add(&["-q", text(&key)], &real).0);
    let (listed, keys) = add(&["-L"], &ours);
    assert!(listed && keys.contains("me@here"), "{keys}");
    assert!(add(&["-T", text(&dir.path().join("key.pub"))], &ours).0, "did not sign");
    assert!(!add(&["-D"], &ours).0 && !add(&["-d", text(&key)], &ours).0, "keys were removed");
    assert!(add(&["-L"], &real).1.contains("me@here"));
    // Locking and unlocking, a card, an extension, and what no agent knows.
    for kind in [17, 19, 20, 22, 23, 27, 255] {
        let mut line = UnixStream::connect(&ours).expect("connects");
        wire::write(&mut line, &[&[kind], wire::string(b"hunter2").as_slice()].concat()).expect("writes");
        assert_eq!(wire::read(&mut line).expect("reads"), Some(vec![wire::FAILURE]));
    }
    assert!(add(&["-L"], &ours).1.contains("me@here"), "it was locked");
    // One that claims to be longer than any is hung up on.
    let mut line = UnixStream::connect(&ours).expect("connects");
    line.write_all(&u32::MAX.to_be_bytes()).expect("writes");
    assert_eq!(line.read(&mut [0; 8]).expect("reads"), 0);
    agent.kill().expect("kills");
    agent.wait().expect("waits");
    let mut line = UnixStream::connect(&ours).expect("connects");
    wire::write(&mut line, &[wire::LIST]).expect("writes");
    assert_eq!(wire::read(&mut line).expect("reads"), Some(vec![wire::FAILURE]));
    drop(lent);
    assert_eq!(line.read(&mut [0; 8]).expect("reads"), 0, "a connection outlived it");
    assert!(UnixStream::connect(&ours).is_err() && SshAgent::at(&real).try_it().is_err());
}

#[test]
fn connections_are_bounded() {
    let open = Arc::new(Connections::default());
    let slots: Vec<Slot> = (0..MOST_CONNECTIONS).map_while(|_| open.slot()).collect();
    assert_eq!(slots.len(), MOST_CONNECTIONS);
    assert!(open.slot().is_none());
    drop(slots);
    let slot = open.slot().expect("there is room again");
    open.close();
    assert!(open.slot().is_none());
    let (stream, _other) = UnixStream::pair().expect("a pair");
    assert!(slot.hold(&stream).is_err());
}
