//! What sets of pictures are worth: how PSNR spreads, the class share by class, the values of pixels.

use maud::{Markup, html};

use super::chart::{Axes, Series, chart, legend, round};
use super::{Names, colour, heading};
use crate::compare::Study;
use crate::judge::share::Share;

/// Bars of the histogram of PSNR, at most.
const PSNR_BINS: usize = 40;
/// Levels that share a point of the curve of pixel values.
const LEVELS_A_POINT: usize = 4;

/// The section.
pub fn section(study: &Study, names: &Names) -> Markup {
    let mut keys = vec![(0, "float")];
    keys.extend(study.files.iter().enumerate().map(|(index, file)| (1 + index, &file.file[..])));
    html! {
        section {
            (heading("sets", "As a set", html! {
                "Single pictures may differ and the set be as good. Pixel values differ by "
                @for (index, file) in study.files.iter().enumerate() {
                    @if index > 0 { ", " }
                    (format!("{:.2}", file.pixel_distance_levels)) " levels of 256"
                    @if study.files.len() > 1 { " (" (file.file) ")" }
                }
                "; mean and standard deviation are " (moments(study)) "."
            }))
            (legend(&keys))
            div.charts {
                (psnr(study))
                (pixels(study))
                (shares(study, names))
            }
        }
    }
}

fn moments(study: &Study) -> String {
    let of = |name: &str, pixels: &crate::compare::Pixels| {
        format!("{:.3} and {:.3} ({name})", pixels.mean, pixels.standard_deviation)
    };
    let mut list = vec![of("float", &study.float.pixels)];
    list.extend(study.files.iter().map(|file| of(&file.file, &file.pixels)));
    list.join(", ")
}

/// How many pictures have which PSNR.
fn psnr(study: &Study) -> Markup {
    let all = || study.files.iter().flat_map(|file| file.comparison.psnr_each_db.iter().copied());
    let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let bins = ((study.samples as f64).sqrt() as usize).clamp(8, PSNR_BINS);
    let width = ((high - low) / bins as f64).max(0.25);
    let series = study.files.iter().enumerate().map(|(index, file)| {
        let mut counts = vec![0.0; bins + 1];
        for psnr in &file.comparison.psnr_each_db {
            counts[(((psnr - low) / width) as usize).min(bins)] += 100.0 / study.samples.max(1) as f64;
        }
        let mut points = vec![(low, 0.0)];
        points.extend(counts.iter().enumerate().map(|(bin, share)| (low + width * bin as f64, *share)));
        Series { name: file.file.clone(), set: 1 + index, points }
    });
    let axes = Axes {
        title: "PSNR of single pictures, % of them",
        x: "dB",
        x_labels: Vec::new(),
        is_stepped: true,
        is_log: false,
        y_from: Some(0.0),
    };
    chart(&axes, &series.collect::<Vec<_>>())
}

/// The distribution of pixel values; logarithmic, because backgrounds outnumber everything.
fn pixels(study: &Study) -> Markup {
    let series = |name: &str, set, pixels: &crate::compare::Pixels| {
        let total = pixels.levels.iter().sum::<u64>().max(1) as f64;
        let point = |(index, levels): (usize, &[u64])| {
            let share = levels.iter().sum::<u64>() as f64 / total;
            ((index * LEVELS_A_POINT) as f64, share.max(1e-6).log10())
        };
        let points = pixels.levels.chunks(LEVELS_A_POINT).enumerate().map(point).collect();
        Series { name: name.to_owned(), set, points }
    };
    let mut list = vec![series("float", 0, &study.float.pixels)];
    let files = study.files.iter().enumerate();
    list.extend(files.map(|(index, file)| series(&file.file, 1 + index, &file.pixels)));
    let axes = Axes {
        title: "Pixel values, share of all pixels",
        x: "level, black to white",
        x_labels: Vec::new(),
        is_stepped: true,
        is_log: true,
        y_from: None,
    };
    chart(&axes, &list)
}

/// A row for each class, a dot for float and for each file.
fn shares(study: &Study, names: &Names) -> Markup {
    const ROW: f64 = 19.0;
    const RIGHT: f64 = 362.0;
    let mut sets = vec![("float", colour(0), study.float.judged.as_ref())];
    sets.extend(
        study.files.iter().enumerate().map(|(index, file)| (&file.file[..], colour(1 + index), file.judged.as_ref())),
    );
    let of = |judged: Option<&crate::compare::Judged>, class: usize| -> Option<Share> {
        judged?.by_class.get(class).copied().filter(|share| share.pictures > 0)
    };
    let classes = study.float.judged.as_ref().map_or(0, |judged| judged.by_class.len());
    let rows: Vec<usize> = (0..classes).filter(|&class| of(sets[0].2, class).is_some()).collect();
    if rows.is_empty() {
        return html! {};
    }
    let shares =
        || rows.iter().flat_map(|&class| sets.iter().filter_map(move |set| Some(of(set.2, class)?.fraction())));
    let low = (shares().fold(1.0, f64::min) * 20.0 - 1e-9).floor().max(0.0) / 20.0;
    let low = if low >= 1.0 { 0.95 } else { low };
    // Lines at every 5 points, where that is not too many.
    let parts = Some(((1.0 - low) * 20.0).round() as u32).filter(|parts| (2..=6).contains(parts)).unwrap_or(4);
    let longest = rows.iter().map(|&class| names.class(class).chars().count()).max().unwrap_or(0);
    let left = (6.5 * longest as f64 + 18.0).clamp(32.0, 130.0);
    let to_x = |share: f64| round(left + (share - low) / (1.0 - low) * (RIGHT - left));
    let height = ROW * rows.len() as f64 + 34.0;
    let spoken: Vec<String> = rows
        .iter()
        .map(|&class| {
            let each =
                sets.iter().filter_map(|set| Some(format!("{} {:.1}", set.0, 100.0 * of(set.2, class)?.fraction())));
            format!("{}: {}", names.class(class), each.collect::<Vec<_>>().join(", "))
        })
        .collect();
    html! {
        figure.chart {
            figcaption { "Class share by class, %" }
            svg viewBox={ "0 0 380 " (height) } role="img" aria-label={ "Class share in per cent. " (spoken.join("; ")) } {
                @for i in 0..=parts {
                    @let share = low + (1.0 - low) * f64::from(i) / f64::from(parts);
                    line.grid x1=(to_x(share)) x2=(to_x(share)) y1="4" y2=(height - 28.0) {}
                    text.tick x=(to_x(share)) y=(height - 14.0) text-anchor="middle" { (format!("{:.1}", 100.0 * share)) }
                }
                @for (row, &class) in rows.iter().enumerate() {
                    @let y = 14.0 + ROW * row as f64;
                    text.tick x=(left - 10.0) y=(y + 3.5) text-anchor="end" { (names.class(class)) }
                    line.grid x1=(left) x2=(RIGHT) y1=(y) y2=(y) {}
                    @for (index, set) in sets.iter().enumerate() {
                        @if let Some(share) = of(set.2, class) {
                            // Equal shares would hide each other: smaller dots lie on larger ones.
                            circle class={ "share " (set.1) } cx=(to_x(share.fraction())) cy=(y) r=(round(6.0 - 3.5 * index as f64 / sets.len() as f64)) {
                                title { (set.0) ", " (names.class(class)) ": " (share.right) " of " (share.pictures) }
                            }
                        }
                    }
                }
            }
        }
    }
}
