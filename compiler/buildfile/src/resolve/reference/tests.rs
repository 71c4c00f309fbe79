//! What references mean, and what is said of those that cannot be.

use rb_diag::Span;

use super::super::Imported;
use super::*;

fn project() -> ProjectRef {
    ProjectRef::Local { dir: "a/b".to_owned() }
}

fn imports() -> Imports {
    let mut imports = Imports::new();
    let via = Via { pass_args: true, ..Via::default() };
    let project = ProjectRef::Local { dir: "x/lib".to_owned() };
    imports.add("lib", Imported { project, via, span: Span::default() }).expect("is new");
    imports
}

fn parse(text: &str) -> Result<String, ReferenceError> {
    parse_in(text, Edition::One)
}

fn parse_in(text: &str, edition: Edition) -> Result<String, ReferenceError> {
    parse_reference(text, &project(), edition, &imports()).map(|meaning| match meaning {
        Meaning::Target { target, via } if via.imported => format!("{target} via {}", via.pass_args),
        Meaning::Target { target, .. } => target.to_string(),
        Meaning::Pattern(pattern) => {
            format!("{} | {} | {}", pattern.project.dir(), pattern.glob, pattern.name)
        }
    })
}

#[test]
fn knows_the_local_forms() {
    for (text, expected) in [
        ("+t", "./a/b+t"),
        ("./c:Dockerfile+Build_1", "./a/b/c:Dockerfile+build_1"),
        (".:x.Dockerfile+t", "./a/b:x.Dockerfile+t"),
        ("lib:Dockerfile+t", "./x/lib:Dockerfile+t via true"),
        ("./c/*:Dockerfile+t", "a/b/c | * | t"),
        ("./c+t", "./a/b/c+t"),
        (".+t", "./a/b+t"),
        ("../c+t-1.x", "./a/c+t-1.x"),
        ("../..+t", "+t"),
        ("../../../x+t", "../x+t"),
        (r"./c\+\++t", "./a/b/c+++t"),
        ("//c/d+t", "./c/d+t"),
        ("//+t", "+t"),
        ("lib+t", "./x/lib+t via true"),
        ("./*+t", "a/b | * | t"),
        ("../s/x-*/y+t", "a/s | x-*/y | t"),
        ("//s/**+t", "s | ** | t"),
    ] {
        assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn knows_repositories_elsewhere() {
    for (text, expected) in [
        ("a.com/b/c+t", "a.com/b/c+t"),
        ("a.com/b/c/d:v1+t", "a.com/b/c/d:v1+t"),
        ("a.com/b/c/d/*:v1+t", "d | * | t"),
    ] {
        assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
    }
    let (repository, _) = Repository::parse("a.com/b/c:v1").expect("parses");
    let far = ProjectRef::Remote { repository, dir: "d".to_owned() };
    let within = |text: &str| match parse_reference(text, &far, Edition::One, &imports()) {
        Ok(Meaning::Target { target, .. }) => target.to_string(),
        Ok(Meaning::Pattern(pattern)) => format!("{} | {}", pattern.project, pattern.glob),
        Err(error) => error.to_string(),
    };
    for (text, expected) in [
        ("+t", "a.com/b/c/d:v1+t"),
        ("../e+t", "a.com/b/c/e:v1+t"),
        ("//+t", "a.com/b/c:v1+t"),
        ("./*+t", "a.com/b/c/d:v1 | *"),
        ("x.org/y/z+t", "x.org/y/z+t"),
        ("../../e+t", "`../../e+t` leads out of a.com/b/c:v1"),
        ("../../*+t", "`../../*+t` leads out of a.com/b/c:v1"),
        ("/e+t", "`/e+t` names a place of this machine only"),
    ] {
        assert_eq!(within(text), expected, "{text}");
    }
}

#[test]
fn refuses_the_others_by_name() {
    let refused = |text: &str| parse(text).expect_err(text).diagnostic().code;
    for (code, texts) in [
        (
            codes::BAD_REFERENCE,
            &["t", "./a", "+", "+9", "+a b", "+Build", "lib:v1+t", "https://a/b+t", "sub/dir+t"][..],
        ),
        (codes::BAD_REFERENCE, &["git@github.com:a/b+t", "a.com//b+t", "a.com/b:+t", "a.com/../b+t"]),
        (codes::ABSOLUTE_REFERENCE, &["/abs+t", "~/x+t"]),
        (codes::WRONG_KIND, &["+FUNCTION", "lib+A.B_1"]),
        (codes::UNKNOWN_ALIAS, &["lbi+t", "other+t", "*+t", "~+t"]),
        (codes::BAD_PATTERN, &["./*/../x+t", "./a**+t"]),
    ] {
        for text in texts {
            assert_eq!(refused(text), code, "{text}");
        }
    }
    let earthfile = |text: &str| parse_in(text, Edition::Earthly08).expect_err(text).to_string();
    assert!(earthfile("//lib+t").contains("VERSION 1"));
    assert!(earthfile("./**+t").contains("globstar (**) pattern not yet supported"));
}

#[test]
fn a_near_alias_is_told_with_its_target() {
    let help = |text: &str| parse(text).expect_err(text).diagnostic().help;
    assert_eq!(help("lbi+t").as_deref(), Some("did you mean `lib+t`?"));
}

#[test]
fn functions_are_told_from_targets() {
    let parse = |text: &str| parse_function(text, &project(), Edition::One, &imports());
    let (function, via) = parse("lib+UP").expect("is a function");
    assert_eq!((function.to_string().as_str(), via.imported), ("./x/lib+UP", true));
    assert_eq!(parse("./c+UP_2.x").expect_err("is neither").diagnostic().code, codes::BAD_REFERENCE);
    assert_eq!(parse("+down").expect_err("is a target").diagnostic().code, codes::WRONG_KIND);
    assert_eq!(parse("./*+UP").expect_err("is a pattern").diagnostic().code, codes::BAD_PATTERN);
}

#[test]
fn imports_take_folders() {
    let parse = |text: &str| parse_project(text, &project(), Edition::One);
    assert_eq!(parse("../c").map(|project| project.dir().to_owned()), Ok("a/c".to_owned()));
    assert_eq!(parse("//c").map(|project| project.dir().to_owned()), Ok("c".to_owned()));
    let far = parse("a.com/b/c/d:v1").map(|project| project.to_string());
    assert_eq!(far.as_deref(), Ok("a.com/b/c/d:v1"));
    for (text, code) in [
        ("lib", codes::BAD_IMPORT),
        ("./lib+t", codes::BAD_IMPORT),
        ("+t", codes::BAD_IMPORT),
        ("", codes::BAD_REFERENCE),
        ("./*", codes::BAD_PATTERN),
        ("a/b:v1", codes::BAD_REFERENCE),
        ("/a", codes::ABSOLUTE_REFERENCE),
    ] {
        assert_eq!(parse(text).expect_err(text).diagnostic().code, code, "{text}");
    }
}

#[test]
fn an_alias_is_the_last_part_without_its_tag() {
    for (text, expected) in [
        ("./a/lib", Some("lib")),
        ("./lib/", Some("lib")),
        ("./lib:Dockerfile", Some("lib")),
        ("github.com/a/lib:v1.2/x", Some("lib")),
        ("//lib", Some("lib")),
        (r"./c\+\+", Some("c++")),
        (".", None),
        ("./..", None),
        ("//", None),
        ("~/", None),
    ] {
        assert_eq!(default_alias(text).as_deref(), expected, "{text}");
    }
}
