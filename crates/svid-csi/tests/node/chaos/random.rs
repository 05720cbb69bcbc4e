//! Random numbers that depend on nothing but a seed.

use std::hash::{BuildHasher, RandomState};

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

/// A seed that differs from run to run.
pub(crate) fn fresh_seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) % 1_000_000
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0, less than `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.next() % (last - first + 1)
    }

    pub(crate) fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    /// One of them; `None` if there are none.
    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.below(all.len())])
    }

    /// About half of them, in order; at least one.
    pub(crate) fn half<T: Copy>(&mut self, all: &[T]) -> Vec<T> {
        let some: Vec<_> = all.iter().copied().filter(|_| self.one_in(2)).collect();
        if some.is_empty() { self.pick(all).into_iter().collect() } else { some }
    }
}

#[test]
fn the_same_seed_gives_the_same_numbers_and_another_seed_others() {
    let numbers = |seed| {
        let mut random = Random::new(seed);
        Vec::from_iter((0..100).map(|_| random.below(1000)))
    };
    assert_eq!(numbers(1), numbers(1));
    assert_ne!(numbers(1), numbers(2));
    assert!(numbers(3).iter().all(|number| *number < 1000));
}

#[test]
fn half_is_about_half_and_never_nothing() {
    let mut random = Random::new(7);
    let all = Vec::from_iter(0..20);
    let sizes: Vec<_> = (0..200).map(|_| random.half(&all).len()).collect();
    assert!((8 * 200..12 * 200).contains(&sizes.iter().sum::<usize>()), "{sizes:?}");
    assert!((0..50).all(|_| !random.half(&[1]).is_empty()));
}
