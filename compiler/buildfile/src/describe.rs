//! A statement as one line of text, for progress and for the history of images.
//!
//! Made from the tree and not from the file, so that comments, indentation and continuation lines change nothing:
//! the history is part of an image's digest.

use rb_syntax::{Arg, Base, Call, CommandLine, CopySource, CopyStmt, SaveArtifact, Stmt, StmtKind};

use crate::resolve::{Reference, Resolved};

/// Returns a statement's line.
pub(crate) fn describe(stmt: &Stmt<Resolved>) -> String {
    let mut words: Vec<String> = Vec::new();
    match &stmt.kind {
        StmtKind::From(base) => {
            words.push("FROM".to_owned());
            from(base, &mut words);
        }
        StmtKind::Run(run) => {
            words.push("RUN".to_owned());
            words.extend(run.network.iter().map(|mode| format!("--network={}", mode.raw)));
            flag(&mut words, run.no_cache, "--no-cache");
            words.push(command(&run.command));
        }
        StmtKind::Copy(stmt) => copy(stmt, &mut words),
        StmtKind::Arg(stmt) => argument(stmt, &mut words),
        StmtKind::Env { name, value } => {
            words.extend(["ENV".to_owned(), format!("{}={}", name.value, value.raw)]);
        }
        StmtKind::Workdir(path) => words.extend(["WORKDIR".to_owned(), path.raw.clone()]),
        StmtKind::Entrypoint(line) => words.extend(["ENTRYPOINT".to_owned(), command(line)]),
        StmtKind::Cmd(line) => words.extend(["CMD".to_owned(), command(line)]),
        StmtKind::SaveArtifact(save) => artifact(save, &mut words),
        StmtKind::SaveImage(save) => {
            words.push("SAVE IMAGE".to_owned());
            flag(&mut words, save.push, "--push");
            words.extend(save.names.iter().map(|name| name.raw.clone()));
        }
        StmtKind::Build(callee) => words.extend(["BUILD".to_owned(), call(callee)]),
    }
    words.join(" ")
}

fn flag(words: &mut Vec<String>, is_set: bool, name: &str) {
    words.extend(is_set.then(|| name.to_owned()));
}

fn from(base: &Base<Resolved>, words: &mut Vec<String>) {
    match base {
        Base::Scratch => words.push("scratch".to_owned()),
        Base::Image(word) => words.push(word.raw.clone()),
        Base::Host { binds, fingerprints } => {
            words.push("@host".to_owned());
            words.extend(binds.iter().map(|bind| format!("--bind={}", bind.raw)));
            words.extend(fingerprints.iter().map(|command| format!("--fingerprint={}", command.raw)));
        }
        Base::Target(callee) => words.push(call(callee)),
    }
}

fn command(line: &CommandLine) -> String {
    match line {
        CommandLine::Shell(text) => text.raw.clone(),
        CommandLine::Exec(args) => {
            let args = args.iter().map(|arg| format!("{:?}", arg.value));
            format!("[{}]", args.collect::<Vec<_>>().join(","))
        }
    }
}

fn call(call: &Call<Resolved>) -> String {
    format!("{}{}", written(call), arguments(call))
}

fn written(call: &Call<Resolved>) -> &str {
    match &call.target {
        Reference::Settled { written, .. } => &written.raw,
        Reference::Dynamic(word) => &word.raw,
    }
}

fn arguments(call: &Call<Resolved>) -> String {
    call.args.iter().map(|arg| format!(" --{}={}", arg.name.value, arg.value.raw)).collect()
}

fn copy(stmt: &CopyStmt<Resolved>, words: &mut Vec<String>) {
    words.push("COPY".to_owned());
    flag(words, stmt.dir, "--dir");
    flag(words, stmt.if_exists, "--if-exists");
    flag(words, stmt.keep_times, "--keep-ts");
    flag(words, stmt.keep_owner, "--keep-own");
    flag(words, stmt.symlink_no_follow, "--symlink-no-follow");
    words.extend(stmt.chmod.iter().map(|mode| format!("--chmod={}", mode.raw)));
    words.extend(stmt.chown.iter().map(|owner| format!("--chown={}", owner.raw)));
    words.extend(stmt.sources.iter().map(|source| match source {
        CopySource::Path(path) => path.raw.clone(),
        CopySource::Artifact { call, path } if call.args.is_empty() => {
            format!("{}{}", written(call), path.raw)
        }
        CopySource::Artifact { call, path } => format!("({}{}{})", written(call), path.raw, arguments(call)),
    }));
    words.push(stmt.destination.raw.clone());
}

fn argument(stmt: &Arg, words: &mut Vec<String>) {
    words.push("ARG".to_owned());
    flag(words, stmt.required, "--required");
    flag(words, stmt.global, "--global");
    words.push(match &stmt.default {
        Some(default) => format!("{}={}", stmt.name.value, default.raw),
        None => stmt.name.value.clone(),
    });
}

fn artifact(save: &SaveArtifact, words: &mut Vec<String>) {
    words.push("SAVE ARTIFACT".to_owned());
    flag(words, save.if_exists, "--if-exists");
    flag(words, save.force, "--force");
    flag(words, save.keep_times, "--keep-ts");
    flag(words, save.symlink_no_follow, "--symlink-no-follow");
    words.push(save.source.raw.clone());
    words.extend(save.destination.iter().map(|name| name.raw.clone()));
    words.extend(save.local.iter().map(|path| format!("AS LOCAL {}", path.raw)));
}
