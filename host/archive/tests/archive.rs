//! Archives good and bad: each refusal with its message, and nothing written outside the folder.

#![cfg(test)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use lanner_archive::{ArchiveError, Limits, Summary, inspect, pack, unpack};
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// An entry with exactly these bytes as its name and link, past the checks of the tar crate.
fn raw(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn archive(entries: &[(EntryType, &[u8], &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (kind, name, link) in entries {
        raw(&mut tar, *kind, name, link, if *kind == EntryType::Regular { b"content" } else { b"" });
    }
    gzip(&tar.into_inner().unwrap())
}

/// Inspects and unpacks; both must say the same.
fn both(bytes: &[u8], limits: &Limits) -> Result<Summary, ArchiveError> {
    let around = tempfile::tempdir().unwrap();
    let inside = around.path().join("project");
    std::fs::create_dir(&inside).unwrap();
    let inspected = inspect(bytes, limits);
    let root = inspected.as_ref().map(|s| s.root.clone()).unwrap_or_default();
    let dir = std::fs::File::open(&inside).unwrap();
    let unpacked = unpack(bytes, limits, &root, dir.as_fd());
    assert_eq!(std::fs::read_dir(around.path()).unwrap().count(), 1, "something was written outside");
    match (&inspected, &unpacked) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string()),
        (a, b) => panic!("inspect said {a:?}, unpack said {b:?}"),
    }
    inspected
}

fn refusal(bytes: &[u8]) -> String {
    both(bytes, &Limits::default()).unwrap_err().to_string()
}

#[test]
fn what_is_no_archive() {
    assert_eq!(refusal(b""), "the body is not a gzip file");
    assert_eq!(refusal(b"PK\x03\x04 this is a zip"), "the body is not a gzip file");
    assert_eq!(refusal(&gzip(&[b'x'; 4096])), "the gzip file does not hold a tar archive");
    assert_eq!(refusal(&gzip(&[0; 1024])), "the archive holds nothing");
    let whole = archive(&[(EntryType::Regular, b"package.json", b"")]);
    for cut in [whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        assert_eq!(refusal(&whole[..cut]), "the archive ends too early: it is truncated", "{cut}");
    }
    assert_eq!(refusal(&[whole.as_slice(), b"more"].concat()), "bytes follow the end of the gzip file");
}

#[test]
fn paths_that_leave() {
    let file = |name: &[u8]| refusal(&archive(&[(EntryType::Regular, name, b"")]));
    assert_eq!(file(b"/etc/passwd"), "the path /etc/passwd in the archive is absolute");
    assert_eq!(file(b"a/../../x"), "the path a/../../x in the archive has a part `..`");
    assert_eq!(file(b"\xff\xfe"), "the path \u{fffd}\u{fffd} in the archive is not UTF-8");
    assert_eq!(file(b"./"), "the path ./ in the archive is empty or holds a NUL byte");
    let deep = Limits { depth: 3, ..Limits::default() };
    let error = both(&archive(&[(EntryType::Regular, b"a/b/c/d", b"")]), &deep).unwrap_err();
    assert_eq!(error.to_string(), "the path a/b/c/d in the archive is too long or too deep");
    assert_eq!(file(b"\x1b[2J/.."), "the path \\u{1b}[2J/.. in the archive has a part `..`");
}

#[test]
fn links_that_leave() {
    let link = |kind, target: &[u8]| refusal(&archive(&[(kind, b"d/link", target)]));
    let out = "the link d/link in the archive leads out of the project";
    assert_eq!(link(EntryType::Symlink, b"../../x"), out);
    assert_eq!(link(EntryType::Symlink, b"/etc/passwd"), out);
    assert_eq!(link(EntryType::Link, b"../x"), "the path ../x in the archive has a part `..`");
    assert_eq!(link(EntryType::Link, b"/etc/passwd"), "the path /etc/passwd in the archive is absolute");
}

#[test]
fn nothing_is_written_through_a_link() {
    let through = archive(&[(EntryType::Symlink, b"d", b"e"), (EntryType::Regular, b"d/x", b"")]);
    assert_eq!(refusal(&through), "the path d/x in the archive goes through a link");
    let over = archive(&[(EntryType::Symlink, b"d", b"e"), (EntryType::Regular, b"d", b"")]);
    assert_eq!(refusal(&over), "the path d in the archive goes through a link");
    let hard = archive(&[(EntryType::Symlink, b"d", b"e"), (EntryType::Link, b"h", b"d")]);
    assert_eq!(refusal(&hard), "the link h in the archive leads out of the project");
}

#[test]
fn devices_and_pipes() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let text =
            "the entry dev in the archive is a device, a pipe or of another kind than file, folder or link";
        assert_eq!(refusal(&archive(&[(kind, b"dev", b"")])), text);
    }
}

