//! The page of a study: tags are balanced, nothing is fetched, every picture decodes, and names cannot break out of their
//! place. What it looks like, a test does not see: `converter compare --html` and a browser do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use mote_converter::arch::Cond;
use mote_converter::compare::{Options, Study, StudyFile, StudyOptions, study};
use mote_converter::draw::{MoteFile, Prompt};
use mote_converter::judge::Judge;
use mote_converter::pipeline::{self, prepare};
use mote_converter::quantize::Level;
use mote_converter::report::{comparison, html};
use mote_converter::weights::Checkpoint;
use mote_runtime::sampler::noise;
use safetensors::tensor::{Dtype, TensorView};

const HOSTILE: &str = "<script>\"&'</main>";

/// A judge of random weights.
fn judge(path: &Path, [size, _, channels]: [usize; 3], classes: usize) -> Judge {
    let pooled = size / 2;
    let shapes = [
        ("conv1.weight", vec![2, channels, 3, 3]),
        ("conv1.bias", vec![2]),
        ("linear.weight", vec![classes, 2 * pooled * pooled]),
        ("linear.bias", vec![classes]),
        ("held_out_mean", vec![2]),
        ("held_out_cov", vec![2, 2]),
    ];
    let bytes: Vec<Vec<u8>> = shapes
        .iter()
        .zip(0..)
        .map(|((_, shape), seed)| {
            let mut x = vec![0.0f32; shape.iter().product()];
            noise::fill(seed, 0, &mut x);
            if seed == 5 {
                x = vec![0.5, 0.1, 0.1, 0.7];
            }
            x.iter().flat_map(|x| x.to_le_bytes()).collect()
        })
        .collect();
    let tensors = shapes
        .iter()
        .zip(&bytes)
        .map(|((name, shape), bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    let metadata = [("sample_size".to_owned(), size.to_string())].into();
    std::fs::write(path, safetensors::serialize(tensors, Some(metadata)).unwrap()).unwrap();
    Judge::read(path).unwrap()
}

/// Two files of a fixture, 8-bit and 16-bit, the first under a hostile name.
fn of_fixture(name: &str, cond: impl Fn(usize) -> Cond, with_judge: bool) -> Study {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/oracle/{name}.safetensors"));
    let checkpoint = Checkpoint::open(&path).unwrap();
    let options = pipeline::Options { steps: vec![3], trajectories: 4, ..pipeline::Options::default() };
    let calibrated = prepare(&checkpoint, &options, &|_, _, _| {}).unwrap();
    let files: Vec<MoteFile> = [Level::Int8, Level::Norms]
        .map(|level| {
            let options = pipeline::Options { activations: Some(level), ..options.clone() };
            let quantized = calibrated.quantize(&options, &|_, _, _| {}).unwrap();
            MoteFile::in_memory(&path, &quantized.packed.bytes)
        })
        .into();
    let models: Vec<_> = files.iter().map(|file| file.model().unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let judge = with_judge.then(|| judge(&folder.path().join("judge.safetensors"), models[0].image_shape(), 2));
    let prompt = |i| Prompt { seed: i as u64, cond: cond(i), guidance: 1.0, noise: None };
    let options = StudyOptions {
        pairs: Options { prompts: (0..24).map(prompt).collect(), steps: None, layered: 2 },
        judge: judge.as_ref(),
        float_sets: 3,
    };
    let names = [HOSTILE, "wide.mote"];
    let files: Vec<StudyFile> =
        models.iter().zip(names).map(|(model, name)| StudyFile { name: name.to_owned(), model }).collect();
    study(&calibrated.network, &files, &options, &|_, _, _| {}).unwrap()
}

/// Tags with their attributes, checked on the way: balanced, quoted, no attribute twice.
fn tags(page: &str) -> Vec<(String, BTreeMap<String, String>)> {
    const VOID: [&str; 2] = ["meta", "img"];
    let (mut open, mut tags, mut rest) = (Vec::new(), Vec::new(), page);
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a stray > in {}", &rest[..start]);
        let end = rest.find('>').expect("a tag that ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if tag.starts_with('!') {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let (name, mut text) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut attributes = BTreeMap::new();
        while !text.trim().is_empty() {
            let (key, value) = text.split_once("=\"").expect("an attribute with a quoted value");
            let (value, after) = value.split_once('"').expect("a closing quote");
            assert!(attributes.insert(key.trim().to_owned(), value.to_owned()).is_none(), "{key} twice in <{tag}>");
            text = after;
        }
        if !VOID.contains(&name) {
            open.push(name.to_owned());
        }
        if name == "style" {
            rest = &rest[rest.find("</style>").unwrap()..];
        }
        tags.push((name.to_owned(), attributes));
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    tags
}

fn check(study: &Study, pictures: usize) -> String {
    let metadata = [("name", HOSTILE), ("class_names", "[\"<b>\", \"two\"]")];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let page = html::page(study, &metadata).unwrap();
    let tags = tags(&page);
    assert!(!page.contains("http") && !page.contains("url(") && !page.contains("@import"), "something is fetched");
    assert!(tags.iter().all(|(name, _)| !["script", "link", "iframe", "b"].contains(&&name[..])));
    let images: Vec<_> = tags.iter().filter(|(name, _)| name == "img").map(|(_, attributes)| attributes).collect();
    assert_eq!(images.len(), pictures);
    for image in images {
        assert!(!image["alt"].is_empty());
        let text = image["src"].strip_prefix("data:image/png;base64,").unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
    }
    for (name, attributes) in &tags {
        let says = attributes.contains_key("aria-label") || attributes.contains_key("aria-hidden");
        assert!(name != "svg" || says, "a drawing without words");
        assert!(attributes.values().all(|value| !value.contains("NaN") && !value.contains("inf")), "{attributes:?}");
    }
    page
}

/// The four worst pairs of each file, counted once.
fn worst_pairs(study: &Study) -> usize {
    let mut worst: BTreeSet<usize> = BTreeSet::new();
    for file in &study.files {
        let psnr = &file.comparison.psnr_each_db;
        let mut order: Vec<usize> = (0..psnr.len()).collect();
        order.sort_by(|&a, &b| psnr[a].total_cmp(&psnr[b]));
        worst.extend(&order[..4]);
    }
    worst.len()
}

#[test]
fn a_page_of_classes_with_a_judge() {
    let study = of_fixture("case-07", |i| Cond::Class(i % 2), true);
    // A picture in float and two a file, for the first pair of both classes and the four worst of both files; three sheets.
    let page = check(&study, 5 * (2 + worst_pairs(&study)) + 3);
    for words in ["&lt;script&gt;", "&lt;b&gt;", "class share", "Fréchet", "seeds alone", "prefers-color-scheme: dark"]
    {
        assert!(page.contains(words), "{words}");
    }
    let text = comparison::text(&study, false);
    for words in ["class share %", "float, other seeds", "wide.mote", "against float", "(--verbose shows them)"] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn a_page_of_two_channels_without_a_judge() {
    let study = of_fixture("case-15", |_| Cond::Vector(vec![0.25; 8]), false);
    let page = check(&study, 5 * (12 + worst_pairs(&study)) + 3);
    assert!(!page.contains("Fréchet distance") && page.contains("2 channels"));
    assert!(!comparison::text(&study, true).contains("class share"));
}
