//! The sampler: draws a picture in polls of bounded cost.
//!
//! The state between steps is x_t and what the file marks *carried*; everything else in the arena is rebuilt within a
//! step. That is what makes cancelling free and a snapshot small: x_t is not overwritten before its step ends, so a
//! restored sampler redoes the step it was in and gives the same bytes.

pub mod coefficients;
pub mod image;
pub mod noise;
mod snapshot;

pub use image::Image;

use crate::arena::{cast, cast_mut, pieces};
use crate::error::Error;
use crate::format::{Graph, Row, Schedule, Tensor};
use crate::kernels::{Kernels, select};
use crate::model::Model;
use crate::ops::{Context, Workers};
use crate::opset::{self, OpSet, links};
use crate::step::{Position, advance};

/// What to draw. Fill in what matters and take the rest from `Default`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request<'r> {
    /// Seed of all noise; the same seed gives the same picture on every core.
    pub seed: u64,
    /// The class, below [`Model::classes`]; `None` for the null class, or where the model takes none.
    pub class: Option<u16>,
    /// `guidance_scale` as diffusers means it: 1 is one network call a step, anything else two.
    pub guidance: f32,
    /// Number of steps; `None` for the file's first schedule.
    pub steps: Option<u16>,
    /// The start sample x_T, HWC, instead of the seed's.
    pub noise: Option<&'r [f32]>,
    /// The class embedding, for a model that takes one ([`Model::class_embedding_len`]).
    pub class_embedding: Option<&'r [f32]>,
    /// Multiply-adds that one [`poll`](Sampler::poll) may spend, at least; a poll never splits an output row. With
    /// `u32::MAX` a poll is a network call, however large, and the update behind it.
    pub poll_budget: u32,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            seed: 0,
            class: None,
            guidance: 1.0,
            steps: None,
            noise: None,
            class_embedding: None,
            poll_budget: u32::MAX,
        }
    }
}

/// How far a picture has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Progress {
    /// Steps finished.
    pub step: u16,
    /// Steps in all.
    pub steps: u16,
    /// Whether this poll ended at a step's end: then [`Sampler::preview`] has this step's x₀.
    pub step_done: bool,
}

/// What a poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Poll {
    /// There is more to do.
    Pending(Progress),
    /// The picture is done: [`Sampler::image`] has it.
    Ready,
    /// Nothing was started, or it was cancelled.
    Idle,
}

/// A picture under way.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    seed: u64,
    class: u16,
    guidance: f32,
    poll_budget: u32,
    /// Index of the schedule in the file.
    schedule: u16,
    /// Rows of the schedule that are done.
    row: u16,
    /// Steps that are done.
    step: u16,
    /// The unconditional branch of the row is done, and its output kept.
    branch_done: bool,
    position: Position,
    /// The output buffer holds x₀ of the last step.
    preview: bool,
}

/// The update after a network call: guidance, clip, x', history.
#[allow(clippy::too_many_arguments)] // a row's parts
#[inline(never)]
fn update<const OPS: OpSet>(
    model: &Model<'_, OPS>,
    kernels: &Kernels,
    arena: &mut [u8],
    graph: &Graph,
    row: &Row,
    guidance: f32,
    (seed, stream): (u64, u32),
) {
    let range = |id: u16| model.tensor(id).range();
    let history = model.header().history.map(|id| if links(OPS, opset::HISTORY) { range(id) } else { 0..0 });
    let [h0, h1, h2, h3] = history;
    let [x, output, uncond, h0, h1, h2, h3] =
        pieces(arena, [range(graph.input), range(graph.output), range(model.header().uncond), h0, h1, h2, h3]);
    let output = cast_mut(output);
    if links(OPS, opset::GUIDANCE) && guidance != 1.0 {
        coefficients::guide(output, cast(uncond), guidance);
    }
    // Most rows have none, which is 1/400 of a small net's step on a host.
    let silent = select::TILING.is_host() && row.d == 0.0;
    let mut noise = if silent { noise::Stream::default() } else { noise::Stream::new(seed, stream) };
    coefficients::update::<OPS>(kernels, row, cast_mut(x), output, [h0, h1, h2, h3].map(cast_mut), |i| noise.at(i));
}

/// Draws pictures with a model, in the caller's arena.
///
/// ```
/// use mote_runtime::{Model, Poll, Request, Sampler, Error};
/// fn draw(model: &Model<'_>, arena: &mut [u8], pixels: &mut [u8]) -> Result<(), Error> {
///     let mut sampler = Sampler::new(model, arena)?;
///     sampler.start(Request { seed: 7, class: Some(3), poll_budget: 1_000_000, ..Default::default() })?;
///     while let Poll::Pending(_progress) = sampler.poll() {
///         // Here other work gets its turn.
///     }
///     sampler.image().write_gray8(pixels)
/// }
/// ```
#[derive(Debug)]
pub struct Sampler<'a, const OPS: OpSet = { opset::ALL }> {
    model: &'a Model<'a, OPS>,
    arena: &'a mut [u8],
    kernels: &'static Kernels,
    workers: Workers<'a>,
    run: Option<Run>,
}

