//! Pictures: the f32 sample as bytes for a display.
//!
//! −1..1 becomes 0..255 as diffusers' `numpy_to_pil` has it: `round((x/2 + 1/2)·255)`, clamped.

use crate::error::Error;
use crate::quant::round_to_i32;

/// A picture in f32, `[h, w, c]`, nominally −1..1. Borrowed from the sampler's arena.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Height.
    pub h: usize,
    /// Width.
    pub w: usize,
    /// Channels.
    pub c: usize,
    pub(super) elems: &'a [f32],
}

impl<'a> Image<'a> {
    /// A picture over elements in HWC order.
    ///
    /// # Errors
    /// [`Error::Length`] if there are not `h·w·c` of them.
    pub fn new(elems: &'a [f32], [h, w, c]: [usize; 3]) -> Result<Self, Error> {
        check_len(elems.len(), h * w * c)?;
        Ok(Self { h, w, c, elems })
    }

    /// The elements, HWC.
    pub fn elems(&self) -> &'a [f32] {
        self.elems
    }

    /// Writes one byte a pixel, of a picture with one channel.
    ///
    /// # Errors
    /// [`Error::Channels`], or [`Error::Length`] if `out` has fewer than `h·w` elements.
    pub fn write_gray8(&self, out: &mut [u8]) -> Result<(), Error> {
        self.check_channels(&[1])?;
        check_len(out.len(), self.elems.len())?;
        out.iter_mut().zip(self.elems).for_each(|(to, &x)| *to = to_u8(x));
        Ok(())
    }

    /// Writes three bytes a pixel, red first; a picture with one channel becomes gray.
    ///
    /// # Errors
    /// [`Error::Channels`], or [`Error::Length`] if `out` has fewer than `3·h·w` elements.
    pub fn write_rgb888(&self, out: &mut [u8]) -> Result<(), Error> {
        check_len(out.len(), 3 * self.h * self.w)?;
        out.chunks_exact_mut(3).zip(self.rgb()?).for_each(|(to, rgb)| to.copy_from_slice(&rgb));
        Ok(())
    }

    /// Writes a 16-bit word a pixel: five bits red (the high ones), six green, five blue; a picture with one channel
    /// becomes gray.
    ///
    /// # Errors
    /// [`Error::Channels`], or [`Error::Length`] if `out` has fewer than `h·w` elements.
    pub fn write_rgb565(&self, out: &mut [u16]) -> Result<(), Error> {
        check_len(out.len(), self.h * self.w)?;
        for (to, [r, g, b]) in out.iter_mut().zip(self.rgb()?) {
            *to = (r as u16 >> 3) << 11 | (g as u16 >> 2) << 5 | b as u16 >> 3;
        }
        Ok(())
    }

    /// The pixel, all black outside.
    #[cfg(feature = "embedded-graphics")]
    pub(crate) fn rgb_at(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.w + x) * self.c;
        pixel_rgb(self.elems.get(at..at + self.c).unwrap_or_default())
    }

    /// An error unless the number of channels is one of `takes`, the first of which the error names.
    pub(crate) fn check_channels(&self, takes: &[u16]) -> Result<(), Error> {
        match takes.first() {
            Some(&need) if !takes.contains(&(self.c as u16)) => Err(Error::Channels { have: self.c as u16, need }),
            _ => Ok(()),
        }
    }

    fn rgb(&self) -> Result<impl Iterator<Item = [u8; 3]> + use<'a>, Error> {
        self.check_channels(&[3, 1])?;
        Ok(self.elems.chunks_exact(self.c).map(pixel_rgb))
    }
}

fn pixel_rgb(pixel: &[f32]) -> [u8; 3] {
    match *pixel {
        [r, g, b] => [to_u8(r), to_u8(g), to_u8(b)],
        [gray, ..] => [to_u8(gray); 3],
        [] => [0; 3],
    }
}

fn check_len(have: usize, need: usize) -> Result<(), Error> {
    if have < need { Err(Error::Length { have: have as u32, need: need as u32 }) } else { Ok(()) }
}

fn to_u8(x: f32) -> u8 {
    round_to_i32((x * 0.5 + 0.5) * 255.0).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_middle() {
        let image = Image::new(&[-1.0, 1.0, 0.0, 9.0, f32::NAN, -2.0], [1, 2, 3]).unwrap();
        let mut rgb = [0; 6];
        image.write_rgb888(&mut rgb).unwrap();
        assert_eq!(rgb, [0, 255, 128, 255, 0, 0]);
        let mut words = [0; 2];
        image.write_rgb565(&mut words).unwrap();
        assert_eq!(words, [0x7f0, 0xf800]);
        assert_eq!(image.write_gray8(&mut [0; 6]), Err(Error::Channels { have: 3, need: 1 }));
        assert_eq!(image.write_rgb565(&mut [0; 1]), Err(Error::Length { have: 1, need: 2 }));
    }
}
