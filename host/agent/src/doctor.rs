//! What this machine can do for a scan, and how to mend what it cannot.
//!
//! Each check tries the thing itself where that is possible: a setting that looks right may still be overruled.

use std::fmt;
use std::fs;

use crate::sandbox::{LEAST_ABI, abi, namespaces};

/// The sensor needs `SECCOMP_ADDFD_FLAG_SEND` (5.14) and `WAIT_KILLABLE_RECV` (5.19).
const LEAST_KERNEL: (u32, u32) = (5, 19);
/// From here on the sensor's calls are several times cheaper: `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`.
const FAST_KERNEL: (u32, u32) = (6, 6);

/// One thing that a scan needs or profits from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `namespaces`.
    pub name: &'static str,
    pub health: Health,
    /// What was found.
    pub found: String,
    /// How to mend it; empty when there is nothing to mend.
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    /// Scans run, with less.
    Weak,
    /// Scans of some kind cannot run.
    Missing,
}

/// Looks at this machine. To be called before the process has any other thread: it tries namespaces in a child.
pub fn check() -> Vec<Check> {
    vec![kernel(), seccomp(), landlock(), namespaces()]
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let health = match self.health {
            Health::Good => "ok",
            Health::Weak => "weak",
            Health::Missing => "MISSING",
        };
        write!(f, "{}: {health}, {}", self.name, self.found)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n  {}", self.remedy) }
    }
}

/// Whether the kernel wakes the watcher on the waiting process's own processor.
pub(crate) fn has_sync_wake_up() -> bool {
    release().is_some_and(|release| release >= FAST_KERNEL)
}

fn kernel() -> Check {
    let text = rustix::system::uname().release().to_string_lossy().into_owned();
    let found = format!("Linux {}", lanner_core::text::escaped(&text));
    let (health, remedy) = match release() {
        Some(release) if release >= FAST_KERNEL => (Health::Good, ""),
        Some(release) if release >= LEAST_KERNEL => {
            (Health::Weak, "watching is several times cheaper on Linux 6.6 or later")
        }
        _ => (Health::Missing, "use Linux 5.19 or later; 6.6 or later is better"),
    };
    Check { name: "kernel", health, found, remedy: remedy.to_owned() }
}

fn seccomp() -> Check {
    let name = "seccomp user notification";
    if knows_notification() {
        return Check { name, health: Health::Good, found: "available".into(), remedy: String::new() };
    }
    let remedy = "use a kernel built with CONFIG_SECCOMP_FILTER, and in a container a seccomp profile that allows \
                  seccomp(2), as the runtimes' default profile does";
    Check {
        name,
        health: Health::Missing,
        found: "the kernel or a filter refuses it".into(),
        remedy: remedy.into(),
    }
}

fn landlock() -> Check {
    let abi = abi();
    let (health, remedy) = match abi {
        0..LEAST_ABI => (
            Health::Missing,
            "scans run in namespaces only: for --isolation container use Linux 5.19 or later with `landlock` in the \
             kernel's lsm= list (see /sys/kernel/security/lsm)",
        ),
        LEAST_ABI..6 => {
            (Health::Weak, "Linux 6.12 or later also keeps a package from signalling the agent (ABI 6)")
        }
        _ => (Health::Good, ""),
    };
    let found = if abi == 0 { "not available".into() } else { format!("ABI {abi}") };
    Check { name: "Landlock", health, found, remedy: remedy.to_owned() }
}

fn namespaces() -> Check {
    let name = "namespaces";
    match namespaces::possible() {
        Ok(()) => Check { name, health: Health::Good, found: "available".into(), remedy: String::new() },
        Err(error) => {
            let found = crate::guard::sentence(&error);
            Check { name, health: Health::Missing, found, remedy: namespaces_remedy(&Settings::read()) }
        }
    }
}

/// The settings that forbid namespaces to ordinary users, as this machine has them.
#[derive(Clone, Debug, Default)]
struct Settings {
    /// Debian's own switch.
    clone: Option<String>,
    maximum: Option<String>,
    /// Ubuntu's, since 23.10.
    apparmor: Option<String>,
}

impl Settings {
    fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        Self {
            clone: read("/proc/sys/kernel/unprivileged_userns_clone"),
            maximum: read("/proc/sys/user/max_user_namespaces"),
            apparmor: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        }
    }
}

fn namespaces_remedy(settings: &Settings) -> String {
    let is = |value: &Option<String>, text: &str| value.as_deref() == Some(text);
    if is(&settings.clone, "0") {
        return "allow them with: sudo sysctl -w kernel.unprivileged_userns_clone=1".into();
    }
    if is(&settings.maximum, "0") {
        return "allow them with: sudo sysctl -w user.max_user_namespaces=15000".into();
    }
    if is(&settings.apparmor, "1") {
        return "AppArmor restricts them: give lanner a profile, /etc/apparmor.d/lanner with the text `abi <abi/4.0>, \
                include <tunables/global> profile lanner /path/to/lanner flags=(unconfined) { userns, }`, and load it \
                with sudo apparmor_parser -r /etc/apparmor.d/lanner; or allow them to all programs with: sudo sysctl \
                -w kernel.apparmor_restrict_unprivileged_userns=0"
            .into();
    }
    "this looks like a container: start it with a seccomp profile that allows user namespaces, or scan with \
     --isolation container"
        .into()
}

/// Asks for the sizes of the notification's structures, which only a kernel with notifications answers.
fn knows_notification() -> bool {
    const GET_NOTIF_SIZES: libc::c_uint = 3;
    let mut sizes = [0_u16; 3];
    // SAFETY: the call writes a `struct seccomp_notif_sizes`, three 16-bit numbers, to where the pointer points.
    unsafe { libc::syscall(libc::SYS_seccomp, GET_NOTIF_SIZES, 0, sizes.as_mut_ptr()) == 0 }
}

fn release() -> Option<(u32, u32)> {
    parse_release(rustix::system::uname().release().to_str().ok()?)
}

/// Major and minor of `6.8.0-45-generic`.
fn parse_release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(parse_release("6.8.0-45-generic"), Some((6, 8)));
        assert_eq!(parse_release("5.19-rc1"), Some((5, 19)));
        assert_eq!(parse_release("linux"), None);
        assert!(parse_release("6.10.1").unwrap() > FAST_KERNEL);
    }

    #[test]
    fn each_switch_that_forbids_namespaces_has_its_own_remedy() {
        let off = |text: &str| Some(text.to_owned());
        let debian = Settings { clone: off("0"), ..Settings::default() };
        assert!(namespaces_remedy(&debian).contains("kernel.unprivileged_userns_clone=1"));
        let maximum = Settings { clone: off("1"), maximum: off("0"), ..Settings::default() };
        assert!(namespaces_remedy(&maximum).contains("user.max_user_namespaces=15000"));
        let ubuntu = Settings { apparmor: off("1"), ..Settings::default() };
        assert!(namespaces_remedy(&ubuntu).contains("/etc/apparmor.d/lanner"));
        assert!(namespaces_remedy(&Settings::default()).contains("--isolation container"));
    }
}
