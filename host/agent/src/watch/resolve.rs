//! Finds the file that a caller means by a path, and opens it for the caller.
//!
//! The watcher is another process, so what depends on who asks is translated: the working directory, descriptors,
//! `/proc/self`. The rule is: first a path without any symbolic link, then the kernel is told to open exactly that path
//! and to follow none. So the path that is reported is the file that was opened, whatever is renamed meanwhile.
//!
//! The watcher opens with its own rights, which are the package's own (same user, same Landlock rules). What only the
//! watcher may touch are its own and the supervisor's entries in `/proc`: those are refused by name.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

const MAX_LINKS: usize = 40;
/// Times that a path may change under us before we give up.
const RETRIES: usize = 4;
pub(super) const PATH_MAX: usize = 4096;

/// The processes whose entries in `/proc` no package may open.
#[derive(Clone, Debug)]
pub(super) struct Guarded {
    pub(super) pids: Vec<i32>,
}

/// Who asks, from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) tid: i32,
    pub(super) pid: i32,
    /// The descriptor that a relative path starts at, or `AT_FDCWD`.
    pub(super) dirfd: i32,
}

#[derive(Debug)]
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    /// Absolute, without links.
    pub(super) path: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// What the kernel would have answered; the path as far as it is known.
    Errno(i32, Vec<u8>),
    /// An entry of ours in `/proc`, or a path that changed each time we looked.
    Attack(Vec<u8>),
}

/// Opens for the caller. `flags` are open(2)'s without `O_CLOEXEC`; the umask has been applied to `mode`.
pub(super) fn open(
    caller: Caller,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    guarded: &Guarded,
) -> Result<Opened, OpenError> {
    let errno = |e: Errno| OpenError::Errno(e.raw_os_error(), path.to_vec());
    if path.is_empty() {
        return Err(errno(Errno::NOENT));
    }
    let base = base(caller, path).map_err(errno)?;
    let flags = flags | OFlags::CLOEXEC;
    // Nine of ten paths hold no link: one call, and the text is the truth.
    if !near_proc(path, base.as_ref()) {
        let opened = match &base {
            Some(dir) => rustix::fs::openat2(dir, path, flags, mode, NO_LINKS),
            None => rustix::fs::openat2(CWD, path, flags, mode, NO_LINKS),
        };
        match opened {
            Ok(fd) => {
                let path = match base {
                    None => normal(path),
                    Some(_) => text_of(&fd).map_err(errno)?,
                };
                // A relative path may climb up and go down into `/proc`.
                if guarded.guards(&path) {
                    return Err(OpenError::Attack(path));
                }
                return Ok(Opened { fd, path });
            }
            Err(Errno::LOOP) => {}
            Err(error) => return Err(OpenError::Errno(error.raw_os_error(), absolute(base.as_ref(), path))),
        }
    }
    slowly(caller, base.as_ref(), path, flags, mode, guarded)
}

const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

fn slowly(
    caller: Caller,
    base: Option<&OwnedFd>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    guarded: &Guarded,
) -> Result<Opened, OpenError> {
    // A slash at the end says that it must be a folder, and follows a last link whatever the flags say.
    let wants_folder = path.ends_with(b"/") || path.ends_with(b"/.");
    for _ in 0..RETRIES {
        let start = absolute(base, path);
        let follow_last = wants_folder || !flags.contains(OFlags::NOFOLLOW);
        let resolved = match resolve(caller, &start, follow_last) {
            Ok(resolved) => resolved,
            Err(error) => return Err(OpenError::Errno(error.raw_os_error(), start)),
        };
        let slash: &[u8] = if wants_folder { b"/" } else { b"" };
        let (at, magic) = match resolved {
            Resolved::Path(path) => ([path.as_slice(), slash].concat(), None),
            Resolved::Magic { folder, entry } => (folder, Some([entry.as_slice(), slash].concat())),
        };
        let (at, magic) = (&at, magic.as_ref());
        if guarded.guards(at) {
            return Err(OpenError::Attack(at.clone()));
        }
        let opened = match magic {
            None => rustix::fs::openat2(CWD, at.as_slice(), flags, mode, NO_LINKS),
            // The folder is certain; its entry leads to a file that the process has open already.
            Some(entry) => rustix::fs::openat2(
                CWD,
                at.as_slice(),
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                NO_LINKS,
            )
            .and_then(|folder| rustix::fs::openat(folder, entry.as_slice(), flags, mode)),
        };
        match opened {
            Ok(fd) => {
                let path = text_of(&fd).unwrap_or_else(|_| at.clone());
                if guarded.guards(&path) {
                    return Err(OpenError::Attack(path));
                }
                return Ok(Opened { fd, path });
            }
            Err(Errno::LOOP) if follow_last => {}
            Err(error) => return Err(OpenError::Errno(error.raw_os_error(), at.clone())),
        }
    }
    Err(OpenError::Attack(absolute(base, path)))
}

