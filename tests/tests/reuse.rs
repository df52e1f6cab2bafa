//! Rows that reuse what earlier ones left in cached tensors: the same bytes however a picture is come by, each kind of call
//! its own cache, and every file refused in which a row would read what is not there.

use mote_runtime::error::{Fault, Record};
use mote_runtime::format::header::tag;
use mote_runtime::format::{Graph, Header, NONE, Op, Row, Section, Tensor};
use mote_runtime::{Error, Model, Poll, Request, Sampler};
use mote_tests::{Builder, DEEP, Flash, NULL_OPS, OPS, Random, arena_for, repeats, reusing, seal};

const REQUEST: Request<'static> = Request {
    seed: 5,
    class: Some(1),
    guidance: 1.0,
    steps: None,
    noise: None,
    class_embedding: None,
    poll_budget: u32::MAX,
};

/// Runs `body` with a sampler of `file` in an arena that is filled with `rubbish`.
fn with_sampler<T>(file: &[u8], rubbish: u8, body: impl FnOnce(&mut Sampler<'_>) -> T) -> T {
    let file = Flash::new(file);
    let model = Model::from_bytes(file.bytes()).expect("valid");
    let mut arena = arena_for(&model);
    arena.bytes_mut().fill(rubbish);
    let mut sampler = Sampler::new(&model, arena.bytes_mut()).expect("the arena fits");
    body(&mut sampler)
}

fn draw(file: &[u8], rubbish: u8, request: Request<'_>) -> Vec<u32> {
    with_sampler(file, rubbish, |sampler| bits(sampler.generate(request).expect("a request").elems()))
}

fn bits(elems: &[f32]) -> Vec<u32> {
    elems.iter().map(|x| x.to_bits()).collect()
}

/// Full rows run everything, shallow ones what is left; the null class has a writer and a reader of its own.
#[test]
fn rows_run_the_operators_of_their_graphs() {
    let file = reusing().build();
    let run = |steps: u16, guidance: f32| -> Vec<Vec<u16>> {
        with_sampler(&file, 0xa5, |sampler| {
            sampler.start(Request { steps: Some(steps), guidance, ..REQUEST }).expect("a request");
            let mut rows = Vec::new();
            loop {
                let mut ops = Vec::new();
                let poll = sampler.poll_observed(&mut |op, _| ops.push(op as u16));
                rows.push(ops);
                if poll == Poll::Ready {
                    return rows;
                }
            }
        })
    };
    let full: Vec<u16> = (0..OPS).collect();
    let shallow: Vec<u16> = (0..DEEP.start).chain(DEEP.end..OPS).collect();
    let null_full: Vec<u16> = (0..DEEP.end - 1).chain(NULL_OPS).chain(DEEP.end + 1..OPS).collect();
    let null_shallow: Vec<u16> =
        (0..DEEP.start).chain(NULL_OPS.start + 1..NULL_OPS.end).chain(DEEP.end + 1..OPS).collect();
    let want = |is_full: &bool| if *is_full { full.clone() } else { shallow.clone() };
    let guided = |is_full: &bool| [if *is_full { &null_full } else { &null_shallow }, &want(is_full)[..]].concat();
    for (steps, rows) in [(5, &[true, false, false, true, false][..]), (2, &[true, false])] {
        assert_eq!(run(steps, 1.0), rows.iter().map(want).collect::<Vec<_>>());
        assert_eq!(run(steps, 2.0), rows.iter().map(guided).collect::<Vec<_>>());
    }
}

/// What was in the arena before is not in the picture, nor does the poll's budget matter.
#[test]
fn no_rubbish_and_no_poll_budget_changes_a_byte() {
    let file = reusing().build();
    for guidance in [1.0, 2.5] {
        for steps in [5, 2] {
            let request = Request { guidance, steps: Some(steps), ..REQUEST };
            let want = draw(&file, 0, request);
            assert_eq!(draw(&file, 0x7f, request), want);
            for poll_budget in [0, 1, 100, 900, 5000] {
                let got = with_sampler(&file, 0xff, |sampler| {
                    sampler.start(Request { poll_budget, ..request }).expect("a request");
                    while let Poll::Pending(_) = sampler.poll() {}
                    bits(sampler.image().elems())
                });
                assert_eq!(got, want, "guidance {guidance}, {steps} steps, budget {poll_budget}");
            }
        }
    }
    assert_ne!(draw(&file, 0, REQUEST), draw(&file, 0, Request { class: Some(0), ..REQUEST }));
}

/// At guidance 0 the picture is the null class's, whatever the other call of each row left in its own cache.
#[test]
fn calls_with_a_class_and_without_do_not_share_a_cache() {
    let file = reusing().build();
    let null = draw(&file, 0, Request { class: None, ..REQUEST });
    assert_eq!(draw(&file, 0, Request { guidance: 0.0, ..REQUEST }), null);
    assert_eq!(draw(&file, 0, Request { guidance: 0.0, class: Some(0), ..REQUEST }), null);
}

/// A shallow row leaves both cached tensors as the last full row wrote them.
#[test]
fn cached_tensors_stay_through_shallow_rows() {
    let builder = reusing();
    let cached = builder.cached.expect("two").map(|id| builder.tensors[id as usize].range());
    with_sampler(&builder.build(), 0xa5, |sampler| {
        sampler.start(Request { guidance: 2.0, ..REQUEST }).expect("a request");
        let mut left: [Vec<u8>; 2] = Default::default();
        for full in [true, false, false, true, false] {
            let mut now = Vec::new();
            sampler.poll_observed(&mut |_, arena| now = cached.clone().map(|range| arena[range].to_vec()).to_vec());
            assert_eq!(full, now != left, "full rows write, shallow ones do not");
            left = [now[0].clone(), now[1].clone()];
            assert_ne!(left[0], left[1]);
        }
    });
}

#[test]
fn a_snapshot_after_any_poll_continues_to_the_same_bytes() {
    let file = reusing().build();
    for guidance in [1.0, 1.5] {
        let request = Request { guidance, poll_budget: 900, ..REQUEST };
        let want = draw(&file, 0, request);
        let mut after = 0;
        loop {
            let snapshot = with_sampler(&file, 0xa5, |sampler| {
                sampler.start(request).expect("a request");
                let done = (0..after).any(|_| sampler.poll() == Poll::Ready);
                let mut bytes = vec![0; sampler.snapshot_len()];
                assert_eq!(sampler.snapshot(&mut bytes), Ok(bytes.len()));
                (!done).then_some(bytes)
            });
            let Some(snapshot) = snapshot else { break };
            let got = with_sampler(&file, 0x11, |sampler| {
                sampler.restore(&snapshot).expect("a snapshot");
                while let Poll::Pending(_) = sampler.poll() {}
                bits(sampler.image().elems())
            });
            assert_eq!(got, want, "after {after} polls");
            after += 1;
        }
        assert!(after > 10);
    }
}

/// The error of a file, changed before it was built.
fn refused(change: impl FnOnce(&mut Builder)) -> (Record, Fault) {
    let mut builder = reusing();
    change(&mut builder);
    match Model::from_bytes(Flash::new(&builder.build()).bytes()).map(|_| ()).expect_err("hostile") {
        Error::Record { kind, what, .. } => (kind, what),
        other => panic!("{other}"),
    }
}

#[test]
fn rows_that_would_read_what_is_not_there_are_refused() {
    use Fault::{Number, Order, Overlap, Range, Type};
    let [cached, null_cached] = reusing().cached.expect("two").map(usize::from);
    let shallow = |b: &mut Builder, row: usize| (b.rows[row].graph, b.rows[row].null_graph) = (1, 6);
    // A schedule begins with a full row, for either kind of call.
    assert_eq!(refused(|b| shallow(b, 0)), (Record::Schedule, Order));
    assert_eq!(refused(|b| shallow(b, 5)), (Record::Schedule, Order));
    assert_eq!(refused(|b| b.rows[0].graph = 1), (Record::Schedule, Order));
    assert_eq!(refused(|b| b.rows[0].null_graph = 6), (Record::Schedule, Order));
    // Calls with a class and without do not share a cache.
    assert_eq!(refused(|b| b.rows[1].null_graph = 1), (Record::Schedule, Order));
    assert_eq!(refused(|b| b.rows[0].null_graph = 0), (Record::Schedule, Order));
    assert_eq!(refused(|b| b.rows[1].graph = 6), (Record::Schedule, Order));
    // Graphs that do not exist, never end, or are no whole network.
    assert_eq!(refused(|b| b.rows[1].graph = 8), (Record::Row, Number));
    assert_eq!(refused(|b| b.rows[1].null_graph = 8), (Record::Row, Number));
    assert_eq!(refused(|b| b.graphs[2].1 = 8), (Record::Graph, Range));
    assert_eq!(refused(|b| b.graphs[2].1 = 1), (Record::Graph, Range));
    assert_eq!(refused(|b| b.graphs[2].1 = 2), (Record::Graph, Range));
    assert_eq!(refused(|b| b.graphs[1].1 = NONE), (Record::Graph, Order));
    assert_eq!(refused(|b| b.graphs.extend(vec![(0..1, NONE); 25])), (Record::Header, Range));
    // What the header does not name is not cached; what it names outlives a step, and lies apart.
    assert_eq!(refused(|b| b.cached = None), (Record::Graph, Order));
    assert_eq!(refused(|b| b.cached = Some([cached as u16, NONE])), (Record::Graph, Order));
    assert_eq!(refused(|b| b.cached = Some([cached as u16, 999])), (Record::Header, Range));
    assert_eq!(refused(|b| b.tensors[cached].carried = false), (Record::Header, Type));
    assert_eq!(refused(|b| b.tensors[null_cached].offset = b.tensors[cached].offset), (Record::Header, Overlap));
    let over = |b: &mut Builder, id: usize, other: u16| b.tensors[id].offset = b.tensors[other as usize].offset;
    assert_eq!(refused(|b| over(b, cached, b.ends[0])), (Record::Header, Overlap));
    assert_eq!(refused(|b| over(b, cached, b.uncond.unwrap_or(0))), (Record::Header, Overlap));
    // Without a null class there is one kind of call.
    assert_eq!(refused(|b| (b.null_class, b.uncond) = (None, None)), (Record::Header, Range));
    let alone = |b: &mut Builder| (b.null_class, b.cached) = (None, Some([cached as u16, NONE]));
    assert_eq!(refused(alone), (Record::Row, Number));
}

/// What may lie over a cached tensor: in a full row what runs before it is written, and only in its own.
#[test]
fn tensors_over_a_cached_one_are_judged_by_when_it_is_read() {
    let file = reusing();
    let deep = file.ops[DEEP.start as usize].out() as usize;
    let stem = file.ops[DEEP.start as usize - 1].out() as usize;
    let [cached, null_cached] = file.cached.expect("two").map(usize::from);
    let offset = |b: &Builder, id: usize| b.tensors[id].offset;
    let moved = |b: &mut Builder, id: usize, over: usize| b.tensors[id].offset = offset(b, over);
    // The stem is alive when shallow rows read the cached tensor.
    assert_eq!(refused(|b| moved(b, stem, cached)), (Record::Op, Fault::Overlap));
    // What the cached tensor's writer reads does not lie over it.
    assert_eq!(refused(|b| moved(b, deep, cached)), (Record::Op, Fault::Overlap));
    // Something that only full rows run, and that dies before: fine over the own cache, not over the null class's.
    let with_extra = |over: usize| {
        let mut b = reusing();
        let mut extra = b.tensors[deep];
        extra.offset = offset(&b, over);
        b.tensors.push(extra);
        let id = b.tensors.len() as u16 - 1;
        if let Op::Conv(mut conv) = b.ops[DEEP.start as usize] {
            conv.out = id;
            b.ops.insert(DEEP.start as usize, Op::Conv(conv));
        }
        for (ops, _) in &mut b.graphs {
            ops.start += u16::from(ops.start > DEEP.start);
            ops.end += u16::from(ops.end > DEEP.start);
        }
        b.build()
    };
    let plain = draw(&reusing().build(), 0, Request { guidance: 2.0, ..REQUEST });
    assert_eq!(draw(&with_extra(cached), 0, Request { guidance: 2.0, ..REQUEST }), plain);
    let error = Model::from_bytes(Flash::new(&with_extra(null_cached)).bytes()).map(|_| ()).expect_err("hostile");
    assert!(matches!(error, Error::Record { kind: Record::Schedule, what: Fault::Overlap, .. }), "{error}");
}

/// Whatever records an attacker writes: no panic, and no picture that depends on what was in the arena.
#[test]
fn hostile_records_never_read_what_nobody_wrote() {
    let whole = reusing().build();
    let (mut rng, mut drawn) = (Random::new(3), 0);
    let sections = [
        (tag::GRAPHS, Graph::BYTES),
        (tag::ROWS, Row::BYTES),
        (tag::TENSORS, Tensor::BYTES),
        (tag::OPS, 48),
        (tag::SCHEDULES, 8),
    ];
    for _ in 0..repeats(20_000) {
        let mut bytes = whole.clone();
        for _ in 0..rng.range(1, 2) {
            let (tag, record) = sections[rng.range(0, 4) as usize];
            let section = Section::find(&whole, tag);
            let at = section.offset as usize
                + rng.range(0, (section.bytes as usize / record) as i64 - 1) as usize * record
                + rng.range(0, record.min(16) as i64 - 1) as usize;
            let at = if rng.range(0, 9) == 0 { rng.range(38, 41) as usize } else { at };
            bytes[at] = if rng.range(0, 3) == 0 { rng.bits() as u8 } else { rng.range(0, 12) as u8 };
        }
        seal(&mut bytes);
        let file = Flash::new(&bytes);
        let Ok(model) = Model::from_bytes(file.bytes()) else { continue };
        if model.arena_len() > 1 << 16 {
            continue;
        }
        let guidance = if model.null_class().is_some() { 2.0 } else { 1.0 };
        let pictures = [0x00, 0x5a].map(|rubbish| {
            let mut arena = arena_for(&model);
            arena.bytes_mut().fill(rubbish);
            let mut sampler = Sampler::new(&model, arena.bytes_mut()).expect("the arena fits");
            let class = (model.classes() > 0).then_some(0);
            sampler.generate(Request { class, guidance, ..REQUEST }).map(|image| bits(image.elems()))
        });
        assert_eq!(pictures[0], pictures[1], "{:?}", Header::decode(&bytes));
        drawn += 1;
    }
    assert!(drawn > 500, "some must get through: {drawn}");
}
