//! The sampler: however a picture is come by, its bytes are the same.

use mote_runtime::format::{DType, Op, Section, tag};
use mote_runtime::kernels::{Kernels, scalar};
use mote_runtime::{Depth, Error, Model, Poll, Progress, Request, Sampler, Verdict};
use mote_tests::{Flash, SMALL_EMBEDDING, arena_for, small};

const REQUEST: Request<'static> = Request {
    seed: 11,
    class: Some(1),
    guidance: 1.0,
    steps: None,
    noise: None,
    class_embedding: Some(&SMALL_EMBEDDING),
    poll_budget: u32::MAX,
};

/// Runs `body` with a sampler in a fresh arena that is filled with rubbish.
fn with_sampler<T>(body: impl FnOnce(&mut Sampler<'_>) -> T) -> T {
    let file = Flash::new(&small());
    let model = Model::from_bytes(file.bytes()).expect("valid");
    let mut arena = arena_for(&model);
    let mut sampler = Sampler::new(&model, arena.bytes_mut()).expect("the arena fits");
    body(&mut sampler)
}

fn draw(request: Request<'_>) -> Vec<u32> {
    with_sampler(|sampler| bits(sampler.generate(request).expect("a request").elems()))
}

fn bits(elems: &[f32]) -> Vec<u32> {
    elems.iter().map(|x| x.to_bits()).collect()
}

/// Every input has its part in the bytes, and the bytes are these on every machine.
#[test]
fn golden_bytes() {
    let crc = |request| {
        let bytes: Vec<u8> = draw(request).iter().flat_map(|bits| bits.to_le_bytes()).collect();
        mote_runtime::format::checksum::crc32(&bytes)
    };
    let drawn = [
        crc(REQUEST),
        crc(Request { seed: 12, ..REQUEST }),
        crc(Request { class: Some(0), ..REQUEST }),
        crc(Request { class: None, ..REQUEST }),
        crc(Request { guidance: 2.5, ..REQUEST }),
        crc(Request { class_embedding: Some(&[0.0; 4]), ..REQUEST }),
    ];
    assert_eq!(drawn, GOLDEN, "{drawn:#010x?}");
}

const GOLDEN: [u32; 6] = [0xd6df8d7e, 0x7d5df2b6, 0x4f787beb, 0xdf7c923e, 0xf2b7406d, 0xee9d30d5];

#[test]
fn no_poll_budget_changes_a_byte() {
    for guidance in [1.0, 3.0] {
        let want = draw(Request { guidance, ..REQUEST });
        for poll_budget in [0, 1, 7, 100, 1000, 5000, 100_000] {
            let (got, polls) = with_sampler(|sampler| {
                sampler.start(Request { guidance, poll_budget, ..REQUEST }).expect("a request");
                let mut polls = 1;
                while let Poll::Pending(_) = sampler.poll() {
                    polls += 1;
                }
                (bits(sampler.image().elems()), polls)
            });
            assert_eq!(got, want, "budget {poll_budget}");
            assert!(polls >= 3 && (poll_budget > 100 || polls > 100), "budget {poll_budget}: {polls} polls");
        }
    }
}

#[test]
fn a_snapshot_after_any_poll_continues_to_the_same_bytes() {
    let request = Request { guidance: 1.5, poll_budget: 900, ..REQUEST };
    let want = draw(request);
    let mut after = 0;
    loop {
        let snapshot = with_sampler(|sampler| {
            sampler.start(request).expect("a request");
            let done = (0..after).any(|_| sampler.poll() == Poll::Ready);
            let mut bytes = vec![0; sampler.snapshot_len()];
            assert_eq!(sampler.snapshot(&mut bytes), Ok(bytes.len()));
            (!done).then_some(bytes)
        });
        let Some(snapshot) = snapshot else { break };
        // A reset: another arena, another sampler.
        let got = with_sampler(|sampler| {
            sampler.restore(&snapshot).expect("a snapshot");
            while let Poll::Pending(_) = sampler.poll() {}
            bits(sampler.image().elems())
        });
        assert_eq!(got, want, "after {after} polls");
        after += 1;
    }
    assert!(after > 10);
}

#[test]
fn damaged_or_foreign_snapshots_are_refused() {
    with_sampler(|sampler| {
        let mut bytes = vec![0; sampler.snapshot_len()];
        assert_eq!(sampler.snapshot(&mut bytes), Err(Error::NotStarted));
        sampler.start(REQUEST).expect("a request");
        sampler.step();
        assert!(matches!(sampler.snapshot(&mut bytes[1..]), Err(Error::Length { .. })));
        sampler.snapshot(&mut bytes).expect("a snapshot");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert!(sampler.restore(&bytes).is_err(), "byte {at} bit {bit}");
                bytes[at] ^= 1 << bit;
            }
            assert!(sampler.restore(&bytes[..at]).is_err(), "{at} bytes");
        }
        assert_eq!(sampler.poll(), Poll::Idle);
        bytes[28] ^= 1;
        assert_eq!(sampler.restore(&bytes), Err(Error::SnapshotModel));
    });
}

