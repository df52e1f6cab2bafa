//! Taking parameters by name: from a checkpoint, or as zeros where only shapes matter.

use std::collections::BTreeSet;

use miette::{Result, miette};

use crate::weights::Checkpoint;

/// Where parameters come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A checkpoint's tensors; each must exist, have its shape and be finite.
    Weights(&'a Checkpoint),
    /// Zeros: for a network that is shaped before it is trained.
    Shapes,
}

/// More parameters than this are refused before they are allocated: 4 GiB of f32.
const MAX_ELEMS: usize = 1 << 30;

/// A source that remembers what was taken.
pub struct Parameters<'a> {
    source: Source<'a>,
    taken: BTreeSet<String>,
    elems: usize,
}

impl<'a> Parameters<'a> {
    /// Nothing is taken yet.
    pub fn new(source: Source<'a>) -> Self {
        Self { source, taken: BTreeSet::new(), elems: 0 }
    }

    /// Parameter `name` of shape `shape`, row-major.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let elems = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        let total = elems.and_then(|elems| self.elems.checked_add(elems)).filter(|total| *total <= MAX_ELEMS);
        let (Some(elems), Some(total)) = (elems, total) else {
            return Err(miette!(
                help = "this is far beyond any microcontroller; check `block_out_channels`",
                "the network has more than {MAX_ELEMS} parameters at `{name}` {shape:?}"
            ));
        };
        let values = match self.source {
            Source::Weights(checkpoint) => {
                let values = checkpoint.tensor(&self.stored_name(name), shape)?;
                self.taken.insert(self.stored_name(name));
                values
            }
            Source::Shapes => vec![0.0; elems],
        };
        self.elems = total;
        Ok(values)
    }

    /// The name under which `name` is stored: attention had other names before diffusers 0.15.
    fn stored_name(&self, name: &str) -> String {
        const RENAMED: [(&str, &str); 4] =
            [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")];
        if let Source::Weights(checkpoint) = self.source
            && !checkpoint.contains(name)
            && let Some(old) =
                RENAMED.iter().map(|(new, old)| name.replace(new, old)).find(|old| checkpoint.contains(old))
        {
            return old;
        }
        name.to_owned()
    }

    /// A linear layer: weight `[out, in]` and bias `[out]`.
    pub fn linear(&mut self, prefix: &str, out_dim: usize, in_dim: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((
            self.take(&format!("{prefix}.weight"), &[out_dim, in_dim])?,
            self.take(&format!("{prefix}.bias"), &[out_dim])?,
        ))
    }

    /// The number of elements taken, or an error that lists tensors of the checkpoint that nothing asked for.
    pub fn finish(self) -> Result<usize> {
        let Source::Weights(checkpoint) = self.source else { return Ok(self.elems) };
        let unused: Vec<&str> = checkpoint.names().filter(|name| !self.taken.contains(*name)).collect();
        if unused.is_empty() {
            return Ok(self.elems);
        }
        let more = unused.len().saturating_sub(20);
        let list = unused[..unused.len() - more].join("\n  - ");
        let rest = if more > 0 { format!("\n  … and {more} more") } else { String::new() };
        Err(miette!(
            help =
                "the configuration describes a smaller network than the weights; use the pair that was saved together",
            "{}: {} tensors have no place in the network of the configuration:\n  - {list}{rest}",
            checkpoint.path().display(),
            unused.len()
        ))
    }
}
