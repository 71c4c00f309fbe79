//! Words are completed in bash, zsh and fish as their users type them; nothing is said, built or written for that.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

use crate::env::TestEnv;

const BUILDFILE: &str = "\
VERSION 1
# image puts the program into an image.
image:
    # MODE says how it is compiled.
    ARG MODE: enum(debug, release)=debug
    FROM scratch
    COPY Buildfile /x
    SAVE IMAGE shown/app:one
test:
    FROM scratch
";

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("Buildfile", BUILDFILE).write("rb.toml", "").write("a file", "");
    env.write("svc/my api/Buildfile", "VERSION 1\nserve:\n    FROM scratch\n");
    env
}

/// Returns a shell in the project folder that finds `rb`; nothing where it is not installed.
fn shell(env: &TestEnv, name: &str, args: &[&str]) -> Option<Command> {
    if Command::new(name).arg("--version").output().is_err() {
        eprintln!("stepping aside: there is no {name}");
        return None;
    }
    let rb = Path::new(env!("CARGO_BIN_EXE_rb")).parent().expect("lies in a folder").display();
    let mut command = Command::new(name);
    command
        .args(args)
        .current_dir(env.project())
        .env_clear()
        .env("PATH", format!("{rb}:/usr/local/bin:/usr/bin:/bin"))
        .env("HOME", env.project().join("../home"))
        .env("RB_ROOT", env.state())
        .env("TERM", "dumb")
        .stdin(Stdio::null());
    Some(command)
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("the shell starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    String::from_utf8(output.stdout).expect("is text")
}

/// Types a line into a shell on a terminal once its prompt is there. Returns what the line gave to `rb`.
fn typed(env: &TestEnv, command: &mut Command, line: &str) -> String {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).expect("a terminal");
    unlockpt(&ours).expect("unlocks");
    let theirs = ioctl_tiocgptpeer(&ours, flags).expect("its other end");
    let stream = || Stdio::from(theirs.try_clone().expect("duplicates"));
    let mut child =
        command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().expect("the shell starts");
    rustix::io::ioctl_fionbio(&ours, true).expect("does not block");
    let mut ours = File::from(ours);
    let out = env.project().join("typed");
    let mut screen = String::new();
    let mut wait = |ours: &mut File, done: &dyn Fn(&str) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut buffer = [0; 4096];
        while !done(&screen) {
            match ours.read(&mut buffer) {
                Ok(length) => screen.push_str(&String::from_utf8_lossy(&buffer[..length])),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
            assert!(Instant::now() < deadline, "the shell says:\n{screen}");
        }
    };
    wait(&mut ours, &|screen| screen.contains("ready> "));
    ours.write_all(format!("{line}\r").as_bytes()).expect("types");
    wait(&mut ours, &|_| out.exists());
    child.kill().expect("ends");
    child.wait().expect("ended");
    let text = std::fs::read_to_string(&out).expect("reads");
    std::fs::remove_file(&out).expect("removes");
    text
}

/// What stands in for `rb` once a line is entered; completion calls the program itself.
const RECORD: &str = "rb() { printf '<%s>' \"$@\" > typed.new; echo >> typed.new; mv typed.new typed; }";

#[test]
fn bash_replaces_what_it_takes_for_the_word() {
    let env = env();
    let script = "source <(rb completion bash); COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDBREAKS=$3; \
                  _rb rb \"$2\" x; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let told = |line: &str, piece: &str| {
        let args = ["--norc", "--noprofile", "-c", script, "bash", line, piece];
        Some(output(&mut shell(&env, "bash", &args)?).trim_end().replace('\n', " "))
    };
    let Some(first) = told("rb +", "+") else { return };
    assert_eq!(first, "+image +test");
    let is = |line: &str, piece: &str, expected: &str| {
        assert_eq!(told(line, piece).as_deref(), Some(expected), "{line}");
    };
    is("rb --no-cache ./svc/my\\ ap", "./svc/my\\ ap", "./svc/my\\ api+serve");
    is("rb +image --MODE=", "", "debug release");
    is("rb +image --MODE=r", "r", "release");
    is("rb +image --MODE=r", "--MODE=r", "--MODE=release");
    is("rb --progress=pl", "pl", "plain");
    is("cd x; A=1 rb image p", "p", "pull push");
    is("rb +nothing", "+nothing", "");
    env.rb(["+image"]).expect(0);
    is("rb run shown", "shown", "shown/app:one");
    is("rb image tag shown/app:", "", "one");
    is("rb image rm -f shown/app:o", "o", "one");
}

