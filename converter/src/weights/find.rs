//! Which files make up a checkpoint, from whatever path a person names.
//!
//! | path                         | weights                                   | configurations                         |
//! |------------------------------|-------------------------------------------|----------------------------------------|
//! | `x.safetensors`              | that file                                 | beside it, `../scheduler`, metadata     |
//! | `x.safetensors.index.json`   | the shards that it lists                  | beside it, `../scheduler`              |
//! | `config.json`                | none                                      | that file, scheduler as above          |
//! | model folder                 | `diffusion_pytorch_model.safetensors`, …  | in it, `../scheduler`                  |
//! | pipeline folder              | in `unet/`                                | `unet/`, `scheduler/`                  |

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use miette::{Result, miette};
use serde_json::Value;

use crate::fields::{ConfigText, brief};

/// The files of a checkpoint; all exist except the shards, which are opened later.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// One or more safetensors files; none for a bare configuration.
    pub weights: Vec<PathBuf>,
    /// `config.json`.
    pub config: Option<PathBuf>,
    /// `scheduler_config.json`.
    pub scheduler: Option<PathBuf>,
}

/// Names that diffusers and its exporters use, in order of preference.
const WEIGHTS: [&str; 4] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.safetensors",
    "model.fp16.safetensors",
];

const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// Finds the files for `path`.
pub fn find(path: &Path) -> Result<Files> {
    let at = path.display();
    if path.is_dir() {
        return in_folder(path);
    }
    if !path.is_file() {
        return Err(miette!(
            help = "give a .safetensors file, a model folder, a pipeline folder or a config.json",
            "{at}: no such file or folder"
        ));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    if name.ends_with(INDEX_SUFFIX) {
        beside(folder, shards(path)?)
    } else if name.ends_with(".json") {
        Ok(Files { config: Some(path.to_owned()), ..beside(folder, Vec::new())? })
    } else {
        beside(folder, vec![path.to_owned()])
    }
}

fn in_folder(folder: &Path) -> Result<Files> {
    if let Some(weights) = weights_in(folder)? {
        return beside(folder, weights);
    }
    let unet = folder.join("unet");
    if let Some(weights) = weights_in(&unet)? {
        return beside(&unet, weights);
    }
    let bin = ["", "unet"].iter().any(|sub| folder.join(sub).join("diffusion_pytorch_model.bin").is_file());
    Err(miette!(
        help = if bin {
            "the folder has a pickled `.bin`: convert it with `model.save_pretrained(folder, safe_serialization=True)`"
        } else {
            "expected diffusion_pytorch_model.safetensors or model.safetensors here or in `unet/`; for a network \
             without weights, name its config.json itself"
        },
        "{}: no safetensors weights in this folder",
        folder.display()
    ))
}

/// The weights in `folder`: a file of a known name, else an index, else the only safetensors file.
fn weights_in(folder: &Path) -> Result<Option<Vec<PathBuf>>> {
    if let Some(file) = WEIGHTS.iter().map(|name| folder.join(name)).find(|file| file.is_file()) {
        return Ok(Some(vec![file]));
    }
    let Ok(listing) = std::fs::read_dir(folder) else { return Ok(None) };
    let mut files: Vec<PathBuf> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let ends_with = |file: &PathBuf, suffix: &str| file.to_str().is_some_and(|name| name.ends_with(suffix));
    if let Some(index) = files.iter().find(|file| ends_with(file, INDEX_SUFFIX)) {
        return shards(index).map(Some);
    }
    files.retain(|file| ends_with(file, ".safetensors"));
    match files.len() {
        0 => Ok(None),
        1 => Ok(Some(files)),
        many => Err(miette!(
            help = "name the one that you mean",
            "{}: {many} safetensors files and none has a name that diffusers gives",
            folder.display()
        )),
    }
}

/// The shards of an index, each once.
fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let at = index.display();
    let text = std::fs::read_to_string(index)
        .map_err(|error| miette!(help = "check that the file may be read", "{at}: {error}"))?;
    let json = ConfigText::parse(at.to_string(), &text)?;
    let Some(Value::Object(map)) = json.object.get("weight_map") else {
        return Err(miette!(help = "re-export the model", "{at}: `weight_map` is missing"));
    };
    let folder = index.parent().unwrap_or(Path::new(""));
    let mut files = BTreeSet::new();
    for (tensor, file) in map {
        // A shard is a name in the same folder; a path would let an index read files elsewhere.
        let name = file.as_str().filter(|name| !name.contains(['/', '\\']));
        let Some(name) = name else {
            return Err(miette!(
                help = "a shard is a file name in the index's own folder",
                "{at}: tensor `{tensor}` is mapped to {}",
                brief(file)
            ));
        };
        files.insert(folder.join(name));
    }
    if files.is_empty() {
        return Err(miette!(help = "re-export the model", "{at}: `weight_map` names no file"));
    }
    Ok(files.into_iter().collect())
}

/// Adds the configurations that lie around `folder`.
fn beside(folder: &Path, weights: Vec<PathBuf>) -> Result<Files> {
    let existing = |file: PathBuf| file.is_file().then_some(file);
    // `folder/..` as text, so that a link in a model hub's cache is left by the way that it was entered.
    let parent = if folder.as_os_str().is_empty() { PathBuf::from("..") } else { folder.join("..") };
    Ok(Files {
        weights,
        config: existing(folder.join("config.json")),
        scheduler: existing(folder.join("scheduler_config.json"))
            .or_else(|| existing(folder.join("scheduler").join("scheduler_config.json")))
            .or_else(|| existing(parent.join("scheduler").join("scheduler_config.json"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_pipeline_is_found_from_any_of_its_paths() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        touch(&root.join("unet/config.json"), "{}");
        touch(&root.join("unet/diffusion_pytorch_model.safetensors"), "");
        touch(&root.join("scheduler/scheduler_config.json"), "{}");
        for path in [root.to_owned(), root.join("unet"), root.join("unet/diffusion_pytorch_model.safetensors")] {
            let files = find(&path).unwrap();
            assert_eq!(files.weights, [root.join("unet/diffusion_pytorch_model.safetensors")]);
            assert_eq!(files.config, Some(root.join("unet/config.json")));
            assert!(files.scheduler.is_some(), "{}", path.display());
        }
        let bare = find(&root.join("unet/config.json")).unwrap();
        assert!(bare.weights.is_empty() && bare.config.is_some() && bare.scheduler.is_some());
    }

    #[test]
    fn an_index_names_its_shards_once_and_no_paths() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        touch(&index, r#"{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#);
        let two = vec![folder.path().join("1.safetensors"), folder.path().join("2.safetensors")];
        assert_eq!(find(&index).unwrap().weights, two);
        assert_eq!(find(folder.path()).unwrap().weights, two);
        touch(&index, r#"{"weight_map": {"a": "../1.safetensors"}}"#);
        assert!(find(&index).unwrap_err().to_string().contains("`a` is mapped to"));
    }

    #[test]
    fn an_empty_folder_says_what_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let error = find(folder.path()).unwrap_err();
        assert!(error.help().unwrap().to_string().contains("diffusion_pytorch_model.safetensors"));
        touch(&folder.path().join("unet/diffusion_pytorch_model.bin"), "");
        assert!(find(folder.path()).unwrap_err().help().unwrap().to_string().contains("safe_serialization"));
    }
}