/// The absolute path, without links, that a caller means; nothing is opened. For calls that are only reported.
pub(super) fn locate(caller: Caller, path: &[u8], follow_last: bool) -> Vec<u8> {
    let Ok(base) = base(caller, path) else { return path.to_vec() };
    let start = absolute(base.as_ref(), path);
    match resolve(caller, &start, follow_last) {
        Ok(Resolved::Path(path)) => path,
        Ok(Resolved::Magic { folder, entry }) => [folder.as_slice(), b"/", entry.as_slice()].concat(),
        Err(_) => start,
    }
}

/// What a descriptor of the caller refers to, as the kernel names it: a path, `socket:[…]`, `pipe:[…]`.
pub(super) fn descriptor(tid: i32, fd: i32) -> Option<Vec<u8>> {
    rustix::fs::readlink(format!("/proc/{tid}/fd/{fd}"), Vec::new()).ok().map(std::ffi::CString::into_bytes)
}

/// Where a relative path starts; nothing for an absolute one, since no package can have another root.
fn base(caller: Caller, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    if path.first() == Some(&b'/') {
        return Ok(None);
    }
    let link = match caller.dirfd {
        libc::AT_FDCWD => format!("/proc/{}/cwd", caller.tid),
        fd if fd >= 0 => format!("/proc/{}/fd/{fd}", caller.tid),
        _ => return Err(Errno::BADF),
    };
    let opened = rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    opened.map(Some).map_err(|e| if e == Errno::NOENT { Errno::BADF } else { e })
}

/// `/proc` means something else to each process, so nothing in it takes the short way.
fn near_proc(path: &[u8], base: Option<&OwnedFd>) -> bool {
    match base {
        None => is_below(&normal(path), b"/proc"),
        Some(base) => {
            text_of(base).map_or(true, |t| is_below(&t, b"/proc") || (t == b"/" && contains_proc(path)))
        }
    }
}

fn contains_proc(path: &[u8]) -> bool {
    path.windows(4).any(|w| w == b"proc")
}

fn text_of(fd: impl AsFd) -> Result<Vec<u8>, Errno> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    rustix::fs::readlink(link, Vec::new()).map(std::ffi::CString::into_bytes)
}

fn absolute(base: Option<&OwnedFd>, path: &[u8]) -> Vec<u8> {
    match base.map(text_of) {
        Some(Ok(base)) => normal_keeping_dots(&[base.as_slice(), b"/", path].concat()),
        _ => path.to_vec(),
    }
}

fn normal_keeping_dots(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".") {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if out.is_empty() { b"/".to_vec() } else { out }
}

/// An absolute path without empty parts, `.` and `..`. True only of a path without links.
pub(super) fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".") {
        if part == b".." { _ = parts.pop() } else { parts.push(part) }
    }
    joined(&parts)
}

fn joined(parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.push(b'/');
        out.extend_from_slice(part.as_ref());
    }
    if out.is_empty() { b"/".to_vec() } else { out }
}

pub(super) fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
}

