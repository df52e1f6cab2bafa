//! What cannot be imported is refused by an error that names the thing and says what to do.

use std::collections::BTreeMap;
use std::path::Path;

use miette::Result;
use mote_converter::arch::{Cond, Network};
use mote_converter::schedule::Scheduler;
use mote_converter::weights::Checkpoint;
use safetensors::tensor::{Dtype, TensorView, serialize};

/// A small network with attention and classes.
const CONFIG: &str = r#"{"_class_name": "UNet2DModel", "sample_size": 4, "in_channels": 1, "out_channels": 1,
    "block_out_channels": [2, 4], "layers_per_block": 1, "norm_num_groups": 2, "num_class_embeds": 3,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "attention_head_dim": 2}"#;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The tensors that `CONFIG` needs, found by asking for them one after the other.
fn tensors() -> Tensors {
    let mut tensors = Tensors::new();
    let folder = tempfile::tempdir().unwrap();
    loop {
        let Err(error) = import(folder.path(), CONFIG, &tensors) else { return tensors };
        let message = error.to_string();
        let name = message.split('`').nth(1).unwrap().to_owned();
        assert!(message.contains("is missing (need ["), "{message}");
        let shape: Vec<usize> = message[message.rfind('[').unwrap() + 1..message.rfind(']').unwrap()]
            .split(", ")
            .map(|dim| dim.parse().unwrap())
            .collect();
        let elems = shape.iter().product();
        tensors.insert(name, (shape, vec![0.25; elems]));
    }
}

fn bytes(tensors: &Tensors) -> Vec<u8> {
    let data: BTreeMap<_, (_, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name.clone(), (shape.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        })
        .collect();
    let views = data
        .iter()
        .map(|(name, (shape, bytes))| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    serialize(views, None).unwrap()
}

fn import(folder: &Path, config: &str, tensors: &Tensors) -> Result<Network> {
    std::fs::write(folder.join("config.json"), config).unwrap();
    std::fs::write(folder.join("model.safetensors"), bytes(tensors)).unwrap();
    Network::import(&Checkpoint::open(folder)?, None)
}

/// The message and the help of a failure.
#[track_caller]
fn told<T>(result: Result<T>) -> String {
    let Err(error) = result else { panic!("this should have been refused") };
    let help = error.help().expect("every error says what to do").to_string();
    format!("{error}\n{help}")
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn broken_weights() {
    let folder = tempfile::tempdir().unwrap();
    let complete = tensors();
    let import = |config: &str, tensors: &Tensors| import(folder.path(), config, tensors);
    assert!(import(CONFIG, &complete).is_ok());

    let mut broken = complete.clone();
    broken.get_mut("mid_block.resnets.0.conv1.weight").unwrap().1[5] = f32::NAN;
    contains(&told(import(CONFIG, &broken)), &["`mid_block.resnets.0.conv1.weight` holds NaN at index 5 of 144"]);

    let mut broken = complete.clone();
    broken.insert("conv_in.bias".into(), (vec![3], vec![0.0; 3]));
    contains(&told(import(CONFIG, &broken)), &["`conv_in.bias`", "have [3], need [2]"]);

    let mut broken = complete.clone();
    broken.remove("down_blocks.1.attentions.0.to_q.weight");
    contains(&told(import(CONFIG, &broken)), &["`down_blocks.1.attentions.0.to_q.weight` is missing", "to_q.bias"]);

    let mut broken = complete.clone();
    broken.insert("add_embedding.weight".into(), (vec![1], vec![0.0]));
    broken.insert("conv_norm_out.extra".into(), (vec![1], vec![0.0]));
    contains(&told(import(CONFIG, &broken)), &["2 tensors", "add_embedding.weight", "conv_norm_out.extra"]);

    let file = folder.path().join("cut.safetensors");
    let whole = bytes(&complete);
    for len in [0, 4, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..len]).unwrap();
        contains(&told(Checkpoint::open(&file)), &["cut.safetensors", "truncated", &format!("{len} bytes")]);
    }
    std::fs::write(&file, b"\x80\x02}q\x00.pickle of some length").unwrap();
    contains(&told(Checkpoint::open(&file)), &["cut.safetensors", "safetensors"]);
}

