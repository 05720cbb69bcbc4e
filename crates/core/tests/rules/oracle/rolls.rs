//! The choices that make up an input.

/// Choices, pseudorandom (SplitMix64) or repeated from a tape. An input that is a function of its choices is
/// reduced by reducing them: 0 should be the plainest choice, and is made once a tape has ended.
#[derive(Debug)]
pub(crate) struct Rolls {
    state: Option<u64>,
    tape: Vec<u64>,
    at: usize,
}

impl Rolls {
    /// The choices of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self { state: Some(seed), tape: Vec::new(), at: 0 }
    }

    /// The choices of a tape.
    pub(super) fn repeat(tape: &[u64]) -> Self {
        Self { state: None, tape: tape.to_vec(), at: 0 }
    }

    /// The choices made until now.
    pub(super) fn into_tape(self) -> Vec<u64> {
        self.tape
    }

    /// One of that many possibilities, counted from 0.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        let Some(state) = &mut self.state else {
            self.at += 1;
            return self.tape.get(self.at - 1).map_or(0, |choice| choice % sides);
        };
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let choice = (mixed ^ (mixed >> 31)) % sides;
        self.tape.push(choice);
        choice
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.roll(limit as u64)).expect("it is below a usize")
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.roll(256) as u8
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == sides - 1
    }

    pub(crate) fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }

    /// The usual value, except once in so many times one of the others.
    pub(crate) fn mostly<T: Copy>(&mut self, usual: T, sides: u64, others: &[T]) -> T {
        if self.one_in(sides) { self.pick(others) } else { usual }
    }

    /// Changes, removes, repeats or inserts bytes at one place.
    pub(crate) fn edit(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = bytes.len().min(at + 1 + self.below(4));
        match self.roll(6) {
            0 if at < bytes.len() => bytes[at] = self.byte(),
            1 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => bytes.extend_from_within(at..end),
            _ => bytes.insert(at, self.byte()),
        }
    }
}
