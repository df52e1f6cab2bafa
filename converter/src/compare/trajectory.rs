//! One sample's way from noise to picture, by the float sampler and by the runtime's.

use miette::Result;
use mote_runtime::{Poll, Sampler};

use super::Layers;
use crate::arch::TimePath;
use crate::draw::{Device, Float, Prompt, not_runnable};
use crate::interpret::{Deep, Interpreter, Observed};
use crate::report::metrics::Power;
use crate::sample::{Conditioning, Event};
use crate::schedule::is_shallow;

/// After a row.
pub struct Point {
    /// x_t.
    pub state: Vec<f32>,
    /// x₀ as the row foresees it.
    pub preview: Vec<f32>,
}

/// A whole way.
pub struct Trajectory {
    /// The picture.
    pub x0: Vec<f32>,
    /// One a row.
    pub points: Vec<Point>,
    /// By row, by layer: against the float network on the same input. Empty where that was not asked for.
    pub layers: Vec<Vec<Power>>,
}

/// The float sampler's.
pub fn float(
    float: &Float,
    interpreter: &Interpreter,
    conditioning: &Conditioning,
    prompt: &Prompt,
) -> Result<Trajectory> {
    let mut points = Vec::with_capacity(float.rows.len());
    let x0 = float.one(interpreter, conditioning, prompt, &mut |event| {
        if let Event::Row { state, .. } = event {
            points.push(Point { state: state.x.clone(), preview: state.x0.clone() });
        }
    })?;
    Ok(Trajectory { x0, points, layers: Vec::new() })
}

/// The runtime's, with a look into the layers where `look` says which.
pub fn device(
    mut sampler: Sampler,
    device: &Device,
    float: &Float,
    interpreter: &Interpreter,
    prompt: &Prompt,
    look: Option<&Layers>,
) -> Result<Trajectory> {
    sampler.start(device.request(prompt)).map_err(not_runnable)?;
    let model = sampler.model();
    let cond = float.condition(&prompt.cond);
    let mut way = Trajectory { x0: Vec::new(), points: Vec::new(), layers: Vec::new() };
    let copy = |sampler: &Sampler| sampler.image().elems().to_vec();
    let mut kept = Vec::new();
    // An unlimited budget: a poll is a row, both branches of guidance included. The conditional one comes last, so it is
    // what is left in `seen`.
    for (index, row) in float.rows.iter().enumerate() {
        let before = copy(&sampler);
        let mut seen: Vec<Vec<f32>> = vec![Vec::new(); look.map_or(0, Layers::len)];
        let poll = sampler.poll_observed(&mut |op, arena| {
            if let Some((layers, pair)) = look.and_then(|layers| Some((layers, layers.of_op(op)?))) {
                seen[pair] = layers.values(pair, model, arena, float.first_row + index);
            }
        });
        if let Some(layers) = look {
            let mut powers = vec![Power::default(); layers.len()];
            let embedding = float.network.time.embed(row.timestep, &cond)?;
            let projections = TimePath::projections(interpreter.graph(), &embedding);
            // The float network reuses what the device reuses, so that the numbers are those of quantization.
            let deep = if is_shallow(row) { Deep::Reuse(&kept) } else { Deep::Keep(&mut kept) };
            interpreter.run_observed(&before, &projections, deep, &mut |what, values| {
                if let Observed::Tensor(id) = what
                    && let Some(pair) = layers.of_tensor(id)
                {
                    powers[pair] = Power::of(values, &seen[pair]);
                }
            });
            way.layers.push(powers);
        }
        let preview = sampler.preview().map_or(Vec::new(), |image| image.elems().to_vec());
        way.points.push(Point { state: copy(&sampler), preview });
        if poll == Poll::Ready {
            break;
        }
    }
    way.x0 = copy(&sampler);
    Ok(way)
}
