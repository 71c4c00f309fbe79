//! `rb logs`: what the steps of builds wrote, from the disk.
//!
//! In: the folders that [`super::record`] fills. Out: their bytes, on stdout. Nothing is opened or made. A terminal gets
//! lines that are safe for it, all else the bytes as they are.

mod shelf;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rb_diag::nearest;

use super::table::{table, utc};
use crate::args::LogsArgs;
use crate::environment::Environment;
use crate::progress::{Lines, bare_target, clean, fit, human_bytes, overwritten, terminal_columns};
use crate::report::{self, Failure};
use crate::settings;
use shelf::{Build, Step};

/// How often a build that runs is looked at.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// So much is read at once.
const PIECE_BYTES: usize = 256 << 10;

/// Prints what is asked for.
pub(super) fn execute(environment: &Environment, logs: &LogsArgs) -> Result<u8, Failure> {
    let root = settings::state_directory(environment)?;
    let asked = Asked::parse(logs)?;
    let folders =
        rb_store::logs(&root).map_err(|error| Failure::environment("the logs cannot be read", &error))?;
    if folders.is_empty() {
        let help = "a build whose steps write something leaves them: `rb +TARGET`, then `rb logs`".to_owned();
        return Err(Failure::input("there are no logs yet", Some(help)));
    }
    let builds =
        || folders.iter().enumerate().filter_map(|(at, folder)| Some((at + 1, Build::read(folder)?)));
    if logs.list {
        return list(builds(), &asked);
    }
    let mut wanted = builds().filter(|(number, _)| asked.build.is_none_or(|build| build == *number));
    let (_, build) = match (&asked, logs.follow) {
        (Asked { failed: false, step: None, build: _ }, _) | (_, true) => wanted.next(),
        _ => wanted.find(|(_, build)| build.steps.iter().any(|step| asked.is_met(step))),
    }
    .ok_or_else(|| asked.not_found(builds().map(|(_, build)| build)))?;
    let out = &mut Out::new();
    if logs.follow {
        return follow(&root, build, &asked, out);
    }
    let steps: Vec<&Step> = build.steps.iter().filter(|step| asked.is_met(step)).collect();
    for step in &steps {
        if steps.len() > 1 {
            out.heading(step)?;
        }
        let mut file = step.open().map_err(|error| Failure::environment("a log cannot be read", &error))?;
        out.copy(step.number, &mut file)?;
        out.end(step.number)?;
    }
    Ok(0)
}

/// Which logs are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    /// Of this build, counted from the last, which is 1.
    build: Option<usize>,
    step: Option<Which>,
    failed: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Which {
    Number(usize),
    /// A target with or without arguments, or words of a step.
    Words(String),
}

impl Asked {
    fn parse(logs: &LogsArgs) -> Result<Self, Failure> {
        let mut asked = Self { failed: logs.failed, ..Self::default() };
        for word in &logs.words {
            if let Some(number) = word.strip_prefix('@') {
                let number = number.parse().ok().filter(|number| *number > 0 && asked.build.is_none());
                let number = number.ok_or_else(|| {
                    let help =
                        "`@1` is the last build, `@2` the one before; `rb logs --list` lists them".to_owned();
                    Failure::input(format!("`{word}` names no build"), Some(help))
                })?;
                asked.build = Some(number);
            } else if asked.step.is_some() {
                let help =
                    "name one step, target or text; a text of several words stands in quotes".to_owned();
                return Err(Failure::input(format!("`{word}` is one word too many"), Some(help)));
            } else {
                let number = word.parse().ok().map(Which::Number);
                asked.step = Some(number.unwrap_or_else(|| Which::Words(word.clone())));
            }
        }
        Ok(asked)
    }

    fn is_met(&self, step: &Step) -> bool {
        let is_it = match &self.step {
            None => true,
            Some(Which::Number(number)) => step.number == *number,
            Some(Which::Words(words)) if words.contains('+') && bare_target(words) == words => {
                bare_target(step.target()) == words
            }
            Some(Which::Words(words)) => step.name.contains(words.as_str()),
        };
        is_it && (!self.failed || step.has_failed())
    }

