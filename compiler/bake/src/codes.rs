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
    /// There is no bake file.
    NO_FILE = "rb::bake::no_file";
    /// The file is no HCL, or a text in it is no template.
    SYNTAX = "rb::bake::syntax";
    /// The file is no JSON.
    JSON = "rb::bake::json";
    /// The file is no YAML.
    YAML = "rb::bake::yaml";
    /// A compose file says something that cannot be built, or that means nothing.
    COMPOSE = "rb::bake::compose";
    /// A block lacks what it needs, or has what it cannot have.
    BLOCK = "rb::bake::block";
    /// A block or an attribute means nothing and is passed over.
    UNKNOWN = "rb::bake::unknown";
    /// A name cannot be that of a target.
    NAME = "rb::bake::name";
    /// What stands for a type is none.
    TYPE = "rb::bake::type";
    /// A value is not of the type, or not of the form, that is wanted.
    VALUE = "rb::bake::value";
    /// A variable is used that is not there.
    UNKNOWN_VARIABLE = "rb::bake::unknown_variable";
    /// A function is called that is not there.
    UNKNOWN_FUNCTION = "rb::bake::unknown_function";
    /// A function cannot do with its arguments what it is for.
    FUNCTION = "rb::bake::function";
    /// A value, a group or a context leads back to itself.
    CYCLE = "rb::bake::cycle";
    /// The value of a variable is not what its validation wants.
    VALIDATION = "rb::bake::validation";
    /// A target or a group is named that is not there.
    NO_SUCH_TARGET = "rb::bake::no_such_target";
    /// What `--set` says cannot be set.
    SET = "rb::bake::set";
    /// A target is a context of one that is built for more platforms.
    PLATFORMS = "rb::bake::platforms";
    /// Several targets give their images one tag.
    SHARED_TAG = "rb::bake::shared_tag";
}