#[test]
fn bash_completes_at_the_prompt() {
    let env = env();
    env.write("rc", format!("PS1='ready> '; source <(rb completion bash); {RECORD}\n"));
    for (line, expected) in [
        ("rb +im\t--MO\tre\t--x", "<+image><--MODE=release><--x>\n"),
        ("rb ./sv\tmy\t-x", "<./svc/my api+serve><-x>\n"),
        ("rb \"./svc/my a\t-x", "<./svc/my api+serve><-x>\n"),
        // Paths are bash's own to complete and to quote.
        ("rb --ca ./a\t+te\t-", "<--ca><./a file><+test><->\n"),
        ("rb --ca=./a\t+te\t-", "<--ca=./a file><+test><->\n"),
    ] {
        let Some(mut bash) = shell(&env, "bash", &["--noprofile", "--rcfile", "rc", "-i"]) else { return };
        assert_eq!(typed(&env, &mut bash, line), expected, "{line}");
    }
}

#[test]
fn zsh_completes_at_the_prompt() {
    let env = env();
    let begin = "autoload -Uz compinit; compinit -u -D; source <(rb completion zsh)";
    env.write(".zshrc", format!("PS1='ready> '; {begin}; {RECORD}\n"));
    for (line, expected) in [
        ("rb +im\t--MO\tre\t--x", "<+image><--MODE=release><--x>\n"),
        ("rb ./sv\tmy\t-x", "<./svc/my api+serve><-x>\n"),
        ("rb --ca ./a\t+te\t-", "<--ca><./a file><+test><->\n"),
        ("rb --ca=./a\t+te\t-", "<--ca=./a file><+test><->\n"),
        ("rb --progress=pl\t+te\t-", "<--progress=plain><+test><->\n"),
    ] {
        let Some(mut zsh) = shell(&env, "zsh", &["-d", "-i"]) else { return };
        zsh.env("ZDOTDIR", env.project());
        assert_eq!(typed(&env, &mut zsh, line), expected, "{line}");
    }
}

#[test]
fn fish_shows_what_words_mean() {
    let env = env();
    let told = |line: &str| {
        let script = format!("rb completion fish | source; complete -C '{line}'");
        Some(output(&mut shell(&env, "fish", &["--no-config", "-c", &script])?))
    };
    let Some(first) = told("rb +") else { return };
    assert_eq!(first, "+image\tputs the program into an image.\n+test\n");
    let is = |line: &str, expected: &str| assert_eq!(told(line).as_deref(), Some(expected), "{line}");
    is(
        "rb +image --",
        "--MODE=\tsays how it is compiled. (enum(debug, release), default debug)\n--help\tShow what the target is for, what it takes and what it makes\n",
    );
    is("rb +image --MODE=", "--MODE=debug\tdefault\n--MODE=release\n");
    is("rb ./svc/my\\ ap", "./svc/my api/\tfolder\n");
    is("rb ./svc/my\\ api/", "./svc/my api/+serve\n");
    is("rb run -v ./a", "./a file\n");
    is("rb --ca=./a", "--ca=./a file\n");
    is("rb +nothing", "");
}

#[test]
fn nothing_is_said_or_made() {
    let env = env();
    let asks = |words: &[&str]| {
        let run = env.rb([&["__complete", "fish", "rb"], words].concat()).expect(0);
        assert_eq!(run.stderr, "", "{words:?}");
        run.stdout
    };
    assert!(asks(&["run", ""]).starts_with("words\n+image\t"));
    assert!(
        std::fs::read_dir(env.state()).expect("is there").next().is_none(),
        "the state directory was opened"
    );
    env.write("Buildfile", "VERSION 99\nt:\n  RUN \"\n");
    env.write(".env", "no line of dotenv");
    assert!(asks(&["+"]).starts_with("words\n"));
    let broken = [("RB_CONFIG", "/nonexistent/file"), ("RB_JOBS", "zero"), ("HOME", "rel")];
    let run = env.rb_with(&broken, ["__complete", "fish", "rb", "image", "rm", ""]).expect(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("words\n", ""));
    for words in [&["__complete", "csh", "x"][..], &["__complete", "bash", "rb "], &["__complete", "zsh"]] {
        let run = env.rb(words).expect(0);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""), "{words:?}");
    }
    // Others are served by what clap makes of the table.
    assert!(env.rb(["completion", "elvish"]).expect(0).stdout.contains("--no-cache"));
}
