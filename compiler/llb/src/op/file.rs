//! The file op: changes that need no command.

use bytes::Bytes;

/// Changes of files, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOp {
    /// The changes; never empty in a verified op.
    pub actions: Vec<FileAction>,
}

/// One change. An index below the number of the vertex's inputs is that input; a larger one is the result of the
/// earlier action with this number minus the number of inputs; none is an empty tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAction {
    /// What is changed.
    pub input: Option<usize>,
    /// What is copied from.
    pub secondary_input: Option<usize>,
    /// Which output of the vertex the result becomes.
    pub output: Option<u32>,
    /// The change.
    pub kind: FileActionKind,
}

/// Kinds of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileActionKind {
    /// Copies from the secondary input.
    Copy(CopyAction),
    /// Makes a file.
    Mkfile(MkfileAction),
    /// Makes a directory.
    Mkdir(MkdirAction),
    /// Removes.
    Rm(RmAction),
    /// Makes a symbolic link.
    Symlink(SymlinkAction),
}

/// Copies `src` of the secondary input to `dest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyAction {
    /// Absolute path in the source; a pattern with `allow_wildcard`.
    pub src: String,
    /// Absolute path; a trailing `/` means into that directory.
    pub dest: String,
    /// Owner of what is copied; none keeps the source's.
    pub owner: Option<Owner>,
    /// Permission bits of what is copied.
    pub mode: CopyMode,
    /// Whether a symlink at `src` itself is followed.
    pub follow_symlink: bool,
    /// Whether of a directory only what is in it is copied.
    pub dir_copy_contents: bool,
    /// Whether an archive is unpacked.
    pub attempt_unpack: bool,
    /// Whether missing parents of `dest` are made.
    pub create_dest_path: bool,
    /// Whether `src` is a pattern.
    pub allow_wildcard: bool,
    /// Whether a pattern may match nothing.
    pub allow_empty_wildcard: bool,
    /// Modification time in nanoseconds since 1970; none keeps the source's.
    pub timestamp: Option<i64>,
    /// Copies only what matches one of these.
    pub include_patterns: Vec<String>,
    /// Copies nothing that matches one of these.
    pub exclude_patterns: Vec<String>,
    /// Whether something of another type at `dest` gives way.
    pub always_replace: bool,
    /// Paths that must be among what is included.
    pub required_paths: Vec<String>,
}

/// Permission bits of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CopyMode {
    /// As in the source.
    #[default]
    Keep,
    /// These bits.
    Bits(u32),
    /// As chmod reads it: `u=rwX,go=rX`.
    Symbolic(String),
}

/// Makes a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MkfileAction {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub data: Bytes,
    /// Owner; none is root.
    pub owner: Option<Owner>,
    /// Modification time in nanoseconds since 1970; none is the engine's choice.
    pub timestamp: Option<i64>,
}

/// Makes a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MkdirAction {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Whether missing parents are made, and an existing directory is no error.
    pub make_parents: bool,
    /// Owner; none is root.
    pub owner: Option<Owner>,
    /// Modification time in nanoseconds since 1970; none is the engine's choice.
    pub timestamp: Option<i64>,
}

/// Removes a path with all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RmAction {
    /// Absolute path; a pattern with `allow_wildcard`.
    pub path: String,
    /// Whether it may be missing.
    pub allow_not_found: bool,
    /// Whether `path` is a pattern.
    pub allow_wildcard: bool,
}

/// Makes a symbolic link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymlinkAction {
    /// What it points to.
    pub target: String,
    /// Absolute path of the link.
    pub path: String,
    /// Owner; none is root.
    pub owner: Option<Owner>,
    /// Modification time in nanoseconds since 1970; none is the engine's choice.
    pub timestamp: Option<i64>,
}

/// Who owns what an action makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// User; none is root.
    pub user: Option<UserSpec>,
    /// Group; none is the user's.
    pub group: Option<UserSpec>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSpec {
    /// By number.
    Id(u32),
    /// By a name in `/etc/passwd` or `/etc/group` of a tree.
    Name {
        /// The name.
        name: String,
        /// Which tree; the same numbers as a [`FileAction`]'s inputs.
        input: Option<usize>,
    },
}
