//! The lossless tree and the tree as JSON.

use rb_syntax::{Node, parse, to_json, tree};

use crate::corpus::cases;
use crate::print::source;

/// A node as `rule(children)`, a token as `rule «text»`.
fn outline(node: &Node, text: &str, depth: usize, out: &mut String) {
    let shown = &text[node.span.start as usize..node.span.end as usize];
    out.push_str(&"  ".repeat(depth));
    out.push_str(node.rule);
    if node.children.is_empty() {
        out.push_str(&format!(" {shown:?}"));
    }
    out.push('\n');
    node.children.iter().for_each(|child| outline(child, text, depth + 1, out));
}

#[test]
fn every_file_of_the_corpus_comes_back_byte_for_byte() {
    for case in ["ok", "err"].into_iter().flat_map(cases) {
        let file = source(&case.text);
        let tree = tree(&file);
        assert_eq!(tree.print(&file), case.text, "{} {}", case.file, case.name);
        assert_eq!(tree.root.rule, "buildfile");
        let entries = ["entry", "byte_order_mark", "too_deep"];
        assert!(tree.root.children.iter().all(|node| entries.contains(&node.rule)), "{}", case.file);
    }
}

#[test]
fn nodes_are_named_by_the_grammar() {
    let text = "\u{FEFF}VERSION 1 # one\n\nt:\n\tRUN --push <<-E | cat \\\n  # why\n  \"a b\" # c\n\t\tx\n\tE\n  COPY (+u/a --b={{ c d }}) d\n  nonsense (x\n";
    let file = source(text);
    let mut out = String::new();
    outline(&tree(&file).root, text, 0, &mut out);
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("tree", out);
    });
}

#[test]
fn json_has_places_as_lines_and_columns() {
    let text = "VERSION 1\nt:\n    # é\n    IF a\n        COPY é b\n    END\n    RUNN x\nF:\n    FUNCTION\n";
    let file = source(text);
    let json = serde_json::to_string_pretty(&to_json(&parse(&file), &file)).unwrap();
    assert!(!json.contains("\"source\": 0"), "{json}");
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("json", json);
    });
}
