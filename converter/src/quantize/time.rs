//! Time folding: how the embedding's projections reach the device.
//!
//! Either each projection is a table over (row, class), or the embedding is one and the projections stay as ordinary
//! int8 layers. Both are exact in their inputs; the fewer bytes win, for the whole file, because the embedding's table is
//! shared by all projections. A caller's class vector cannot be tabulated, so it takes the layers.
//!
//! Voids the promise: nothing.

use half::f16;
use miette::Result;
use mote_runtime::format::{OpRecord, Quant, Row, Tensor, Weights};

use super::payload::Payload;
use crate::arch::{Cond, Network, TimePath};
use crate::calibrate::Classes;

/// The chosen path with its numbers.
#[derive(Clone, Debug)]
pub enum TimeValues {
    /// `[projection][row][class][n]`.
    Tables(Vec<Vec<f32>>),
    /// The activated embedding, `[row][class][dim]`.
    Embedding(Vec<f32>),
    /// The embedding before the activation and the caller's vector, `[row][dim]`.
    Vector(Vec<f32>),
}

/// The folded time path.
#[derive(Clone, Debug)]
pub struct TimeFold {
    /// What the device reads.
    pub values: TimeValues,
    /// Largest magnitude of each projection's outputs, by channel; zeros where a caller's vector takes part.
    pub largest: Vec<Vec<f32>>,
    /// File bytes of one table for each projection; `None` where a caller's vector takes part.
    pub tables_bytes: Option<usize>,
    /// File bytes of the embedding's table and the projections as layers.
    pub layers_bytes: usize,
}

/// Vectors for each row: one a class, or one.
pub fn vectors(classes: Classes) -> usize {
    classes.count.max(1)
}

impl TimeFold {
    /// Runs the time path for all rows and classes.
    pub fn new(network: &Network, rows: &[Row], classes: Classes) -> Result<Self> {
        let (time, projections) = (&network.time, &network.graph.projections);
        let layers_bytes = layers_bytes(network, rows.len(), classes);
        let lens = || projections.iter().map(|projection| projection.bias.len());
        if time.takes_vector() {
            let steps: Vec<Vec<f32>> = rows.iter().map(|row| time.time_vector(row.timestep)).collect::<Result<_>>()?;
            let largest = lens().map(|n| vec![0.0; n]).collect();
            return Ok(Self { values: TimeValues::Vector(steps.concat()), largest, tables_bytes: None, layers_bytes });
        }
        let mut embedding = Vec::new();
        let mut tables: Vec<Vec<f32>> = vec![Vec::new(); projections.len()];
        for row in rows {
            for class in 0..vectors(classes) {
                let cond = if classes.count == 0 { Cond::None } else { Cond::Class(class) };
                let embed = time.embed(row.timestep, &cond)?;
                for (id, table) in tables.iter_mut().enumerate() {
                    table.extend(TimePath::projection(&network.graph, id, &embed));
                }
                embedding.extend(embed);
            }
        }
        let largest = |(table, n): (&Vec<f32>, usize)| {
            let mut largest = vec![0f32; n];
            for vector in table.chunks_exact(n.max(1)) {
                largest.iter_mut().zip(vector).for_each(|(largest, x)| *largest = largest.max(x.abs()));
            }
            largest
        };
        let largest = tables.iter().zip(lens()).map(largest).collect();
        let padded = |elems: usize| (2 * elems).next_multiple_of(Payload::ALIGN_BYTES);
        let tables_bytes: usize = tables.iter().map(|table| padded(table.len())).sum();
        let values =
            if tables_bytes <= layers_bytes { TimeValues::Tables(tables) } else { TimeValues::Embedding(embedding) };
        Ok(Self { values, largest, tables_bytes: Some(tables_bytes), layers_bytes })
    }
}

/// Bytes of records and payload when the projections stay layers.
fn layers_bytes(network: &Network, rows: usize, classes: Classes) -> usize {
    let dim = network.time.dim();
    let padded = |bytes: usize| bytes.next_multiple_of(Payload::ALIGN_BYTES);
    let record = OpRecord::BYTES + Tensor::BYTES;
    let table = if network.time.takes_vector() { rows * dim * 4 } else { rows * vectors(classes) * dim * 2 };
    let layer = |n: usize| {
        padded(n * dim.next_multiple_of(4)) + padded(n * Weights::PARAM_BYTES) + padded(n * 4) + record + Weights::BYTES
    };
    let layers: usize = network.graph.projections.iter().map(|projection| layer(projection.bias.len())).sum();
    padded(table) + record + rows * Quant::BYTES + layers
}

/// f16 bytes of `values·factor`.
pub fn f16_bytes(values: &[f32], factor: f32) -> Vec<u8> {
    values.iter().flat_map(|x| f16::from_f32(x * factor).to_le_bytes()).collect()
}
