//! What a component must offer and may ask for, to be a filter: by the names of its imports and exports, before it is
//! compiled. Pure.

use crate::engine::inspect::Interface;

/// The version of the world that this host speaks: WIT's rule for versions below 1 is that the minor number counts.
const VERSION: (u64, u64) = (0, 1);
const EXPORT: &str = "lanner:platform/filter";
/// The second only names types.
const IMPORTS: [&str; 2] = ["lanner:platform/logging", "lanner:platform/types"];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    #[error("it imports {0}; a filter may import lanner:platform/logging and nothing else")]
    Import(String),
    #[error("it does not export {EXPORT}: build it for the world alert-filter")]
    World,
    #[error("it was built for {name}@{version}; this host speaks {}.{}", VERSION.0, VERSION.1)]
    Version { name: String, version: String },
}

pub(super) fn check(interface: &Interface) -> Result<(), ContractError> {
    for import in &interface.imports {
        let (name, version) = split(import);
        if !IMPORTS.contains(&name) {
            return Err(ContractError::Import(super::convert::shown(import)));
        }
        spoken(name, version)?;
    }
    match interface.exports.iter().map(|e| split(e)).find(|(name, _)| *name == EXPORT) {
        Some((name, version)) => spoken(name, version),
        None => Err(ContractError::World),
    }
}

fn spoken(name: &str, version: &str) -> Result<(), ContractError> {
    let mut parts = version.split('.').map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) == VERSION => Ok(()),
        _ => Err(ContractError::Version { name: name.to_owned(), version: super::convert::shown(version) }),
    }
}

fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(imports: &[&str], exports: &[&str]) -> Result<(), String> {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        check(&Interface { imports: owned(imports), exports: owned(exports) }).map_err(|e| e.to_string())
    }

    #[test]
    fn a_filter_imports_logging_alone_and_exports_its_world() {
        let export = "lanner:platform/filter@0.1.0";
        let types = "lanner:platform/types@0.1.0";
        assert_eq!(checked(&["lanner:platform/logging@0.1.3", types], &[export]), Ok(()));
        let import = "it imports wasi:cli/environment@0.2.6; a filter may import lanner:platform/logging and nothing else";
        assert_eq!(checked(&["wasi:cli/environment@0.2.6"], &[export]), Err(import.into()));
        assert!(checked(&["lanner:platform/jobs@0.1.0"], &[export]).is_err());
        let world = "it does not export lanner:platform/filter: build it for the world alert-filter";
        assert_eq!(checked(&[], &["wasi:http/handler@0.3.0"]), Err(world.into()));
        let version = "it was built for lanner:platform/filter@0.2.0; this host speaks 0.1";
        assert_eq!(checked(&[], &["lanner:platform/filter@0.2.0"]), Err(version.into()));
        assert!(checked(&[], &["lanner:platform/filter"]).is_err());
    }
}
