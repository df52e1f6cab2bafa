//! Order of elements: the sampler's pictures are HWC, files exchanged with PyTorch are CHW.

/// `[c, h, w]` to `[h, w, c]`.
pub fn hwc_from_chw(chw: &[f32], [h, w, c]: [usize; 3]) -> Vec<f32> {
    let at = |i: usize| (i % c) * h * w + i / c;
    (0..h * w * c).map(|i| chw[at(i)]).collect()
}

/// `[h, w, c]` to `[c, h, w]`.
pub fn chw_from_hwc(hwc: &[f32], [h, w, c]: [usize; 3]) -> Vec<f32> {
    let at = |i: usize| (i % (h * w)) * c + i / (h * w);
    (0..h * w * c).map(|i| hwc[at(i)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let shape = [2, 3, 2];
        let hwc: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let chw = chw_from_hwc(&hwc, shape);
        assert_eq!(chw[..6], [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(hwc_from_chw(&chw, shape), hwc);
    }
}
