//! Sources in real files: what is kept, what is not, and whose is whose.

use super::*;

fn blob(folder: &Path) -> FileBlob {
    FileBlob::open(folder.join("sources"), Limits::default(), 1 << 20).unwrap()
}

fn project(content: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("package.json"), content).unwrap();
    let mut bytes = Vec::new();
    lanner_archive::pack(folder.path(), &mut bytes).unwrap();
    bytes
}

type Chunk = Result<Bytes, io::Error>;

fn body(chunks: Vec<Chunk>) -> BoxStream<'static, Chunk> {
    futures::stream::iter(chunks).boxed()
}

/// The bytes in chunks of this many.
fn chunked(bytes: &[u8], size: usize) -> BoxStream<'static, Chunk> {
    body(bytes.chunks(size).map(|c| Ok(Bytes::copy_from_slice(c))).collect())
}

fn files(blob: &FileBlob) -> usize {
    std::fs::read_dir(&blob.folder).unwrap().count()
}

fn inode(blob: &FileBlob, stored: &StoredSource) -> u64 {
    blob.path(&stored.source).metadata().unwrap().ino()
}

#[tokio::test]
async fn a_source_is_checked_and_kept_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let blob = blob(folder.path());
    let bytes = project("{}");
    for size in [1, 7, bytes.len()] {
        let stored = blob.put(chunked(&bytes, size)).await.unwrap();
        assert_eq!(stored.top_level, ["package.json"]);
        assert_eq!(stored.source.bytes, bytes.len() as u64);
        let hex: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(stored.source.digest, format!("sha256:{hex}"));
        let path = blob.path(&stored.source);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn equal_sources_share_their_bytes_and_deleting_one_leaves_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let blob = blob(folder.path());
    // Packed once: a file's time is in the archive.
    let (one, two) = (project("{}"), project("{ }"));
    let put = async |bytes: &[u8]| blob.put(chunked(bytes, 64)).await.unwrap();
    let (first, second, other) = (put(&one).await, put(&one).await, put(&two).await);
    assert_ne!(first.source.key, second.source.key);
    assert_eq!(inode(&blob, &first), inode(&blob, &second));
    assert_ne!(inode(&blob, &first), inode(&blob, &other));

    blob.delete(&first.source).await.unwrap();
    blob.delete(&first.source).await.unwrap();
    assert!(!blob.path(&first.source).exists());
    assert!(blob.path(&second.source).exists());
    blob.delete(&second.source).await.unwrap();
    blob.delete(&other.source).await.unwrap();
    assert_eq!(files(&blob), 0);
}

#[tokio::test]
async fn sources_that_no_scan_names_are_swept_after_their_grace_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut blob = blob(folder.path());
    let put = async |content| blob.put(chunked(&project(content), 64)).await.unwrap();
    let (used, twin, unused) = (put("{}").await, put("{}").await, put("{ }").await);
    blob.sweep(vec![]).await.unwrap();
    assert!(blob.path(&unused.source).exists(), "a fresh source has its grace time");

    blob.grace = Duration::ZERO;
    blob.sweep(vec![used.source.clone()]).await.unwrap();
    let there = [&used, &twin, &unused].map(|s| blob.path(&s.source).exists());
    assert_eq!(there, [true, false, false]);
    blob.sweep(vec![]).await.unwrap();
    assert_eq!(files(&blob), 0);
}

