//! The whole way on small networks: each oracle checkpoint is quantized, read back by the runtime, and drawn with; the
//! device's pictures must be near the float sampler's. The bounds are loose, signal to noise of 3 to 8 dB: these networks
//! are untrained, have a few channels, and amplify more than trained ones do; a wrong operator gives 0 dB or less.

use std::path::{Path, PathBuf};

use mote_converter::pipeline::{Calibrated, Options, prepare};
use mote_converter::quantize::Level;
use mote_converter::verify::{self, quality};
use mote_converter::weights::Checkpoint;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/oracle");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    cases.sort();
    cases
}

fn calibrated(weights: &Path) -> (Calibrated, Options) {
    let checkpoint = Checkpoint::open(weights).unwrap();
    let io = std::fs::read(weights.with_extension("io")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&io).unwrap();
    let how = header.metadata().clone().unwrap();
    let number = |key: &str| how.get(key).and_then(|text| text.parse::<usize>().ok());
    let size = how["size"].split_once('x').map(|(h, w)| [h.parse().unwrap(), w.parse().unwrap()]);
    let options = Options {
        steps: vec![number("steps").unwrap(), 3],
        eta: how["eta"].parse().unwrap(),
        size,
        classes: Some(4),
        null_class: number("null_class"),
        trajectories: 4,
        ..Options::default()
    };
    let steps = options.steps.clone();
    let options = if steps[0] == steps[1] { Options { steps: vec![steps[0]], ..options } } else { options };
    (prepare(&checkpoint, &options, &|_, _, _| {}).unwrap_or_else(|e| panic!("{}: {e:?}", weights.display())), options)
}

#[test]
fn the_device_draws_what_float_draws() {
    let mut bad = Vec::new();
    for weights in cases() {
        let (calibrated, options) = calibrated(&weights);
        for level in Level::ALL {
            let options = Options { activations: Some(level), ..options.clone() };
            let quantized = calibrated.quantize(&options, &|_, _, _| {}).unwrap();
            for schedule in 0..options.steps.len() {
                let draws = verify::Options { samples: 5, schedule, seed: 1, guidance: 1.0..=2.0 };
                let quality = quality(&calibrated, &quantized, &draws).unwrap();
                let worst_layer = quality.layers.iter().map(|layer| layer.snr_db).fold(f64::INFINITY, f64::min);
                let ok = quality.snr_db > 3.0 && quality.steps_snr_db[0] > 8.0 && worst_layer > 3.0;
                println!(
                    "{} {level:?} {} steps: pictures {:.1} dB, worst layer {worst_layer:.1} dB, steps {:.0?} dB, arena {} of {}",
                    weights.file_name().unwrap().display(),
                    options.steps[schedule],
                    quality.snr_db,
                    quality.steps_snr_db,
                    quantized.report.arena_bytes,
                    quantized.report.arena_lower_bound_bytes,
                );
                if !ok {
                    bad.push((weights.clone(), level, schedule));
                }
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    let weights = &cases()[0];
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (calibrated, options) = calibrated(weights);
            calibrated.quantize(&options, &|_, _, _| {}).unwrap().packed.bytes
        })
    };
    assert!(on(1) == on(3));
}

#[test]
fn budgets_are_refused_by_name() {
    let (calibrated, options) = calibrated(&cases()[0]);
    let nothing = |_, _, _| {};
    for (options, word) in [
        (Options { ram_bytes: Some(1000), ..options.clone() }, "--ram"),
        (Options { flash_bytes: Some(1000), ..options.clone() }, "--flash"),
    ] {
        let error = calibrated.quantize(&options, &nothing).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert!(error.help().is_some());
    }
}
