//! Pictures as `embedded-graphics` drawables (feature `embedded-graphics`).
//!
//! [`Image::gray8`] and [`Image::rgb565`] give a [`Drawable`], which is drawn onto any `DrawTarget` by
//! `embedded_graphics::image::Image::new(&drawable, position)`, whole or in part. Pixels are converted one by one on
//! their way, by the same rule as [`Image::write_gray8`] and [`Image::write_rgb565`]; nothing is buffered.

use crate::error::Error;
use crate::sampler::Image;
use core::marker::PhantomData;
use embedded_graphics_core::draw_target::DrawTarget;
use embedded_graphics_core::geometry::{Dimensions, OriginDimensions, Size};
use embedded_graphics_core::image::ImageDrawable;
use embedded_graphics_core::pixelcolor::{Gray8, PixelColor, Rgb565};
use embedded_graphics_core::primitives::Rectangle;

/// A picture whose pixels have the colour type `C`.
#[derive(Clone, Copy, Debug)]
pub struct Drawable<'a, C> {
    image: Image<'a>,
    color: PhantomData<C>,
}

impl<'a> Image<'a> {
    /// This picture for displays with 256 shades of gray.
    ///
    /// # Errors
    /// [`Error::Channels`] unless it has one channel.
    pub fn gray8(&self) -> Result<Drawable<'a, Gray8>, Error> {
        self.check_channels(&[1])?;
        Ok(Drawable { image: *self, color: PhantomData })
    }

    /// This picture for displays with 65,536 colours.
    ///
    /// # Errors
    /// [`Error::Channels`] unless it has one channel or three.
    pub fn rgb565(&self) -> Result<Drawable<'a, Rgb565>, Error> {
        self.check_channels(&[3, 1])?;
        Ok(Drawable { image: *self, color: PhantomData })
    }
}

/// Colours that a pixel of a picture can become.
trait FromPixel: PixelColor {
    fn from_rgb(rgb: [u8; 3]) -> Self;
}

impl FromPixel for Gray8 {
    fn from_rgb([gray, ..]: [u8; 3]) -> Self {
        Self::new(gray)
    }
}

impl FromPixel for Rgb565 {
    fn from_rgb([r, g, b]: [u8; 3]) -> Self {
        // The high bits, as `write_rgb565` has it; the crate's own conversion from Rgb888 rounds.
        Self::new(r >> 3, g >> 2, b >> 3)
    }
}

impl<C> OriginDimensions for Drawable<'_, C> {
    fn size(&self) -> Size {
        Size::new(self.image.w as u32, self.image.h as u32)
    }
}

#[allow(private_bounds)] // a bound on two types, not a trait to implement
impl<C: FromPixel> ImageDrawable for Drawable<'_, C> {
    type Color = C;

    fn draw<D: DrawTarget<Color = C>>(&self, target: &mut D) -> Result<(), D::Error> {
        self.draw_sub_image(target, &self.bounding_box())
    }

    fn draw_sub_image<D: DrawTarget<Color = C>>(&self, target: &mut D, area: &Rectangle) -> Result<(), D::Error> {
        // As `ImageRaw` has it: an area that is not wholly inside draws nothing.
        if area.is_zero_sized() || area.intersection(&self.bounding_box()) != *area {
            return Ok(());
        }
        let (x, y) = (area.top_left.x as usize, area.top_left.y as usize);
        let (w, h) = (area.size.width as usize, area.size.height as usize);
        let pixels = (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x, y)));
        // At the origin: the place on the target is the business of the caller, who has translated it.
        let target_area = Rectangle::new(Default::default(), area.size);
        target.fill_contiguous(&target_area, pixels.map(|(x, y)| C::from_rgb(self.image.rgb_at(x, y))))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use embedded_graphics_core::Pixel;
    use embedded_graphics_core::geometry::Point;
    use std::vec::Vec;

    /// Keeps the words of an 8×8 display.
    struct Screen<C>([Option<C>; 64]);

    impl<C> OriginDimensions for Screen<C> {
        fn size(&self) -> Size {
            Size::new(8, 8)
        }
    }

    impl<C: PixelColor> DrawTarget for Screen<C> {
        type Color = C;
        type Error = core::convert::Infallible;

        fn draw_iter<I: IntoIterator<Item = Pixel<C>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
            for Pixel(at, color) in pixels {
                self.0[at.y as usize * 8 + at.x as usize] = Some(color);
            }
            Ok(())
        }
    }

    fn elems() -> Vec<f32> {
        (0..6 * 5 * 3).map(|i| (i * 37 % 90) as f32 / 40.0 - 1.1).collect()
    }

    #[test]
    fn draws_what_the_writers_write() {
        let elems = elems();
        let color = Image::new(&elems, [5, 6, 3]).unwrap();
        let mut screen = Screen([None; 64]);
        color.rgb565().unwrap().draw(&mut screen).unwrap();
        let mut words = [0; 30];
        color.write_rgb565(&mut words).unwrap();
        for (y, x) in (0..5).flat_map(|y| (0..6).map(move |x| (y, x))) {
            use embedded_graphics_core::pixelcolor::raw::{RawData, RawU16};
            let drawn = RawU16::from(screen.0[y * 8 + x].unwrap()).into_inner();
            assert_eq!(drawn, words[y * 6 + x]);
        }
        assert_eq!(screen.0.iter().flatten().count(), 30);
        assert_eq!(color.gray8().unwrap_err(), Error::Channels { have: 3, need: 1 });

        let gray = Image::new(&elems, [9, 10, 1]).unwrap();
        let mut bytes = [0; 90];
        gray.write_gray8(&mut bytes).unwrap();
        let mut screen = Screen([None; 64]);
        let part = Rectangle::new(Point::new(4, 1), Size::new(6, 8));
        gray.gray8().unwrap().draw_sub_image(&mut screen, &part).unwrap();
        for (y, x) in (0..8).flat_map(|y| (0..6).map(move |x| (y, x))) {
            assert_eq!(screen.0[y * 8 + x], Some(Gray8::new(bytes[(y + 1) * 10 + x + 4])));
        }
    }

    #[test]
    fn an_area_outside_draws_nothing() {
        let elems = elems();
        let drawable = Image::new(&elems, [5, 6, 3]).unwrap().rgb565().unwrap();
        let mut screen = Screen([None; 64]);
        for (at, size) in [((-1, 0), (2, 2)), ((5, 0), (2, 1)), ((0, 0), (0, 3)), ((0, 0), (6, 6))] {
            let area = Rectangle::new(Point::new(at.0, at.1), Size::new(size.0, size.1));
            drawable.draw_sub_image(&mut screen, &area).unwrap();
        }
        assert!(screen.0.iter().all(Option::is_none));
    }
}
