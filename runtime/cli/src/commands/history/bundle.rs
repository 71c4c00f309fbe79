//! A build's record as one file: `rb history export` and `import`.
//!
//! ```text
//! rb-ID.tar.zst
//!   record.json         the record, without the folder that was built
//!   lists/HEX           lists of files, by the digest that the record names them by
//!   logs/index, logs/1.log …
//! ```
//!
//! **Invariant:** what comes from a file is bounded, in memory and on the disk; no path in it is used as one, and a record that
//! cannot be read is not taken.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rb_oci::Digest;
use rb_store::{BuildList, Store};

use super::super::past::{self, Past};
use super::super::record::document::{Document, FORMAT};
use super::super::record::files::Files;
use super::super::table::LAST_SECOND;
use crate::args::{HistoryExportArgs, HistoryImportArgs};
use crate::environment::Environment;
use crate::report::{self, Failure};
use crate::settings;

/// So much of a record, of its lists together and of its logs together is taken in.
const MOST_RECORD: u64 = 32 << 20;
const MOST_LISTS: u64 = 64 << 20;
const MOST_LOGS: u64 = 1 << 30;

/// So many entries are passed through: a step has a log and a list at most.
const MOST_ENTRIES: usize = 20_000;

/// Writes a record and what goes with it.
pub(super) fn export(environment: &Environment, export: &HistoryExportArgs) -> Result<u8, Failure> {
    let root = settings::state_directory(environment)?;
    let past = past::find(&root, &export.build)?;
    let to_stdout = export.output.as_deref() == Some(Path::new("-"));
    if to_stdout && report::is_terminal() {
        let help = "name a file, or send it on: `rb history export -o - | …`".to_owned();
        return Err(Failure::input("a record is not for a terminal", Some(help)));
    }
    let path = export.output.clone().unwrap_or_else(|| format!("rb-{}.tar.zst", past.id()).into());
    let path = environment.cwd.join(path);
    let failed =
        |error: io::Error| Failure::environment(&format!("`{}` cannot be written", path.display()), &error);
    if to_stdout {
        write(&root, &past, export.no_logs, io::stdout().lock()).map_err(failed)?;
        return Ok(0);
    }
    let file = File::create(&path).map_err(failed)?;
    write(&root, &past, export.no_logs, file).map_err(failed)?;
    report::tell(&format!("wrote {}\n", path.display()));
    Ok(0)
}

fn write(root: &Path, past: &Past, no_logs: bool, out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(out, 3)?);
    let mut add = |name: &str, size_bytes: u64, bytes: &mut dyn Read| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size_bytes);
        header.set_mode(0o644);
        header.set_mtime(past.document.started_unix_ms / 1000);
        tar.append_data(&mut header, name, bytes)
    };
    let document = past.document.clone().into_imported();
    let record = serde_json::to_vec(&document)?;
    add("record.json", record.len() as u64, &mut &record[..])?;
    let lists: std::collections::BTreeSet<Digest> =
        document.steps.iter().filter_map(|step| step.files).collect();
    for digest in lists {
        if let Ok(Some(list)) = rb_store::build_list(root, &digest) {
            add(&format!("lists/{}", digest.hex()), list.len() as u64, &mut &list[..])?;
        }
    }
    let name = past.file.name.trim_end_matches(".json");
    let folders = rb_store::logs(root).map_err(io::Error::other)?;
    for folder in folders.iter().filter(|folder| folder.name == name && !no_logs) {
        for entry in std::fs::read_dir(&folder.path)? {
            let entry = entry?;
            let file = File::open(entry.path())?;
            let size_bytes = file.metadata()?.len();
            // One that is being written grows meanwhile.
            let name = format!("logs/{}", entry.file_name().to_string_lossy());
            add(&name, size_bytes, &mut file.take(size_bytes))?;
        }
    }
    tar.into_inner()?.finish()?.flush()
}

