//! Waiting for memory: a step begins when what it is known to take is left of the budget, if there is one.

use bytes::Bytes;
use rb_llb::ExecOp;
use rb_solver::{Context, OpError, Stream};

use super::caches::Patience;
use super::exec::Way;
pub(super) use crate::admission::Room;
use crate::admission::{Arrival, StepId};
use crate::job::JobContext;

/// Waits until there is room for a step, or nobody wants it any more. To be called by one who has all else that it needs from
/// others: who has room waits for nobody.
pub(super) async fn enter(
    cx: &Context,
    op: &ExecOp,
    job: &JobContext,
    way: &Way,
) -> Result<Option<Room>, OpError> {
    let Some(admission) = &job.parts.admission else { return Ok(None) };
    let id = StepId::of(&job.session.cache_scope(), &way.name, &op.meta.args);
    let limit = way.terms.memory_limit(&job.parts.steps);
    let Arrival { room, turn, need, taken, is_too_large } = admission.arrive(id, cx.vertex(), limit);
    let (needs, budget) = (megabytes(need), megabytes(admission.budget()));
    if is_too_large {
        let line =
            format!("it took {needs} in an earlier run, and the memory budget is {budget}: it runs alone\n");
        cx.log(Stream::Stderr, Bytes::from(line));
    }
    if let Some(turn) = turn {
        let taken = megabytes(taken);
        let line = format!("waiting for memory: it may take {needs}, and others have {taken} of {budget}\n");
        // The other end lives in the queue as long as the room does.
        Patience::new(cx, line).during(turn).await?.ok();
    }
    Ok(Some(room))
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.saturating_add(500_000) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded() {
        assert_eq!([0, 499_999, 500_000, 1_400_000_000].map(megabytes), ["0 MB", "0 MB", "1 MB", "1400 MB"]);
        assert_eq!(megabytes(u64::MAX), "18446744073709 MB");
    }
}
