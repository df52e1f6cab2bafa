//! Threads: the same bytes on any number of them.

use std::num::NonZeroUsize;
use std::sync::Mutex;

use mote_runtime::kernels::{Kernels, select};
use mote_runtime::threads::{Threads, draw_batch};
use mote_runtime::{Depth, Model, Request, Sampler, Verdict};
use mote_tests::{Flash, SMALL_EMBEDDING, arena_for, small};

/// Large enough that its operators are cut into parts; the small file has every kind of operator but little work.
const DIGITS: &[u8] = include_bytes!("../../models/digits/digits.mote");

const REQUEST: Request<'static> = Request {
    seed: 5,
    class: Some(1),
    guidance: 1.5,
    steps: None,
    noise: None,
    class_embedding: None,
    poll_budget: u32::MAX,
};

/// A picture as bits, after a few polls with a bounded budget if one is asked for.
fn draw(file: &[u8], request: Request<'_>, kernels: &'static Kernels, threads: Option<&Threads>) -> Vec<u32> {
    let file = Flash::new(file);
    let model = Model::from_bytes(file.bytes()).expect("valid");
    let mut arena = arena_for(&model);
    let sampler = Sampler::with_kernels(&model, arena.bytes_mut(), kernels).expect("the arena fits");
    let mut sampler = match threads {
        Some(threads) => sampler.with_threads(threads),
        None => sampler,
    };
    sampler.start(request).expect("a request");
    while let mote_runtime::Poll::Pending(_) = sampler.poll() {}
    sampler.image().elems().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn no_number_of_threads_changes_a_byte() {
    let small = small();
    let embedded = Request { class_embedding: Some(&SMALL_EMBEDDING), ..REQUEST };
    for table in select::tables().iter().copied().filter(|table| table.name != "scalar") {
        let want = (draw(DIGITS, REQUEST, table, None), draw(&small, embedded, table, None));
        for count in [1, 2, 3, 7] {
            let threads = Threads::new(count);
            assert_eq!(threads.count(), count);
            for poll_budget in [u32::MAX, 1_000_000] {
                let budget = |request| Request { poll_budget, ..request };
                let got = (
                    draw(DIGITS, budget(REQUEST), table, Some(&threads)),
                    draw(&small, budget(embedded), table, Some(&threads)),
                );
                assert!(got == want, "{} on {count} threads, budget {poll_budget}", table.name);
            }
            // The parts have scratch only where operators were cut.
            assert_eq!(threads.scratch_bytes() > 0, count > 1);
        }
    }
}

#[test]
fn the_self_test_runs_on_threads() {
    let file = Flash::new(DIGITS);
    let model = Model::from_bytes(file.bytes()).expect("valid");
    let mut arena = arena_for(&model);
    let threads = Threads::new(2);
    let mut sampler = Sampler::new(&model, arena.bytes_mut()).expect("the arena fits").with_threads(&threads);
    assert_eq!(sampler.self_test(Depth::Sample), Ok(Verdict::Passed));
}

/// While one sampler has the threads, another goes on without them.
#[test]
fn two_samplers_share_threads() {
    let kernels = select::kernels::<{ mote_runtime::opset::ALL }>();
    let want = draw(DIGITS, REQUEST, kernels, None);
    let threads = Threads::new(3);
    std::thread::scope(|scope| {
        let others = [(); 2].map(|()| scope.spawn(|| draw(DIGITS, REQUEST, kernels, Some(&threads))));
        for other in others {
            assert!(other.join().expect("no panic") == want);
        }
    });
}

#[test]
fn a_batch_is_its_pictures() {
    let kernels = select::kernels::<{ mote_runtime::opset::ALL }>();
    let file = Flash::new(DIGITS);
    let model = Model::from_bytes(file.bytes()).expect("valid");
    let requests: Vec<Request> = (0..5).map(|seed| Request { seed, ..REQUEST }).collect();
    for threads in [1, 2, 9] {
        let drawn: Mutex<Vec<Option<Vec<u32>>>> = Mutex::new(vec![None; requests.len()]);
        let done = |index: usize, elems: &[f32]| {
            let bits = elems.iter().map(|x| x.to_bits()).collect();
            assert_eq!(drawn.lock().unwrap()[index].replace(bits), None, "drawn twice");
        };
        draw_batch(&model, &requests, NonZeroUsize::new(threads).unwrap(), done).expect("drawn");
        for (request, got) in requests.iter().zip(drawn.into_inner().unwrap()) {
            assert_eq!(got, Some(draw(DIGITS, *request, kernels, None)));
        }
    }
    let wrong = [REQUEST, Request { class: Some(99), ..REQUEST }];
    let refused = draw_batch(&model, &wrong, NonZeroUsize::MIN, |_, _| {});
    assert_eq!(refused, Err(mote_runtime::Error::Class { asked: 99, classes: model.classes() }));
}
