//! `--binding`: services that buildpacks are bound to.
//!
//! In: names and folders, as typed. Out: [`Binding`]s, and in the session what is secret of them. Files are read once, before anything
//! begins. As cluster managers lay them out, a file may be a link, and what begins with `..` is theirs.
//! **Invariant:** what is secret goes into the session alone.

use std::path::Path;

use rb_buildpacks::frontend::{Binding, BindingFile, BindingText, Volume};
use rb_session::{LocalSession, Secret};

use crate::args::PackBinding;
use crate::report::Failure;
use crate::world::read_regular;

/// Largest file of a binding.
const LIMIT_BYTES: u64 = 1 << 20;
/// Files that one may have.
const MOST_FILES: usize = 256;
/// Where they lie for buildpacks.
const PLACE: &str = "/platform/bindings";

/// Reads bindings.
pub(super) fn read(
    cwd: &Path,
    words: &[PackBinding],
    volumes: &[Volume],
    session: &mut LocalSession,
) -> Result<Vec<Binding>, Failure> {
    let is_over =
        |target: &str| target == PLACE || target.starts_with(&format!("{PLACE}/")) || target == "/platform";
    if let Some(volume) = volumes.iter().find(|volume| is_over(&volume.target)).filter(|_| !words.is_empty())
    {
        let help = Some("lend all of them by `--binding`, or all by `--volume`".to_owned());
        return Err(Failure::input(
            format!("--volume {} lies where --binding lays its files", volume.target),
            help,
        ));
    }
    let mut all: Vec<Binding> = Vec::with_capacity(words.len());
    for word in words {
        if all.iter().any(|other| other.name == word.name) {
            return Err(Failure::input(format!("--binding names `{}` twice", word.name), None));
        }
        all.push(one(cwd, word, session)?);
    }
    Ok(all)
}

fn one(cwd: &Path, word: &PackBinding, session: &mut LocalSession) -> Result<Binding, Failure> {
    let (name, shown) = (&word.name, word.folder.display());
    let wrong = |what: String| Failure::input(format!("--binding {name}: {what}"), None);
    let place = cwd.join(&word.folder);
    let unread = |error: std::io::Error| wrong(format!("`{shown}` cannot be read: {error}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&place).map_err(unread)? {
        let file = entry.map_err(unread)?.file_name();
        let file = file.to_str().ok_or_else(|| wrong(format!("`{shown}` holds a name that is no text")))?;
        if file.starts_with("..") {
            continue;
        }
        if files.len() == MOST_FILES {
            return Err(wrong(format!("`{shown}` holds more than {MOST_FILES} files")));
        }
        let bytes = read_regular(&place.join(file), LIMIT_BYTES)
            .map_err(|error| wrong(format!("`{file}`: {}", rb_diag::chain(&error))))?;
        let text = if Binding::is_public(file) {
            BindingText::Public(bytes)
        } else {
            let id = format!("binding/{name}/{file}");
            *session = std::mem::take(session).with_secret(id.clone(), Secret::new(bytes));
            BindingText::Secret(id)
        };
        files.push(BindingFile { name: file.to_owned(), text });
    }
    files.sort_by(|left, right| left.name.cmp(&right.name));
    if !files.iter().any(|file| file.name == "type") {
        let message = format!("--binding {name}: `{shown}` holds no file `type`");
        return Err(Failure::input(
            message,
            Some("buildpacks find a binding by it: write `postgresql`, say".to_owned()),
        ));
    }
    Ok(Binding { name: name.clone(), files })
}

#[cfg(test)]
mod tests {
    use rb_session::Session as _;

    use super::*;

    #[test]
    fn what_a_binding_is_and_what_it_hides() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("db");
        std::fs::create_dir_all(place.join("..data")).expect("makes");
        std::fs::write(place.join("..data/password"), "hunter2").expect("writes");
        std::os::unix::fs::symlink("..data/password", place.join("password")).expect("links");
        let read_all = |words: &[&str], session: &mut LocalSession| {
            let words: Vec<PackBinding> = words.iter().map(|word| word.parse().expect("a word")).collect();
            read(folder.path(), &words, &[], session)
        };
        let mut session = LocalSession::default();
        assert!(read_all(&["db=db"], &mut session).is_err(), "no type");
        std::fs::write(place.join("type"), "postgresql").expect("writes");
        let all = read_all(&["db=db"], &mut session).expect("reads");
        let text = |name: &str| {
            let found = all[0].files.iter().find(|file| file.name == name);
            found.map(|file| file.text.clone())
        };
        assert_eq!(text("type"), Some(BindingText::Public(b"postgresql".to_vec())));
        assert_eq!(text("password"), Some(BindingText::Secret("binding/db/password".to_owned())));
        assert_eq!(all[0].files.len(), 2);
        assert_eq!(session.secret("binding/db/password"), Some(Secret::new("hunter2")));
        assert!(read_all(&["db=db", "db=db"], &mut session).is_err(), "twice");
        assert!(read_all(&["db=none"], &mut session).is_err());
        std::fs::create_dir(place.join("folder")).expect("makes");
        assert!(read_all(&["db=db"], &mut session).is_err(), "a folder");
    }
}