#[test]
fn limits_on_entries_bytes_and_ratio() {
    let small = Limits { entries: 2, unpacked_bytes: 10, ..Limits::default() };
    let three: Vec<_> = (0..3).map(|_| (EntryType::Directory, b"d".as_slice(), b"".as_slice())).collect();
    assert_eq!(
        both(&archive(&three), &small).unwrap_err().to_string(),
        "the archive has more than 2 entries"
    );
    let two = archive(&[(EntryType::Regular, b"a", b""), (EntryType::Regular, b"b", b"")]);
    assert_eq!(both(&two, &small).unwrap_err().to_string(), "the archive unpacks to more than 10 bytes");

    let mut tar = Builder::new(Vec::new());
    raw(&mut tar, EntryType::Regular, b"zeros", b"", &vec![0; 40 << 20]);
    let bomb = gzip(&tar.into_inner().unwrap());
    let text = "the archive unpacks to more than 200 times its size: a tar bomb";
    assert_eq!(both(&bomb, &Limits::default()).unwrap_err().to_string(), text);
}

#[test]
fn a_header_that_lies_about_its_size() {
    let mut header = Header::new_gnu();
    header.set_path("x").unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend([0; 4096]);
    assert_eq!(refusal(&gzip(&bytes)), "the archive unpacks to more than 2147483648 bytes");
}

#[test]
fn the_one_folder_around_everything_is_found_and_stripped() {
    let bytes = archive(&[
        (EntryType::Directory, b"package/", b""),
        (EntryType::Regular, b"package/package.json", b""),
        (EntryType::Regular, b"package/lib/x.js", b""),
    ]);
    let summary = both(&bytes, &Limits::default()).unwrap();
    assert_eq!(
        (summary.root.as_str(), summary.top_level),
        ("package", vec!["lib".into(), "package.json".into()])
    );
    let loose = archive(&[(EntryType::Regular, b"package.json", b""), (EntryType::Regular, b"lib/x", b"")]);
    let summary = both(&loose, &Limits::default()).unwrap();
    assert_eq!((summary.root.as_str(), summary.top_level), ("", vec!["lib".into(), "package.json".into()]));
}

#[test]
fn a_folder_with_a_link_out_is_not_packed_and_history_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for dir in ["node_modules/x", ".git"] {
        std::fs::create_dir_all(folder.path().join(dir)).unwrap();
    }
    std::fs::write(folder.path().join("package.json"), "{}").unwrap();
    let mut bytes = Vec::new();
    pack(folder.path(), &mut bytes).unwrap();
    assert_eq!(inspect(bytes.as_slice(), &Limits::default()).unwrap().top_level, ["package.json"]);
    std::os::unix::fs::symlink("../../secret", folder.path().join("out")).unwrap();
    let error = pack(folder.path(), Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "the folder holds out, a link that leads out of it");
}

fn files() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    prop::collection::btree_map("[a-c]{1,2}/[d-f]{1,3}", prop::collection::vec(any::<u8>(), 0..600), 1..8)
}

proptest! {
    #[test]
    fn what_is_packed_comes_out_the_same(files in files()) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (path, content) in &files {
            let path = from.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let mut bytes = Vec::new();
        pack(from.path(), &mut bytes).unwrap();
        let dir = std::fs::File::open(to.path()).unwrap();
        unpack(bytes.as_slice(), &Limits::default(), "", dir.as_fd()).unwrap();
        for (path, content) in &files {
            prop_assert_eq!(&std::fs::read(to.path().join(path)).unwrap(), content);
        }
    }

    #[test]
    fn damaged_archives_are_never_written_outside(
        files in files(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        inside in any::<bool>(),
    ) {
        let around = tempfile::tempdir().unwrap();
        let (from, to) = (around.path().join("from"), around.path().join("to"));
        std::fs::create_dir_all(&to).unwrap();
        for (path, content) in &files {
            let path = from.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let mut bytes = Vec::new();
        pack(&from, &mut bytes).unwrap();
        if inside {
            // Damage the tar and not the gzip around it, or only the checksum would ever be tested.
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut tar).unwrap();
            *at.get_mut(&mut tar) = byte;
            bytes = gzip(&tar);
        } else {
            *at.get_mut(&mut bytes) = byte;
        }
        let dir = std::fs::File::open(&to).unwrap();
        let _ = unpack(bytes.as_slice(), &Limits::default(), "", dir.as_fd());
        let names: Vec<_> = std::fs::read_dir(around.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        prop_assert_eq!(names.len(), 2);
        prop_assert!(Path::new("/etc/passwd").exists());
    }
}