#[derive(Debug, PartialEq, Eq)]
enum Resolved {
    Path(Vec<u8>),
    /// The last part is a link that only the kernel can follow: `/proc/7/fd` and `3`.
    Magic {
        folder: Vec<u8>,
        entry: Vec<u8>,
    },
}

fn resolve(caller: Caller, path: &[u8], follow_last: bool) -> Result<Resolved, Errno> {
    let readlink = |path: &[u8]| match rustix::fs::readlink(path, Vec::new()) {
        Ok(target) => Ok(Some(target.into_bytes())),
        // Not a link, or not there: the open itself will say what it is.
        Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    };
    walk(caller, path, follow_last, readlink)
}

/// Follows links part by part, as text. `readlink` answers nothing for what is no link.
fn walk(
    caller: Caller,
    path: &[u8],
    follow_last: bool,
    readlink: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, Errno>,
) -> Result<Resolved, Errno> {
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut todo = reversed(path);
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == b".." {
            done.pop();
            continue;
        }
        done.push(part);
        let here = joined(&done);
        if here.len() > PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        if let Some(own) = of_caller(&here, caller) {
            done = split(&own);
            continue;
        }
        let last = todo.is_empty();
        if last && !follow_last {
            break;
        }
        let Some(target) = readlink(&here)? else { continue };
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let entry = done.pop().unwrap_or_default();
        if is_magic(&here) && (last || target.first() != Some(&b'/')) {
            return Ok(Resolved::Magic { folder: joined(&done), entry });
        }
        if target.first() == Some(&b'/') {
            done.clear();
        }
        todo.extend(reversed(&target));
    }
    Ok(Resolved::Path(joined(&done)))
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").map(<[u8]>::to_vec).collect()
}

fn reversed(path: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = split(path);
    parts.reverse();
    parts
}

/// What `/proc/self` and `/proc/thread-self` are to the caller.
fn of_caller(path: &[u8], caller: Caller) -> Option<Vec<u8>> {
    match path {
        b"/proc/self" => Some(format!("/proc/{}", caller.pid).into_bytes()),
        b"/proc/thread-self" => Some(format!("/proc/{}/task/{}", caller.pid, caller.tid).into_bytes()),
        _ => None,
    }
}

/// `/proc/7/fd/3`, `/proc/7/task/8/cwd`, …: links that do not lead where their text says.
fn is_magic(path: &[u8]) -> bool {
    let parts = split(path);
    let mut rest = match parts.split_first() {
        Some((first, rest)) if first == b"proc" => rest.iter(),
        _ => return false,
    };
    let is_pid = |p: Option<&Vec<u8>>| p.is_some_and(|p| !p.is_empty() && p.iter().all(u8::is_ascii_digit));
    if !is_pid(rest.next()) {
        return false;
    }
    let mut part = rest.next();
    if part.is_some_and(|p| p == b"task") {
        rest.next();
        part = rest.next();
    }
    matches!(part.map(Vec::as_slice), Some(b"cwd" | b"root" | b"exe" | b"fd" | b"map_files" | b"ns"))
}

