//! The rules: their names, what each is about, and where that is told at length.
//!
//! Names, descriptions and pages are BuildKit's, as tools look for them.
//! Source: BuildKit's frontend/dockerfile/linter/ruleset.go.

/// Makes the enum and its table.
macro_rules! rules {
    ($($name:ident, $page:expr, $description:literal;)+) => {
        /// A rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $description] $name,)+
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            /// Returns what it is about.
            pub fn description(self) -> &'static str {
                match self { $(Self::$name => $description),+ }
            }

            /// Returns the last part of its page's address.
            fn page(self) -> Option<&'static str> {
                match self { $(Self::$name => $page),+ }
            }
        }
    };
}

rules! {
    StageNameCasing, Some("stage-name-casing"), "Stage names should be lowercase";
    FromAsCasing, Some("from-as-casing"), "The 'as' keyword should match the case of the 'from' keyword";
    NoEmptyContinuation, Some("no-empty-continuation"), "Empty continuation lines will become errors in a future release";
    ConsistentInstructionCasing, Some("consistent-instruction-casing"), "All commands within the Dockerfile should use the same casing (either upper or lower)";
    DuplicateStageName, Some("duplicate-stage-name"), "Stage names should be unique";
    ReservedStageName, Some("reserved-stage-name"), "Reserved words should not be used as stage names";
    JSONArgsRecommended, Some("json-args-recommended"), "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals";
    MaintainerDeprecated, Some("maintainer-deprecated"), "The MAINTAINER instruction is deprecated, use a label instead to define an image author";
    UndefinedArgInFrom, Some("undefined-arg-in-from"), "FROM command must use declared ARGs";
    WorkdirRelativePath, Some("workdir-relative-path"), "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes";
    UndefinedVar, Some("undefined-var"), "Variables should be defined before their use";
    MultipleInstructionsDisallowed, Some("multiple-instructions-disallowed"), "Multiple instructions of the same type should not be used in the same stage";
    LegacyKeyValueFormat, Some("legacy-key-value-format"), "Legacy key/value format with whitespace separator should not be used";
    InvalidBaseImagePlatform, None, "Base image platform does not match expected target platform";
    RedundantTargetPlatform, Some("redundant-target-platform"), "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior";
    SecretsUsedInArgOrEnv, Some("secrets-used-in-arg-or-env"), "Sensitive data should not be used in the ARG or ENV commands";
    InvalidDefaultArgInFrom, Some("invalid-default-arg-in-from"), "Default value for global ARG results in an empty or invalid base image name";
    FromPlatformFlagConstDisallowed, Some("from-platform-flag-const-disallowed"), "FROM --platform flag should not use a constant value";
    CopyIgnoredFile, Some("copy-ignored-file"), "Attempting to Copy file that is excluded by .dockerignore";
    InvalidDefinitionDescription, Some("invalid-definition-description"), "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.";
    ExposeProtoCasing, Some("expose-proto-casing"), "Protocol in EXPOSE instruction should be lowercase";
    ExposeInvalidFormat, Some("expose-invalid-format"), "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release";
}

impl Rule {
    /// Returns the address of its page; one rule has none.
    pub fn url(self) -> Option<String> {
        self.page().map(|page| format!("https://docs.docker.com/go/dockerfile/rule/{page}/"))
    }

    /// Returns whether it is looked at only where somebody asks for it.
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }
}
