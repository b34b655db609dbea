//! Many scans as Jobs at the same time, on a control plane without nodes: `lanner-bench kube_jobs` with few, so that it is known to
//! work before somebody measures with thousands.

use std::process::Command;

use lanner_tests::{run, skipped};

const JOBS: &str = "100";

#[test]
fn a_hundred_jobs_at_once_take_two_watches_and_few_calls() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_lanner-bench"));
    let output = run(bench.arg("kube_jobs").env("LANNER_JOBS", JOBS).env("LANNER_PODS", "50")).unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (figures, why) = (said(&output.stdout), said(&output.stderr));
    print!("{figures}");
    assert!(output.status.success(), "{why}");
    if figures.contains("bench kube_jobs skipped") {
        return skipped("a_hundred_jobs_at_once_take_two_watches_and_few_calls", &why);
    }
    assert!(figures.contains(&format!("bench kube_jobs jobs={JOBS} finished={JOBS} ")), "{figures}");
}
