//! Texts that want too much: refused, in bounded time and stack.

use std::time::{Duration, Instant};

use rb_expression::{Answer, Expression, ExpressionErrorKind as Kind, Question, Stop, Value};

use crate::scope::{Fake, evaluate, string};

/// Evaluates on little stack, less than any thread of ours has.
fn refused(text: String, scope: fn() -> Fake) -> Kind {
    let run = move || {
        let began = Instant::now();
        let outcome = evaluate(&text, &scope());
        assert!(began.elapsed() < Duration::from_secs(20), "took {:?}", began.elapsed());
        outcome
    };
    match std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap() {
        Err(Stop::Error(error)) => error.kind,
        other => panic!("not refused: {:.100}", format!("{other:?}")),
    }
}

#[test]
fn nesting_is_bounded() {
    for (open, close) in
        [("(", ")"), ("[", "]"), ("upper(", ")"), ("x[", "]"), ("1 + (", ")"), ("not (", ")")]
    {
        for depth in [200, 5_000] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert_eq!(refused(text, Fake::default), Kind::TooDeep, "{open}");
        }
    }
    for prefix in ["-", "!", "not ", "- ! "] {
        for times in [65, 10_000] {
            assert_eq!(
                refused(format!("{}1", prefix.repeat(times)), Fake::default),
                Kind::TooDeep,
                "{prefix}"
            );
        }
    }
    assert_eq!(refused(format!("x{}", "[0]".repeat(10_000)), Fake::default), Kind::TooDeep);
}

#[test]
fn deep_enough_is_allowed_on_little_stack() {
    let run = || {
        let deep = format!("{}1{}", "len([".repeat(31), "])".repeat(31));
        let brackets = format!("{}1{}", "(".repeat(64), ")".repeat(64));
        (evaluate(&deep, &Fake::default()), evaluate(&brackets, &Fake::default()))
    };
    let (deep, brackets) =
        std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
    assert_eq!(deep, Ok(Value::Int(1)));
    assert_eq!(brackets, Ok(Value::Int(1)));
}

#[test]
fn long_rows_are_not_deep() {
    let text = vec!["1"; 10_000].join(" + ");
    assert_eq!(evaluate(&text, &Fake::default()), Ok(Value::Int(10_000)));
    let text = vec!["true"; 5_000].join(" and ");
    assert_eq!(evaluate(&text, &Fake::default()), Ok(Value::Bool(true)));
    let text = format!("{}1", "0 if false else ".repeat(3_000));
    assert_eq!(evaluate(&text, &Fake::default()), Ok(Value::Int(1)));
}

#[test]
fn reading_takes_linear_time() {
    for (open, middle, close) in [
        ("(a if ", "b c", " else d)"),
        ("f(1, ", "2 2", ", 3,)"),
        ("[a, (b or ", "c c", ")]"),
        ("x[not ", "= 1", "]"),
        ("('a' if b else ", "", ")"),
    ] {
        let text = format!("{}{middle}{}", open.repeat(32), close.repeat(32));
        let began = Instant::now();
        assert!(Expression::parse(&text).is_err(), "{text}");
        assert!(began.elapsed() < Duration::from_secs(20), "{text} took {:?}", began.elapsed());
    }
    let long = format!("'{}' in [{}]", "\\n".repeat(5_000), "'a', ".repeat(10_000));
    let began = Instant::now();
    Expression::parse(&long).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "took {:?}", began.elapsed());
}

#[test]
fn values_are_bounded() {
    let large = || Fake { variables: vec![("x", string(&"x".repeat(1 << 20)))], ..Fake::default() };
    for (text, kind) in [
        ("x ~ 'y'", Kind::TextTooLong),
        ("replace(x, 'x', 'yy')", Kind::TextTooLong),
        ("replace(x, 'x', x)", Kind::TextTooLong),
        ("join(range(100000), x)", Kind::TextTooLong),
        ("upper(replace(x, 'x', 'ŉ'))", Kind::TextTooLong),
        ("split(x, 'x')", Kind::ListTooLong),
        ("range(100001)", Kind::ListTooLong),
        ("range(60000) + range(60000)", Kind::ListTooLong),
        ("json('[' ~ join(range(100000), ',') ~ ',1]', '')", Kind::ListTooLong),
        ("matches_regex(x, '(?:[0-9]?){500}5[0-9]{500}[1]{8}[0-9]?')", Kind::TooMuchWork),
        ("glob_match(replace(x, 'x', '*'), x)", Kind::TooMuchWork),
    ] {
        assert_eq!(refused(text.to_owned(), large), kind, "{text}");
    }
    assert_eq!(refused(format!("[{}]", vec!["x"; 1000].join(",")), large), Kind::TooMuchWork);
    assert_eq!(
        refused(format!("len({})", vec!["range(100000)"; 1000].join(") + len(")), large),
        Kind::TooMuchWork
    );
    let longer = format!("'{}'", "x".repeat(64 << 10));
    assert_eq!(refused(longer, large), Kind::ExpressionTooLong);
}

