//! The first ten minutes of a new user, `examples/TEN_MINUTES.md`, replayed as it stands there.
//!
//! In the document a code block whose first line names a file (` ```c hello.c `) is written to that file; in a
//! `console` block each line that begins with `$ ` is typed, with the lines that begin with `> ` behind it, and what
//! follows is what came. A shell keeps its folder and its `$?` from one command to the next. Times, digests and sizes
//! may be others; all else has to be the same. After a change of what `rb` says,
//! `RB_TRANSCRIPT=write cargo test -p rb-cli --test cli transcript` writes the outputs anew: read them.
//!
//! No library: `trycmd` knows such blocks, but runs programs without a shell and writes no files between them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::Regex;

use crate::env::TestEnv;

/// One line of typing and what came.
struct Typed {
    command: String,
    output: String,
}

/// A document in pieces; joined they are the document.
enum Piece {
    /// Lines as they are.
    Text(String),
    /// A file to write, and its content.
    File(String, String),
    /// A block of commands.
    Console(Vec<Typed>),
}

const FENCE: &str = "```";

fn parse(document: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix(FENCE) else {
            pieces.push(Piece::Text(format!("{line}\n")));
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != FENCE).collect();
        let text = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        match info.split_once(' ') {
            Some((_, file)) => pieces.push(Piece::File(info.to_owned(), text(&block)).checked(file)),
            None if info == "console" => pieces.push(Piece::Console(typed(&block))),
            None => pieces.push(Piece::Text(format!("{line}\n{}{FENCE}\n", text(&block)))),
        }
    }
    pieces
}

impl Piece {
    /// A name of a file stays in the folder.
    fn checked(self, file: &str) -> Self {
        assert!(!file.starts_with('/') && !file.contains(".."), "{file}");
        self
    }
}

fn typed(block: &[&str]) -> Vec<Typed> {
    let mut all: Vec<Typed> = Vec::new();
    let mut typing = false;
    for line in block {
        if let Some(command) = line.strip_prefix("$ ") {
            all.push(Typed { command: command.to_owned(), output: String::new() });
            typing = true;
            continue;
        }
        let last = all.last_mut().expect("a block begins with a command");
        match line.strip_prefix("> ") {
            Some(more) if typing => last.command.push_str(&format!("\n{more}")),
            _ => {
                typing = false;
                last.output.push_str(&format!("{line}\n"));
            }
        }
    }
    all
}

/// A shell that keeps its folder and its `$?`.
struct Shell<'a> {
    env: &'a TestEnv,
    bin: PathBuf,
    folder: PathBuf,
    status: i32,
}

impl<'a> Shell<'a> {
    fn new(env: &'a TestEnv) -> Self {
        let bin = env.project().with_file_name("bin");
        std::fs::create_dir(&bin).expect("makes a folder");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rb"), bin.join("rb")).expect("links");
        Self { env, bin, folder: env.project(), status: 0 }
    }

    fn run(&mut self, command: &str) -> String {
        let state = self.env.project().with_file_name("folder");
        let script =
            format!("exec 2>&1\ntrap 'pwd >{}' EXIT\n(exit {})\n{command}\n", state.display(), self.status);
        let output = Command::new("/bin/sh")
            .args(["-c", &script])
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.bin.display()))
            .env("HOME", self.env.project().with_file_name("home"))
            .env("RB_ROOT", self.env.state())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("the shell starts");
        self.status = output.status.code().unwrap_or(-1);
        self.folder = std::fs::read_to_string(state).expect("it told its folder").trim_end().into();
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

