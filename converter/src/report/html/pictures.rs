//! Float and each file side by side, with maps of the error: a few pairs that were not chosen, and the worst ones.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use maud::{Markup, html};
use miette::Result;

use super::{Names, colour, heading};
use crate::compare::Study;
use crate::report::canvas::{Canvas, Grid};
use crate::report::encode::png;

/// Pairs that were not chosen: one a class, at most this many.
const FIRST: usize = 12;
/// Worst pairs of each file.
const WORST: usize = 4;
/// Pictures of a sheet: rows for classes, columns of each.
const SHEET: [usize; 2] = [12, 8];
/// The error that has the last colour; the range is 2.
const FULL_ERROR: f64 = 0.5;
/// Colours of errors from none to [`FULL_ERROR`], on a square-root scale so that small ones show. `style.css` repeats them.
const ERROR_COLOURS: [[f64; 3]; 5] =
    [[6.0, 6.0, 20.0], [87.0, 16.0, 110.0], [188.0, 55.0, 84.0], [249.0, 142.0, 9.0], [252.0, 255.0, 164.0]];

/// The section.
pub fn section(study: &Study, names: &Names) -> Result<Markup> {
    let pairs = |list: &[usize]| -> Result<Markup> {
        let cards: Vec<Markup> = list.iter().map(|&pair| card(study, names, pair)).collect::<Result<_>>()?;
        // As large as fills the page with whole cards.
        let side = ["104px", "96px"].get(study.files.len().saturating_sub(1)).unwrap_or(&"84px");
        Ok(html! { div.pairs style={ "--picture:" (side) } { @for card in &cards { (card) } } })
    };
    let (first, worst) = (first(study), worst(study));
    let (first_cards, worst_cards, sheets) = (pairs(&first)?, pairs(&worst)?, sheets(study)?);
    Ok(html! {
        section {
            (heading("pictures", "Pictures", html! {
                "Each card is one noise: float, then each file with the map of its error, from "
                span.scale role="img" aria-label="a scale from dark over purple and orange to pale yellow" {}
                " none to " (FULL_ERROR / 2.0) " of the range."
            }))
            h3 { "Not chosen: the first of each class" }
            (first_cards)
            h3 { "Chosen: the worst pairs" }
            (worst_cards)
            h3 { "As sets" }
            (sheets)
        }
    })
}

/// The first pair of each condition, in order.
fn first(study: &Study) -> Vec<usize> {
    let mut seen: Vec<&crate::arch::Cond> = Vec::new();
    let mut first = Vec::new();
    for (index, prompt) in study.prompts.iter().enumerate() {
        if !seen.contains(&&prompt.cond) {
            seen.push(&prompt.cond);
            first.push(index);
        }
    }
    // Without classes there is one condition: the first few pairs.
    if first.len() == 1 {
        first = (0..study.prompts.len()).collect();
    }
    first.truncate(FIRST);
    first
}

/// The pairs with the least PSNR of each file, without repetition.
fn worst(study: &Study) -> Vec<usize> {
    let mut worst = BTreeSet::new();
    let mut list = Vec::new();
    for file in &study.files {
        let psnr = &file.comparison.psnr_each_db;
        let mut order: Vec<usize> = (0..psnr.len()).collect();
        order.sort_by(|&a, &b| psnr[a].total_cmp(&psnr[b]));
        list.extend(order.into_iter().take(WORST).filter(|&pair| worst.insert(pair)));
    }
    list
}

fn card(study: &Study, names: &Names, pair: usize) -> Result<Markup> {
    let prompt = &study.prompts[pair];
    let float = &study.float.pictures[pair];
    let what = names.cond(&prompt.cond).map_or(String::new(), |name| format!("{name}, "));
    let float_uri = picture(float, study.shape)?;
    let mut files = Vec::new();
    for (index, file) in study.files.iter().enumerate() {
        let picture_uri = picture(&file.pictures[pair], study.shape)?;
        let error = data_uri(&error_map(float, &file.pictures[pair], study.shape))?;
        files.push((index, file, picture_uri, error, file.comparison.psnr_each_db[pair]));
    }
    Ok(html! {
        figure.pair {
            div.row {
                div.cell.s0 {
                    img src=(float_uri) alt={ (what) "drawn in float" };
                    span.label { span.key aria-hidden="true" {} "float" }
                }
                @for (index, file, picture_uri, error, psnr) in &files {
                    div class={ "cell two " (colour(1 + *index)) } {
                        img src=(picture_uri) alt={ (what) "drawn by " (file.file) };
                        img src=(error) alt="map of its error";
                        span.label { span.key aria-hidden="true" {} (format!("{psnr:.1} dB")) }
                    }
                }
            }
            figcaption { (what) "seed " (prompt.seed) }
        }
    })
}

