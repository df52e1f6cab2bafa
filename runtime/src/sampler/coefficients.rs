//! One step's update of the sample: a row of the compiled schedule, element by element.
//!
//! `x₀ = p·x + q·model`, clipped; `ε = r·x + s·model`; `x' = ((a·x + b·x₀) + c·ε) + d·noise + Σ eₖ·historyₖ`, in that
//! order, f32. The state stays f32; every operation is correctly rounded and nothing is contracted, so the bytes are the
//! same everywhere. The converter's float sampler calls this same function.

use crate::format::schedule::{Clip, HISTORY, Row, Store};
use crate::kernels::Kernels;
use crate::opset::{self, OpSet, links};

/// Applies a row: `x` becomes x' where the row advances, `model` becomes x₀ (the preview).
///
/// All slices have the sample's length; unused history slots are empty. `noise` gives the standard normal number of an
/// element; it is asked for each element in order, and only by rows whose `d` is not zero.
pub fn update<const OPS: OpSet>(
    kernels: &Kernels,
    row: &Row,
    x: &mut [f32],
    model: &mut [f32],
    mut history: [&mut [f32]; HISTORY],
    mut noise: impl FnMut(usize) -> f32,
) {
    let clip = match row.clip {
        Clip::None => Bounds { range: f32::INFINITY, divide: 1.0 },
        Clip::Range(range) => Bounds { range, divide: 1.0 },
        Clip::Dynamic { ratio, max } if links(OPS, opset::CLIP_DYNAMIC) => {
            let range = abs_quantile(x, model, |x, m| row.p * x + row.q * m, ratio).max(1.0).min(max);
            Bounds { range, divide: range }
        }
        Clip::Dynamic { .. } => Bounds { range: 1.0, divide: 1.0 },
    };
    let stored = match row.store {
        Store::None => None,
        _ => Some(row.store_slot as usize),
    };
    let no_history = !links(OPS, opset::HISTORY) || stored.is_none() && row.e == [0.0; HISTORY];
    if let [plain, ..] = kernels.update.as_slice()
        && row.advance
        && row.d == 0.0
        && no_history
    {
        return plain(x, model, row, clip);
    }
    for (i, (x, model)) in x.iter_mut().zip(model).enumerate() {
        let (x0, eps, mut next) = element(row, *x, *model, clip.range, clip.divide);
        if row.d != 0.0 {
            next += row.d * noise(i);
        }
        if !links(OPS, opset::HISTORY) {
            // Neither read nor stored.
        } else {
            for (slot, (&e, values)) in row.e.iter().zip(&mut history).enumerate() {
                let Some(value) = values.get_mut(i) else { continue };
                if e != 0.0 {
                    next += e * *value;
                }
                if stored == Some(slot) {
                    *value = match row.store {
                        Store::Eps => eps,
                        Store::X0 => x0,
                        Store::Model | Store::None => *model,
                    };
                }
            }
        }
        if row.advance {
            *x = next;
        }
        *model = x0;
    }
}

/// `clamp(x₀, ±range)/divide`.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most.
    pub range: f32,
    /// What it is divided by.
    pub divide: f32,
}

/// x₀, ε and x' of an element and its model output.
#[inline(always)]
fn element(row: &Row, x: f32, model: f32, range: f32, divide: f32) -> (f32, f32, f32) {
    let x0 = (row.p * x + row.q * model).max(-range).min(range) / divide;
    let eps = row.r * x + row.s * model;
    (x0, eps, row.a * x + row.b * x0 + row.c * eps)
}

/// Most rows on hosts, those without noise and history, which tables of kernels have for their instructions: without branches, a fifth of the
/// time, and without a division by one, half of that.
#[inline(always)]
pub(crate) fn plain(x: &mut [f32], model: &mut [f32], row: &Row, Bounds { range, divide }: Bounds) {
    let elements = x.iter_mut().zip(model);
    match divide {
        1.0 => elements.for_each(|(x, model)| (*model, _, *x) = element(row, *x, *model, range, 1.0)),
        _ => elements.for_each(|(x, model)| (*model, _, *x) = element(row, *x, *model, range, divide)),
    }
}

/// Classifier-free guidance, in place over the conditional output: `u + g·(c − u)`.
///
/// Ho and Salimans, arXiv:2207.12598, equation 6 with diffusers' `guidance_scale` g = 1 + w.
pub fn guide(conditional: &mut [f32], unconditional: &[f32], guidance_scale: f32) {
    for (c, &u) in conditional.iter_mut().zip(unconditional) {
        *c = u + guidance_scale * (*c - u);
    }
}

