//! `rb history`: the records of builds, listed, shown, removed, and carried from machine to machine ([`bundle`]).
//!
//! In: the state directory, which is not opened but to take a record in. Out: text and JSON on stdout.

mod bundle;

use std::time::Duration;

use rb_api::Miss;
use serde_json::{Value, json};

use super::logs;
use super::past::{self, Past};
use super::record::document::{Document, OfDockerfile, PlacedOn, RecordStep, Verdict};
use super::table::{table, utc};
use crate::args::{
    HistoryCommand, HistoryLogsArgs, HistoryLsArgs, HistoryRmArgs, HistoryShowArgs, ListFormat, LogsArgs,
};
use crate::environment::Environment;
use crate::progress::{clean, fit, human_bytes, human_duration};
use crate::report::{self, Failure};
use crate::settings;

/// So many builds are listed unless all are asked for.
const MOST_LISTED: usize = 20;

/// So wide a text is shown in a list.
const TEXT_CELLS: usize = 60;

/// Does what is asked for.
pub(super) fn execute(environment: &Environment, command: &HistoryCommand) -> Result<u8, Failure> {
    match command {
        HistoryCommand::Ls(ls) => list(environment, ls),
        HistoryCommand::Show(show) => self::show(environment, show),
        HistoryCommand::Logs(logs) => self::logs(environment, logs),
        HistoryCommand::Rm(rm) => remove(environment, rm),
        HistoryCommand::Export(export) => bundle::export(environment, export),
        HistoryCommand::Import(import) => bundle::import(environment, import),
    }
}

fn list(environment: &Environment, ls: &HistoryLsArgs) -> Result<u8, Failure> {
    let root = settings::state_directory(environment)?;
    let most = if ls.all { usize::MAX } else { MOST_LISTED };
    let files = past::files(&root)?;
    let records: Vec<Past> = files.iter().take(most).filter_map(|file| Past::read(&root, file)).collect();
    let text = if ls.quiet {
        records.iter().map(|past| format!("{}\n", past.id())).collect()
    } else if ls.json || ls.format == ListFormat::Json {
        let builds: Vec<Value> = records.iter().map(summary).collect();
        format!("{:#}\n", json!({ "format": 1, "builds": builds }))
    } else if records.is_empty() {
        "no build is kept\n".to_owned()
    } else {
        as_table(&records)
    };
    report::print(text.as_bytes()).map(|()| 0)
}

