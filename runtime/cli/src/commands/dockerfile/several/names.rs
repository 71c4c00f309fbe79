//! What steps of several builds are called: `[app builder 2/3] RUN make`.
//!
//! A step that several have is called by the one that had it first. Names are in no digest.
//! Source: buildx, how it shows several targets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rb_llb::Definition;
use rb_oci::Digest;

use crate::commands::gateway::Naming;

/// Whose each vertex is.
#[derive(Clone, Default)]
pub(super) struct Names(Arc<Mutex<BTreeMap<Digest, String>>>);

impl Names {
    /// Calls the steps of a graph by its part, but for those that others had before.
    pub(super) fn name(&self, part: &str, definition: &mut Definition) {
        let mut owners = self.0.lock().expect("no holder of this lock panics");
        for (digest, meta) in &mut definition.meta {
            let owner = owners.entry(*digest).or_insert_with(|| part.to_owned());
            if let Some(name) = meta.name().map(|name| prefixed(owner, name)) {
                meta.set_name(name);
            }
        }
    }

    /// Returns what does so for one part.
    pub(super) fn of(&self, part: &str) -> Naming {
        let (names, part) = (self.clone(), part.to_owned());
        Arc::new(move |definition| names.name(&part, definition))
    }
}

fn prefixed(part: &str, name: &str) -> String {
    match name.strip_prefix('[') {
        Some(rest) => format!("[{part} {rest}"),
        None => format!("[{part}] {name}"),
    }
}

#[cfg(test)]
mod tests {
    use rb_diag::SourceMap;
    use rb_llb::{NodeMeta, State};

    use super::*;

    #[test]
    fn a_shared_step_is_its_first_parts() {
        let source = |name: &str| State::source("local://x", BTreeMap::new(), None, NodeMeta::named(name));
        let shown = |names: &Names, part: &str, name: &str| {
            let mut definition = source(name).marshal(&SourceMap::default()).expect("marshals");
            names.name(part, &mut definition);
            definition.meta.values().filter_map(|meta| meta.name().map(ToOwned::to_owned)).collect::<Vec<_>>()
        };
        let names = Names::default();
        assert_eq!(shown(&names, "app", "[internal] load"), ["[app internal] load"]);
        assert_eq!(shown(&names, "lib", "load"), ["[app] load"]);
        assert_eq!(shown(&Names::default(), "lib", "load"), ["[lib] load"]);
    }
}
