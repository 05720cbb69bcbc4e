//! The runtime of the commands that run until they are stopped.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// A runtime with this many threads for blocking work. Each thread keeps memory of its own.
pub(super) fn build(blocking_threads: usize) -> io::Result<Runtime> {
    // Two threads keep up with any node and any API server; more of them would only hold more memory.
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(2));
    Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(blocking_threads)
        .thread_name("svid-csi")
        .enable_all()
        .build()
}
