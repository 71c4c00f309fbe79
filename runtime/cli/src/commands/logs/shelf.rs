//! The logs of one build, as its index tells of them. An index may end anywhere: its writer may be at work, or dead.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use rb_store::BuildLogs;
use serde_json::Value;

/// A build with logs.
#[derive(Debug)]
pub(super) struct Build {
    pub(super) folder: BuildLogs,
    /// When it began, since 1970.
    pub(super) began: Duration,
    /// What was asked for: `rb +app`.
    pub(super) title: String,
    /// How it ended, if it has.
    pub(super) outcome: Option<String>,
    /// Those that wrote something, in that order.
    pub(super) steps: Vec<Step>,
}

impl Build {
    /// Says how it ended, and whether some output of its steps is missing.
    pub(super) fn told(&self) -> String {
        let ended = self.outcome.as_deref().unwrap_or("-");
        let is_cut = self.steps.iter().any(|step| step.cut);
        if is_cut { format!("{ended}; logs cut") } else { ended.to_owned() }
    }
}

/// A step that wrote something.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) number: usize,
    /// `+app --MODE=debug | RUN make`
    pub(super) name: String,
    /// How it ended, if it has: `done`, `cancelled`, `failed: …`.
    pub(super) ended: Option<String>,
    /// Its log ends before its output did: the disk was full.
    pub(super) cut: bool,
    pub(super) path: PathBuf,
}

impl Build {
    /// Reads the index of a folder; `None` where it has none, yet or any more.
    pub(super) fn read(folder: &BuildLogs) -> Option<Self> {
        let text = std::fs::read(folder.path.join("index")).ok()?;
        let mut build = Self {
            folder: folder.clone(),
            began: folder.began(),
            title: String::new(),
            outcome: None,
            steps: Vec::new(),
        };
        let lines = String::from_utf8_lossy(&text);
        // What does not end in a newline is half written.
        let whole = lines.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines().filter_map(|line| line.parse::<Value>().ok()) {
            build.take(&line);
        }
        Some(build)
    }

    fn take(&mut self, line: &Value) {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        if let (Some(command), Some(target)) = (text("command"), text("target")) {
            let command = if command == "build" { String::new() } else { format!("{command} ") };
            self.title = format!("rb {command}{target}");
        }
        if let Some(outcome) = text("outcome") {
            self.outcome = Some(outcome);
        }
        let Some(number) = line["log"].as_u64().and_then(|number| usize::try_from(number).ok()) else {
            return;
        };
        if let Some(name) = text("name") {
            let path = self.folder.path.join(format!("{number}.log"));
            self.steps.push(Step { number, name, ended: None, cut: false, path });
        } else if let Some(step) = self.steps.iter_mut().find(|step| step.number == number) {
            let message = text("message").map_or_else(String::new, |message| format!(": {message}"));
            step.ended = text("ended").map(|ended| format!("{ended}{message}"));
            step.cut = line["cut"].as_bool().unwrap_or_default();
        }
    }
}

impl Step {
    /// Returns the target with its arguments; "" of what belongs to none.
    pub(super) fn target(&self) -> &str {
        self.name.split_once(" | ").map_or("", |(target, _)| target)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| ended.starts_with("failed"))
    }

    /// Says how it ended, and whether some of its output is missing.
    pub(super) fn told(&self) -> String {
        let ended = self.ended.as_deref().unwrap_or("-");
        if self.cut { format!("{ended}; log cut, the disk was full") } else { ended.to_owned() }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    pub(super) fn open(&self) -> std::io::Result<File> {
        File::open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_full_disk_has_cut_is_told() {
        let folder = BuildLogs { name: "1-1".to_owned(), path: "/none".into() };
        let (title, began) = (String::new(), Duration::ZERO);
        let mut build = Build { folder, began, title, outcome: None, steps: Vec::new() };
        for line in [
            json!({ "log": 1, "name": "+a | RUN x" }),
            json!({ "log": 2, "name": "+a | RUN y" }),
            json!({ "log": 1, "ended": "done", "bytes": 9, "cut": false }),
            json!({ "log": 2, "ended": "failed", "message": "exit code 1", "bytes": 9, "cut": true }),
            json!({ "outcome": "failed", "exit_code": 1 }),
        ] {
            build.take(&line);
        }
        let told: Vec<String> = build.steps.iter().map(Step::told).collect();
        assert_eq!(told, ["done", "failed: exit code 1; log cut, the disk was full"]);
        assert!(build.steps[1].has_failed());
        assert_eq!(build.told(), "failed; logs cut");
    }
}
