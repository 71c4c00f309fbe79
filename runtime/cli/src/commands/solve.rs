//! `rb solve`: a definition from a file or a pipe, built.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rb_api::{Course, PlatformImage, SolveError};
use rb_llb::{Definition, Graph, Op, SourceOp, attr};
use rb_oci::ImageConfig;
use rb_session::{LocalDir, LocalSession};

use super::exports::{self, Wanted};
use super::record::Asked;
use super::workbench::Workbench;
use super::{after, anew, build};
use crate::args::{OutputOptions, SolveArgs};
use crate::output_spec;
use crate::progress::Progress;
use crate::report::{Failure, is_terminal};
use crate::settings::Settings;
use crate::world::{ReadError, read_regular};

/// Largest definition that is read.
const LIMIT_BYTES: u64 = 256 << 20;

/// Solves it, lending what was named, and writes what was asked for.
pub(super) fn execute(settings: &Settings, solve: &SolveArgs, output: &OutputOptions) -> Result<u8, Failure> {
    let start = Instant::now();
    output_spec::check(&output.output, &settings.cwd, is_terminal())?;
    after::check_files(settings, output)?;
    let (title, bytes) = read(&settings.cwd, &solve.file)?;
    if bytes.is_empty() {
        let help = "`rb compile -o FILE +target` writes one".to_owned();
        return Err(Failure::input(format!("`{title}` is empty, not a definition"), Some(help)));
    }
    let definition = Definition::from_bytes(&bytes)?;
    // What is malformed is told before anything is opened.
    let graph = definition.graph()?;
    let mut session = LocalSession::default();
    for (name, dir) in &solve.local {
        let lent = LocalDir { path: folder(settings, dir)?, normalise_modes: false, hidden: Vec::new() };
        session = session.with_local(name, lent);
    }
    for (name, dir) in &solve.oci_layout {
        session = session.with_oci_layout(name, folder(settings, dir)?);
    }
    for (id, secret) in &settings.secrets {
        session = session.with_secret(id, secret.clone());
    }
    // A definition may be anybody's: it is lent what was named.
    for (id, agent) in &settings.agents {
        session = session.with_ssh(id, agent.clone());
    }
    let [platform] = settings.platforms.as_slice() else {
        let help = Some("name the one that it is for".to_owned());
        return Err(Failure::input("a definition is for one platform", help));
    };
    let mut wanted = Wanted::annotated(&output.annotation);
    let root = wanted.definition(&title, definition);
    for spec in &output.output {
        let image = PlatformImage { root, config: ImageConfig::scratch(platform) };
        wanted.output(spec, vec![image], None, &settings.cwd)?;
    }
    wanted.check_annotations(false)?;
    let exports::Asked { request, loads, notes } = wanted.asked();
    let bench = Workbench::open(settings, Asked::of("solve", &title), None)?;
    let mut progress = Progress::start(settings.display, &title);
    let solved = bench.run(async {
        let job =
            build::open_job(settings, &bench, Arc::new(session), bench.heard(progress.sink()), Course::Stop);
        let count = request.exports.len();
        let result = build::solve(job.as_ref(), request).await?;
        let loaded = after::load(&bench, output, &result, (count, &loads), notes).await?;
        Ok((result, loaded))
    });
    progress.finish();
    bench.close();
    let (result, loaded) = solved.map_err(|failure| with_lending(failure, &graph, solve))?;
    after::write_files(settings, output, &result, serde_json::Map::new())?;
    build::tell(settings, &title, &result, false, start)?;
    after::tell(settings, loaded);
    Ok(0)
}

/// Tells what to type where a source is not lent.
fn with_lending(mut failure: Failure, graph: &Graph, solve: &SolveArgs) -> Failure {
    if let Failure::Solve { error, .. } = &mut failure
        && let SolveError::Vertex { vertex, help, .. } = error.as_mut()
        && let Some(Op::Source(source)) = graph.get(vertex).map(|vertex| &vertex.op)
        && let Some(option) = missing_option(source, solve)
    {
        *help = Some(format!("lend it: `rb solve {} {option}`", solve.file.display()));
    }
    failure
}

/// Returns the option that would lend a source; none if it is lent, or is of another kind.
fn missing_option(source: &SourceOp, solve: &SolveArgs) -> Option<String> {
    let unless = |lent: &[(String, PathBuf)], option: &str, name: &str| {
        (!lent.iter().any(|(known, _)| known == name)).then(|| format!("{option} {name}=DIR"))
    };
    if let Some(name) = source.identifier.strip_prefix("local://") {
        return unless(&solve.local, "--local", name);
    }
    let name = source.identifier.strip_prefix("oci-layout://")?;
    let store = source.attrs.get(attr::OCI_STORE).map_or(name, String::as_str);
    unless(&solve.oci_layout, "--oci-layout", store)
}

fn read(cwd: &Path, file: &Path) -> Result<(String, Vec<u8>), Failure> {
    let title = if file.as_os_str() == "-" { "stdin".to_owned() } else { file.display().to_string() };
    let done = if file.as_os_str() == "-" {
        anew::forbid();
        let mut bytes = Vec::new();
        match std::io::stdin().lock().take(LIMIT_BYTES + 1).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 > LIMIT_BYTES => Err(ReadError::TooLarge { limit: LIMIT_BYTES }),
            Ok(_) => Ok(bytes),
            Err(error) => Err(ReadError::Io(error)),
        }
    } else {
        read_regular(&cwd.join(file), LIMIT_BYTES)
    };
    done.map(|bytes| (title.clone(), bytes)).map_err(|error| match error {
        ReadError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Failure::input(format!("file `{title}` does not exist"), None)
        }
        ReadError::Io(error) => Failure::environment(&format!("`{title}` cannot be read"), &error),
        ReadError::NotRegular => {
            let help = "`rb solve -` reads a definition from stdin".to_owned();
            Failure::input(format!("`{title}` is not a regular file"), Some(help))
        }
        told => Failure::input(format!("`{title}` {told}"), None),
    })
}

fn folder(settings: &Settings, dir: &Path) -> Result<PathBuf, Failure> {
    let path = settings.cwd.join(dir);
    if path.is_dir() {
        Ok(path)
    } else {
        Err(Failure::input(format!("folder `{}` does not exist", dir.display()), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_lent_has_an_option() {
        let solve = SolveArgs {
            build: crate::args::BuildOptions::default(),
            local: vec![("lent".to_owned(), PathBuf::from("."))],
            oci_layout: Vec::new(),
            output: Vec::new(),
            file: PathBuf::from("app.pb"),
        };
        let source = |identifier: &str, store: Option<&str>| SourceOp {
            identifier: identifier.to_owned(),
            attrs: store.map(|store| (attr::OCI_STORE.to_owned(), store.to_owned())).into_iter().collect(),
        };
        let option = |identifier, store| missing_option(&source(identifier, store), &solve);
        assert_eq!(option("local://context", None).as_deref(), Some("--local context=DIR"));
        assert_eq!(option("local://lent", None), None);
        let layout = option("oci-layout://base:1", Some("layouts"));
        assert_eq!(layout.as_deref(), Some("--oci-layout layouts=DIR"));
        assert_eq!(option("docker-image://alpine", None), None);
    }

    #[test]
    fn a_pipe_is_refused_at_once() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("x.pb"), rustix::fs::FileType::Fifo, mode, 0)
            .expect("makes a pipe");
        match read(dir.path(), Path::new("x.pb")) {
            Err(Failure::Said { message, .. }) => assert_eq!(message, "`x.pb` is not a regular file"),
            other => panic!("{other:?}"),
        }
    }
}
