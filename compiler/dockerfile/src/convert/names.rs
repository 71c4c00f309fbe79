//! What steps are called where people see them: `[linux/amd64 build 2/4] RUN make`.

use rb_oci::Platform;

use super::Shared;
use crate::environment::Environment;
use crate::platform;
use crate::stages::NodeId;

/// Numbers the steps of a stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    stage: String,
    /// How many there will be.
    total: usize,
    /// How many have a name.
    pub(super) shown: usize,
    is_trigger: bool,
}

impl Names {
    pub(super) fn new(shared: &Shared<'_>, id: NodeId, shown: usize) -> Self {
        let (stage, total) = (shared.graph.shown_name(id), shared.graph.total(id));
        let of = shared.options.owner.iter().map(String::as_str);
        let stage =
            of.chain(Some(stage.as_str()).filter(|stage| !stage.is_empty())).collect::<Vec<_>>().join(" ");
        Self { stage, total, shown, is_trigger: false }
    }

    /// Says whether what follows comes from an `ONBUILD` of the base.
    pub(super) fn set_trigger(&mut self, is_trigger: bool) {
        self.is_trigger = is_trigger;
    }

    /// Names the next step. A platform is shown where there are several.
    pub(super) fn next(
        &mut self,
        text: &str,
        platform: Option<&Platform>,
        variables: &Environment,
    ) -> String {
        self.shown += 1;
        self.same(text, platform, variables)
    }

    /// Names one more part of the step that was named last.
    pub(super) fn same(&self, text: &str, platform: Option<&Platform>, variables: &Environment) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        let platform = platform.map(|base| platform::shown(base, variables) + " ").unwrap_or_default();
        let stage = if self.stage.is_empty() { String::new() } else { format!("{} ", self.stage) };
        let width = self.total.to_string().len();
        let trigger = if self.is_trigger { "ONBUILD " } else { "" };
        format!("[{platform}{stage}{:width$}/{}] {trigger}{text}", self.shown, self.total)
    }
}

/// Writes the keyword in upper case.
pub(super) fn upper_case(text: &str) -> String {
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => text.to_uppercase(),
    }
}
