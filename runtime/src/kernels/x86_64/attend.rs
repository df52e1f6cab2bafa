//! Attention with a query in each lane, whatever the vector: scores, softmax and weighted values of two vectors of queries at a time.
//!
//! So nothing is added across lanes, maximum, total and the output's factor are vectors too, and keys and values are spread from memory:
//! as many bytes of a key, or a pair of positions' values, as a lane has. As convolutions, heads of eight channels have too few products to
//! pay for a tile's beginning and end. In a net of 15.6 M multiply-adds attention takes 0.47 (`avx2`) and 0.34 (`avx512vnni`) of that time.

use super::super::Attention;
use super::lanes::{Keys, Lanes, Softmax};

/// Queries of two vectors at most.
const QUERIES: usize = super::super::scratch::AttendScratch::QUERIES;

/// Positions, or channels, that have their sums in registers: eight, of two vectors, beside what they are the products of.
const TILE: usize = 4;

/// A pair of ones.
const ONES: i32 = 0x0001_0001;

/// Sizes, in elements and in words of 32 bits.
struct Shape {
    c: usize,
    head_dim: usize,
    positions: usize,
    /// Both rounded up to whole tiles.
    dim: usize,
    rows: usize,
    /// Words of a head in a key.
    key: usize,
    /// Channels of all heads, rounded up.
    width: usize,
    /// Words of all keys, and of all values, packed.
    packed: [usize; 2],
}

impl Shape {
    /// None where there is nothing to do, or the elements are not what they should be.
    fn new<Key>([k, v]: [&[i8]; 2], [c, heads]: [usize; 2]) -> Option<Shape> {
        let (head_dim, positions) = (c.checked_div(heads)?, k.len().checked_div(c)?);
        let (dim, rows) = (head_dim.next_multiple_of(TILE), positions.next_multiple_of(TILE));
        let (key, width) = (dim * size_of::<Key>() / 4, heads * dim);
        let whole = positions > 0 && heads * head_dim == c && k.len() == positions * c && v.len() == k.len();
        let packed = [rows * heads * key, rows / 2 * width];
        whole.then_some(Shape { c, head_dim, positions, dim, rows, key, width, packed })
    }

    /// Channels of a head in a tensor and packed: of all of them, where nothing is rounded up.
    fn heads(&self) -> [usize; 2] {
        if self.head_dim == self.dim { [self.c; 2] } else { [self.head_dim, self.dim] }
    }
}

/// Words before the first at a line of the cache, where there are `len` behind it.
fn before(words: &[i32], len: usize) -> Option<usize> {
    let before = words.as_ptr().align_offset(64);
    (before.checked_add(len)? <= words.len()).then_some(before)
}

/// Keys as `[rows][heads][dim]`, where the last one stands behind the end too, so that no maximum changes; values as
/// `[rows / 2][heads][dim][2]`. What rounds a head up is whatever: queries are zero there, and outputs not stored.
///
/// # Safety
/// As of [`Lanes`].
#[inline(always)]
pub(super) unsafe fn pack<V: Lanes, K: Keys<V>>(packed: &mut [i32], [k, v]: [&[i8]; 2], sizes: [usize; 2]) {
    let Some(shape) = Shape::new::<K::Key>([k, v], sizes) else { return };
    let [keys, values] = shape.packed;
    let Some(before) = before(packed, keys + values) else { return };
    let Some((keys, values)) = packed.split_at_mut_checked(before + keys) else { return };
    let keys: &mut [K::Key] = bytemuck::cast_slice_mut(keys.get_mut(before..).unwrap_or_default());
    let ([head_dim, dim], last) = (shape.heads(), shape.positions - 1);
    let [whole, padded] = if head_dim == dim { [k.len(); 2] } else { [head_dim, dim] };
    for (keys, k) in keys.chunks_mut(padded).zip(k.chunks_exact(whole)) {
        keys.iter_mut().zip(k).for_each(|(key, &elem)| *key = K::key(elem));
    }
    for row in last + 1..shape.rows {
        keys.copy_within(last * shape.width..(last + 1) * shape.width, row * shape.width);
    }
    for (i, values) in values.chunks_exact_mut(shape.width).take(shape.rows / 2).enumerate() {
        let row = |row: usize| v.get(row.min(last) * shape.c..).unwrap_or_default().chunks_exact(head_dim);
        for (values, (a, b)) in values.chunks_exact_mut(dim).zip(row(2 * i).zip(row(2 * i + 1))) {
            if head_dim < V::COUNT {
                let pairs = a.iter().zip(b).map(|(&a, &b)| a as i16 as u16 as i32 | (b as i32) << 16);
                values.iter_mut().zip(pairs).for_each(|(to, pair)| *to = pair);
            } else {
                for at in (0..head_dim).step_by(V::COUNT) {
                    // The last ones again where they are no whole vector.
                    let at = at.min(head_dim - V::COUNT);
                    // SAFETY: as many elements are there from `at` on, of each.
                    unsafe { V::pairs(a.as_ptr().add(at), b.as_ptr().add(at)).store(values.as_mut_ptr().add(at)) }
                }
            }
        }
    }
}

