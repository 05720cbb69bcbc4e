//! Whether the runtime is stuck: looked at on request only.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::blocking::{blocking, blocking_work};

/// How long nothing may move. No system call and no calculation of the driver takes that long, however busy the machine
/// is, unless it never returns.
const PATIENCE: Duration = Duration::from_secs(60);

/// Notices threads that have been in one and the same piece of work for too long.
///
/// A busy runtime is not stuck: its workers end polls, and its threads for blocking work end one piece after the other, however
/// many wait.
#[derive(Debug)]
pub struct RuntimeWatch {
    patience: Duration,
    seen: Mutex<Seen>,
}

/// The last look.
#[derive(Debug, Default)]
struct Seen {
    workers: Vec<Unchanged<WorkerState>>,
    blocking: Option<(JoinHandle<()>, Unchanged<u64>)>,
}

/// A value, and since when it has been seen unchanged.
#[derive(Debug)]
struct Unchanged<T> {
    value: T,
    since: Instant,
}

impl<T: PartialEq> Unchanged<T> {
    fn new(value: T) -> Self {
        Self { value, since: Instant::now() }
    }

    /// For how long it has not changed.
    fn look(&mut self, now: T) -> Duration {
        if self.value != now {
            *self = Self::new(now);
        }
        self.since.elapsed()
    }
}

/// A worker publishes both numbers when it begins and ends to wait, and again and again while it is busy: after 61 polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WorkerState {
    /// Odd while it waits for work.
    turns: u64,
    busy: Duration,
}

impl WorkerState {
    fn of(metrics: &RuntimeMetrics, worker: usize) -> Self {
        Self { turns: metrics.worker_park_unpark_count(worker), busy: metrics.worker_total_busy_duration(worker) }
    }

    fn waits(self) -> bool {
        self.turns % 2 == 1
    }
}

impl Default for RuntimeWatch {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

impl RuntimeWatch {
    fn new(patience: Duration) -> Self {
        Self { patience, seen: Mutex::default() }
    }

    /// Compares this runtime with how earlier calls saw it.
    ///
    /// # Errors
    /// The threads that are stuck.
    pub fn check(&self) -> Result<(), String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_workers(&mut seen.workers)?;
        self.check_blocking(&mut seen.blocking)
    }

    fn check_workers(&self, seen: &mut Vec<Unchanged<WorkerState>>) -> Result<(), String> {
        let metrics = Handle::current().metrics();
        for worker in 0..metrics.num_workers() {
            let state = WorkerState::of(&metrics, worker);
            match seen.get_mut(worker) {
                None => seen.push(Unchanged::new(state)),
                Some(seen) => {
                    let stays = seen.look(state);
                    if !state.waits() && stays >= self.patience {
                        return Err(format!("a thread has been in one task for {} s", stays.as_secs()));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_blocking(&self, seen: &mut Option<(JoinHandle<()>, Unchanged<u64>)>) -> Result<(), String> {
        let (begun, ended) = blocking_work();
        match seen {
            Some((turn, last)) if !turn.is_finished() => {
                let stays = last.look(ended);
                if stays >= self.patience {
                    return Err(format!("no thread for system calls has become free for {} s", stays.as_secs()));
                }
            }
            // Something waits or is being done: is there still a thread for more?
            _ if begun > ended => *seen = Some((blocking(|| ()), Unchanged::new(ended))),
            _ => *seen = None,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::tasks::Tasks;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(2).max_blocking_threads(1).enable_all().build().unwrap()
    }

    /// What `/livez` sees in a runtime over some time, looking often.
    async fn looks(watch: Arc<RuntimeWatch>, span: Duration) -> Result<(), String> {
        let end = Instant::now() + span;
        while Instant::now() < end {
            watch.check()?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Looks from a task, as the driver does: this thread is not a worker.
    fn looked_at(runtime: &Runtime, span: Duration) -> Result<(), String> {
        let (send, receive) = std::sync::mpsc::channel();
        let watch = Arc::new(RuntimeWatch::new(PATIENCE));
        runtime.block_on(async {
            Tasks::default().detached(async move { _ = send.send(looks(watch, span).await) });
        });
        receive.recv().unwrap()
    }

    #[test]
    fn a_thread_that_never_returns_from_a_task_is_noticed() {
        let runtime = runtime();
        assert_eq!(looked_at(&runtime, 2 * PATIENCE), Ok(()), "an idle runtime");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        runtime.block_on(async {
            Tasks::default().detached(async move {
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        });
        let seen = looked_at(&runtime, 5 * PATIENCE);
        stop.store(true, Ordering::Relaxed);
        assert!(seen.as_ref().is_err_and(|why| why.contains("in one task")), "{seen:?}");
        assert_eq!(looked_at(&runtime, 2 * PATIENCE), Ok(()), "it has returned");
    }

    #[test]
    fn a_busy_runtime_is_not_stuck() {
        let (runtime, stop) = (runtime(), Arc::new(AtomicBool::new(false)));
        let tasks = Tasks::default();
        runtime.block_on(async {
            for _ in 0..4 {
                let stopped = stop.clone();
                tasks.detached(async move {
                    while !stopped.load(Ordering::Relaxed) {
                        std::hint::black_box((0..1_000).sum::<u64>());
                        tokio::task::yield_now().await;
                    }
                });
            }
            // Far more than can be done in the patience; what a look requests comes last.
            for _ in 0..400 {
                let stopped = stop.clone();
                drop(blocking(move || {
                    if !stopped.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                }));
            }
        });
        let seen = looked_at(&runtime, 3 * PATIENCE);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(seen, Ok(()));
    }
}
