//! `rb status`: who waits for what, in every `rb` over this state directory.
//!
//! Nothing is opened or made: each process says what it is at ([`rb_engine::ask_all`]). What they say is text of strangers.

use std::fmt::Write as _;
use std::time::Duration;

use rb_engine::{Answer, Phase, ProcessStatus, VertexStatus, WaitsFor, ask_all};
use rb_oci::Digest;
use serde_json::{Value, json};

use crate::args::StatusArgs;
use crate::environment::Environment;
use crate::progress::{clean, fit, human_duration, human_memory};
use crate::report::{self, Failure};

/// So wide a name of a step is shown.
const NAME_CELLS: usize = 60;

/// So many causes of one wait are named.
const NAMED_CAUSES: usize = 3;

/// Asks all and prints what they say.
pub(super) fn execute(environment: &Environment, status: &StatusArgs) -> Result<u8, Failure> {
    let answers = ask_all(&crate::settings::state_directory(environment)?)?;
    let text = if status.json { format!("{:#}\n", as_json(&answers)) } else { as_text(&answers) };
    report::print(text.as_bytes())?;
    Ok(0)
}

fn as_json(answers: &[(u32, Answer)]) -> Value {
    let processes = answers.iter().map(|(process, answer)| match answer {
        Answer::Status(status) => {
            let mut value = json!(status);
            value["answer"] = json!("status");
            value
        }
        Answer::Silent => json!({ "process": process, "answer": "none" }),
        Answer::NotAsked { user } => json!({ "process": process, "answer": "of_another", "user": user }),
        Answer::Unreadable => json!({ "process": process, "answer": "unreadable" }),
    });
    json!({ "processes": processes.collect::<Vec<_>>() })
}

