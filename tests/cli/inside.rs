//! What a step and a program see of names, addresses and users; and what they are not given.

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::env::{TestEnv, Who, is_root};
use crate::run::{made, shell};

/// The loopback of a stub resolver, as systemd has it.
const STUB: &str = "127.0.0.53:53";

/// Answers questions for addresses of `db.rb-test`, with a DNS message of RFC 1035, until told to stop.
fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    const NAME: &[u8] = b"\x02db\x07rb-test\x00";
    let mut buffer = [0; 512];
    while !stop.load(Ordering::SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let question = &buffer[12..length];
        let is_known = question.to_ascii_lowercase().starts_with(NAME);
        let is_address = question.get(NAME.len()..NAME.len() + 2) == Some(&[0, 1]);
        let mut message = buffer[..2].to_vec();
        // A response, with recursion; without such a name: 3.
        message.extend([0x81, if is_known { 0x80 } else { 0x83 }]);
        message.extend([0, 1, 0, u8::from(is_known && is_address), 0, 0, 0, 0]);
        // The question ends behind its name with type and class; what follows it is left out.
        let end = question.iter().position(|byte| *byte == 0).map_or(question.len(), |zero| zero + 5);
        message.extend(&question[..end.min(question.len())]);
        if is_known && is_address {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 11, 12, 13]);
        }
        socket.send_to(&message, from).ok();
    }
}

#[test]
fn names_are_asked_of_a_resolver_on_the_loopback() {
    if !is_root() {
        eprintln!("stepping aside: this needs root, to be a resolver");
        return;
    }
    let Ok(socket) = UdpSocket::bind(STUB) else {
        eprintln!("stepping aside: a resolver of this machine is at {STUB}");
        return;
    };
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("sets");
    let Some(env) = made(Who::Tester) else { return };
    env.write("resolv.conf", "# a stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n").write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    RUN busybox nslookup db.rb-test && cat /etc/resolv.conf\n",
    );
    let stop = AtomicBool::new(false);
    // `rb` sees that file in a mount namespace of its own.
    let rb = |words: &[&str]| {
        let rb = env.command(words);
        let mut command = Command::new("unshare");
        let script = "mount --bind resolv.conf /etc/resolv.conf && exec \"$0\" \"$@\"";
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        command.arg(rb.get_program()).args(rb.get_args()).current_dir(env.project()).stdin(Stdio::null());
        for (name, value) in rb.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let output = command.output().expect("starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    std::thread::scope(|scope| {
        /// Ends the resolver, also in a panic.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let _stop = Stop(&stop);
        scope.spawn(|| answer(&socket, &stop));
        for words in [&["+t"][..], &["run", "made", "sh", "-c", "busybox nslookup db.rb-test"]] {
            let (code, said) = rb(words);
            assert!(code == Some(0) && said.contains("10.11.12.13"), "{words:?}: {code:?}\n{said}");
        }
        let (code, said) = rb(&["run", "made", "sh", "-c", "busybox nslookup nowhere.rb-test"]);
        assert!(code != Some(0) && !said.contains("10.11.12.13"), "{said}");
        // Without a network nobody is asked.
        let (code, said) = rb(&["run", "--network=none", "made", "sh", "-c", "busybox nslookup db.rb-test"]);
        assert!(code != Some(0) && !said.contains("10.11.12.13"), "{said}");
    });
}

#[test]
fn a_step_knows_itself_its_hosts_and_no_terminal() {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    env.write(
        "Buildfile",
        "VERSION 0.8\nt:\n    FROM oci-layout:./base:test\n    HOST db 10.0.0.7\n    RUN busybox hostname && cat /etc/hosts && test ! -e /etc/hostname \
         && { test -t 0 || test -t 1 || test -t 2 || echo no-terminal; } && { (: < /dev/tty) 2>/dev/null || echo no-tty; } \
         && wc -c < /dev/stdin > /etc/bytes\n    RUN --network=none ls /etc > /out\n    SAVE ARTIFACT /out AS LOCAL out\n",
    );
    let run = env.rb(["+t"]).expect(0);
    run.says("buildkitsandbox").says("10.0.0.7    db").says("no-terminal").says("no-tty");
    // Of what is shown in `/etc` the image had nothing, and the last step shows no resolver.
    assert_eq!(env.read("out").split_whitespace().collect::<Vec<_>>(), ["bytes", "hosts", "passwd"]);
}

#[test]
fn users_are_those_of_the_image_or_numbers() {
    let Some(env) = made(Who::Tester) else { return };
    env.write("passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
        .write("group", "root:x:0:\nstaff:x:50:app\n");
    let said = |user: &str| {
        let files = ["-v", "./passwd:/etc/passwd:ro", "-v", "./group:/etc/group:ro", "-u", user];
        env.rb(shell(&files, "id -u; id -g; id -G; echo $HOME")).expect(0).stdout.replace('\n', " ")
    };
    assert_eq!(said("0"), "0 0 0 /root ");
    assert_eq!(said("app"), "1000 1001 1001 50 /home/app ");
    assert_eq!(said("app:staff"), "1000 50 50 /home/app ");
    assert_eq!(said("4242"), "4242 0 0 / ");
    assert_eq!(said("4242:77"), "4242 77 77 / ");
    env.rb(["run", "-u", "root:nobody-here", "made"]).expect(2).says("nobody-here");
}

#[test]
fn a_program_may_have_no_streams_at_all() {
    let Some(env) = made(Who::Tester) else { return };
    let rb = env.command(shell(&["-i"], "cat; touch /in/here"));
    let mut command = Command::new("sh");
    let mut words: Vec<_> = rb.get_args().map(ToOwned::to_owned).collect();
    words.splice(1..1, ["-v".into(), "./data:/in".into()]);
    env.write("data/x", "");
    command.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]).arg(rb.get_program()).args(words);
    command.current_dir(env.project());
    for (name, value) in rb.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let status = command.status().expect("starts");
    assert!(env.has("data/here"), "{status}");
}

