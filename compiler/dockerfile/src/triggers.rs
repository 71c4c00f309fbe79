//! `ONBUILD`: instructions that a base keeps for those who start from it.
//!
//! Those of an image are texts of its config; those of a stage stand in the file. They come before the stage's own
//! instructions, once, and may need further images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_diag::{Diagnostic, SourceMap};

use crate::bases::Base;
use crate::checks::Checks;
use crate::stages::{Command, Graph, NodeId};
use crate::{Instruction, Step, codes, parse_trigger};

/// Puts triggers before the instructions of stages that have none yet; tells whether anything new is needed.
pub(crate) fn add(
    graph: &mut Graph,
    needed: &BTreeSet<NodeId>,
    bases: &BTreeMap<NodeId, Base>,
    done: &mut BTreeSet<NodeId>,
    sources: &SourceMap,
    checks: &mut Checks,
) -> bool {
    let mut is_more_needed = false;
    for id in needed {
        let node = &graph.nodes[*id];
        if node.number.is_none() || node.is_replaced || !done.insert(*id) {
            continue;
        }
        let steps = match node.base {
            Some(base) => of_stage(graph, base),
            None => of_image(&bases[id], &node.base_name, sources, checks),
        };
        let from = node.span;
        let mut commands: Vec<Command> =
            steps.into_iter().map(|step| graph.command(step, Some(from), checks)).collect();
        is_more_needed |= commands.iter().any(|command| !command.sources.is_empty());
        commands.append(&mut graph.nodes[*id].commands);
        graph.nodes[*id].commands = commands;
    }
    is_more_needed
}

fn of_stage(graph: &Graph, base: NodeId) -> Vec<Arc<Step>> {
    let commands = graph.nodes[base].commands.iter();
    let trigger = |step: &Arc<Step>| match &step.instruction {
        Instruction::Onbuild(onbuild) => Some(Arc::new((*onbuild.step).clone())),
        _ => None,
    };
    commands.filter_map(|command| trigger(&command.step)).collect()
}

fn of_image(base: &Base, name: &str, sources: &SourceMap, checks: &mut Checks) -> Vec<Arc<Step>> {
    let mut steps = Vec::new();
    for text in &base.image.config.on_build {
        let file = sources.add(format!("ONBUILD of {name}"), text.as_str());
        match parse_trigger(&file) {
            Ok(step) => steps.push(Arc::new(step)),
            Err(errors) if errors.is_empty() => {
                let message = format!("an ONBUILD trigger of {name} cannot be read");
                checks.tell(Diagnostic::error(codes::BAD_TRIGGER, message));
            }
            Err(errors) => {
                let trail = format!("ONBUILD of {name}");
                errors.into_iter().for_each(|error| checks.tell(error.with_trail(trail.clone())));
            }
        }
    }
    steps
}
