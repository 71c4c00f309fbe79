//! The live view on a real terminal: a pseudo-terminal whose screen is what a terminal would show.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::env::TestEnv;

/// `rb` on a terminal of its own.
struct Terminal {
    child: Child,
    ours: Option<OwnedFd>,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: Option<JoinHandle<()>>,
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    fn start(env: &TestEnv, (columns, rows): (u16, u16), args: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = rustix::pty::openpt(flags).expect("a terminal");
        rustix::pty::unlockpt(&ours).expect("unlocks");
        let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags).expect("the other end");
        tcsetwinsize(&ours, size(columns, rows)).expect("has a size");
        let mut command = env.command(args);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let copy = || Stdio::from(theirs.try_clone().expect("another handle"));
        let child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("rb starts");
        drop((command, theirs));
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 1000)));
        let mut from = File::from(ours.try_clone().expect("another handle"));
        let shown = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            // EIO: nobody has the other end any more.
            while let Ok(length) = from.read(&mut buffer) {
                if length == 0 {
                    break;
                }
                shown.lock().expect("no panics").process(&buffer[..length]);
            }
        });
        Self { child, ours: Some(ours), screen, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.screen.lock().expect("no panics").screen().contents()
    }

    /// Waits until the screen shows all of this, and returns it.
    #[track_caller]
    fn until(&self, words: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let text = self.text();
            if words.iter().all(|word| text.contains(word)) {
                return text;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no {words:?} in:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn resize(&self, columns: u16, rows: u16) {
        self.screen.lock().expect("no panics").screen_mut().set_size(rows, columns);
        tcsetwinsize(self.ours.as_ref().expect("not closed"), size(columns, rows)).expect("resizes");
    }

    /// Waits for the end, and returns what is on the screen then.
    fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("ends");
        self.reader.take().expect("reads").join().expect("reads to the end");
        (status, self.text())
    }
}

/// Steps that run until `name` is removed, with outputs of all kinds.
fn write_steps(env: &TestEnv, count: usize) {
    let outputs = [
        r"printf '\033[31mred 日本語テキスト\033[0m and more words than fit on any line of a small terminal\n'",
        r"printf '10%%\r50%%\r99%%'",
        r"printf 'half\033[2J\033[1;1Hjumped\007\tto\n'",
        "true",
    ];
    let mut text = "VERSION 1\nall:\n".to_owned();
    for number in 0..count {
        text.push_str(&format!("    BUILD +t{number}\n"));
    }
    for number in 0..count {
        let output = outputs[number % outputs.len()];
        text.push_str(&format!(
            "t{number}:\n    FROM @host --bind={}\n    RUN --no-cache {output}; : {number}; while test -e {}/go; do sleep 0.1; done\n    RUN echo after {number}\n",
            env.project().display(),
            env.project().display(),
        ));
    }
    env.write("Buildfile", text).write("go", "");
}

fn release(env: &TestEnv) {
    std::fs::remove_file(env.project().join("go")).expect("removes");
}

fn args<'a>(env: &'a TestEnv, jobs: &'a str, bind: &'a mut String) -> [&'a str; 5] {
    *bind = format!("--allow-bind={}", env.project().display());
    ["--no-cache", "-j", jobs, bind, "+all"]
}

/// The heading, which is on the screen once, and the lines below it.
#[track_caller]
fn view(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let headings: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("+all  ")).collect();
    assert_eq!(headings.len(), 1, "{text}");
    lines[headings[0]..].to_vec()
}

#[test]
fn the_view_fits_any_width_and_leaves_what_ran() {
    for columns in [20, 40, 80, 200] {
        let env = TestEnv::new();
        write_steps(&env, 4);
        let mut bind = String::new();
        let terminal = Terminal::start(&env, (columns, 24), &args(&env, "4", &mut bind));
        let mut wanted = vec!["+t0 ", "+t1 ", "+t2 ", "+t3 "];
        if columns >= 80 {
            wanted.extend(["red 日本", "99%", "halfjumped"]);
        }
        let text = terminal.until(&wanted);
        let lines = view(&text);
        assert!(lines.len() >= 5 && lines[1..5].iter().all(|line| line.starts_with("  +t")), "{text}");
        if columns >= 80 {
            assert!(lines[0].contains("4 running") && lines[0].contains("4 waiting"), "{text}");
            assert!(lines[5].starts_with("  waiting: +t") && lines[5].contains("RUN echo after"), "{text}");
            let jumped = lines.iter().find(|line| line.contains("halfjumped")).expect("was waited for");
            assert!(jumped.contains("halfjumped    to"), "no escape of a step's gets out: {text}");
        }
        release(&env);
        let (status, text) = terminal.end();
        assert!(status.success(), "{text}");
        assert!(text.contains("built +all in") && !text.contains("running"), "{text}");
        if columns >= 80 {
            assert_eq!(text.lines().filter(|line| line.contains("RUN echo after")).count(), 4, "{text}");
        }
    }
}

#[test]
fn a_terminal_that_changes_its_size_is_drawn_anew() {
    let env = TestEnv::new();
    write_steps(&env, 3);
    let mut bind = String::new();
    let terminal = Terminal::start(&env, (120, 24), &args(&env, "3", &mut bind));
    terminal.until(&["3 running", "99%"]);
    for (columns, rows) in [(30, 24), (200, 50), (60, 5), (120, 24)] {
        terminal.resize(columns, rows);
        let began = Instant::now();
        let text = loop {
            // Some frames later.
            std::thread::sleep(Duration::from_millis(700));
            let text = terminal.text();
            if text.lines().filter(|line| line.starts_with("  +t")).count() == 3 {
                break text;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{columns}x{rows}:\n{text}");
        };
        view(&text);
    }
    release(&env);
    assert!(terminal.end().0.success());
}

#[test]
fn more_steps_than_rows_are_counted() {
    let env = TestEnv::new();
    write_steps(&env, 12);
    let mut bind = String::new();
    let terminal = Terminal::start(&env, (80, 8), &args(&env, "12", &mut bind));
    let text = terminal.until(&["12 running", "and 7 more"]);
    assert_eq!(view(&text).len(), 7, "{text}");
    release(&env);
    assert!(terminal.end().0.success());
}

#[test]
fn a_terminal_that_goes_away_ends_no_build_and_panics_nobody() {
    let env = TestEnv::new();
    write_steps(&env, 1);
    let mut bind = String::new();
    let mut terminal = Terminal::start(&env, (80, 24), &args(&env, "1", &mut bind));
    terminal.until(&["+t0 RUN"]);
    drop(terminal.ours.take());
    // The reader has the last handle: it cannot be asked to stop, so it is left behind with a pipe that says nothing.
    drop(terminal.reader.take());
    release(&env);
    let status = terminal.child.wait().expect("ends");
    assert!(status.success(), "{status}");
}

#[test]
fn the_report_stands_below_the_view_and_the_last_lines_once() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nall:\n    FROM @host\n    RUN seq 100; echo the end >&2; exit 3\n");
    let terminal = Terminal::start(&env, (80, 60), &["+all"]);
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(1), "{text}");
    assert_eq!(text.lines().filter(|line| line.trim() == "the end").count(), 1, "{text}");
    assert!(text.contains("last lines of its output") && text.contains("    100\n"), "{text}");
    assert!(text.contains("log: `rb logs --failed +all` shows all it wrote (300 B)"), "{text}");
    assert!(!text.contains("running"), "{text}");
}
