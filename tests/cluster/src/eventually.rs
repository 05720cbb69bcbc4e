//! Waits for conditions that a cluster reaches at its own pace.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The maximum time that a healthy cluster takes for one step.
pub const SOON: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(150);

/// Calls `probe` until it returns `Ok`; after `limit`, fails with its last error.
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

/// Calls `probe` for the time `span`, and fails as soon as it does.
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
