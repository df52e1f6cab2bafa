//! Charts as inline SVG: lines, steps and dots over two axes. Colours are classes, so that they follow the page's theme; each
//! set has its own dash as well, for those who do not tell the colours apart.

use maud::{Markup, html};

use super::colour;

/// Size in user units; the picture scales to its column.
const W: f64 = 380.0;
const H: f64 = 230.0;
/// Left, right, top, bottom of the plot.
const EDGES: [f64; 4] = [40.0, 10.0, 10.0, 36.0];
/// Line styles, by set: float's, then those of the files.
const DASHES: [&str; 4] = ["2 3", "none", "7 3", "8 3 2 3"];

/// A line.
pub struct Series {
    /// What it is.
    pub name: String,
    /// Whose: 0 is float, then the files. It has the colour and the dash.
    pub set: usize,
    /// x and y, in order of x.
    pub points: Vec<(f64, f64)>,
}

/// A chart's words.
pub struct Axes<'a> {
    /// What is shown.
    pub title: &'a str,
    /// Below.
    pub x: &'a str,
    /// Labels of whole x; numbers where it is empty.
    pub x_labels: Vec<String>,
    /// Whether lines go in steps, as of a histogram.
    pub is_stepped: bool,
    /// Whether y is a power of ten.
    pub is_log: bool,
    /// What y begins with; the data's least otherwise.
    pub y_from: Option<f64>,
}