#[test]
fn impossible_networks() {
    let folder = tempfile::tempdir().unwrap();
    let config = |from: &str, to: &str| {
        assert!(CONFIG.contains(from));
        let file = folder.path().join("config.json");
        std::fs::write(&file, CONFIG.replace(from, to)).unwrap();
        Network::import(&Checkpoint::open(&file).unwrap(), None)
    };
    // A bare configuration has no weights, and builds.
    assert!(config("4,", "8,").unwrap().parameters > 100);
    contains(&told(config(r#""sample_size": 4"#, r#""sample_size": [4, 7]"#)), &["up_blocks.1", "4x8", "4x7"]);
    contains(
        &told(config(r#""norm_num_groups": 2"#, r#""norm_num_groups": 4"#)),
        &["down_blocks.0.resnets.0.norm1: 2 channels", "norm_num_groups"],
    );
    contains(
        &told(config(r#""attention_head_dim": 2"#, r#""attention_head_dim": 8"#)),
        &["attentions.0", "8 channels do not fit into 4"],
    );
    contains(
        &told(config(r#""layers_per_block": 1"#, r#""layers_per_block": 0"#)),
        &["down_blocks.1: 2 channels come in", "layers_per_block"],
    );
    contains(&told(config(r#"[2, 4]"#, r#"[2, 4, 8]"#)), &["`down_block_types` = 2 blocks", "`up_block_types`", "3"]);
    contains(&told(config(r#"[2, 4]"#, r#"[16384, 16384]"#)), &["parameters", "block_out_channels"]);
    contains(
        &told(config(r#""attention_head_dim": 2"#, r#""cross_attention_dim": 8, "freq_shift": 1"#)),
        &["`cross_attention_dim` = 8", "`freq_shift` = 1"],
    );
    let blocks = r#"["CrossAttnDownBlock2D", "KDownBlock2D"]"#;
    contains(
        &told(config(r#"["DownBlock2D", "AttnDownBlock2D"]"#, blocks)),
        &[
            "`down_block_types[0]` = \"CrossAttnDownBlock2D\"",
            "`down_block_types[1]` = \"KDownBlock2D\"",
            "AttnDownBlock2D",
        ],
    );
}

#[test]
fn missing_configurations_and_conditions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    std::fs::write(&file, bytes(&tensors())).unwrap();
    let checkpoint = Checkpoint::open(&file).unwrap();
    contains(&told(checkpoint.config().cloned()), &["weights.safetensors", "config.json", "metadata"]);
    contains(&told(checkpoint.scheduler_config().cloned()), &["../scheduler/scheduler_config.json", "save_pretrained"]);
    contains(&told(Checkpoint::open(&folder.path().join("nothing"))), &["nothing", "no such file"]);
    std::fs::write(folder.path().join("scheduler_config.json"), "{\"beta_start\": ").unwrap();
    contains(&told(Checkpoint::open(&file)), &["scheduler_config.json: invalid JSON", "line 1"]);
    std::fs::write(folder.path().join("scheduler_config.json"), r#"{"_class_name": "EulerDiscreteScheduler"}"#)
        .unwrap();
    let checkpoint = Checkpoint::open(&file).unwrap();
    contains(
        &told(Scheduler::read(checkpoint.scheduler_config().unwrap())),
        &["EulerDiscreteScheduler", "DDIMScheduler"],
    );

    std::fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    let network = Network::import(&Checkpoint::open(&file).unwrap(), None).unwrap();
    contains(&told(network.time.embed(1.0, &Cond::None)), &["needs a class from 0 to 2", "--class"]);
    contains(&told(network.time.embed(1.0, &Cond::Class(3))), &["class 3", "3 classes"]);
    contains(&told(network.time.embed(1.0, &Cond::Vector(vec![0.0; 8]))), &["identity"]);
}
