//! Values of options: sizes, byte counts, ranges, classes.

use std::ops::RangeInclusive;

use mote_runtime::kernels::tiling::{TARGETS, Target};

/// `262144`, `256K`, `1M`, `1.5M`, `256KiB`: K and M are 1,024 and 1,048,576 bytes, as datasheets of
/// microcontrollers count.
pub fn bytes(text: &str) -> Result<usize, String> {
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1_048_576.0,
        _ => return Err(format!("`{}` is no unit of memory; use K or M, as in 256K", unit.trim())),
    };
    let number: f64 = number.parse().map_err(|_| "need a number of bytes, such as 262144, 256K or 1M".to_owned())?;
    let bytes = number * factor;
    if bytes < 1.0 || bytes > u32::MAX as f64 || bytes.fract() != 0.0 {
        return Err("need a whole number of bytes, at least 1 and below 4096M".to_owned());
    }
    Ok(bytes as usize)
}

/// `1.5` or `1..3`.
pub fn guidance_range(text: &str) -> Result<RangeInclusive<f32>, String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let (low, high) = (guidance(low)?, guidance(high.trim_start_matches('='))?);
    if low > high { Err(format!("{low} is above {high}; write the smaller one first")) } else { Ok(low..=high) }
}

/// A finite number.
pub fn guidance(text: &str) -> Result<f32, String> {
    match text.trim().parse::<f32>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("need a finite number, such as 1.5".to_owned()),
    }
}

/// Height and width: `24,32`, `24x32`, or `32` for a square.
pub fn size(text: &str) -> Result<[usize; 2], String> {
    let (h, w) = text.split_once([',', 'x']).unwrap_or((text, text));
    match (h.trim().parse(), w.trim().parse()) {
        (Ok(h), Ok(w)) if h > 0 && w > 0 => Ok([h, w]),
        _ => Err("need height and width in pixels, such as 24,32, or 32 for a square".to_owned()),
    }
}

/// A number of steps of at least 1.
pub fn steps(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(steps @ 1..=65_535) => Ok(steps),
        _ => Err("need a number of steps from 1 to 65,535".to_owned()),
    }
}

/// How many network calls share deep features.
pub fn cache_interval(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(interval @ 1..=65_535) => Ok(interval),
        _ => Err("need a number of network calls from 1, which reuses nothing, up to that of steps".to_owned()),
    }
}

/// The name of a core.
pub fn target(text: &str) -> Result<&'static Target, String> {
    let names = || TARGETS.map(|target| target.name).join(", ");
    let found = TARGETS.iter().find(|target| target.name.eq_ignore_ascii_case(text.trim()));
    found.ok_or_else(|| format!("no such core; there are: {}", names()))
}

/// `--class`: one class, or each in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassChoice {
    /// This one.
    One(usize),
    /// Every class but the null class.
    All,
}

/// `3` or `all`.
pub fn class(text: &str) -> Result<ClassChoice, String> {
    match text.trim() {
        "all" => Ok(ClassChoice::All),
        text => text.parse().map(ClassChoice::One).map_err(|_| "need a class number from 0, or `all`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes("262144"), Ok(262_144));
        assert_eq!(bytes("256K"), Ok(262_144));
        assert_eq!(bytes("1.5M"), Ok(1_572_864));
        assert_eq!(bytes("64 KiB"), Ok(65_536));
        for wrong in ["", "K", "-1", "0", "1G", "1e3", "0.3", "9999999M", "NaN"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_sizes_and_classes() {
        assert_eq!(guidance_range("2"), Ok(2.0..=2.0));
        assert_eq!(guidance_range("1..3.5"), Ok(1.0..=3.5));
        assert!(guidance_range("3..1").is_err() && guidance_range("1..x").is_err() && guidance_range("inf").is_err());
        assert_eq!([size("24,32"), size("24x32"), size("8")], [Ok([24, 32]), Ok([24, 32]), Ok([8, 8])]);
        assert!(size("0").is_err() && size("a,b").is_err());
        assert_eq!([class("all"), class("3")], [Ok(ClassChoice::All), Ok(ClassChoice::One(3))]);
        assert!(class("-1").is_err());
        assert!(steps("0").is_err() && steps("20").is_ok());
    }
}
