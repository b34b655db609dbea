//! Long names, PAX records and sparse maps: where readers of tars differ, and where malice lives.

use super::*;

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let body = format!(" {key}={value}\n");
        let length = (1..6).map(|d| body.len() + d).find(|n| n.to_string().len() + body.len() == *n).unwrap();
        bytes.extend(format!("{length}{body}").bytes());
    }
    bytes
}

/// A file `x` with these PAX records before it.
fn with_pax(kind: EntryType, records: &[(&str, &str)]) -> Vec<u8> {
    rows(&[(kind, b"pax", b"", &pax(records)), (EntryType::Regular, b"x", b"", b"content")])
}

#[test]
fn long_names_of_both_kinds_are_taken() {
    let long = "d/".repeat(60) + "package.json";
    let gnu = rows(&[
        (EntryType::GNULongName, b"././@LongLink", b"", format!("{long}\0").as_bytes()),
        (EntryType::Regular, b"short", b"", b"content"),
    ]);
    let summary = accepted(&gnu);
    assert_eq!((summary.root.as_str(), summary.entries), ("d", 1));
    assert_eq!(accepted(&with_pax(EntryType::XHeader, &[("mtime", "1.5"), ("path", &long)])).root, "d");
    // A name speaks of the next entry alone.
    let then = rows(&[
        (EntryType::GNULongName, b"././@LongLink", b"", b"first\0"),
        (EntryType::Regular, b"x", b"", b""),
        (EntryType::Regular, b"second", b"", b""),
    ]);
    assert_eq!(accepted(&then).top_level, ["first", "second"]);
}

#[test]
fn long_names_go_by_the_same_rules_as_short_ones() {
    let gnu = |kind, name: &[u8], then| rows(&[(kind, b"././@LongLink", b"", name), then]);
    let file = (EntryType::Regular, b"x".as_slice(), b"".as_slice(), b"content".as_slice());
    let link = (EntryType::Symlink, b"x".as_slice(), b"y".as_slice(), b"".as_slice());
    let name = EntryType::GNULongName;
    assert_eq!(refusal(&gnu(name, b"../x\0", file)), "the path ../x in the archive has a part `..`");
    assert_eq!(
        refusal(&gnu(name, b"a\0b\0", file)),
        "the path a\\0b in the archive is empty or holds a NUL byte"
    );
    let out = "the link x in the archive leads out of the project";
    assert_eq!(refusal(&gnu(EntryType::GNULongLink, b"../x\0", link)), out);
    let pax = |key, value| refusal(&with_pax(EntryType::XHeader, &[(key, value)]));
    assert_eq!(pax("path", "/etc/passwd"), "the path /etc/passwd in the archive is absolute");
    assert_eq!(pax("path", ""), "the path  in the archive is empty or holds a NUL byte");
    let linked = rows(&[(EntryType::XHeader, b"pax", b"", b"17 linkpath=/etc\n"), link]);
    assert_eq!(refusal(&linked), out);
}

#[test]
fn headers_that_contradict_each_other() {
    let text = "the headers of x in the archive contradict each other";
    assert_eq!(refusal(&with_pax(EntryType::XHeader, &[("size", "0")])), text);
    assert_eq!(refusal(&with_pax(EntryType::XHeader, &[("size", "18446744073709551615")])), text);
    accepted(&with_pax(EntryType::XHeader, &[("size", "7")]));
    assert_eq!(refusal(&rows(&[(EntryType::Directory, b"x", b"", b"content")])), text);
    assert_eq!(refusal(&rows(&[(EntryType::Symlink, b"x", b"y", b"content")])), text);
    let global = "the headers of pax in the archive contradict each other";
    assert_eq!(refusal(&with_pax(EntryType::XGlobalHeader, &[("path", "y")])), global);
    accepted(&with_pax(EntryType::XGlobalHeader, &[("comment", "0123456789abcdef")]));
}

#[test]
fn headers_that_are_malformed_or_speak_of_nothing() {
    let damaged = refusal(&with_pax(EntryType::XHeader, &[("size", "seven")]));
    assert_eq!(damaged, "the archive is damaged: a size is not a number");
    let file = (EntryType::Regular, b"x".as_slice(), b"".as_slice(), b"content".as_slice());
    let record = rows(&[(EntryType::XHeader, b"pax", b"", b"99 path=x\n"), file]);
    assert_eq!(refusal(&record), "the archive is damaged: a PAX record is malformed");
    let name = (EntryType::GNULongName, b"n".as_slice(), b"".as_slice(), b"y\0".as_slice());
    let twice = "the archive is damaged: two headers of a kind speak of one entry";
    assert_eq!(refusal(&rows(&[name, name, file])), twice);
    assert_eq!(refusal(&rows(&[file, name])), "the archive ends too early: it is truncated");
}

/// A reader that takes a name into memory as long as it comes would hold a gigabyte here.
#[test]
fn a_name_of_many_megabytes() {
    let name = vec![b'a'; 3 << 20];
    let text = "a header in the archive has more than 1048576 bytes of names and attributes";
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader]
    {
        assert_eq!(refusal(&rows(&[(kind, b"n", b"", &name), (EntryType::Regular, b"x", b"", b"")])), text);
    }
}

#[test]
fn sparse_files_of_both_kinds() {
    let text = "the file x in the archive is sparse: pack it without holes";
    assert_eq!(refusal(&archive(&[(EntryType::GNUSparse, b"x", b"")])), text);
    assert_eq!(refusal(&with_pax(EntryType::XHeader, &[("GNU.sparse.major", "1")])), text);
}

#[test]
fn the_oldest_way_to_name_a_folder() {
    let old =
        rows(&[(EntryType::new(0), b"d/", b"", b""), (EntryType::Regular, b"d/package.json", b"", b"{}")]);
    assert_eq!(accepted(&old).top_level, ["package.json"]);
}
