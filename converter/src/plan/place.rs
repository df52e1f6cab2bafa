//! Placement: lifetimes and sizes → byte offsets.
//!
//! What is minimised is not the height of the pile but what the device pays: the maximum over operators of the highest
//! byte that lives during it plus its scratch (contract 3). Optimal placement is NP-hard (dynamic storage allocation);
//! the first-fit and best-fit piles from a few sorted orders, then a hill climb over orders, reach the lower bound for
//! most U-Nets, and the lower bound is reported beside the result, so a miss is visible.
//!
//! Voids the promise: nothing. Every result is checked by construction (a buffer is placed only where no buffer that
//! lives at the same time lies), and the same problem gives the same offsets on every machine: the climb's random
//! numbers come from a fixed seed.

use std::ops::Range;

/// Buffers are placed, and their sizes counted, in units of this many bytes.
pub const ALIGN_BYTES: usize = mote_runtime::format::Tensor::ALIGN;

/// Something that occupies arena bytes from operator `first` to operator `last`, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Size; counted rounded up to [`ALIGN_BYTES`].
    pub bytes: usize,
    /// The operator that writes it, or 0.
    pub first: usize,
    /// The last operator that reads it; at least `first`.
    pub last: usize,
    /// Operators between them during which it need not be there.
    pub idle: Range<usize>,
}

impl Buffer {
    fn aligned_bytes(&self) -> usize {
        self.bytes.next_multiple_of(ALIGN_BYTES)
    }

    fn meets(&self, other: &Buffer) -> bool {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        first <= last && (first..=last).any(|op| self.lives(op) && other.lives(op))
    }

    /// Whether it is there during an operator.
    pub fn lives(&self, op: usize) -> bool {
        (self.first..=self.last).contains(&op) && !self.idle.contains(&op)
    }
}

/// A placement problem.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// What is to be placed.
    pub buffers: Vec<Buffer>,
    /// Scratch of each operator, which lies above everything that lives during it.
    pub scratch_bytes: Vec<usize>,
}

/// A solution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// One a buffer, multiples of [`ALIGN_BYTES`].
    pub offsets: Vec<usize>,
    /// For each operator, the highest byte that lives during it, a multiple of [`ALIGN_BYTES`].
    pub live_ends: Vec<usize>,
    /// Maximum over operators of live end + scratch.
    pub arena_bytes: usize,
}

/// Orders from which the climb starts.
const CLIMBS: usize = 3;

#[derive(Clone, Copy)]
enum Fit {
    First,
    Best,
}

impl Problem {
    /// Bytes that live during each operator, scratch included.
    pub fn need_bytes(&self) -> Vec<usize> {
        let mut need = self.scratch_bytes.clone();
        for buffer in &self.buffers {
            let last = buffer.last.min(need.len().saturating_sub(1));
            for op in (buffer.first..=last).filter(|&op| buffer.lives(op)) {
                need[op] += buffer.aligned_bytes();
            }
        }
        need
    }

    /// No placement needs fewer bytes than this.
    pub fn lower_bound_bytes(&self) -> usize {
        self.need_bytes().into_iter().max().unwrap_or(0)
    }

    /// The best placement found.
    pub fn solve(&self) -> Placement {
        let bound = self.lower_bound_bytes();
        let neighbours = self.neighbours();
        let mut starts: Vec<(Placement, Vec<usize>, Fit)> = Vec::new();
        for order in self.orders() {
            for fit in [Fit::First, Fit::Best] {
                starts.push((self.pile(&order, fit, &neighbours), order.clone(), fit));
            }
        }
        starts.sort_by_key(|(placement, ..)| placement.arena_bytes);
        starts.truncate(CLIMBS);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let climbed = starts.into_iter().map(|(placement, order, fit)| {
            if placement.arena_bytes <= bound {
                return placement;
            }
            self.climb(placement, order, fit, &neighbours, bound, &mut random)
        });
        climbed.min_by_key(|placement| placement.arena_bytes).unwrap_or(Placement {
            offsets: Vec::new(),
            live_ends: Vec::new(),
            arena_bytes: bound,
        })
    }

    /// Moves one buffer to another place in the order, mostly one that lives at the peak; sideways steps are taken, they
    /// leave plateaus.
    fn climb(
        &self,
        mut best: Placement,
        mut order: Vec<usize>,
        fit: Fit,
        neighbours: &[Vec<usize>],
        bound: usize,
        random: &mut Random,
    ) -> Placement {
        let count = order.len();
        // A pile costs about count² steps; more tries than this gained nothing on the oracle's networks.
        let tries = (40_000_000 / (count * count + 1)).clamp(500, 3_000);
        for _ in 0..tries {
            let total = |op: &usize| best.live_ends[*op] + self.scratch_bytes[*op];
            let peak = (0..best.live_ends.len()).max_by_key(total).unwrap_or(0);
            let at_peak = |i: &usize| {
                let buffer = &self.buffers[order[*i]];
                buffer.lives(peak)
            };
            let candidates: Vec<usize> = (0..count).filter(at_peak).collect();
            let from = if random.below(4) == 0 || candidates.is_empty() {
                random.below(count)
            } else {
                candidates[random.below(candidates.len())]
            };
            let mut candidate = order.clone();
            let moved = candidate.remove(from);
            candidate.insert(random.below(count), moved);
            let placement = self.pile(&candidate, fit, neighbours);
            if placement.arena_bytes <= best.arena_bytes {
                (best, order) = (placement, candidate);
                if best.arena_bytes <= bound {
                    break;
                }
            }
        }
        best
    }

