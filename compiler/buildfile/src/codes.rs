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
    CYCLE = "rb::resolve::cycle", "Targets or functions that need each other.";
    UNKNOWN_FUNCTION = "rb::resolve::unknown_function", "No function of that name in that build file.";
    UNKNOWN_ALIAS = "rb::resolve::unknown_alias", "A reference uses an alias that nothing imports.";
    DUPLICATE_IMPORT = "rb::resolve::duplicate_import", "Two imports of one scope have the same alias.";
    BAD_IMPORT = "rb::resolve::bad_import", "An IMPORT that names no folder, or cannot have that alias.";
    BAD_PATTERN = "rb::resolve::bad_pattern", "A pattern fits nothing, or stands where one folder is meant.";
    IDLE_ALWAYS = "rb::resolve::idle_always", "Warning: SAVE ARTIFACT --always where nothing that it covers can fail.";
    WRONG_KIND = "rb::resolve::wrong_kind", "A target, function or image used as one of the others.";

    BAD_CONFIG = "rb::project::bad_config", "rb.toml is not well formed, or a value has the wrong type.";
    UNKNOWN_KEY = "rb::project::unknown_key", "rb.toml has a key that means nothing.";

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
    SCRIPT_ARGUMENT = "rb::evaluate::script_argument", "Warning: a script names an ARG that its step does not see.";

    WORKSPACE = "rb::evaluate::workspace", "The user's tree could not be read.";
    MISSING_FILE = "rb::evaluate::missing_file", "COPY of a path that does not exist.";
    PATH_OUTSIDE = "rb::evaluate::path_outside", "A path leads out of the project's folder.";
    UNKNOWN_ARTIFACT = "rb::evaluate::unknown_artifact", "COPY of an artifact that the target does not save.";
    BAD_FLAG = "rb::evaluate::bad_flag", "A flag's value is none of those it can have.";
    BAD_COPY = "rb::evaluate::bad_copy", "A COPY or SAVE ARTIFACT that cannot mean anything.";
    IMAGE = "rb::evaluate::image", "The base image cannot be had.";
    DOCKERFILE_CHECKS = "rb::evaluate::dockerfile_checks", "Warning: the build checks found something in a Dockerfile.";
    NO_BUILDER = "rb::evaluate::no_builder", "FROM BUILDPACKS without a builder, or with what is none.";
    BAD_DESCRIPTOR = "rb::evaluate::bad_descriptor", "A project.toml that cannot be used, or has a key that means nothing.";
    DETECTION = "rb::evaluate::detection", "No group of buildpacks takes the app.";
    BUILDPACKS = "rb::evaluate::buildpacks", "An app cannot be built with these buildpacks.";
    BAD_IMAGE = "rb::evaluate::bad_image", "The name of a base image is not well formed.";
    HOST_BIND = "rb::evaluate::host_bind", "FROM @host cannot show that path.";
    HOST_IMAGE = "rb::evaluate::host_image", "SAVE IMAGE of a tree that lies on this machine's own files.";
    UNNAMED_IMAGE = "rb::evaluate::unnamed_image", "Warning: SAVE IMAGE without a name saves nothing.";
    DUPLICATE_IMAGE = "rb::evaluate::duplicate_image", "Two different images of one name in one build.";
    SAME_PLACE = "rb::evaluate::same_place", "Two targets of one command, or one target for two platforms, write different things to one place.";
    NESTING = "rb::evaluate::nesting", "Targets call each other too deep.";
    EDITION = "rb::evaluate::edition", "A statement that the edition of the file does not have.";
    BAD_SET = "rb::evaluate::bad_set", "SET of what is no LET.";
    WRONG_TYPE = "rb::evaluate::wrong_type", "A value that an ARG's type does not have.";
    BAD_EXPRESSION = "rb::evaluate::bad_expression", "An expression in `{{ … }}` that has no value here.";
    EFFECT = "rb::evaluate::effect", "What a WAIT waits for failed.";
    NOT_ALLOWED = "rb::evaluate::not_allowed", "The user or the project does not allow it.";
    TOO_LONG = "rb::evaluate::too_long", "A command or a value that is longer than the kernel takes.";
    BAD_MOUNT = "rb::evaluate::bad_mount", "A mount of a step that is not well formed.";
    IN_LOCALLY = "rb::evaluate::in_locally", "Something that has no meaning on the host.";
    LOCALLY_FAILED = "rb::evaluate::locally_failed", "A command on the host failed.";
    IGNORE_FILE = "rb::evaluate::ignore_file", "An ignore file that cannot be read, or two of them.";
    BAD_PORT = "rb::evaluate::bad_port", "EXPOSE of what is no port.";
    BAD_LABEL = "rb::evaluate::bad_label", "A label without a name, or with a reserved one.";
    BAD_HOST = "rb::evaluate::bad_host", "HOST with what is no name or no address.";
}
