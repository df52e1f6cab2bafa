//! What parts are given, where they write, and what becomes of a panic in one.

use super::*;
use std::time::Duration;
use std::vec;

const LEAST: Cost = Cost { work: LEAST_COST, set_up: false };

/// Jobs in quick succession and after pauses in which the threads fall asleep: every row is done, once, before `over_rows` returns.
#[test]
fn every_part_is_done_once_and_waited_for() {
    for count in [2, 3, 5] {
        let threads = Threads::new(count);
        for job in 0..4_000usize {
            if job.is_multiple_of(1_000) {
                std::thread::sleep(Duration::from_millis(3));
            }
            let rows = 2 + job % 29;
            let mut out = vec![0u8; 3 * rows];
            let ran = threads.over_rows(0..rows, (&mut out, 3), 0, LEAST, &|rows, out, _| {
                for (row, bytes) in rows.zip(out.chunks_exact_mut(3)) {
                    bytes.iter_mut().for_each(|byte| *byte += row as u8 + 1);
                }
            });
            assert!(ran);
            assert!(out.chunks_exact(3).enumerate().all(|(row, bytes)| bytes == [row as u8 + 1; 3]), "{job}");
        }
    }
}

/// Every part has its bytes of every pixel, finds what it should, and leaves the others'.
#[test]
fn parts_of_pixels_are_copied_to_their_places() {
    for count in [2, 3, 5] {
        let threads = Threads::new(count);
        for job in 0..1_000usize {
            let (pixels, pixel_bytes) = (1 + job % 7, 16 * (2 + job % 5));
            let at = |i: usize| (i / pixel_bytes * 31 + i % pixel_bytes) as u8;
            let mut out: Vec<u8> = (0..pixels * pixel_bytes).map(at).collect();
            let other: Vec<u8> = out.iter().map(|x| x ^ 1).collect();
            let (found, change) = match job % 3 {
                0 => (Some(&[][..]), 0),
                1 => (Some(&other[..]), 1),
                _ => (None, 0),
            };
            let ran = threads.over_columns((&mut out, pixel_bytes, 16), found, 64, LEAST, &|bytes, piece, scratch| {
                assert_eq!((piece.len(), scratch.len()), (pixels * bytes.len(), 64));
                for (pixel, piece) in piece.chunks_exact_mut(bytes.len()).enumerate() {
                    for (to, i) in piece.iter_mut().zip(bytes.clone()) {
                        let was = at(pixel * pixel_bytes + i) ^ change;
                        assert!(found.is_none() || *to == was);
                        *to = was.wrapping_add(7);
                    }
                }
            });
            assert!(ran);
            assert!(out.iter().enumerate().all(|(i, &x)| x == (at(i) ^ change).wrapping_add(7)), "{job}");
        }
        // Not whole pixels, not whole units, or not as much as the output.
        let mut out = [0u8; 96];
        for (pixel_bytes, unit, found) in [(64, 16, None), (48, 32, None), (48, 8, None), (48, 16, Some(&[0; 48][..]))]
        {
            assert!(!threads.over_columns((&mut out, pixel_bytes, unit), found, 0, LEAST, &|_, _, _| {}));
        }
    }
}

/// A panic on any thread reaches the caller, and the threads are good for another job.
#[test]
fn a_panic_reaches_the_caller() {
    let threads = Threads::new(3);
    for _ in 0..50 {
        let mut out = [0u8; 12];
        let ended = catch_unwind(AssertUnwindSafe(|| {
            threads.over_rows(0..12, (&mut out, 1), 0, LEAST, &|rows, _, _| {
                assert!(!rows.contains(&7), "row 7");
            })
        }));
        assert!(ended.is_err());
        let mut out = [0u8; 12];
        assert!(threads.over_rows(0..12, (&mut out, 1), 0, LEAST, &|_, out, _| out.fill(1)));
        assert_eq!(out, [1; 12]);
    }
}
