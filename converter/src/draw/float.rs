//! A checkpoint in float: the network before quantization, by the same rows and the same noise.

use miette::{Result, miette};
use mote_runtime::format::Row;
use mote_runtime::sampler::noise;
use rayon::prelude::*;

use super::{Draw, Drawn, Prompt, Signature};
use crate::arch::{Cond, Network};
use crate::calibrate::Classes;
use crate::interpret::Interpreter;
use crate::sample::{Conditioning, Event, sample};

/// A float network with the rows of a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Float<'a> {
    /// The network.
    pub network: &'a Network,
    /// One row a network call.
    pub rows: &'a [Row],
    /// Index of the first row among all rows of the file that the samples are compared with: it numbers the noise.
    pub first_row: usize,
    /// Classes that may be asked for.
    pub classes: Classes,
}

impl Float<'_> {
    /// The condition with the null class for none.
    pub fn condition(&self, cond: &Cond) -> Cond {
        match (cond, self.classes.null) {
            (Cond::None, Some(null)) => Cond::Class(null),
            _ => cond.clone(),
        }
    }

    /// The projections of a prompt's condition.
    ///
    /// # Errors
    /// A condition that the network does not take, or guidance without a null class.
    pub fn conditioning(&self, interpreter: &Interpreter, prompt: &Prompt) -> Result<Conditioning> {
        if let (Cond::Class(class), count @ 1..) = (&prompt.cond, self.classes.count)
            && *class >= count
        {
            return Err(miette!(
                help = "classes count from 0",
                "there is no class {class}: the model has {count} classes"
            ));
        }
        let null = self.classes.null.map(Cond::Class);
        let cond = self.condition(&prompt.cond);
        Conditioning::new(interpreter, &self.network.time, self.rows, &cond, null.as_ref(), prompt.guidance)
    }

    /// The projections of all conditions of `prompts`: the time path depends on condition and guidance only, so it runs
    /// once for all samples that share them.
    pub fn conditionings(&self, interpreter: &Interpreter, prompts: &[Prompt]) -> Result<Conditionings> {
        let mut kinds: Vec<(Prompt, Conditioning)> = Vec::new();
        for prompt in prompts {
            if !kinds.iter().any(|(kind, _)| alike(kind, prompt)) {
                kinds.push((prompt.clone(), self.conditioning(interpreter, prompt)?));
            }
        }
        Ok(Conditionings { kinds })
    }

    /// The start sample of a prompt.
    pub fn start(&self, prompt: &Prompt) -> Result<Vec<f32>> {
        let elems = self.network.graph.tensors[self.network.graph.input].elems();
        let x = prompt.noise.clone().unwrap_or_else(|| {
            let mut x = vec![0.0; elems];
            noise::fill(prompt.seed, 0, &mut x);
            x
        });
        if x.len() != elems {
            return Err(miette!(
                help = "give noise of the model's shape",
                "noise of {} elements, need {elems}",
                x.len()
            ));
        }
        Ok(x)
    }

    /// Draws one sample; `observe` sees every event of the float sampler.
    pub fn one(
        &self,
        interpreter: &Interpreter,
        conditioning: &Conditioning,
        prompt: &Prompt,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Vec<f32>> {
        let mut row_noise = |row: usize, to: &mut [f32]| {
            noise::fill(prompt.seed, 1 + row as u32, to);
        };
        Ok(sample(interpreter, self.rows, conditioning, &self.start(prompt)?, &mut row_noise, observe))
    }
}

/// The conditions of a list of prompts.
pub struct Conditionings {
    kinds: Vec<(Prompt, Conditioning)>,
}

impl Conditionings {
    /// Of one of the prompts of the list.
    pub fn of(&self, prompt: &Prompt) -> Result<&Conditioning> {
        let found = self.kinds.iter().find(|(kind, _)| alike(kind, prompt));
        found
            .map(|(_, conditioning)| conditioning)
            .ok_or_else(|| miette!(help = "report this", "a prompt of another list"))
    }
}

fn alike(a: &Prompt, b: &Prompt) -> bool {
    a.cond == b.cond && a.guidance == b.guidance
}

impl Draw for Float<'_> {
    fn signature(&self) -> Signature {
        let x = &self.network.graph.tensors[self.network.graph.input];
        let time = &self.network.time;
        Signature {
            shape: [x.h, x.w, x.c],
            classes: self.classes,
            class_vector_len: if time.takes_vector() { time.dim() } else { 0 },
        }
    }

    fn draw(&self, prompts: &[Prompt], frames: bool, done: &(dyn Fn() + Sync)) -> Result<Vec<Drawn>> {
        let interpreter = Interpreter::new(&self.network.graph);
        let conditionings = self.conditionings(&interpreter, prompts)?;
        let draw = |prompt: &Prompt| {
            let mut drawn = Drawn::default();
            if frames {
                drawn.frames.push(self.start(prompt)?);
            }
            drawn.x0 = self.one(&interpreter, conditionings.of(prompt)?, prompt, &mut |event| {
                if let Event::Row { row, state, .. } = event
                    && frames
                    && self.rows[row].advance
                {
                    drawn.frames.push(state.x0.clone());
                }
            })?;
            done();
            Ok(drawn)
        };
        prompts.par_iter().map(draw).collect()
    }
}
