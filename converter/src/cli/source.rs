//! What a path holds: a `.mote` file, or a checkpoint to be run in float.

use std::path::Path;

use miette::{Result, miette};
use mote_converter::arch::Network;
use mote_converter::calibrate::Classes;
use mote_converter::draw::{Float, MoteFile};
use mote_converter::pipeline;
use mote_converter::schedule::{Scheduler, Schedules};
use mote_converter::weights::Checkpoint;

/// What a checkpoint does not say itself.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CheckpointArgs {
    /// The class that stood for "no class" in training (default: `null_class` of the safetensors metadata)
    #[arg(long, value_name = "N")]
    pub null_class: Option<usize>,
    /// Number of classes, for a network whose configuration does not tell
    #[arg(long, value_name = "N")]
    pub classes: Option<usize>,
    /// Height and width of the pictures, as 24,32 or 32 (default: `sample_size` of the configuration)
    #[arg(long, value_name = "H,W", value_parser = super::parse::size)]
    pub size: Option<[usize; 2]>,
}

impl CheckpointArgs {
    /// Whether any is given.
    pub fn given(&self) -> bool {
        self.null_class.is_some() || self.classes.is_some() || self.size.is_some()
    }

    /// The classes of an imported network.
    pub fn classes(&self, network: &Network, checkpoint: &Checkpoint) -> Result<Classes> {
        let options =
            pipeline::Options { classes: self.classes, null_class: self.null_class, ..pipeline::Options::default() };
        let classes = pipeline::classes(network, checkpoint, &options)?;
        self.check(classes)?;
        Ok(classes)
    }

    /// A null class of a network without classes would be passed over in silence.
    pub fn check(&self, classes: Classes) -> Result<()> {
        match self.null_class {
            Some(null) if classes.count == 0 => Err(miette!(
                help = "leave --null-class out",
                "null class {null} does not exist: the network takes no class numbers"
            )),
            _ => Ok(()),
        }
    }
}

/// A checkpoint with weights, imported to be run in float.
pub struct FloatSource {
    /// The network.
    pub network: Network,
    /// Its classes.
    pub classes: Classes,
    schedules: Schedules,
}

impl FloatSource {
    /// Opens a checkpoint; `steps` and `eta` make its schedule.
    pub fn open(path: &Path, args: &CheckpointArgs, steps: usize, eta: f64) -> Result<Self> {
        let checkpoint = open_weights(path)?;
        let network = Network::import(&checkpoint, args.size)?;
        let classes = args.classes(&network, &checkpoint)?;
        let scheduler = Scheduler::read(checkpoint.scheduler_config()?)?;
        let schedules = Schedules::compile(&scheduler, &[steps], eta, network.graph.output_over_timestep)?;
        Ok(Self { network, classes, schedules })
    }

    /// What draws.
    pub fn float(&self) -> Float<'_> {
        Float { network: &self.network, rows: &self.schedules.rows, first_row: 0, classes: self.classes }
    }
}

/// Opens a checkpoint that has weights.
pub fn open_weights(path: &Path) -> Result<Checkpoint> {
    if MoteFile::is_at(path) {
        return Err(miette!(
            help = "name the checkpoint that the file was made of",
            "{}: a .mote file, where a checkpoint is needed",
            path.display()
        ));
    }
    let checkpoint = Checkpoint::open(path)?;
    if !checkpoint.has_weights() {
        return Err(miette!(
            help = "name the .safetensors file or its folder; `converter inspect` takes a bare configuration",
            "{}: a configuration without weights",
            path.display()
        ));
    }
    Ok(checkpoint)
}