impl<'a, const OPS: OpSet> Sampler<'a, OPS> {
    /// A sampler of this model in this arena. Nothing in the arena needs to be initialised.
    ///
    /// # Errors
    /// [`Error::ArenaTooShort`] with both lengths, [`Error::ArenaUnaligned`].
    pub fn new(model: &'a Model<'a, OPS>, arena: &'a mut [u8]) -> Result<Self, Error> {
        Self::with_kernels(model, arena, select::kernels::<OPS>())
    }

    /// As [`Sampler::new`] with a chosen kernel table, to compare tables with each other.
    ///
    /// # Errors
    /// As [`Sampler::new`].
    pub fn with_kernels(
        model: &'a Model<'a, OPS>,
        arena: &'a mut [u8],
        kernels: &'static Kernels,
    ) -> Result<Self, Error> {
        let need = model.arena_len();
        if arena.len() < need {
            return Err(Error::ArenaTooShort { have: arena.len() as u32, need: need as u32 });
        }
        if !(arena.as_ptr() as usize).is_multiple_of(Tensor::ALIGN) {
            return Err(Error::ArenaUnaligned);
        }
        Ok(Self { model, arena, kernels, workers: Workers::ALONE, run: None })
    }

    /// The model.
    pub fn model(&self) -> &'a Model<'a, OPS> {
        self.model
    }

    /// The kernels that run.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// This sampler with its operators' work on several threads; the pictures stay the same, byte for byte.
    #[cfg(feature = "std")]
    pub fn with_threads(mut self, threads: &'a crate::threads::Threads) -> Self {
        self.workers = Workers::on(threads);
        self
    }

