//! What is packed comes out the same, and whatever is damaged on the way stays inside.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use lanner_archive::pack;
use proptest::prelude::*;

use super::*;

/// Path to what is there.
type Tree = BTreeMap<String, Node>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File { content: Vec<u8>, executable: bool, mtime: i64 },
    Link(String),
}

fn tree() -> impl Strategy<Value = Tree> {
    let file = (prop::collection::vec(any::<u8>(), 0..600), any::<bool>(), 0..2_000_000_000i64);
    let node = prop_oneof![
        4 => file.prop_map(|(content, executable, mtime)| Node::File { content, executable, mtime }),
        1 => Just(Node::Folder),
        1 => "(\\.\\./){0,1}[d-f]{1,3}".prop_map(Node::Link),
    ];
    // The names hold neither what is left out nor what is one file here and a folder there.
    prop::collection::btree_map("[a-c]{1,2}/[d-f é]{1,120}", node, 1..8)
}

fn plant(tree: &Tree, at: &Path) {
    for (path, node) in tree {
        let path = at.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::Folder => std::fs::create_dir(&path).unwrap(),
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::File { content, executable, mtime } => {
                std::fs::write(&path, content).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
                let time =
                    std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(*mtime).unwrap());
                std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
            }
        }
    }
}

fn found(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if meta.is_symlink() {
                found.insert(
                    name,
                    Node::Link(std::fs::read_link(&path).unwrap().to_str().unwrap().to_owned()),
                );
            } else if meta.is_file() {
                let executable = meta.mode() & 0o100 != 0;
                found.insert(
                    name,
                    Node::File { content: std::fs::read(&path).unwrap(), executable, mtime: meta.mtime() },
                );
            } else {
                // The folders that are only on the way are no part of the tree that was planted.
                if name.contains('/') {
                    found.insert(name, Node::Folder);
                }
                folders.push(path);
            }
        }
    }
    found
}

fn packed(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(folder, &mut bytes).unwrap();
    bytes
}

#[test]
fn the_one_folder_around_everything_is_found_and_stripped() {
    let bytes = archive(&[
        (EntryType::Directory, b"package/", b""),
        (EntryType::Regular, b"package/package.json", b""),
        (EntryType::Regular, b"package/lib/x.js", b""),
    ]);
    let summary = accepted(&bytes);
    assert_eq!(
        (summary.root.as_str(), summary.top_level),
        ("package", vec!["lib".into(), "package.json".into()])
    );
    let loose = archive(&[(EntryType::Regular, b"package.json", b""), (EntryType::Regular, b"lib/x", b"")]);
    let summary = accepted(&loose);
    assert_eq!((summary.root.as_str(), summary.top_level), ("", vec!["lib".into(), "package.json".into()]));
    // A lone file at the top is a project, not a folder around one.
    assert_eq!(accepted(&archive(&[(EntryType::Regular, b"package.json", b"")])).top_level, ["package.json"]);
}

#[test]
fn a_manifest_among_a_thousand_folders_is_told_of() {
    let mut tar = Builder::new(Vec::new());
    for i in 0..1000 {
        raw(&mut tar, EntryType::Directory, format!("package/folder-{i}").as_bytes(), b"", b"");
    }
    raw(&mut tar, EntryType::Regular, b"package/package.json", b"", b"{}");
    let names = accepted(&gzip(&tar.into_inner().unwrap())).top_level;
    assert!(names.len() == 256 && names.is_sorted() && names.contains(&"package.json".to_owned()));
}

#[test]
fn to_strip_another_folder_than_the_one_inspected_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = archive(&[(EntryType::Regular, b"package/package.json", b"")]);
    let dir = std::fs::File::open(folder.path()).unwrap();
    let error = unpack(bytes.as_slice(), &Limits::default(), "other", dir.as_fd()).unwrap_err();
    assert_eq!(error.to_string(), "the headers of package/package.json in the archive contradict each other");
}

#[test]
fn a_second_file_of_a_name_takes_its_place_and_leaves_its_other_names_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = rows(&[
        (EntryType::Regular, b"a", b"", b"first"),
        (EntryType::Link, b"b", b"a", b""),
        (EntryType::Link, b"a", b"a", b""),
        (EntryType::Regular, b"a", b"", b"second"),
    ]);
    let dir = std::fs::File::open(folder.path()).unwrap();
    unpack(bytes.as_slice(), &Limits::default(), "", dir.as_fd()).unwrap();
    assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"second");
    assert_eq!(std::fs::read(folder.path().join("b")).unwrap(), b"first");
}

/// The rights that would make a file act as its owner, or be writable for all, are not taken over.
#[test]
fn of_a_mode_only_the_right_to_execute_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut header = Header::new_gnu();
    header.set_mode(0o6777);
    header.set_size(0);
    let mut tar = Builder::new(Vec::new());
    tar.append_data(&mut header, "tool", std::io::empty()).unwrap();
    let dir = std::fs::File::open(folder.path()).unwrap();
    unpack(gzip(&tar.into_inner().unwrap()).as_slice(), &Limits::default(), "", dir.as_fd()).unwrap();
    let mode = folder.path().join("tool").metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode & !0o755, 0);
    assert_ne!(mode & 0o100, 0);
}

