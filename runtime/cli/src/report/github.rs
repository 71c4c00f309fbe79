//! What GitHub Actions is told beside the log: annotations at the user's lines, and the summary of the job.
//!
//! In: failures and results. Out: workflow commands for stderr, Markdown for the file that GITHUB_STEP_SUMMARY names.
//! **Invariant:** no text of a build is taken for a command: values are escaped, and reports stand where commands are
//! stopped. Source: GitHub Docs, "Workflow commands for GitHub Actions".

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use rb_api::SolveError;
use rb_diag::{Diagnostic, Severity, SourceMap};

use super::{Failure, fancy, place, step_name};
use crate::environment::Environment;
use crate::progress::clean;

/// GitHub shows so many annotations of a step at most.
const MOST_ANNOTATIONS: usize = 10;

/// So many last lines of a step's output stand in its annotation.
const MOST_LINES: usize = 20;

/// Where a run on GitHub puts what it has to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GitHub {
    /// File of the job's summary.
    pub(crate) summary: Option<PathBuf>,
    /// Where the repository lies: what annotations are relative to.
    pub(crate) workspace: Option<PathBuf>,
    /// What the names of files are relative to.
    pub(crate) cwd: PathBuf,
}

/// Commands are stopped, and go on at a word that nobody can know.
#[derive(Debug)]
pub(crate) struct Stopped {
    word: String,
}

impl Stopped {
    /// Chooses the word.
    pub(crate) fn new() -> Self {
        let mut random = [0_u8; 16];
        let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
        // Without it the word can be guessed by who knows the process and the time; commands are stopped all the same.
        if read.is_err() {
            let guess = rb_oci::Digest::of(format!("{} {:?}", std::process::id(), std::time::Instant::now()));
            random.copy_from_slice(guess.as_bytes().get(..16).unwrap_or(&[0; 16]));
        }
        Self { word: random.iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    /// Returns the word.
    #[cfg(test)]
    pub(crate) fn word(&self) -> &str {
        &self.word
    }

    /// Has what follows be no command.
    pub(crate) fn stop(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("::stop-commands::{}\n", self.word).as_bytes());
    }

    /// Has what follows be commands again.
    pub(crate) fn go_on(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("::{}::\n", self.word).as_bytes());
    }
}

/// Escapes what stands behind a command.
pub(crate) fn escaped_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a value of a command's properties.
fn escaped_property(text: &str) -> String {
    escaped_data(text).replace(':', "%3A").replace(',', "%2C")
}

/// One finding at one place.
#[derive(Debug, Default)]
pub(super) struct Annotation {
    pub(super) is_warning: bool,
    pub(super) title: String,
    pub(super) message: String,
    /// File, line and column, from 1.
    pub(super) place: Option<(String, usize, usize)>,
}

impl Annotation {
    pub(super) fn of_diagnostic(item: &Diagnostic, sources: &SourceMap) -> Self {
        let place = item.labels.first().and_then(|label| {
            let file = sources.get(label.span.source)?;
            let at = file.position(label.span.start);
            Some((file.name.clone(), at.line as usize, at.column as usize))
        });
        let help = item.help.iter().map(|help| format!("help: {help}"));
        let lines: Vec<String> =
            std::iter::once(item.message.clone()).chain(item.trail.iter().cloned()).chain(help).collect();
        Self {
            is_warning: item.severity == Severity::Warning,
            title: item.code.to_owned(),
            message: lines.join("\n"),
            place,
        }
    }

    /// Makes one of a step that failed, with the end of what it wrote.
    pub(super) fn of_step(title: String, message: &str, tail: &[String]) -> Self {
        let first = tail.len().saturating_sub(MOST_LINES);
        let lines = tail.iter().skip(first).map(|line| clean(line, false));
        let lines: Vec<String> = std::iter::once(message.to_owned()).chain(lines).collect();
        Self { is_warning: false, title, message: lines.join("\n"), place: None }
    }

    fn command(&self, github: &GitHub) -> String {
        let name = if self.is_warning { "warning" } else { "error" };
        let mut properties = Vec::new();
        if let Some((file, line, column)) = &self.place {
            let file = github.relative(Path::new(file));
            properties.push(format!("file={},line={line},col={column}", escaped_property(&file)));
        }
        if !self.title.is_empty() {
            properties.push(format!("title={}", escaped_property(&self.title)));
        }
        let properties = properties.join(",");
        let space = if properties.is_empty() { "" } else { " " };
        format!("::{name}{space}{properties}::{}\n", escaped_data(&self.message))
    }
}

impl GitHub {
    /// Returns what the environment says, where `rb` runs there.
    pub(crate) fn of(environment: &Environment) -> Self {
        Self {
            summary: environment.path("GITHUB_STEP_SUMMARY"),
            workspace: environment.path("GITHUB_WORKSPACE"),
            cwd: environment.cwd.clone(),
        }
    }

    /// Returns a path as GitHub knows it: from the top of the repository.
    fn relative(&self, path: &Path) -> String {
        let mut full = PathBuf::new();
        for part in self.cwd.join(path).components() {
            match part {
                Component::ParentDir => drop(full.pop()),
                Component::CurDir => {}
                Component::Prefix(_) | Component::RootDir | Component::Normal(_) => full.push(part),
            }
        }
        let inside = self.workspace.as_deref().and_then(|top| full.strip_prefix(top).ok());
        inside.unwrap_or(path).display().to_string()
    }

