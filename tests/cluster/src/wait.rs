//! Waits on conditions instead of for fixed times: every wait has a name and a deadline, and reports its last
//! observation.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(40);

/// Calls `probe` until it returns `Ok`, and fails with its last error once `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() >= limit => {
                bail!("waited {} s for {what}: {error:#}", limit.as_secs());
            }
            Err(_) => thread::sleep(STEP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_as_soon_as_the_probe_succeeds() {
        let mut calls = 0;
        let value = until("three", Duration::from_secs(5), || {
            calls += 1;
            if calls < 3 { bail!("not yet") } else { Ok(calls) }
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn names_the_condition_and_the_last_error() {
        let error = until("rain", Duration::ZERO, || -> Result<()> { bail!("still dry") }).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for rain: still dry");
    }
}
