//! Lowering of the time path: nothing, a table for each projection, or an embedding with the projections as layers.

use miette::Result;
use mote_runtime::format::op::{Conv, EmbedAdd, EmbedLookup, Modulation, Op as DeviceOp};
use mote_runtime::format::{DType, NONE, Quant};

use super::{Lower, row_sum_max};
use crate::arch::Network;
use crate::calibrate::Range;
use crate::graph::ProjectionId;
use crate::quantize::payload::BlobKind;
use crate::quantize::precision::Layer;
use crate::quantize::solutions::Limits;
use crate::quantize::time::{TimeValues, f16_bytes, vectors};
use crate::quantize::{ranges, tables};

impl Lower<'_> {
    /// The operator that makes the embedding, where projections are layers.
    pub(super) fn embedding(&mut self, network: &Network) -> Result<()> {
        let dim = network.time.dim();
        match &self.fold.values {
            TimeValues::Tables(_) => {}
            TimeValues::Embedding(values) => {
                let per_row = dim * vectors(self.options.classes);
                let (mut codes, mut quants) = (Vec::new(), Vec::new());
                for row in values.chunks_exact(per_row) {
                    let magnitude = row.iter().fold(0f32, |m, x| m.max(x.abs()));
                    let range = Range { min: -magnitude, max: magnitude };
                    let quant = ranges::quant(range, DType::I16, 0.0);
                    let code = |x: &f32| {
                        mote_runtime::quant::quantize(*x, quant.scale, 0, -ranges::I16_MAX, ranges::I16_MAX) as i16
                    };
                    codes.extend(row.iter().flat_map(|x| code(x).to_le_bytes()));
                    quants.push(quant);
                }
                let table = self.out.payload.push(BlobKind::Time, &codes);
                let out = self.tensor("embedding", [1, 1, dim], DType::I16, false, &quants)?;
                self.push("embedding", DeviceOp::EmbedLookup(EmbedLookup { out, table }));
                self.embedding = out;
            }
            TimeValues::Vector(steps) => {
                let largest = steps.iter().fold(0f32, |m, x| m.max(x.abs()));
                // As much again for the caller's vector.
                let table = tables::covering(network.time.activation(), 2.0 * largest + 4.0, &mut self.out.payload);
                let quant = Quant { scale: table.out_step, zero_point: 0 };
                let out = self.tensor("embedding", [1, 1, dim], DType::I16, false, &[quant])?;
                let steps = self.out.payload.push_f32(BlobKind::Time, steps);
                let vector = self.out.class_embedding;
                self.push("embedding", DeviceOp::EmbedAdd(EmbedAdd { vector, out, steps, table }));
                self.embedding = out;
            }
        }
        Ok(())
    }

    /// What an operator adds from the time path, multiplied by `factor`; pushes the projection's layer if it is one.
    pub(super) fn modulation(&mut self, projection: Option<ProjectionId>, factor: f32) -> Result<Modulation> {
        let Some(id) = projection else { return Ok(Modulation::None) };
        if let TimeValues::Tables(tables) = &self.fold.values {
            let offset = self.out.payload.push(BlobKind::Time, &f16_bytes(&tables[id], factor));
            return Ok(Modulation::Table(offset));
        }
        let projection = &self.graph.projections[id];
        let (n, embedding) = (projection.bias.len(), self.embedding);
        let mut bias: Vec<f32> = projection.bias.iter().map(|b| b * factor).collect();
        let least = self.least_weight_scales(embedding, &bias, &[]);
        let layer = Layer::Projection(id);
        let limits = Limits { least_scales: &least, row_sum_max: row_sum_max(DType::I16) };
        let solution = self.solutions.get(layer, self.precision.width(layer), limits);
        bias.iter_mut().zip(&solution.bias).for_each(|(bias, lost)| *bias += lost);
        let weights = self.weights_record(&projection.name, &solution.weights)?;
        let out = self.tensor(&projection.name, [1, 1, n], DType::F32, false, &[])?;
        let conv = Conv {
            sources: [embedding, NONE],
            weights: [weights, NONE],
            out,
            residual: NONE,
            residual_scale: 1.0,
            bias: self.out.payload.push_f32(BlobKind::Constants, &bias),
            modulation: Modulation::None,
            kernel: [1, 1],
            stride: 1,
            pad: [0, 0],
            upsample: false,
            winograd: false,
        };
        self.push(&projection.name, DeviceOp::Conv(conv));
        Ok(Modulation::Tensor(out))
    }
}