/// Where a block's queries, and what is made of them, lie.
#[derive(Clone, Copy)]
struct Block {
    /// `[heads][key][2 vectors]`.
    queries: *mut i32,
    /// `[rows][2 vectors]`.
    scores: *mut i32,
}

/// # Safety
/// As of [`Lanes`].
#[inline(always)]
pub(super) unsafe fn attend<V: Lanes, K: Keys<V>>(out: &mut [i8], scratch: &mut [i32], attention: Attention<'_>) {
    let Attention { c, heads, elems: [q, k, v], packed, exponential, .. } = attention;
    let Some(shape) = Shape::new::<K::Key>([k, v], [c, heads]) else { return };
    let (block, len) = (2 * V::COUNT, heads * shape.key + shape.rows);
    let Some(in_packed) = before(packed, shape.packed[0] + shape.packed[1]) else { return };
    let Some(in_scratch) = before(scratch, block * len) else { return };
    // SAFETY: the caller's promise.
    let Some(softmax) = (unsafe { Softmax::<V>::new(exponential) }) else { return };
    // SAFETY: `before` has found as many words behind these.
    let (keys, values, at) = unsafe {
        let (keys, queries) = (packed.as_ptr().add(in_packed), scratch.as_mut_ptr().add(in_scratch));
        let at = Block { queries, scores: queries.add(block * heads * shape.key) };
        (keys, keys.add(shape.packed[0]), at)
    };
    for (q, out) in q.chunks(block * c).zip(out.chunks_mut(block * c)) {
        if !q.len().is_multiple_of(c) || out.len() != q.len() {
            return;
        }
        // SAFETY: the caller's promise of instructions. Queries and scores of the block are there, and so are rows of keys and pairs of rows
        // of values, of each of which a head has its part; its outputs lie from its first channel of the first query on.
        unsafe {
            load_queries::<V, K>(at.queries, q, &shape);
            for head in 0..heads {
                let at = Block { queries: at.queries.add(head * shape.key * block), ..at };
                let most = score::<V, K>(at, keys.add(head * shape.key), heads * shape.key, &shape);
                let mut finish = [Finish { zero: most[0], shift: most[0], multiplier: most[0].multiplier(0) }; 2];
                for (n, (finish, most)) in finish.iter_mut().zip(most).enumerate() {
                    let scores = at.scores.add(n * V::COUNT);
                    let total = match softmax.plain {
                        true => weigh::<V, true>(scores, &softmax, most, shape.positions),
                        false => weigh::<V, false>(scores, &softmax, most, shape.positions),
                    };
                    *finish = Finish::new(total, &attention);
                }
                let out = out.get_mut(head * shape.head_dim..).unwrap_or_default();
                mix::<V>(out, at.scores, values.add(head * shape.dim), &shape, finish);
            }
        }
    }
}

