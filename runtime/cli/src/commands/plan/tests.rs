//! Plans of small graphs: what is told of each step, and the sums.

use rb_api::{CacheKey, CacheVerdict};

use super::super::record::document::{RecordStep, Verdict};
use super::super::record::files::ChangeKind;
use super::*;

fn runs(why: &str) -> Fate {
    Fate::Runs(CacheVerdict { miss: Miss::NeverSeen, text: why.to_owned() })
}

fn after(name: &str) -> Fate {
    Fate::Unknown { after: Some(name.to_owned()) }
}

fn took(milliseconds: u64) -> Option<Took> {
    Some(Took { milliseconds, runs: 1, is_alike: false })
}

fn file() -> Cause {
    Cause::File { path: "f".to_owned(), change: ChangeKind::Content, was: None, now: None }
}

/// A vertex: its name, what it works on, what becomes of it, how long it took.
type Vertex<'a> = (&'a str, &'a [usize], Fate, Option<Took>);

/// A plan for two jobs; what begins with `[internal]` is no step.
fn plan(vertices: &[Vertex<'_>], causes: &[(&str, &[Cause])]) -> Plan {
    let (mut document, mut outlooks, mut times) = (Document::default(), Vec::new(), Vec::new());
    for (name, inputs, fate, took) in vertices {
        let (vertex, is_step) = (Digest::of(name), !name.starts_with("[internal] "));
        let mut step = RecordStep::of(*name, vertex, Verdict::Cancelled);
        step.step = is_step;
        step.inputs = inputs.iter().map(|input| (Some(*input), 0)).collect();
        document.steps.push(step);
        times.push(*took);
        let (name, fate, absent) = ((*name).to_owned(), fate.clone(), BTreeMap::new());
        outlooks.push(Outlook { vertex, name, step: is_step, fate, absent });
    }
    let causes = causes.iter().map(|(name, causes)| (Digest::of(name), causes.to_vec())).collect();
    let known = Known { document: &document, took: &times, causes: &causes, written: &BTreeSet::new() };
    Plan::of(&outlooks, &known, NonZeroUsize::new(2).expect("some"))
}

fn text(plan: &Plan) -> String {
    show::as_text(plan, &[], &[])
}

#[test]
fn what_is_certain_and_what_is_not_is_told_apart() {
    let told = plan(
        &[
            ("+a | COPY f", &[], runs("file `f` has changed"), took(100)),
            ("[internal] copies", &[0], after("+a | COPY f"), None),
            ("+a | RUN x", &[1], after("+a | COPY f"), took(2_000)),
            ("+a | RUN y", &[2], after("+a | COPY f"), None),
            ("+b | RUN z", &[], Fate::Cached(CacheKey::Fast), took(9_000)),
            ("+b | RUN below", &[], Fate::NotNeeded, None),
        ],
        &[("+a | COPY f", &[file()]), ("+a | RUN x", &[file()]), ("+a | RUN y", &[file(), Cause::Order])],
    );
    let needs: Vec<&[usize]> = told.steps.iter().map(|step| step.needs.as_slice()).collect();
    assert_eq!(needs, [&[][..], &[0], &[1]], "what a frontend adds is no step, and hides none");
    assert_eq!(
        text(&told),
        "will run    0.1s  +a | COPY f  (file `f` has changed)\n\
         may run     2.0s  +a | RUN x  (depends on what comes of `+a: COPY f`)\n\
         may run        ?  +a | RUN y  (depends on what comes of `+a: COPY f`; the order of its variables or mounts has changed)\n\
         \n\
         steps  1 will run, 2 may run, 2 cached\n\
         work   0.1s to 2.1s\n\
         end    after 0.1s to 2.1s with --jobs 2; the longest chain takes 2.1s: 2 steps up to +a | RUN x\n\
         pull   nothing\n\
         1 step was never timed (?) and is in no sum\n\
         of two numbers the first is without what may run\n"
    );
}

#[test]
fn where_nothing_would_run_there_is_no_time() {
    let told = plan(&[("+a | RUN x", &[], Fate::Cached(CacheKey::Slow), took(5))], &[]);
    assert_eq!(text(&told), "steps  0 will run, 0 may run, 1 cached\npull   nothing\n");
}

#[test]
fn steps_that_do_not_wait_for_each_other_run_at_once() {
    let alike = Some(Took { milliseconds: 3_000, runs: 1, is_alike: true });
    let told = plan(
        &[
            ("+a | RUN x", &[], runs("never built before"), took(3_000)),
            ("+b | RUN x", &[], runs("never built before"), alike),
            ("+c | RUN x", &[], runs("never built before"), took(1_000)),
        ],
        &[],
    );
    assert_eq!(
        text(&told),
        "will run    3.0s  +a | RUN x  (never built before)\n\
         will run   ~3.0s  +b | RUN x  (never built before)\n\
         will run    1.0s  +c | RUN x  (never built before)\n\
         \n\
         steps  3 will run, 0 may run, 0 cached\n\
         work   7.0s\n\
         end    after 4.0s with --jobs 2\n\
         pull   nothing\n\
         ~ is the time with other arguments, or of what stood there before\n"
    );
}

#[test]
fn a_step_of_which_the_document_knows_nothing_is_told_all_the_same() {
    let outlook = Outlook {
        vertex: Digest::of("x"),
        name: "+a | RUN x".to_owned(),
        step: true,
        fate: Fate::Unknown { after: None },
        absent: BTreeMap::new(),
    };
    let known = Known {
        document: &Document::default(),
        took: &[],
        causes: &BTreeMap::new(),
        written: &BTreeSet::new(),
    };
    let told = Plan::of(&[outlook], &known, NonZeroUsize::MIN);
    assert!(text(&told).starts_with("may run        ?  +a | RUN x  (the image that it reads is not here)\n"));
    assert!(text(&told).contains("\nwork   not known\nend    not known\n"), "{}", text(&told));
}
