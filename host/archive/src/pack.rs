//! Packs a project folder, as `lanner scan FOLDER` submits it: in a fixed order, without what an installation makes anew.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::ArchiveError;
use crate::error::shown;

/// Left out at any depth: an installation makes the first anew, and the second is history.
const LEFT_OUT: [&str; 2] = ["node_modules", ".git"];

/// Writes `folder` as a gzipped tar. Sockets, pipes and devices are left out; a link that leads out is refused.
pub fn pack(folder: &Path, out: impl Write) -> Result<(), ArchiveError> {
    // Speed over size: the bytes go to this same machine.
    let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::fast()));
    tar.follow_symlinks(false);
    below(&mut tar, folder, Path::new(""))?;
    let mut out = tar.into_inner().and_then(GzEncoder::finish).map_err(ArchiveError::Write)?;
    out.flush().map_err(ArchiveError::Write)
}

fn below<W: Write>(tar: &mut tar::Builder<W>, root: &Path, folder: &Path) -> Result<(), ArchiveError> {
    let read = |e| ArchiveError::Read(e);
    let mut entries: Vec<_> =
        std::fs::read_dir(root.join(folder)).map_err(read)?.collect::<Result<_, _>>().map_err(read)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left| name == *left) {
            continue;
        }
        let path = folder.join(&name);
        let meta = entry.path().symlink_metadata().map_err(read)?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(if meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 });
        header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
        header.set_size(0);
        if meta.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, &path, std::io::empty()).map_err(ArchiveError::Write)?;
            below(tar, root, &path)?;
        } else if meta.is_symlink() {
            let target = std::fs::read_link(entry.path()).map_err(read)?;
            if leads_out(&path, &target) {
                return Err(ArchiveError::PackLinkOut(shown(path.as_os_str().as_encoded_bytes())));
            }
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, &path, &target).map_err(ArchiveError::Write)?;
        } else if meta.is_file() {
            let file = std::fs::File::open(entry.path()).map_err(read)?;
            header.set_size(meta.len());
            // A file that grows meanwhile is cut at the size that was announced; one that shrinks is an error.
            tar.append_data(&mut header, &path, std::io::Read::take(file, meta.len())).map_err(ArchiveError::Write)?;
        }
    }
    Ok(())
}

fn leads_out(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}