/// A chart with a heading.
pub fn chart(axes: &Axes, series: &[Series]) -> Markup {
    let all = || series.iter().flat_map(|series| series.points.iter().copied());
    if all().next().is_none() {
        return html! {};
    }
    let bounds = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    };
    let (x0, x1) = bounds(&mut all().map(|(x, _)| x));
    let (low, high) = bounds(&mut all().map(|(_, y)| y));
    let ticks = match axes.is_log {
        true => (low.floor() as i32..=(high.ceil() as i32).max(low.floor() as i32 + 1)).map(f64::from).collect(),
        false => ticks(axes.y_from.unwrap_or(low), high),
    };
    let (y0, y1) = (ticks[0], ticks[ticks.len() - 1]);
    let [left, right, top, bottom] = EDGES;
    let to_x = |x: f64| left + (x - x0) / (x1 - x0).max(1e-9) * (W - left - right);
    let to_y = |y: f64| H - bottom - (y.max(y0) - y0) / (y1 - y0).max(1e-9) * (H - top - bottom);
    let step = (ticks[1] - ticks[0]).abs();
    let spoken: Vec<String> = series.iter().map(|series| spoken(axes, series)).collect();
    html! {
        figure.chart {
            figcaption { (axes.title) }
            svg viewBox={ "0 0 " (W) " " (H) } role="img" aria-label={ (axes.title) ". " (spoken.join("; ")) } {
                @for &tick in &ticks {
                    line.grid x1=(left) x2=(W - right) y1=(round(to_y(tick))) y2=(round(to_y(tick))) {}
                    text.tick x=(left - 6.0) y=(round(to_y(tick) + 3.5)) text-anchor="end" { (tick_label(tick, step, axes.is_log)) }
                }
                @for (x, label) in x_ticks(axes, x0, x1) {
                    line.grid.short x1=(round(to_x(x))) x2=(round(to_x(x))) y1=(H - bottom) y2=(H - bottom + 4.0) {}
                    text.tick x=(round(to_x(x))) y=(H - bottom + 16.0) text-anchor="middle" { (label) }
                }
                text.axis x=(left + (W - left - right) / 2.0) y=(H - 4.0) text-anchor="middle" { (axes.x) }
                @for series in series {
                    path class={ "line " (colour(series.set)) } d=(path(axes, series, &to_x, &to_y))
                        stroke-dasharray=(dash(series.set)) {
                        title { (series.name) }
                    }
                    @if !axes.is_stepped && series.points.len() <= 64 {
                        @for &(x, y) in &series.points {
                            circle class={ "dot " (colour(series.set)) } cx=(round(to_x(x))) cy=(round(to_y(y))) r="2.2" {
                                title { (series.name) ": " (format!("{y:.1}")) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The key to all charts of a section: names of sets.
pub fn legend(names: &[(usize, &str)]) -> Markup {
    html! {
        ul.legend {
            @for &(set, name) in names {
                li {
                    svg viewBox="0 0 26 8" width="26" height="8" aria-hidden="true" {
                        path class={ "line " (colour(set)) } d="M1 4H25" stroke-dasharray=(dash(set)) {}
                    }
                    (name)
                }
            }
        }
    }
}

fn dash(set: usize) -> &'static str {
    DASHES[if set == 0 { 0 } else { 1 + (set - 1) % (DASHES.len() - 1) }]
}

fn path(axes: &Axes, series: &Series, to_x: &dyn Fn(f64) -> f64, to_y: &dyn Fn(f64) -> f64) -> String {
    let mut path = String::new();
    for (index, &(x, y)) in series.points.iter().enumerate() {
        let (x, y) = (round(to_x(x)), round(to_y(y)));
        path += &match (index, axes.is_stepped) {
            (0, _) => format!("M{x} {y}"),
            (_, true) => format!("H{x}V{y}"),
            (_, false) => format!("L{x} {y}"),
        };
    }
    path
}

/// What a screen reader says of a line.
fn spoken(axes: &Axes, series: &Series) -> String {
    let value = |y: f64| if axes.is_log { format!("{:.3}", 10f64.powf(y)) } else { format!("{y:.1}") };
    match (series.points.first(), series.points.last()) {
        (Some(first), Some(last)) => format!("{} from {} to {}", series.name, value(first.1), value(last.1)),
        _ => series.name.clone(),
    }
}

/// At most seven labels.
fn x_ticks(axes: &Axes, x0: f64, x1: f64) -> Vec<(f64, String)> {
    if axes.x_labels.is_empty() {
        let ticks = ticks(x0, x1);
        let step = ticks[1] - ticks[0];
        return ticks
            .iter()
            .filter(|&&x| x >= x0 - 1e-9 && x <= x1 + 1e-9)
            .map(|&x| (x, tick_label(x, step, false)))
            .collect();
    }
    let stride = axes.x_labels.len().div_ceil(7).max(1);
    let label = |(index, label): (usize, &String)| (x0 + index as f64, label.clone());
    axes.x_labels.iter().enumerate().map(label).step_by(stride).collect()
}

/// Round numbers that enclose the range, four to eight of them, at least two.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = (high - low).max(1e-6);
    let power = 10f64.powf((span / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| span / step <= 6.0);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step + 1e-9).floor() as i64, (high / step - 1e-9).ceil() as i64);
    (first..=last.max(first + 1)).map(|i| i as f64 * step).collect()
}

fn tick_label(tick: f64, step: f64, is_log: bool) -> String {
    if is_log {
        // y is log₁₀ of a share.
        return format!("{:.*} %", (-tick - 2.0).max(0.0) as usize, 10f64.powf(tick + 2.0));
    }
    let decimals = (-step.log10().floor()).clamp(0.0, 3.0) as usize;
    format!("{tick:.decimals$}")
}

/// A tenth of a unit is a tenth of a pixel.
pub fn round(x: f64) -> f64 {
    (10.0 * x).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose() {
        assert_eq!(ticks(21.4, 58.2), [20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(97.0, 97.0).len(), 2, "one value has an axis too");
        for (low, high) in [(-7.3, 120.0), (0.001, 0.0017), (5.0, 6.0)] {
            let ticks = ticks(low, high);
            assert!((2..=9).contains(&ticks.len()) && ticks[0] <= low && ticks[ticks.len() - 1] >= high, "{ticks:?}");
        }
    }
}
