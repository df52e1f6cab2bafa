//! Attention with a query in each lane, for whatever vectors: scores, softmax and weighted values of sixteen queries at a time.
//!
//! So nothing is added across lanes, the maximum, the total and the output's factor are vectors too, and keys and values are spread from
//! memory, four elements or two of them at a time. As convolutions, heads of eight channels have too few products to pay for a tile's
//! beginning and end.

use super::super::Attention;
use super::lanes::{Lanes, Softmax};
use crate::kernels::scratch::AttendScratch;

/// Queries of a block.
const QUERIES: usize = AttendScratch::QUERIES;


/// What lies where in `packed` and in scratch, in words of 32 bits.
struct Shape {
    c: usize,
    heads: usize,
    head_dim: usize,
    /// Rounded up to a multiple of four.
    dim: usize,
    positions: usize,
    /// Rounded up to a multiple of four.
    rows: usize,
    /// Words of a key, all heads.
    key: usize,
}

impl Shape {
    fn new<V: Lanes>([c, heads]: [usize; 2], keys: &[i8]) -> Shape {
        let head_dim = c / heads.max(1);
        let (dim, positions) = (head_dim.next_multiple_of(4), keys.len() / c.max(1));
        Shape { c, heads, head_dim, dim, positions, rows: positions.next_multiple_of(4), key: heads * dim / V::ELEMS }
    }

    /// The keys' part of `packed`, and that of the values.
    fn parts(&self) -> [usize; 2] {
        [self.rows * self.key, self.rows / 2 * self.heads * self.dim]
    }
}

/// Elements from the first at a line of the cache on, where there are `len` of them.
fn aligned(words: &mut [i32], len: usize) -> Option<&mut [i32]> {
    let before = words.as_ptr().align_offset(64);
    words.get_mut(before..)?.get_mut(..len)
}

/// Keys: `[rows][heads][dim]`, the last one again behind the end, so that no maximum changes. Values: `[rows / 2][heads][dim]` pairs.
///
/// # Safety
/// As of [`Lanes`].
#[inline(always)]
pub(super) unsafe fn pack<V: Lanes>(packed: &mut [i32], [k, v]: [&[i8]; 2], sizes: [usize; 2]) {
    let shape = Shape::new::<V>(sizes, k);
    let [keys, values] = shape.parts();
    let Some(packed) = aligned(packed, keys + values) else { return };
    let Some((keys, values)) = packed.split_at_mut_checked(keys) else { return };
    let Shape { c, heads, head_dim, dim, positions, .. } = shape;
    if c == 0 || v.len() < positions * c {
        return;
    }
    let keys: &mut [V::Key] = bytemuck::cast_slice_mut(keys);
    // Without padding a row is one head, and all rows are one.
    let [head_dim, dim, heads] = if head_dim == dim { [c, c, 1] } else { [head_dim, dim, heads] };
    if heads == 1 {
        keys.iter_mut().zip(k).for_each(|(key, &elem)| *key = V::key(elem));
    } else {
        for (keys, from) in keys.chunks_exact_mut(dim).zip(k.chunks_exact(head_dim)) {
            keys.iter_mut().zip(from).for_each(|(key, &elem)| *key = V::key(elem));
        }
    }
    let key = heads * dim;
    for row in positions..shape.rows {
        keys.copy_within((positions - 1) * key..positions * key, row * key);
    }
    for (i, values) in values.chunks_exact_mut(key).enumerate() {
        let rows = [2 * i, 2 * i + 1].map(|row| v.get(row.min(positions - 1) * c..).unwrap_or_default());
        let heads = rows[0].chunks_exact(head_dim).zip(rows[1].chunks_exact(head_dim));
        for (values, (a, b)) in values.chunks_exact_mut(dim).zip(heads) {
            let whole = head_dim / V::COUNT * V::COUNT;
            for at in (0..whole).step_by(V::COUNT) {
                unsafe { V::pairs(a.as_ptr().add(at), b.as_ptr().add(at)).store(values.as_mut_ptr().add(at)) };
            }
            for (to, (&a, &b)) in values.iter_mut().zip(a.iter().zip(b)).skip(whole) {
                *to = a as i16 as u16 as i32 | (b as i32) << 16;
            }
        }
    }
}

