//! Every code that a diagnostic of this crate carries, in one table.

/// Makes a constant per code and the table of all of them.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        $($(#[doc = $doc])+ pub(crate) const $name: &str = $code;)+

        /// Every code of this crate with what it means, in the order of the table.
        pub const CODES: &[(&str, &str)] = &[$(($code, concat!($($doc),+).trim_ascii())),+];
    };
}

codes! {
    /// The file is longer than a Dockerfile may be; nothing of it was read.
    FILE_TOO_LARGE = "rb::dockerfile::file_too_large";
    /// Only the first errors of a file are listed.
    TOO_MANY_ERRORS = "rb::dockerfile::too_many_errors";
    /// There is nothing to build in the file.
    NOTHING_TO_BUILD = "rb::dockerfile::nothing_to_build";
    /// A parser directive stands twice or has a value it cannot have.
    BAD_DIRECTIVE = "rb::dockerfile::bad_directive";
    /// The file is written for a frontend that is not part of rb.
    UNKNOWN_FRONTEND = "rb::dockerfile::unknown_frontend";
    /// Options of build checks that mean nothing.
    BAD_CHECK_OPTION = "rb::dockerfile::bad_check_option";
    /// A line starts with a word that is no instruction.
    UNKNOWN_INSTRUCTION = "rb::dockerfile::unknown_instruction";
    /// An instruction stands before the first FROM.
    BEFORE_FROM = "rb::dockerfile::before_from";
    /// FROM is not followed by an image, or an image, AS and a name.
    BAD_FROM = "rb::dockerfile::bad_from";
    /// An instruction has fewer words than it needs, or more than it takes.
    ARGUMENTS = "rb::dockerfile::arguments";
    /// A key and its value, of which one is missing.
    BAD_PAIR = "rb::dockerfile::bad_pair";
    /// A JSON list holds something else than strings, or is missing.
    BAD_LIST = "rb::dockerfile::bad_list";
    /// A flag the instruction does not have.
    UNKNOWN_FLAG = "rb::dockerfile::unknown_flag";
    /// A flag stands twice or has a value it cannot have.
    BAD_FLAG = "rb::dockerfile::bad_flag";
    /// The value of `--mount` describes no mount.
    BAD_MOUNT = "rb::dockerfile::bad_mount";
    /// A heredoc is not closed, or stands where none can be.
    HEREDOC = "rb::dockerfile::heredoc";
    /// An instruction that cannot be a trigger.
    BAD_ONBUILD = "rb::dockerfile::bad_onbuild";
    /// An option that builds of Dockerfiles do not have.
    UNKNOWN_OPTION = "rb::dockerfile::unknown_option";
    /// An option has a value that it cannot have.
    BAD_OPTION = "rb::dockerfile::bad_option";
    /// The build context, or a named one, cannot be used.
    CONTEXT = "rb::dockerfile::context";
    /// The Dockerfile cannot be read.
    NO_DOCKERFILE = "rb::dockerfile::no_dockerfile";
    /// No stage of that name or number.
    UNKNOWN_STAGE = "rb::dockerfile::unknown_stage";
    /// Something is taken from a stage that comes later, or stages need each other.
    STAGE_ORDER = "rb::dockerfile::stage_order";
    /// FROM names nothing that an image can start from.
    BAD_BASE = "rb::dockerfile::bad_base";
    /// FROM --platform does not give a platform.
    BAD_PLATFORM = "rb::dockerfile::bad_platform";
    /// An image cannot be had.
    IMAGE = "rb::dockerfile::image";
    /// A variable cannot be expanded as it is written.
    EXPANSION = "rb::dockerfile::expansion";
    /// A flag or argument has a value that it cannot have.
    BAD_VALUE = "rb::dockerfile::bad_value";
    /// COPY or ADD names a source that it cannot take.
    BAD_SOURCE = "rb::dockerfile::bad_source";
    /// An ONBUILD instruction of a base image cannot be used.
    BAD_TRIGGER = "rb::dockerfile::bad_trigger";
    /// The build checks found something, and the file or an option says that they stop the build then.
    CHECKS = "rb::dockerfile::checks";
}