    fn not_found(&self, builds: impl Iterator<Item = Build>) -> Failure {
        let list = "`rb logs --list` lists what there is".to_owned();
        let failed = if self.failed { "failed step" } else { "step" };
        let of = self.build.map_or_else(String::new, |build| format!(" of build @{build}"));
        match &self.step {
            None if self.failed => {
                Failure::input(format!("no step{of} failed that wrote something"), Some(list))
            }
            None => Failure::input(format!("there are no logs{of}"), Some(list)),
            Some(Which::Number(number)) => {
                Failure::input(format!("no {failed} {number}{of} has a log"), Some(list))
            }
            Some(Which::Words(words)) => {
                let steps: Vec<Step> = builds.flat_map(|build| build.steps).collect();
                let targets = steps.iter().map(|step| bare_target(step.target()));
                let help =
                    nearest(words, targets).map_or(list, |near| format!("did you mean `rb logs {near}`?"));
                Failure::input(format!("no {failed} of `{words}`{of} has a log"), Some(help))
            }
        }
    }
}

/// Lists builds, and the steps of one.
fn list(builds: impl Iterator<Item = (usize, Build)>, asked: &Asked) -> Result<u8, Failure> {
    let heading = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let mut rows = vec![heading(&["BUILD", "BEGAN (UTC)", "WHAT", "ENDED", "STEPS", "SIZE"])];
    let mut steps = vec![heading(&["STEP", "WHAT", "ENDED", "SIZE"])];
    let cells = terminal_columns().saturating_sub(30).max(30);
    for (number, build) in builds {
        let size: u64 = build.steps.iter().map(Step::size_bytes).sum();
        let began = utc(i64::try_from(build.began.as_secs()).unwrap_or_default());
        let ended = build.told();
        let count = build.steps.len().to_string();
        rows.push(vec![
            format!("@{number}"),
            began,
            clean(&build.title, false),
            ended,
            count,
            human_bytes(size),
        ]);
        if asked.build.unwrap_or(1) == number {
            steps.extend(build.steps.iter().filter(|step| asked.is_met(step)).map(|step| {
                let name = clean(&step.name, false);
                vec![
                    step.number.to_string(),
                    fit(&name, cells).into_owned(),
                    clean(&step.told(), false),
                    human_bytes(step.size_bytes()),
                ]
            }));
        }
    }
    let text = format!("{}\n{}", table(&rows, &[4, 5]), table(&steps, &[0, 3]));
    report::print(text.as_bytes()).map(|()| 0)
}

