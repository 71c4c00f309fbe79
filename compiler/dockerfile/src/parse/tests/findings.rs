//! What build checks find in the text alone.

use rb_diag::{SourceFile, SourceId};

use crate::{Checks, Control, parse};

/// Shows what is found, with its lines.
fn found(text: &str) -> Vec<String> {
    let file = SourceFile::new(SourceId(0), "Dockerfile", text);
    let parsed = parse(&file);
    let mut checks = Checks::new(Control::of(&parsed.dockerfile.directives, None).0);
    checks.add(None, parsed.findings);
    let line = |finding: &crate::Finding| file.position(finding.span.start).line;
    checks
        .findings()
        .iter()
        .map(|found| format!("{} {}: {}", line(found), found.rule.name(), found.message))
        .collect()
}

#[test]
fn casing_and_names_of_stages() {
    assert_eq!(
        found("FROM a as Base\nfrom a AS base\nFrom a As scratch\nRun x\nrun y\nUSER z\n"),
        [
            "1 StageNameCasing: Stage name 'Base' should be lowercase",
            "1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match",
            "2 FromAsCasing: 'AS' and 'from' keywords' casing do not match",
            "2 DuplicateStageName: Duplicate stage name \"base\", stage names should be unique",
            "3 ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\"",
            "2 ConsistentInstructionCasing: Command 'from' should match the case of the command majority (uppercase)",
            "3 ConsistentInstructionCasing: Command 'From' should match the case of the command majority (uppercase)",
            "4 ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (uppercase)",
            "5 ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
        ]
    );
}

#[test]
fn empty_lines_are_told_first_and_where_the_instruction_ends() {
    assert_eq!(
        found("FROM a\nMAINTAINER b\nRUN c \\\n\n  d\nRUN e \\\n\n"),
        [
            "5 NoEmptyContinuation: Empty continuation line",
            "7 NoEmptyContinuation: Empty continuation line",
            "2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
        ]
    );
}

#[test]
fn descriptions_are_looked_at_where_that_is_asked_for() {
    let text = "# bar this\nARG foo=bar\n# BasE this\nFROM scratch AS base\n# bad\nARG version=latest\n# bad\nARG foo=baz bar=qux\n# bar right\nARG foo bar\n# bad\n#\nARG x\n# bad\nCOPY a b\n";
    assert_eq!(found(text), [""; 0]);
    assert_eq!(
        found(&format!("# check=experimental=InvalidDefinitionDescription\n{text}")),
        [
            "3 InvalidDefinitionDescription: Comment for ARG should follow the format: `# foo <description>`",
            "5 InvalidDefinitionDescription: Comment for FROM should follow the format: `# base <description>`",
            "7 InvalidDefinitionDescription: Comment for ARG should follow the format: `# version <description>`",
            "9 InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>`",
        ]
    );
}

#[test]
fn directives_and_comments_turn_rules_off() {
    assert_eq!(found("# check=skip=MaintainerDeprecated\nFROM a\nMAINTAINER b\n"), [""; 0]);
    assert_eq!(found("# check=skip=all\nFROM a AS B\nrun b\n"), [""; 0]);
    assert_eq!(found("FROM a\n# check=skip=MaintainerDeprecated // why\nMAINTAINER b\n"), [""; 0]);
    assert_eq!(found("# check=skip=JSONArgsRecommended\nFROM a AS B\n").len(), 1);
    assert_eq!(found("FROM a\n# check=skip=MaintainerDeprecated\nRUN x\nMAINTAINER b\n").len(), 1);
    assert_eq!(found("FROM a\n# check=nonsense\nMAINTAINER b\n").len(), 1);
}