/// Queries as keys are, a lane each; what is in the lanes of those that are not there is whatever.
///
/// # Safety
/// As of [`Lanes`]; from `to` on there are two vectors for each word of a key.
#[inline(always)]
unsafe fn load_queries<V: Lanes, K: Keys<V>>(to: *mut i32, q: &[i8], shape: &Shape) {
    let (block, [head_dim, dim]) = (2 * V::COUNT, shape.heads());
    let (fours, expanded) = (shape.width / 4, size_of::<K::Key>());
    // Bytes first, in the last part of what they become.
    let bytes = (expanded - 1) * fours;
    // As vectors where no head is rounded up and all of a block's queries are there.
    let mut done = head_dim == dim && shape.c.is_multiple_of(16) && q.len() == block * shape.c;
    if done {
        for (i, word) in (0..block / V::COUNT).flat_map(|i| (0..fours).step_by(4).map(move |word| (i, word))) {
            // SAFETY: sixteen bytes of a vector's queries; four vectors of these words.
            done &= unsafe {
                let rows = q.as_ptr().add(i * V::COUNT * shape.c + 4 * word);
                V::transposed(rows, shape.c, to.add((bytes + word) * block + i * V::COUNT), block)
            };
        }
    }
    for (lane, query) in q.chunks_exact(shape.c).enumerate().skip(if done { usize::MAX } else { 0 }) {
        for (head, query) in query.chunks_exact(head_dim).enumerate() {
            let (whole, rest) = query.as_chunks();
            // SAFETY: a word of a head; `lane` is below `block`.
            let put = |i: usize, four: [i8; 4]| unsafe {
                let word = i32::from_le_bytes(four.map(|elem| elem as u8));
                *to.add((bytes + head * dim / 4 + i) * block + lane) = word;
            };
            whole.iter().enumerate().for_each(|(i, &four)| put(i, four));
            if !rest.is_empty() {
                put(whole.len(), core::array::from_fn(|i| rest.get(i).copied().unwrap_or(0)));
            }
        }
    }
    for i in 0..if expanded > 1 { 2 * fours } else { 0 } {
        // SAFETY: the vectors of word i / 2, which no word before it has become.
        unsafe {
            let [i, at] = [i / 2, i % 2 * V::COUNT];
            let [first, second] = K::queries(V::load(to.add((bytes + i) * block + at)));
            first.store(to.add(2 * i * block + at));
            second.store(to.add((2 * i + 1) * block + at));
        }
    }
}

/// All scores of a block, of keys that are `stride` words apart; and the largest of each query.
///
/// # Safety
/// As of [`Lanes`]; a head's part of the block and of the keys is there.
#[inline(always)]
unsafe fn score<V: Lanes, K: Keys<V>>(at: Block, keys: *const i32, stride: usize, shape: &Shape) -> [V; 2] {
    let block = 2 * V::COUNT;
    // SAFETY: the caller's promise.
    unsafe {
        let mut most = [V::spread(i32::MIN); 2];
        for row in (0..shape.rows).step_by(TILE) {
            let keys = keys.add(row * stride);
            let mut acc = [[V::spread(0); 2]; TILE];
            for word in 0..shape.key {
                let query = at.queries.add(word * block);
                let query = [V::load(query), V::load(query.add(V::COUNT))];
                for (i, acc) in acc.iter_mut().enumerate() {
                    let key = V::spread(*keys.add(i * stride + word));
                    *acc = [K::add_scores(acc[0], query[0], key), K::add_scores(acc[1], query[1], key)];
                }
            }
            for (i, acc) in acc.into_iter().enumerate() {
                let to = at.scores.add((row + i) * block);
                acc[0].store(to);
                acc[1].store(to.add(V::COUNT));
                most = [most[0].max(acc[0]), most[1].max(acc[1])];
            }
        }
        most
    }
}

/// A vector's scores to weights, pairs in their place; and their total. All indices first: in one pass a weight's instructions wait for each
/// other longer than a processor looks ahead, and AVX2 takes 1.3 times as long.
///
/// # Safety
/// As of [`Lanes`]; rows of scores are there.
#[inline(always)]
unsafe fn weigh<V: Lanes, const PLAIN: bool>(scores: *mut i32, k: &Softmax<V>, most: V, positions: usize) -> V {
    let stride = 2 * V::COUNT;
    // SAFETY: the caller's promise; of rows rounded up there are twice as many as pairs.
    unsafe {
        for pair in 0..positions.div_ceil(TILE) * 2 {
            let from = scores.add(2 * pair * stride);
            let index = V::index::<PLAIN>(k, most, [V::load(from), V::load(from.add(stride))]);
            index.store(scores.add(pair * stride));
        }
        let (mut total, mut to) = (V::spread(0), scores);
        for _ in 0..positions / TILE {
            total = two::<V, PLAIN>(to, k, [-1; 2], total);
            to = to.add(2 * stride);
        }
        match positions % TILE {
            0 => total,
            left => two::<V, PLAIN>(to, k, [[0xffff, 0], [-1, 0], [-1, 0xffff]][left - 1], total),
        }
    }
}

