//! Any bytes, as a gzip file and as the tar inside one: refused or taken, by both readers alike, and nothing is
//! written beside the folder.
#![no_main]

use std::io::Write;
use std::os::fd::AsFd;

use lanner_archive::{Limits, inspect, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Small, so that the limits are met; the defaults would only make it slow.
    let limits = Limits { entries: 64, unpacked_bytes: 1 << 20, file_bytes: 1 << 19, ..Limits::default() };
    let _ = inspect(data, &limits);

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&with_checksums(data)).unwrap();
    let bytes = gzip.finish().unwrap();
    let inspected = inspect(bytes.as_slice(), &limits);

    let around = tempfile::tempdir().unwrap();
    let inside = around.path().join("project");
    std::fs::create_dir(&inside).unwrap();
    let root = inspected.as_ref().map(|s| s.root.clone()).unwrap_or_default();
    let dir = std::fs::File::open(&inside).unwrap();
    let unpacked = unpack(bytes.as_slice(), &limits, &root, dir.as_fd());
    assert_eq!(inspected.map_err(|e| e.to_string()), unpacked.map_err(|e| e.to_string()));
    assert_eq!(std::fs::read_dir(around.path()).unwrap().count(), 1);
});

/// Every block with the checksum that it would have as a header: a fuzzer does not find one by itself.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    for block in tar.chunks_exact_mut(512).filter(|b| b.iter().any(|b| *b != 0)) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    tar
}
