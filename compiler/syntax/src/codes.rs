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
    /// A command of the language that this version does not have yet.
    UNSUPPORTED_COMMAND = "rb::syntax::unsupported_command";
    /// A block was opened and has no END.
    UNCLOSED_BLOCK = "rb::syntax::unclosed_block";
    /// END, ELSE, CATCH or FINALLY outside the block it belongs to.
    STRAY_BLOCK_WORD = "rb::syntax::stray_block_word";

    /// A flag the command does not have.
    UNKNOWN_FLAG = "rb::syntax::unknown_flag";
    /// A flag of the language that this version does not have yet.
    UNSUPPORTED_FLAG = "rb::syntax::unsupported_flag";
    /// A flag stands behind the words of its command.
    MISPLACED_FLAG = "rb::syntax::misplaced_flag";
    /// A flag or an argument that needs a value has none.
    MISSING_VALUE = "rb::syntax::missing_value";
    /// A flag that is on or off was given another value.
    BAD_FLAG_VALUE = "rb::syntax::bad_flag_value";

    /// A command has fewer words than it needs.
    MISSING_WORDS = "rb::syntax::missing_words";
    /// A command has words it does not take.
    UNEXPECTED_WORD = "rb::syntax::unexpected_word";
    /// The name of a variable is none.
    BAD_NAME = "rb::syntax::bad_name";
    /// What should name a target or an artifact does not.
    BAD_REFERENCE = "rb::syntax::bad_reference";
    /// COPY takes paths or artifacts, not both at once.
    MIXED_SOURCES = "rb::syntax::mixed_sources";
    /// ENV takes one pair; the next one became part of its value.
    ENV_PAIRS = "rb::syntax::env_pairs";
    /// A command looks like the exec form and is none, so the shell gets it.
    EXEC_FORM = "rb::syntax::exec_form";

    /// The name of a target is none.
    BAD_TARGET_NAME = "rb::syntax::bad_target_name";
    /// A target has a name the language keeps for itself.
    RESERVED_TARGET_NAME = "rb::syntax::reserved_target_name";
    /// Two targets have one name.
    DUPLICATE_TARGET = "rb::syntax::duplicate_target";
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
    /// A backslash continues a line, and nothing follows.
    NOTHING_CONTINUED = "rb::syntax::nothing_continued";
    /// A string runs over what looks like a statement or a target, so a quote is probably missing.
    SWALLOWED_LINE = "rb::syntax::swallowed_line";
    /// Quotes and parentheses are nested too deeply.
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
