//! The comparison pairs every operator of every kind of network with its float counterpart, and gives the same numbers for
//! a file alone or beside others, on any number of threads. The bounds are loose, because the oracle's networks are
//! untrained and narrow.

use std::path::{Path, PathBuf};

use mote_converter::arch::Cond;
use mote_converter::compare::{Comparison, Layers, Options, compare, compare_files};
use mote_converter::draw::{MoteFile, Prompt};
use mote_converter::pipeline::{self, prepare};
use mote_converter::quantize::Level;
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

#[test]
fn files_side_by_side_are_as_each_alone() {
    let cases = cases();
    let weights = cases.iter().find(|path| path.ends_with("case-07.safetensors")).unwrap();
    let checkpoint = Checkpoint::open(weights).unwrap();
    let options = pipeline::Options { steps: vec![3], eta: 0.5, trajectories: 4, ..pipeline::Options::default() };
    let calibrated = prepare(&checkpoint, &options, &|_, _, _| {}).unwrap();
    let file = |level, steps: &[usize]| {
        let options = pipeline::Options { activations: Some(level), steps: steps.to_vec(), ..options.clone() };
        let calibrated = prepare(&checkpoint, &options, &|_, _, _| {}).unwrap();
        let quantized = calibrated.quantize(&options, &|_, _, _| {}).unwrap();
        MoteFile::in_memory(weights, &quantized.packed.bytes)
    };
    let files = [file(Level::Int8, &[3]), file(Level::Norms, &[3]), file(Level::Int8, &[2])];
    let models = files.each_ref().map(|file| file.model().unwrap());
    let network = &calibrated.network;
    let prompt = |seed| Prompt { seed, cond: Cond::Class(seed as usize % 2), guidance: 1.0, noise: None };
    let wanted = Options { prompts: (0..6).map(prompt).collect(), steps: None, layered: 2 };
    let json = |value: &Comparison| serde_json::to_string(value).unwrap();

    let together = compare_files(network, &[&models[0], &models[1]], &wanted, &|| {}).unwrap();
    for ((comparison, pictures), model) in together.files.iter().zip(&models) {
        let alone = compare_files(network, &[model], &wanted, &|| {}).unwrap();
        assert_eq!(json(comparison), json(&alone.files[0].0));
        assert_eq!((pictures, &together.float), (&alone.files[0].1, &alone.float));
        assert_eq!(json(comparison), json(&compare(network, model, &wanted, &|| {}).unwrap()));
    }
    assert_ne!(together.files[0].1, together.files[1].1);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| compare_files(network, &[&models[0], &models[1]], &wanted, &|| {}).unwrap());
        assert_eq!(again.float, together.float);
        for (again, together) in again.files.iter().zip(&together.files) {
            assert_eq!((json(&again.0), &again.1), (json(&together.0), &together.1));
        }
    }

    let error = compare_files(network, &[&models[0], &models[2]], &wanted, &|| {}).err().unwrap();
    assert!(error.to_string().contains("file 2 cannot share a float trajectory"), "{error}");
}