    /// Where the operators' work is done.
    pub(crate) fn workers(&self) -> Workers<'a> {
        self.workers
    }

    /// The arena, for the self-test.
    pub(crate) fn arena(&mut self) -> &mut [u8] {
        self.arena
    }

    /// Begins a picture; one under way is dropped.
    ///
    /// # Errors
    /// What the request asks and the model has not: [`Error::Class`], [`Error::ClassMissing`],
    /// [`Error::ClassEmbedding`], [`Error::Guidance`], [`Error::Steps`], [`Error::Length`] of the noise.
    pub fn start(&mut self, request: Request<'_>) -> Result<(), Error> {
        self.run = None;
        let need = self.model.class_embedding_len();
        let have = request.class_embedding.unwrap_or_default().len();
        if have != need {
            return Err(Error::ClassEmbedding { have: have as u32, need: need as u32 });
        }
        self.begin(request)
    }

    /// As [`Sampler::start`]; a class embedding that is not given is all zero.
    // Apart from `poll`, as `update` is: a caller's stack frame would hold the noise's state while operators run.
    #[inline(never)]
    pub(crate) fn begin(&mut self, request: Request<'_>) -> Result<(), Error> {
        self.run = None;
        let model = self.model;
        let classes = model.classes();
        let class = match (request.class, model.null_class()) {
            (Some(asked), _) if asked >= classes => return Err(Error::Class { asked, classes }),
            (Some(asked), _) => asked,
            (None, Some(null)) => null,
            (None, None) if classes > 0 => return Err(Error::ClassMissing),
            (None, None) => 0,
        };
        if request.guidance != 1.0 && (model.null_class().is_none() || !request.guidance.is_finite()) {
            return Err(Error::Guidance);
        }
        let mut schedules = model.schedules();
        let schedule = match request.steps {
            None => 0,
            Some(asked) => schedules.position(|schedule| schedule.steps == asked).ok_or(Error::Steps { asked })?,
        };
        let graph = model.graph(0);
        let (x, vector) = (model.tensor(graph.input), model.tensor(graph.class_embedding));
        if let Some(noise) = request.noise.filter(|noise| noise.len() != x.elems()) {
            return Err(Error::Length { have: noise.len() as u32, need: x.elems() as u32 });
        }
        if links(OPS, opset::HISTORY) {
            for tensor in model.header().history.map(|id| model.tensor(id)) {
                self.floats_mut(&tensor).fill(0.0);
            }
        }
        if links(OPS, opset::EMBED_ADD) {
            let given = request.class_embedding.unwrap_or_default().iter().copied().chain(core::iter::repeat(0.0));
            self.floats_mut(&vector).iter_mut().zip(given).for_each(|(to, from)| *to = from);
        }
        let to = self.floats_mut(&x);
        match request.noise {
            Some(noise) => to.iter_mut().zip(noise).for_each(|(to, &from)| *to = from),
            None => noise::fill(request.seed, 0, to),
        }
        self.run = Some(Run {
            seed: request.seed,
            class,
            guidance: request.guidance,
            poll_budget: request.poll_budget,
            schedule: schedule as u16,
            row: 0,
            step: 0,
            branch_done: false,
            position: Position::default(),
            preview: false,
        });
        Ok(())
    }

    /// Works for about `poll_budget` multiply-adds, or up to the end of a step.
    pub fn poll(&mut self) -> Poll {
        self.poll_observed(&mut |_, _| {})
    }

    /// As [`Sampler::poll`], with a callback behind every operator: its index in the file and the arena. For reports
    /// and tests; tensors that later operators overwrite can be read here.
    pub fn poll_observed(&mut self, after: &mut dyn FnMut(usize, &[u8])) -> Poll {
        let model = self.model;
        let Some(run) = &mut self.run else { return Poll::Idle };
        let schedule =
            model.schedules().nth(run.schedule as usize).unwrap_or(Schedule { first_row: 0, rows: 0, steps: 0 });
        let row_index = schedule.first_row as usize + run.row as usize;
        let (Some(row), true) = (model.row(row_index), run.row < schedule.rows) else { return Poll::Ready };
        let graph = model.graph(row.graph as usize);
        let guided = links(OPS, opset::GUIDANCE) && run.guidance != 1.0;
        let mut budget = run.poll_budget.max(1);
        run.preview = false;
        let pending =
            |run: &Run, step_done| Poll::Pending(Progress { step: run.step, steps: schedule.steps, step_done });

        let (output, uncond) = (model.tensor(graph.output), model.tensor(model.header().uncond));
        if guided && !run.branch_done {
            let class = model.null_class().unwrap_or(0) as usize;
            let graph = if links(OPS, opset::REUSE) { model.graph(row.null_graph as usize) } else { graph };
            let ctx = Context { model, kernels: self.kernels, row: row_index, class, workers: self.workers };
            if !advance(&ctx, self.arena, &graph, &mut run.position, &mut budget, after) {
                return pending(run, false);
            }
            let [output, uncond] = pieces(self.arena, [output.range(), uncond.range()]);
            uncond.iter_mut().zip(output).for_each(|(to, from)| *to = *from);
            (run.branch_done, run.position) = (true, Position::default());
        }
        let ctx =
            Context { model, kernels: self.kernels, row: row_index, class: run.class as usize, workers: self.workers };
        if !advance(&ctx, self.arena, &graph, &mut run.position, &mut budget, after) {
            return pending(run, false);
        }

        let guidance = if guided { run.guidance } else { 1.0 };
        update(model, self.kernels, self.arena, &graph, &row, guidance, (run.seed, 1 + run.row as u32));
        run.row += 1;
        run.step += row.advance as u16;
        (run.branch_done, run.position, run.preview) = (false, Position::default(), true);
        if run.row == schedule.rows { Poll::Ready } else { pending(run, row.advance) }
    }

    /// Works up to the end of a step, whatever the budget.
    pub fn step(&mut self) -> Poll {
        loop {
            match self.poll() {
                Poll::Pending(Progress { step_done: false, .. }) => {}
                ended => return ended,
            }
        }
    }

    /// Draws a whole picture.
    ///
    /// # Errors
    /// As [`Sampler::start`].
    pub fn generate(&mut self, request: Request<'_>) -> Result<Image<'_>, Error> {
        self.start(Request { poll_budget: u32::MAX, ..request })?;
        while let Poll::Pending(_) = self.poll() {}
        Ok(self.image())
    }

    /// Drops the picture under way. The arena may be used for anything until the next `start` or `restore`.
    pub fn cancel(&mut self) {
        self.run = None;
    }

    /// The sample as it is: the picture once a poll was [`Poll::Ready`], x_t before.
    pub fn image(&self) -> Image<'_> {
        self.view(self.model.graph(0).input)
    }

    /// x₀ as the last step foresaw it; only between a step's end and the next poll.
    pub fn preview(&self) -> Option<Image<'_>> {
        self.run.filter(|run| run.preview).map(|_| self.view(self.model.graph(0).output))
    }

    fn view(&self, id: u16) -> Image<'_> {
        let tensor = self.model.tensor(id);
        let [h, w, c] = self.model.image_shape();
        Image { h, w, c, elems: cast(self.arena.get(tensor.range()).unwrap_or_default()) }
    }

    fn floats_mut(&mut self, tensor: &Tensor) -> &mut [f32] {
        cast_mut(self.arena.get_mut(tensor.range()).unwrap_or_default())
    }

    /// Tensors that a snapshot holds, in the order of their records.
    fn carried(&self) -> impl Iterator<Item = Tensor> + use<'a, OPS> {
        let model = self.model;
        (0..model.tensor_count()).map(move |id| model.tensor(id as u16)).filter(|tensor| tensor.carried)
    }
}
