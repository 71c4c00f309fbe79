//! What nobody is to see, struck out of what an engine tells: values of arguments whose names say that they are secret.
//!
//! In: the arguments that a build was given, and its events on their way to progress, record and plan. Out: the same events without
//! these values ([`rb_llb::Struck`]). A frontend strikes them out of what it calls its steps; here goes what came of them on other
//! ways: addresses, paths, arguments of further targets, what a failure says. What a step writes is its own.
//! **Invariant:** parts of keys that differed still differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_api::{CacheVerdict, Event, EventKind, EventSink, KeyPart, KeyParts, Miss};
use rb_llb::Struck;

use crate::report;

/// Returns where events go, so that `next` hears of no value that is struck; nor does any failure of this process show one.
pub(super) fn sink(struck: Struck, next: EventSink) -> EventSink {
    if struck.is_empty() {
        return next;
    }
    report::keep_secret(&struck);
    Arc::new(move |Event { vertex, kind }| next(Event { vertex, kind: of_kind(&struck, kind) }))
}

/// Returns what is struck of a build that is given these arguments.
pub(super) fn of_arguments<'a>(maps: impl IntoIterator<Item = &'a BTreeMap<String, String>>) -> Struck {
    let pairs = maps.into_iter().flatten();
    Struck::of(pairs.map(|(name, value)| (name.strip_prefix("build-arg:").unwrap_or(name), value.as_str())))
}

fn of_kind(struck: &Struck, kind: EventKind) -> EventKind {
    match kind {
        EventKind::Added { name, step, inputs } => {
            EventKind::Added { name: struck.text(&name).into_owned(), step, inputs }
        }
        EventKind::Keyed { parts } => EventKind::Keyed { parts: of_parts(struck, parts) },
        EventKind::Missed { reason: CacheVerdict { miss, text } } => {
            let text = struck.text(&text).into_owned();
            EventKind::Missed { reason: CacheVerdict { miss: of_miss(struck, miss), text } }
        }
        EventKind::Failed { message } => EventKind::Failed { message: struck.text(&message).into_owned() },
        other @ (EventKind::Cached { .. }
        | EventKind::Shared { .. }
        | EventKind::Started
        | EventKind::Log { .. }
        | EventKind::Progress(_)
        | EventKind::Done { .. }
        | EventKind::Cancelled) => other,
    }
}

fn of_miss(struck: &Struck, miss: Miss) -> Miss {
    match miss {
        Miss::InputChanged { input, name, was, now, also } => {
            let name = name.map(|name| struck.text(&name).into_owned());
            Miss::InputChanged { input, name, was, now, also }
        }
        other => other,
    }
}

fn of_parts(struck: &Struck, parts: Arc<KeyParts>) -> Arc<KeyParts> {
    let is_in = |part: &KeyPart| struck.is_in(&part.name) || struck.is_in(&part.value);
    if !parts.own.iter().chain(&parts.about).any(is_in) {
        return parts;
    }
    let of_part = |part: &KeyPart| KeyPart {
        kind: part.kind,
        name: struck.compared(&part.name).into_owned(),
        value: struck.compared(&part.value).into_owned(),
    };
    let all = |parts: &[KeyPart]| parts.iter().map(of_part).collect();
    Arc::new(KeyParts { own: all(&parts.own), about: all(&parts.about), ..(*parts).clone() })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rb_api::PartKind;
    use rb_oci::Digest;

    use super::*;

    /// Returns what is heard of an event by those behind the sink.
    fn heard(value: &str, kind: EventKind) -> String {
        let given = BTreeMap::from([("build-arg:API_TOKEN".to_owned(), value.to_owned())]);
        let last: Arc<Mutex<String>> = Arc::default();
        let kept = Arc::clone(&last);
        let next: EventSink =
            Arc::new(move |event| *kept.lock().expect("is free") = format!("{:?}", event.kind));
        sink(of_arguments([&given]), next)(Event { vertex: Digest::of("v"), kind });
        last.lock().expect("is free").clone()
    }

    fn keyed(value: &str) -> EventKind {
        let own = vec![KeyPart::new(PartKind::Download, "file", format!("https://example.com/?t={value}"))];
        let parts = KeyParts { inputs: Vec::new(), own, about: Vec::new(), files: None, place: None };
        EventKind::Keyed { parts: Arc::new(parts) }
    }

    #[test]
    fn a_value_is_in_nothing_that_is_told_and_two_still_differ() {
        let name = || "ADD https://example.com/?t=s3cr3t".to_owned();
        let reason = CacheVerdict {
            miss: Miss::InputChanged { input: 0, name: Some(name()), was: None, now: None, also: Vec::new() },
            text: name(),
        };
        for kind in [
            EventKind::Added { name: name(), step: true, inputs: Vec::new() },
            EventKind::Missed { reason },
            EventKind::Failed { message: name() },
            keyed("s3cr3t"),
        ] {
            let told = heard("s3cr3t", kind);
            assert!(told.contains("t=***") && !told.contains("s3cr3t"), "{told}");
        }
        assert_ne!(heard("s3cr3t", keyed("s3cr3t")), heard("other1", keyed("other1")));
    }
}
