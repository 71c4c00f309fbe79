//! What a vertex does, in a few words, for where its frontend chose no name.

use crate::{FileAction, FileActionKind, Op, Vertex};

/// Most characters of a display.
const MAX_CHARACTERS: usize = 160;

impl Vertex {
    /// Says what the vertex does, on one line: `exec /bin/sh -c make`, `copy /a -> /b`.
    pub fn display(&self) -> String {
        self.op.display()
    }
}

impl Op {
    /// Says what the op does, on one line.
    pub fn display(&self) -> String {
        let text = match self {
            Self::Source(source) => source.identifier.clone(),
            Self::Exec(exec) => format!("exec {}", exec.meta.args.join(" ")),
            Self::File(file) => {
                let actions: Vec<String> = file.actions.iter().map(file_action).collect();
                actions.join(", ")
            }
            Self::Build(build) => match build.attrs.get(crate::attr::LLB_DEFINITION_FILENAME) {
                Some(name) => format!("build {name}"),
                None => "build".to_owned(),
            },
            Self::Merge(merge) => format!("merge {} trees", merge.inputs.len()),
            Self::Diff(_) => "diff".to_owned(),
        };
        one_line(&text)
    }
}

fn file_action(action: &FileAction) -> String {
    match &action.kind {
        FileActionKind::Copy(copy) => format!("copy {} -> {}", copy.src, copy.dest),
        FileActionKind::Mkfile(mkfile) => format!("mkfile {}", mkfile.path),
        FileActionKind::Mkdir(mkdir) => format!("mkdir {}", mkdir.path),
        FileActionKind::Rm(rm) => format!("rm {}", rm.path),
        FileActionKind::Symlink(symlink) => format!("symlink {} -> {}", symlink.path, symlink.target),
    }
}

/// Joins lines, drops control characters and cuts what is too long.
fn one_line(text: &str) -> String {
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
    let mut line = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > 4 * MAX_CHARACTERS {
            break;
        }
    }
    match line.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CopyAction, ExecMeta, ExecOp, FileOp};

    fn exec(script: &str) -> Op {
        let args = ["/bin/sh", "-c", script].map(ToOwned::to_owned).to_vec();
        Op::Exec(ExecOp { meta: ExecMeta { args, ..ExecMeta::default() }, ..ExecOp::default() })
    }

    #[test]
    fn shows_commands_and_copies() {
        assert_eq!(exec("echo hi").display(), "exec /bin/sh -c echo hi");
        let copy = CopyAction { src: "/a".to_owned(), dest: "/b".to_owned(), ..CopyAction::default() };
        let kind = FileActionKind::Copy(copy);
        let action = FileAction { input: None, secondary_input: None, output: Some(0), kind };
        assert_eq!(Op::File(FileOp { actions: vec![action] }).display(), "copy /a -> /b");
    }

    #[test]
    fn stays_on_one_short_line() {
        assert_eq!(exec("a\n\t b\u{1b}[31m").display(), "exec /bin/sh -c a b [31m");
        let shown = exec(&"ü".repeat(1000)).display();
        assert_eq!(shown.chars().count(), MAX_CHARACTERS + 1);
        assert!(shown.ends_with('…'));
    }
}