    /// Tells of a failure: the report, which is no command, and annotations.
    pub(crate) fn failed(&self, report: &str, failure: &Failure) -> String {
        let stopped = Stopped::new();
        let mut out = Vec::new();
        stopped.stop(&mut out);
        out.extend_from_slice(report.as_bytes());
        stopped.go_on(&mut out);
        for annotation in failure.annotations().iter().take(MOST_ANNOTATIONS) {
            out.extend_from_slice(annotation.command(self).as_bytes());
        }
        self.summarise(&format!("### rb failed\n\n{}", block(report)));
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Adds the lines of a build that is done to the summary of the job.
    pub(crate) fn done(&self, text: &str) {
        let (headline, rest) = text.split_once('\n').unwrap_or((text, ""));
        let rest = if rest.trim().is_empty() { String::new() } else { block(rest) };
        self.summarise(&format!("### {}\n\n{rest}", headline.replace(['<', '`', '*', '_'], " ")));
    }

    /// Appends to the summary of the job. What cannot be written there is in the log.
    fn summarise(&self, markdown: &str) {
        let Some(path) = &self.summary else { return };
        let file = OpenOptions::new().append(true).create(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(format!("{markdown}\n").as_bytes())) {
            tracing::warn!(%error, "the summary of the job cannot be written");
        }
    }
}

impl Failure {
    /// Returns what it is as annotations of files.
    pub(super) fn annotations(&self) -> Vec<Annotation> {
        match self {
            Self::With { failure, about } => {
                let mut all = failure.annotations();
                if let (Self::Diagnostics { .. }, Some(log), Some(first)) =
                    (failure.as_ref(), &about.log, all.first_mut())
                {
                    let more = Annotation::of_step(String::new(), &first.message, &log.tail);
                    first.message = more.message;
                }
                all
            }
            Self::Several(failures) => failures.iter().flat_map(Self::annotations).collect(),
            Self::Diagnostics { items, sources } => {
                items.iter().map(|item| Annotation::of_diagnostic(item, sources)).collect()
            }
            Self::Solve { error, definitions } => match error.as_ref() {
                SolveError::Vertex { vertex, name, kind: _, message, help: _, log_tail } => {
                    let title = format!("{} failed", step_name(name, fancy::WIDE));
                    let place = place::of_vertex(vertex, definitions).map(|place| {
                        let line = place.text.get(..place.range.start).unwrap_or_default();
                        let column =
                            line.chars().rev().take_while(|character| *character != '\n').count() + 1;
                        (place.file, place.line as usize, column)
                    });
                    vec![Annotation { place, ..Annotation::of_step(title, message, log_tail) }]
                }
                SolveError::Cancelled => Vec::new(),
                error => vec![Annotation { message: error.to_string(), ..Default::default() }],
            },
            Self::Said { kind: _, message, help } => {
                let help = help.iter().map(|help| format!("\nhelp: {help}")).collect::<String>();
                vec![Annotation { message: format!("{message}{help}"), ..Default::default() }]
            }
            Self::Interrupted(_) | Self::Unheard => Vec::new(),
        }
    }
}

/// Returns a text as a block of Markdown that nothing in it ends.
fn block(text: &str) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", clean_lines(text).trim_end())
}

fn clean_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", clean(line, false))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn github(summary: Option<PathBuf>) -> GitHub {
        GitHub { summary, workspace: Some("/repo".into()), cwd: "/repo/sub".into() }
    }

    #[test]
    fn annotations_are_escaped_and_lead_to_the_file() {
        let annotation = Annotation {
            is_warning: false,
            title: "a:b,c%".to_owned(),
            message: "100%\n::error::no".to_owned(),
            place: Some(("app/Buildfile".to_owned(), 4, 5)),
        };
        assert_eq!(
            annotation.command(&github(None)),
            "::error file=sub/app/Buildfile,line=4,col=5,title=a%3Ab%2Cc%25::100%25%0A::error::no\n"
        );
        let elsewhere = Annotation { place: Some(("../lib/B".to_owned(), 1, 1)), ..Annotation::default() };
        assert!(elsewhere.command(&github(None)).starts_with("::error file=lib/B,"));
        let bare = Annotation { is_warning: true, message: "m".to_owned(), ..Annotation::default() };
        assert_eq!(bare.command(&github(None)), "::warning::m\n");
    }

    #[test]
    fn the_summary_grows_and_nothing_gets_out_of_its_blocks() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("summary.md");
        let github = github(Some(path.clone()));
        github.done("built +app in 1.0s: 1 step run, 0 cached\n  wrote out/app\n");
        let failure = Failure::input("no ```` such thing", None);
        let text = github.failed("  × no ```` such thing\n", &failure);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("::stop-commands::") && lines[2].starts_with("::"), "{text}");
        assert_eq!(lines[3], "::error::no ```` such thing");
        insta::assert_snapshot!(std::fs::read_to_string(path).expect("reads"), @r"
        ### built +app in 1.0s: 1 step run, 0 cached

        ```text
          wrote out/app
        ```

        ### rb failed

        `````text
          × no ```` such thing
        `````
        ");
    }
}
