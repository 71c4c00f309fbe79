//! Every code that findings of this crate carry, in one table.

macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub(crate) const $name: &str = $code;)*

        /// All codes with one line on what each means.
        pub(crate) const CODES: &[(&str, &str)] = &[$(($code, $meaning)),*];
    };
}

codes! {
    BAD_VALUE = "rb::config::bad_value", "A value of config.toml has the wrong type or form.";
    UNKNOWN_KEY = "rb::config::unknown_key", "config.toml has a key that means nothing.";
    UNREADABLE = "rb::config::unreadable", "A config.toml cannot be read, or is no TOML.";
    PACK = "rb::pack::file", "A builder.toml or package.toml says something that it cannot.";
    PUSH = "rb::cli::push", "An image is to be pushed to what is no name of a registry's.";
}
