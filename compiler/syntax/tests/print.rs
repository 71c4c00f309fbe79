//! Trees and diagnostics as text, one line each.

use std::fmt::Write as _;

use rb_diag::{Diagnostic, Severity, SourceFile, SourceId, Span};
use rb_syntax::{
    Arg, Base, Call, CommandLine, CopySource, CopyStmt, Parse, Parsed, Recipe, Run, SaveArtifact, SaveImage,
    Stmt, StmtKind, Word,
};

/// Makes a file of `text`.
pub(crate) fn source(text: &str) -> SourceFile {
    SourceFile::new(SourceId(0), "Buildfile", text)
}

/// Prints all that parsing gave.
pub(crate) fn print(file: &SourceFile, parse: &Parse) -> String {
    let printer = Printer { file };
    let mut out = String::new();
    let tree = &parse.buildfile;
    if let Some(version) = &tree.version {
        let flags: Vec<_> = version.flags.iter().map(|flag| format!(" {}", flag.value)).collect();
        writeln!(out, "{} version {:?}{}", printer.place(version.span), version.edition, flags.concat())
            .unwrap();
    }
    printer.statements(&mut out, &tree.base);
    for Recipe { name, doc, body } in &tree.targets {
        let doc = doc.as_ref().map_or(String::new(), |doc| format!(" {doc:?}"));
        writeln!(out, "{} target {}{doc}", printer.place(name.span), name.value).unwrap();
        printer.statements(&mut out, body);
    }
    for diagnostic in &parse.diagnostics {
        writeln!(out, "{}", printer.diagnostic(diagnostic)).unwrap();
    }
    out
}

struct Printer<'a> {
    file: &'a SourceFile,
}

impl Printer<'_> {
    fn place(&self, span: Span) -> String {
        let (start, end) = (self.file.position(span.start), self.file.position(span.end));
        format!("{}:{}-{}:{}", start.line, start.column, end.line, end.column)
    }

    fn diagnostic(&self, diagnostic: &Diagnostic) -> String {
        let place = diagnostic.labels.first().map_or(String::new(), |label| self.place(label.span));
        let severity = if diagnostic.severity == Severity::Warning { "warning " } else { "" };
        let mut out = format!("{place} {severity}{} {}", diagnostic.code, diagnostic.message);
        for label in diagnostic.labels.iter().skip(1) {
            write!(out, " [{} {}]", self.place(label.span), label.text).unwrap();
        }
        if let Some(help) = &diagnostic.help {
            write!(out, " / {help}").unwrap();
        }
        out
    }

    /// A word and where it stands; columns alone where that is one line.
    fn word(&self, word: &Word) -> String {
        format!("{}@{}", quoted(&word.raw), self.short(word.span))
    }

    fn short(&self, span: Span) -> String {
        let (start, end) = (self.file.position(span.start), self.file.position(span.end));
        if start.line == end.line { format!("{}-{}", start.column, end.column) } else { self.place(span) }
    }

    fn statements(&self, out: &mut String, statements: &[Stmt<Parsed>]) {
        for Stmt { kind, span } in statements {
            writeln!(out, "  {} {}", self.place(*span), self.kind(kind)).unwrap();
        }
    }

    fn kind(&self, kind: &StmtKind<Parsed>) -> String {
        match kind {
            StmtKind::From(Base::Scratch) => "from scratch".to_owned(),
            StmtKind::From(Base::Image(word)) => format!("from image {}", self.word(word)),
            StmtKind::From(Base::Host { binds, fingerprints }) => {
                let list = |words: &[Word]| {
                    words.iter().map(|word| format!(" {}", self.word(word))).collect::<String>()
                };
                format!("from host binds{} fingerprints{}", list(binds), list(fingerprints))
            }
            StmtKind::From(Base::Target(call)) => format!("from target {}", self.call(call)),
            StmtKind::Run(Run { network, no_cache, command }) => {
                let network = self.option("network", network.as_ref());
                format!("run{network}{} {}", flag("no-cache", *no_cache), self.command(command))
            }
            StmtKind::Copy(copy) => self.copy(copy),
            StmtKind::Arg(Arg { required, global, name, default }) => {
                let name = format!("{}@{}", name.value, self.short(name.span));
                let default = self.option("default", default.as_ref());
                format!("arg{}{} {name}{default}", flag("required", *required), flag("global", *global))
            }
            StmtKind::Env { name, value } => {
                format!("env {}@{} {}", name.value, self.short(name.span), self.word(value))
            }
            StmtKind::Workdir(word) => format!("workdir {}", self.word(word)),
            StmtKind::Entrypoint(command) => format!("entrypoint {}", self.command(command)),
            StmtKind::Cmd(command) => format!("cmd {}", self.command(command)),
            StmtKind::SaveArtifact(SaveArtifact {
                source,
                destination,
                local,
                if_exists,
                force,
                keep_times,
                symlink_no_follow,
            }) => format!(
                "save-artifact{}{}{}{} {}{}{}",
                flag("if-exists", *if_exists),
                flag("force", *force),
                flag("keep-ts", *keep_times),
                flag("symlink-no-follow", *symlink_no_follow),
                self.word(source),
                self.option("to", destination.as_ref()),
                self.option("local", local.as_ref()),
            ),
            StmtKind::SaveImage(SaveImage { names, push }) => {
                let names: String = names.iter().map(|name| format!(" {}", self.word(name))).collect();
                format!("save-image{}{names}", flag("push", *push))
            }
            StmtKind::Build(call) => format!("build {}", self.call(call)),
        }
    }

    fn copy(&self, copy: &CopyStmt<Parsed>) -> String {
        let CopyStmt {
            sources,
            destination,
            dir,
            if_exists,
            keep_times,
            keep_owner,
            symlink_no_follow,
            chmod,
            chown,
        } = copy;
        let sources: String = sources
            .iter()
            .map(|source| match source {
                CopySource::Path(word) => format!(" path {}", self.word(word)),
                CopySource::Artifact { call, path } => {
                    format!(" artifact {} of {}", self.word(path), self.call(call))
                }
            })
            .collect();
        format!(
            "copy{}{}{}{}{}{}{}{sources} -> {}",
            flag("dir", *dir),
            flag("if-exists", *if_exists),
            flag("keep-ts", *keep_times),
            flag("keep-own", *keep_owner),
            flag("symlink-no-follow", *symlink_no_follow),
            self.option("chmod", chmod.as_ref()),
            self.option("chown", chown.as_ref()),
            self.word(destination),
        )
    }

    fn call(&self, call: &Call<Parsed>) -> String {
        let args: String = call
            .args
            .iter()
            .map(|arg| format!(" {}@{}={}", arg.name.value, self.short(arg.name.span), self.word(&arg.value)))
            .collect();
        format!("{}{args}", self.word(&call.target))
    }

    fn command(&self, command: &CommandLine) -> String {
        match command {
            CommandLine::Shell(word) => format!("shell {}", self.word(word)),
            CommandLine::Exec(words) => {
                let words: Vec<_> =
                    words.iter().map(|word| format!("{:?}@{}", word.value, self.short(word.span))).collect();
                format!("exec [{}]", words.join(", "))
            }
        }
    }

    fn option(&self, name: &str, word: Option<&Word>) -> String {
        word.map_or(String::new(), |word| format!(" {name}={}", self.word(word)))
    }
}

fn flag(name: &str, on: bool) -> String {
    if on { format!(" {name}") } else { String::new() }
}

/// `«text»`, with what is not seen made visible.
fn quoted(text: &str) -> String {
    format!("«{}»", text.replace('\n', "⏎").replace('\r', "␍").replace('\t', "⇥"))
}
