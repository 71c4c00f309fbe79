//! `ARG` and `ENV`: variables of a stage, and those that its image keeps.

use std::collections::BTreeSet;

use super::Work;
use crate::arguments::Declared;
use crate::checks::steps;
use crate::failure::Fallible;
use crate::image::Layer;
use crate::{ArgDefinition, Pair};

/// Arguments that say something of the build, and are no variables.
const NO_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl Work<'_> {
    /// Sets arguments, each with the values of those before it: what the user gave wins over a default, and a default
    /// over the value of a global argument.
    pub(super) fn arg(&mut self, definitions: &[ArgDefinition]) -> Fallible<()> {
        let mut told = String::from("ARG");
        for definition in definitions {
            let name = &definition.name.value;
            self.check(steps::secret(self.at(), "ARG", name));
            let given = self.shared.build_args.get(name).cloned();
            let is_own = given.is_some() || definition.default.is_some();
            let value = match (given, &definition.default) {
                (Some(value), _) => Some(value),
                (None, Some(default)) => Some(self.word(default)?),
                (None, None) => self.shared.arguments.value(name).map(ToOwned::to_owned),
            };
            told.push(' ');
            told.push_str(name);
            if let Some(value) = &value {
                if !NO_VARIABLES.contains(&name.as_str()) {
                    self.state.files.environment.set(name, value);
                }
                told.push('=');
                told.push_str(value);
            }
            if is_own || value.is_none() {
                self.declare(definition, value.as_deref());
            }
            self.state.parameters.arguments.insert(name.clone());
            self.state.build_args.push((name.clone(), value));
        }
        self.record(told, Layer::None);
        Ok(())
    }

    /// Notes an argument whose value is not that of a global one.
    fn declare(&mut self, definition: &ArgDefinition, value: Option<&str>) {
        let declared = Declared {
            value: value.unwrap_or_default().to_owned(),
            description: definition.description.clone(),
            span: self.at(),
            needs: BTreeSet::new(),
        };
        self.state.parameters.declared.insert(definition.name.value.clone(), declared);
    }

    /// Sets variables, all with the values from before the instruction.
    pub(super) fn env(&mut self, pairs: &[Pair]) -> Fallible<()> {
        let expanded = self.pairs(pairs)?;
        let mut told = String::from("ENV");
        for (pair, (name, value)) in pairs.iter().zip(expanded) {
            if pair.legacy {
                self.check([steps::legacy_pair(self.at(), &self.command.step.keyword.value)]);
            }
            self.check(steps::secret(self.at(), "ENV", &name));
            told.push_str(&format!(" {name}={value}"));
            self.state.set_env(&name, &value);
            self.state.files.environment.set(&name, value);
        }
        self.record(told, Layer::None);
        Ok(())
    }

    /// Says what keys and values stand for.
    pub(super) fn pairs(&mut self, pairs: &[Pair]) -> Fallible<Vec<(String, String)>> {
        pairs.iter().map(|pair| Ok((self.word(&pair.key)?, self.word(&pair.value)?))).collect()
    }
}