/// Takes records in.
pub(super) fn import(environment: &Environment, import: &HistoryImportArgs) -> Result<u8, Failure> {
    let root = settings::state_directory(environment)?;
    let store = Store::open(&root)
        .map_err(|error| Failure::environment("the state directory cannot be opened", &error))?;
    for path in &import.files {
        let name = if path.as_os_str() == "-" { "stdin".to_owned() } else { format!("`{}`", path.display()) };
        let unreadable = |error: &io::Error| {
            let help = Some("`rb history export` writes what can be taken in".to_owned());
            Failure::input(format!("{name} is no record of a build: {error}"), help)
        };
        let spool =
            spool(&store).map_err(|error| Failure::environment("no temporary file can be made", &error))?;
        let bundle = if path.as_os_str() == "-" {
            Bundle::read(io::stdin().lock(), spool)
        } else {
            let file = File::open(environment.cwd.join(path))
                .map_err(|error| Failure::input(format!("{name} cannot be read: {error}"), None))?;
            Bundle::read(file, spool)
        };
        let bundle = bundle.map_err(|error| unreadable(&error))?;
        let id = bundle.keep(&root, &store)?;
        report::print(format!("{id}\n").as_bytes())?;
    }
    Ok(0)
}

/// Makes a file without a name, which goes with its handle.
fn spool(store: &Store) -> io::Result<File> {
    let path = store.temp_path();
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// What came out of a file.
struct Bundle {
    document: Document,
    lists: BTreeMap<Digest, Vec<u8>>,
    /// Where each log begins in the spool, and how long it is.
    logs: BTreeMap<String, (u64, u64)>,
    spool: File,
}

impl Bundle {
    /// Reads a file; its logs go through `spool`, which is empty.
    fn read(from: impl Read, mut spool: File) -> io::Result<Self> {
        let all = MOST_RECORD + MOST_LISTS + MOST_LOGS + (64 << 20);
        let mut tar = tar::Archive::new(zstd::Decoder::new(from)?.take(all));
        let (mut document, mut lists, mut logs) = (None, BTreeMap::new(), BTreeMap::new());
        let (mut of_lists, mut of_logs) = (MOST_LISTS, MOST_LOGS);
        // Raw: an extension for long names would be read into memory, and no name here is long.
        for (place, entry) in tar.entries()?.raw(true).enumerate() {
            let mut entry = entry?;
            if place == MOST_ENTRIES {
                return Err(too_large());
            }
            let name = entry.path()?.to_string_lossy().into_owned();
            if name == "record.json" {
                let bytes = bounded(&mut entry, &mut MOST_RECORD.clone())?;
                document = Some(checked(serde_json::from_slice::<Document>(&bytes)?)?);
            } else if let Some(digest) =
                name.strip_prefix("lists/").and_then(|hex| format!("sha256:{hex}").parse().ok())
            {
                let bytes = bounded(&mut entry, &mut of_lists)?;
                if Files::read(&bytes).is_none() {
                    return Err(io::Error::other(format!("`{name}` is no list of files")));
                }
                lists.insert(digest, bytes);
            } else if let Some(name) = name.strip_prefix("logs/").filter(|name| is_log(name)) {
                let size_bytes = room(&entry, &mut of_logs)?;
                let start = spool.stream_position()?;
                whole(io::copy(&mut entry.take(size_bytes), &mut spool)?, size_bytes)?;
                logs.insert(name.to_owned(), (start, size_bytes));
            }
        }
        let document = document.ok_or_else(|| io::Error::other("there is no record in it"))?;
        Ok(Self { document, lists, logs, spool })
    }

    /// Keeps it and returns its id.
    fn keep(self, root: &Path, store: &Store) -> Result<String, Failure> {
        let Self { document, lists, logs, mut spool } = self;
        let failed = |error: &dyn std::error::Error| Failure::environment("the record cannot be kept", error);
        let document = document.into_imported();
        let began = Duration::from_millis(document.started_unix_ms);
        if !logs.is_empty() {
            let folder = store.begin_logs(began).map_err(|error| failed(&error))?;
            for (name, (start, size_bytes)) in &logs {
                let mut copy = || {
                    spool.seek(SeekFrom::Start(*start))?;
                    io::copy(&mut (&spool).take(*size_bytes), &mut File::create(folder.join(name))?)
                };
                copy().map_err(|error| failed(&error))?;
            }
        }
        let make: Vec<_> = lists.iter().map(|(digest, bytes)| (*digest, || bytes.clone())).collect();
        let lists: Vec<BuildList<'_>> =
            make.iter().map(|(digest, bytes)| BuildList { digest: *digest, bytes }).collect();
        let bytes = serde_json::to_vec(&document).expect("plain data serialises");
        let name = store.put_build_with(began, &bytes, &lists).map_err(|error| failed(&error))?;
        let files = past::files(root)?;
        let file = files.iter().find(|file| file.name == name).ok_or_else(|| {
            let help =
                "it is older than all that are kept, of which there are as many as are kept".to_owned();
            Failure::input("the record is dropped at once", Some(help))
        })?;
        Ok(Past { file: file.clone(), document }.id())
    }
}

/// Tells whether a file of the logs is named so.
fn is_log(name: &str) -> bool {
    let number = name.strip_suffix(".log").unwrap_or_default();
    name == "index" || !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Refuses a record that another version wrote, or of a time that is none.
fn checked(document: Document) -> io::Result<Document> {
    if document.format > FORMAT {
        let format = document.format;
        return Err(io::Error::other(format!("its format is {format}, and this rb knows {FORMAT} at most")));
    }
    if document.started_unix_ms / 1000 > LAST_SECOND {
        return Err(io::Error::other("it says that the build began after the year 9999"));
    }
    Ok(document)
}

/// Returns how long a file is, of which there is room for `left` bytes.
fn room(entry: &tar::Entry<'_, impl Read>, left: &mut u64) -> io::Result<u64> {
    *left = left.checked_sub(entry.size()).ok_or_else(too_large)?;
    Ok(entry.size())
}

/// Reads a file, of which there is room for `left` bytes.
fn bounded(entry: &mut tar::Entry<'_, impl Read>, left: &mut u64) -> io::Result<Vec<u8>> {
    let size_bytes = room(entry, left)?;
    let mut bytes = Vec::new();
    whole(entry.take(size_bytes).read_to_end(&mut bytes)? as u64, size_bytes)?;
    Ok(bytes)
}

/// Refuses a file that ends before its end.
fn whole(read_bytes: u64, size_bytes: u64) -> io::Result<()> {
    if read_bytes == size_bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn too_large() -> io::Error {
    io::Error::other("it is too large")
}

#[cfg(test)]
mod tests {
    use rb_api::{FileEntry, FileKind};

    use super::super::super::record::document::{RecordStep, Verdict};
    use super::*;

    fn packed(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).expect("opens"));
        for (name, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            // As no well-meaning program writes them.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *bytes).expect("in memory");
        }
        tar.into_inner().and_then(zstd::Encoder::finish).expect("in memory")
    }

    fn read(bytes: &[u8]) -> io::Result<Bundle> {
        Bundle::read(bytes, tempfile::tempfile().expect("a temporary file"))
    }

    fn refused(bytes: &[u8]) -> String {
        read(bytes).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_record_goes_from_one_state_directory_into_another() {
        let (here, there) = (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
        let (store, other) =
            (Store::open(here.path()).expect("opens"), Store::open(there.path()).expect("opens"));
        let entry = FileEntry { path: "f".to_owned(), kind: FileKind::Directory { mode: 0o755 } };
        let (files, digest) = (Files::of(vec![entry]), Digest::of("files"));
        let mut step = RecordStep::of("+t | COPY f", Digest::of("v"), Verdict::Ran);
        step.files = Some(digest);
        let document = Document {
            workspace: Some("/home/me".to_owned()),
            started_unix_ms: 5_000,
            steps: vec![step],
            ..Document::default()
        };
        let bytes = || files.to_bytes();
        let list = BuildList { digest, bytes: &bytes };
        let record = serde_json::to_vec(&document).expect("plain");
        let began = Duration::from_millis(5_000);
        store.put_build_with(began, &record, &[list]).expect("puts");
        let logs = store.begin_logs(began).expect("begins");
        std::fs::write(logs.join("1.log"), "said").expect("writes");
        std::fs::write(logs.join("2.log"), "more").expect("writes");
        let past = past::find(here.path(), "@1").expect("is there");
        let mut file = Vec::new();
        write(here.path(), &past, false, &mut file).expect("in memory");
        let bundle = Bundle::read(&file[..], spool(&other).expect("makes")).expect("reads");
        let id = bundle.keep(there.path(), &other).expect("keeps");
        let came = past::find(there.path(), &id).expect("is there").document;
        assert!(came.imported && came.workspace.is_none());
        assert_eq!(came.steps, document.steps);
        assert_eq!(past::list(there.path(), &digest), Some(files.clone()));
        let logs = rb_store::logs(there.path()).expect("lists");
        assert_eq!(std::fs::read(logs[0].path.join("1.log")).expect("reads"), b"said");
        assert_eq!(std::fs::read(logs[0].path.join("2.log")).expect("reads"), b"more");
        // Nothing of what came through is left beside it.
        assert_eq!(std::fs::read_dir(there.path().join("tmp")).expect("lists").count(), 0);
    }

    #[test]
    fn what_is_no_record_is_refused_and_strange_names_are_passed_over() {
        let empty = serde_json::to_vec(&Document::default()).expect("plain");
        assert!(read(b"text").is_err());
        assert!(read(&packed(&[("logs/index", b"")])).is_err());
        assert!(read(&packed(&[("record.json", b"{}")])).is_err());
        let digest = Digest::of("x").hex();
        let list = format!("lists/{digest}");
        assert!(read(&packed(&[("record.json", &empty), (&list, b"none")])).is_err());
        let strange = [
            ("record.json", &empty[..]),
            ("logs/../../x.log", b""),
            ("/etc/passwd", b""),
            ("logs/1.log", b"a"),
        ];
        let bundle = read(&packed(&strange)).expect("reads");
        assert_eq!(bundle.logs.keys().collect::<Vec<_>>(), ["1.log"]);
    }

    #[test]
    fn records_of_no_time_or_of_a_newer_format_are_refused() {
        let of = |format: u32, started_unix_ms: u64| {
            let document = Document { format, started_unix_ms, ..Document::default() };
            refused(&packed(&[("record.json", &serde_json::to_vec(&document).expect("plain"))]))
        };
        assert_eq!(of(FORMAT, 253_402_300_799_999), "");
        assert!(of(FORMAT, 253_402_300_800_000).contains("after the year 9999"));
        assert!(of(FORMAT, i64::MAX as u64).contains("after the year 9999"));
        assert!(of(FORMAT + 1, 0).contains(&format!("its format is {}", FORMAT + 1)));
    }

    #[test]
    fn a_long_name_is_not_read_into_memory() {
        let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).expect("opens"));
        let name = &b"logs/1.log\0"[..];
        let empty = serde_json::to_vec(&Document::default()).expect("plain");
        for (path, kind, bytes) in [
            ("record.json", tar::EntryType::Regular, &empty[..]),
            ("long", tar::EntryType::GNULongName, name),
            ("x", tar::EntryType::Regular, b"said"),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_entry_type(kind);
            tar.append_data(&mut header, path, bytes).expect("in memory");
        }
        let bytes = tar.into_inner().and_then(zstd::Encoder::finish).expect("in memory");
        assert!(read(&bytes).expect("reads").logs.is_empty());
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        // The sizes alone are there, and nothing of what they promise.
        let promised = |kind: tar::EntryType, name: &str, size_bytes: u64| {
            let mut header = tar::Header::new_ustar();
            header.set_size(size_bytes);
            header.set_entry_type(kind);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            zstd::encode_all(&header.as_bytes()[..], 1).expect("in memory")
        };
        let file = tar::EntryType::Regular;
        let list = format!("lists/{}", Digest::of("x").hex());
        for (name, most) in [("record.json", MOST_RECORD), (&list, MOST_LISTS), ("logs/1.log", MOST_LOGS)] {
            assert_eq!(refused(&promised(file, name, most + 1)), "it is too large", "{name}");
            assert_ne!(refused(&promised(file, name, most)), "it is too large", "{name}");
        }
        let empty = serde_json::to_vec(&Document::default()).expect("plain");
        let mut many = vec![("record.json", &empty[..])];
        many.resize(MOST_ENTRIES, ("logs/1.log", &b""[..]));
        assert_eq!(refused(&packed(&many)), "");
        many.push(("logs/1.log", b""));
        assert_eq!(refused(&packed(&many)), "it is too large");
    }
}
