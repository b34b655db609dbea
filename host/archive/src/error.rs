//! Why an archive is refused: one variant a rule, its text for the client.

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
    #[error("bytes follow the end of the gzip file")]
    TrailingBytes,
    #[error("the archive unpacks to more than {0} bytes")]
    TooLarge(u64),
    #[error("the archive unpacks to more than {0} times its size: a tar bomb")]
    Bomb(u64),
    #[error("the archive has more than {0} entries")]
    TooManyEntries(u64),
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
    #[error("the path {0} in the archive goes through a link")]
    ThroughLink(String),
    #[error("the entry {0} in the archive is a device, a pipe or of another kind than file, folder or link")]
    Kind(String),
    #[error("the folder holds {0}, a link that leads out of it")]
    PackLinkOut(String),
    #[error("the folder cannot be read")]
    Read(#[source] std::io::Error),
    #[error("the project cannot be written")]
    Write(#[source] std::io::Error),
}

/// A path from the archive as it may stand in a message.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(120).collect();
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
