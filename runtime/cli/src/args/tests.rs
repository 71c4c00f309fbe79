//! What argv is read as.

use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStringExt;

use super::*;

fn parse(words: &[&str]) -> Args {
    Args::try_parse_from(std::iter::once("rb").chain(words.iter().copied())).expect("parses")
}

fn call(words: &[&str]) -> Result<TargetCall, ArgsError> {
    TargetCall::parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
}

#[test]
fn the_table_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn help_is_in_lines_of_a_terminal() {
    fn walk(command: &clap::Command, long: &mut Vec<String>) {
        let name = command.get_name();
        let end = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        // What begins with spaces is set by hand.
        long.extend(
            end.lines()
                .filter(|line| line.starts_with("  ") && line.chars().count() > 80)
                .map(ToOwned::to_owned),
        );
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let dense = matches!(name, "rb" | "run") && !arg.is_positional();
            let most = if dense { 50 } else { 80 };
            if help.is_empty() || help.ends_with('.') || help.chars().count() > most {
                long.push(format!("{name} {}: {help}", arg.get_id()));
            }
        }
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        if about.is_empty() || (name != "rb" && about.chars().count() > 66) {
            long.push(format!("{name}: {about}"));
        }
        command
            .get_subcommands()
            .filter(|known| known.get_name() != "help")
            .for_each(|known| walk(known, long));
    }
    let mut table = Args::command();
    table.build();
    let mut long = Vec::new();
    walk(&table, &mut long);
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn a_target_ends_the_options() {
    let words = ["--no-cache", "-j", "4", "-o", "type=oci,dest=a+b.tar", "./d+t", "--no-cache=1", "-q"];
    let args = parse(&words);
    assert!(args.build.no_cache && !args.build.quiet);
    assert_eq!(args.build.jobs.map(NonZeroUsize::get), Some(4));
    assert_eq!(args.output.output.len(), 1);
    match args.command {
        Some(Command::Word(words)) => assert_eq!(words, ["./d+t", "--no-cache=1", "-q"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_target_may_have_the_name_of_a_command() {
    for word in ["+run", "./run+ls", "run+ls", "/run+ls"] {
        assert!(matches!(parse(&[word]).command, Some(Command::Word(_))), "{word}");
    }
    assert!(matches!(parse(&["ls"]).command, Some(Command::Ls(_))));
}

#[test]
fn arguments_of_a_target() {
    let got = call(&["+t", "--A=1", "--B", "two words", "--A=x=y", "--E="]).expect("parses");
    let expected = [("A", "x=y"), ("B", "two words"), ("E", "")];
    assert_eq!(got.args, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn what_is_no_argument_of_a_target() {
    let no_value = |name: &str| Err(ArgsError::NoValue { name: name.to_owned() });
    assert_eq!(call(&["+t", "--A"]), no_value("A"));
    assert_eq!(call(&["+t", "--A", "--B=1"]), no_value("A"));
    assert_eq!(call(&["+t", "--no-cache"]), no_value("no-cache"));
    assert_eq!(call(&["+t", "-q"]), Err(ArgsError::OptionBehind { word: "-q".to_owned() }));
    let stray = ArgsError::StrayWord { word: "+u".to_owned(), target: "+t".to_owned() };
    assert_eq!(call(&["+t", "+u"]), Err(stray));
    assert_eq!(call(&["+t", "--1A=2"]), Err(ArgsError::BadName { name: "1A".to_owned() }));
    let help = ArgsError::NoValue { name: "no-cache".to_owned() }.help().unwrap_or_default();
    assert!(help.contains("`rb --no-cache …`"), "{help}");
    for error in [
        ArgsError::NoValue { name: "sbom".to_owned() },
        ArgsError::OptionBehind { word: "--sbom".to_owned() },
    ] {
        let help = error.help().unwrap_or_default();
        assert!(help.ends_with("is not part of this version of rb: it comes later"), "{help}");
    }
}

#[test]
fn words_that_are_not_utf8_are_an_error() {
    let words = [OsString::from("+t"), OsString::from_vec(b"--A=\xff".to_vec())];
    assert!(matches!(TargetCall::parse(&words), Err(ArgsError::NotUtf8 { .. })));
    let argv =
        [OsString::from("rb"), OsString::from("image"), OsString::from("rm"), OsString::from_vec(vec![0xff])];
    assert_eq!(Args::try_parse_from(argv).map(|_| ()).map_err(|error| error.exit_code()), Err(2));
}

#[test]
fn run_splits_arguments_from_the_command() {
    let split = |words: &[&str]| TargetCall::parse_run(&words.iter().map(OsString::from).collect::<Vec<_>>());
    let (call, command) = split(&["+t", "--A=1", "--", "--help", "x"]).expect("parses");
    assert_eq!((call.word.as_str(), call.args.len()), ("+t", 1));
    assert_eq!(command, ["--help", "x"]);
    assert_eq!(split(&["+t", "sh", "-c", "--x"]).expect("parses").1, ["sh", "-c", "--x"]);
    assert!(split(&["+t"]).expect("parses").1.is_empty());
    assert_eq!(split(&["+t", "--help"]), Err(ArgsError::NoValue { name: "help".to_owned() }));
}

#[test]
fn run_leaves_hyphens_to_the_program() {
    match parse(&["run", "--network=none", "-e", "A=1", "app:1", "ls", "-l", "--all"]).command {
        Some(Command::Run(run)) => {
            assert_eq!(run.network, NetworkChoice::None);
            assert_eq!(run.env, ["A=1"]);
            assert_eq!(run.words, ["app:1", "ls", "-l", "--all"]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_count_on_both_sides_of_a_command() {
    let args = parse(&["--no-cache", "-j2", "run", "-j", "3", "+t"]);
    let Some(Command::Run(run)) = args.command else { panic!("not run") };
    let options = run.build.over(args.build);
    assert!(options.no_cache);
    assert_eq!(options.jobs.map(NonZeroUsize::get), Some(3));
}

#[test]
fn earthly_has_words_of_its_own() {
    let read = |words: &[&str]| as_earthly(words.iter().map(OsString::from).collect());
    assert_eq!(
        read(&["/bin/earthly", "--output", "+t", "--output"]),
        ["/bin/earthly", "--force-output", "+t", "--output"]
    );
    assert_eq!(read(&["earthly", "debug", "ast", "x"]), ["earthly", "ast", "x"]);
    assert_eq!(read(&["rb", "--output", "x", "+t"]), ["rb", "--output", "x", "+t"]);
    let args = Args::try_parse_from(read(&["earthly", "--ci", "--output", "-P", "-s", "A=hunter2", "+t"]))
        .expect("parses");
    assert!(args.output.force_output && args.build.ci && args.build.allow_privileged);
    assert!(!format!("{args:?}").contains("hunter2"));
}

#[test]
fn help_of_a_target_is_no_value() {
    let asks =
        |words: &[&str]| TargetCall::asks_for_help(&words.iter().map(OsString::from).collect::<Vec<_>>());
    assert!(asks(&["+t", "--help"]) && asks(&["+t", "--A=1", "-h"]) && asks(&["+t", "--A", "1", "--help"]));
    assert!(!asks(&["+t", "--A", "-h"]) && !asks(&["+t", "--A=--help"]) && !asks(&["+help"]));
}