#[test]
fn lists_do_not_grow_deep_through_variables() {
    let mut value = Value::List(vec![]);
    for depth in 1.. {
        let scope = Fake { variables: vec![("x", value)], ..Fake::default() };
        match evaluate("[x]", &scope) {
            Ok(deeper) => value = deeper,
            Err(stop) => {
                assert!(matches!(stop, Stop::Error(error) if error.kind == Kind::TooDeep));
                assert_eq!(depth, 64);
                return;
            }
        }
    }
}

#[test]
fn patterns_take_bounded_time() {
    let scope = Fake { variables: vec![("x", string(&"x".repeat(1 << 20)))], ..Fake::default() };
    for text in [
        "matches_regex(x, '(x+x+)+y')",
        "matches_regex(x, '(x|x|x)*(.?){60}y')",
        "matches_regex(x, '(?:x?){900}x{900}y')",
        "matches_regex(x, '[^y]*[^z]*[^a]*b')",
        "matches_regex(join(range(100000), ''), '[0-9]*1[0-9]{300}z?a$')",
        "matches_regex(join(range(100000), ''), '1[0-9]{400}1[0-9]{400}1{9}')",
        "matches_regex(join(range(20000), ''), '(?:[0-9]?){100}5[0-9]{100}[1]{8}[0-9]?')",
        "glob_match('*x*x*x*x*x*x*y', x)",
        "glob_match('**/x/**/x/**/y', replace(slice(x, 0, 100000), 'x', 'x/'))",
    ] {
        let began = Instant::now();
        let outcome = evaluate(text, &scope);
        assert!(began.elapsed() < Duration::from_secs(30), "{text} took {:?}", began.elapsed());
        assert!(!matches!(outcome, Ok(Value::Bool(true))), "{text}");
    }
}

#[test]
fn an_answer_of_the_wrong_kind_is_an_error() {
    let scope = || Fake { files: vec![("f", Answer::Paths(vec![]))], ..Fake::default() };
    assert_eq!(refused("read('f')".to_owned(), scope), Kind::WrongAnswer { path: "f".to_owned() });
}

#[test]
fn only_what_is_needed_is_asked_for() {
    let asked = |text: &str| {
        let scope = Fake { silent: true, ..Fake::project() };
        let outcome = Expression::parse(text).unwrap().evaluate(&scope);
        let asked: Vec<String> = scope
            .asked
            .take()
            .into_iter()
            .map(|question| match question {
                Question::Read { path } | Question::Exists { path } | Question::Glob { pattern: path } => {
                    path
                }
            })
            .collect();
        assert_eq!(asked.is_empty(), outcome.is_ok(), "{text}: {outcome:?}");
        asked.join(" ")
    };
    for (text, expected) in [
        ("false and read('a') == ''", ""),
        ("true or exists('a')", ""),
        ("'x' if true else read('a')", ""),
        ("read('a') if false else 'x'", ""),
        ("default('x', read('a'))", ""),
        ("default(read('a'), read('b'))", "a"),
        ("default(unknown, read('b'))", "b"),
        ("true and exists('./a')", "a"),
        ("read('a') if exists('b') else read('c')", "b"),
        ("len(glob('src/./*.c'))", "src/*.c"),
    ] {
        assert_eq!(asked(text), expected, "{text}");
    }
}

#[test]
fn the_call_that_asks_is_told() {
    let scope = Fake { silent: true, ..Fake::default() };
    let question = Question::Read { path: "a".to_owned() };
    assert_eq!(evaluate("'v' ~ read( 'a' )", &scope), Err(Stop::Ask { question, range: 6..17 }));
}
