//! The display: 32×32 shades of gray, an `embedded-graphics` target like any display driver, shown as characters.
//!
//! Around the picture there is a ring that fills as the steps go by. Its points come from `micromath`, which trades
//! digits for flash; that is good enough for a ring, and touches no bit of the picture. [`ring_errors`] counts the points
//! that lie more than one pixel beside those of an exact sine: none.

use core::convert::Infallible;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::pixelcolor::{Gray8, GrayColor};
use micromath::F32Ext;

const SIDE: usize = 32;
/// Points of the full ring.
const POINTS: u16 = 96;

/// Where a picture of 28×28 lies within the ring.
pub const PICTURE_AT: Point = Point::new(2, 2);

/// The display's memory.
pub struct Frame {
    pixels: [u8; SIDE * SIDE],
}

impl Frame {
    /// All black.
    pub const fn new() -> Self {
        Self { pixels: [0; SIDE * SIDE] }
    }

    /// Lights the ring up to `step` of `steps`.
    pub fn ring(&mut self, step: u16, steps: u16) {
        for point in 0..(POINTS as u32 * step as u32 / steps.max(1) as u32) as u16 {
            self.set(position(point, F32Ext::sin, F32Ext::cos), 255);
        }
    }

    /// Prints the frame, two characters a pixel.
    pub fn show(&self) {
        for row in self.pixels.chunks_exact(SIDE) {
            let mut line: heapless::String<{ 2 * SIDE }> = heapless::String::new();
            for &pixel in row {
                let shade = ["  ", "..", "oo", "OO", "@@"].get(pixel as usize * 5 / 256).unwrap_or(&"??");
                // The line has room for two characters a pixel.
                let _ = line.push_str(shade);
            }
            crate::println!("{}", line.trim_end());
        }
    }

    fn set(&mut self, at: Point, value: u8) {
        let (Ok(x), Ok(y)) = (usize::try_from(at.x), usize::try_from(at.y)) else { return };
        if x < SIDE
            && let Some(pixel) = self.pixels.get_mut(y * SIDE + x)
        {
            *pixel = value;
        }
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

impl OriginDimensions for Frame {
    fn size(&self) -> Size {
        Size::new(SIDE as u32, SIDE as u32)
    }
}

impl DrawTarget for Frame {
    type Color = Gray8;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Gray8>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        pixels.into_iter().for_each(|Pixel(at, color)| self.set(at, color.luma()));
        Ok(())
    }
}

/// The pixel of a point of the ring, clockwise from the top.
fn position(point: u16, sin: fn(f32) -> f32, cos: fn(f32) -> f32) -> Point {
    let angle = point as f32 * (core::f32::consts::TAU / POINTS as f32);
    let (x, y) = (16.0 + 15.4 * sin(angle), 16.0 - 15.4 * cos(angle));
    Point::new((x as i32).min(SIDE as i32 - 1), (y as i32).min(SIDE as i32 - 1))
}

/// Points of the ring that `micromath` puts more than one pixel beside where an exact sine does; the tests want none.
pub fn ring_errors() -> usize {
    let is_off = |&point: &u16| {
        let off = position(point, F32Ext::sin, F32Ext::cos) - position(point, libm::sinf, libm::cosf);
        off.x.abs() > 1 || off.y.abs() > 1
    };
    (0..POINTS).filter(is_off).count()
}
