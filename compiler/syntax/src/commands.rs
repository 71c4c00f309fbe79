//! The commands of the language, and which edition has which.

use crate::Edition;

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Version,
    From,
    FromDockerfile,
    FromBuildpacks,
    Locally,
    Run,
    Copy,
    SaveArtifact,
    SaveImage,
    Expose,
    Volume,
    Env,
    Arg,
    Set,
    Let,
    Label,
    Build,
    Workdir,
    User,
    Cmd,
    Entrypoint,
    StopSignal,
    Healthcheck,
    Shell,
    Do,
    /// `FUNCTION`; `COMMAND` before 0.8.
    Function,
    Import,
    Cache,
    Host,
    GitClone,
    Project,
    If,
    ElseIf,
    Else,
    For,
    Wait,
    Try,
    Catch,
    Finally,
    End,
    /// One of [`LATER`]: read, and refused where it is reached.
    Later(&'static str),
}

/// What `FUNCTION` was called before 0.8.
pub(crate) const OLD_FUNCTION: &str = "COMMAND";

/// Commands that are read, kept and refused where they are reached.
pub(crate) const LATER: [&str; 7] = ["ADD", "ONBUILD", "WITH DOCKER", "SERVICE", "TEST", "AFTER", "MATRIX"];

/// Those of [`LATER`] that only `VERSION 1` has.
const ONE_ONLY: [&str; 4] = ["SERVICE", "TEST", "AFTER", "MATRIX"];

impl Command {
    /// Every command but those of [`LATER`].
    pub(crate) const ALL: [Self; 40] = [
        Self::Version,
        Self::From,
        Self::FromDockerfile,
        Self::FromBuildpacks,
        Self::Locally,
        Self::Run,
        Self::Copy,
        Self::SaveArtifact,
        Self::SaveImage,
        Self::Expose,
        Self::Volume,
        Self::Env,
        Self::Arg,
        Self::Set,
        Self::Let,
        Self::Label,
        Self::Build,
        Self::Workdir,
        Self::User,
        Self::Cmd,
        Self::Entrypoint,
        Self::StopSignal,
        Self::Healthcheck,
        Self::Shell,
        Self::Do,
        Self::Function,
        Self::Import,
        Self::Cache,
        Self::Host,
        Self::GitClone,
        Self::Project,
        Self::If,
        Self::ElseIf,
        Self::Else,
        Self::For,
        Self::Wait,
        Self::Try,
        Self::Catch,
        Self::Finally,
        Self::End,
    ];

    /// Returns the command as people write it, one space between two words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Version => "VERSION",
            Self::From => "FROM",
            Self::FromDockerfile => "FROM DOCKERFILE",
            Self::FromBuildpacks => "FROM BUILDPACKS",
            Self::Locally => "LOCALLY",
            Self::Run => "RUN",
            Self::Copy => "COPY",
            Self::SaveArtifact => "SAVE ARTIFACT",
            Self::SaveImage => "SAVE IMAGE",
            Self::Expose => "EXPOSE",
            Self::Volume => "VOLUME",
            Self::Env => "ENV",
            Self::Arg => "ARG",
            Self::Set => "SET",
            Self::Let => "LET",
            Self::Label => "LABEL",
            Self::Build => "BUILD",
            Self::Workdir => "WORKDIR",
            Self::User => "USER",
            Self::Cmd => "CMD",
            Self::Entrypoint => "ENTRYPOINT",
            Self::StopSignal => "STOPSIGNAL",
            Self::Healthcheck => "HEALTHCHECK",
            Self::Shell => "SHELL",
            Self::Do => "DO",
            Self::Function => "FUNCTION",
            Self::Import => "IMPORT",
            Self::Cache => "CACHE",
            Self::Host => "HOST",
            Self::GitClone => "GIT CLONE",
            Self::Project => "PROJECT",
            Self::If => "IF",
            Self::ElseIf => "ELSE IF",
            Self::Else => "ELSE",
            Self::For => "FOR",
            Self::Wait => "WAIT",
            Self::Try => "TRY",
            Self::Catch => "CATCH",
            Self::Finally => "FINALLY",
            Self::End => "END",
            Self::Later(name) => name,
        }
    }

    /// Returns the command with this name, one space between two words; of any edition.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let later = || LATER.into_iter().find(|later| *later == name).map(Self::Later);
        let old = || (name == OLD_FUNCTION).then_some(Self::Function);
        Self::ALL.into_iter().find(|command| command.name() == name).or_else(later).or_else(old)
    }

    /// Returns whether `edition` has the command.
    pub(crate) fn is_in(self, edition: Edition) -> bool {
        match self {
            Self::Later(name) => edition == Edition::One || !ONE_ONLY.contains(&name),
            _ => true,
        }
    }
}

/// Returns the edition that a VERSION line calls `number`.
pub(crate) fn edition(number: &str) -> Option<Edition> {
    Some(match number {
        "0.6" => Edition::Earthly06,
        "0.7" => Edition::Earthly07,
        "0.8" => Edition::Earthly08,
        "1" => Edition::One,
        _ => return None,
    })
}

/// Returns the names of all statements, with those that are only read, of any edition.
pub fn statements() -> impl Iterator<Item = &'static str> {
    Command::ALL.into_iter().map(Command::name).chain(LATER)
}

/// Returns every command of `edition`, for "did you mean".
pub(crate) fn names(edition: Edition) -> impl Iterator<Item = &'static str> {
    let later = LATER.into_iter().map(Command::Later);
    let names = Command::ALL.into_iter().chain(later).filter(move |command| command.is_in(edition));
    let old = (edition < Edition::Earthly08).then_some(OLD_FUNCTION);
    names.map(Command::name).chain(old)
}
