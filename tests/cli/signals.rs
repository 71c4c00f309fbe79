//! Signals for a program of `rb run`, and the codes that it ends with.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::env::{TestEnv, Who, is_root};
use crate::run::{made, shell};

/// `rb run` before pipes, and what the program says.
struct Program {
    rb: Child,
    said: BufReader<ChildStdout>,
}

impl Program {
    fn start(mut command: Command) -> Self {
        let mut rb = command.stdout(Stdio::piped()).spawn().expect("rb starts");
        let said = BufReader::new(rb.stdout.take().expect("a pipe"));
        Self { rb, said }
    }

    /// Starts a script, which says when it is ready.
    fn of(env: &TestEnv, options: &[&str], script: &str) -> Self {
        let mut program = Self::start(env.command(shell(options, script)));
        program.says("ready");
        program
    }

    #[track_caller]
    fn says(&mut self, text: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("reads");
        assert_eq!(line.trim_end(), text);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.rb), signal).expect("signals");
    }

    fn is_there(&mut self) -> bool {
        self.rb.try_wait().expect("waits").is_none()
    }

    fn code(&mut self) -> i32 {
        self.rb.wait().expect("ends").code().unwrap_or(-1)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.rb.kill().ok();
        self.rb.wait().ok();
    }
}

/// Says each signal that it hears, and ends by SIGTERM.
const LISTENER: &str = "for s in HUP INT QUIT USR1 USR2 WINCH; do trap \"echo $s\" $s; done; \
    trap 'echo TERM; exit 7' TERM; echo ready; while :; do sleep 0.05; done";

/// Says nothing of signals, and is ready once it is no shell any more: that catches SIGINT.
const IDLER: &str = "echo ready > /f; exec tail -f /f";

#[test]
fn signals_are_the_programs_and_its_exit_code_is_ours() {
    let Some(env) = made(Who::Tester) else { return };
    let mut program = Program::of(&env, &[], LISTENER);
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::WINCH, "WINCH"),
        (Signal::TERM, "TERM"),
    ] {
        program.signal(signal);
        program.says(name);
    }
    assert_eq!(program.code(), 7);
}

#[test]
fn what_a_program_says_nothing_of_ends_it() {
    let Some(env) = made(Who::Tester) else { return };
    for (signal, code) in [
        (Signal::HUP, 129),
        (Signal::INT, 130),
        (Signal::QUIT, 131),
        (Signal::USR1, 138),
        (Signal::TERM, 143),
    ] {
        let mut program = Program::of(&env, &[], IDLER);
        program.signal(signal);
        assert_eq!(program.code(), code, "{signal:?}");
    }
}

#[test]
fn a_user_without_rights_passes_them_on_too() {
    if !is_root() {
        eprintln!("stepping aside: this needs root, to become others");
        return;
    }
    let Some(env) = made(Who::SingleId) else { return };
    let mut program = Program::of(&env, &[], LISTENER);
    program.signal(Signal::USR1);
    program.says("USR1");
    program.signal(Signal::TERM);
    program.says("TERM");
    assert_eq!(program.code(), 7);
    let mut program = Program::of(&env, &[], IDLER);
    program.signal(Signal::TERM);
    assert_eq!(program.code(), 143);
}

#[test]
fn what_ignores_them_lives_until_somebody_insists() {
    let Some(env) = made(Who::Tester) else { return };
    let deaf = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done";
    let mut program = Program::of(&env, &[], deaf);
    program.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(700));
    assert!(program.is_there());
    let deadline = Instant::now() + Duration::from_secs(60);
    while program.is_there() {
        assert!(Instant::now() < deadline, "it is never killed");
        program.signal(Signal::TERM);
        std::thread::sleep(Duration::from_millis(800));
    }
    assert_eq!(program.code(), 137);
    // Or time is up.
    let mut program = Program::of(&env, &["--stop-timeout", "1"], deaf);
    program.signal(Signal::INT);
    assert_eq!(program.code(), 137);
    env.rb(shell(&["--stop-timeout", "soon"], "true")).expect(2).says("a number of seconds");
}

#[test]
fn they_can_be_kept_from_the_program() {
    let Some(env) = made(Who::Tester) else { return };
    let mut program = Program::of(&env, &["--sig-proxy=false"], LISTENER);
    program.signal(Signal::TERM);
    assert_eq!(program.code(), 143);
}

#[test]
fn what_was_ignored_when_rb_began_stays_ignored() {
    let Some(env) = made(Who::Tester) else { return };
    let rb = env.command(shell(&[], LISTENER));
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(rb.get_program()).args(rb.get_args());
    command.current_dir(env.project()).stdin(Stdio::null());
    for (name, value) in rb.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let mut program = Program::start(command);
    program.says("ready");
    program.signal(Signal::HUP);
    program.signal(Signal::USR1);
    program.says("USR1");
    program.signal(Signal::TERM);
    program.says("TERM");
}

#[test]
fn codes_tell_why_a_program_did_not_begin() {
    let Some(env) = made(Who::Tester) else { return };
    let entry = |program: &str| vec!["run".to_owned(), format!("--entrypoint={program}"), "made".to_owned()];
    env.rb(entry("no-such-program")).expect(127).says("`no-such-program` was not found");
    env.rb(entry("/etc/passwd")).expect(126).says("`/etc/passwd` cannot be executed");
    env.rb(entry("/bin")).expect(126).says("`/bin` cannot be executed");
    env.rb(["run", "-w", "/etc/passwd", "made"]).expect(126).says("the working directory `/etc/passwd`");
    env.write("script", "#!/no/such/interpreter\n");
    let script = env.project().join("script");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("modes");
    env.rb(["run", "-v", "./script:/script", "--entrypoint=/script", "made"])
        .expect(127)
        .says("its interpreter or dynamic loader does not");
    // The program's own are its own, and rb's are rb's.
    for code in [1, 2, 3, 70, 125, 126, 127, 137, 255] {
        env.rb(shell(&[], &format!("exit {code}"))).expect(code);
    }
    env.rb(["--pull=never", "run", "no-such-image"]).expect(2);
    env.rb(["run", "-u", "nobody-here", "made"]).expect(2).says("nobody-here");
}

#[test]
fn a_program_ends_whoever_is_connected_to_it() {
    let Some(env) = made(Who::Tester) else { return };
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let publish = format!("{}:7000", port.port());
    let script = "busybox nc -ll -p 7000 -e cat & echo ready; wait";
    let mut program = Program::of(&env, &["--network=none", "-p", &publish], script);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut stream = loop {
        assert!(Instant::now() < deadline, "nobody answers");
        // Until the program listens, the connection is closed at once.
        if let Ok(mut stream) = TcpStream::connect(port) {
            use std::io::{Read as _, Write as _};
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("sets");
            let mut answer = [0; 1];
            if stream.write_all(b"x").is_ok() && stream.read_exact(&mut answer).is_ok() {
                break stream;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    program.signal(Signal::TERM);
    assert_eq!(program.code(), 143);
    let mut rest = Vec::new();
    let ended = std::io::Read::read_to_end(&mut stream, &mut rest);
    // Closed or reset, and not held open.
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock));
}