/// The `ratio` quantile of |f(x, m)| with linear interpolation, as `torch.quantile`. Takes no memory: it bisects over bit
/// patterns, 31 passes, each recomputing the values.
fn abs_quantile(x: &[f32], m: &[f32], f: impl Fn(f32, f32) -> f32, ratio: f32) -> f32 {
    let values = || x.iter().zip(m).map(|(&x, &m)| f(x, m).abs());
    let last = x.len().min(m.len()).saturating_sub(1);
    let rank = ratio * last as f32;
    let below = (rank as usize).min(last);
    let weight = rank - below as f32;
    // Non-negative floats order as their bits: the smallest t with more than `below` values at most t.
    let (mut low, mut high) = (0u32, 0x7f80_0000u32);
    while low < high {
        let middle = low + (high - low) / 2;
        if values().filter(|v| v.to_bits() <= middle).count() > below {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let lower = f32::from_bits(low);
    if weight == 0.0 {
        return lower;
    }
    let upper = if values().filter(|v| v.to_bits() <= low).count() > below + 1 {
        lower
    } else {
        values().filter(|v| v.to_bits() > low).fold(f32::INFINITY, f32::min)
    };
    if weight < 0.5 { lower + weight * (upper - lower) } else { upper - (upper - lower) * (1.0 - weight) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::scalar::TABLE;

    const ROW: Row = Row {
        timestep: 0.0,
        graph: 0,
        null_graph: 0,
        advance: true,
        p: 1.0,
        q: 0.0,
        clip: Clip::None,
        r: 0.0,
        s: 1.0,
        a: 0.5,
        b: 0.25,
        c: 2.0,
        d: 0.0,
        e: [0.0; 4],
        store: Store::None,
        store_slot: 0,
    };
    const SILENT: fn(usize) -> f32 = |_| f32::NAN;

    #[test]
    fn a_row_is_its_formula() {
        let (mut x, mut m) = ([2.0f32, -3.0], [1.0f32, 0.5]);
        update::<{ opset::ALL }>(&TABLE, &ROW, &mut x, &mut m, Default::default(), SILENT);
        assert_eq!(x, [1.0 + 0.5 + 2.0, -1.5 - 0.75 + 1.0]);
        assert_eq!(m, [2.0, -3.0]);
    }

    #[test]
    fn history_is_read_before_it_is_written() {
        // Two rows of a two-step Adams-Bashforth: e reads the ε that the row before stored.
        let row = Row { a: 1.0, b: 0.0, c: 1.5, e: [-0.5, 0.0, 0.0, 0.0], store: Store::Eps, ..ROW };
        let (mut x, mut history) = ([1.0f32], [10.0f32]);
        for (model, want, kept) in [(2.0f32, 1.0 + 3.0 - 5.0, 2.0), (4.0, -1.0 + 6.0 - 1.0, 4.0)] {
            update::<{ opset::ALL }>(
                &TABLE,
                &row,
                &mut x,
                &mut [model],
                [&mut history, &mut [], &mut [], &mut []],
                SILENT,
            );
            assert_eq!((x[0], history[0]), (want, kept));
        }
    }

    #[test]
    fn noise_is_added_element_by_element() {
        let (mut x, mut m) = ([0.0f32; 3], [0.0f32; 3]);
        update::<{ opset::ALL }>(&TABLE, &Row { d: 0.5, ..ROW }, &mut x, &mut m, Default::default(), |i| i as f32);
        assert_eq!(x, [0.0, 0.5, 1.0]);
    }

    #[test]
    fn quantile_is_torchs() {
        // torch.quantile(torch.tensor([3., 1., 2., 5.]), r) = 1, 2.5, 4.55, 5; ties count twice.
        let x = [3.0f32, -1.0, 2.0, 5.0];
        for (ratio, want) in [(0.0, 1.0), (0.5, 2.5), (0.925, 4.55), (1.0, 5.0)] {
            assert!((abs_quantile(&x, &x, |x, _| x, ratio) - want).abs() < 1e-6, "{ratio}");
        }
        let ties = [2.0f32, 2.0, -2.0, 7.0];
        assert_eq!(abs_quantile(&ties, &ties, |x, _| x, 0.5), 2.0);
        let row = Row { clip: Clip::Dynamic { ratio: 1.0, max: 4.0 }, a: 0.0, b: 1.0, c: 0.0, ..ROW };
        let (mut x, mut m) = ([8.0f32, -2.0, 0.5], [0.0f32; 3]);
        update::<{ opset::ALL }>(&TABLE, &row, &mut x, &mut m, Default::default(), SILENT);
        assert_eq!(x, [1.0, -0.5, 0.125]);
    }

    #[test]
    fn guidance_has_its_parentheses() {
        let mut c = [3.0f32];
        guide(&mut c, &[1.0], 2.0);
        assert_eq!(c, [5.0]);
    }
}
