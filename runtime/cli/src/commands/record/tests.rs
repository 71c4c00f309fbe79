//! What a record says.

use rb_api::{CacheKey, CacheVerdict, Event, Miss};
use rb_oci::Digest;
use serde_json::Value;

use super::heard::MOST_STEPS;
use super::*;

fn store(root: &std::path::Path) -> Store {
    Store::open_with(root, Arc::new(rb_store::FixedClock(Duration::from_millis(1_500)))).expect("opens")
}

fn value(document: &Document) -> Value {
    serde_json::to_value(document).expect("plain data")
}

#[test]
fn each_step_has_its_verdict() {
    let asked = Asked { args: vec!["TAG".to_owned()], ..Asked::of("build", "+app") };
    let asked = asked.naming(vec!["./sub+app".to_owned()]);
    let root = tempfile::tempdir().expect("a temporary folder");
    let store = store(root.path());
    let recorder = Recorder::new(asked, &store);
    let passed = Arc::new(Mutex::new(0));
    let count = Arc::clone(&passed);
    let sink = recorder.sink(Arc::new(move |_| *count.lock().expect("counts") += 1));
    let reason = CacheVerdict { miss: Miss::NeverSeen, text: "never built before".to_owned() };
    let missed = || EventKind::Missed { reason: reason.clone() };
    let done = || EventKind::Done { duration: Duration::from_millis(12) };
    let story = [
        ("a", vec![EventKind::Cached { key: CacheKey::Content, from: None }]),
        ("b", vec![missed(), EventKind::Started, done()]),
        ("c", vec![missed(), EventKind::Started, EventKind::Failed { message: "exit code 3".to_owned() }]),
        ("d", vec![missed(), EventKind::Cancelled]),
        ("e", vec![]),
        ("f", vec![EventKind::Shared { with: Digest::of("b") }, done()]),
        ("g", vec![missed()]),
    ];
    for (name, kinds) in story {
        let added = EventKind::Added { name: name.to_owned(), step: true, inputs: Vec::new() };
        for kind in [added].into_iter().chain(kinds) {
            sink(Event { vertex: Digest::of(name), kind });
        }
    }
    assert_eq!(*passed.lock().expect("counts"), 19);
    let heard = recorder.heard.lock().expect("no holder of this lock panics");
    let document = value(&recorder.document(&heard, Some(&Failure::input("x", None))).0);
    let told: Vec<(String, bool)> = document["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| {
            (format!("{} {}", step["name"], step["verdict"]).replace('"', ""), step["miss"].is_object())
        })
        .collect();
    let expected = [
        ("a cached", false),
        ("b ran", true),
        ("c failed", true),
        ("d cancelled", true),
        ("e not_needed", false),
        ("f ran", false),
        ("g cancelled", true),
    ];
    assert_eq!(told, expected.map(|(words, missed)| (words.to_owned(), missed)));
    let step = |at: usize| &document["steps"][at];
    assert_eq!(step(1)["miss"], json!({ "why": "never_seen" }));
    assert_eq!(step(5)["shared_with"], json!(Digest::of("b").to_string()));
    assert_eq!((&step(0)["key"], &step(1)["duration_ms"]), (&json!("content"), &json!(12)));
    assert_eq!((&document["outcome"], &document["exit_code"]), (&json!("failed"), &json!(2)));
    assert_eq!(document["targets"], json!(["./sub+app"]));
    assert_eq!(document["started_unix_ms"], json!(milliseconds(store.clock().now())));
}

#[test]
fn a_record_is_bounded() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let recorder = Recorder::new(Asked::of("build", "+app"), &store(root.path()));
    let sink = recorder.sink(Arc::new(|_| {}));
    for number in 0..=MOST_STEPS {
        let kind = EventKind::Added { name: "n".repeat(10_000), step: true, inputs: Vec::new() };
        sink(Event { vertex: Digest::of(number.to_string()), kind });
    }
    let heard = recorder.heard.lock().expect("no holder of this lock panics");
    let document = value(&recorder.document(&heard, None).0);
    assert_eq!(document["left_out"], json!(1));
    assert!(document.to_string().len() < 4 << 20);
}
