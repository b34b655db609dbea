//! Which system calls are watched and which are refused, as one table.

use lanner_core::Isolation;

use super::bpf::{If, Rule, Verdict};

/// Calls that do something to the process named by their first argument.
pub(super) const TAKING_A_PID: [i64; 8] = [
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_pidfd_open,
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
];
/// Creating any namespace; a package has no business with them, and a user namespace would give it capabilities.
const NEW_NAMESPACES: u32 = 0x7E02_0080;
const MSG_FASTOPEN: u32 = 0x2000_0000;
/// TIOCSTI: types on somebody else's terminal.
const TERMINAL_INPUT_IOCTL: u32 = 0x5412;

/// Moves what `/proc` takes for the arguments and the stack: they tell us what a process was started as.
const PR_SET_MM: u32 = 35;
const PERSONALITY_QUERY: u32 = u32::MAX;
const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;

const F_SETLEASE: u32 = 1024;
const F_SETDELEG: u32 = 1040;

/// The filter for processes below a watcher; `ours` are the pids that no package may signal.
pub(super) fn rules(ours: &[i32], isolation: Isolation) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut add = |number: i64, condition, verdict| rules.push(Rule { number, condition, verdict });
    for number in always_watched() {
        add(number, If::Always, Verdict::Notify);
    }
    // Only what names an address; a connected socket's data is not watched. Fast open would connect on the side.
    for (number, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        add(number, If::AnyBit(flags, MSG_FASTOPEN), Verdict::Errno(libc::EOPNOTSUPP));
    }
    add(libc::SYS_sendto, If::NotZero(4), Verdict::Notify);
    add(libc::SYS_sendmsg, If::Always, Verdict::Notify);
    add(libc::SYS_sendmmsg, If::Always, Verdict::Notify);
    // A process that cannot be dumped cannot be read by us.
    add(libc::SYS_prctl, If::Equals(0, 4), Verdict::Notify);
    add(libc::SYS_prctl, If::Equals(0, PR_SET_MM), Verdict::Errno(libc::EPERM));
    // That a program was started is told by its stack being elsewhere.
    add(libc::SYS_personality, If::Equals(0, PERSONALITY_QUERY), Verdict::Allow);
    add(libc::SYS_personality, If::AnyBit(0, ADDR_NO_RANDOMIZE), Verdict::Errno(libc::EPERM));
    if isolation == Isolation::Container {
        // Either end could send to any socket of the container.
        for kind in [libc::SOCK_DGRAM, libc::SOCK_RAW] {
            for flags in
                [0, libc::SOCK_CLOEXEC, libc::SOCK_NONBLOCK, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK]
            {
                let kind = If::Equals(1, (kind | flags).cast_unsigned());
                add(libc::SYS_socketpair, kind, Verdict::Errno(libc::EPERM));
            }
        }
    }
    for &pid in ours {
        let pid = pid.unsigned_abs();
        for number in TAKING_A_PID {
            add(number, If::Equals(0, pid), Verdict::Notify);
        }
    }
    // Whoever opens a leased file waits for its holder's grace: that would be us.
    for lease in [F_SETLEASE, F_SETDELEG] {
        add(libc::SYS_fcntl, If::Equals(1, lease), Verdict::Errno(libc::EPERM));
    }
    add(libc::SYS_clone, If::AnyBit(0, NEW_NAMESPACES), Verdict::Errno(libc::EPERM));
    add(libc::SYS_unshare, If::AnyBit(0, NEW_NAMESPACES), Verdict::Errno(libc::EPERM));
    // Its flags lie behind a pointer; without it the C libraries use clone.
    add(libc::SYS_clone3, If::Always, Verdict::Errno(libc::ENOSYS));
    add(libc::SYS_ioctl, If::Equals(1, TERMINAL_INPUT_IOCTL), Verdict::Errno(libc::EPERM));
    for number in absent() {
        add(number, If::Always, Verdict::Errno(libc::ENOSYS));
    }
    for number in refused() {
        add(number, If::Always, Verdict::Errno(libc::EPERM));
    }
    rules
}