/// Two pairs of indices to weights, of which those of `keep` stay; returns the total with them.
///
/// # Safety
/// As of [`Lanes`].
#[inline(always)]
unsafe fn two<V: Lanes, const PLAIN: bool>(at: *mut i32, k: &Softmax<V>, keep: [i32; 2], total: V) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let next = at.add(2 * V::COUNT);
        let [a, b] = V::weights::<PLAIN>(k, [V::load(at), V::load(next)]);
        let [a, b] = [a.and(V::spread(keep[0])), b.and(V::spread(keep[1]))];
        a.store(at);
        b.store(next);
        total.add_pairs(a, V::spread(ONES)).add_pairs(b, V::spread(ONES))
    }
}

/// From sums to outputs.
#[derive(Clone, Copy)]
struct Finish<V: Lanes> {
    zero: V,
    shift: V,
    multiplier: V::Multiplier,
}

impl<V: Lanes> Finish<V> {
    /// As [`Attention::factor`], which is asked where a lane needs a shift.
    ///
    /// # Safety
    /// As of [`Lanes`].
    #[inline(always)]
    unsafe fn new(total: V, attention: &Attention<'_>) -> Finish<V> {
        let [values, out] = attention.quants;
        // SAFETY: the caller's promise; the arrays are as long as a vector at least.
        unsafe {
            let [multiplier, shift] = match total.multipliers(values.scale, out.scale) {
                Some(multiplier) => [multiplier, V::spread(0)],
                None => {
                    let (mut multipliers, mut shifts) = ([0; QUERIES], [0; QUERIES]);
                    total.store(multipliers.as_mut_ptr());
                    for (total, shift) in multipliers.iter_mut().zip(&mut shifts) {
                        let factor = attention.factor(*total);
                        (*total, *shift) = (factor.multiplier, factor.shift as i32);
                    }
                    [V::load(multipliers.as_ptr()), V::load(shifts.as_ptr())]
                }
            };
            let zero = total.product(V::spread(values.zero_point as i32));
            Finish { zero, shift, multiplier: multiplier.multiplier(out.zero_point as i32) }
        }
    }
}

/// A head's outputs from all weights and its values. `out` ends with the last query.
///
/// # Safety
/// As of [`Lanes`]; rows of weights and of values are there, `out` has a head's channels every `c` elements.
#[inline(always)]
unsafe fn mix<V: Lanes>(
    out: &mut [i8],
    weights: *const i32,
    values: *const i32,
    shape: &Shape,
    finish: [Finish<V>; 2],
) {
    let (block, queries) = (2 * V::COUNT, out.len().div_ceil(shape.c));
    for first in (0..shape.dim).step_by(TILE) {
        let mut bytes = [0i32; QUERIES];
        // SAFETY: the caller's promise; `bytes` is as long as two vectors at least.
        unsafe {
            let mut acc = [[V::spread(0); 2]; TILE];
            for pair in 0..shape.rows / 2 {
                let weight = weights.add(pair * block);
                let weight = [V::load(weight), V::load(weight.add(V::COUNT))];
                for (i, acc) in acc.iter_mut().enumerate() {
                    let value = V::spread(*values.add(pair * shape.width + first + i));
                    *acc = [acc[0].add_pairs(weight[0], value), acc[1].add_pairs(weight[1], value)];
                }
            }
            for (n, k) in finish.iter().enumerate() {
                let mut outputs = [V::spread(0); TILE];
                for (output, acc) in outputs.iter_mut().zip(&acc) {
                    *output = acc[n].sub(k.zero).scale(k.shift, k.multiplier);
                }
                V::bytes(outputs).store(bytes.as_mut_ptr().add(n * V::COUNT));
            }
        }
        // SAFETY: channels of the head, and those of a query that is there.
        let to = unsafe { out.as_mut_ptr().add(first) };
        let to = |lane: usize| unsafe { to.add(lane * shape.c) };
        match shape.head_dim - first {
            TILE.. if queries == block => {
                for (lane, &four) in bytes.iter().enumerate().take(block) {
                    // SAFETY: as above.
                    unsafe { to(lane).cast::<i32>().write_unaligned(four) }
                }
            }
            left => {
                for (lane, four) in bytes.iter().enumerate().take(queries) {
                    // SAFETY: as above.
                    unsafe { core::ptr::copy_nonoverlapping((&raw const *four).cast(), to(lane), left.min(TILE)) }
                }
            }
        }
    }
}
