//! The float half against diffusers: imported checkpoints must draw what diffusers drew with them.
//!
//! `tests/fixtures/make_oracle_fixtures.py` makes the cases; `MOTE_ORACLE=folder` runs others than the committed ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use mote_converter::arch::{Cond, Network};
use mote_converter::interpret::Interpreter;
use mote_converter::sample::{Conditioning, sample};
use mote_converter::schedule::Scheduler;
use mote_converter::weights::Checkpoint;
use rayon::prelude::*;
use safetensors::SafeTensors;

/// Of the largest element, or of 1.
const TOLERANCE: f32 = 1e-3;

/// How diffusers drew a sample, and the sample.
struct Case {
    io: Vec<u8>,
    how: HashMap<String, String>,
}

impl Case {
    fn read(path: &Path) -> Self {
        let io = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&io).unwrap();
        Self { how: header.metadata().clone().unwrap(), io }
    }

    fn tensor(&self, name: &str) -> Option<Vec<f32>> {
        let file = SafeTensors::deserialize(&self.io).unwrap();
        let bytes = file.tensor(name).ok()?.data();
        Some(bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect())
    }

    fn get<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.how.get(key).and_then(|text| text.parse().ok())
    }
}

/// The largest difference, relative to the largest element or 1.
fn run(weights: &Path) -> f32 {
    let case = Case::read(&weights.with_extension("io"));
    let checkpoint = Checkpoint::open(weights).unwrap();
    let (h, w) = case.how["size"].split_once('x').unwrap();
    let network = Network::import(&checkpoint, Some([h.parse().unwrap(), w.parse().unwrap()])).unwrap();
    let scheduler = Scheduler::read(checkpoint.scheduler_config().unwrap()).unwrap();
    let (steps, eta) = (case.get("steps").unwrap(), case.get("eta").unwrap());
    let rows = scheduler.rows(steps, eta, network.graph.output_over_timestep).unwrap();
    let interpreter = Interpreter::new(&network.graph);
    let cond = match case.tensor("cond_vector") {
        Some(vector) => Cond::Vector(vector),
        None => case.get("class").map_or(Cond::None, Cond::Class),
    };
    let null = case.get("null_class").map(Cond::Class);
    let guidance = case.get("guidance").unwrap_or(1.0);
    let conditioning = Conditioning::new(&interpreter, &network.time, &rows, &cond, null.as_ref(), guidance).unwrap();
    let x_t = case.tensor("noise").unwrap();
    let step_noise = case.tensor("step_noise").unwrap_or_default();
    let mut fill = |row, noise: &mut [f32]| noise.copy_from_slice(&step_noise[row * x_t.len()..][..x_t.len()]);
    let x0 = sample(&interpreter, &rows, &conditioning, &x_t, &mut fill, &mut |_| {});
    let expected = case.tensor("x0").unwrap();
    assert_eq!(x0.len(), expected.len());
    let largest = expected.iter().fold(1.0f32, |max, x| max.max(x.abs()));
    let differences = x0.iter().zip(&expected).map(|(have, need)| (have - need).abs());
    differences.fold(0.0, |max, d| if d > max || d.is_nan() { d } else { max }) / largest
}

#[test]
fn draws_what_diffusers_draws() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/oracle");
    let folder = std::env::var_os("MOTE_ORACLE").map_or(committed, PathBuf::from);
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    cases.sort();
    assert!(!cases.is_empty(), "there are no cases");
    let results: Vec<(PathBuf, Result<f32, ()>)> = cases
        .into_par_iter()
        .map(|path| {
            let result = std::panic::catch_unwind(|| run(&path)).map_err(|_| ());
            (path, result)
        })
        .collect();
    let largest = results.iter().filter_map(|(_, result)| result.ok()).fold(0.0, f32::max);
    println!("{} cases, largest error {largest:.2e} of the largest element", results.len());
    let bad: Vec<String> = results
        .iter()
        .filter(|(_, result)| !result.is_ok_and(|error| error <= TOLERANCE))
        .map(|(path, result)| format!("{}: {result:?}", path.display()))
        .collect();
    assert!(bad.is_empty(), "{} of {}:\n{}", bad.len(), results.len(), bad.join("\n"));
}
