//! Decisions, and a comparison of all of them with the shells of this machine.
//!
//! The comparison runs a text only if it was decided, and what is decided holds nothing but builtins without effect.
//! `PROPTEST_CASES=5000` looks harder.

use std::process::{Command, Output};
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

const VARIABLES: &[(&str, &str)] = &[
    ("x", "value"),
    ("empty", ""),
    ("two", "a b"),
    ("padded", " a\tb\n"),
    ("blank", " "),
    ("n", "7"),
    ("zero", "007"),
    ("less", "-3"),
    ("file", "a.tar.gz"),
    ("path", "/usr/lib/x"),
    ("star", "a*"),
    ("dash", "-n"),
    ("bang", "!"),
    ("equals", "="),
    ("accent", "\u{e9}t\u{e9}"),
    ("back", r"a\b"),
    ("HOME", "/home/me"),
];

fn lookup(name: &str) -> Option<String> {
    VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

/// The shells at hand and how each is called to be a `sh`.
static SHELLS: LazyLock<Vec<&[&str]>> = LazyLock::new(|| {
    let known: [&[&str]; 6] =
        [&["sh"], &["dash"], &["bash", "--posix"], &["bash"], &["busybox", "sh"], &["mksh"]];
    known
        .into_iter()
        .filter(|shell| Command::new(shell[0]).args(&shell[1..]).args(["-c", ":"]).output().is_ok())
        .collect()
});

fn run(shell: &[&str], text: &str) -> Output {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-c", text]).env_clear().envs(VARIABLES.iter().copied());
    // There are files in `/`, so a pattern that was overlooked would show.
    command.current_dir("/").output().expect("the shell was there a moment ago")
}

/// Asserts that every shell answers `text` as we do, if we do.
fn compare(text: &str) {
    if let Some(truth) = condition(text, &lookup) {
        for shell in SHELLS.iter() {
            let output = run(shell, text);
            assert_eq!(output.status.code(), Some(i32::from(!truth)), "{shell:?}: {text}");
            assert!(output.stderr.is_empty(), "{shell:?}: {text}");
        }
    }
    if let Some(printed) = output(text, &lookup) {
        for shell in SHELLS.iter() {
            let output = run(shell, text);
            assert!(output.status.success() && output.stderr.is_empty(), "{shell:?}: {text}");
            let said = String::from_utf8(output.stdout).expect("text");
            assert_eq!(without_newline(&said), printed, "{shell:?}: {text}");
        }
    }
    for separators in ["\n\t ", ",a"] {
        let Some(items) = items(text, separators, &lookup) else { continue };
        for shell in SHELLS.iter() {
            let output = run(shell, &format!("echo {text}"));
            assert!(output.status.success() && output.stderr.is_empty(), "{shell:?}: {text}");
            let said = String::from_utf8(output.stdout).expect("text");
            let said: Vec<&str> = without_newline(&said)
                .split(|next| separators.contains(next))
                .filter(|item| !item.is_empty())
                .collect();
            assert_eq!(said, items, "{shell:?}: {text}");
        }
    }
}

#[test]
fn decides_what_people_write() {
    for (text, expected) in [
        (r#"[ "$x" = "value" ]"#, true),
        (r#"[ "$x" != "value" ]"#, false),
        (r#"test "$none" = """#, true),
        ("[ -z $none ]", true),
        ("[ -n $none ]", true),
        (r#"[ -n "$none" ]"#, false),
        ("[ -z \"$x\" ] || [ $n -gt 5 ]", true),
        ("[ $n -eq $zero ] && [ $less -lt 0 ]", true),
        ("! true", false),
        ("! [ a = b ]", true),
        ("[ ! a = b ]", true),
        ("[ \"$x\" = a -o \"$x\" = value ]", true),
        ("[ \"$x\" = value -a \"$n\" -ge 8 ]", false),
        ("{ false; true; } && (false || true)", true),
        ("true\nfalse", false),
        ("true &&\n  false ||\n  true", true),
        ("[ \"$x\" = other ] && curl -f https://host/a", false),
        ("true || { grep -q a b; }", true),
        ("[ ${file##*.} = gz ]", true),
        ("[ \"${file%.*}\" = a.tar ]", true),
        ("[ ${#x} -eq 5 ]", true),
        ("[ ${none:-d}${x:+s} = ds ]", true),
        ("[ \"${path%/*}\" = /usr/lib ] &&\\\n [ -n \"$HOME\" ]", true),
        ("test", false),
        ("[ \"$accent\" = '\u{e9}t\u{e9}' ]", true),
        ("[ 1.0~rc = 1.0~rc ]", true),
    ] {
        assert_eq!(condition(text, &lookup), Some(expected), "{text}");
        compare(text);
    }
}

#[test]
fn leaves_the_rest_to_a_shell() {
    for text in [
        "",
        " ",
        "[ a == a ]",
        "[ -f /etc/passwd ]",
        "[ $two = a ]",
        "[ a = b",
        "[ $x -eq 1 ]",
        "[ $star = 'a*' ]",
        "[ [a] = '[a]' ]",
        "[ ~ = a ]",
        "[ {a,b} = a ]",
        "[ \"$PWD\" = / ]",
        "[ \"$BASH_VERSION\" = '' ]",
        "[ -n \"$PATH\" ]",
        "[ \"$(id -u)\" = 0 ]",
        "[ `id -u` = 0 ]",
        "[ $((1)) = 1 ]",
        "[ $1 = 1 ]",
        "[ $? = 0 ]",
        "[ ${x:=a} = 0 ]",
        "[ ${x:?a} = 0 ]",
        "[ ${x/a/b} = 0 ]",
        "[[ a = a ]]",
        "true > file",
        "true | true",
        "true & true",
        "x=1 true",
        "x=1",
        "false && if",
        "false && f() { :; }",
        "true # comment",
        "((1))",
        "ls",
        "true; ls",
        "[ ${#accent} -eq 3 ]",
        "[ 2147483648 -gt 1 ]",
        "[ \"$dash\" = -n ]",
        "[ $bang = ! ]",
        "[ a -a b ]",
        "[ ( a = a ) ]",
        "\"true\"",
    ] {
        assert_eq!(condition(text, &lookup), None, "{text}");
    }
    assert_eq!(condition("true", &|name| (name == "SHELLOPTS").then(|| "noexec".to_owned())), None);
    assert_eq!(condition(&"( ".repeat(100_000), &lookup), None);
    assert_eq!(condition(&"${x:-".repeat(100_000), &lookup), None);
}

#[test]
fn compares_as_shells_do() {
    for operator in ["=", "!=", "-eq", "-ne", "-lt", "-le", "-gt", "-ge"] {
        for (left, right) in [("7", "007"), ("$less", "5"), ("5", "$less"), ("$n", "7"), ("-0", "0")] {
            let text = format!("[ {left} {operator} {right} ]");
            assert!(condition(&text, &lookup).is_some(), "{text}");
            compare(&text);
        }
    }
}

#[test]
fn decides_programs_called_without_a_shell() {
    let decide =
        |args: &[&str]| exec_condition(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
    assert_eq!(decide(&["true"]), Some(true));
    assert_eq!(decide(&["false"]), Some(false));
    assert_eq!(decide(&["test", "a", "=", "b"]), Some(false));
    assert_eq!(decide(&["[", "-n", "$x", "]"]), Some(true));
    assert_eq!(decide(&["[", "-n", "x"]), None);
    assert_eq!(decide(&["test", "--help"]), None);
    assert_eq!(decide(&["false", "--help"]), None);
    assert_eq!(decide(&[":"]), None);
    assert_eq!(decide(&[]), None);
}

#[test]
fn gives_items() {
    for (text, separators, expected) in [
        ("a b  c", "\n\t ", vec!["a", "b", "c"]),
        ("", "\n\t ", vec![]),
        ("\"$two\" $padded 'c d'", "\n\t ", vec!["a", "b", "a", "b", "c", "d"]),
        ("1,2,,3", ",", vec!["1", "2", "3"]),
        ("a b,c", ",", vec!["a b", "c"]),
        ("${none:-p q}", " ", vec!["p", "q"]),
        ("a \\\n  b", " ", vec!["a", "b"]),
    ] {
        let expected = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(items(text, separators, &lookup), Some(expected), "{text}");
        compare(text);
    }
    for text in ["*.c", "$(ls)", "a; b", "a\nb", r"'a\b'", "-e a", "$star", "~", "{a,b}", "a > b"] {
        assert_eq!(items(text, " ", &lookup), None, "{text}");
    }
}

#[test]
fn gives_outputs() {
    for (text, expected) in [
        ("echo a  b", "a b"),
        ("echo -n $two", "a b"),
        ("echo \"$padded\"", " a\tb\n"),
        ("echo", ""),
        ("printf %s \"$two\"", "a b"),
        ("printf '%s\\n' a b", "a\nb"),
        ("printf %s a b", "ab"),
        ("printf '%s\\n'", ""),
        ("printf hello", "hello"),
        (" echo ${file%%.*} ", "a"),
    ] {
        assert_eq!(output(text, &lookup), Some(expected.to_owned()), "{text}");
        compare(text);
    }
    for text in
        ["date", "echo a; echo b", "echo a | cat", r"echo 'a\nb'", "printf %d 1", "! echo a", "(echo a)", ""]
    {
        assert_eq!(output(text, &lookup), None, "{text}");
    }
}

fn variable() -> impl Strategy<Value = String> {
    let names: Vec<&str> =
        VARIABLES.iter().map(|(name, _)| *name).chain(["none", "unset", "PATH", "IFS"]).collect();
    prop::sample::select(names).prop_map(str::to_owned)
}

/// Words with all that words can hold, and a little that they cannot.
fn word() -> impl Strategy<Value = String> {
    let literal = prop::sample::select(vec![
        "a", "b", "value", "a.tar", ".gz", "7", "-3", "007", "+1", "-", "--", "-n", "-e", "=", "!", "/",
        "x~", "~", ":", "a:~", ",", "%", "#", "@", "^", "+", "]", "[", "*", "?", "{", "}", "{a,b}", r"\$",
        r"\ ", r"\\", r"\*", "''", "' '", "'a b'", "'*'", "'$x'", "\"\"", "\"a\"", "\" \"", "\"\\$\"",
        "\"\\a\"", "\u{e9}", "\\\n", "\\\n ", " ",
    ])
    .prop_map(str::to_owned);
    let operator =
        || prop::sample::select(vec!["", ":-", "-", ":+", "+", "%", "%%", "#", "##", ":%", "=", ":", "/"]);
    let piece = literal.prop_recursive(3, 12, 3, move |inner| {
        let words = prop::collection::vec(
            prop_oneof![4 => inner, 1 => Just(" ".to_owned()), 1 => Just("*".to_owned()), 1 => Just("?".to_owned())],
            0..3,
        )
        .prop_map(|pieces| pieces.concat());
        prop_oneof![
            variable().prop_map(|name| format!("${name}")),
            variable().prop_map(|name| format!("\"${name}\"")),
            variable().prop_map(|name| format!("${{#{name}}}")),
            (variable(), operator(), words.clone()).prop_map(|(name, operator, word)| format!("${{{name}{operator}{word}}}")),
            (variable(), operator(), words.clone())
                .prop_map(|(name, operator, word)| format!("\"${{{name}{operator}{word}}}\"")),
            words.clone(),
            words.prop_map(|word| format!("\"{word}\"")),
        ]
    });
    prop::collection::vec(piece, 1..3).prop_map(|pieces| pieces.concat())
}

fn words() -> impl Strategy<Value = String> {
    prop::collection::vec(word(), 0..4).prop_map(|words| words.join(" "))
}

/// Words that are likely to be decided.
fn plain_word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "a", "value", "7", "''", "\"\"", "$x", "\"$x\"", "$n", "$zero", "\"$less\"", "$none", "\"$none\"", "$empty",
            "\"$empty\"", "$two", "\"$two\"", "\"$padded\"", "$padded", "$blank", "${#x}", "${x:-a}", "${none:-7}",
            "${none-a b}", "${file%.*}", "${file%%.*}", "${file#*.}", "${file##*.}", "'a b'", "$dash", "$equals",
            "\"$bang\"", "-n", "=", "!", "(", ")", "-a", "-gt", "-3", "--help",
        ]).prop_map(str::to_owned),
        1 => word(),
    ]
}

fn test_call() -> impl Strategy<Value = String> {
    let operator = prop::sample::select(vec![
        "=", "!=", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "==", "-a", "-o", "<", "-ef", "\\<",
    ]);
    let number = || {
        prop::sample::select(vec![
            "7",
            "$n",
            "\"$zero\"",
            "$less",
            "-3",
            "0",
            "-0",
            "${#x}",
            "5",
            "2147483647",
            "''",
        ])
    };
    let order = prop::sample::select(vec!["-eq", "-ne", "-lt", "-le", "-gt", "-ge", "=", "!="]);
    let comparison = prop_oneof![
        1 => plain_word(),
        2 => (prop::sample::select(vec!["-n", "-z", "!", "-f"]), plain_word())
            .prop_map(|(unary, word)| format!("{unary} {word}")),
        4 => (plain_word(), operator, plain_word())
            .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
        3 => (number(), order, number()).prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
    ];
    let not = (prop::bool::weighted(0.2), comparison)
        .prop_map(|(not, inner)| if not { format!("! {inner}") } else { inner });
    let joined = prop_oneof![
        4 => not.clone(),
        1 => (not.clone(), prop::sample::select(vec!["-a", "-o"]), not.clone(), prop::sample::select(vec!["-a", "-o"]), not)
            .prop_map(|(a, one, b, two, c)| format!("{a} {one} {b} {two} {c}")),
        1 => prop::collection::vec(plain_word(), 0..6).prop_map(|words| words.join(" ")),
    ];
    prop_oneof![
        joined.clone().prop_map(|inner| format!("[ {inner} ]")),
        joined.prop_map(|inner| format!("test {inner}"))
    ]
}

fn script() -> impl Strategy<Value = String> {
    let command = prop_oneof![
        6 => test_call(),
        1 => Just("true".to_owned()),
        1 => Just("false".to_owned()),
        1 => words().prop_map(|words| format!(": {words}")),
        1 => words().prop_map(|words| format!("true {words}")),
        1 => Just("unknown -x 'a'".to_owned()),
    ];
    command.prop_recursive(3, 8, 3, |inner| {
        let joint = prop::sample::select(vec![
            " && ", " || ", "; ", "\n", " &&\n", "||", "&&", ";", " | ", " & ", ";;", "\n\n", " ;\n",
            "\\\n&& ",
        ]);
        prop_oneof![
            (inner.clone(), joint, inner.clone()).prop_map(|(a, joint, b)| format!("{a}{joint}{b}")),
            inner.clone().prop_map(|inner| format!("! {inner}")),
            inner.clone().prop_map(|inner| format!("({inner})")),
            inner.clone().prop_map(|inner| format!("( {inner}; )")),
            inner.clone().prop_map(|inner| format!("{{ {inner}; }}")),
            inner.prop_map(|inner| format!("{{ {inner} }}")),
        ]
    })
}

/// Anything, made of what has a meaning.
fn soup() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        " ", " ", " ", "\n", ";", "&&", "||", "(", ")", "{", "}", "!", "[", "]", "test", "true", "false",
        ":", "echo", "printf", "%s", "=", "!=", "-n", "-z", "-eq", "a", "1", "'", "\"", "\\", "$", "$x",
        "${", "$two", "#", "%", ":-", "+", "*", "?", "~", "if", "fi", "in", "\t", "\r", "\\\n", "x=1", "[[",
        "]]", "-",
    ]);
    prop::collection::vec(token, 0..14).prop_map(|tokens| tokens.concat())
}

fn settings() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases.max(300),
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..usual
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn conditions_are_what_shells_say(text in script()) {
        compare(&text);
    }

    #[test]
    fn items_are_what_shells_print(text in words()) {
        compare(&text);
    }

    #[test]
    fn outputs_are_what_shells_print(
        command in prop::sample::select(vec!["echo", "echo -n", "printf %s", "printf '%s\\n'", "printf", "printf 'a%s'"]),
        text in words(),
    ) {
        compare(&format!("{command} {text}"));
    }

    #[test]
    fn any_text_is_read_as_shells_read_it(text in soup()) {
        compare(&text);
    }
}
