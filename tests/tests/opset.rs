//! Only what a model uses is linked: the set is the right one, and a program that lacks a part of it says so.

use mote_runtime::error::Fault;
use mote_runtime::{Error, Model, OpSet, Request, Sampler, ops_used, opset};
use mote_tests::{Flash, Random, SMALL_EMBEDDING, arena, repeats, seal, small};

mote_runtime::model!(static SMALL = "../vectors/small.mote");
mote_runtime::model!(static DIGITS = "../../models/digits/digits.mote");

/// The compiler's check of a file that is linked in is the same as that at run time.
#[test]
fn a_linked_model_is_the_loaded_one() {
    let file = Flash::new(SMALL.bytes());
    let loaded = Model::from_bytes(file.bytes()).expect("valid");
    assert_eq!((loaded.arena_len(), loaded.header()), (SMALL.arena_len(), SMALL.header()));
    assert_eq!(SMALL.verify(), Ok(()));
    let request = Request { seed: 5, class: Some(1), class_embedding: Some(&SMALL_EMBEDDING), ..Default::default() };
    let mut arenas = [arena(loaded.arena_len()), arena(loaded.arena_len())];
    let [first, second] = &mut arenas;
    let mut whole = Sampler::new(&loaded, first.bytes_mut()).expect("the arena fits");
    let mut linked = Sampler::new(&SMALL, second.bytes_mut()).expect("the arena fits");
    let elems = whole.generate(request).expect("a picture").elems().to_vec();
    assert_eq!(linked.generate(request).expect("a picture").elems(), elems);
}

#[test]
fn digits_uses_what_it_uses() {
    let unused =
        opset::AVG_POOL | opset::UPSAMPLE | opset::EMBED_ADD | opset::NORM_I16 | opset::CLIP_DYNAMIC | opset::WINOGRAD;
    let used = opset::ATTENTION | opset::NORM | opset::CONV_TWO | opset::RESIDUAL | opset::GUIDANCE;
    assert_eq!(DIGITS.ops() & (unused | opset::HISTORY | opset::OUT_I16 | opset::WEIGHTS_I4), 0);
    assert_eq!(DIGITS.ops() & used, used);
    assert_eq!(DIGITS.ops(), ops_used(DIGITS.bytes()));
}

/// Loads the small file in a program that lacks one bit of what it uses.
fn without<const LACKING: OpSet>(used: OpSet) -> bool {
    let file = Flash::new(SMALL.bytes());
    let loaded = Model::<'_, LACKING>::with_ops(file.bytes()).map(|_| ());
    let lacks = used & !LACKING != 0;
    match loaded {
        Ok(()) => assert!(!lacks, "{LACKING:#x} was loaded"),
        Err(Error::Record { what: Fault::NotLinked, .. }) => assert!(lacks, "{LACKING:#x} was refused"),
        Err(other) => panic!("{other}"),
    }
    lacks
}

#[test]
fn what_is_not_linked_is_refused_by_name() {
    let used = ops_used(SMALL.bytes());
    let mut refused = 0;
    macro_rules! each {
        ($($bit:ident)*) => { $( refused += without::<{ !opset::$bit }>(used) as u32; )* };
    }
    each!(AVG_POOL UPSAMPLE EMBED_LOOKUP EMBED_ADD ATTENTION NORM NORM_TWO NORM_I16 NORM_MODULATED NORM_IN_PLACE
        CONV_TWO CONV_I8 CONV_I16 CONV_UPSAMPLED CONV_ODD RESIDUAL RESIDUAL_I16 OUT_I16 MODULATION_TABLE
        MODULATION_TENSOR CLIP_DYNAMIC HISTORY GUIDANCE WEIGHTS_I4 WINOGRAD REUSE);
    assert_eq!(refused, used.count_ones());
    assert!(refused >= 18, "the small file uses nearly everything: {used:#b}");
}

/// Whatever a sealed file's records say, both checks come to the same end.
#[test]
fn both_checks_agree_on_damaged_records() {
    let mut rng = Random::new(11);
    let good = small();
    let (mut refused, mut kept) = (0, 0);
    for _ in 0..repeats(3000) {
        let mut bytes = good.clone();
        for _ in 0..rng.range(1, 3) {
            let at = rng.range(48, 5000) as usize % bytes.len();
            bytes[at] = rng.bits() as u8;
        }
        seal(&mut bytes);
        let file = Flash::new(&bytes);
        let at_run_time = Model::from_bytes(file.bytes()).map(|model| model.arena_len());
        let at_compile_time = Model::<'_, { opset::ALL }>::from_aligned(file.aligned()).map(|model| model.arena_len());
        assert_eq!(at_run_time, at_compile_time);
        if at_run_time.is_ok() { kept += 1 } else { refused += 1 }
    }
    assert!(refused > 100 && kept > 100, "{refused} refused, {kept} kept");
}

/// The compiler does not read the weights; `verify` does.
#[test]
fn verify_finds_damaged_weights() {
    let mut file = Flash::new(SMALL.bytes());
    let payload = SMALL.header().meta_bytes as usize;
    file.bytes_mut()[payload + 100] ^= 4;
    let model = Model::<'_, { opset::ALL }>::from_aligned(file.aligned()).expect("its records are whole");
    assert_eq!(model.verify(), Err(Error::PayloadChecksum { block: 0 }));
}
