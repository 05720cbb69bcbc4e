//! Waiting for what a cluster does in its own time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// As long as a healthy cluster may take for one step.
pub const SOON: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(150);

/// Asks `probe` until it answers `Ok`; after `limit`, fails with what it said last.
pub async fn eventually<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() >= limit => bail!("waited {} s for {what}: {error:#}", limit.as_secs()),
            Err(_) => tokio::time::sleep(STEP).await,
        }
    }
}

/// Asks `probe` for as long as `span` and fails as soon as it does.
pub async fn throughout<T>(what: &str, span: Duration, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < span {
        if let Err(error) = probe().await {
            bail!("{what} stopped after {:.1} s: {error:#}", started.elapsed().as_secs_f32());
        }
        tokio::time::sleep(STEP).await;
    }
    Ok(())
}
