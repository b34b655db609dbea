//! `lanner doctor`: what this machine has and lacks for scanning, and how to mend it.

use lanner_agent::Health;

use super::Exit;

pub(super) fn run() -> anyhow::Result<Exit> {
    let mut lacking = false;
    for check in lanner_agent::check() {
        println!("{check}");
        lacking |= check.health != Health::Good;
    }
    Ok(if lacking { Exit::NoAnswer } else { Exit::Clean })
}
