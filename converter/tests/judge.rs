//! The judge against PyTorch (`tests/fixtures/make_judge_fixtures.py`), its distance against cases that are known, and
//! its words for files that are none.

use std::path::{Path, PathBuf};

use mote_converter::judge::frechet::{BLOCKS, Blocks, Held};
use mote_converter::judge::{Judge, Reading};
use mote_converter::weights::Checkpoint;
use mote_runtime::sampler::noise;
use safetensors::tensor::{Dtype, TensorView};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/judge").join(name)
}

#[test]
fn pytorch_reads_the_same() {
    let judge = Judge::read(&fixture("classifier.safetensors")).unwrap();
    let seen = Checkpoint::open(&fixture("readings.safetensors")).unwrap();
    let tensor = |name: &str| seen.tensor(name, seen.shape(name).unwrap()).unwrap();
    judge.check([11, 11, 3]).unwrap();
    assert_eq!((judge.classes(), judge.feature_len(), judge.held_out_accuracy()), (4, 7, Some(0.25)));

    let pictures: Vec<Vec<f32>> = tensor("pictures").chunks_exact(11 * 11 * 3).map(<[f32]>::to_vec).collect();
    let readings = judge.read_all(&pictures, &|| {});
    let classes: Vec<usize> = tensor("classes").iter().map(|&class| class as usize).collect();
    assert_eq!(readings.iter().map(|reading| reading.class).collect::<Vec<_>>(), classes);
    for (have, need) in readings.iter().flat_map(|reading| &reading.features).zip(tensor("features")) {
        assert!((have - need).abs() <= 1e-5 * need.abs().max(1.0), "{have} {need}");
    }
    let (have, need) = (Blocks::new(judge.held(), &readings).distance().unwrap().value, tensor("frechet")[0]);
    assert!((have / f64::from(need) - 1.0).abs() < 1e-5, "{have} {need}");
    assert_eq!(Blocks::new(judge.held(), &readings[..7]).distance(), None, "as many pictures as features");
}

/// Normal features with a standard deviation and a mean for each dimension.
fn gaussian(seed: u64, count: usize, deviations: &[f32], mean: f32) -> Vec<Reading> {
    let mut x = vec![0.0; count * deviations.len()];
    noise::fill(seed, 0, &mut x);
    let features = |x: &[f32]| x.iter().zip(deviations).map(|(x, deviation)| x * deviation + mean).collect();
    x.chunks_exact(deviations.len()).map(|x| Reading { class: 0, features: features(x) }).collect()
}

#[test]
fn the_distance_of_gaussians_is_the_formula_and_its_error_is_what_seeds_do() {
    // Held-out: mean 0, standard deviations 1 and 2. Diagonal, so that d = |m|² + Σ(σ₁ − σ₂)².
    let held = Held::new(&[0.0, 0.0], &[1.0, 0.0, 0.0, 4.0]);
    let set = |seed| Blocks::new(&held, &gaussian(seed, 4000, &[1.5, 1.0], 0.5)).distance().unwrap();
    let sets: Vec<_> = (0..64).map(set).collect();
    let mean = sets.iter().map(|set| set.value).sum::<f64>() / 64.0;
    let exact = 2.0 * 0.25 + 0.25 + 1.0;
    assert!((mean - exact).abs() < 0.01, "{mean}");
    let deviation = (sets.iter().map(|set| (set.value - mean).powi(2)).sum::<f64>() / 63.0).sqrt();
    let told = (sets.iter().map(|set| set.standard_error.powi(2)).sum::<f64>() / 64.0).sqrt();
    // 63 degrees of freedom: the deviation is known to 9 %.
    assert!((told / deviation - 1.0).abs() < 0.25, "{told} {deviation}");
}

#[test]
fn pairs_tell_a_difference_that_seeds_would_hide() {
    let held = Held::new(&[0.0, 0.0], &[1.0, 0.0, 0.0, 1.0]);
    let float = gaussian(3, 50 * BLOCKS, &[1.0, 1.0], 0.3);
    let mut file = float.clone();
    file.iter_mut().flat_map(|reading| &mut reading.features).for_each(|x| *x += 0.01);
    let (float, file) = (Blocks::new(&held, &float), Blocks::new(&held, &file));
    let difference = file.minus(&float).unwrap();
    // |m + 0.01|² − |m|² in two dimensions.
    assert!((difference.value - 2.0 * (0.31f64.powi(2) - 0.3f64.powi(2))).abs() < 2e-3, "{difference:?}");
    assert!(difference.standard_error < 0.1 * float.distance().unwrap().standard_error, "{difference:?}");
    assert_eq!(float.minus(&float).unwrap().value, 0.0);
}

#[test]
fn other_files_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("classifier.safetensors");
    let fails = |path: &Path| {
        let error = Judge::read(path).unwrap_err();
        format!("{error} {}", error.help().map_or(String::new(), |help| help.to_string()))
    };
    assert!(fails(&path).contains("no such file"), "{}", fails(&path));
    let unet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/oracle/case-07.safetensors");
    assert!(fails(&unet).contains("`conv1.weight`") && fails(&unet).contains("classifier.py"), "{}", fails(&unet));
    std::fs::write(&path, &std::fs::read(fixture("classifier.safetensors")).unwrap()[..500]).unwrap();
    assert!(fails(&path).contains("truncated"), "{}", fails(&path));

    // A whole judge, but for one thing.
    type Change = dyn Fn(&str, Vec<usize>) -> Option<Vec<usize>>;
    let write = |change: &Change, metadata: &[(&str, &str)]| {
        let shapes = [
            ("conv1.weight", vec![2, 1, 3, 3]),
            ("conv1.bias", vec![2]),
            ("linear.weight", vec![3, 8]),
            ("linear.bias", vec![3]),
            ("held_out_mean", vec![2]),
            ("held_out_cov", vec![2, 2]),
        ];
        let zeros = [0u8; 1024];
        let tensors = shapes.into_iter().filter_map(|(name, shape)| {
            let shape = change(name, shape)?;
            let len = 4 * shape.iter().product::<usize>();
            Some((name, TensorView::new(Dtype::F32, shape, &zeros[..len]).unwrap()))
        });
        let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        std::fs::write(&path, safetensors::serialize(tensors, Some(metadata)).unwrap()).unwrap();
    };
    let size = [("sample_size", "4")];
    write(&|_, shape| Some(shape), &size);
    let judge = Judge::read(&path).unwrap();
    assert_eq!(judge.held_out_accuracy(), None);
    let error = judge.check([28, 28, 1]).unwrap_err().to_string();
    assert!(error.contains("[4, 4, 1]") && error.contains("[28, 28, 1]"), "{error}");

    write(&|_, shape| Some(shape), &[]);
    assert!(fails(&path).contains("`sample_size`"));
    write(&|_, shape| Some(shape), &[("sample_size", "1")]);
    assert!(fails(&path).contains("leave nothing of 1 pixels"));
    write(&|name, shape| (name != "linear.weight").then_some(shape), &size);
    assert!(fails(&path).contains("`linear.weight`"));
    write(&|name, shape| (name != "held_out_cov").then_some(shape), &size);
    assert!(fails(&path).contains("`held_out_cov` is missing"));
    write(&|name, shape| Some(if name == "linear.weight" { vec![3, 9] } else { shape }), &size);
    assert!(fails(&path).contains("have [3, 9], need [3, 8]"), "{}", fails(&path));
}