/// The first pictures of each class by float and by each file, as one picture each.
fn sheets(study: &Study) -> Result<Markup> {
    let mut rows: Vec<(&crate::arch::Cond, Vec<usize>)> = Vec::new();
    for (index, prompt) in study.prompts.iter().enumerate() {
        match rows.iter_mut().find(|(cond, _)| **cond == prompt.cond) {
            Some((_, row)) => row.push(index),
            None => rows.push((&prompt.cond, vec![index])),
        }
    }
    let [row_limit, columns] = SHEET;
    let columns =
        rows.iter().map(|(_, row)| row.len()).min().unwrap_or(0).min(columns * if rows.len() == 1 { 4 } else { 1 });
    let picks: Vec<usize> =
        rows.iter().take(row_limit).flat_map(|(_, row)| row.iter().copied().take(columns)).collect();
    // A sheet without classes is as wide as one with.
    let grid = Grid { columns: columns.clamp(1, SHEET[1]), scale: 1, gap: 1 };
    let sheet = |pictures: &[Vec<f32>]| -> Result<String> {
        let picked: Vec<&[f32]> = picks.iter().map(|&pick| &pictures[pick][..]).collect();
        data_uri(&grid.draw(&picked, study.shape)?)
    };
    let mut list = vec![(colour(0), "float", sheet(&study.float.pictures)?)];
    for (index, file) in study.files.iter().enumerate() {
        list.push((colour(1 + index), &file.file, sheet(&file.pictures)?));
    }
    Ok(html! {
        div.sheets {
            @for (class, name, uri) in &list {
                figure class=(class) {
                    img src=(uri) alt={ "contact sheet of " (picks.len()) " pictures drawn by " (name) };
                    figcaption { span.key aria-hidden="true" {} (name) }
                }
            }
        }
    })
}

fn picture(sample: &[f32], shape: [usize; 3]) -> Result<String> {
    data_uri(&Grid { columns: 1, scale: 1, gap: 0 }.draw(&[sample], shape)?)
}

/// Root mean square over the channels, clipped pictures.
fn error_map(float: &[f32], file: &[f32], [h, w, c]: [usize; 3]) -> Canvas {
    let clip = |x: &f32| f64::from(x.clamp(-1.0, 1.0));
    let pixel = |(float, file): (&[f32], &[f32])| {
        let squares: f64 = float.iter().zip(file).map(|(a, b)| (clip(a) - clip(b)).powi(2)).sum();
        error_colour((squares / c.max(1) as f64).sqrt() / FULL_ERROR)
    };
    Canvas { w, h, pixels: float.chunks_exact(c.max(1)).zip(file.chunks_exact(c.max(1))).map(pixel).collect() }
}

/// From 0 to 1, and beyond.
fn error_colour(error: f64) -> [u8; 3] {
    let at = error.clamp(0.0, 1.0).sqrt() * (ERROR_COLOURS.len() - 1) as f64;
    let low = (at as usize).min(ERROR_COLOURS.len() - 2);
    let part = at - low as f64;
    std::array::from_fn(|i| (ERROR_COLOURS[low][i] * (1.0 - part) + ERROR_COLOURS[low + 1][i] * part).round() as u8)
}

fn data_uri(canvas: &Canvas) -> Result<String> {
    Ok(format!("data:image/png;base64,{}", BASE64.encode(png(canvas)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_dark_where_there_are_none() {
        let map = error_map(&[0.0, 1.0, -1.0, 5.0], &[0.0, 0.5, 1.0, 9.0], [2, 2, 1]);
        let ends = [ERROR_COLOURS[0], ERROR_COLOURS[4]].map(|colour| colour.map(|x| x as u8));
        assert_eq!(map.pixels, [ends[0], ends[1], ends[1], ends[0]], "beyond white is white");
        assert_eq!(error_colour(1.0 / 16.0), ERROR_COLOURS[1].map(|x| x as u8));
    }
}
