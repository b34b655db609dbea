//! temporary
mod process { pub(crate) fn kill_descendants(_: i32) -> usize { 0 } }
pub mod watch;
