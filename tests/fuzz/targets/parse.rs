//! Any text as a build file: what always holds of the tree, the findings and the lossless tree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rb_diag::{SourceFile, SourceId, Span};
use rb_syntax::{Node, parse, to_json, tree};
use serde_json::Value;

fuzz_target!(|text: &str| {
    let file = SourceFile::new(SourceId(0), "Buildfile", text);
    let parse = parse(&file);
    for diagnostic in &parse.diagnostics {
        assert!(diagnostic.help.is_some(), "{diagnostic:?}");
        diagnostic.labels.iter().for_each(|label| check_span(label.span, text));
    }
    check_spans(&serde_json::to_value(&parse.buildfile).expect("trees serialize"), text);
    to_json(&parse, &file);
    let tree = tree(&file);
    assert_eq!(tree.print(&file), text);
    check_node(&tree.root, text);
});

/// Every span lies in the text, on borders of characters.
fn check_span(span: Span, text: &str) {
    assert!(span.start <= span.end, "{span:?}");
    assert!(
        text.is_char_boundary(span.start as usize) && text.is_char_boundary(span.end as usize),
        "{span:?}"
    );
}

fn check_spans(value: &Value, text: &str) {
    match value {
        Value::Object(fields) => {
            let number =
                |name| fields.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
            if let (Some(source), Some(start), Some(end)) = (number("source"), number("start"), number("end"))
            {
                check_span(Span { source: SourceId(source), start, end }, text);
            }
            fields.values().for_each(|field| check_spans(field, text));
        }
        Value::Array(items) => items.iter().for_each(|item| check_spans(item, text)),
        _ => {}
    }
}

/// Children cover their node without gap or overlap.
fn check_node(node: &Node, text: &str) {
    check_span(node.span, text);
    let mut at = node.span.start;
    for child in &node.children {
        assert!(child.span.start == at && child.span.end > at, "{} in {}", child.rule, node.rule);
        at = child.span.end;
        check_node(child, text);
    }
    assert!(node.children.is_empty() || at == node.span.end, "{}", node.rule);
}
