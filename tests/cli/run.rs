//! `rb run` as users of `docker run` know it; and what steps and programs are lent of this machine's network.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::env::{TestEnv, Who, is_root};

/// An environment with the image `made`, of busybox; nothing where there is none.
pub(crate) fn made(who: Who) -> Option<TestEnv> {
    let env = TestEnv::of(who);
    if !env.busybox_layout("base") {
        return None;
    }
    env.write(
        "Buildfile",
        "VERSION 1\n\
         t:\n    FROM oci-layout:./base:test\n    RUN busybox ln -s /../../../tmp /link && busybox ln -s / /loop\n    \
         ENTRYPOINT [\"/bin/busybox\", \"env\"]\n    CMD [\"true\"]\n    SAVE IMAGE made:latest\n",
    );
    env.hand_over();
    env.rb(["+t"]).expect(0);
    Some(env)
}

#[test]
fn an_init_waits_for_orphans_and_passes_signals_on() {
    let Some(env) = made(Who::Tester) else { return };
    let script = "test $$ != 1 && busybox cut -d' ' -f4 /proc/$$/stat; exit 5";
    assert_eq!(env.rb(shell(&["--init"], script)).expect(5).stdout, "1\n");
    // A key reaches the program, once.
    let script = "n=0; trap 'n=$((n + 1))' INT; echo ready; until test $n -gt 0; do sleep 0.05; done; sleep 0.5; exit $((6 + n))";
    let mut seat = Seat::take(&env, &shell(&["-it", "--init"], script));
    seat.sees("ready");
    seat.types("\u{3}");
    assert_eq!(seat.code(), 7);
}

/// The words of `rb run OPTIONS made sh -c SCRIPT`.
pub(crate) fn shell<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["run"], options, &["made", "sh", "-c", script]].concat()
}

/// After so long something does not come any more, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(600);

/// A terminal, and `rb` before it.
pub(crate) struct Seat {
    ours: File,
    theirs: OwnedFd,
    rb: Child,
    heard: String,
}