/// Prints what comes, until the build has ended.
fn follow(root: &Path, mut build: Build, asked: &Asked, out: &mut Out) -> Result<u8, Failure> {
    let unreadable = |error: &dyn std::error::Error| Failure::environment("the logs cannot be read", error);
    let mut open: BTreeMap<usize, File> = BTreeMap::new();
    loop {
        // Asked for first: what was written before its end is read below.
        let is_over =
            build.outcome.is_some() || !build.folder.is_written(root).map_err(|error| unreadable(&error))?;
        if let Some(again) = Build::read(&build.folder) {
            build = again;
        }
        for step in build.steps.iter().filter(|step| asked.is_met(step)) {
            let file = match open.entry(step.number) {
                std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(step.open().map_err(|error| unreadable(&error))?)
                }
            };
            if out.has_more(file) {
                if out.last != Some(step.number) {
                    out.heading(step)?;
                }
                out.copy(step.number, file)?;
            }
        }
        if is_over {
            build.steps.iter().try_for_each(|step| out.end(step.number))?;
            return Ok(0);
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

/// stdout.
struct Out {
    is_terminal: bool,
    buffer: Vec<u8>,
    /// Unfinished lines by step, for a terminal.
    lines: BTreeMap<usize, Lines>,
    /// Whose output came last.
    last: Option<usize>,
    /// A line is unfinished.
    is_open: bool,
}

impl Out {
    fn new() -> Self {
        let lines = BTreeMap::new();
        Self {
            is_terminal: report::is_terminal(),
            buffer: vec![0; PIECE_BYTES],
            lines,
            last: None,
            is_open: false,
        }
    }

    fn heading(&mut self, step: &Step) -> Result<(), Failure> {
        let blank = if self.last.is_some() { "\n" } else { "" };
        let open = if std::mem::take(&mut self.is_open) { "\n" } else { "" };
        let ended = step.ended.as_ref().map(|_| step.told()).filter(|told| told != "done");
        let ended = ended.map_or_else(String::new, |ended| format!(" ({})", clean(&ended, false)));
        self.last = Some(step.number);
        report::print(format!("{open}{blank}==> {}{ended} <==\n", clean(&step.name, false)).as_bytes())
    }

    fn has_more(&self, file: &File) -> bool {
        use std::io::Seek as _;
        let (mut at, length) = (file, file.metadata().map_or(0, |metadata| metadata.len()));
        at.stream_position().is_ok_and(|position| position < length)
    }

    /// Prints what a file holds from where it stands.
    fn copy(&mut self, number: usize, file: &mut File) -> Result<(), Failure> {
        loop {
            let length = match file.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::environment("a log cannot be read", &error)),
            };
            let bytes = self.buffer.get(..length).unwrap_or_default();
            self.is_open = !bytes.ends_with(b"\n");
            if self.is_terminal {
                let mut shown = Vec::new();
                self.lines.entry(number).or_default().push(bytes, |line| safe(line, &mut shown));
                self.is_open = false;
                report::print(&shown)?;
            } else {
                report::print(bytes)?;
            }
        }
    }

    /// Prints what is left of a line, on a terminal.
    fn end(&mut self, number: usize) -> Result<(), Failure> {
        match self.lines.remove(&number).and_then(|mut lines| lines.rest()) {
            Some(rest) => {
                let mut shown = Vec::new();
                safe(&rest, &mut shown);
                report::print(&shown)
            }
            None => Ok(()),
        }
    }
}

/// Appends a line as a terminal may have it.
fn safe(line: &[u8], out: &mut Vec<u8>) {
    let text = clean(&String::from_utf8_lossy(overwritten(line)), true);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(if text.contains('\u{1b}') { b"\x1b[0m\n" } else { b"\n" });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Asked, String> {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Asked::parse(&LogsArgs { words, ..LogsArgs::default() }).map_err(|failure| format!("{failure:?}"))
    }

    fn step(number: usize, name: &str) -> Step {
        Step { number, name: name.to_owned(), ended: None, cut: false, path: "/none".into() }
    }

    #[test]
    fn words_name_builds_and_steps() {
        let build = |build, step| Ok(Asked { build, step, failed: false });
        assert_eq!(asked(&[]), build(None, None));
        assert_eq!(asked(&["@2", "3"]), build(Some(2), Some(Which::Number(3))));
        assert_eq!(asked(&["+app", "@1"]), build(Some(1), Some(Which::Words("+app".to_owned()))));
        for wrong in [&["@0"][..], &["@x"], &["@1", "@2"], &["a", "b"]] {
            asked(wrong).expect_err("names nothing");
        }
    }

    #[test]
    fn a_target_is_named_with_or_without_arguments() {
        let met = |words: &str, name: &str| asked(&[words]).expect("parses").is_met(&step(1, name));
        let name = "./a+app --X=1 | RUN make all";
        for (words, is_met) in [
            ("./a+app", true),
            ("+app", false),
            ("./a+ap", false),
            ("make all", true),
            ("1", true),
            ("2", false),
        ] {
            assert_eq!(met(words, name), is_met, "{words}");
        }
    }
}