/// A folder that holds a link in place of one of ours: not even then is anything written through it.
#[test]
fn a_link_that_lies_in_the_way_is_not_followed() {
    let around = tempfile::tempdir().unwrap();
    let (inside, outside) = (around.path().join("in"), around.path().join("out"));
    std::fs::create_dir(&inside).unwrap();
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, inside.join("d")).unwrap();
    let dir = std::fs::File::open(&inside).unwrap();
    let bytes = archive(&[(EntryType::Regular, b"d/x", b"")]);
    let error = unpack(bytes.as_slice(), &Limits::default(), "", dir.as_fd()).unwrap_err();
    assert_eq!(error.to_string(), "the project cannot be written");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn history_and_what_an_installation_makes_anew_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for dir in ["node_modules/x", ".git", "lib/node_modules/y"] {
        std::fs::create_dir_all(folder.path().join(dir)).unwrap();
    }
    std::fs::write(folder.path().join("package.json"), "{}").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let summary = accepted(&packed(folder.path()));
    assert_eq!((summary.top_level, summary.entries), (vec!["lib".to_owned(), "package.json".to_owned()], 3));
}

#[test]
fn a_folder_that_would_be_refused_is_not_packed() {
    let refused = |spoil: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        spoil(folder.path());
        pack(folder.path(), Vec::new()).unwrap_err().to_string()
    };
    let link = |target: &'static str| move |folder: &Path| symlink(target, folder.join("out")).unwrap();
    assert_eq!(refused(&link("../../secret")), "the folder holds out, a link that leads out of it");
    assert_eq!(refused(&link("/etc/passwd")), "the folder holds out, a link that leads out of it");
    let winding =
        "the folder holds out, a link with a part `..` behind a name: where it leads cannot be told";
    assert_eq!(refused(&link("a/../b")), winding);
    let name = |folder: &Path| {
        use std::os::unix::ffi::OsStrExt;
        std::fs::write(folder.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
    };
    assert_eq!(refused(&name), "the folder holds \u{fffd}, a name that is not UTF-8");
    let missing = pack(Path::new("/nowhere/at/all"), Vec::new()).unwrap_err().to_string();
    assert_eq!(missing, "/nowhere/at/all/ in the folder cannot be read");
}

proptest! {
    #[test]
    fn what_is_packed_comes_out_the_same(tree in tree()) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        plant(&tree, from.path());
        let bytes = packed(from.path());
        prop_assert_eq!(&bytes, &packed(from.path()), "packing twice gives the same bytes");
        let dir = std::fs::File::open(to.path()).unwrap();
        let root = inspect(bytes.as_slice(), &Limits::default()).unwrap().root;
        unpack(bytes.as_slice(), &Limits::default(), &root, dir.as_fd()).unwrap();
        prop_assert_eq!(found(to.path()), tree);
    }

    #[test]
    fn damaged_archives_are_never_written_outside(
        tree in tree(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        inside in any::<bool>(),
    ) {
        let around = tempfile::tempdir().unwrap();
        let (from, canary, to) = (around.path().join("from"), around.path().join("canary"), around.path().join("to"));
        for folder in [&from, &canary, &to] {
            std::fs::create_dir(folder).unwrap();
        }
        plant(&tree, &from);
        let mut bytes = packed(&from);
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut tar).unwrap();
        for (at, byte) in changes {
            if inside { *at.get_mut(&mut tar) = byte } else { *at.get_mut(&mut bytes) = byte }
        }
        if inside {
            // Damage to the tar and not the gzip around it, or only its checksum would be tested. The tar's own are
            // set right again, so that the damage is believed.
            mend_checksums(&mut tar);
            bytes = gzip(&tar);
        }
        let dir = std::fs::File::open(&to).unwrap();
        let unpacked = unpack(bytes.as_slice(), &Limits::default(), "", dir.as_fd());
        let inspected = inspect(bytes.as_slice(), &Limits::default());
        prop_assert_eq!(inspected.map_err(|e| e.to_string()), unpacked.map_err(|e| e.to_string()));
        prop_assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0);
        prop_assert_eq!(std::fs::read_dir(around.path()).unwrap().count(), 3);
        prop_assert_eq!(found(&from), tree);
    }
}

fn mend_checksums(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + 512) {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        if block.iter().all(|b| *b == 0) {
            return;
        }
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let Some(size) = header.entry_size().ok().and_then(|s| usize::try_from(s).ok()) else { return };
        let Some(next) = size.checked_next_multiple_of(512).and_then(|s| at.checked_add(512)?.checked_add(s))
        else {
            return;
        };
        at = next;
    }
}
