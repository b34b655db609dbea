//! Why an archive is refused: one variant a rule, its text for the client.

use std::io;

/// Paths in messages are escaped and bounded.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the body is not a gzip file")]
    NotGzip,
    #[error("the gzip file does not hold a tar archive")]
    NotTar,
    #[error("the archive holds nothing")]
    Empty,
    #[error("the archive ends too early: it is truncated")]
    Truncated,
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
    #[error("the body holds several gzip files one after the other: send one")]
    SecondMember,
    #[error("bytes follow the end of the gzip file")]
    TrailingBytes,
    #[error("the archive unpacks to more than {0} bytes")]
    TooLarge(u64),
    #[error("the file {0} in the archive has more than {1} bytes")]
    LargeFile(String, u64),
    #[error("the archive unpacks to more than {0} times its size: a tar bomb")]
    Bomb(u64),
    #[error("the archive has more than {0} entries")]
    TooManyEntries(u64),
    #[error("a header in the archive has more than {0} bytes of names and attributes")]
    LongHeader(u64),
    #[error("the path {0} in the archive is absolute")]
    Absolute(String),
    #[error("the path {0} in the archive has a part `..`")]
    ParentPart(String),
    #[error("the path {0} in the archive is too long or too deep")]
    LongPath(String),
    #[error("the path {0} in the archive is not UTF-8")]
    NotUtf8(String),
    #[error("the path {0} in the archive is empty or holds a NUL byte")]
    BadPath(String),
    #[error("the link {0} in the archive leads out of the project")]
    LinkOut(String),
    #[error("the link {0} in the archive has a part `..` behind a name: where it leads cannot be told")]
    WindingLink(String),
    #[error("the link {0} in the archive is another name of a file that does not come before it")]
    LinkToNothing(String),
    #[error("the path {0} in the archive goes through a link")]
    ThroughLink(String),
    #[error("the path {0} in the archive is a folder here and something else there")]
    Clash(String),
    #[error("the headers of {0} in the archive contradict each other")]
    Contradiction(String),
    #[error("the file {0} in the archive is sparse: pack it without holes")]
    Sparse(String),
    #[error("the entry {0} in the archive is a device, a pipe or of another kind than file, folder or link")]
    Kind(String),
    #[error("the folder holds {0}, a link that leads out of it")]
    PackLinkOut(String),
    #[error("the folder holds {0}, a link with a part `..` behind a name: where it leads cannot be told")]
    PackWindingLink(String),
    #[error("the folder holds {0}, a name that is not UTF-8")]
    PackName(String),
    #[error("{0} in the folder cannot be read")]
    PackRead(String, #[source] io::Error),
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    #[error("the project cannot be written")]
    Write(#[source] io::Error),
}

impl ArchiveError {
    /// What a failed read of the archive's bytes means: our own reason, carried through `io`, or the reader's.
    pub(crate) fn of_read(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Read)
    }
}

/// A path from the archive as it may stand in a message.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars().take(120) {
        match c {
            '"' | '\'' | '\\' => text.push(c),
            _ => text.extend(c.escape_debug()),
        }
    }
    text
}
