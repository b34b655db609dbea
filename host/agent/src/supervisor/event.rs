//! What can happen to the flow, from every thread.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Go,
    EndMark(Vec<u8>),
    Cancelled,
    /// The host closed the stream, broke it, or the guard died.
    HostGone,
    /// The watcher saw its mark, and the host has been told.
    MarkSeen,
    LeaderExited {
        exit_code: Option<i32>,
        signal: Option<i32>,
    },
    AllGone {
        events: u64,
        processes: u64,
    },
    WatcherGone(String),
    /// A limit of the whole scan was hit; the package is being killed.
    Limit(String),
}