fn as_text(answers: &[(u32, Answer)]) -> String {
    if answers.is_empty() {
        return "nothing is running\n".to_owned();
    }
    let mut out = String::new();
    for (process, answer) in answers {
        match answer {
            Answer::Status(status) => tell(*process, status, &mut out),
            Answer::Silent => line(&mut out, format_args!("process {process}  does not answer")),
            Answer::NotAsked { user } => {
                line(&mut out, format_args!("process {process}  belongs to user {user} and was not asked"));
            }
            Answer::Unreadable => {
                line(&mut out, format_args!("process {process}  says what this version of rb cannot read"));
            }
        }
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _infallible = writeln!(out, "{text}");
}

fn tell(process: u32, status: &ProcessStatus, out: &mut String) {
    let ProcessStatus { process: _, title, running_ms, left_out, memory, state } = status;
    let since = human_duration(Duration::from_millis(*running_ms));
    let (title, busy, jobs) = (clean(title, false), state.busy, state.jobs);
    let places = if jobs == 0 { String::new() } else { format!(", {busy} of {jobs} places taken") };
    let memory = memory.as_ref().map_or_else(String::new, |memory| {
        let (taken, budget) = (human_memory(memory.taken_bytes), human_memory(memory.budget_bytes));
        format!(", {taken} of {budget} of memory taken")
    });
    line(out, format_args!("process {process}  {title}  for {since}{places}{memory}"));
    let names: Vec<String> = state
        .vertices
        .iter()
        .map(|vertex| fit(&clean(&vertex.name, false), NAME_CELLS).into_owned())
        .collect();
    let cells = |name: &str| unicode_width::UnicodeWidthStr::width(name);
    let width = names.iter().map(|name| cells(name)).max().unwrap_or_default();
    for (vertex, name) in state.vertices.iter().zip(&names) {
        let pad = width - cells(name);
        line(out, format_args!("  {name}{:pad$}  {}", "", what(vertex, status)));
    }
    if *left_out > 0 {
        line(out, format_args!("  and {left_out} more"));
    }
    if state.vertices.is_empty() {
        line(out, format_args!("  no step is at work"));
    }
}

/// Says what a vertex is at.
fn what(vertex: &VertexStatus, status: &ProcessStatus) -> String {
    let causes = || causes(vertex, status);
    let text = match vertex.phase {
        Phase::Keying if vertex.waits_for.contains(&WaitsFor::CacheMap) => "finds out what it is".to_owned(),
        Phase::Keying | Phase::Gathering => format!("waits for {}", causes()),
        Phase::Looking | Phase::Comparing | Phase::Matching => "looks into the cache".to_owned(),
        Phase::Digesting => "reads its inputs".to_owned(),
        Phase::Queued => "waits for a place".to_owned(),
        Phase::Claiming => match vertex.waits_for.first() {
            Some(WaitsFor::Process { name }) => {
                format!("waits for {}, which is making the same", clean(name, false))
            }
            Some(_) | None => "asks whether another process is making the same".to_owned(),
        },
        Phase::Running if waits_for_memory(vertex, status) => "waits for memory".to_owned(),
        Phase::Running => match vertex.waits_for.first() {
            Some(WaitsFor::Run { of }) if *of != vertex.vertex => {
                format!("waits for {}, which is the same", name_of(of, status))
            }
            Some(_) | None => "running".to_owned(),
        },
        Phase::Storing => "is being stored".to_owned(),
        Phase::Stopping => "is being stopped".to_owned(),
    };
    match vertex.since_ms {
        Some(since) => format!("{text}, {}", human_duration(Duration::from_millis(since))),
        None => text,
    }
}

/// Tells whether it is let in by the memory budget yet.
fn waits_for_memory(vertex: &VertexStatus, status: &ProcessStatus) -> bool {
    status.memory.as_ref().is_some_and(|memory| memory.waiting.contains(&vertex.vertex))
}

/// Names what a vertex waits for, each with what that is at.
fn causes(vertex: &VertexStatus, status: &ProcessStatus) -> String {
    let named = vertex.waits_for.iter().take(NAMED_CAUSES).map(|cause| match cause {
        WaitsFor::KeyOf { vertex } | WaitsFor::ValueOf { vertex } | WaitsFor::Run { of: vertex } => {
            let found = status.state.vertices.iter().find(|other| other.vertex == *vertex);
            match found.map(|other| other.phase) {
                Some(Phase::Running) => format!("{} (running)", name_of(vertex, status)),
                Some(_) | None => name_of(vertex, status),
            }
        }
        WaitsFor::Process { name } => clean(name, false),
        WaitsFor::CacheMap | WaitsFor::Content { .. } => "its own digest".to_owned(),
        WaitsFor::Cache => "the cache".to_owned(),
        WaitsFor::Place => "a place".to_owned(),
        WaitsFor::Stop => "the end of what was stopped".to_owned(),
    });
    let mut text = named.collect::<Vec<_>>().join(", ");
    if let Some(more) = vertex.waits_for.len().checked_sub(NAMED_CAUSES).filter(|more| *more > 0) {
        let _infallible = write!(text, " and {more} more");
    }
    text
}

fn name_of(vertex: &Digest, status: &ProcessStatus) -> String {
    let found = status.state.vertices.iter().find(|other| other.vertex == *vertex);
    found.map_or_else(|| vertex.short(), |other| fit(&clean(&other.name, false), NAME_CELLS).into_owned())
}

#[cfg(test)]
mod tests {
    use rb_engine::{MemoryStatus, Status};

    use super::*;

    fn vertex(name: &str, phase: Phase, since_ms: Option<u64>, waits_for: Vec<WaitsFor>) -> VertexStatus {
        VertexStatus { job: 1, vertex: Digest::of(name), name: name.to_owned(), phase, since_ms, waits_for }
    }

    #[test]
    fn who_waits_for_whom_is_told_by_name() {
        let value_of = |name: &str| WaitsFor::ValueOf { vertex: Digest::of(name) };
        let vertices = vec![
            vertex(
                "+lib | RUN make",
                Phase::Running,
                Some(12_000),
                vec![WaitsFor::Run { of: Digest::of("+lib | RUN make") }],
            ),
            vertex("+img | COPY\u{1b}[2J x", Phase::Gathering, None, vec![value_of("+lib | RUN make")]),
            vertex("+a", Phase::Gathering, None, ["+lib | RUN make", "b", "c", "d"].map(value_of).to_vec()),
            vertex(
                "+t",
                Phase::Claiming,
                Some(900),
                vec![WaitsFor::Process { name: "process 42".to_owned() }],
            ),
            vertex("+q", Phase::Queued, None, vec![WaitsFor::Place]),
            vertex("+u", Phase::Running, Some(1), vec![WaitsFor::Run { of: Digest::of("+lib | RUN make") }]),
            vertex("+m", Phase::Running, Some(70), vec![WaitsFor::Run { of: Digest::of("+m") }]),
        ];
        let memory =
            MemoryStatus { budget_bytes: 1 << 30, taken_bytes: 900 << 20, waiting: vec![Digest::of("+m")] };
        let state = Status { jobs: 2, busy: 1, solves: 1, vertices };
        let title = "rb +all".to_owned();
        let status =
            ProcessStatus { process: 7, title, running_ms: 61_000, left_out: 0, memory: Some(memory), state };
        let answers = [
            (7, Answer::Status(Box::new(status))),
            (8, Answer::Silent),
            (9, Answer::NotAsked { user: 1000 }),
            (10, Answer::Unreadable),
        ];
        let (b, c) = (Digest::of("b").short(), Digest::of("c").short());
        let expected = [
            "process 7  rb +all  for 1m01s, 1 of 2 places taken, 900.0 MiB of 1.0 GiB of memory taken"
                .to_owned(),
            "  +lib | RUN make  running, 12.0s".to_owned(),
            "  +img | COPY x    waits for +lib | RUN make (running)".to_owned(),
            format!("  +a               waits for +lib | RUN make (running), {b}, {c} and 1 more"),
            "  +t               waits for process 42, which is making the same, 0.9s".to_owned(),
            "  +q               waits for a place".to_owned(),
            "  +u               waits for +lib | RUN make, which is the same, 0.00s".to_owned(),
            "  +m               waits for memory, 0.07s".to_owned(),
            "process 8  does not answer".to_owned(),
            "process 9  belongs to user 1000 and was not asked".to_owned(),
            "process 10  says what this version of rb cannot read".to_owned(),
        ];
        assert_eq!(as_text(&answers).lines().collect::<Vec<_>>(), expected);
        assert_eq!(as_json(&answers)["processes"][0]["state"]["vertices"][3]["phase"], json!("claiming"));
        assert_eq!(as_text(&[]), "nothing is running\n");
    }
}