impl Guarded {
    fn guards(&self, path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(b"/proc/") else { return false };
        let first = rest.split(|b| *b == b'/').next().unwrap_or_default();
        let pid = std::str::from_utf8(first).ok().and_then(|t| t.parse::<i32>().ok());
        // Threads have folders of their own beside their process's.
        pid.is_some_and(|pid| {
            self.pids.contains(&pid)
                || self
                    .pids
                    .iter()
                    .any(|own| std::fs::exists(format!("/proc/{own}/task/{pid}")).unwrap_or(false))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const CALLER: Caller = Caller { tid: 8, pid: 7, dirfd: libc::AT_FDCWD };

    fn walked(links: &[(&str, &str)], path: &str, follow_last: bool) -> Result<Resolved, Errno> {
        let links: HashMap<_, _> =
            links.iter().map(|(a, b)| (a.as_bytes().to_vec(), b.as_bytes().to_vec())).collect();
        walk(CALLER, path.as_bytes(), follow_last, |p| Ok(links.get(p).cloned()))
    }

    fn path(text: &str) -> Result<Resolved, Errno> {
        Ok(Resolved::Path(text.as_bytes().to_vec()))
    }

    #[test]
    fn links_are_followed_as_text() {
        let links = [("/lib64", "usr/lib64"), ("/home/a/x", "../b"), ("/etc/l", "/proc/self/status")];
        assert_eq!(walked(&links, "/lib64/ld.so", true), path("/usr/lib64/ld.so"));
        assert_eq!(walked(&links, "/home/a/x/../c", true), path("/home/c"));
        assert_eq!(walked(&links, "/etc/l", true), path("/proc/7/status"));
        assert_eq!(walked(&links, "/etc/l", false), path("/etc/l"));
        assert_eq!(walked(&links, "/proc/thread-self/attr", true), path("/proc/7/task/8/attr"));
        assert_eq!(walked(&links, "/../../proc/self", true), path("/proc/7"));
    }

    #[test]
    fn magic_links_are_left_to_the_kernel_and_loops_end() {
        let links = [
            ("/proc/7/fd/3", "pipe:[1]"),
            ("/proc/7/cwd", "/home"),
            ("/a", "/b"),
            ("/b", "/a"),
            ("/dev/fd", "/proc/self/fd"),
        ];
        let magic =
            |folder: &str, entry: &str| Ok(Resolved::Magic { folder: folder.into(), entry: entry.into() });
        assert_eq!(walked(&links, "/dev/fd/3", true), magic("/proc/7/fd", "3"));
        assert_eq!(walked(&links, "/proc/self/cwd", true), magic("/proc/7", "cwd"));
        assert_eq!(walked(&links, "/proc/self/cwd/x", true), path("/home/x"));
        assert_eq!(walked(&links, "/a", true), Err(Errno::LOOP));
    }

    #[test]
    fn our_own_entries_are_guarded_under_any_name() {
        let own = i32::try_from(std::process::id()).unwrap();
        let guarded = Guarded { pids: vec![own] };
        assert!(guarded.guards(format!("/proc/{own}/mem").as_bytes()));
        assert!(guarded.guards(format!("/proc/{own}").as_bytes()));
        assert!(!guarded.guards(b"/proc/meminfo") && !guarded.guards(b"/home/x"));
        let me = Caller { tid: own, pid: own, dirfd: libc::AT_FDCWD };
        let refused = open(me, b"/proc/self/mem", OFlags::RDONLY, Mode::empty(), &guarded);
        assert!(matches!(refused, Err(OpenError::Attack(_))), "{refused:?}");
    }

    #[test]
    fn the_opened_file_is_the_reported_one() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("real");
        std::fs::write(&real, "x").unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let caller = Caller { tid: me, pid: me, dirfd: libc::AT_FDCWD };
        let none = Guarded { pids: vec![] };
        let link = folder.path().join("link");
        let bytes = link.as_os_str().as_encoded_bytes();
        let opened = open(caller, bytes, OFlags::RDONLY, Mode::empty(), &none).unwrap();
        assert_eq!(opened.path, real.as_os_str().as_encoded_bytes());
        let nofollow = open(caller, bytes, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty(), &none);
        assert!(matches!(nofollow, Err(OpenError::Errno(libc::ELOOP, _))), "{nofollow:?}");
        let missing = open(caller, b"/no/such/file", OFlags::RDONLY, Mode::empty(), &none).unwrap_err();
        assert_eq!(missing, OpenError::Errno(libc::ENOENT, b"/no/such/file".to_vec()));
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_root_or_hangs(parts in prop::collection::vec("(\\.\\.|\\.|[a-c]|)", 0..12), target in "[/.a-c]{0,8}") {
            let path = parts.join("/");
            let result = walk(CALLER, path.as_bytes(), true, |p| Ok(p.ends_with(b"/a").then(|| target.clone().into_bytes())));
            if let Ok(Resolved::Path(path)) = result {
                prop_assert!(path.first() == Some(&b'/'));
                prop_assert!(!split(&path).iter().any(|p| p == b".."));
            }
        }
    }
}