/// `N` vectors are a block of queries; `T` positions or channels have as many accumulators each as registers hold.
///
/// # Safety
/// As of [`Lanes`].
#[inline(always)]
pub(super) unsafe fn attend<V: Lanes, const N: usize, const T: usize>(
    out: &mut [i8],
    scratch: &mut [i32],
    attention: Attention<'_>,
) {
    let Attention { c, heads, elems: [q, k, _], packed, exponential, .. } = attention;
    let shape = Shape::new::<V>([c, heads], k);
    let Shape { head_dim, dim, positions, rows, key, .. } = shape;
    let [keys_len, values_len] = shape.parts();
    // The same as when it was packed.
    let before = packed.as_ptr().align_offset(64);
    let Some(packed) = packed.get(before..).and_then(|packed| packed.get(..keys_len + values_len)) else { return };
    let Some(scratch) = aligned(scratch, QUERIES * (key + rows)) else { return };
    // SAFETY: the caller's promise.
    let Some(softmax) = (unsafe { Softmax::<V>::new(exponential) }) else { return };
    if out.len() != q.len() || c == 0 || heads == 0 {
        return;
    }
    let (queries, scores) = (scratch.as_mut_ptr(), unsafe { scratch.as_mut_ptr().add(QUERIES * key) });
    let (keys, values) = (packed.as_ptr(), unsafe { packed.as_ptr().add(keys_len) });
    for (q, out) in q.chunks(QUERIES * c).zip(out.chunks_mut(QUERIES * c)) {
        unsafe {
            load_queries::<V, N>(queries, q, &shape);
            for head in 0..heads {
                let (queries, keys) = (queries.add(head * dim / V::ELEMS * QUERIES), keys.add(head * dim / V::ELEMS));
                let mut most = [V::spread(i32::MIN); N];
                let groups = dim / V::ELEMS;
                let mut p = 0;
                while p + T <= rows {
                    score::<V, N, T>(scores.add(p * QUERIES), queries, keys.add(p * key), groups, key, &mut most);
                    p += T;
                }
                if p < rows {
                    score::<V, N, 4>(scores.add(p * QUERIES), queries, keys.add(p * key), groups, key, &mut most);
                }
                let mut totals = [V::spread(0); N];
                for (n, (total, &most)) in totals.iter_mut().zip(&most).enumerate() {
                    let scores = scores.add(n * V::COUNT);
                    *total = match softmax.plain {
                        true => weigh::<V, true>(scores, QUERIES, &softmax, most, positions),
                        false => weigh::<V, false>(scores, QUERIES, &softmax, most, positions),
                    };
                }
                let values = values.add(head * dim);
                let mut finish = [Finish::new(totals[0], &attention); N];
                for (finish, &total) in finish.iter_mut().zip(&totals).skip(1) {
                    *finish = Finish::new(total, &attention);
                }
                let mut d = 0;
                let to = out.get_mut(head * head_dim..).unwrap_or_default();
                while d + T <= dim {
                    mix::<V, N, T>(to, d, scores, values.add(d), rows, &shape, &finish);
                    d += T;
                }
                while d < dim {
                    mix::<V, N, 4>(to, d, scores, values.add(d), rows, &shape, &finish);
                    d += 4;
                }
            }
        }
    }
}

