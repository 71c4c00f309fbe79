//! Zip archives of strangers, unpacked: an app as a `.zip`, `.jar` or `.war`.
//!
//! In: a file, and a folder that is empty. Out: the folder with all that the archive holds. Permissions are those that were noted on a
//! Unix; what was packed where there are none, anybody may read, write and run. Times are not kept. Links come last, so that nothing
//! is written through one.
//! **Invariant:** every name leads into the folder, and so does every link, whatever other links it leads over; entries, their
//! names and their contents are bounded; who owns the folder can read all and take it away.
//! Source: APPNOTE.TXT, 4.3 and 4.4; pack's archives, for the permissions.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use zip::read::ZipFile;
use zip::{System, ZipArchive};

use crate::SourceError;
use crate::bundle::{refused, shown};
use crate::unpack::inside;

/// What an archive may hold.
#[derive(Clone, Copy, Debug)]
struct Limits {
    entries: usize,
    content_bytes: u64,
    name_bytes: usize,
}

/// No app has a tenth of it.
const LIMITS: Limits = Limits { entries: 500_000, content_bytes: 32 << 30, name_bytes: 64 << 20 };

/// Longest target of a link.
const TARGET_BYTES: u64 = 4096;

/// How archives begin: with a file, or with their end where they hold none.
const STARTS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// How the record begins that ends an archive and says where the list of its entries is.
const END: &[u8] = b"PK\x05\x06";

/// How far from the end of a file that record may begin: behind it lies a comment alone.
const END_BYTES: u64 = 22 + 65_535;

/// Tells whether a file is a zip archive: it begins as one, or, with something else before it, ends as one.
///
/// # Errors
/// The file cannot be read.
pub fn is_zip(file: &mut File) -> io::Result<bool> {
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(4).read_to_end(&mut start)?;
    let mut end = Vec::new();
    let size_bytes = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(size_bytes.saturating_sub(END_BYTES)))?;
    file.by_ref().take(END_BYTES).read_to_end(&mut end)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(STARTS.contains(&start.as_slice()) || end.windows(END.len()).any(|part| part == END))
}

/// Unpacks an archive into a folder that is there and empty.
///
/// # Errors
/// `Bundle` says what is wrong with the archive; `Read`, that the folder cannot be written to.
pub fn unpack(file: File, folder: &Path) -> Result<(), SourceError> {
    unpack_within(file, folder, LIMITS)
}

fn unpack_within(file: File, folder: &Path, limits: Limits) -> Result<(), SourceError> {
    let mut archive = ZipArchive::new(io::BufReader::new(file)).map_err(damaged)?;
    if archive.len() > limits.entries {
        return Err(refused(format!("it holds more than {} entries", limits.entries)));
    }
    let mut unpacked = Unpacked {
        folder,
        left_bytes: limits.content_bytes,
        limits,
        names_left: limits.name_bytes,
        folders: Vec::new(),
        links: Vec::new(),
    };
    for index in 0..archive.len() {
        unpacked.entry(&mut archive.by_index(index).map_err(damaged)?)?;
    }
    unpacked.finish()
}

fn damaged(error: impl std::fmt::Display) -> SourceError {
    refused(format!("it is damaged, or packed in a way that is not read here: {error}"))
}

/// An archive on its way into a folder.
struct Unpacked<'a> {
    folder: &'a Path,
    limits: Limits,
    left_bytes: u64,
    names_left: usize,
    /// Folders with the permissions that they get once all is in them.
    folders: Vec<(PathBuf, u32)>,
    /// Links, and where they lead.
    links: Vec<(PathBuf, Vec<u8>)>,
}

