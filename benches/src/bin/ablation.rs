//! What each technique of quantization gives: final pictures with and without it.
use miette::Result;
use mote_converter::calibrate::RangeMethod;
use mote_converter::pipeline::{Options, prepare};
use mote_converter::quantize::{Level, Precision, Techniques, WeightWidth};
use mote_converter::search::Evaluator;
use mote_converter::weights::Checkpoint;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let checkpoint = Checkpoint::open(std::path::Path::new(&args[1]))?;
    let count: usize = args[2].parse().unwrap();
    let options = Options::default();
    let calibrated = prepare(&checkpoint, &options, &|_, _, _| {})?;
    let evaluator = Evaluator::new(&calibrated, count, &|| {})?;
    let d = Techniques::default();
    let variants = [
        ("default", d),
        ("nearest", Techniques { least_squares: false, ..d }),
        ("bias correction", Techniques { bias_correction: true, ..d }),
        ("nearest, bias correction", Techniques { least_squares: false, bias_correction: true, ..d }),
        ("group 0", Techniques { group_elems: 0, ..d }),
        ("group 8", Techniques { group_elems: 8, ..d }),
        ("group 32", Techniques { group_elems: 32, ..d }),
        ("minmax", Techniques { ranges: RangeMethod::MinMax, ..d }),
        ("percentile", Techniques { ranges: RangeMethod::Percentile, ..d }),
        ("one scale", Techniques { per_step: false, ..d }),
    ];
    let layers = calibrated.layers();
    for (name, techniques) in variants {
        let solutions = calibrated.solutions(techniques);
        for width in [WeightWidth::Int8, WeightWidth::Int4] {
            solutions.prepare(&layers, &[width], &|| {});
            for level in [Level::Int8, Level::Norms] {
                let precision = Precision::level(&calibrated.network.graph, level).with_weights(&layers, width);
                let mut each = evaluator.psnr(&calibrated.lower(&solutions, &precision)?)?;
                each.sort_by(f64::total_cmp);
                let mean = each.iter().sum::<f64>() / each.len() as f64;
                print!("{width:?} {level:?} {mean:.2} (p5 {:.2} min {:.2})   ", each[each.len() / 20], each[0]);
            }
        }
        println!("{name}");
    }
    Ok(())
}