fn as_table(records: &[Past]) -> String {
    let heading = ["ID", "BEGAN (UTC)", "WHAT", "ENDED", "TOOK", "RAN", "CACHED"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for past in records {
        let document = &past.document;
        let what =
            if document.imported { format!("{} (imported)", document.title()) } else { document.title() };
        rows.push(vec![
            past.id(),
            began(document),
            fit(&clean(&what, false), TEXT_CELLS).into_owned(),
            clean(&document.outcome, false),
            human_duration(Duration::from_millis(document.duration_ms)),
            ran(document).to_string(),
            found(document).to_string(),
        ]);
    }
    table(&rows, &[4, 5, 6])
}

fn began(document: &Document) -> String {
    utc(i64::try_from(document.started_unix_ms / 1000).unwrap_or(i64::MAX))
}

/// Counts the steps that ran, those that failed included.
fn ran(document: &Document) -> usize {
    document.count(|verdict| matches!(verdict, Verdict::Ran | Verdict::Failed))
}

fn found(document: &Document) -> usize {
    document.count(|verdict| matches!(verdict, Verdict::Cached | Verdict::NotNeeded))
}

fn summary(past: &Past) -> Value {
    let Document {
        command,
        target,
        args,
        workspace,
        imported,
        started_unix_ms,
        duration_ms,
        outcome,
        dockerfile,
        ..
    } = &past.document;
    let dockerfile =
        dockerfile.as_ref().map(|of| json!({ "file": of.file, "target": of.target, "context": of.context }));
    json!({
        "id": past.id(), "command": command, "target": target, "args": args, "workspace": workspace,
        "dockerfile": dockerfile,
        "imported": imported, "started_unix_ms": started_unix_ms, "duration_ms": duration_ms,
        "outcome": outcome, "exit_code": past.document.exit_code, "ran": ran(&past.document),
        "cached": found(&past.document),
    })
}

fn show(environment: &Environment, show: &HistoryShowArgs) -> Result<u8, Failure> {
    let root = settings::state_directory(environment)?;
    let past = past::find(&root, &show.build)?;
    if show.json || show.format == ListFormat::Json {
        let mut value = json!(past.document);
        value["id"] = json!(past.id());
        return report::print(format!("{value:#}\n").as_bytes()).map(|()| 0);
    }
    let document = &past.document;
    let mut out = format!("build    {}\n", past.id());
    let mut line = |name: &str, text: &str| out.push_str(&format!("{name:<8} {}\n", clean(text, false)));
    line("what", &document.title());
    if !document.args.is_empty() {
        line("args", &document.args.join(", "));
    }
    if let Some(OfDockerfile { file, target, context, .. }) = &document.dockerfile {
        line("file", file);
        line("stage", target.as_deref().unwrap_or("the last"));
        line("context", context);
    }
    line("where", document.workspace.as_deref().unwrap_or("another machine, imported"));
    for (name, text) in document.placed.iter().flat_map(PlacedOn::lines) {
        line(name, &text);
    }
    line("began", &format!("{} UTC", began(document)));
    line("took", &human_duration(Duration::from_millis(document.duration_ms)));
    line("ended", &format!("{} (exit code {})", document.outcome, document.exit_code));
    line("steps", &format!("{} ran, {} cached", ran(document), found(document)));
    let is_shown = |step: &&RecordStep| step.step && (show.all || step.verdict != Verdict::NotNeeded);
    for step in document.steps.iter().filter(is_shown) {
        let took =
            step.duration_ms.map(|took| format!(" in {}", human_duration(Duration::from_millis(took))));
        let name = fit(&clean(&step.name, false), TEXT_CELLS * 2).into_owned();
        out.push_str(&format!("\n{name}\n  {}{}\n", step.verdict.word(), took.unwrap_or_default()));
        let reason = step.reason.iter().filter(|_| step.miss != Some(Miss::Untold));
        for text in reason.chain(&step.message) {
            out.push_str(&format!("  {}\n", clean(text, false)));
        }
        for (doing, bytes) in &step.bytes {
            out.push_str(&format!("  {} {}\n", clean(doing, false), human_bytes(*bytes)));
        }
    }
    if document.left_out > 0 {
        out.push_str(&format!("\n… and {} more, of which no more is kept\n", document.left_out));
    }
    report::print(out.as_bytes()).map(|()| 0)
}

fn logs(environment: &Environment, wanted: &HistoryLogsArgs) -> Result<u8, Failure> {
    let root = settings::state_directory(environment)?;
    let past = past::find(&root, &wanted.build)?;
    let folders =
        rb_store::logs(&root).map_err(|error| Failure::environment("the logs cannot be read", &error))?;
    let name = past.file.name.trim_end_matches(".json");
    let Some(place) = folders.iter().position(|folder| folder.name == name) else {
        let message = format!("no step of build {} wrote anything that is kept", past.id());
        return Err(Failure::input(message, None));
    };
    let words = std::iter::once(format!("@{}", place + 1)).chain(wanted.step.clone()).collect();
    logs::execute(environment, &LogsArgs { failed: wanted.failed, words, ..LogsArgs::default() })
}

fn remove(environment: &Environment, rm: &HistoryRmArgs) -> Result<u8, Failure> {
    let root = settings::state_directory(environment)?;
    let files = past::files(&root)?;
    let named = rm.builds.iter().map(|word| past::name(&files, word).cloned());
    let wanted = if rm.all { files.clone() } else { named.collect::<Result<Vec<_>, _>>()? };
    let folders =
        rb_store::logs(&root).map_err(|error| Failure::environment("the logs cannot be read", &error))?;
    let failed = |error: &dyn std::error::Error| Failure::environment("a record cannot be removed", error);
    let mut count = 0;
    for file in wanted {
        let name = file.name.trim_end_matches(".json");
        for folder in folders.iter().filter(|folder| folder.name == name) {
            match std::fs::remove_dir_all(&folder.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&error)),
                Ok(()) | Err(_) => {}
            }
        }
        count += usize::from(rb_store::remove_build(&root, &file.name).map_err(|error| failed(&error))?);
    }
    let builds = if count == 1 { "1 build".to_owned() } else { format!("{count} builds") };
    report::tell(&format!("removed the records of {builds}\n"));
    Ok(0)
}
