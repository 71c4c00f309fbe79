//! Repositories of git elsewhere as sources.
//!
//! In: the identifier and attributes of a `git://` source, a [`Connection`] to the user's machine and to the host. Out:
//! the [`Pinned`] commit, which is nearly all of the key, and its files in a layer. Git itself is run, as the user,
//! outside of every sandbox ([`call`]): it speaks ssh as the user's other programs do, knows proxies, authorities and
//! every server there is. What is fetched is kept ([`repository`]) and shared. How, in order: `address` → `refs` →
//! `repository` → `tree`, or `clone` where `.git` is wanted; `modules` for submodules; `bundle` where a bundle is given or wanted.
//! Source: BuildKit's git source; its attributes are those of `rb_llb::attr`.

mod address;
mod bundle;
mod call;
mod clone;
mod commit;
mod error;
mod modules;
mod refs;
mod repository;
mod signed;
mod ssh;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rb_llb::attr;
use rb_oci::{Digest, Hasher};
use rb_session::{Secret, Session};
use rb_snapshot::{CopyOptions, Editor, View};
use rb_store::Store;

pub use address::Remote;
pub use bundle::{BundleFile, BundleName};
pub use call::{Call, Connection, ProgramError, Programs, Stream, Told};
pub use commit::Commit;
pub use error::GitError;
pub use refs::Pinned;
pub use signed::{SignedCommit, verify};

use crate::SourceError;
use crate::unpack::Ownership;

/// What of a repository is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRequest {
    /// Where it is.
    pub remote: Remote,
    /// Branch, tag, reference or commit; the branch that is checked out there where empty.
    pub reference: String,
    /// Folder in it; empty for all of it.
    pub subdir: PathBuf,
    /// Digits that the commit begins with.
    pub checksum: Option<String>,
    /// Whether `.git` is part of the tree.
    pub keep_git_dir: bool,
    /// Whether submodules stay empty folders.
    pub skip_submodules: bool,
    /// Whether `checksum` itself is asked for, whatever the name stands for now.
    pub fetch_by_commit: bool,
    /// Secret with the value of an `Authorization` header.
    pub header_secret: Option<String>,
    /// Secret with a token.
    pub token_secret: Option<String>,
    /// Lines of known_hosts.
    pub known_hosts: Option<String>,
    /// The agent that ssh asks for keys.
    pub ssh: Option<String>,
    /// How it must be signed.
    pub signed: Option<SignedCommit>,
    /// The bundle that its commits come from; else the repository itself.
    pub bundle: Option<BundleName>,
    /// Whether a bundle is wanted, not files.
    pub as_bundle: bool,
}

