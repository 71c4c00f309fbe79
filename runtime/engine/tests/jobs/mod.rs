//! A job grows: calls at once and one after the other share what was made, and leave each other alone.

use std::time::Duration;

use rb_api::{Course, Fate, Job, Outlook};
use rb_frontend::{Answer, Query};
use rb_llb::Definition;

use super::*;

fn definition(state: &State) -> Definition {
    state.marshal(&SourceMap::default()).expect("marshals")
}

/// What is made of `state`, without exports.
fn make(state: &State) -> SolveRequest {
    let root = Root { label: "root".to_owned(), definition: definition(state) };
    SolveRequest { roots: vec![root], ..SolveRequest::default() }
}

fn read(path: &str) -> Query {
    Query::ReadFile { path: path.to_owned(), limit_bytes: 16 }
}

/// Does `work` with a job of an engine of its own, and waits until all it began has ended.
fn with_job(bench: &Bench, options: JobOptions, work: impl AsyncFnOnce(Arc<dyn Job>, &LocalEngine)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let engine = open(bench.dir.path());
    runtime.block_on(async {
        work(engine.job(options, bench.events()), &engine).await;
        engine.idle().await;
    });
}

/// How often something was told.
fn told(bench: &Bench, what: impl Fn(&EventKind) -> bool) -> usize {
    bench.seen.lock().expect("no panics").iter().filter(|kind| what(kind)).count()
}

fn file(on: &State, path: &str) -> State {
    let action = MkfileAction { path: path.to_owned(), mode: 0o644, ..MkfileAction::default() };
    on.mkfile(action, NodeMeta::named(format!("mkfile {path}")))
}

#[test]
fn calls_at_once_share_a_vertex() {
    let bench = Bench::new();
    let common = (0..40).fold(State::scratch(), |state, at| file(&state, &format!("/{at}")));
    with_job(&bench, bench.options(), async |job, _| {
        let one = job.solve(make(&file(&common, "/one")));
        let two = job.solve(make(&file(&common, "/two")));
        let query = job.query(definition(&common), Query::Exists { path: "/7".to_owned() });
        let (one, two, query) = tokio::join!(one, two, query);
        assert_ne!(one.expect("solves").roots, two.expect("solves").roots);
        assert_eq!(query.expect("answers"), Answer::Exists(true));
        assert_eq!(job.summary(), Summary { executed: 42, cached: 0, skipped: 0 });
    });
    assert_eq!(told(&bench, |kind| matches!(kind, EventKind::Added { .. })), 42);
    assert_eq!(told(&bench, |kind| matches!(kind, EventKind::Done { .. })), 42);
}

#[test]
fn what_was_made_for_an_answer_is_used_by_what_follows() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let asked = run(&host(), "echo answer > /answer; ln -s answer /link; date +%N > /when");
    let options = JobOptions { no_cache: true, ..bench.options() };
    with_job(&bench, options, async |job, _| {
        for path in ["/answer", "/link"] {
            let answer = job.query(definition(&asked), read(path)).await.expect("answers");
            assert_eq!(answer, Answer::File(b"answer\n".to_vec()));
        }
        let when = job.query(definition(&asked), read("/when")).await.expect("answers");
        let missing = job.query(definition(&asked), read("/no/such")).await.expect_err("is not there");
        assert!(matches!(&missing, SolveError::NoSuchFile { path } if path == "/no/such"), "{missing:?}");
        assert_eq!(missing.kind(), Some(ErrorKind::Input));
        let after = run(&asked, "cp /when /then");
        assert_eq!(job.query(definition(&after), read("/then")).await.expect("answers"), when);
        let result = job.solve(bench.request(&after)).await.expect("solves");
        assert_eq!(result.summary, Summary { executed: 2, cached: 0, skipped: 0 });
        assert_eq!(result.exports.len(), 1);
    });
    assert_eq!(
        told(&bench, |kind| matches!(kind, EventKind::Started)),
        4,
        "two steps, a source, and the output"
    );
    // Another job is another build.
    let options = JobOptions { no_cache: true, ..bench.options() };
    assert_eq!(bench.solve_with(options, make(&asked)).expect("solves").summary.executed, 1);
}