/// `[heads·dim / ELEMS][QUERIES]`, whatever in the lanes of queries that are not there.
#[inline(always)]
unsafe fn load_queries<V: Lanes, const N: usize>(to: *mut i32, q: &[i8], shape: &Shape) {
    let &Shape { c, heads, head_dim, dim, key, .. } = shape;
    unsafe {
        let groups = heads * dim / 4;
        // Behind what is expanded from it.
        let raw = to.add((key - groups) * QUERIES);
        if head_dim == dim {
            for (lane, query) in q.chunks_exact(c).enumerate() {
                for (g, four) in query.as_chunks::<4>().0.iter().enumerate() {
                    *raw.add(g * QUERIES + lane) = i32::from_le_bytes(four.map(|q| q as u8));
                }
            }
        } else {
            for (lane, query) in q.chunks_exact(c).enumerate() {
                for (head, query) in query.chunks_exact(head_dim).enumerate() {
                    for (g, some) in query.chunks(4).enumerate() {
                        let mut four = [0; 4];
                        four.iter_mut().zip(some).for_each(|(to, &q)| *to = q as u8);
                        *raw.add((head * dim / 4 + g) * QUERIES + lane) = i32::from_le_bytes(four);
                    }
                }
            }
        }
        if V::ELEMS == 2 {
            for g in 0..groups {
                for n in 0..N {
                    let [first, second] = V::load(raw.add(g * QUERIES + n * V::COUNT)).queries();
                    first.store(to.add(2 * g * QUERIES + n * V::COUNT));
                    second.store(to.add((2 * g + 1) * QUERIES + n * V::COUNT));
                }
            }
        }
    }
}

/// Scores of `P` positions.
#[inline(always)]
unsafe fn score<V: Lanes, const N: usize, const P: usize>(
    to: *mut i32,
    queries: *const i32,
    keys: *const i32,
    groups: usize,
    stride: usize,
    most: &mut [V; N],
) {
    unsafe {
        let mut acc = [[V::spread(0); N]; P];
        for g in 0..groups {
            let mut query = [V::spread(0); N];
            for (n, query) in query.iter_mut().enumerate() {
                *query = V::load(queries.add(g * QUERIES + n * V::COUNT));
            }
            for (p, acc) in acc.iter_mut().enumerate() {
                let key = V::spread(*keys.add(p * stride + g));
                for (acc, &query) in acc.iter_mut().zip(&query) {
                    *acc = acc.add_scores(query, key);
                }
            }
        }
        for (p, acc) in acc.iter().enumerate() {
            for (n, (acc, most)) in acc.iter().zip(&mut *most).enumerate() {
                acc.store(to.add(p * QUERIES + n * V::COUNT));
                *most = most.max(*acc);
            }
        }
    }
}

/// Scores to weights, in their place, a pair in a lane; and their total. First all indices, then all that they look up: in one pass a step's
/// instructions wait for each other longer than a processor looks ahead.
#[inline(always)]
unsafe fn weigh<V: Lanes, const PLAIN: bool>(
    scores: *mut i32,
    stride: usize,
    softmax: &Softmax<V>,
    most: V,
    positions: usize,
) -> V {
    unsafe {
        for pair in 0..positions.div_ceil(4) * 2 {
            let from = scores.add(2 * pair * stride);
            let pairs = [V::load(from), V::load(from.add(stride))];
            V::index::<PLAIN>(softmax, most, pairs).store(scores.add(pair * stride));
        }
        let mut total = V::spread(0);
        for pair in (0..positions / 4 * 2).step_by(2) {
            let [to, next] = [scores.add(pair * stride), scores.add((pair + 1) * stride)];
            let [a, b] = V::weights::<PLAIN>(softmax, [V::load(to), V::load(next)]);
            a.store(to);
            b.store(next);
            total = total.add_pairs(a, V::spread(0x0001_0001)).add_pairs(b, V::spread(0x0001_0001));
        }
        let left = positions % 4;
        if left > 0 {
            let pair = positions / 4 * 2;
            let keep = [0, 0xffff, -1];
            let keep = [keep[left.min(2)], keep[left.saturating_sub(2)]];
            let [to, next] = [scores.add(pair * stride), scores.add((pair + 1) * stride)];
            let [a, b] = V::weights::<PLAIN>(softmax, [V::load(to), V::load(next)]);
            let [a, b] = [a.and(V::spread(keep[0])), b.and(V::spread(keep[1]))];
            a.store(to);
            b.store(next);
            total = total.add_pairs(a, V::spread(0x0001_0001)).add_pairs(b, V::spread(0x0001_0001));
        }
        total
    }
}

