//! `ARG`s before the first `FROM`: what FROM lines may name, and what stages may take over.

use std::collections::{BTreeMap, BTreeSet};

use rb_diag::{Diagnostic, Diagnostics, Span};

use crate::environment::Environment;
use crate::lost::Lost;
use crate::words::{Lexer, Variables, WordError};
use crate::{Instruction, Step, Word, codes};

/// The arguments of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct GlobalArguments {
    /// Those that have a value, predefined ones first.
    pub(crate) values: Environment,
    /// Those that the file declares, with or without a value.
    pub(crate) declared: BTreeMap<String, Declared>,
    /// Those whose values are not known.
    pub(crate) lost: Lost,
}

/// An argument that an `ARG` declares.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    /// Its value, or empty.
    pub(crate) value: String,
    /// What a comment above says of it.
    pub(crate) description: Option<String>,
    /// The instruction.
    pub(crate) span: Span,
    /// Arguments that its default names.
    pub(crate) needs: BTreeSet<String>,
}

impl GlobalArguments {
    /// Reads them in order, each with the values of those above; what is given wins over a default. What cannot be
    /// expanded has no value, and is told.
    pub(crate) fn read(
        predefined: Environment,
        steps: &[Step],
        given: &BTreeMap<String, String>,
        lexer: Lexer,
    ) -> (Self, Diagnostics) {
        let mut arguments = Self { values: predefined, ..Self::default() };
        let mut wrong = Diagnostics::new();
        for step in steps {
            let Instruction::Arg(definitions) = &step.instruction else { continue };
            for definition in definitions {
                let name = &definition.name.value;
                let (mut needs, mut is_lost) = (BTreeSet::new(), false);
                let value = match (given.get(name), &definition.default) {
                    (Some(value), _) => Some(value.clone()),
                    (None, Some(default)) => match lexer.expand(&default.value, &arguments.values) {
                        Ok(expanded) => {
                            is_lost = arguments.lost.touches(&expanded);
                            needs = expanded.matched;
                            Some(expanded.text)
                        }
                        Err(error) => {
                            is_lost = true;
                            let all = expansions(error, default, lexer, &arguments.values, &arguments.lost);
                            wrong.extend(all);
                            None
                        }
                    },
                    (None, None) => None,
                };
                // `ARG A=$A-x` needs what the one before it needs.
                if needs.remove(name) {
                    needs.extend(arguments.declared.get(name).into_iter().flat_map(|old| old.needs.clone()));
                }
                arguments.lost.set(name, is_lost);
                value.iter().for_each(|value| arguments.values.set(name, value));
                let (value, description) = (value.unwrap_or_default(), definition.description.clone());
                let declared = Declared { value, description, span: step.span, needs };
                arguments.declared.insert(name.clone(), declared);
            }
        }
        (arguments, wrong)
    }

    /// Returns the names of all there are.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.values.names().chain(self.declared.keys().map(String::as_str)).collect()
    }
}

/// How many variables of one word are told to be missing.
const MAX_MISSING: usize = 16;

/// Gives one value to variables that have none, and was told of.
struct Supposing<'a> {
    variables: &'a dyn Variables,
    told: BTreeSet<String>,
}

impl Variables for Supposing<'_> {
    fn get(&self, name: &str) -> Option<String> {
        if self.told.contains(name) { Some("x".to_owned()) } else { self.variables.get(name) }
    }
}

/// Tells all that is wrong with a word, of which `first` was found: behind a variable that has to have a value, there may be
/// more of them. What variables that are lost explain is left out.
pub(crate) fn expansions(
    first: WordError,
    word: &Word,
    lexer: Lexer,
    variables: &dyn Variables,
    lost: &Lost,
) -> Diagnostics {
    let mut supposing = Supposing { variables, told: BTreeSet::new() };
    let (mut all, mut next) = (Diagnostics::new(), Some(first));
    while let Some(error) = next.take() {
        if !lost.explains(&error) {
            all.push(expansion(&error, word.span));
        }
        if let WordError::Required { name, .. } = error
            && supposing.told.len() < MAX_MISSING
            && supposing.told.insert(name)
        {
            next = lexer.expand(&word.value, &supposing).err();
        }
    }
    all
}

/// Tells that a word cannot be expanded.
pub(crate) fn expansion(error: &WordError, at: Span) -> Diagnostic {
    let help = match error {
        WordError::Required { name, .. } => format!("give it a value, such as `--build-arg {name}=…`"),
        WordError::UnclosedQuote(kind) => {
            let mark = if *kind == "single" { '\'' } else { '"' };
            format!("close it; a `{mark}` that is no quote is written `\\{mark}`")
        }
        _ => "a `$` that is no variable is written `\\$`, or stands in single quotes".to_owned(),
    };
    Diagnostic::error(codes::EXPANSION, error.to_string()).with_label(at, "").with_help(help)
}
