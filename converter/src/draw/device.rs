//! A `.mote` file, read and run as firmware would: one arena a thread, [`Sampler`] over it.

use std::path::{Path, PathBuf};

use miette::{Report, Result, miette};
use mote_runtime::{Error, Image, Model, Poll, Request, Sampler};
use rayon::prelude::*;

use super::{AlignedBuffer, Draw, Drawn, Prompt, Signature};
use crate::arch::Cond;
use crate::calibrate::Classes;

/// The bytes of a `.mote` file and where they came from.
#[derive(Debug)]
pub struct MoteFile {
    path: PathBuf,
    bytes: AlignedBuffer,
}

impl MoteFile {
    /// Whether the file at `path` begins as a `.mote` file does, whatever it is called.
    pub fn is_at(path: &Path) -> bool {
        use std::io::Read;
        let mut magic = [0; 4];
        let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
        // A short or damaged file that is called .mote gets the runtime's error, not the checkpoint reader's.
        read.is_ok() && magic == mote_runtime::format::MAGIC
            || path.extension().is_some_and(|extension| extension == "mote")
    }

    /// Reads the file; nothing is checked yet.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| {
            miette!(help = "check that the file exists and may be read", "{}: {error}", path.display())
        })?;
        Ok(Self { path: path.to_owned(), bytes: AlignedBuffer::copy_of(&bytes) })
    }

    /// A file that is not on disk.
    pub fn in_memory(path: &Path, bytes: &[u8]) -> Self {
        Self { path: path.to_owned(), bytes: AlignedBuffer::copy_of(bytes) }
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes, aligned.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The model, checked in full.
    pub fn model(&self) -> Result<Model<'_>> {
        Model::from_bytes(self.bytes()).map_err(|error| self.invalid(error))
    }

    /// The report of an error of the runtime in this file.
    pub fn invalid(&self, error: Error) -> Report {
        let help = match error {
            Error::NotMote => "make one with `converter quantize`",
            Error::Version { .. } => "convert the checkpoint again with this version",
            Error::Truncated { .. } => "copy the file again, or convert the checkpoint again",
            _ => "the file was changed after it was written: copy it again, or convert the checkpoint again",
        };
        miette!(help = help, "{}: {error}", self.path.display())
    }
}

/// The report of a request that the runtime refuses.
pub fn not_runnable(error: Error) -> Report {
    let help = match error {
        Error::Class { .. } => "classes count from 0",
        Error::ClassMissing => "name one with `--class`, or draw every one with `--class all`",
        Error::ClassEmbedding { .. } => "give the vector with `--class-embedding v.npy`",
        Error::Guidance => {
            "leave `--guidance` out, or quantize with `--null-class N` a network that was trained with one"
        }
        Error::Steps { .. } => {
            "`converter inspect` lists the numbers of steps in a file; quantize with `--steps` for others"
        }
        _ => "`converter inspect` shows what the file holds",
    };
    miette!(help = help, "{error}")
}

/// A model of the runtime with a number of steps.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    model: &'a Model<'a>,
    steps: Option<u16>,
}

impl<'a> Device<'a> {
    /// Draws with `model`, by its first schedule or by the one of `steps`.
    pub fn new(model: &'a Model<'a>, steps: Option<usize>) -> Result<Self> {
        let steps = steps.map(|steps| u16::try_from(steps).unwrap_or(u16::MAX));
        let have: Vec<String> = model.schedules().map(|schedule| schedule.steps.to_string()).collect();
        if let Some(asked) = steps.filter(|&asked| model.schedules().all(|schedule| schedule.steps != asked)) {
            return Err(miette!(
                help = format!(
                    "draw with --steps {}, or quantize the checkpoint with --steps {asked}",
                    have.join(" or --steps ")
                ),
                "the file has no schedule of {asked} steps, but of {}",
                have.join(", ")
            ));
        }
        Ok(Self { model, steps })
    }

    /// The request of a prompt.
    pub fn request<'p>(&self, prompt: &'p Prompt) -> Request<'p> {
        let (class, class_embedding) = match &prompt.cond {
            Cond::None => (None, None),
            Cond::Class(class) => (Some(u16::try_from(*class).unwrap_or(u16::MAX)), None),
            Cond::Vector(vector) => (None, Some(&vector[..])),
        };
        Request {
            seed: prompt.seed,
            class,
            guidance: prompt.guidance,
            steps: self.steps,
            noise: prompt.noise.as_deref(),
            class_embedding,
            poll_budget: u32::MAX,
        }
    }

    fn one(&self, arena: &mut [u8], prompt: &Prompt, frames: bool) -> Result<Drawn, Error> {
        let mut sampler = Sampler::new(self.model, arena)?;
        sampler.start(self.request(prompt))?;
        let mut drawn = Drawn::default();
        let copy = |image: Image| image.elems().to_vec();
        if frames {
            drawn.frames.push(copy(sampler.image()));
        }
        loop {
            let poll = sampler.poll();
            let step_done = match poll {
                Poll::Pending(progress) => progress.step_done,
                Poll::Ready | Poll::Idle => true,
            };
            if frames && step_done {
                drawn.frames.extend(sampler.preview().map(copy));
            }
            if !matches!(poll, Poll::Pending(_)) {
                drawn.x0 = copy(sampler.image());
                return Ok(drawn);
            }
        }
    }
}

impl Draw for Device<'_> {
    fn signature(&self) -> Signature {
        Signature {
            shape: self.model.image_shape(),
            classes: Classes {
                count: usize::from(self.model.classes()),
                null: self.model.null_class().map(usize::from),
            },
            class_vector_len: self.model.class_embedding_len(),
        }
    }

    fn draw(&self, prompts: &[Prompt], frames: bool, done: &(dyn Fn() + Sync)) -> Result<Vec<Drawn>> {
        let arena = || AlignedBuffer::zeroed(self.model.arena_len());
        let draw = |arena: &mut AlignedBuffer, prompt: &Prompt| {
            let drawn = self.one(arena.as_mut_slice(), prompt, frames);
            done();
            drawn.map_err(not_runnable)
        };
        prompts.par_iter().map_init(arena, draw).collect()
    }
}
