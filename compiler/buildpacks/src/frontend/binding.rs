//! Bindings: what programs of buildpacks are told of services, as files below `/platform/bindings`.
//!
//! In: the files of each binding. Out: places for them in the platform's files, and mounts. What a binding is, its `type` and `provider`,
//! is text of the step; all else is a secret, which is in no tree, no key and no log.
//! Source: servicebinding.io, "Workload Projection"; CNB's extension "Bindings".

use rb_llb::{ExecBuilder, FileBuilder, MkfileAction, SecretMount};

use super::steps::{PLATFORM, Site};

/// Files that say what a binding is, and no more.
const PUBLIC: [&str; 2] = ["type", "provider"];

/// What programs are told of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its name: that of its folder.
    pub name: String,
    /// Its files.
    pub files: Vec<BindingFile>,
}

/// A file of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingFile {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub text: BindingText,
}

/// What is in a file of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindingText {
    /// It may be known.
    Public(Vec<u8>),
    /// A secret of the session, by its id.
    Secret(String),
}

impl Binding {
    /// Whether a file of a binding says only what it is.
    pub fn is_public(file: &str) -> bool {
        PUBLIC.contains(&file)
    }
}

impl Site {
    /// Adds the places of bindings to the platform's files.
    pub(super) fn with_bindings(&self, files: FileBuilder) -> FileBuilder {
        self.bindings.iter().fold(files, |files, binding| {
            let folder = format!("/bindings/{}", binding.name);
            let files = files.mkdir(rb_llb::MkdirAction { owner: None, ..self.folder(&folder) });
            binding.files.iter().fold(files, |files, file| {
                let text: &[u8] = match &file.text {
                    BindingText::Public(text) => text,
                    BindingText::Secret(_) => &[],
                };
                let made = self.file(&format!("{folder}/{}", file.name), text);
                files.mkfile(MkfileAction { owner: None, ..made })
            })
        })
    }

    /// Mounts what is secret of bindings.
    pub(super) fn with_secrets(&self, exec: ExecBuilder) -> ExecBuilder {
        let (uid, gid) = self.user;
        let files =
            self.bindings.iter().flat_map(|binding| binding.files.iter().map(move |file| (binding, file)));
        files.fold(exec, |exec, (binding, file)| match &file.text {
            BindingText::Public(_) => exec,
            BindingText::Secret(id) => {
                let place = format!("{PLATFORM}/bindings/{}/{}", binding.name, file.name);
                exec.secret(place, SecretMount { id: id.clone(), uid, gid, mode: 0o400, optional: false })
            }
        })
    }
}