#[test]
fn progress_counts_steps_and_previews_appear() {
    with_sampler(|sampler| {
        assert_eq!(sampler.poll(), Poll::Idle);
        sampler.start(REQUEST).expect("a request");
        assert!(sampler.preview().is_none());
        assert_eq!(sampler.poll(), Poll::Pending(Progress { step: 1, steps: 3, step_done: true }));
        let first = bits(sampler.preview().expect("a preview").elems());
        assert_eq!(sampler.step(), Poll::Pending(Progress { step: 2, steps: 3, step_done: true }));
        assert_ne!(bits(sampler.preview().expect("a preview").elems()), first);
        assert_eq!(sampler.poll(), Poll::Ready);
        assert_eq!(sampler.poll(), Poll::Ready, "and stays so");
        sampler.cancel();
        assert_eq!(sampler.poll(), Poll::Idle);
    });
}

#[test]
fn the_callers_noise_is_the_start() {
    let mut noise = [0.0; 24];
    mote_runtime::sampler::noise::fill(REQUEST.seed, 0, &mut noise);
    assert_eq!(draw(Request { noise: Some(&noise), ..REQUEST }), draw(REQUEST));
}

#[test]
fn requests_that_the_model_cannot_meet() {
    with_sampler(|sampler| {
        let cases = [
            (Request { class: Some(3), ..REQUEST }, Error::Class { asked: 3, classes: 3 }),
            (Request { guidance: f32::NAN, ..REQUEST }, Error::Guidance),
            (Request { steps: Some(4), ..REQUEST }, Error::Steps { asked: 4 }),
            (Request { noise: Some(&[0.0; 23]), ..REQUEST }, Error::Length { have: 23, need: 24 }),
            (Request { class_embedding: Some(&[0.0]), ..REQUEST }, Error::ClassEmbedding { have: 1, need: 4 }),
            (Request { class_embedding: None, ..REQUEST }, Error::ClassEmbedding { have: 0, need: 4 }),
        ];
        for (request, error) in cases {
            assert_eq!(sampler.start(request), Err(error));
            assert_eq!(sampler.poll(), Poll::Idle);
        }
        assert_eq!(sampler.start(Request { steps: Some(3), ..REQUEST }), Ok(()));
    });
}

/// Guidance 0 is the null class, and guidance is linear in the outputs.
#[test]
fn guidance_zero_is_the_null_class() {
    assert_eq!(draw(Request { guidance: 0.0, ..REQUEST }), draw(Request { class: None, ..REQUEST }));
}

/// The self-test passes with scalar kernels, names the operator of a kernel that is wrong, and tells wrong sums in the
/// file from wrong kernels.
#[test]
fn the_self_test_finds_the_first_wrong_operator() {
    static WRONG: Kernels = Kernels {
        conv_i16: |out, channels, window, weights| {
            (scalar::KERNELS.conv_i16)(out, channels, window, weights);
            if let Some(last) = out.last_mut() {
                *last += 400_000;
            }
        },
        ..scalar::KERNELS
    };
    let mut bytes = small();
    let file = Flash::new(&bytes);
    let model = Model::from_bytes(file.bytes()).expect("valid");
    let mut arena = arena_for(&model);
    let mut sampler = Sampler::new(&model, arena.bytes_mut()).expect("the arena fits");
    for depth in [Depth::Step, Depth::Sample] {
        assert_eq!(sampler.self_test(depth), Ok(Verdict::Passed));
    }
    let first_i16_conv = (0..model.op_count())
        .find(|&i| matches!(model.op(i).expect("an operator").op, Op::Conv(conv) if model.tensor(conv.sources[0]).dtype == DType::I16));
    let mut arena = arena_for(&model);
    let mut sampler = Sampler::with_kernels(&model, arena.bytes_mut(), &WRONG).expect("the arena fits");
    assert_eq!(sampler.self_test(Depth::Step), Ok(Verdict::Operator(first_i16_conv.expect("one") as u16)));

    // The same with a file whose sums are wrong: no kernel is to blame.
    let section = Section::find(&bytes, tag::SELF_TEST);
    bytes[section.offset as usize + 12] ^= 1;
    mote_tests::seal(&mut bytes);
    let file = Flash::new(&bytes);
    let model = Model::from_bytes(file.bytes()).expect("valid");
    let mut arena = arena_for(&model);
    let mut sampler = Sampler::new(&model, arena.bytes_mut()).expect("the arena fits");
    assert_eq!(sampler.self_test(Depth::Step), Ok(Verdict::Arithmetic));
}
