//! The baseline filter: suppresses what native builds and known installers legitimately do, each with its reason.
//!
//! It is conservative: what touches credentials, the network beyond the allowed registry, persistence or the watcher
//! itself is never suppressed, whoever does it.

/// The words of the world, for those who call the logic natively.
pub use shared_filter::{Priority, api};

use api::{Action, Batch, Decision, Description, Guest};
use shared_filter::{AlertView, ProcessView};

/// The component.
pub struct Baseline;

impl Guest for Baseline {
    fn evaluate(batch: Batch, _settings: String) -> Vec<Decision> {
        evaluate(&batch)
    }

    fn describe() -> Description {
        Description {
            name: "baseline".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            author: "the Lanner authors".into(),
            summary: "suppresses what native builds and known installers do".into(),
            settings_schema: String::new(),
        }
    }

    fn validate_settings(settings: String) -> Result<(), String> {
        match serde_json::from_str::<serde_json::Value>(&settings) {
            Ok(serde_json::Value::Object(map)) if map.is_empty() => Ok(()),
            Ok(_) => Err("the baseline filter has no settings: give {}".into()),
            Err(_) => Err("the settings are not JSON".into()),
        }
    }
}

// The names of the exports have colons in them, which no linker of native libraries takes.
#[cfg(target_arch = "wasm32")]
shared_filter::bindings::export!(Baseline);

/// The filter's whole logic.
pub fn evaluate(batch: &Batch) -> Vec<Decision> {
    batch.views().map(decide).collect()
}

fn decide(view: AlertView<'_>) -> Decision {
    let (action, reason) = match reason(view) {
        Some(reason) => (Action::Suppress, reason.to_owned()),
        None => (Action::Keep, String::new()),
    };
    Decision { id: view.alert.id, action, pin: false, reason, tags: Vec::new() }
}

/// What each rule of ours means when a build or a known installer sets it off. A rule that is not here is never
/// suppressed: credentials, networks, persistence, the watcher.
fn reason(view: AlertView<'_>) -> Option<&'static str> {
    let mut line = view.ancestry();
    match view.rule() {
        "File in memory" => line
            .next()
            .is_some_and(|p| of_machine(p.exe(), &["node"]))
            .then_some("Node.js keeps code that it compiled in files without a name"),
        "Look at the machine" => line
            .any(|p| of_machine(p.exe(), &["make", "gmake", "ninja", "cmake"]) || runs_configure(p))
            .then_some("a build asks what machine it builds for"),
        "Write to the home folder" => field(view, "fd.name")
            .is_some_and(|path| is_cache_of_a_build(&path))
            .then_some("a build tool's own cache"),
        _ => None,
    }
}

/// One of these programs, from the machine's own folders, which a package cannot write.
fn of_machine(exe: &str, names: &[&str]) -> bool {
    let (folder, name) = exe.rsplit_once('/').unwrap_or_default();
    let own = ["/usr/", "/bin", "/opt/"].iter().any(|of| folder.starts_with(of));
    own && !folder.contains("/home/") && names.contains(&name)
}

/// `sh ./configure …`, as the shell of the machine runs it.
fn runs_configure(process: ProcessView<'_>) -> bool {
    let script = process.cmdline().split_whitespace().nth(1).unwrap_or_default();
    of_machine(process.exe(), &["sh", "dash", "bash"]) && script.rsplit('/').next() == Some("configure")
}

fn is_cache_of_a_build(path: &str) -> bool {
    let below = path.strip_prefix("/home/").and_then(|rest| rest.split_once('/')).map(|(_, rest)| rest);
    let below = below.or(path.strip_prefix("/root/")).unwrap_or_default();
    // Those that the rules do not leave out themselves.
    let caches = [".cargo/git/", ".gradle/caches/", ".m2/repository/", "go/pkg/mod/"];
    !below.split('/').any(|part| part == "..") && caches.iter().any(|cache| below.starts_with(cache))
}

/// A field's text; its value is JSON.
fn field(view: AlertView<'_>, name: &str) -> Option<String> {
    serde_json::from_str::<String>(view.field(name)?).ok()
}

#[cfg(test)]
mod tests {
    use shared_filter::Plain;

    use super::*;

    fn suppressed(rule: &str, exe: &str, cmdline: &str, file: &str) -> bool {
        let alert = Plain {
            id: 7,
            rule,
            fields: &[("fd.name", &format!("{file:?}"))],
            ancestry: &[("x", exe, cmdline)],
            ..Plain::default()
        };
        let decision = evaluate(&Batch::of(&[alert])).remove(0);
        assert_eq!(decision.id, 7);
        let suppressed = matches!(decision.action, Action::Suppress);
        assert_eq!(suppressed, !decision.reason.is_empty());
        suppressed
    }

    #[test]
    fn a_program_of_the_machine_is_believed_and_one_of_the_package_is_not() {
        assert!(suppressed("File in memory", "/usr/bin/node", "node a.js", ""));
        assert!(suppressed("File in memory", "/opt/node/bin/node", "node a.js", ""));
        assert!(!suppressed("File in memory", "/home/u/app/node", "node a.js", ""));
        assert!(!suppressed("File in memory", "/usr/bin/perl", "perl a.pl", ""));
        assert!(suppressed("Look at the machine", "/usr/bin/make", "make", ""));
        assert!(suppressed("Look at the machine", "/usr/bin/dash", "sh ./configure --prefix=/x", ""));
        assert!(!suppressed("Look at the machine", "/usr/bin/dash", "sh -c id", ""));
        assert!(!suppressed("Look at the machine", "/tmp/make", "make", ""));
    }

    #[test]
    fn only_caches_of_the_home_and_only_rules_that_are_named() {
        let write = |file: &str| suppressed("Write to the home folder", "/usr/bin/gcc", "gcc", file);
        assert!(write("/home/u/.cargo/git/db/x") && write("/root/go/pkg/mod/x"));
        assert!(
            !write("/home/u/.bashrc")
                && !write("/home/u/.cargo/git/../../.bashrc")
                && !write("/x/.m2/repository/a")
        );
        for rule in ["Run a dropped file", "Read decoy credentials", "Name lookup", ""] {
            assert!(!suppressed(rule, "/usr/bin/node", "node", "/home/u/.cargo/git/a"), "{rule}");
        }
    }
}
