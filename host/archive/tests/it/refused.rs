//! What is refused by its entries and its sizes.

use std::io::Read;

use super::*;

#[test]
fn what_is_no_archive() {
    assert_eq!(refusal(b""), "the body is not a gzip file");
    assert_eq!(refusal(b"\x1f"), "the body is not a gzip file");
    assert_eq!(refusal(b"PK\x03\x04 this is a zip"), "the body is not a gzip file");
    assert_eq!(refusal(&gzip(&[b'x'; 4096])), "the gzip file does not hold a tar archive");
    assert_eq!(refusal(&gzip(b"a short text")), "the gzip file does not hold a tar archive");
    assert_eq!(refusal(&gzip(&[0; 1024])), "the archive holds nothing");
}

#[test]
fn what_ends_too_early_wherever_it_ends() {
    let whole = archive(&[(EntryType::Regular, b"package.json", b"")]);
    for cut in 2..whole.len() {
        assert_eq!(refusal(&whole[..cut]), "the archive ends too early: it is truncated", "{cut}");
    }
    // Cut inside the gzip file: within a header, within an entry's bytes, behind a long name.
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(whole.as_slice()).read_to_end(&mut tar).unwrap();
    let two = [&tar[..1024], &tar[..1024]].concat();
    for cut in [513, 1023, 1025, 1500, 1536, 2047] {
        assert_eq!(refusal(&gzip(&two[..cut])), "the archive ends too early: it is truncated", "{cut}");
    }
}

#[test]
fn what_follows_the_gzip_file() {
    let whole = archive(&[(EntryType::Regular, b"package.json", b"")]);
    let with = |after: &[u8]| refusal(&[&whole, after].concat());
    assert_eq!(with(b"more"), "bytes follow the end of the gzip file");
    assert_eq!(with(b"\0"), "bytes follow the end of the gzip file");
    assert_eq!(with(&whole), "the body holds several gzip files one after the other: send one");
}

#[test]
fn what_is_damaged() {
    let mut wrong_sum = archive(&[(EntryType::Regular, b"package.json", b"")]);
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    assert_eq!(refusal(&wrong_sum), "the archive is damaged: its compression or its checksum is wrong");
    let mut tar = Builder::new(Vec::new());
    raw(&mut tar, EntryType::Regular, b"a", b"", b"content");
    let good = tar.into_inner().unwrap();
    let bad_second = [&good[..1024], &[b'x'; 1024]].concat();
    assert_eq!(refusal(&gzip(&bad_second)), "the archive is damaged: a header's checksum is wrong");
}

#[test]
fn paths_that_leave() {
    let file = |name: &[u8]| refusal(&archive(&[(EntryType::Regular, name, b"")]));
    assert_eq!(file(b"/etc/passwd"), "the path /etc/passwd in the archive is absolute");
    assert_eq!(file(b"a/../../x"), "the path a/../../x in the archive has a part `..`");
    assert_eq!(file(b".."), "the path .. in the archive has a part `..`");
    assert_eq!(file(b"\xff\xfe"), "the path \u{fffd}\u{fffd} in the archive is not UTF-8");
    assert_eq!(file(b"."), "the path . in the archive is empty or holds a NUL byte");
    assert_eq!(file(b""), "the path  in the archive is empty or holds a NUL byte");
    assert_eq!(file(b"\x1b[2J/.."), "the path \\u{1b}[2J/.. in the archive has a part `..`");
    let direction = file("/\u{202e}x".as_bytes());
    assert_eq!(direction, "the path /\\u{202e}x in the archive is absolute");
}

#[test]
fn paths_that_are_too_long_or_too_deep() {
    let limits = Limits { depth: 3, path_bytes: 20, ..Limits::default() };
    let text =
        |name: &[u8]| both(&archive(&[(EntryType::Regular, name, b"")]), &limits).unwrap_err().to_string();
    assert_eq!(text(b"a/b/c/d"), "the path a/b/c/d in the archive is too long or too deep");
    assert_eq!(
        text(b"aaaaaaaaaaaaaaaaaaaaa"),
        "the path aaaaaaaaaaaaaaaaaaaaa in the archive is too long or too deep"
    );
}

#[test]
fn links_that_leave() {
    let link = |kind, target: &[u8]| {
        refusal(&archive(&[(EntryType::Directory, b"e", b""), (kind, b"d/link", target)]))
    };
    let out = "the link d/link in the archive leads out of the project";
    for target in [&b"../../x"[..], b"/etc/passwd", b"..//./../x", b"//"] {
        assert_eq!(link(EntryType::Symlink, target), out);
    }
    let winding =
        "the link d/link in the archive has a part `..` behind a name: where it leads cannot be told";
    assert_eq!(link(EntryType::Symlink, b"x/../../../etc"), winding);
    assert_eq!(link(EntryType::Symlink, b"x/.."), winding);
    assert_eq!(link(EntryType::Symlink, b""), "the path d/link in the archive is empty or holds a NUL byte");
    assert_eq!(link(EntryType::Symlink, b"\xff"), "the path \u{fffd} in the archive is not UTF-8");
    assert_eq!(link(EntryType::Link, b"../x"), "the path ../x in the archive has a part `..`");
    assert_eq!(link(EntryType::Link, b"/etc/passwd"), "the path /etc/passwd in the archive is absolute");
    let nothing = "the link d/link in the archive is another name of a file that does not come before it";
    for target in [&b"x"[..], b"d/link", b"d", b"."] {
        assert_eq!(link(EntryType::Link, target), nothing);
    }
}

