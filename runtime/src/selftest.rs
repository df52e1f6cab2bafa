//! The self-test: does this core, with these kernels, draw what the file says?
//!
//! A file carries the checksums of one step and of one whole sample, made with the scalar kernels when it was written. If
//! they differ on a device, the first operator in which its kernels differ from scalar is looked for, by bisection over
//! a checksum of all operators' outputs up to some operator: seven or so repetitions of one step, without any memory.

use crate::error::Error;
use crate::format::checksum::{crc32, crc32_digest};
use crate::format::{Graph, NONE, tag};
use crate::kernels::{Kernels, scalar};
use crate::ops::Context;
use crate::opset::OpSet;
use crate::sampler::{Poll, Request, Sampler};
use crate::step::{Position, advance};

/// How much the self-test draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// One step.
    Step,
    /// A whole sample.
    Sample,
}

/// What the self-test found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Verdict {
    /// The bytes are the right ones.
    Passed,
    /// The kernels give other integers than the scalar ones, first in this operator (its index in the file).
    Operator(u16),
    /// The kernels agree with scalar in the first step, but the bytes are wrong: floating point (flush-to-zero switched
    /// on?), memory, or a compiler at fault.
    Arithmetic,
}

impl<const OPS: OpSet> Sampler<'_, OPS> {
    /// Draws what the file's self-test asks for (with a class embedding of zeros, where the model takes one), and
    /// compares. A picture under way is dropped.
    ///
    /// # Errors
    /// [`Error::Section`] if the file has no self-test; what [`Sampler::start`] says if its request is not one.
    pub fn self_test(&mut self, depth: Depth) -> Result<Verdict, Error> {
        let Some(want) = self.model().self_test() else { return Err(Error::Section { tag: tag::SELF_TEST }) };
        let class = (want.class != NONE).then_some(want.class);
        let request = Request { seed: want.seed, class, ..Default::default() };
        self.begin(request)?;
        self.step();
        let (mut crc, mut right) = (self.sample_crc(), want.step_crc);
        if depth == Depth::Sample && crc == right {
            while let Poll::Pending(_) = self.step() {}
            (crc, right) = (self.sample_crc(), want.sample_crc);
        }
        let verdict = if crc == right { Verdict::Passed } else { self.first_difference(request)? };
        self.cancel();
        Ok(verdict)
    }

    /// CRC-32 of x as it is: f32, little-endian, HWC.
    pub fn sample_crc(&self) -> u32 {
        crc32(bytemuck::try_cast_slice(self.image().elems()).unwrap_or_default())
    }

    /// The first operator of the first row whose output differs between this sampler's kernels and scalar.
    fn first_difference(&mut self, request: Request<'_>) -> Result<Verdict, Error> {
        let graph = self.first_graph();
        let (mut low, mut high) = (0, graph.ops);
        // `high` operators differ, `low` do not.
        if self.prefix_crc(request, self.kernels(), high)? == self.prefix_crc(request, &scalar::TABLE, high)? {
            return Ok(Verdict::Arithmetic);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.prefix_crc(request, self.kernels(), middle)? == self.prefix_crc(request, &scalar::TABLE, middle)? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(Verdict::Operator(graph.first_op + high - 1))
    }

    /// The first row of the default schedule.
    fn first_row(&self) -> usize {
        self.model().schedules().next().map_or(0, |schedule| schedule.first_row as usize)
    }

    /// The graph of that row.
    fn first_graph(&self) -> Graph {
        self.model().graph(self.model().row(self.first_row()).map_or(0, |row| row.graph as usize))
    }

    /// CRC-32 over the outputs of the first `count` operators of the first row.
    fn prefix_crc(&mut self, request: Request<'_>, kernels: &'static Kernels, count: u16) -> Result<u32, Error> {
        self.begin(request)?;
        let model = self.model();
        let row = self.first_row();
        let class = request.class.or(model.null_class()).unwrap_or(0) as usize;
        let mut graph = self.first_graph();
        (graph.ops, graph.next) = (graph.ops.min(count), NONE);
        let ctx = Context { model, kernels, row, class, workers: self.workers() };
        let mut digest = crc32_digest();
        let mut outputs = |index: usize, arena: &[u8]| {
            let out = model.op(index).map(|record| model.tensor(record.op.out()));
            digest.update(out.and_then(|out| arena.get(out.range())).unwrap_or_default());
        };
        // Operators below the prefix's end are run whole: the budget covers any graph.
        let mut position = Position::default();
        while !advance(&ctx, self.arena(), &graph, &mut position, &mut { u32::MAX }, &mut outputs) {}
        Ok(digest.finalize())
    }
}
