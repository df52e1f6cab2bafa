//! What the plugin `count.c` wrote: instructions by address, and an estimate of a Cortex-M4's cycles for them.
//!
//! The estimate adds up Arm's published timings (Cortex-M4 Technical Reference Manual r0p1, table 3-1) with zero wait states:
//! one cycle an instruction; two for a load, but one right behind another load that it does not depend on; three for LDRD and
//! STRD; 1 + N for N registers at once; two more where another instruction than the next one follows; 12 for an integer
//! division, 14 for VDIV and VSQRT. It knows nothing of flash, bus conflicts or interrupts.

use std::collections::{BTreeMap, HashMap};

use miette::{Result, miette};

/// An instruction of the program, and how often it ran.
#[derive(Clone, Debug)]
struct Counted {
    bytes: u64,
    times: u64,
    left: u64,
    text: String,
}

/// The instructions between two markers, by address.
#[derive(Clone, Debug, Default)]
pub struct Interval(BTreeMap<u64, Counted>);

/// All intervals of a run, in order.
pub fn read(text: &str) -> Result<Vec<Interval>> {
    let mut intervals = Vec::new();
    for line in text.lines() {
        if line == "interval" {
            intervals.push(Interval::default());
            continue;
        }
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().ok_or_else(|| miette!("the counter wrote a line of too few words: {line:?}"));
        let (address, numbers, text) = (word()?, [word()?, word()?, word()?], word()?);
        let number = |word: &str| word.parse().map_err(|_| miette!("no number: {word:?} in {line:?}"));
        let address = u64::from_str_radix(address, 16).map_err(|_| miette!("no address: {address:?}"))?;
        let [bytes, times, left] = [number(numbers[0])?, number(numbers[1])?, number(numbers[2])?];
        let interval = intervals.last_mut().ok_or_else(|| miette!("the counter's file has no first interval"))?;
        interval.0.insert(address, Counted { bytes, times, left, text: text.trim().to_owned() });
    }
    Ok(intervals)
}

impl Interval {
    /// Instructions that ran.
    pub fn instructions(&self) -> u64 {
        self.0.values().map(|insn| insn.times).sum()
    }

    /// How often each mnemonic ran, the most frequent first.
    pub fn histogram(&self) -> Vec<(&str, u64)> {
        let mut all: HashMap<&str, u64> = HashMap::new();
        for insn in self.0.values() {
            *all.entry(mnemonic(&insn.text)).or_default() += insn.times;
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|&(name, times)| (std::cmp::Reverse(times), name));
        all
    }

    /// A Cortex-M4's cycles, estimated.
    pub fn m4_cycles(&self) -> u64 {
        let mut cycles = 0;
        let mut before: Option<(u64, &Counted)> = None;
        for (&address, insn) in &self.0 {
            let follows = before
                .filter(|(end, load)| *end == address && pipelined(&load.text, &insn.text))
                .map_or(0, |(_, load)| (load.times - load.left).min(insn.times));
            cycles += insn.times * alone(&insn.text) - follows + 2 * insn.left;
            before = Some((address + insn.bytes, insn));
        }
        cycles
    }
}

fn mnemonic(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or(text)
}

/// Whether it loads one register from memory.
fn is_load(mnemonic: &str) -> bool {
    mnemonic.starts_with("ldr") && !mnemonic.starts_with("ldrd")
}

/// Whether `second`, behind the load `first`, takes a cycle less than alone.
fn pipelined(first: &str, second: &str) -> bool {
    if !is_load(mnemonic(first)) || !is_load(mnemonic(second)) {
        return false;
    }
    let operands = |text: &str| text.split_once(char::is_whitespace).map_or(String::new(), |(_, rest)| rest.to_owned());
    let (first, second) = (operands(first), operands(second));
    let loaded = first.split(',').next().unwrap_or_default().trim();
    let address = second.split_once('[').map_or("", |(_, address)| address);
    !address.split(|c: char| !c.is_alphanumeric()).any(|register| register == loaded)
}

/// Registers of a list such as `{r0, r4-r7, lr}`.
fn registers(text: &str) -> u64 {
    let list = text.split_once('{').map_or("", |(_, list)| list.trim_end_matches('}'));
    let number = |register: &str| register.trim().trim_start_matches(['r', 's', 'd']).parse::<u64>().ok();
    let words = if list.trim_start().starts_with('d') { 2 } else { 1 };
    let count = |item: &str| match item.split_once('-') {
        Some((low, high)) => number(high).zip(number(low)).map_or(1, |(high, low)| high - low + 1),
        None => 1,
    };
    words * list.split(',').map(count).sum::<u64>()
}

/// Cycles of an instruction by itself.
fn alone(text: &str) -> u64 {
    let name = mnemonic(text);
    let starts = |names: &[&str]| names.iter().any(|&prefix| name.starts_with(prefix));
    match () {
        () if starts(&["ldm", "stm", "push", "pop", "vldm", "vstm", "vpush", "vpop"]) => 1 + registers(text),
        () if starts(&["ldrd", "strd"]) => 3,
        () if is_load(name) || starts(&["vldr", "vstr", "tbb", "tbh"]) => 2,
        () if starts(&["sdiv", "udiv"]) => 12,
        () if starts(&["vdiv", "vsqrt"]) => 14,
        () if starts(&["vmla", "vmls", "vfma", "vfms"]) => 3,
        () => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_of_a_loop() {
        let text = "interval\n0 2 10 0 ldr r0, [r1, #4]\n2 2 10 0 ldr r2, [r3]\n4 4 10 0 ldr.w r4, [r2, r5]\n\
                    8 4 10 0 smlad r4, r0, r2, r4\nc 2 10 9 bne #0\n\
                    e 4 1 0 ldrd r0, r1, [r2]\n12 4 1 1 pop {r4-r7, pc}\n";
        let intervals = read(text).expect("it is well-formed");
        assert_eq!(intervals[0].instructions(), 52);
        // The second load follows an independent one, the third needs what the second loads.
        assert_eq!(intervals[0].m4_cycles(), 10 * (2 + 1 + 2 + 1 + 1) + 9 * 2 + 3 + 6 + 2);
        let tenfold = [("bne", 10), ("ldr", 20), ("ldr.w", 10), ("smlad", 10)];
        assert!(tenfold.iter().all(|row| intervals[0].histogram().contains(row)), "{:?}", intervals[0].histogram());
    }

    #[test]
    fn register_lists() {
        for (text, count) in [("push {r4, r5, lr}", 3), ("ldm r0!, {r4-r7}", 4), ("vpush {d8-d9}", 4), ("pop {pc}", 1)]
        {
            assert_eq!(registers(text), count, "{text}");
        }
    }
}
