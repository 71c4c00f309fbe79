//! Files of builders, as pack writes them: `order.toml`, `system.toml`, `stack.toml`, `run.toml`, and those of variables.
//!
//! In: what they say. Out: TOML with the spaces, empty lines and order of fields of the library that pack uses, so that layers
//! of equal builders are equal. Source: BurntSushi/toml, "Encoder".

use std::collections::BTreeMap;

use super::builder_file::{BuilderFile, ConfigVariable, RunImage, VariableSuffix};
use crate::{Order, OrderElement, System, SystemBuildpacks};

/// Returns `order.toml`.
pub fn order_text(order: &Order, extensions: &Order) -> String {
    let mut out = String::new();
    for (name, order) in [("order", order), ("order-extensions", extensions)] {
        for group in order {
            head(&mut out, 0, &format!("[[{name}]]"));
            elements(&mut out, &format!("{name}.group"), 1, &group.group);
        }
    }
    out
}

/// Returns `system.toml`.
pub fn system_text(system: &System) -> String {
    let mut out = String::new();
    head(&mut out, 0, "[system]");
    for (name, SystemBuildpacks { buildpacks }) in [("pre", &system.pre), ("post", &system.post)] {
        if !buildpacks.is_empty() {
            // Only tables at the top have an empty line before them.
            out.push_str(&format!("  [system.{name}]\n"));
            elements(&mut out, &format!("system.{name}.buildpacks"), 2, buildpacks);
        }
    }
    out
}

/// Returns `run.toml`.
pub fn run_text(file: &BuilderFile) -> String {
    let mut out = String::new();
    for image in &file.run.images {
        head(&mut out, 0, "[[images]]");
        names(&mut out, image);
    }
    out
}

/// Returns `stack.toml`.
pub fn stack_text(file: &BuilderFile) -> String {
    let mut out = String::new();
    let of_stack =
        RunImage { image: file.stack.run_image.clone(), mirrors: file.stack.run_image_mirrors.clone() };
    let image = if file.stack.id.is_empty() { file.run.images.first() } else { Some(&of_stack) };
    if let Some(image) = image {
        head(&mut out, 0, "[run-image]");
        names(&mut out, image);
    }
    out
}

/// Returns the files of variables, by name.
pub fn environment_files(variables: &[ConfigVariable]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for ConfigVariable { name, value, suffix, delim } in variables {
        let suffix = match suffix {
            VariableSuffix::None => "",
            VariableSuffix::Default => ".default",
            VariableSuffix::Override => ".override",
            VariableSuffix::Append => ".append",
            VariableSuffix::Prepend => ".prepend",
        };
        if !delim.is_empty() {
            files.insert(format!("{name}.delim"), delim.clone());
        }
        files.insert(format!("{name}{suffix}"), value.clone());
    }
    files
}

/// Writes the line of a table, behind an empty one.
fn head(out: &mut String, depth: usize, line: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(&format!("{}{line}\n", "  ".repeat(depth)));
}

fn elements(out: &mut String, name: &str, depth: usize, all: &[OrderElement]) {
    for OrderElement { id, version, optional, exec_env } in all {
        head(out, depth, &format!("[[{name}]]"));
        let indent = "  ".repeat(depth + 1);
        for (key, value) in [("id", id), ("version", version)] {
            if !value.is_empty() {
                out.push_str(&format!("{indent}{key} = {}\n", quoted(value)));
            }
        }
        if !exec_env.is_empty() {
            out.push_str(&format!("{indent}exec-env = {}\n", list(exec_env)));
        }
        if *optional {
            out.push_str(&format!("{indent}optional = true\n"));
        }
    }
}

fn names(out: &mut String, image: &RunImage) {
    out.push_str(&format!("  image = {}\n", quoted(&image.image)));
    if let Some(mirrors) = &image.mirrors {
        out.push_str(&format!("  mirrors = {}\n", list(mirrors)));
    }
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            other if other < ' ' || other == '\u{7f}' => out.push_str(&format!("\\u{:04x}", other as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OrderFile, OrderGroup, RunFile};

    fn element(id: &str, optional: bool) -> OrderElement {
        OrderElement { id: id.into(), version: "1".into(), optional, exec_env: Vec::new() }
    }

    #[test]
    fn orders() {
        let order = vec![
            OrderGroup { group: vec![element("a/b", false), element("c", true)] },
            OrderGroup { group: vec![element("d", false)] },
        ];
        let text = order_text(&order, &Vec::new());
        let expected = "[[order]]\n\n  [[order.group]]\n    id = \"a/b\"\n    version = \"1\"\n\n  [[order.group]]\n    \
                        id = \"c\"\n    version = \"1\"\n    optional = true\n\n[[order]]\n\n  [[order.group]]\n    id = \"d\"\n    \
                        version = \"1\"\n";
        assert_eq!(text, expected);
        assert_eq!(OrderFile::parse(text.as_bytes()).expect("reads").order, order);
        let system =
            System { post: SystemBuildpacks { buildpacks: vec![element("z", false)] }, ..System::default() };
        assert_eq!(System::parse(system_text(&system).as_bytes()).expect("reads"), system);
    }

    #[test]
    fn names_of_bases() {
        let file = BuilderFile::parse(
            "[build]\nimage='b'\n[[run.images]]\nimage='a\"b'\nmirrors=['m','n']\n[[run.images]]\nimage='c'\n",
        );
        let file = file.expect("reads");
        let text = run_text(&file);
        assert_eq!(
            text,
            "[[images]]\n  image = \"a\\\"b\"\n  mirrors = [\"m\", \"n\"]\n\n[[images]]\n  image = \"c\"\n"
        );
        assert_eq!(RunFile::parse(text.as_bytes()).expect("reads").images.len(), 2);
        assert_eq!(stack_text(&file), "[run-image]\n  image = \"a\\\"b\"\n  mirrors = [\"m\", \"n\"]\n");
    }

    #[test]
    fn variables() {
        let variable = |name: &str, suffix, delim: &str| ConfigVariable {
            name: name.into(),
            value: "v".into(),
            suffix,
            delim: delim.into(),
        };
        let files = environment_files(&[
            variable("A", VariableSuffix::Append, ":"),
            variable("B", VariableSuffix::None, ""),
        ]);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["A.append", "A.delim", "B"]);
    }
}
