//! The class share: of how many pictures does the judge read the class that was asked for?
//!
//! Float and file draw from the same noise, so their shares differ by the pictures that one of them lost and the other did
//! not, and nothing else enters the difference's error: McNemar, Psychometrika 12 (1947).

use serde::Serialize;

use super::Reading;

/// How many of a set are read as what they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Pictures.
    pub pictures: usize,
    /// Of them, read as the class that was asked for.
    pub right: usize,
}

impl Share {
    /// The share, 0..1.
    pub fn fraction(&self) -> f64 {
        self.right as f64 / self.pictures.max(1) as f64
    }
}

/// Shares of a set, together and by class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// All pictures.
    pub all: Share,
    /// By class that was asked for.
    pub by_class: Vec<Share>,
}

impl Shares {
    /// `asked` has the class of each picture.
    pub fn new(readings: &[Reading], asked: &[usize], classes: usize) -> Self {
        let mut shares = Self { all: Share::default(), by_class: vec![Share::default(); classes] };
        for (reading, &class) in readings.iter().zip(asked) {
            let right = usize::from(reading.class == class);
            for share in [Some(&mut shares.all), shares.by_class.get_mut(class)].into_iter().flatten() {
                share.pictures += 1;
                share.right += right;
            }
        }
        shares
    }
}

/// The difference of two shares on the same noise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ShareDifference {
    /// The file's share minus float's, in percentage points.
    pub points: f64,
    /// Its standard error, from the pictures on which the two do not agree.
    pub standard_error_points: f64,
    /// Pictures that float got right and the file did not.
    pub lost: usize,
    /// Pictures that the file got right and float did not.
    pub won: usize,
}

impl ShareDifference {
    /// Of the readings of two sets of the same noise.
    pub fn new(float: &[Reading], file: &[Reading], asked: &[usize]) -> Self {
        let right = float.iter().zip(file).zip(asked).map(|((a, b), &class)| (a.class == class, b.class == class));
        let (mut lost, mut won, mut pictures) = (0, 0, 0);
        for pair in right {
            pictures += 1;
            lost += usize::from(pair == (true, false));
            won += usize::from(pair == (false, true));
        }
        let (n, net) = (f64::from(pictures.max(1)), won as f64 - lost as f64);
        let variance = (won + lost) as f64 - net * net / n;
        Self { points: 100.0 * net / n, standard_error_points: 100.0 * variance.max(0.0).sqrt() / n, lost, won }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(classes: &[usize]) -> Vec<Reading> {
        classes.iter().map(|&class| Reading { class, features: Vec::new() }).collect()
    }

    #[test]
    fn a_share_counts_what_was_asked_for() {
        let shares = Shares::new(&readings(&[0, 1, 1, 1]), &[0, 1, 0, 1], 3);
        assert_eq!(shares.all, Share { pictures: 4, right: 3 });
        assert_eq!(shares.by_class[0], Share { pictures: 2, right: 1 });
        assert_eq!(shares.by_class[2], Share::default());
        assert_eq!(shares.all.fraction(), 0.75);
    }

    #[test]
    fn a_difference_comes_of_pairs_that_do_not_agree() {
        let asked = [0; 100];
        let float: Vec<usize> = (0..100).map(|i| usize::from(i < 10)).collect();
        let file: Vec<usize> = (0..100).map(|i| usize::from((4..20).contains(&i))).collect();
        // Ten lost (10..20), four won (0..4): −6 points; the variance of a sum of ±1, √(14 − 0.36) pictures.
        let difference = ShareDifference::new(&readings(&float), &readings(&file), &asked);
        assert_eq!((difference.lost, difference.won, difference.points), (10, 4, -6.0));
        assert!((difference.standard_error_points - 13.64f64.sqrt()).abs() < 1e-12);
        let same = ShareDifference::new(&readings(&float), &readings(&float), &asked);
        assert_eq!((same.points, same.standard_error_points), (0.0, 0.0));
    }
}
