//! What processes hold without its being in any folder or in any process's memory: files in memory, and files that
//! were deleted while open.
//!
//! Found through the processes' descriptors, each file counted once. A process that is gone meanwhile holds nothing.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Bytes held, by what they take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) memory: u64,
    pub(super) disk: u64,
}

/// Descriptors looked at in one measurement: as many as all processes may have open is too many to look at.
const MAX_LOOKS: usize = 50_000;

/// `disk` is the device of the package's folders: what is deleted there still fills it, and what is deleted
/// elsewhere, where the package cannot write, is memory.
pub(super) fn held(pids: impl Iterator<Item = i32>, disk: u64) -> Held {
    let (mut held, mut seen) = (Held::default(), HashSet::new());
    let folders = pids.filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok());
    for entry in folders.flatten().flatten().take(MAX_LOOKS) {
        // Through the link, to the file itself.
        let Ok(file) = fs::metadata(entry.path()) else { continue };
        if !file.is_file() || file.nlink() != 0 || !seen.insert((file.dev(), file.ino())) {
            continue;
        }
        let bytes = file.blocks().saturating_mul(512);
        let sum = if file.dev() == disk { &mut held.disk } else { &mut held.memory };
        *sum = sum.saturating_add(bytes);
    }
    held
}

/// Bytes of System V shared memory that no process has attached: then it is in no process's account. Only for an ipc
/// namespace of our own; in another, the segments may be anyone's.
pub(super) fn detached() -> u64 {
    fs::read_to_string("/proc/sysvipc/shm").map_or(0, |table| sum_detached(&table))
}

/// Sums columns of the table by their names; columns were added over time.
fn sum_detached(table: &str) -> u64 {
    let mut lines = table.lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    let column = |name| names.iter().position(|found| *found == name);
    let (Some(attached), Some(resident), Some(swapped)) = (column("nattch"), column("rss"), column("swap"))
    else {
        return 0;
    };
    let of = |line: &str| {
        let number = |at: usize| line.split_ascii_whitespace().nth(at)?.parse::<u64>().ok();
        let bytes = number(resident)?.saturating_add(number(swapped)?);
        (number(attached)? == 0).then_some(bytes)
    };
    lines.filter_map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_segments_without_a_process_are_summed() {
        let table = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      \
                     dtime      ctime                   rss                  swap\n         0          0  1600  4096 1 1      2  0 \
                     0 0 0 0 0 0 4096 0\n         0          1  1600  8192 1 1      0  0 0 0 0 0 0 0 8192 512\n nonsense\n";
        assert_eq!(sum_detached(table), 8704);
        assert_eq!(sum_detached(""), 0);
    }

    #[test]
    fn deleted_files_and_files_in_memory_are_found_once() {
        let own = || [i32::try_from(std::process::id()).unwrap()].into_iter();
        let dir = tempfile::tempdir().unwrap();
        let disk = fs::metadata(dir.path()).unwrap().dev();
        let before = held(own(), disk);
        let mut deleted = tempfile::tempfile_in(dir.path()).unwrap();
        deleted.write_all(&vec![1; 1 << 20]).unwrap();
        deleted.sync_all().unwrap();
        let again = deleted.try_clone().unwrap();
        let name = c"held";
        let mut memory =
            fs::File::from(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        memory.write_all(&vec![1; 2 << 20]).unwrap();
        let now = held(own(), disk);
        assert_eq!(now.disk - before.disk, 1 << 20);
        assert_eq!(now.memory - before.memory, 2 << 20);
        drop((again, memory));
    }
}
