//! Isolation by namespaces, seen from inside.

use lanner_proto::agent::Isolation;

use crate::host::{By, Scan, everyone, put};

fn inside(by: By, script: &str) -> String {
    Scan::new(Isolation::Namespaces, by).phase("look", script).run().output("look")
}

#[test]
fn a_phase_runs_as_an_ordinary_user_in_its_project() {
    for by in everyone() {
        let output = inside(by, "id; pwd; hostname; echo $HOME $USER $HOSTNAME; echo $$");
        let lines: Vec<_> = output.lines().collect();
        assert!(lines[0].starts_with("uid=1000(alex) gid=1000(alex)"), "{output}");
        assert!(lines[1].starts_with("/home/alex/"), "{output}");
        assert_eq!(lines[2..4], ["dev-17", "/home/alex alex dev-17"], "{output}");
        assert!(lines[4].parse::<u32>().unwrap() < 50, "a pid space of its own: {output}");
    }
}
