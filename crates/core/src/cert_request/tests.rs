//! The objects as they are written and read.