#[test]
fn an_answer_is_no_larger_than_allowed() {
    let bench = Bench::new();
    bench.write("long", "seventeen bytes..");
    bench.write("short", "sixteen bytes...");
    with_job(&bench, bench.options(), async |job, _| {
        let short = job.query(definition(&context(&[])), read("/short")).await.expect("answers");
        assert_eq!(short, Answer::File(b"sixteen bytes...".to_vec()));
        let error = job.query(definition(&context(&[])), read("/long")).await.expect_err("is refused");
        assert_eq!(error.kind(), Some(ErrorKind::Input));
        assert_eq!(error.to_string(), "`/long` is larger than 16 bytes");
        let nothing = job.query(definition(&State::scratch()), Query::Exists { path: "/x".to_owned() });
        assert_eq!(nothing.await.expect("answers"), Answer::Exists(false));
    });
}

#[test]
fn a_dropped_query_leaves_what_another_call_wants() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let slow = run(&host(), "sleep 1; echo done > /done");
    with_job(&bench, bench.options(), async |job, _| {
        let query = job.query(definition(&slow), read("/done"));
        let dropped = tokio::time::timeout(Duration::from_millis(300), query);
        let (dropped, solved) = tokio::join!(dropped, job.solve(make(&slow)));
        assert!(dropped.is_err());
        assert_eq!(solved.expect("solves").summary.executed, 1);
    });
    assert_eq!(told(&bench, |kind| matches!(kind, EventKind::Cancelled)), 0);
    // Without another the work ends with the query, and a later call begins it anew.
    let alone = run(&host(), "sleep 1; echo alone > /done");
    with_job(&bench, bench.options(), async |job, engine| {
        let query = job.query(definition(&alone), read("/done"));
        assert!(tokio::time::timeout(Duration::from_millis(300), query).await.is_err());
        engine.idle().await;
        assert_eq!(job.summary().executed, 0);
        let answer = job.query(definition(&alone), read("/done")).await.expect("answers");
        assert_eq!(answer, Answer::File(b"alone\n".to_vec()));
        assert_eq!(job.summary().executed, 1);
    });
    assert_eq!(told(&bench, |kind| matches!(kind, EventKind::Cancelled)), 1);
}

#[test]
fn a_failed_call_leaves_the_job_usable() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let bad = run(&host(), "echo words; exit 4");
    with_job(&bench, bench.options(), async |job, _| {
        let good = run(&host(), "sleep 0.3; echo good > /good");
        let (failed, answer) = tokio::join!(
            job.query(definition(&bad), read("/x")),
            job.query(definition(&good), read("/good"))
        );
        let Err(SolveError::Vertex { kind, message, log_tail, .. }) = failed else { panic!("{failed:?}") };
        assert_eq!((kind, log_tail), (ErrorKind::Build, vec!["words".to_owned()]));
        assert!(message.contains("exit code 4"), "{message}");
        assert_eq!(answer.expect("answers"), Answer::File(b"good\n".to_vec()));
        assert!(job.solve(make(&bad)).await.is_err());
    });
}

#[test]
fn equal_steps_that_ignore_the_cache_run_each() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let steps = (0..3).fold(host(), |state, _| run(&state, "true"));
    let options = JobOptions { no_cache: true, ..bench.options() };
    assert_eq!(bench.solve_with(options, make(&steps)).expect("solves").summary.executed, 3);
    assert_eq!(bench.solve_request(make(&steps)).expect("solves").summary.executed, 0);
}

#[test]
fn a_look_tells_what_would_run_and_makes_nothing() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let looks = || JobOptions { course: Course::Look, ..bench.options() };
    let (one, two) = (file(&State::scratch(), "/one"), run(&host(), "echo two > /two"));
    let root = |state: &State| Root { label: "root".to_owned(), definition: definition(state) };
    let fates = |looked: Vec<Outlook>| -> Vec<String> {
        let steps = looked.into_iter().filter(|outlook| outlook.step);
        let shown = |fate: Fate| match fate {
            Fate::Cached(_) => "cached".to_owned(),
            Fate::NotNeeded => "not needed".to_owned(),
            Fate::Runs(reason) => reason.text,
            Fate::Unknown { after } => format!("after {}", after.unwrap_or_default()),
            Fate::Fails(error) => error.to_string(),
        };
        steps.map(|outlook| format!("{}: {}", outlook.name, shown(outlook.fate))).collect()
    };
    with_job(&bench, looks(), async |job, _| {
        let missing = job.query(definition(&two), read("/two")).await.expect_err("is not there");
        assert!(matches!(&missing, SolveError::Withheld { reason: Some(_), .. }), "{missing:?}");
        let after = file(&one, "/after");
        let seen = fates(job.look(&[root(&after), root(&one)]).await.expect("looks"));
        let [asked, rest @ ..] = seen.as_slice() else { panic!("{seen:?}") };
        assert!(asked.ends_with(": never built before"), "the question is told of too: {asked}");
        assert_eq!(rest, ["mkfile /one: never built before", "mkfile /after: after mkfile /one"]);
        assert_eq!(job.summary(), Summary::default());
    });
    bench.solve_with(bench.options(), make(&one)).expect("solves");
    with_job(&bench, looks(), async |job, _| {
        let after = file(&one, "/after");
        let seen = fates(job.look(&[root(&after)]).await.expect("looks"));
        assert_eq!(seen, ["mkfile /one: cached", "mkfile /after: never built before"]);
        // What is there can be read, and written.
        job.solve(bench.request(&one)).await.expect("is there");
        assert!(bench.dir.path().join("out/one").exists());
    });
    with_job(&bench, bench.options(), async |job, _| {
        job.look(&[]).await.expect_err("is no job that looks");
    });
}

