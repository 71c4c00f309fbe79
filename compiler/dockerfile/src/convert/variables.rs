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
                (None, Some(default)) => self.heard_word(default),
                (None, None) => self.shared.arguments.value(name).map(ToOwned::to_owned),
            };
            match (is_own, &definition.default) {
                (true, default) => self.note_lost(name, default.as_ref(), value.is_none()),
                (false, _) => self.note_lost(name, None, self.shared.lost.has(name)),
            }
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
        self.settled()?;
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
        let mut told = String::from("ENV");
        for (pair, name, value) in self.pairs(pairs) {
            let Some(name) = name.filter(|_| !self.varying.contains(&pair.key.span)) else {
                // It may set any variable.
                self.state.lost.all = true;
                continue;
            };
            self.note_lost(&name, Some(&pair.value), value.is_none());
            let Some(value) = value else { continue };
            if pair.legacy {
                self.check([steps::legacy_pair(self.at(), &self.command.step.keyword.value)]);
            }
            self.check(steps::secret(self.at(), "ENV", &name));
            told.push_str(&format!(" {name}={value}"));
            self.state.set_env(&name, &value);
            self.state.files.environment.set(&name, value);
        }
        self.settled()?;
        self.record(told, Layer::None);
        Ok(())
    }

    /// Says what keys and values stand for; what is wrong is kept.
    pub(super) fn pairs<'p>(&mut self, pairs: &'p [Pair]) -> Vec<(&'p Pair, Option<String>, Option<String>)> {
        let mut fill = |pair: &'p Pair| (pair, self.heard_word(&pair.key), self.heard_word(&pair.value));
        pairs.iter().map(&mut fill).collect()
    }
}
