//! The sampler's coefficients corrected for what quantization noise takes from the network's output.
//!
//! PTQD (He et al., arXiv:2305.10657) splits the noise into a part that is correlated with the output, which a factor
//! takes back, and a rest. The factor of a step is the regression of the float output on the integer one, from the same
//! x_t; it goes into the row's `q` and `s`, so the table changes and nothing else.

use miette::{Result, miette};
use mote_converter::arch::{Cond, TimePath};
use mote_converter::compare::Layers;
use mote_converter::draw::{AlignedBuffer, MoteFile};
use mote_converter::interpret::Interpreter;
use mote_converter::pack::assemble;
use mote_converter::pipeline::Calibrated;
use mote_converter::plan::plan;
use mote_converter::quantize::{Level, QuantGraph, Techniques, WeightWidth};
use mote_converter::search::{Evaluator, Measured};
use mote_runtime::kernels::select::TILING;
use mote_runtime::{Request, Sampler};

/// Trajectories that the factors are fitted to.
const TRAJECTORIES: u64 = 20;

/// Draws with corrected rows, against float pictures by the rows as they were.
pub fn measure(calibrated: &Calibrated, count: u32, width: WeightWidth) -> Result<Measured> {
    let precision = super::precision(calibrated, Level::Int8, width, false);
    let graph = calibrated.lower(&calibrated.solutions(Techniques::default()), &precision)?;
    let mut corrected = calibrated.clone();
    for (row, factor) in corrected.schedules.rows.iter_mut().zip(factors(calibrated, &graph)?) {
        row.q *= factor as f32;
        row.s *= factor as f32;
    }
    let evaluator = Evaluator::new(calibrated, super::FIRST_SEED, count as usize, &|| {})?;
    evaluator.measure_with(&corrected, &graph)
}

/// For each row the factor that brings the integer output nearest to the float one.
fn factors(calibrated: &Calibrated, graph: &QuantGraph) -> Result<Vec<f64>> {
    let packed = assemble(graph, &plan(graph, TILING), &calibrated.schedules, calibrated.classes, &[])?;
    let file = MoteFile::in_memory("the variant".as_ref(), &packed.bytes);
    let model = file.model()?;
    let network = &calibrated.network;
    let layers = Layers::new(network, &model)?;
    let interpreter = Interpreter::new(&network.graph);
    let mut arena = AlignedBuffer::zeroed(model.arena_len());
    let rows = &calibrated.schedules.rows;
    let (mut cross, mut own) = (vec![0f64; rows.len()], vec![0f64; rows.len()]);
    for trajectory in 0..TRAJECTORIES {
        let class = (calibrated.classes.count > 0).then(|| trajectory as usize % calibrated.classes.count);
        let request = Request {
            seed: (7 << 32) + trajectory,
            class: class.map(|class| class as u16),
            poll_budget: u32::MAX,
            ..Request::default()
        };
        let runs = |error| miette!(help = "take a network with classes or without any condition", "{error}");
        let mut sampler = Sampler::new(&model, arena.as_mut_slice()).map_err(runs)?;
        sampler.start(request).map_err(runs)?;
        for (index, row) in rows.iter().enumerate() {
            let before = sampler.image().elems().to_vec();
            let mut integer = Vec::new();
            sampler.poll_observed(&mut |op, arena| {
                if layers.of_op(op) == Some(layers.output()) {
                    integer = layers.values(layers.output(), &model, arena, index);
                }
            });
            let embedding = network.time.embed(row.timestep, &class.map_or(Cond::None, Cond::Class))?;
            let projections = TimePath::projections(interpreter.graph(), &embedding);
            let float = interpreter.run(&before, &projections, &mut |_, _| {});
            for (&float, &integer) in float.iter().zip(&integer) {
                cross[index] += f64::from(float) * f64::from(integer);
                own[index] += f64::from(integer) * f64::from(integer);
            }
        }
    }
    Ok(cross.iter().zip(&own).map(|(cross, own)| if *own > 0.0 { cross / own } else { 1.0 }).collect())
}