/// A server of one file, which has what is in `content` and its tag; it ends with the test.
fn server(content: &Arc<Mutex<&'static str>>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("has one");
    let content = Arc::clone(content);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("connects");
            let mut text = Vec::new();
            while !text.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if std::io::Read::read(&mut stream, &mut byte).expect("reads") == 0 {
                    break;
                }
                text.push(byte[0]);
            }
            let body = *content.lock().expect("whole");
            let tag = format!("\"{body}\"");
            let is_known = String::from_utf8_lossy(&text).contains(&tag);
            let (status, body) = if is_known { ("304 Not Modified", "") } else { ("200 OK", body) };
            let length = body.len();
            let reply = format!(
                "HTTP/1.1 {status}\r\nETag: {tag}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            std::io::Write::write_all(&mut stream, reply.as_bytes()).expect("writes");
        }
    });
    format!("http://{address}/file")
}

#[test]
fn a_look_at_a_file_of_the_web_that_has_changed_tells_what_follows() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let looks = || JobOptions { course: Course::Look, ..bench.options() };
    let content = Arc::new(Mutex::new("one"));
    let url = server(&content);
    let web = State::source(url, BTreeMap::new(), None, NodeMeta::named("download"));
    let first = copy(&web, "/file", &State::scratch(), "/first");
    let second = file(&first, "/second");
    bench.solve_with(bench.options(), make(&second)).expect("solves");
    let fates = |looked: Vec<Outlook>| -> Vec<String> {
        looked.into_iter().map(|outlook| format!("{}: {:?}", outlook.name, outlook.fate)).collect()
    };
    let root = Root { label: "root".to_owned(), definition: definition(&second) };
    with_job(&bench, looks(), async |job, _| {
        let seen = fates(job.look(std::slice::from_ref(&root)).await.expect("looks"));
        assert!(seen.iter().all(|fate| fate.contains("Cached") || fate.contains("NotNeeded")), "{seen:?}");
    });
    *content.lock().expect("whole") = "two";
    with_job(&bench, looks(), async |job, _| {
        let seen = fates(job.look(std::slice::from_ref(&root)).await.expect("looks"));
        let after = "Unknown { after: Some(\"download\") }";
        assert_eq!(
            seen,
            [
                "download: Unknown { after: None }".to_owned(),
                format!("COPY /file /first: {after}"),
                format!("mkfile /second: {after}"),
            ]
        );
    });
}

#[test]
fn a_job_that_keeps_going_tells_every_failure_and_tries_none_twice() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let options = JobOptions { course: Course::KeepGoing, ..bench.options() };
    let (bad, worse) = (run(&host(), "exit 3"), run(&host(), "sleep 0.1; exit 4"));
    let good = file(&State::scratch(), "/good");
    with_job(&bench, options, async |job, _| {
        let root = |state: &State| Root { label: "root".to_owned(), definition: definition(state) };
        let all = SolveRequest { roots: [&bad, &worse, &good].map(root).to_vec(), ..SolveRequest::default() };
        let Err(SolveError::Several(errors)) = job.solve(all).await else { panic!("two of them fail") };
        let mut said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        said.sort();
        assert!(said[0].contains("exit code 3") && said[1].contains("exit code 4"), "{said:?}");
        let again = job.solve(make(&bad)).await.expect_err("fails as before");
        assert!(again.to_string().contains("exit code 3"), "{again}");
        job.solve(make(&good)).await.expect("is made");
        assert_eq!(job.summary().executed, 1);
    });
    assert_eq!(told(&bench, |kind| matches!(kind, EventKind::Failed { .. })), 2);
}