impl Unpacked<'_> {
    fn entry<R: Read>(&mut self, entry: &mut ZipFile<'_, R>) -> Result<(), SourceError> {
        let name = entry.name_raw().to_vec();
        self.names_left = self
            .names_left
            .checked_sub(name.len())
            .ok_or_else(|| refused(format!("its names have more than {} bytes", self.limits.name_bytes)))?;
        let told = shown(&String::from_utf8_lossy(&name));
        let wrong = |reason: &str| refused(format!("entry `{told}` {reason}"));
        if name.starts_with(b"/") {
            return Err(wrong("has an absolute name"));
        }
        let path = inside(&name).map_err(wrong)?;
        let place = self.folder.join(&path);
        let failed = |source| SourceError::Read { path: place.clone(), source };
        let is_taken = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                wrong("lies where another one does")
            }
            _ => failed(error),
        };
        let parent = if entry.is_dir() { Some(place.as_path()) } else { place.parent() };
        if let Some(parent) = parent {
            fs::create_dir_all(parent).map_err(is_taken)?;
        }
        let mode = mode_of(entry.system(), entry.unix_mode(), entry.is_dir());
        if entry.is_dir() {
            self.folders.push((place, mode));
        } else if entry.is_symlink() {
            let mut target = Vec::new();
            entry.take(TARGET_BYTES + 1).read_to_end(&mut target).map_err(damaged)?;
            if target.is_empty() || target.len() as u64 > TARGET_BYTES || target.contains(&0) {
                return Err(wrong("is a link without a target that can be"));
            }
            if !stays_inside(&path, &target) {
                return Err(wrong("is a link that leads out of the archive"));
            }
            self.links.push((path, target));
        } else {
            let mut file = File::create_new(&place).map_err(is_taken)?;
            let mut content = entry.take(self.left_bytes.saturating_add(1));
            let mut buffer = vec![0; 128 << 10];
            loop {
                // What cannot be read is the archive's fault; what cannot be written, the folder's.
                let count = content.read(&mut buffer).map_err(damaged)?;
                if count == 0 {
                    break;
                }
                self.left_bytes = self.left_bytes.checked_sub(count as u64).ok_or_else(|| {
                    refused(format!("it unpacks to more than {} bytes", self.limits.content_bytes))
                })?;
                io::Write::write_all(&mut file, &buffer[..count]).map_err(failed)?;
            }
            file.set_permissions(Permissions::from_mode(mode | 0o400)).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes the links, and gives folders their permissions.
    fn finish(self) -> Result<(), SourceError> {
        let root = fs::canonicalize(self.folder);
        let root = root.map_err(|source| SourceError::Read { path: self.folder.to_owned(), source })?;
        let wrong = |path: &Path, reason: &str| {
            refused(format!("entry `{}` {reason}", shown(&path.to_string_lossy())))
        };
        for (path, target) in &self.links {
            symlink(Path::new(std::ffi::OsStr::from_bytes(target)), self.folder.join(path))
                .map_err(|_| wrong(path, "lies where another one does"))?;
        }
        // Over other links one may lead elsewhere than its own words say.
        for (path, _) in &self.links {
            if fs::canonicalize(self.folder.join(path)).is_ok_and(|real| !real.starts_with(&root)) {
                return Err(wrong(path, "is a link that leads out of the archive"));
            }
        }
        for (path, mode) in self.folders.iter().rev() {
            fs::set_permissions(path, Permissions::from_mode(mode | 0o700))
                .map_err(|source| SourceError::Read { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// Returns the permissions of an entry; what runs as somebody else is not kept.
fn mode_of(system: System, unix: Option<u32>, is_folder: bool) -> u32 {
    let otherwise = if is_folder { 0o755 } else { 0o644 };
    match system {
        // There are none, and nothing says what is a program.
        System::Dos | System::VFAT => 0o777,
        _ => unix.map(|mode| mode & 0o777).filter(|mode| *mode != 0).unwrap_or(otherwise),
    }
}

/// Tells whether a link's own words lead nowhere above the archive.
fn stays_inside(path: &Path, target: &[u8]) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in Path::new(std::ffi::OsStr::from_bytes(target)).components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    type Writer = ZipWriter<Cursor<Vec<u8>>>;

    fn options(mode: u32) -> SimpleFileOptions {
        SimpleFileOptions::default().unix_permissions(mode)
    }

    /// Unpacks what `fill` packs.
    fn unpacked(
        limits: Limits,
        fill: impl FnOnce(&mut Writer) -> zip::result::ZipResult<()>,
    ) -> (tempfile::TempDir, Result<(), SourceError>) {
        let mut writer = Writer::new(Cursor::new(Vec::new()));
        fill(&mut writer).expect("packs");
        let bytes = writer.finish().expect("ends").into_inner();
        of_bytes(&bytes, limits)
    }

    fn of_bytes(bytes: &[u8], limits: Limits) -> (tempfile::TempDir, Result<(), SourceError>) {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = folder.path().join("a.zip");
        fs::write(&archive, bytes).expect("writes");
        fs::create_dir(folder.path().join("out")).expect("makes");
        let file = File::open(&archive).expect("opens");
        let done = unpack_within(file, &folder.path().join("out"), limits);
        (folder, done)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("is there").permissions().mode() & 0o7777
    }

    #[test]
    fn all_that_an_app_has() {
        let (folder, done) = unpacked(LIMITS, |zip| {
            zip.add_directory("deep/", options(0o750))?;
            zip.start_file("deep/run", options(0o4755))?;
            zip.write_all(b"#!/bin/sh\n")?;
            zip.start_file("closed/secret", options(0o040))?;
            zip.write_all(&[b'x'; 300_000])?;
            zip.add_symlink("deep/link", "../closed/secret", options(0o777))?;
            zip.add_symlink("nowhere", "none/at/all", options(0o777))
        });
        done.expect("unpacks");
        let at = |path: &str| folder.path().join("out").join(path);
        assert_eq!(fs::read(at("deep/run")).expect("reads"), b"#!/bin/sh\n");
        assert_eq!((mode(&at("deep")), mode(&at("deep/run"))), (0o750, 0o755));
        assert_eq!((mode(&at("closed")) & 0o700, mode(&at("closed/secret"))), (0o700, 0o440));
        assert_eq!(fs::read(at("deep/link")).expect("leads there").len(), 300_000);
        assert_eq!(fs::read_link(at("nowhere")).expect("a link"), Path::new("none/at/all"));
        let archive = folder.path().join("a.zip");
        assert!(is_zip(&mut File::open(&archive).expect("opens")).expect("reads"));
        // As what unpacks itself is: a program before it.
        let before = [&b"#!/bin/sh\nexec java -jar $0\n"[..], &fs::read(&archive).expect("reads")].concat();
        fs::write(&archive, &before).expect("writes");
        assert!(is_zip(&mut File::open(&archive).expect("opens")).expect("reads"));
        of_bytes(&before, LIMITS).1.expect("unpacks");
        fs::write(&archive, "no archive").expect("writes");
        assert!(!is_zip(&mut File::open(&archive).expect("opens")).expect("reads"));
    }

    #[test]
    fn permissions_where_there_are_none() {
        assert_eq!(mode_of(System::Dos, Some(0o664), false), 0o777);
        assert_eq!(mode_of(System::VFAT, None, true), 0o777);
        assert_eq!(mode_of(System::Unix, Some(0o100_600), false), 0o600);
        assert_eq!((mode_of(System::Unix, None, false), mode_of(System::Unix, None, true)), (0o644, 0o755));
    }

    #[test]
    fn what_leads_out_is_refused() {
        let says = |done: Result<(), SourceError>| done.expect_err("is refused").to_string();
        for name in ["../x", "a/../../x", "/etc/x"] {
            let (_folder, done) = unpacked(LIMITS, |zip| zip.start_file(name, options(0o644)));
            let said = says(done);
            assert!(said.contains("leads out") || said.contains("absolute"), "{name}: {said}");
        }
        for (name, to) in [("x", "/etc/passwd"), ("x", "../x"), ("a/b", "../../x"), ("a/b", "c/../../../x")] {
            let (_folder, done) = unpacked(LIMITS, |zip| zip.add_symlink(name, to, options(0o777)));
            assert!(says(done).contains("leads out of the archive"), "{name} -> {to}");
        }
        // Each stays inside by its own words.
        let (_folder, done) = unpacked(LIMITS, |zip| {
            zip.add_directory("d/", options(0o755))?;
            zip.add_symlink("d/up", "..", options(0o777))?;
            zip.add_symlink("d/out", "up/../a.zip", options(0o777))
        });
        assert!(says(done).contains("`d/out` is a link that leads out of the archive"));
        let (folder, done) = unpacked(LIMITS, |zip| {
            zip.add_directory("d/", options(0o755))?;
            zip.add_symlink("l", "d", options(0o777))?;
            zip.start_file("l/x", options(0o644))
        });
        assert!(says(done).contains("lies where another one does"));
        assert!(!folder.path().join("out/d/x").exists());
    }

    #[test]
    fn what_is_too_much_or_damaged_is_refused() {
        let two = |zip: &mut Writer| {
            for name in ["one", "two"] {
                zip.start_file(name, options(0o644))?;
                zip.write_all(&[0; 1000])?;
            }
            Ok(())
        };
        for (limits, what) in [
            (Limits { entries: 1, ..LIMITS }, "1 entries"),
            (Limits { content_bytes: 1999, ..LIMITS }, "1999 bytes"),
            (Limits { name_bytes: 5, ..LIMITS }, "5 bytes"),
        ] {
            let (_folder, done) = unpacked(limits, two);
            let said = done.expect_err("is too much").to_string();
            assert!(said.contains(&format!("more than {what}")), "{said}");
        }
        unpacked(Limits { content_bytes: 2000, entries: 2, name_bytes: 6 }, two).1.expect("is not too much");
        let mut writer = Writer::new(Cursor::new(Vec::new()));
        two(&mut writer).expect("packs");
        let bytes = writer.finish().expect("ends").into_inner();
        for at in [0, 10, 40, bytes.len() - 30, bytes.len() - 8] {
            let mut broken = bytes.clone();
            broken[at] ^= 0x55;
            let (_folder, done) = of_bytes(&broken, LIMITS);
            if let Err(error) = done {
                assert!(matches!(error, SourceError::Bundle { .. }), "{error}");
            }
        }
        let (_folder, done) = of_bytes(&bytes[..bytes.len() - 30], LIMITS);
        assert!(matches!(done, Err(SourceError::Bundle { .. })));
    }
}
