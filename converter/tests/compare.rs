//! The comparison pairs every operator of every kind of network with its float counterpart. The bounds are loose,
//! because the oracle's networks are untrained and narrow.

use std::path::{Path, PathBuf};

use mote_converter::arch::Cond;
use mote_converter::compare::{Layers, Options, compare};
use mote_converter::draw::{MoteFile, Prompt};
use mote_converter::pipeline::{self, prepare};
use mote_converter::weights::Checkpoint;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/oracle");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    cases.sort();
    cases
}

#[test]
fn every_layer_of_every_network_has_its_pair() {
    for weights in cases() {
        let name = weights.file_name().unwrap().to_str().unwrap().to_owned();
        let checkpoint = Checkpoint::open(&weights).unwrap();
        let options = pipeline::Options {
            steps: vec![3, 2],
            eta: 0.5,
            size: Some([8, 8]),
            classes: Some(4),
            trajectories: 4,
            ..pipeline::Options::default()
        };
        let calibrated = prepare(&checkpoint, &options, &|_, _, _| {}).unwrap();
        let quantized = calibrated.quantize(&options, &|_, _, _| {}).unwrap();
        let network = &calibrated.network;
        let file = MoteFile::in_memory(&weights, &quantized.packed.bytes);
        let model = file.model().unwrap();
        // What the lowering knows and the file does not say.
        let layers = Layers::new(network, &model).unwrap();
        for index in 0..model.op_count() {
            let origin = quantized.graph.origins[usize::from(model.op(index).unwrap().op.out())];
            if let Some(pair) = layers.of_op(index) {
                assert_eq!(Some(pair), origin.and_then(|id| layers.of_tensor(id)), "{name}: operator {index}");
            }
        }
        let cond = match (network.time.takes_vector(), network.time.is_conditional()) {
            (true, _) => Cond::Vector(vec![0.25; network.time.dim()]),
            (false, true) => Cond::Class(1),
            (false, false) => Cond::None,
        };
        let prompts: Vec<Prompt> =
            (0..3).map(|seed| Prompt { seed, cond: cond.clone(), guidance: 1.0, noise: None }).collect();
        for steps in [3, 2] {
            let wanted = Options { prompts: prompts.clone(), steps: Some(steps), layered: 2 };
            let comparison = compare(network, &model, &wanted, &|| {}).unwrap();
            assert_eq!((comparison.samples, comparison.rows.len(), comparison.layered), (3, steps, 2));
            assert_eq!(comparison.layers.len(), network.graph.ops.len() + 1);
            for layer in &comparison.layers {
                assert!(layer.worst_sqnr_db > 0.0 && layer.worst_sqnr_db <= layer.sqnr_db + 1e-9, "{name}: {layer:?}");
            }
            let worst_row = comparison.rows.iter().filter_map(|row| row.model_sqnr_db).fold(f64::INFINITY, f64::min);
            assert!(worst_row > 10.0, "{name}: {:?}", comparison.rows);
        }
    }
}
