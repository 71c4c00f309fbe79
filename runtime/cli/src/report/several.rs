//! Failures of a build that goes on after the first.

use rb_api::SolveError;
use rb_llb::Definition;
use rb_oci::Digest;

use super::Failure;

impl Failure {
    /// Makes one failure of several, at least one.
    pub(crate) fn several(failures: impl IntoIterator<Item = Self>) -> Self {
        let mut failures: Vec<Self> = failures.into_iter().collect();
        match failures.len() {
            1 => failures.remove(0),
            _ => Self::Several(failures),
        }
    }

    /// Makes a failure of each error of a job whose graphs these are.
    pub(crate) fn of_solve(error: SolveError, definitions: &[Definition]) -> Vec<Self> {
        let one = |error| Self::Solve { error: Box::new(error), definitions: definitions.to_vec() };
        match error {
            SolveError::Several(errors) => errors.into_iter().map(one).collect(),
            error => vec![one(error)],
        }
    }

    /// Returns the vertex that failed, if one did.
    pub(crate) fn vertex(&self) -> Option<&Digest> {
        match self {
            Self::Solve { error, .. } => match error.as_ref() {
                SolveError::Vertex { vertex, .. } | SolveError::Withheld { vertex, .. } => Some(vertex),
                _ => None,
            },
            Self::With { failure, about: _ } => failure.vertex(),
            Self::Diagnostics { .. }
            | Self::Said { .. }
            | Self::Several(_)
            | Self::Interrupted(_)
            | Self::Unheard => None,
        }
    }

    /// Tells whether this is the failure of a step that failed with this message.
    pub(crate) fn is_of_step(&self, wanted: &str) -> bool {
        match self {
            Self::Solve { error, .. } => {
                matches!(error.as_ref(), SolveError::Vertex { message, .. } if message == wanted)
            }
            Self::With { failure, about: _ } => failure.is_of_step(wanted),
            _ => false,
        }
    }
}