#[test]
fn one_place_is_shown_once() {
    let Some(env) = made(Who::Tester) else { return };
    env.write("a/x", "").write("b/x", "");
    env.rb(shell(&["-v", "./a:/in", "-v", "./b:/in/"], "true")).expect(2).says("`/in/` is given twice");
    env.rb(shell(&["-v", "./a:/in", "--tmpfs", "/in"], "true")).expect(2).says("`/in` is given twice");
    env.rb(shell(&["-v", "./a:/in", "-v", "./b:/in/b"], "true")).expect(0);
    env.rb(shell(&["-v", "cache:/in"], "true")).expect(2).says("the name of a volume, and rb keeps none");
    for option in ["-p=8000-8010:8000-8010", "-p=53:53/udp"] {
        env.rb(shell(&[option], "true")).expect(2);
    }
}

/// Folders that their user made read-only stay so, though that user is root in a namespace.
#[test]
fn outputs_need_no_more_rights_than_the_user_has() {
    if !is_root() {
        eprintln!("stepping aside: this needs root, to become others");
        return;
    }
    for who in [Who::SingleId, Who::SubIds] {
        let env = TestEnv::of(who);
        env.write(
            "Buildfile",
            "VERSION 0.8\nt:\n    FROM @host\n    ARG to=out/file\n    RUN echo x > /x\n    SAVE ARTIFACT /x AS LOCAL $to\n",
        );
        env.write("out/old", "").write("sub/old", "");
        env.hand_over();
        let mode = |path: &str, mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(env.project().join(path), mode).expect("modes");
        };
        mode("out", 0o555);
        mode("sub", 0o500);
        env.rb(["+t"]).expect(3).says("out: Permission denied");
        env.rb(["+t", "--to=sub/new/file"]).expect(3).says("Permission denied");
        assert!(!env.has("out/file") && !env.has("sub/new"));
        mode("out", 0o755);
        env.rb(["+t"]).expect(0);
        // What is there already needs nothing.
        mode("out", 0o555);
        env.rb(["+t"]).expect(0).says("up to date");
    }
}

#[test]
fn what_is_not_pushed_is_told() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 0.8\nall:\n    BUILD +t\n    BUILD +quiet\nt:\n    FROM @host\n    RUN --push echo released\n    RUN --push echo again\n\
         quiet:\n    FROM +t\n    RUN true\n",
    );
    let run = env.rb(["+all"]).expect(0).hides("| released");
    run.says("not run: +t: RUN --push echo released; give --push").says("+t: RUN --push echo again");
    let run = env.rb(["--push", "+all"]).expect(0).says("released");
    assert!(!run.stderr.contains("not run"), "{}", run.stderr);
    // Behind FROM alone it would not run with --push either.
    let run = env.rb(["+quiet"]).expect(0);
    assert!(!run.stderr.contains("not run"), "{}", run.stderr);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_told() {
    if !is_root() {
        eprintln!("stepping aside: this needs root, to mount");
        return;
    }
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FROM @host\n    RUN true\n");
    // One that is new, and one that was used.
    for builds_before in [false, true] {
        if builds_before {
            env.rb(["+t"]).expect(0);
        }
        for words in [&["+t"][..], &["image", "ls"], &["run", "+t", "true"]] {
            let rb = env.command(words);
            let mut command = Command::new("unshare");
            let script = "mount --bind \"$RB_ROOT\" \"$RB_ROOT\" && mount -o remount,ro,bind \"$RB_ROOT\" && exec \"$0\" \"$@\"";
            command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
            command.arg(rb.get_program()).args(rb.get_args()).current_dir(env.project());
            for (name, value) in rb.get_envs() {
                command.env(name, value.unwrap_or_default());
            }
            let output = command.output().expect("starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{words:?} {builds_before}: {said}");
            // Long lines are broken, somewhere.
            let said = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
            assert!(said.contains(" is read-") && said.contains("set RB_ROOT"), "{said}");
        }
    }
}

#[test]
fn commands_of_docker_are_known_by_name() {
    let env = TestEnv::new();
    for (word, help) in [
        ("pull", "`rb image pull`"),
        ("push", "`rb image push`"),
        ("images", "`rb image ls`"),
        ("rmi", "`rb image rm`"),
        ("tag", "`rb image tag`"),
        ("ps", "`rb status`"),
        ("exec", "`rb run -it IMAGE sh`"),
        ("compose", "`rb run` for each"),
    ] {
        env.rb([word, "x"]).expect(2).says(&format!("there is no command `{word}`")).says(help);
    }
    // A target of that name comes first.
    env.write("Buildfile", "VERSION 1\npush:\n    FROM scratch\n");
    env.rb(["push"]).expect(2).says("`rb +push`");
}