impl Seat {
    pub(crate) fn take(env: &TestEnv, words: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).expect("a terminal");
        unlockpt(&ours).expect("unlocks");
        let theirs = ioctl_tiocgptpeer(&ours, flags).expect("its other end");
        let stream = || Stdio::from(theirs.try_clone().expect("duplicates"));
        let mut command = env.command(words);
        command.stdin(stream()).stdout(stream()).stderr(stream());
        tcsetwinsize(&theirs, size(25, 90)).expect("resizes");
        rustix::io::ioctl_fionbio(&ours, true).expect("does not block");
        let rb = command.spawn().expect("rb starts");
        Self { ours: File::from(ours), theirs, rb, heard: String::new() }
    }

    /// Waits until something is on the screen.
    #[track_caller]
    pub(crate) fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while !self.heard.contains(text) {
            match self.ours.read(&mut buffer) {
                Ok(length) => self.heard.push_str(&String::from_utf8_lossy(&buffer[..length])),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
            assert!(Instant::now() < deadline, "`{text}` is not on the screen:\n{}", self.heard);
        }
        self.heard.clear();
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).expect("types");
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.rb);
        kill_process(pid, signal).expect("signals");
    }

    /// Whether keys have their usual meaning.
    fn is_usual(&self) -> bool {
        let modes = tcgetattr(&self.theirs).expect("a terminal").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ISIG | LocalModes::ECHO)
    }

    pub(crate) fn code(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.rb.try_wait().expect("waits") {
                return status.code().unwrap_or(-1);
            }
            // Nobody else reads what it writes.
            let _read = self.ours.read(&mut [0; 4096]);
            assert!(Instant::now() < deadline, "rb does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.rb.kill().ok();
        self.rb.wait().ok();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

const TALK: &str = "busybox stty size; trap 'echo int' INT; trap 'echo stop' TSTP; trap 'busybox stty size' WINCH; \
    echo $TERM; echo ready; while :; do read -r line && echo got $line && test \"$line\" = end && exit 9; done";

#[test]
fn a_program_has_a_terminal_of_its_own() {
    let Some(env) = made(Who::Tester) else { return };
    let mut seat = Seat::take(&env, &shell(&["-it"], TALK));
    seat.sees("25 90\r\nxterm\r\nready\r\n");
    assert!(!seat.is_usual());
    seat.types("\x03");
    seat.sees("int\r\n");
    seat.types("\x1a");
    seat.sees("stop\r\n");
    tcsetwinsize(&seat.ours, size(31, 77)).expect("resizes");
    // It is not the terminal of its session, so the kernel does not say it.
    seat.signal(Signal::WINCH);
    seat.sees("31 77\r\n");
    seat.types("one\rend\r");
    seat.sees("got one\r\n");
    assert_eq!(seat.code(), 9);
    assert!(seat.is_usual());
}

#[test]
fn a_user_without_rights_has_one_too() {
    if !is_root() {
        eprintln!("stepping aside: this needs root, to become others");
        return;
    }
    let Some(env) = made(Who::SingleId) else { return };
    let mut seat = Seat::take(&env, &shell(&["-it"], "busybox tty; echo x > /dev/tty; read -r line; exit 5"));
    seat.sees("/dev/pts/0\r\nx\r\n");
    seat.types("\r");
    assert_eq!(seat.code(), 5);
    assert!(seat.is_usual());
}

#[test]
fn a_terminal_is_as_before_whatever_ends_the_program() {
    let Some(env) = made(Who::Tester) else { return };
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let mut seat = Seat::take(&env, &shell(&["--tty", "--interactive"], TALK));
        seat.sees("ready\r\n");
        assert!(!seat.is_usual());
        seat.signal(signal);
        assert_eq!(seat.code(), code);
        assert!(seat.is_usual(), "{signal:?}");
    }
    let mut seat = Seat::take(&env, &["run", "-ti", "made", "no-such-program"]);
    assert_eq!(seat.code(), 127);
    assert!(seat.is_usual());
}

#[test]
fn keys_end_a_program_that_says_nothing_of_them() {
    let Some(env) = made(Who::Tester) else { return };
    let mut seat = Seat::take(&env, &shell(&["-it"], "echo ready; exec busybox sleep 1000"));
    seat.sees("ready\r\n");
    seat.types("\x03");
    assert_eq!(seat.code(), 130);
    assert!(seat.is_usual());
    // Ctrl-C is ignored, and Ctrl-\ is not.
    let mut seat = Seat::take(&env, &shell(&["-it"], "trap '' INT; echo ready; exec busybox sleep 1000"));
    seat.sees("ready\r\n");
    seat.types("\x03\x1c");
    assert_eq!(seat.code(), 131);
    // Here they are characters.
    let mut seat = Seat::take(
        &env,
        &shell(&["-it"], "busybox stty -isig; echo ready; busybox head -n 1 | busybox wc -c"),
    );
    seat.sees("ready\r\n");
    seat.types("\x03\x1c\n");
    seat.sees("3\r\n");
    assert_eq!(seat.code(), 0);
}

#[test]
fn a_terminal_is_not_made_of_a_pipe() {
    let Some(env) = made(Who::Tester) else { return };
    env.rb(shell(&["-it"], "true")).expect(2).says("-t: stdin is not a terminal").says("`-i` alone");
    let run = env.rb(shell(&["-t"], "test -t 1 && busybox stty size")).expect(0);
    assert_eq!(run.stdout, "24 80\r\n");
}

#[test]
fn stdin_is_the_programs_if_it_is_asked_for() {
    let Some(env) = made(Who::Tester) else { return };
    let said = |words: Vec<&str>| {
        let mut rb =
            env.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("rb starts");
        rb.stdin.take().expect("a pipe").write_all(b"typed").ok();
        String::from_utf8(rb.wait_with_output().expect("ends").stdout).expect("text")
    };
    assert_eq!(said(shell(&["-i"], "cat; echo .")), "typed.\n");
    assert_eq!(said(shell(&[], "cat; echo .")), ".\n");
}

#[test]
fn folders_of_this_machine_are_shown_where_they_are_to_be() {
    let Some(env) = made(Who::Tester) else { return };
    env.write("data/in", "here\n").write("file", "one\n");
    let script = "cat /in/x/in /one; echo out > /in/x/out; ! echo no > /one";
    let said = env.rb(shell(&["-v", "./data:/in/x", "-v", "./file:/one:ro"], script)).expect(0).stdout;
    assert_eq!((said.as_str(), env.read("data/out").as_str()), ("here\none\n", "out\n"));
    let mount = format!("type=bind,src={},dst=/m,readonly", env.project().join("data").display());
    env.rb(shell(&["--mount", &mount], "cat /m/in && ! touch /m/x")).expect(0);
    // A link of the image leads to a place of the image.
    let script = "cat /tmp/rb-probe/in && test -e /loop/tmp/rb-probe/in && cat /etc/rb-probe";
    env.rb(shell(&["-v", "./data:/link/rb-probe", "-v", "./file:/loop/../etc/rb-probe"], script)).expect(0);
    assert!(
        !std::path::Path::new("/tmp/rb-probe").exists() && !std::path::Path::new("/etc/rb-probe").exists()
    );
    env.rb(shell(&["-v", "./none:/in"], "true"))
        .expect(2)
        .says("there is no `./none`")
        .says("mkdir -p ./none");
    assert!(!env.has("none"));
    env.rb(shell(&["-v", "data:/in"], "true")).expect(2).says("`./data`");
    env.rb(shell(&["-v", "./data:/"], "true")).expect(2).says("the root");
}

#[test]
fn folders_of_a_user_without_rights_are_the_users() {
    if !is_root() {
        eprintln!("stepping aside: this needs root, to become others");
        return;
    }
    let Some(env) = made(Who::SingleId) else { return };
    env.write("data/in", "here\n");
    env.hand_over();
    let script = "cat /in/in; id -u; stat -c %u /in/in; echo out > /in/out";
    assert_eq!(env.rb(shell(&["-v", "./data:/in"], script)).expect(0).stdout, "here\n0\n0\n");
    let owner = |path: &str| {
        use std::os::unix::fs::MetadataExt as _;
        env.project().join(path).metadata().expect("is there").uid()
    };
    assert_eq!(owner("data/out"), owner("data/in"));
}

#[test]
fn a_port_of_this_machine_leads_to_the_program() {
    leads(Who::Tester);
    if is_root() {
        leads(Who::SingleId);
    }
}

fn leads(who: Who) {
    let Some(env) = made(who) else { return };
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let at = taken.local_addr().expect("has one");
    let port = format!("{}:7000", at.port());
    let words =
        ["run", "--network=none", "-p", &port, "made", "busybox", "nc", "-ll", "-p", "7000", "-e", "cat"];
    env.rb(words).expect(3).says(&format!("cannot listen on {at}"));
    drop(taken);
    let mut rb = env.spawn(words);
    let deadline = Instant::now() + PATIENCE;
    let mut heard = String::new();
    while heard.is_empty() {
        assert!(Instant::now() < deadline, "nobody answers");
        std::thread::sleep(Duration::from_millis(50));
        if let Ok(mut stream) = TcpStream::connect(at) {
            stream.write_all(b"hello").ok();
            stream.shutdown(Shutdown::Write).ok();
            stream.read_to_string(&mut heard).ok();
        }
    }
    assert_eq!(heard, "hello");
    kill_process(Pid::from_child(&rb), Signal::TERM).expect("signals");
    assert_eq!(rb.wait().expect("ends").code(), Some(143));
    assert!(TcpStream::connect(at).is_err());
    env.rb(["run", "-p", "80", "made"]).expect(2).says("80:80");
    env.rb(["run", "-p", "53:53/udp", "made"]).expect(2).says("only TCP");
}

#[test]
fn variables_users_and_places_are_as_told() {
    let Some(env) = made(Who::Tester) else { return };
    env.write("vars", "# remark\nA=file\nB='quoted'\nPASSED\nMISSING\n");
    let words = shell(&["--env-file", "vars", "-e", "A=typed", "--rm"], "echo $A $B $PASSED ${MISSING-none}");
    assert_eq!(env.rb_with(&[("PASSED", "on")], words).expect(0).stdout, "typed 'quoted' on none\n");
    env.write("vars", "A B=hunter2\n");
    env.rb(shell(&["--env-file", "vars"], "true")).expect(2).says("line 1").hides("hunter2");

    let script = "pwd; id -u; id -g; busybox hostname; cat /etc/hostname; busybox grep db /etc/hosts";
    let options = ["-w", "/new/place", "-u", "12:34", "--name", "box", "--add-host", "db:10.0.0.7"];
    assert_eq!(
        env.rb(shell(&options, script)).expect(0).stdout,
        "/new/place\n12\n34\nbox\nbox\n10.0.0.7\tdb\n"
    );
    let script = "! touch /x; touch /t/x; stat -c %a /t; busybox df -k /t | busybox tail -n 1 | busybox awk '{print $2}'";
    let options = ["--read-only", "--tmpfs", "/t:size=1m,mode=700"];
    assert_eq!(env.rb(shell(&options, script)).expect(0).stdout, "700\n1024\n");

    let entry =
        |option: &str, words: &[&str]| env.rb([&["run", option, "made"], words].concat()).expect(0).stdout;
    assert_eq!(entry("--entrypoint=echo", &["a", "b"]), "a b\n");
    // The CMD belongs to the ENTRYPOINT that it came with.
    assert_eq!(entry("--entrypoint=echo", &[]), "\n");
    env.rb(["run", "--entrypoint=", "made"]).expect(2).says("names no command");
    // What stands behind an image is the command as it is typed, `--` too; before it, and behind a target, `--` is ours.
    let busybox = "--entrypoint=/bin/busybox";
    env.rb(["run", busybox, "made", "--", "echo", "x"]).expect(127).says("--: applet not found");
    assert_eq!(env.rb(["run", busybox, "--", "made", "echo", "--", "x"]).expect(0).stdout, "-- x\n");
    assert_eq!(env.rb(["run", busybox, "-q", "+t", "--", "echo", "x"]).expect(0).stdout, "x\n");
    env.rb(["run", "-d", "made"]).expect(2).says("with `&`");
    env.rb(["run", "--volum", "./a:/b", "made"]).expect(2).says("--volume");
}

const SEEN: &str = "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    RUN echo seen $http_proxy $HTTPS_PROXY $no_proxy.\n    \
    RUN --network=none echo alone $http_proxy.\n    RUN echo made > /made\n    SAVE ARTIFACT /made AS LOCAL made\n    SAVE IMAGE p:latest\n";

#[test]
fn proxies_reach_steps_and_programs_and_are_nowhere_else() {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    env.write("Buildfile", SEEN);
    let one =
        [("HTTP_PROXY", "http://me:hunter2@one:1"), ("https_proxy", "http://two:2"), ("NO_PROXY", "three")];
    env.rb_with(&one, ["+t"])
        .expect(0)
        .says("seen http://me:***@one:1 http://two:2 three.")
        .says("alone .")
        .hides("hunter2");
    // Another way is the same build.
    let other = [("HTTP_PROXY", "http://other:9")];
    let again = env.rb_with(&other, ["+t"]).expect(0);
    assert!(!again.stderr.contains("| seen"), "{}", again.stderr);
    let details = env.rb(["image", "inspect", "p"]).expect(0).stdout;
    assert!(!details.contains("PROXY=") && !details.contains("one:1"), "{details}");
    env.rb_with(&one, ["--http-proxy=false", "--no-cache", "+t"]).expect(0).says("seen .");
    let said = |options: &[&str]| {
        let words = [&["run"], options, &["p", "sh", "-c", "echo $HTTP_PROXY"]].concat();
        env.rb_with(&other, words).expect(0).stdout
    };
    assert_eq!(said(&[]), "http://other:9\n");
    assert_eq!(said(&["-e", "HTTP_PROXY=mine"]), "mine\n");
    assert_eq!(said(&["--http-proxy=false"]), "\n");
    assert_eq!(said(&["--network=none"]), "\n");
    // What docker gives its containers.
    env.write("docker/config.json", r#"{"proxies": {"default": {"httpProxy": "http://docker:4"}}}"#);
    let docker = env.project().join("docker");
    let variables = [("DOCKER_CONFIG", docker.to_str().expect("text"))];
    env.rb_with(&variables, ["--no-cache", "+t"]).expect(0).says("seen http://docker:4 .");
}

const TRUSTING: &str = "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    WORKDIR /etc/ssl/certs\n    \
    RUN echo ORIGINAL > ca-certificates.crt && busybox ln -s certs/ca-certificates.crt ../cert.pem && busybox touch -d '2001-02-03 00:00:00' . ..\n    \
    RUN echo seen && cat ../cert.pem && echo node $NODE_EXTRA_CA_CERTS. && stat -c %Y .\n    \
    RUN --network=none echo alone && cat ../cert.pem\n    \
    SAVE ARTIFACT . AS LOCAL untouched\n    \
    RUN echo NEW > new && busybox mv -f new ca-certificates.crt && cat ca-certificates.crt\n    \
    RUN echo MORE >> ca-certificates.crt\n    \
    RUN busybox chmod 600 ca-certificates.crt\n    \
    SAVE ARTIFACT ca-certificates.crt AS LOCAL bundle\n    SAVE IMAGE trusting:latest\n";

#[test]
fn authorities_reach_steps_and_programs_and_are_nowhere_else() {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    const BODY: &str = "Q0VSVElGSUNBVEU4YzFi";
    let pem = format!("-----BEGIN CERTIFICATE-----\n{BODY}\n-----END CERTIFICATE-----\n");
    env.write("Buildfile", TRUSTING).write("company.pem", format!("remark\n{pem}"));
    let first = env.rb(["--ca", "company.pem", "+t"]).expect(0);
    let first =
        first.says("ORIGINAL").says(BODY).says("node /etc/ssl/certs/ca-certificates.crt.").says("981158400");
    let alone = first.stderr.split("| alone").nth(1).expect("was run");
    assert!(alone.contains("ORIGINAL") && !alone.contains(BODY), "{alone}");
    assert_eq!(env.read("untouched/ca-certificates.crt"), "ORIGINAL\n");
    assert_eq!(env.read("bundle"), "NEW\nMORE\n");
    // Nothing of them is kept, in whichever layer; that a step prints them is in its log.
    let mut grep = std::process::Command::new("grep");
    let holds = grep.args(["-rlF", "--exclude-dir=logs", BODY]).arg(env.state()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&holds.stdout), "");
    // Without them it is the same build.
    let again = env.rb(["+t"]).expect(0);
    assert!(!again.stderr.contains("| seen"), "{}", again.stderr);

    env.write("config.toml", "[network]\nca = ['company.pem']\n");
    let config = env.project().join("config.toml");
    let config = [("RB_CONFIG", config.to_str().expect("text"))];
    let said = env.rb_with(&config, ["run", "trusting", "cat", "ca-certificates.crt"]).expect(0).stdout;
    assert!(said.starts_with("NEW\nMORE\n") && said.contains(&pem), "{said}");
    env.write("company.pem", "-----BEGIN PRIVATE KEY-----\n");
    env.rb_with(&config, ["+t"]).expect(2).says("holds a private key");
    env.rb(["--ca", "none.pem", "+t"]).expect(2).says("`").says("there is no such file");
}
