//! From a diffusers checkpoint to the f32 graph and the time path.
//!
//! The configuration is read strictly (every key known, every value supported, all complaints at once), then the blocks
//! are laid out as diffusers' `UNet2DModel` does, each parameter taken by its name and shape. A tensor that no block
//! asked for is refused too: it would mean that the configuration describes another network.
//!
//! Voids the promise: nothing; what cannot be built equal to diffusers is an error.

mod blocks;
mod config;
mod parameters;
mod time;
mod unet2d;

use miette::Result;

pub use config::{ClassEmbedType, DownBlock, Sampling, TimeEmbeddingType, Unet2dConfig, UpBlock};
pub use parameters::{Parameters, Source};
pub use time::{Cond, TimePath};

use crate::graph::Graph;
use crate::weights::Checkpoint;

/// An imported network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its configuration, for reports.
    pub config: Unet2dConfig,
    /// Everything that works on pixels.
    pub graph: Graph,
    /// Everything that works on the timestep and the class.
    pub time: TimePath,
    /// Parameters of graph and time path together, in elements.
    pub parameters: usize,
}

impl Network {
    /// Reads `checkpoint` for pictures of `size` (`[h, w]`), or of the configuration's `sample_size` where it is `None`.
    /// A checkpoint without weights gives the same graph with all parameters zero.
    pub fn import(checkpoint: &Checkpoint, size: Option<[usize; 2]>) -> Result<Self> {
        let config = Unet2dConfig::read(checkpoint.config()?)?;
        let size = config.size(size)?;
        let source = if checkpoint.has_weights() { Source::Weights(checkpoint) } else { Source::Shapes };
        let mut parameters = Parameters::new(source);
        let graph = unet2d::build(&config, size, &mut parameters)?;
        let time = TimePath::build(&config, &mut parameters)?;
        let parameters = parameters.finish()?;
        Ok(Self { config, graph, time, parameters })
    }
}
