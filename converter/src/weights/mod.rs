//! A checkpoint on disk: its tensors (memory-mapped), its configurations, its metadata.
//!
//! Nothing is read until it is asked for: [`Checkpoint::open`] maps the files and parses headers, [`Checkpoint::tensor`]
//! converts one tensor to f32 and checks each value. Shapes in headers are checked against the file's length by the
//! `safetensors` crate before any slice is taken.
//!
//! Voids the promise: another process that shortens or rewrites the file while it is mapped.

mod decode;
mod find;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use miette::{Result, miette};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

pub use find::Files;

use crate::fields::ConfigText;

/// Where a tensor lies.
#[derive(Clone, Debug)]
struct Entry {
    file: usize,
    start_bytes: usize,
    end_bytes: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

/// An opened checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    maps: Vec<(PathBuf, Mmap)>,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    config: Option<ConfigText>,
    scheduler: Option<ConfigText>,
}

impl Checkpoint {
    /// Opens a `.safetensors` file, its `.index.json`, a model folder, a pipeline folder, or a bare `config.json`
    /// (which has no weights: see [`Checkpoint::has_weights`]).
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_files(path, find::find(path)?)
    }

    fn from_files(path: &Path, files: Files) -> Result<Self> {
        let mut checkpoint = Self {
            path: path.to_owned(),
            maps: Vec::new(),
            entries: BTreeMap::new(),
            metadata: BTreeMap::new(),
            config: files.config.as_deref().map(read_config).transpose()?,
            scheduler: files.scheduler.as_deref().map(read_config).transpose()?,
        };
        for file in &files.weights {
            checkpoint.map(file)?;
        }
        for (key, slot) in [("config", &mut checkpoint.config), ("scheduler_config", &mut checkpoint.scheduler)] {
            if let (None, Some(text)) = (&slot, checkpoint.metadata.get(key)) {
                *slot = Some(ConfigText::parse(format!("{} (metadata `{key}`)", path.display()), text)?);
            }
        }
        Ok(checkpoint)
    }

    fn map(&mut self, path: &Path) -> Result<()> {
        let at = path.display();
        let unreadable = |error: std::io::Error| {
            miette!(help = "check that the file exists and may be read", "{at}: cannot be opened: {error}")
        };
        let map = map_file(&File::open(path).map_err(unreadable)?).map_err(unreadable)?;
        let (header_len, header) =
            SafeTensors::read_metadata(&map).map_err(|error| decode::invalid_file(path, map.len(), &error))?;
        let data_start = header_len + size_of::<u64>();
        let file = self.maps.len();
        for (name, info) in header.tensors() {
            let entry = Entry {
                file,
                start_bytes: data_start + info.data_offsets.0,
                end_bytes: data_start + info.data_offsets.1,
                dtype: info.dtype,
                shape: info.shape.clone(),
            };
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(miette!(
                    help = "keep one set of shards in the folder",
                    "{at}: tensor `{name}` is in another shard too"
                ));
            }
        }
        for (key, value) in header.metadata().iter().flatten() {
            self.metadata.insert(key.clone(), value.clone());
        }
        self.maps.push((path.to_owned(), map));
        Ok(())
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// False for a bare `config.json`.
    pub fn has_weights(&self) -> bool {
        !self.maps.is_empty()
    }

    /// Bytes of the weight files.
    pub fn len_bytes(&self) -> u64 {
        self.maps.iter().map(|(_, map)| map.len() as u64).sum()
    }

    /// The safetensors `__metadata__` of all shards: `null_class`, `class_names`, `name`, `license`, … where they exist.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The network's configuration.
    pub fn config(&self) -> Result<&ConfigText> {
        self.config.as_ref().ok_or_else(|| {
            miette!(
                help = "put the model's `config.json` next to the weights (diffusers' `save_pretrained` writes it), or \
                        its text into the safetensors metadata key `config`",
                "{}: the network's configuration is missing",
                self.path.display()
            )
        })
    }

    /// The noise scheduler's configuration.
    pub fn scheduler_config(&self) -> Result<&ConfigText> {
        self.scheduler.as_ref().ok_or_else(|| {
            miette!(
                help = "put the `scheduler_config.json` that the network was trained with next to the weights, or at \
                        `../scheduler/scheduler_config.json`, or its text into the safetensors metadata key \
                        `scheduler_config`. In Python: `noise_scheduler.save_pretrained(folder)`",
                "{}: the scheduler's configuration is missing, so the noise levels are unknown",
                self.path.display()
            )
        })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The shape of tensor `name`, if there is one.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| &entry.shape[..])
    }

    /// Tensor `name` as f32, row-major, if it has the shape `need` and every value is finite.
    pub fn tensor(&self, name: &str, need: &[usize]) -> Result<Vec<f32>> {
        let Some(entry) = self.entries.get(name) else {
            return Err(miette!(
                help = self.similar(name),
                "{}: tensor `{name}` is missing (need {need:?})",
                self.path.display()
            ));
        };
        if entry.shape != need {
            return Err(miette!(
                help = "the weights and the configuration describe different networks; use the pair that was saved together",
                "{}: tensor `{name}` has the wrong shape: have {:?}, need {need:?}",
                self.path.display(),
                entry.shape
            ));
        }
        let (path, map) = &self.maps[entry.file];
        let bytes = map.get(entry.start_bytes..entry.end_bytes).ok_or_else(|| {
            miette!(
                help = "fetch or export the file again",
                "{}: tensor `{name}` ends after the file does",
                path.display()
            )
        })?;
        let values = decode::to_f32(entry.dtype, bytes).ok_or_else(|| {
            miette!(
                help = "save the model as f32, f16, bf16 or f64",
                "{}: tensor `{name}` is stored as {:?}, which is no floating-point weight",
                path.display(),
                entry.dtype
            )
        })?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => Err(miette!(
                help = "training diverged, or an f16 export overflowed: export in f32 and check the loss",
                "{}: tensor `{name}` holds {} at index {index} of {}",
                path.display(),
                values[index],
                values.len()
            )),
        }
    }

    /// Help for a missing tensor: what the file has under the nearest common prefix.
    fn similar(&self, name: &str) -> String {
        let mut prefix = name;
        while let Some((shorter, _)) = prefix.rsplit_once('.') {
            prefix = shorter;
            let found: Vec<&str> =
                self.names().filter(|have| have.starts_with(prefix) && have[prefix.len()..].starts_with('.')).collect();
            if !found.is_empty() {
                let more = if found.len() > 6 { ", …" } else { "" };
                let some = found[..found.len().min(6)].join(", ");
                return format!("the file has, under `{prefix}`: {some}{more}");
            }
        }
        let some: Vec<&str> = self.names().take(6).collect();
        format!("the file has {} tensors, among them: {}", self.entries.len(), some.join(", "))
    }
}

/// The one place of this crate that maps files.
#[allow(unsafe_code)]
fn map_file(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and only read as bytes; the module's promise excludes files that change meanwhile.
    unsafe { Mmap::map(file) }
}

fn read_config(path: &Path) -> Result<ConfigText> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| miette!(help = "check that the file exists and may be read", "{}: {error}", path.display()))?;
    ConfigText::parse(path.display().to_string(), &text)
}
