use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn shell() -> BTreeMap<String, String> {
    variables(&[
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("EMPTY", ""),
        ("한", "국"),
        ("P", "a/b/c.tar.gz"),
        ("STAR", "a*b?c"),
    ])
}

fn expand(word: &str) -> String {
    match Lexer::new('\\').expand(word, &shell()) {
        Ok(expanded) => expanded.text,
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn quotes_and_escapes_are_taken_off() {
    for (word, text) in [
        ("he'll'o", "hello"),
        ("he'llo", "error: unexpected end of statement while looking for matching single-quote"),
        (r"he\'llo", "he'llo"),
        (r"he\\'llo", "error: unexpected end of statement while looking for matching single-quote"),
        (r"abc\tdef", "abctdef"),
        (r#""abc\tdef""#, r"abc\tdef"),
        (r#""abc\\tdef""#, r"abc\tdef"),
        (r"'abc\tdef'", r"abc\tdef"),
        (r"hello\", "hello"),
        (r"hello\\", r"hello\"),
        (r#""hello"#, "error: unexpected end of statement while looking for matching double-quote"),
        (r#""hello\""#, "error: unexpected end of statement while looking for matching double-quote"),
        (r#""hel'lo""#, "hel'lo"),
        (r"'hello\'", r"hello\"),
        (r#""''""#, "''"),
        (r"안녕\'하", "안녕'하"),
        ("a <<  EOF", "a <<  EOF"),
    ] {
        assert_eq!(expand(word), text, "{word}");
    }
}

#[test]
fn variables_are_expanded() {
    for (word, text) in [
        ("$.", "$."),
        ("he$1x", "hex"),
        ("$999aaa", "aaa"),
        ("$@@@", "@@"),
        ("$$", ""),
        ("he$PWD", "he/home"),
        (r"he\$PWD", "he$PWD"),
        (r"he\\$PWD", r"he\/home"),
        (r#""he\$PWD""#, "he$PWD"),
        (r#""he\\$PWD""#, r"he\/home"),
        (r"\${}aaa", "${}aaa"),
        ("'$PWD'", "$PWD"),
        ("\"'$PWD'\"", "'/home'"),
        ("a$한.", "a국."),
        ("${}", "error: syntax error: bad substitution"),
        ("${{aaa}", "error: syntax error: bad substitution"),
        ("${:-bbb}", "error: syntax error: bad substitution"),
        ("${aaa}}", "}"),
        ("${PWD", "error: syntax error: missing '}'"),
        ("${", "error: syntax error: missing '}'"),
        ("he${.}", "error: unsupported modifier (.) in substitution"),
        ("${XXX:YYY}", "error: unsupported modifier (:Y) in substitution"),
        ("${PWD:=000}", "error: unsupported modifier (:=) in substitution"),
        ("${PWD:#a}", "error: unsupported modifier (:#) in substitution"),
    ] {
        assert_eq!(expand(word), text, "{word}");
    }
}

#[test]
fn defaults_alternatives_and_demands_are_taken() {
    for (word, text) in [
        ("he${XXX:-000}xx", "he000xx"),
        ("he${PWD:-000}xx", "he/homexx"),
        ("${XXX:-${YYY:-yyy}}xx", "yyyxx"),
        ("${XXX:-$PWD:}xx", "/home:xx"),
        (r"${XXX:-\${PWD}z}xx", "${PWDz}xx"),
        ("${aaa:-bbb {foo}", "bbb {foo"),
        ("${aaa:-bbb ${foo}", "error: syntax error: missing '}'"),
        ("${EMPTY-x}", ""),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${PWD:+${SHELL}}xx", "bashxx"),
        ("${1:-bbb}", "bbb"),
        ("${@:+bbb}", ""),
        ("${XXX?}", "error: XXX: is not allowed to be unset"),
        ("${XXX:?say it}", "error: XXX: say it"),
        ("${EMPTY?}", ""),
        ("${EMPTY:?}", "error: EMPTY: is not allowed to be empty"),
        ("${PWD:?}", "/home"),
    ] {
        assert_eq!(expand(word), text, "{word}");
    }
}

#[test]
fn patterns_cut_and_replace() {
    for (word, text) in [
        ("${P#*/}", "b/c.tar.gz"),
        ("${P##*/}", "c.tar.gz"),
        ("${P%.*}", "a/b/c.tar"),
        ("${P%%.*}", "a/b/c"),
        ("${P%/*}", "a/b"),
        ("${P#x}", "a/b/c.tar.gz"),
        ("${P#?}", "/b/c.tar.gz"),
        (r"${STAR#a\*}", "b?c"),
        (r"${STAR%\?c}", "a*b"),
        ("${P/b/x}", "a/x/c.tar.gz"),
        (r"${P//\//-}", "a-b-c.tar.gz"),
        ("${P//./$SHELL}", "a/b/cbashtarbashgz"),
        ("${P/[a]/x}", "a/b/c.tar.gz"),
        ("${XXX/a/b}", ""),
        (r"${P#\a}", r"error: invalid pattern (\a) in substitution: invalid escape '\a'"),
        ("${P/b}", "error: syntax error: missing '/' in ${}"),
        ("${P/b/x", "error: syntax error: missing '}'"),
    ] {
        assert_eq!(expand(word), text, "{word}");
    }
}

#[test]
fn what_is_not_quoted_is_split() {
    let values =
        variables(&[("hi", "hi"), ("space", "abc  def"), ("leading", "  ab c"), ("trailing", "ab c   ")]);
    for (word, words) in [
        ("hello", &["hello"][..]),
        ("hello${none}bye", &["hellobye"]),
        ("hello${space}bye", &["helloabc", "defbye"]),
        ("hello\"${space}\"bye", &["helloabc  defbye"]),
        ("hello \"${space}\"bye", &["hello", "abc  defbye"]),
        ("hello${leading}def", &["hello", "ab", "cdef"]),
        ("hello\"${leading}\" def", &["hello  ab c", "def"]),
        ("hello${trailing}d", &["helloab", "c", "d"]),
        ("hello\" there  \"", &["hello there  "]),
        (r"hello\ there", &["hello there"]),
        (r#"hello\" there"#, &["hello\"", "there"]),
        ("'' \"\"", &[]),
        ("80${port:-81} x", &["8081", "x"]),
        ("cat << EOF", &["cat", "<< EOF"]),
    ] {
        assert_eq!(Lexer::new('\\').split(word, &values).unwrap(), words, "{word}");
    }
}

#[test]
fn another_escape_sign_is_taken() {
    let lexer = Lexer::new('`');
    assert_eq!(lexer.expand(r"C:\a`$PWD`` \$PWD", &shell()).unwrap().text, r"C:\a$PWD` \/home");
}

#[test]
fn heredocs_keep_their_quotes() {
    let text = Lexer::heredoc().expand("a=\"$SHELL\" 'b' \\$c \\d\n", &shell()).unwrap().text;
    assert_eq!(text, "a=\"bash\" 'b' $c d\n");
}

#[test]
fn variables_that_are_not_set_can_be_kept() {
    let lexer = Lexer::new('\\').keeping_unset();
    for (word, text) in [("$x ${x} $PWD", "$x ${x} /home"), ("${x:-$PWD} ${x/a/b}", "${x:-/home} ${x/a/b}")] {
        assert_eq!(lexer.expand(word, &shell()).unwrap().text, text);
    }
}

#[test]
fn what_was_looked_up_is_told() {
    let found = Lexer::new('\\').expand("$PWD${x}${y:-$SHELL}'$z'", &shell()).unwrap();
    assert_eq!(found.matched.iter().collect::<Vec<_>>(), ["PWD", "SHELL"]);
    assert_eq!(found.unmatched.iter().collect::<Vec<_>>(), ["x", "y"]);
}

#[test]
fn endless_nesting_is_an_error() {
    let word = "${a:-".repeat(100_000);
    assert_eq!(Lexer::new('\\').expand(&word, &NoVariables), Err(WordError::TooDeep));
}

#[test]
fn what_doubles_itself_ends() {
    let grown = |word: &str, value: String| {
        let variables = BTreeMap::from([("A".to_owned(), value)]);
        Lexer::new('\\').expand(word, &variables).map(|expanded| expanded.text.len())
    };
    assert_eq!(grown("$A$A", "a".repeat(1 << 19)), Ok(1 << 20));
    assert_eq!(grown("$A$A-$A", "a".repeat(1 << 19)), Err(WordError::TooLong));
    assert_eq!(grown("\"${A}$A$A\"", "a".repeat(1 << 19)), Err(WordError::TooLong));
    let replacement = "b".repeat(1 << 10);
    assert_eq!(grown(&format!("${{A//a/{replacement}}}"), "a".repeat(1 << 11)), Err(WordError::TooLong));
    assert_eq!(grown(&format!("${{A/a/{replacement}}}"), "a".repeat(1 << 11)), Ok((1 << 11) - 1 + (1 << 10)));
}

proptest! {
    #[test]
    fn no_word_makes_it_panic(word in "[a-c$\\{}:/#%?*+<'\" \\\\`\n\té-]{0,40}") {
        let values = variables(&[("a", "x y"), ("b", "")]);
        for lexer in [Lexer::new('\\'), Lexer::new('`').keeping_unset(), Lexer::heredoc(), Lexer::new('\\').raw(true, true)] {
            let _ = lexer.expand(&word, &values).is_ok();
        }
    }

    #[test]
    fn words_without_signs_are_themselves(word in "[a-z0-9/._=,:-]{1,30}") {
        let found = Lexer::new('\\').expand(&word, &NoVariables).unwrap();
        prop_assert_eq!(&found.text, &word);
        prop_assert_eq!(found.words, vec![word]);
    }
}