/// One link leads to a folder deep down, a second one climbs from there: each by itself stays inside, both do not.
#[test]
fn a_chain_of_links_that_leaves() {
    let chain =
        archive(&[(EntryType::Symlink, b"a/b/c", b"."), (EntryType::Symlink, b"l", b"a/b/c/../../../x")]);
    let text = "the link l in the archive has a part `..` behind a name: where it leads cannot be told";
    assert_eq!(refusal(&chain), text);
}

/// With the one folder around everything stripped, its parent is outside.
#[test]
fn a_link_to_the_folder_around_the_one_that_is_stripped() {
    let around = |target: &[u8]| {
        archive(&[
            (EntryType::Regular, b"package/package.json", b""),
            (EntryType::Symlink, b"package/up", target),
        ])
    };
    assert_eq!(refusal(&around(b"../x")), "the link package/up in the archive leads out of the project");
    assert_eq!(accepted(&around(b"package.json")).root, "package");
    let loose = archive(&[(EntryType::Regular, b"x", b""), (EntryType::Symlink, b"package/up", b"../x")]);
    assert_eq!(accepted(&loose).root, "");
}

#[test]
fn nothing_is_written_through_a_link() {
    use EntryType::{Directory, Link, Regular, Symlink};
    let through = |second| refusal(&archive(&[(Regular, b"e/x", b""), (Symlink, b"d", b"e"), second]));
    assert_eq!(through((Regular, b"d/x", b"")), "the path d/x in the archive goes through a link");
    assert_eq!(through((Directory, b"d/x/y", b"")), "the path d/x/y in the archive goes through a link");
    assert_eq!(through((Regular, b"d", b"")), "the path d in the archive goes through a link");
    assert_eq!(through((Directory, b"d", b"")), "the path d in the archive goes through a link");
    assert_eq!(through((Link, b"h", b"d")), "the path d in the archive goes through a link");
    assert_eq!(through((Link, b"h", b"d/x")), "the path d/x in the archive goes through a link");
    assert_eq!(through((Symlink, b"d/x/l", b"y")), "the path d/x/l in the archive goes through a link");
    // The folder comes first and is to become a link.
    assert_eq!(
        through((Symlink, b"e", b"x")),
        "the path e in the archive is a folder here and something else there"
    );
}

#[test]
fn a_name_that_is_two_things() {
    use EntryType::{Directory, Regular};
    let clash = "the path a/b in the archive is a folder here and something else there";
    assert_eq!(refusal(&archive(&[(Regular, b"a", b""), (Regular, b"a/b", b"")])), clash);
    assert_eq!(refusal(&archive(&[(Regular, b"a/b/c", b""), (Regular, b"a/b", b"")])), clash);
    assert_eq!(refusal(&archive(&[(Regular, b"a/b", b""), (Directory, b"a/b", b"")])), clash);
}

#[test]
fn devices_and_pipes() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo, EntryType::new(b'V')] {
        let text =
            "the entry dev in the archive is a device, a pipe or of another kind than file, folder or link";
        assert_eq!(refusal(&archive(&[(kind, b"dev", b"")])), text);
    }
}

#[test]
fn limits_on_entries_and_bytes() {
    let limits = Limits { entries: 2, unpacked_bytes: 10, file_bytes: 8, ..Limits::default() };
    let text = |bytes: &[u8]| both(bytes, &limits).unwrap_err().to_string();
    let entry = |name| (EntryType::Directory, name, b"".as_slice());
    let same = [entry(b"d".as_slice()), entry(b"d"), entry(b"d")];
    assert_eq!(text(&archive(&same)), "the archive has more than 2 entries");
    assert_eq!(text(&archive(&[entry(b"a/b/c".as_slice())])), "the archive has more than 2 entries");
    let two = archive(&[(EntryType::Regular, b"a", b""), (EntryType::Regular, b"b", b"")]);
    assert_eq!(text(&two), "the archive unpacks to more than 10 bytes");
    let large = rows(&[(EntryType::Regular, b"a", b"", b"123456789")]);
    assert_eq!(text(&large), "the file a in the archive has more than 8 bytes");
}

#[test]
fn more_than_a_hundred_thousand_entries() {
    let mut tar = Builder::new(Vec::new());
    for i in 0..100_001 {
        raw(&mut tar, EntryType::Regular, format!("{i}").as_bytes(), b"", b"");
    }
    let bytes = gzip(&tar.into_inner().unwrap());
    let error = inspect(bytes.as_slice(), &Limits { ratio: u64::MAX, ..Limits::default() }).unwrap_err();
    assert_eq!(error.to_string(), "the archive has more than 100000 entries");
}

#[test]
fn a_tar_bomb() {
    let zeros = vec![0; 40 << 20];
    let text = "the archive unpacks to more than 200 times its size: a tar bomb";
    assert_eq!(refusal(&rows(&[(EntryType::Regular, b"zeros", b"", &zeros)])), text);
    // Behind the end of the tar, where no entry accounts for it.
    let mut tar = Builder::new(Vec::new());
    raw(&mut tar, EntryType::Regular, b"a", b"", b"content");
    let tar = [tar.into_inner().unwrap(), zeros].concat();
    assert_eq!(refusal(&gzip(&tar)), text);
}

#[test]
fn a_header_that_lies_about_its_size() {
    let lies = |size| {
        let mut header = Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_size(size);
        header.set_cksum();
        refusal(&gzip(&[header.as_bytes().as_slice(), &[0; 4096]].concat()))
    };
    assert_eq!(lies(1 << 40), "the file x in the archive has more than 1073741824 bytes");
    assert_eq!(lies(u64::MAX), "the file x in the archive has more than 1073741824 bytes");
    assert_eq!(lies(5000), "the archive ends too early: it is truncated");
}
