//! Every code this crate's diagnostics carry, in one table.
//!
//! A code is stable: users search for it and tests name it. What is said beside it may change.

macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub(crate) const $name: &str = $code;)*

        /// All codes with one line on what each means, in the order of the walk.
        pub const CODES: &[(&str, &str)] = &[$(($code, $meaning)),*];
    };
}

codes! {
    NO_BUILDFILE = "rb::resolve::no_buildfile", "A reference leads to a folder without a build file.";
    UNKNOWN_TARGET = "rb::resolve::unknown_target", "No target of that name in that build file.";
    BAD_REFERENCE = "rb::resolve::bad_reference", "The text is not a reference to a target.";
    ABSOLUTE_REFERENCE = "rb::resolve::absolute_reference", "A reference names a place of one machine only.";
    REFERENCE_LATER = "rb::resolve::later", "A form of reference that this version does not know yet.";
    CYCLE = "rb::resolve::cycle", "Targets that need each other.";

    NO_BASE = "rb::evaluate::no_base", "A statement that works on a filesystem stands before any FROM.";
    UNKNOWN_ARGUMENT = "rb::evaluate::unknown_argument", "An argument that the target does not declare (VERSION 1).";
    UNUSED_ARGUMENT = "rb::evaluate::unused_argument", "Warning: nothing in the called build file declares it.";
    REPEATED_ARGUMENT = "rb::evaluate::repeated_argument", "An argument given twice where only BUILD can vary it.";
    REQUIRED_ARGUMENT = "rb::evaluate::required_argument", "An ARG --required got no value.";
    REDECLARED_ARGUMENT = "rb::evaluate::redeclared_argument", "An ARG is declared twice in one scope.";
    BAD_ARGUMENT = "rb::evaluate::bad_argument", "An ARG line that cannot mean anything.";
    BUILTIN_ARGUMENT = "rb::evaluate::builtin_argument", "A value given to an argument that rb itself sets.";
    GLOBAL_OUTSIDE_BASE = "rb::evaluate::global_outside_base", "ARG --global inside a target.";
    UNKNOWN_VARIABLE = "rb::evaluate::unknown_variable", "Nothing defines the variable (a warning before VERSION 1).";
    REQUIRED_VARIABLE = "rb::evaluate::required_variable", "`${NAME:?message}` of an empty variable.";
    BAD_EXPANSION = "rb::evaluate::bad_expansion", "An expansion or a quote that is not well formed.";
    SHELL_OUT = "rb::evaluate::shell_out", "A value that only a command could tell.";
    LATER = "rb::evaluate::later", "Part of the language that this version does not know yet.";
    ARGUMENT_AT_RUN_TIME = "rb::evaluate::argument_at_run_time", "Warning: CMD or ENTRYPOINT names an ARG.";

    WORKSPACE = "rb::evaluate::workspace", "The user's tree could not be read.";
    MISSING_FILE = "rb::evaluate::missing_file", "COPY of a path that does not exist.";
    PATH_OUTSIDE = "rb::evaluate::path_outside", "A path leads out of the project's folder.";
    UNKNOWN_ARTIFACT = "rb::evaluate::unknown_artifact", "COPY of an artifact that the target does not save.";
    BAD_FLAG = "rb::evaluate::bad_flag", "A flag's value is none of those it can have.";
    BAD_COPY = "rb::evaluate::bad_copy", "A COPY or SAVE ARTIFACT that cannot mean anything.";
    IMAGE = "rb::evaluate::image", "The base image cannot be had.";
    BAD_IMAGE = "rb::evaluate::bad_image", "The name of a base image is not well formed.";
    HOST_BIND = "rb::evaluate::host_bind", "FROM @host cannot show that path.";
    HOST_IMAGE = "rb::evaluate::host_image", "SAVE IMAGE of a tree that lies on this machine's own files.";
    UNNAMED_IMAGE = "rb::evaluate::unnamed_image", "Warning: SAVE IMAGE without a name saves nothing.";
    DUPLICATE_IMAGE = "rb::evaluate::duplicate_image", "Two different images of one name in one build.";
    NESTING = "rb::evaluate::nesting", "Targets call each other too deep.";
}
