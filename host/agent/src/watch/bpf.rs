//! The system call filter: which calls pass, which are refused at once, and which the kernel holds for the watcher.
//!
//! A small assembler for classic BPF, because no maintained crate can both notify and stay free of a C library. The
//! program checks the architecture first (another ABI would give the same numbers another meaning), then compares the
//! call's number with each rule. The kernel caches which numbers always pass, so its length costs ordinary calls nothing.

use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Notify,
    Errno(i32),
    Kill,
}

/// A condition on one argument, by its register; pointers cannot be looked through here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum If {
    Always,
    /// The low 32 bits of the argument equal the value.
    Equals(u8, u32),
    /// Any of these bits is set in the low 32 bits.
    AnyBit(u8, u32),
    /// The argument is not zero, in all its 64 bits.
    NotZero(u8),
}

pub(super) struct Rule {
    pub(super) number: i64,
    pub(super) condition: If,
    pub(super) verdict: Verdict,
}

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xC000_00B7;
/// x32 calls come with this bit in their number.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`; both architectures are little endian, so an argument's low half comes first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The first rule whose number and condition match decides; a call that no rule names passes.
pub(super) fn assemble(rules: &[Rule]) -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE), jump(BPF_JEQ, ARCH, 1, 0), ret(Verdict::Kill), load(NUMBER)];
    #[cfg(target_arch = "x86_64")]
    program.extend([jump(BPF_JGE, X32, 0, 1), ret(Verdict::Kill)]);
    for rule in rules {
        let Ok(number) = u32::try_from(rule.number) else { continue };
        let body = body(rule);
        let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
        program.push(jump(BPF_JEQ, number, 0, skip));
        program.extend(body);
    }
    program.push(ret(Verdict::Allow));
    program
}

/// After the number matched. Ends with the number loaded again, for the rules that follow.
fn body(rule: &Rule) -> Vec<sock_filter> {
    let argument = |index: u8, high: bool| load(ARGUMENTS + u32::from(index) * 8 + if high { 4 } else { 0 });
    let end = [ret(rule.verdict), load(NUMBER)];
    let mut body = match rule.condition {
        If::Always => return vec![ret(rule.verdict)],
        If::Equals(index, value) => vec![argument(index, false), jump(BPF_JEQ, value, 0, 1)],
        If::AnyBit(index, bits) => vec![argument(index, false), jump(BPF_JSET, bits, 0, 1)],
        If::NotZero(index) => {
            let all = u32::MAX;
            vec![
                argument(index, false),
                jump(BPF_JSET, all, 2, 0),
                argument(index, true),
                jump(BPF_JSET, all, 0, 1),
            ]
        }
    };
    body.extend(end);
    body
}

fn load(offset: u32) -> sock_filter {
    op(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

fn jump(kind: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    op(BPF_JMP | kind | BPF_K, value, yes, no)
}

fn ret(verdict: Verdict) -> sock_filter {
    let value = match verdict {
        Verdict::Allow => libc::SECCOMP_RET_ALLOW,
        Verdict::Notify => libc::SECCOMP_RET_USER_NOTIF,
        Verdict::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        Verdict::Errno(errno) => libc::SECCOMP_RET_ERRNO | (errno.unsigned_abs() & libc::SECCOMP_RET_DATA),
    };
    op(BPF_RET | BPF_K, value, 0, 0)
}

fn op(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn run(program: &[sock_filter], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = number.to_le_bytes().to_vec();
        data.extend(arch.to_le_bytes());
        data.extend([0; 8]);
        args.iter().for_each(|a| data.extend(a.to_le_bytes()));
        let (mut at, mut acc) = (0, 0u32);
        loop {
            let op = program[at];
            let (code, k) = (u32::from(op.code), op.k);
            at += 1;
            let mut branch = |yes: bool| at += usize::from(if yes { op.jt } else { op.jf });
            if code == BPF_LD | BPF_W | BPF_ABS {
                acc = u32::from_le_bytes(data[k as usize..][..4].try_into().unwrap());
            } else if code == BPF_RET | BPF_K {
                return k;
            } else if code == BPF_JMP | BPF_JEQ | BPF_K {
                branch(acc == k);
            } else if code == BPF_JMP | BPF_JGE | BPF_K {
                branch(acc >= k);
            } else if code == BPF_JMP | BPF_JSET | BPF_K {
                branch(acc & k != 0);
            } else {
                panic!("unknown code {code}");
            }
        }
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let rule = |number, condition, verdict| Rule { number, condition, verdict };
        let program = assemble(&[
            rule(10, If::Equals(0, 4), Verdict::Notify),
            rule(10, If::AnyBit(1, 0b110), Verdict::Errno(1)),
            rule(11, If::NotZero(2), Verdict::Notify),
            rule(13, If::Always, Verdict::Kill),
        ]);
        let go = |number, args| run(&program, ARCH, number, args);
        let (allow, notify) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_USER_NOTIF);
        assert_eq!(go(10, [4, 0, 0, 0, 0, 0]), notify);
        assert_eq!(go(10, [5, 4, 0, 0, 0, 0]), libc::SECCOMP_RET_ERRNO | 1);
        assert_eq!(go(10, [5, 1, 0, 0, 0, 0]), allow);
        assert_eq!(go(11, [0, 0, 1 << 40, 0, 0, 0]), notify);
        assert_eq!(go(11, [9, 9, 0, 0, 0, 0]), allow);
        assert_eq!(go(13, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(go(99, [0; 6]), allow);
        assert_eq!(run(&program, 0x4000_0003, 13, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    }
}
