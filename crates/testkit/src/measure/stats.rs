//! Percentiles.

use std::time::Duration;

/// Durations of the same operation done many times; at least one.
pub struct Sample(Vec<Duration>);

impl Sample {
    /// In any order.
    pub fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// The median in milliseconds.
    pub fn p50(&self) -> f64 {
        self.percentile(50)
    }

    /// The 99th percentile in milliseconds.
    pub fn p99(&self) -> f64 {
        self.percentile(99)
    }

    fn percentile(&self, percent: usize) -> f64 {
        let index = self.0.len() * percent / 100;
        self.0.get(index).map_or(f64::NAN, |duration| milliseconds(*duration))
    }
}

/// A duration as a number.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The median of some numbers.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_unstable_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(numbers[middle - 1], numbers[middle]),
        _ => numbers[middle],
    }
}
