//! The words and rules of a scan.
//!
//! Everything here is plain data and pure functions: what a scan is, which state may follow which, what an alert
//! holds, what a filter may decide, what evidence a "clean" needs, which Job a function may ask for. Given the same
//! input the same answer comes out, so stored scans can be judged again years later.
//!
//! Absent on purpose: no clock, no randomness, no file, no network, no task, no Wasm, no Kubernetes. Times and
//! random bytes are arguments. The way in is serde or a constructor that checks; the way out is a value.

#![forbid(unsafe_code)]

pub mod agree;
pub mod alert;
pub mod canary;
pub mod correlate;
pub mod decision;
pub mod evidence;
pub mod falco;
pub mod fold;
pub mod id;
pub mod job;
pub mod package;
pub mod revision;
pub mod scan;
pub mod text;

pub use alert::{Alert, Priority, Process, Responsible};
pub use decision::{Action, Decision, FilterFailure, Grant, JudgedAlert};
pub use evidence::{Evidence, Gap, SensorReport};
pub use id::{Owner, ScanId};
pub use job::{JobError, JobSpec, PhaseSpec, Probe, ProbeKey, ProbeUse};
pub use package::{PackageError, PackageSpec};
pub use revision::{
    Change, ChangeKind, Check, FilterRef, FilterSpec, FunctionSpec, Kind, Name, Named, Passed, Provenance,
    Revision, RevisionRef, RevisionState, Spec,
};
pub use scan::{Counts, Isolation, Passage, PhaseResult, Scan, ScanState, SourceRef, Subject, Verdict};

/// Nanoseconds since the Unix epoch, as Falco's `evt.time` has it. Fits until the year 2262.
pub type Nanos = i64;
