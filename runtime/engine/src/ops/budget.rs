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
    let (needs, budget) = (mebibytes(need), mebibytes(admission.budget()));
    if is_too_large {
        let line =
            format!("it took {needs} in an earlier run, and the memory budget is {budget}: it runs alone\n");
        cx.log(Stream::Stderr, Bytes::from(line));
    }
    if let Some(turn) = turn {
        let taken = mebibytes(taken);
        let line = format!("waiting for memory: it may take {needs}, and others have {taken} of {budget}\n");
        // The other end lives in the queue as long as the room does.
        Patience::new(cx, line).during(turn).await?.ok();
    }
    Ok(Some(room))
}

/// In the units that budgets are typed in.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.saturating_add(1 << 19) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded() {
        let sizes = [0, (1 << 19) - 1, 1 << 19, 1400 << 20];
        assert_eq!(sizes.map(mebibytes), ["0 MiB", "0 MiB", "1 MiB", "1400 MiB"]);
        assert_eq!(mebibytes(u64::MAX), "17592186044415 MiB");
    }
}
