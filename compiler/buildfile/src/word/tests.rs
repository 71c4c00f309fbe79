//! Words: what they become, what stops them, and what holds for any text.

use rb_expression::ExpressionErrorKind;

use super::*;

/// Some variables, and the outputs and answers of a test.
#[derive(Default)]
struct Known {
    outputs: Vec<(&'static str, &'static str)>,
    answers: Vec<(Question, Answer)>,
}

const VARIABLES: [(&str, &str); 5] =
    [("x", "value"), ("file", "a.tar.gz"), ("empty", ""), ("n", "7"), ("PATH", "/bin")];

impl Scope for Known {
    fn variable(&self, name: &str) -> Option<String> {
        VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn value(&self, name: &str) -> Option<Value> {
        match name {
            "n" => Some(Value::Int(7)),
            _ => self.variable(name).map(Value::String),
        }
    }

    fn names(&self) -> Vec<String> {
        VARIABLES.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn output(&self, command: &str) -> Option<String> {
        self.outputs.iter().find(|(known, _)| *known == command).map(|(_, output)| (*output).to_owned())
    }

    fn answer(&self, question: &Question) -> Option<Answer> {
        self.answers.iter().find(|(known, _)| known == question).map(|(_, answer)| answer.clone())
    }
}

fn parse(raw: &str) -> Template {
    Template::parse(raw, Expressions::On).unwrap_or_else(|error| panic!("{raw}: {error}"))
}

fn expand_in(raw: &str, scope: &Known) -> Result<String, Stop> {
    let template = Template::parse(raw, Expressions::On)?;
    template.expand(Escapes::Remove, scope).map(|expanded| expanded.text)
}

fn expand(raw: &str) -> Result<String, Stop> {
    expand_in(raw, &Known::default())
}

fn mistake(raw: &str) -> (WordErrorKind, Range<usize>) {
    match expand(raw) {
        Err(Stop::Error(error)) => (error.kind, error.range),
        other => panic!("{raw}: {other:?}"),
    }
}

#[test]
fn fills_in_variables() {
    for (raw, expected) in [
        ("a$x-${x}b", "avalue-valueb"),
        ("$x_", ""),
        ("${none:-w}${empty:-w}${empty-w}${x:-w}", "wwvalue"),
        ("${none:+w}|${x:+w}|${empty+w}", "|w|w"),
        ("${none:-${x:-y}\"}\"}", "value}"),
        ("${x:?bad}", "value"),
        ("${file#*.}|${file##*.}|${file%.*}|${file%%.*}", "tar.gz|gz|a.tar|a"),
        ("'$x'\"$x\"\\$x", "$xvalue$x"),
        (r#"a\ b "c\"d\e" 'f\g'"#, r#"a b c"d\e f\g"#),
        ("$ 5$", "$ 5$"),
        ("''", ""),
    ] {
        assert_eq!(expand(raw), Ok(expected.to_owned()), "{raw}");
    }
}

#[test]
fn refuses_what_is_not_well_formed() {
    assert_eq!(mistake("'a"), (WordErrorKind::OpenQuote, 0..2));
    assert_eq!(mistake("a\"b"), (WordErrorKind::OpenQuote, 1..3));
    assert_eq!(mistake("${x"), (WordErrorKind::OpenBrace, 0..3));
    assert_eq!(mistake("${x:-a"), (WordErrorKind::OpenBrace, 0..6));
    assert_eq!(mistake("${}").0, WordErrorKind::NoName);
    assert_eq!(mistake("${x/a/b}").0, WordErrorKind::Operator { operator: "/".to_owned() });
    assert_eq!(mistake("$(a"), (WordErrorKind::OpenCommand, 0..3));
    assert_eq!(mistake(r"$(a \)"), (WordErrorKind::OpenCommand, 0..6));
    assert_eq!(mistake("b{{ a }"), (WordErrorKind::OpenExpression, 1..7));
    let message = WordErrorKind::Required { name: "none".to_owned(), message: "say value".to_owned() };
    assert_eq!(mistake("${none:?say $x}"), (message, 0..15));
    let deep = format!("{}{}", "${none:-".repeat(10_000), "}".repeat(10_000));
    assert_eq!(mistake(&deep).0, WordErrorKind::TooDeep { limit: 64 });
    assert_eq!(mistake(&"$(".repeat(10_000)).0, WordErrorKind::OpenCommand);
}

#[test]
fn keeps_the_escapes_asked_for() {
    let keep = |escapes| parse(r"a\+b\*c\ d").expand(escapes, &Known::default()).expect("expands").text;
    assert_eq!(keep(Escapes::Remove), "a+b*c d");
    assert_eq!(keep(Escapes::KeepPlus), r"a\+b*c d");
    assert_eq!(keep(Escapes::KeepPattern), r"a+b\*c d");
}

#[test]
fn names_what_nothing_defines() {
    let expanded = parse("a${no}b${x:+$y}").expand(Escapes::Remove, &Known::default()).expect("expands");
    assert_eq!(expanded.unknown, [("no".to_owned(), 1..6), ("y".to_owned(), 12..14)]);
}

#[test]
fn asks_for_outputs_where_they_are_needed() {
    let needs = |raw: &str| match expand(raw) {
        Err(Stop::Command { command, range }) => (command, range),
        other => panic!("{raw}: {other:?}"),
    };
    assert_eq!(needs("a$(echo ')' b)"), ("echo ')' b".to_owned(), 1..14));
    assert_eq!(needs(r#""$(echo "a)" \) (b) "it's")""#).0, r#"echo "a)" \) (b) "it's""#);
    assert_eq!(needs("${none:-$(a $(b))}"), ("a $(b)".to_owned(), 8..17));
    assert_eq!(needs("$(\n  # it's\n  a)").0, "\n  # it's\n  a");
    assert_eq!(needs("~$HOME"), ("echo $HOME".to_owned(), 1..6));
    assert_eq!(needs("${HOME:-x}").0, "echo $HOME");
    for raw in ["${x:-$(a)}", "${none:+$(a)}", "'$(a)'", r"\$(a)", "$PATH", "${none}"] {
        assert!(expand(raw).is_ok(), "{raw}");
    }
    let known =
        Known { outputs: vec![("a", "1 \"$x"), ("b", "2"), ("echo $HOME", "/root")], ..Known::default() };
    assert_eq!(expand_in("$(a)-\"$(b)\"${none:-$(b)}", &known), Ok("1 \"$x-22".to_owned()));
    assert_eq!(expand_in("$HOME/a", &known), Ok("/root/a".to_owned()));
    let second = expand_in("$(a) $(c)", &known);
    assert_eq!(second, Err(Stop::Command { command: "c".to_owned(), range: 5..9 }));
}

#[test]
fn computes_expressions() {
    for (raw, expected) in [
        ("{{ n + 1 }}", "8"),
        ("a{{x}}b{{ 1 }}", "avalueb1"),
        ("\"a {{ 'b' }}\"", "a b"),
        (r#""{{ "b c" }}""#, "b c"),
        ("{{ '}}' }}", "}}"),
        ("'{{ n }}'", "{{ n }}"),
        (r"\{{ n }}", "{{ n }}"),
        (r#""\{{ n }}""#, "{{ n }}"),
        (r"\{{{ n }}", "{7"),
        (r#""\{ n""#, r"\{ n"),
        ("{ {n} }", "{ {n} }"),
        ("${none:-{{ n }}}", "7"),
        ("${x:-{{ 1 / 0 }}}", "value"),
    ] {
        assert_eq!(expand(raw), Ok(expected.to_owned()), "{raw}");
    }
    let off = Template::parse("{{ n", Expressions::Off).expect("parses");
    assert!(off.is_constant());
    assert_eq!(off.expand(Escapes::Remove, &Known::default()).expect("expands").text, "{{ n");
}

#[test]
fn shows_where_expressions_are_wrong() {
    let (kind, range) = mistake("ab{{ nn }}");
    let WordErrorKind::Expression(error) = kind else { panic!("{kind}") };
    assert!(matches!(error.kind, ExpressionErrorKind::UnknownVariable { .. }), "{error}");
    assert_eq!((range, error.range), (5..7, 1..3));
    let (kind, range) = mistake("\"{{}}\"");
    assert!(matches!(kind, WordErrorKind::Expression(_)), "{kind}");
    assert_eq!(range, 3..3);
}

#[test]
fn asks_what_expressions_ask() {
    let raw = "v{{ read('VERSION') }}";
    let Err(Stop::File { question, range }) = expand(raw) else { panic!("does not ask") };
    assert_eq!(question, Question::Read { path: "VERSION".to_owned() });
    assert_eq!(&raw[range], "read('VERSION')");
    let known = Known { answers: vec![(question, Answer::Text("1.2".to_owned()))], ..Known::default() };
    assert_eq!(expand_in(raw, &known), Ok("v1.2".to_owned()));
}

#[test]
fn knows_values_of_single_expressions() {
    for (raw, expected) in [
        ("{{ n }}", Some(Value::Int(7))),
        ("\"{{ n == 7 }}\"", Some(Value::Bool(true))),
        ("{{ x }}", Some(Value::String("value".to_owned()))),
        ("{{ n }}{{ n }}", None),
        ("''{{ n }}", None),
        ("{{ n }}\"\"", None),
        (" {{ n }}", None),
        ("'{{ n }}'", None),
        ("n", None),
    ] {
        let template = parse(raw);
        assert_eq!(template.single_expression(), expected.is_some(), "{raw}");
        if let Some(expected) = expected {
            assert_eq!(template.value(&Known::default()), Ok(expected), "{raw}");
        }
    }
}

#[test]
fn splits_at_unquoted_spaces() {
    assert_eq!(
        split(r#" echo "a b" 'c d' $(e f) g\ h "#),
        [(1, "echo"), (6, r#""a b""#), (12, "'c d'"), (18, "$(e f)"), (25, r"g\ h")]
    );
    assert_eq!(split(r#""it's" "(" b"#), [(0, r#""it's""#), (7, r#""(""#), (11, "b")]);
    assert_eq!(split("${a:-b c} \"$(d \" e\" )\""), [(0, "${a:-b c}"), (10, "\"$(d \" e\" )\"")]);
    assert_eq!(split("a 'b c"), [(0, "a"), (2, "'b c")]);
    assert_eq!(split("  "), []);
}

proptest::proptest! {
    /// Any text is a word or an error with a place inside it, and splitting loses nothing but spaces.
    #[test]
    fn any_text_is_read(raw in "[ a-hnx${}()'\"\\\\:?#%+~*\u{e9}]{0,24}|([{]{2}|[}]{2}|[$][({]|[ nx1'\"\\\\\u{e9}+)}]){0,12}") {
        for expressions in [Expressions::On, Expressions::Off] {
            let expand = |word: Template| {
                if word.single_expression() {
                    word.value(&Known::default())?;
                }
                word.expand(Escapes::Remove, &Known::default())
            };
            let result = Template::parse(&raw, expressions).map_err(Stop::Error).and_then(expand);
            let ranges = match result {
                Ok(expanded) => expanded.unknown.into_iter().map(|(_, range)| range).collect(),
                Err(Stop::Error(WordError { range, .. }) | Stop::Command { range, .. } | Stop::File { range, .. }) => {
                    vec![range]
                }
            };
            for range in ranges {
                proptest::prop_assert!(raw.get(range).is_some());
            }
        }
        for (start, word) in split(&raw) {
            proptest::prop_assert_eq!(&raw[start..start + word.len()], word);
        }
        let kept: usize = split(&raw).iter().map(|(_, word)| word.len()).sum();
        proptest::prop_assert!(kept >= raw.replace(' ', "").len());
    }

    /// What is quoted as a shell would have it comes out as it was.
    #[test]
    fn quoted_text_comes_out_as_it_was(text in "[ -~\u{e9}]{0,24}") {
        let raw = format!("'{}'", text.replace('\'', r"'\''"));
        proptest::prop_assert_eq!(expand(&raw), Ok(text.clone()));
        let raw: String = text.chars().flat_map(|next| ['\\', next]).collect();
        proptest::prop_assert_eq!(expand(&raw), Ok(text));
    }
}