    fn neighbours(&self) -> Vec<Vec<usize>> {
        let meets =
            |a: usize| (0..self.buffers.len()).filter(move |&b| b != a && self.buffers[a].meets(&self.buffers[b]));
        (0..self.buffers.len()).map(|a| meets(a).collect()).collect()
    }

    /// By size, by size × lifetime, by lifetime (largest first), by start, by end (last first).
    fn orders(&self) -> Vec<Vec<usize>> {
        let by = |key: fn(&Buffer) -> [usize; 2]| {
            let mut order: Vec<usize> = (0..self.buffers.len()).collect();
            order.sort_by_key(|&i| key(&self.buffers[i]));
            order
        };
        vec![
            by(|b| [usize::MAX - b.aligned_bytes(), b.first]),
            by(|b| [usize::MAX - b.aligned_bytes().saturating_mul(b.last - b.first + 1), b.first]),
            by(|b| [usize::MAX - (b.last - b.first), b.first]),
            by(|b| [b.first, usize::MAX - b.last]),
            by(|b| [usize::MAX - b.last, b.first]),
        ]
    }

    fn pile(&self, order: &[usize], fit: Fit, neighbours: &[Vec<usize>]) -> Placement {
        const UNPLACED: usize = usize::MAX;
        let mut offsets = vec![UNPLACED; self.buffers.len()];
        let mut taken: Vec<(usize, usize)> = Vec::new();
        for &id in order {
            let bytes = self.buffers[id].aligned_bytes();
            taken.clear();
            let placed = neighbours[id].iter().filter(|&&other| offsets[other] != UNPLACED);
            taken.extend(placed.map(|&other| (offsets[other], offsets[other] + self.buffers[other].aligned_bytes())));
            taken.sort_unstable();
            let (mut end, mut chosen) = (0, None);
            for &(from, to) in &taken {
                if from >= end + bytes {
                    let gap = from - end;
                    match fit {
                        Fit::First => {
                            chosen = Some((gap, end));
                            break;
                        }
                        Fit::Best if chosen.is_none_or(|(least, _)| gap < least) => chosen = Some((gap, end)),
                        Fit::Best => {}
                    }
                }
                end = end.max(to);
            }
            offsets[id] = chosen.map_or(end, |(_, at)| at);
        }
        let mut live_ends = vec![0; self.scratch_bytes.len()];
        for (buffer, offset) in self.buffers.iter().zip(&offsets) {
            let last = buffer.last.min(live_ends.len().saturating_sub(1));
            for op in (buffer.first..=last).filter(|&op| buffer.lives(op)) {
                live_ends[op] = live_ends[op].max(offset + buffer.aligned_bytes());
            }
        }
        let arena_bytes = live_ends.iter().zip(&self.scratch_bytes).map(|(end, scratch)| end + scratch).max();
        Placement { offsets, live_ends, arena_bytes: arena_bytes.unwrap_or(0) }
    }
}

/// Marsaglia's xorshift64: enough to shuffle, the same everywhere.
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % limit.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(problem: &Problem) -> Placement {
        let placement = problem.solve();
        for (a, x) in problem.buffers.iter().enumerate() {
            assert_eq!(placement.offsets[a] % ALIGN_BYTES, 0);
            for (b, y) in problem.buffers.iter().enumerate().skip(a + 1) {
                let apart = placement.offsets[a] + x.bytes <= placement.offsets[b]
                    || placement.offsets[b] + y.bytes <= placement.offsets[a];
                let together = (x.first..=x.last).any(|op| x.lives(op) && y.lives(op));
                assert!(apart || !together, "{x:?} over {y:?}");
            }
            for op in (x.first..=x.last).filter(|&op| x.lives(op)) {
                assert!(placement.offsets[a] + x.bytes <= placement.live_ends[op]);
                assert!(placement.live_ends[op] + problem.scratch_bytes[op] <= placement.arena_bytes);
            }
        }
        assert!(placement.arena_bytes >= problem.lower_bound_bytes());
        placement
    }

    #[test]
    fn random_lifetimes_never_collide() {
        let mut random = Random(7);
        let (mut total, mut bound) = (0, 0);
        for _ in 0..20 {
            let ops = 1 + random.below(30);
            let buffers = (0..random.below(40)).map(|_| {
                let first = random.below(ops);
                let last = first + random.below(ops - first);
                let idle = if random.below(3) == 0 { first + 1..last } else { 0..0 };
                Buffer { bytes: 1 + random.below(5000), first, last, idle }
            });
            let problem =
                Problem { buffers: buffers.collect(), scratch_bytes: (0..ops).map(|_| random.below(2000)).collect() };
            let placement = check(&problem);
            assert_eq!(placement, problem.solve(), "the same problem, the same plan");
            total += placement.arena_bytes;
            bound += problem.lower_bound_bytes();
        }
        assert!(total * 100 <= bound * 105, "placements are {total} bytes where {bound} are the bound");
    }

    #[test]
    fn a_chain_takes_two_neighbours() {
        let chain = |first| Buffer { bytes: 1024, first, last: first + 1, idle: 0..0 };
        let problem = Problem { buffers: (0..9).map(chain).collect(), scratch_bytes: vec![0; 10] };
        assert_eq!(check(&problem).arena_bytes, 2048);
        assert_eq!(Problem::default().solve().arena_bytes, 0);
    }
}