fn always_watched() -> Vec<i64> {
    let mut numbers = vec![
        // Opens come first: they are nine of ten.
        libc::SYS_openat,
        libc::SYS_execve,
        libc::SYS_openat2,
        libc::SYS_execveat,
        libc::SYS_connect,
        libc::SYS_socket,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_unlinkat,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        SYS_FCHMODAT2,
        libc::SYS_mknodat,
        libc::SYS_memfd_create,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setreuid,
        libc::SYS_setregid,
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_setfsuid,
        libc::SYS_setfsgid,
    ];
    #[cfg(target_arch = "x86_64")]
    numbers.extend([
        libc::SYS_open,
        libc::SYS_creat,
        libc::SYS_unlink,
        libc::SYS_rmdir,
        libc::SYS_rename,
        libc::SYS_link,
        libc::SYS_symlink,
        libc::SYS_chmod,
        libc::SYS_mknod,
    ]);
    numbers
}

pub(super) const SYS_FCHMODAT2: i64 = 452;

/// As if the kernel had never had them: programs then do it the ordinary way.
fn absent() -> Vec<i64> {
    vec![
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_userfaultfd,
        libc::SYS_open_by_handle_at,
    ]
}

/// No installation needs them.
fn refused() -> Vec<i64> {
    vec![
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_fsopen,
        libc::SYS_fsmount,
        libc::SYS_fsconfig,
        libc::SYS_fspick,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_mount_setattr,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_kexec_load,
        libc::SYS_kexec_file_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_seccomp,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_reboot,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_syslog,
        libc::SYS_kcmp,
    ]
}

/// Falco's name of a call.
pub(super) fn name(number: i64) -> &'static str {
    #[cfg(target_arch = "x86_64")]
    match number {
        libc::SYS_open => return "open",
        libc::SYS_creat => return "creat",
        libc::SYS_unlink => return "unlink",
        libc::SYS_rmdir => return "rmdir",
        libc::SYS_rename => return "rename",
        libc::SYS_link => return "link",
        libc::SYS_symlink => return "symlink",
        libc::SYS_chmod => return "chmod",
        libc::SYS_mknod => return "mknod",
        _ => {}
    }
    match number {
        libc::SYS_openat => "openat",
        libc::SYS_openat2 => "openat2",
        libc::SYS_execve => "execve",
        libc::SYS_execveat => "execveat",
        libc::SYS_connect => "connect",
        libc::SYS_socket => "socket",
        libc::SYS_bind => "bind",
        libc::SYS_listen => "listen",
        libc::SYS_sendto => "sendto",
        libc::SYS_sendmsg => "sendmsg",
        libc::SYS_sendmmsg => "sendmmsg",
        libc::SYS_unlinkat => "unlinkat",
        libc::SYS_renameat => "renameat",
        libc::SYS_renameat2 => "renameat2",
        libc::SYS_linkat => "linkat",
        libc::SYS_symlinkat => "symlinkat",
        libc::SYS_fchmod => "fchmod",
        libc::SYS_fchmodat | SYS_FCHMODAT2 => "fchmodat",
        libc::SYS_mknodat => "mknodat",
        libc::SYS_memfd_create => "memfd_create",
        libc::SYS_ptrace => "ptrace",
        libc::SYS_process_vm_readv => "process_vm_readv",
        libc::SYS_process_vm_writev => "process_vm_writev",
        libc::SYS_pidfd_getfd => "pidfd_getfd",
        libc::SYS_setuid => "setuid",
        libc::SYS_setgid => "setgid",
        libc::SYS_setreuid => "setreuid",
        libc::SYS_setregid => "setregid",
        libc::SYS_setresuid => "setresuid",
        libc::SYS_setresgid => "setresgid",
        libc::SYS_setfsuid => "setfsuid",
        libc::SYS_setfsgid => "setfsgid",
        libc::SYS_prctl => "prctl",
        number if TAKING_A_PID.contains(&number) => "watcher_attacked",
        _ => "unknown",
    }
}
