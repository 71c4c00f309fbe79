//! The commands of the language: those of this version and those to come.

/// A command this version reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Version,
    From,
    Run,
    Copy,
    Arg,
    Env,
    Workdir,
    Entrypoint,
    Cmd,
    SaveArtifact,
    SaveImage,
    Build,
}

impl Command {
    pub(crate) const ALL: [Self; 12] = [
        Self::Version,
        Self::From,
        Self::Run,
        Self::Copy,
        Self::Arg,
        Self::Env,
        Self::Workdir,
        Self::Entrypoint,
        Self::Cmd,
        Self::SaveArtifact,
        Self::SaveImage,
        Self::Build,
    ];

    /// Returns the command as people write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Version => "VERSION",
            Self::From => "FROM",
            Self::Run => "RUN",
            Self::Copy => "COPY",
            Self::Arg => "ARG",
            Self::Env => "ENV",
            Self::Workdir => "WORKDIR",
            Self::Entrypoint => "ENTRYPOINT",
            Self::Cmd => "CMD",
            Self::SaveArtifact => "SAVE ARTIFACT",
            Self::SaveImage => "SAVE IMAGE",
            Self::Build => "BUILD",
        }
    }
}

/// Commands of the language that this version does not have.
pub(crate) const LATER: [&str; 34] = [
    "ADD",
    "CACHE",
    "CATCH",
    "COMMAND",
    "DO",
    "ELSE",
    "ELSE IF",
    "END",
    "EXPOSE",
    "FINALLY",
    "FOR",
    "FROM BUILDPACKS",
    "FROM DOCKERFILE",
    "FUNCTION",
    "GIT CLONE",
    "HEALTHCHECK",
    "HOST",
    "IF",
    "IMPORT",
    "LABEL",
    "LET",
    "LOCALLY",
    "ONBUILD",
    "PROJECT",
    "SET",
    "SHELL",
    "STOPSIGNAL",
    "TRY",
    "USER",
    "VOLUME",
    "WAIT",
    "WITH DOCKER",
    // Words that only start a command.
    "GIT",
    "WITH",
];

/// Returns every command, for "did you mean".
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    Command::ALL.into_iter().map(Command::name).chain(LATER)
}

/// What a command means for blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// Opens a block that `END` closes.
    Opens,
    /// Stands between the parts of a block; lists the words such a block is opened by.
    Divides(&'static [&'static str]),
    /// `END`.
    Closes,
    /// Nothing.
    No,
}

/// Returns what the command with this name means for blocks.
pub(crate) fn block(name: &str) -> Block {
    match name {
        "IF" | "FOR" | "WAIT" | "TRY" | "WITH DOCKER" => Block::Opens,
        "ELSE" | "ELSE IF" => Block::Divides(&["IF"]),
        "CATCH" | "FINALLY" => Block::Divides(&["TRY"]),
        "END" => Block::Closes,
        _ => Block::No,
    }
}
