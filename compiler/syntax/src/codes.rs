//! Every code a diagnostic of this crate can carry, in one table.

/// Makes a constant per code and the table of all of them.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        $($(#[doc = $doc])+ pub(crate) const $name: &str = $code;)+

        /// Every code of this crate with what it means, in the order of the table.
        pub const CODES: &[(&str, &str)] = &[$(($code, concat!($($doc),+).trim_ascii())),+];
    };
}

codes! {
    /// The file is longer than a build file may be; nothing of it was read.
    FILE_TOO_LARGE = "rb::syntax::file_too_large";
    /// The text holds a NUL character.
    CONTROL_CHARACTER = "rb::syntax::control_character";
    /// Only the first errors of a file are listed.
    TOO_MANY_ERRORS = "rb::syntax::too_many_errors";

    /// The file does not start with a VERSION line.
    MISSING_VERSION = "rb::syntax::missing_version";
    /// The VERSION line names no edition there is.
    BAD_VERSION = "rb::syntax::bad_version";
    /// VERSION is not the first statement, or stands twice.
    MISPLACED_VERSION = "rb::syntax::misplaced_version";

    /// A line starts with a word that is no command.
    UNKNOWN_COMMAND = "rb::syntax::unknown_command";
    /// A command stands where it cannot: FUNCTION that is not the first line of a function, PROJECT in a target.
    MISPLACED_STATEMENT = "rb::syntax::misplaced_statement";
    /// A block was opened and has no END.
    UNCLOSED_BLOCK = "rb::syntax::unclosed_block";
    /// END, ELSE, CATCH or FINALLY outside the block it belongs to.
    STRAY_BLOCK_WORD = "rb::syntax::stray_block_word";

    /// A flag the command does not have.
    UNKNOWN_FLAG = "rb::syntax::unknown_flag";
    /// A flag stands behind the words of its command.
    MISPLACED_FLAG = "rb::syntax::misplaced_flag";
    /// A flag or an argument that needs a value has none.
    MISSING_VALUE = "rb::syntax::missing_value";
    /// A flag that is on or off was given another value.
    BAD_FLAG_VALUE = "rb::syntax::bad_flag_value";
    /// A form the language keeps for old files only.
    DEPRECATED = "rb::syntax::deprecated";
    /// What is written here changes nothing.
    NO_EFFECT = "rb::syntax::no_effect";
    /// Two flags contradict each other.
    CONTRADICTION = "rb::syntax::contradiction";
    /// The value of `--mount` describes no mount.
    BAD_MOUNT = "rb::syntax::bad_mount";
    /// A secret is given under a name that no shell can read.
    SECRET_NAME = "rb::syntax::secret_name";

    /// A command has fewer words than it needs.
    MISSING_WORDS = "rb::syntax::missing_words";
    /// A command has words it does not take.
    UNEXPECTED_WORD = "rb::syntax::unexpected_word";
    /// The name of a variable is none.
    BAD_NAME = "rb::syntax::bad_name";
    /// What should name a target or an artifact does not.
    BAD_REFERENCE = "rb::syntax::bad_reference";
    /// An import has a name that cannot be one, or none where it needs one.
    BAD_ALIAS = "rb::syntax::bad_alias";
    /// The type of an argument is none.
    BAD_TYPE = "rb::syntax::bad_type";
    /// The default of an argument is not of its type.
    BAD_DEFAULT = "rb::syntax::bad_default";
    /// What should be a pair of a name and a value is none.
    BAD_PAIR = "rb::syntax::bad_pair";
    /// COPY takes paths or artifacts, not both at once.
    MIXED_SOURCES = "rb::syntax::mixed_sources";
    /// ENV takes one pair; the next one became part of its value.
    ENV_PAIRS = "rb::syntax::env_pairs";
    /// A command looks like the exec form and is none, so the shell gets it.
    EXEC_FORM = "rb::syntax::exec_form";
    /// A command is written in a form, for the shell or for exec, that it does not take.
    WRONG_FORM = "rb::syntax::wrong_form";
    /// `~` starts a path where it means no home directory.
    HOME_DIRECTORY = "rb::syntax::home_directory";

    /// The name of a target is none.
    BAD_TARGET_NAME = "rb::syntax::bad_target_name";
    /// A target has a name the language keeps for itself.
    RESERVED_TARGET_NAME = "rb::syntax::reserved_target_name";
    /// Two targets have one name.
    DUPLICATE_TARGET = "rb::syntax::duplicate_target";
    /// Two functions have one name.
    DUPLICATE_FUNCTION = "rb::syntax::duplicate_function";
    /// The first line of a function is not FUNCTION (COMMAND before 0.8).
    MISSING_FUNCTION = "rb::syntax::missing_function";
    /// The header of a target is not alone on its line.
    HEADER_NOT_ALONE = "rb::syntax::header_not_alone";
    /// A statement behind a target's header is not indented.
    NOT_INDENTED = "rb::syntax::not_indented";
    /// A line is indented although nothing stands above that it could belong to.
    INDENTED = "rb::syntax::indented";

    /// A quote is never closed.
    UNCLOSED_QUOTE = "rb::syntax::unclosed_quote";
    /// A parenthesis is never closed.
    UNCLOSED_PARENTHESIS = "rb::syntax::unclosed_parenthesis";
    /// No line closes a heredoc.
    UNCLOSED_HEREDOC = "rb::syntax::unclosed_heredoc";
    /// A backslash continues a line, and nothing follows.
    NOTHING_CONTINUED = "rb::syntax::nothing_continued";
    /// A string runs over what looks like a statement or a target, so a quote is probably missing.
    SWALLOWED_LINE = "rb::syntax::swallowed_line";
    /// Quotes, parentheses or blocks are nested too deeply.
    NESTED_TOO_DEEPLY = "rb::syntax::nested_too_deeply";
}

#[cfg(test)]
mod tests {
    use super::CODES;

    #[test]
    fn codes_are_unique_and_explained() {
        let mut codes: Vec<_> = CODES.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CODES.len());
        for (code, meaning) in CODES {
            assert!(code.starts_with("rb::syntax::"), "{code}");
            assert!(meaning.ends_with('.'), "{code}: {meaning}");
        }
    }
}