#[tokio::test]
async fn nothing_is_kept_of_a_refused_or_broken_body() {
    let folder = tempfile::tempdir().unwrap();
    let blob = blob(folder.path());
    let bytes = project("{}");
    let refused = async |body| blob.put(body).await.unwrap_err().to_string();
    let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
    let reset = Err(io::ErrorKind::ConnectionReset.into());
    assert_eq!(refused(body(vec![Ok(half.clone()), reset])).await, "the body ended before it was complete");
    assert_eq!(refused(body(vec![Ok(half)])).await, "the archive ends too early: it is truncated");
    assert_eq!(refused(body(vec![])).await, "the body is not a gzip file");
    assert_eq!(refused(chunked(b"not a gzip at all", 3)).await, "the body is not a gzip file");
    let trailing = [bytes.as_slice(), b"more"].concat();
    assert_eq!(refused(chunked(&trailing, 5)).await, "bytes follow the end of the gzip file");
    assert_eq!(files(&blob), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_without_being_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut blob = blob(folder.path());
    let bytes = project("{}");
    blob.max_bytes = bytes.len() as u64;
    blob.put(chunked(&bytes, 64)).await.unwrap();
    blob.max_bytes -= 1;
    let endless = chunked(&bytes, 64).chain(futures::stream::repeat_with(|| Ok(Bytes::from_static(b"x"))));
    let error = blob.put(endless.boxed()).await.unwrap_err().to_string();
    assert_eq!(error, format!("the body has more than {} bytes", bytes.len() - 1));
    assert_eq!(files(&blob), 2);
}

/// A bad archive is refused as soon as that shows, however much would follow.
#[tokio::test]
async fn an_endless_body_that_is_no_archive_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut blob = blob(folder.path());
    blob.max_bytes = u64::MAX;
    let endless = futures::stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 1024])));
    assert_eq!(blob.put(endless.boxed()).await.unwrap_err().to_string(), "the body is not a gzip file");
    assert_eq!(files(&blob), 0);
}

#[tokio::test]
async fn nothing_is_kept_when_the_client_goes_away_half_way() {
    let folder = tempfile::tempdir().unwrap();
    let blob = blob(folder.path());
    let half = Bytes::from(project("{}")).slice(..40);
    let stalled = body(vec![Ok(half)]).chain(futures::stream::pending()).boxed();
    let put = tokio::time::timeout(Duration::from_millis(50), blob.put(stalled));
    assert!(put.await.is_err());
    for _ in 0..200 {
        if files(&blob) == 0 && blob.at_once.available_permits() == AT_ONCE {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} files and {} places", files(&blob), blob.at_once.available_permits());
}

#[tokio::test]
async fn more_bodies_than_are_taken_at_once_all_come_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let blob = blob(folder.path());
    let bytes = project("{}");
    let all = (0..2 * AT_ONCE).map(|_| blob.put(chunked(&bytes, 32)));
    let stored = futures::future::try_join_all(all).await.unwrap();
    assert_eq!(files(&blob), 2 * AT_ONCE + 1);
    for source in stored {
        blob.delete(&source.source).await.unwrap();
    }
    assert_eq!(files(&blob), 0);
}

/// `/dev/full` answers every write as a full disk does.
#[tokio::test]
async fn a_full_disk_is_not_the_clients_fault() {
    let file = File::options().write(true).open("/dev/full").unwrap();
    let (pieces, received) = mpsc::channel(1);
    let writing =
        tokio::task::spawn_blocking(move || receive(file, received, &Limits::default()).map(|_| ()));
    send(chunked(&project("{}"), 64), &pieces, u64::MAX).await.unwrap();
    let error = writing.await.unwrap().unwrap_err();
    assert!(matches!(error, BlobError::Store(StoreError::Full)), "{error:?}");
}

#[test]
fn what_an_earlier_life_left_half_written_is_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let sources = folder.path().join("sources");
    std::fs::create_dir(&sources).unwrap();
    std::fs::write(sources.join("tmp-1"), "half").unwrap();
    std::fs::write(sources.join("0a-1"), "whole").unwrap();
    assert_eq!(files(&blob(folder.path())), 1);
    assert!(sources.join("0a-1").exists());
}

#[tokio::test]
async fn a_key_that_is_no_key_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let blob = blob(folder.path());
    std::fs::write(folder.path().join("secret"), "").unwrap();
    for key in ["../secret", "/etc/passwd", "..", "", "."] {
        let source = SourceRef { digest: String::new(), bytes: 0, key: key.into() };
        assert!(blob.path(&source).ends_with("sources/-"), "{key}");
        blob.delete(&source).await.unwrap();
    }
    assert!(folder.path().join("secret").exists());
}
