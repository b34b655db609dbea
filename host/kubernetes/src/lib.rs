//! What Lanner says to a cluster and reads from it: its custom resources and what follows from them (which filters the objects
//! ask for, what has to be done for it, what is said of it in their status), scans as Jobs (`job`), and what keeps a Job from
//! running (`trouble`).
//!
//! Pure: objects and revisions in, actions and conditions out. It knows no client, no clock and no registry; who watches the
//! objects, does what is asked for and writes the status is the host.

mod filter;
pub mod job;
mod module;
mod plan;
mod reconcile;
mod status;
pub mod trouble;

pub use filter::{AlertFilter, AlertFilterSpec, AlertFilterStatus, Mode};
pub use module::{BadModule, ModuleRef};
pub use plan::Action;
pub use reconcile::{BY, Host, Key, Plan, Refused, reconcile, refused, waiting};