/// From sums to outputs, a query in each lane.
#[derive(Clone, Copy)]
struct Finish<V: Lanes> {
    zero: V,
    limits: [V; 2],
    shift: V,
    multiplier: V::Multiplier,
}

impl<V: Lanes> Finish<V> {
    #[inline(always)]
    unsafe fn new(total: V, attention: &Attention<'_>) -> Finish<V> {
        let [values, out] = attention.quants;
        unsafe {
            let (multiplier, shift) = match total.multipliers(values.scale, out.scale) {
                Some(multiplier) => (multiplier, V::spread(0)),
                None => {
                    let (mut totals, mut shifts) = ([0; QUERIES], [0; QUERIES]);
                    total.store(totals.as_mut_ptr());
                    for (total, shift) in totals.iter_mut().zip(&mut shifts) {
                        let factor = attention.factor(*total);
                        (*total, *shift) = (factor.multiplier, factor.shift as i32);
                    }
                    (V::load(totals.as_ptr()), V::load(shifts.as_ptr()))
                }
            };
            Finish {
                zero: total.product(V::spread(values.zero_point as i32)),
                limits: shift.limits(),
                shift,
                multiplier: multiplier.multiplier(out.zero_point as i32),
            }
        }
    }
}

/// `D` channels of a head, from `first` on.
#[inline(always)]
unsafe fn mix<V: Lanes, const N: usize, const D: usize>(
    out: &mut [i8],
    first: usize,
    weights: *const i32,
    values: *const i32,
    rows: usize,
    shape: &Shape,
    finish: &[Finish<V>; N],
) {
    let stride = shape.heads * shape.dim;
    unsafe {
        let mut acc = [[V::spread(0); D]; N];
        for pair in 0..rows / 2 {
            let mut weight = [V::spread(0); N];
            for (n, weight) in weight.iter_mut().enumerate() {
                *weight = V::load(weights.add(pair * QUERIES + n * V::COUNT));
            }
            for d in 0..D {
                let value = V::spread(*values.add(pair * stride + d));
                for (acc, &weight) in acc.iter_mut().zip(&weight) {
                    acc[d] = acc[d].add_pairs(weight, value);
                }
            }
        }
        let mut bytes = [0i32; 2 * QUERIES];
        for (n, (acc, k)) in acc.iter_mut().zip(finish).enumerate() {
            for acc in acc.iter_mut() {
                *acc = acc.sub(k.zero).scale(k.limits, k.shift, k.multiplier);
            }
            for (g, &four) in acc.as_chunks::<4>().0.iter().enumerate() {
                V::bytes(four).store(bytes.as_mut_ptr().add(g * QUERIES + n * V::COUNT));
            }
        }
        let count = out.len().div_ceil(shape.c);
        for (g, bytes) in bytes.as_chunks::<QUERIES>().0.iter().enumerate().take(D / 4) {
            let to = out.as_mut_ptr().add(first + 4 * g);
            let left = shape.head_dim - first - 4 * g;
            if left >= 4 && count == QUERIES {
                for (lane, &four) in bytes.iter().enumerate() {
                    to.add(lane * shape.c).cast::<i32>().write_unaligned(four);
                }
            } else {
                for (lane, four) in bytes.iter().enumerate().take(count) {
                    let four = four.to_le_bytes();
                    core::ptr::copy_nonoverlapping(four.as_ptr().cast(), to.add(lane * shape.c), left.min(4));
                }
            }
        }
    }
}