/// Replays a document and returns it with what came this time.
fn replay(document: &str, shell: &mut Shell<'_>) -> String {
    let mut out = String::new();
    for piece in parse(document) {
        match piece {
            Piece::Text(text) => out.push_str(&text),
            Piece::File(info, content) => {
                let (_, file) = info.split_once(' ').expect("it names a file");
                let path = shell.folder.join(file);
                std::fs::create_dir_all(path.parent().expect("is in the folder")).expect("makes folders");
                std::fs::write(path, &content).expect("writes");
                out.push_str(&format!("{FENCE}{info}\n{content}{FENCE}\n"));
            }
            Piece::Console(commands) => {
                out.push_str(&format!("{FENCE}console\n"));
                for Typed { command, .. } in commands {
                    out.push_str(&format!("$ {}\n", command.replace('\n', "\n> ")));
                    out.push_str(&shell.run(&command));
                }
                out.push_str(&format!("{FENCE}\n"));
            }
        }
    }
    out
}

/// Takes out what may differ from run to run, and from machine to machine.
fn masked(text: &str) -> String {
    let masks = [
        (r"sha256:[0-9a-f]{64}", "sha256:DIGEST"),
        (r"\b[0-9a-f]{12}\b", "ID"),
        (r"\b[0-9]+(\.[0-9]+)? ([kMG]?B)\b", "SIZE"),
        (r"\b([0-9]+m)?[0-9]+(\.[0-9]+)?s\b", "TIME"),
        (r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9:]{8}\b", "DAY"),
        // Columns are as wide as what stands in them.
        (r"(DIGEST|ID|SIZE|TIME|DAY) +", "$1 "),
        (r" +(DIGEST|ID|SIZE|TIME|DAY)", " $1"),
        (r"(?m)^ +(\S+ \| )", "$1"),
        // What a slow machine says, and others do not.
        (r"(?m)^.* (took|still running after) TIME\n", ""),
    ];
    masks.iter().fold(text.to_owned(), |text, (pattern, mask)| {
        Regex::new(pattern).expect("is a pattern").replace_all(&text, *mask).into_owned()
    })
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever runs the test says whether to write")]
fn the_first_ten_minutes_go_as_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/TEN_MINUTES.md");
    let document = std::fs::read_to_string(&path).expect("reads the document");
    let env = TestEnv::new();
    let came = replay(&document, &mut Shell::new(&env));
    if std::env::var("RB_TRANSCRIPT").is_ok_and(|word| word == "write") {
        std::fs::write(&path, &came).expect("writes the document");
        return;
    }
    let (written, came) = (masked(&document), masked(&came));
    let differ = written.lines().zip(came.lines()).position(|(written, came)| written != came);
    if let Some(line) = differ {
        let from = line.saturating_sub(3);
        let part = |text: &str| text.lines().skip(from).take(12).collect::<Vec<_>>().join("\n");
        panic!(
            "examples/TEN_MINUTES.md:{}: written:\n{}\n\ncame:\n{}",
            line + 1,
            part(&written),
            part(&came)
        );
    }
    assert_eq!(written.lines().count(), came.lines().count(), "the end is missing");
}

#[test]
fn a_document_is_read_and_written_without_loss() {
    let document = "# T\n\n```c a/b.c\nint x;\n```\n\n```console\n$ cat <<E\n> one\n> E\none\n$ cd a && false\n$ echo $?\n1\n$ ls\nb.c\n```\n```sh\n$ not run\n```\n";
    let env = TestEnv::new();
    assert_eq!(replay(document, &mut Shell::new(&env)), document);
    assert_eq!(env.read("a/b.c"), "int x;\n");
}

#[test]
fn only_what_may_differ_is_masked() {
    let line = |time, digest: char, size| {
        format!(
            "built +a in {time}: 2 steps run\n  image a  sha256:{}  {size}",
            digest.to_string().repeat(64)
        )
    };
    assert_eq!(masked(&line("0.8s", 'a', "16.2 kB")), masked(&line("1m01s", 'b', "9 B")));
    assert_ne!(masked("2 steps run"), masked("3 steps run"));
    assert_eq!(masked("a\n +app | COPY . took 1.5s\nb\n"), "a\nb\n");
}