impl GitRequest {
    /// Reads a source: `git://` was taken off its identifier.
    ///
    /// # Errors
    /// `Attribute` and `Git` say what is malformed.
    pub fn parse(identifier: &str, attrs: &BTreeMap<String, String>) -> Result<Self, SourceError> {
        let (named, fragment) = Remote::parse(identifier)?;
        let full = attrs.get(attr::GIT_FULL_URL).filter(|url| !url.is_empty());
        let remote = match full {
            Some(url) => Remote::parse(url)?.0,
            None => named,
        };
        let (reference, subdir) =
            fragment.unwrap_or_default().split_once(':').unwrap_or((fragment.unwrap_or_default(), ""));
        refs::check_name(reference)?;
        let wrong = |name: &str, reason: &str| SourceError::Attribute {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        let subdir = match subdir.trim_matches('/') {
            "" | "." => PathBuf::new(),
            folder => {
                modules::inside(folder).ok_or_else(|| wrong("subdir", "it leads out of the repository"))?
            }
        };
        let text = |name: &str| attrs.get(name).filter(|text| !text.is_empty()).cloned();
        let is = |name: &str| attrs.get(name).is_some_and(|value| value == "true");
        let checksum = text(attr::GIT_CHECKSUM).map(|text| text.to_ascii_lowercase());
        let hex = |text: &String| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !checksum.as_ref().is_none_or(hex) {
            return Err(wrong(attr::GIT_CHECKSUM, "it is not the beginning of a commit"));
        }
        let fetch_by_commit = is(attr::GIT_FETCH_BY_COMMIT);
        if fetch_by_commit && !refs::is_commit(reference) && !checksum.as_deref().is_some_and(refs::is_commit)
        {
            return Err(wrong(
                attr::GIT_FETCH_BY_COMMIT,
                "it needs all digits of the commit, as checksum or reference",
            ));
        }
        if let Some(mtime) = text(attr::GIT_MTIME).filter(|text| text != "checkout" && text != "commit") {
            return Err(wrong(attr::GIT_MTIME, &format!("`{mtime}` is neither `checkout` nor `commit`")));
        }
        let bundle = BundleName::parse(attrs)?;
        let names_commit = |text: &Option<String>| text.as_deref().is_some_and(refs::is_commit);
        if bundle.is_some() && (checksum.is_none() || reference.is_empty() && !names_commit(&checksum)) {
            let reason = "a bundle needs the commit that is in it, with all its digits where no branch or tag is named";
            return Err(wrong(attr::GIT_CHECKSUM, reason));
        }
        let as_bundle = is(attr::GIT_CHECKOUT_BUNDLE);
        if as_bundle && (is(attr::GIT_KEEP_DIR) || !subdir.as_os_str().is_empty()) {
            return Err(wrong(
                attr::GIT_CHECKOUT_BUNDLE,
                "a bundle is a whole repository, without `.git` or a folder",
            ));
        }
        Ok(Self {
            reference: reference.to_owned(),
            // As in BuildKit, a folder of a repository is no repository.
            keep_git_dir: is(attr::GIT_KEEP_DIR) && subdir.as_os_str().is_empty(),
            subdir,
            checksum,
            skip_submodules: is(attr::GIT_SKIP_SUBMODULES),
            fetch_by_commit,
            header_secret: text(attr::GIT_AUTH_HEADER_SECRET),
            token_secret: text(attr::GIT_AUTH_TOKEN_SECRET),
            known_hosts: text(attr::GIT_KNOWN_SSH_HOSTS),
            ssh: text(attr::GIT_MOUNT_SSH_SOCK),
            signed: SignedCommit::parse(attrs)?,
            bundle,
            as_bundle,
            remote,
        })
    }

    /// Returns what is shown to the host, and to which: of secrets that are for this host alone the first that is lent,
    /// else of those for all, else what stands in the address, else what the client says of the host.
    pub fn authorization(&self, session: &dyn Session) -> Option<(String, Secret)> {
        let host = &self.remote.authority;
        let wanted = [(&self.header_secret, false), (&self.token_secret, true)];
        let names = [format!(".{host}"), String::new()].into_iter().flat_map(|suffix| {
            wanted
                .iter()
                .filter_map(move |(name, is_token)| Some((format!("{}{suffix}", name.as_ref()?), *is_token)))
        });
        let mut lent = names.filter_map(|(name, is_token)| Some((session.secret(&name)?, is_token)));
        let basic = |user: &[u8]| {
            let mut value = b"basic ".to_vec();
            value.extend_from_slice(STANDARD.encode(user).as_bytes());
            Secret::new(value)
        };
        let shown = match lent.next() {
            Some((secret, true)) => basic(&[b"x-access-token:", secret.as_ref().trim_ascii()].concat()),
            Some((secret, false)) => Secret::new(secret.as_ref().trim_ascii()),
            None => match &self.remote.login {
                Some(login) => basic(login.as_ref()),
                None => basic(session.git_access(&self.remote.origin()).login?.as_ref()),
            },
        };
        Some((self.remote.origin(), shown))
    }

    /// Returns what git calls instead of ssh, and for which origin, if the client says so.
    pub fn ssh_command(&self, session: &dyn Session) -> Option<(String, String)> {
        let origin = self.remote.origin();
        let command = session.git_access(&origin).ssh_command?;
        self.remote.is_ssh().then_some((origin, command))
    }

    /// Returns what the tree is recognised by.
    pub fn key(&self, pinned: &Pinned) -> Digest {
        let mut hasher = Hasher::default();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(&pinned.commit);
        add(&self.subdir.to_string_lossy());
        add(if self.skip_submodules { "no submodules" } else { "" });
        if self.keep_git_dir {
            // It is written into the repository's own folder.
            add(&self.remote.to_string());
            add(pinned.reference.as_deref().unwrap_or_default());
        }
        if self.as_bundle {
            add("bundle");
            add(&bundle::name_of(self, pinned));
        }
        hasher.finish().0
    }
}

/// Returns the commit that a request names by itself; nobody is asked.
pub fn pinned(request: &GitRequest) -> Result<Option<Pinned>, GitError> {
    refs::pinned(request)
}

/// Asks the host, or the bundle, what a request stands for now.
pub fn ask(connection: &Connection<'_>, request: &GitRequest) -> Result<Pinned, GitError> {
    if let Some(bundle) = connection.bundle {
        return refs::ask_bundle(connection, request, bundle);
    }
    refs::ask(&call::Git { connection, remote: &request.remote, local: false }, request)
}

/// Brings the commit of a request here, with all its files, and returns what it says of itself.
pub fn commit(
    connection: &Connection<'_>,
    request: &GitRequest,
    pinned: &Pinned,
) -> Result<Commit, GitError> {
    let repository =
        repository::Repository::open(connection, &request.remote, &pinned.commit, connection.bundle)?;
    commit::of(&repository, pinned)
}

/// Writes the files of a commit into a layer that is on nothing; what is not here of it is fetched.
pub fn write(
    connection: &Connection<'_>,
    request: &GitRequest,
    pinned: &Pinned,
    store: &Store,
    editor: &Editor<'_>,
    ownership: Ownership,
) -> Result<(), SourceError> {
    let GitRequest { remote, subdir, skip_submodules, .. } = request;
    if request.as_bundle {
        let folder = Temporary::new(store)?;
        return bundle::write(connection, request, pinned, &folder.path, editor, ownership);
    }
    if request.keep_git_dir {
        let folder = Temporary::new(store)?;
        let cloning = clone::Cloning { connection, skip_submodules: *skip_submodules };
        let time = cloning.run(remote, pinned, &folder.path)?;
        let options = CopyOptions {
            dir_copy_contents: true,
            owner: Some((0, 0)),
            normalise_modes: true,
            timestamp: Some(time),
            ..CopyOptions::default()
        };
        editor.copy(&View::of_directory(&folder.path), "/", "/", &options)?;
        return Ok(());
    }
    let mut writer = editor.layer_writer();
    let owner = match ownership {
        Ownership::Kept => Some((0, 0)),
        Ownership::RootOnly => None,
    };
    let mut export = tree::Export {
        connection,
        writer: &mut writer,
        skip_submodules: *skip_submodules,
        owner,
        modified_ns: None,
    };
    export.commit(remote, pinned, subdir, Path::new(""), 0)?;
    Ok(writer.finish()?)
}

/// A folder below the state directory, gone when dropped.
struct Temporary<'a> {
    store: &'a Store,
    path: PathBuf,
}

impl<'a> Temporary<'a> {
    fn new(store: &'a Store) -> Result<Self, SourceError> {
        let path = store.temp_path();
        std::fs::create_dir(&path).map_err(|error| repository::failed("create", &path, error))?;
        Ok(Self { store, path })
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.store.remove_tree(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a temporary folder stays");
        }
    }
}
