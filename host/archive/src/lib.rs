//! Reads, checks and writes the gzipped tar of a project.
//!
//! Two readers go by the same rules: the host, which checks an archive while it streams in and keeps nothing of a bad
//! one (`inspect`), and the agent, which unpacks it inside the sandbox (`unpack`). `pack` makes one of a folder.
//!
//! An archive is hostile: every size in it may lie, every name may lead elsewhere. Nothing here trusts a header further
//! than it can check it, memory is bounded whatever the archive says, and nothing is written except below the folder
//! given, part by part, through no link. Headers are parsed by the tar crate; its iterator is not used, because it
//! reads long names and sparse maps into memory without a bound.
//!
//! It knows no scan, no HTTP and no async.

#![forbid(unsafe_code)]

mod entry;
mod error;
mod extension;
mod guard;
mod pack;
mod read;
mod tree;
mod unpack;

pub use error::ArchiveError;
pub use pack::pack;
pub use read::inspect;
pub use unpack::unpack;

/// How much an archive may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, links and folders, those included that are only named in the path of another.
    pub entries: u64,
    pub unpacked_bytes: u64,
    /// Of a single file.
    pub file_bytes: u64,
    /// Unpacked to compressed, counted once `ratio_from` bytes have come out.
    pub ratio: u64,
    pub ratio_from: u64,
    pub path_bytes: usize,
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 100_000,
            unpacked_bytes: 2 << 30,
            file_bytes: 1 << 30,
            ratio: 200,
            ratio_from: 16 << 20,
            path_bytes: 1024,
            depth: 64,
        }
    }
}

/// What a checked archive holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub entries: u64,
    pub unpacked_bytes: u64,
    /// Names at the project's root, sorted, at most [`MAX_TOP_LEVEL`]; where there are more, files go before folders.
    pub top_level: Vec<String>,
    /// The one folder that everything lies in (`package`, `name-1f3a`), which unpacking strips; empty if none.
    pub root: String,
}

pub const MAX_TOP_LEVEL: usize = 256;
