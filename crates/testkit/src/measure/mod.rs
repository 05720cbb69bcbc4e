//! Figures with their floors and targets, and their data.

mod figure;
mod process;
mod stats;
mod table;

pub use figure::{Figure, Target};
pub use process::{Memory, peak_memory, processor_seconds, resident_memory, settled_memory, until_idle};
pub use stats::{Sample, median, milliseconds};
pub use table::{Machine, over, print_table};
