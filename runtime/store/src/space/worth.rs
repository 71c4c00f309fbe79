//! What is worth least, and so goes first: GreedyDual-Size on a forest.
//!
//! A piece is worth what it costs to make again, per byte that it occupies, on top of what the last piece was worth that had been
//! removed when it was last used; what was used again counts twice. So what nobody uses any more is overtaken by what comes after
//! it, however dear it was. Of the cost the logarithm counts: so the dear outlasts the cheap, and as much is found as if the
//! least recent went first. Nothing goes before what stands on it; where what stands on a large piece is small, they are weighed
//! together, so that a little thing does not keep a large one.
//! **Invariant:** a function of its arguments: no clock, no disk.
//! Source: Cao and Irani, "Cost-Aware WWW Proxy Caching Algorithms", 1997, for GreedyDual-Size.

/// What a piece costs beside the time that it was measured to take: to look it up, to begin.
const FIXED_MS: u64 = 50;

/// Nothing occupies less than a block.
const LEAST_BYTES: u64 = 4096;

/// So often counts; beyond that, yesterday's favourites would stay for long.
const MOST_USES: u64 = 2;

/// A piece that may have to go.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Weighed {
    /// What its removal frees.
    pub(crate) bytes: u64,
    /// What it takes to make it again.
    pub(crate) cost_ms: u64,
    /// How many processes have used it.
    pub(crate) uses: u64,
    /// What the last removed piece was worth when this one was used last.
    pub(crate) base: f64,
    /// The place of what it stands on, which comes before it.
    pub(crate) parent: Option<usize>,
    /// It stays.
    pub(crate) stays: bool,
}

impl Weighed {
    fn cost(&self) -> f64 {
        (self.cost_ms.saturating_add(FIXED_MS) as f64).log2() * (self.uses.clamp(1, MOST_USES) as f64)
    }
}

/// Says which pieces go so that `need_bytes` are freed, in this order, and what the last of them was worth: `floor` or
/// more, which is what it was before. Where all that may go is not enough, all goes.
pub(crate) fn choose(all: &[Weighed], need_bytes: u64, floor: f64) -> (Vec<usize>, f64) {
    let mut children = vec![0_usize; all.len()];
    for parent in all.iter().filter_map(|one| one.parent) {
        if let Some(count) = children.get_mut(parent) {
            *count += 1;
        }
    }
    let (mut gone, mut is_gone) = (Vec::new(), vec![false; all.len()]);
    let (mut freed_bytes, mut floor) = (0_u64, floor);
    while freed_bytes < need_bytes {
        let mut branches: Vec<(f64, Vec<usize>)> = (0..all.len())
            .filter(|place| children.get(*place) == Some(&0) && !is_gone[*place] && !all[*place].stays)
            .map(|leaf| weigh(all, &children, leaf))
            .collect();
        if branches.is_empty() {
            break;
        }
        branches.sort_by(|one, other| one.0.total_cmp(&other.0).then_with(|| one.1.cmp(&other.1)));
        // What stands alone on something by now is weighed again with it, after a part of them all.
        let part = branches.len() / 8 + 1;
        for (worth, branch) in branches.into_iter().take(part) {
            if freed_bytes >= need_bytes {
                break;
            }
            floor = floor.max(worth);
            for place in branch {
                freed_bytes = freed_bytes.saturating_add(all[place].bytes);
                is_gone[place] = true;
                gone.push(place);
                if let Some(count) = all[place].parent.and_then(|parent| children.get_mut(parent)) {
                    *count -= 1;
                }
            }
        }
    }
    (gone, floor)
}

/// Weighs a leaf with as much of what it alone stands on as makes it worth least.
fn weigh(all: &[Weighed], children: &[usize], leaf: usize) -> (f64, Vec<usize>) {
    let mut branch = vec![leaf];
    let (mut cost, mut bytes, mut base) = (0.0, 0_u64, 0.0_f64);
    let mut best = (f64::INFINITY, 1);
    let mut place = leaf;
    loop {
        let one = &all[place];
        cost += one.cost();
        bytes = bytes.saturating_add(one.bytes);
        base = base.max(one.base);
        let mib = bytes.max(LEAST_BYTES) as f64 / f64::from(1 << 20);
        let worth = base + cost / mib;
        if worth < best.0 {
            best = (worth, branch.len());
        }
        match one.parent.filter(|parent| children[*parent] == 1 && !all[*parent].stays) {
            Some(parent) => {
                branch.push(parent);
                place = parent;
            }
            None => break,
        }
    }
    branch.truncate(best.1);
    (best.0, branch)
}

#[cfg(test)]
mod tests;
