//! How often tests kill a driver.

use std::env;

/// The environment variable that says how many rounds each of these tests runs.
const VARIABLE: &str = "SVID_CSI_KILL_ROUNDS";

/// The rounds on a developer's machine: a quick look, as CI runs all.
const LOCALLY: u64 = 8;

/// The rounds of a test that kills the driver at another moment in each: all of `0..all` with `CI=true`, otherwise as many
/// as `SVID_CSI_KILL_ROUNDS` says, by default eight, spread over the same moments.
///
/// # Panics
/// If the variable is not a number.
#[must_use]
pub fn kill_rounds(all: u64) -> Vec<u64> {
    let wanted = match env::var(VARIABLE) {
        Ok(number) => number.parse().unwrap_or_else(|_| panic!("{VARIABLE} is not a number: {number}")),
        Err(_) if env::var("CI").as_deref() == Ok("true") => all,
        Err(_) => LOCALLY,
    };
    spread(wanted, all)
}

/// `wanted` rounds out of `0..all`, in order. Tests do different things in every second, third and fourth round.
fn spread(wanted: u64, all: u64) -> Vec<u64> {
    let mut rounds: Vec<_> = (0..wanted.clamp(1, all)).map(|number| number * 7 % all).collect();
    rounds.sort_unstable();
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rounds_are_of_every_kind_and_all_are_all() {
        for all in [12, 30, 40] {
            assert_eq!(spread(all, all), Vec::from_iter(0..all));
            assert_eq!(spread(1_000, all), Vec::from_iter(0..all));
            let few = spread(LOCALLY, all);
            assert_eq!(few.len(), 8);
            for kinds in 2..=4 {
                assert!((0..kinds).all(|kind| few.iter().any(|round| round % kinds == kind)), "{few:?}");
            }
        }
    }
}
