//! A published package by name: `npm:express@4.18.2`, `npm:@scope/name`.
//!
//! The text comes from a command line or a request body and ends up as an argument of a package manager, so what is
//! allowed is a short list of characters. Whether the manager knows the package is the registry's answer, not ours.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const MAX_NAME: usize = 214;
const MAX_VERSION: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageSpec {
    pub manager: String,
    pub name: String,
    pub version: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    #[error("a package is named MANAGER:NAME[@VERSION], for example npm:express@4.18.2")]
    Shape,
    #[error("a package manager's name has lower-case letters and digits only")]
    Manager,
    #[error(
        "a package name may hold letters, digits and . _ - (and one @scope/ in front), must not begin with a dot or a \
         dash, and has at most {MAX_NAME} bytes"
    )]
    Name,
    #[error(
        "a version may hold letters, digits and . _ + - only, must not begin with a dash, and has at most {MAX_VERSION} bytes"
    )]
    Version,
}

impl PackageSpec {
    /// Whether `text` looks like a package and not like a path: one colon after a bare word.
    pub fn looks_like_one(text: &str) -> bool {
        text.split_once(':').is_some_and(|(manager, rest)| is_manager(manager) && !rest.is_empty())
    }

    /// `NAME` or `NAME@VERSION`, as the package managers themselves take it.
    pub fn name_at_version(&self) -> String {
        match &self.version {
            Some(version) => format!("{}@{version}", self.name),
            None => self.name.clone(),
        }
    }
}

pub fn is_manager(text: &str) -> bool {
    (1..=24).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_name_part(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_name(text: &str) -> bool {
    let parts = match text.strip_prefix('@') {
        Some(scoped) => {
            scoped.split_once('/').is_some_and(|(scope, name)| is_name_part(scope) && is_name_part(name))
        }
        None => is_name_part(text),
    };
    parts && text.len() <= MAX_NAME
}

fn is_version(text: &str) -> bool {
    (1..=MAX_VERSION).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-'))
}

impl FromStr for PackageSpec {
    type Err = PackageError;

    fn from_str(text: &str) -> Result<Self, PackageError> {
        let (manager, rest) = text.split_once(':').ok_or(PackageError::Shape)?;
        if !is_manager(manager) {
            return Err(PackageError::Manager);
        }
        // The first character may be the @ of a scope, so the version begins at the last @ after it.
        let at = rest.char_indices().skip(1).filter(|&(_, c)| c == '@').map(|(i, _)| i).last();
        let (name, version) = match at.and_then(|i| rest.split_at_checked(i)) {
            Some((name, version)) => (name, version.get(1..)),
            None => (rest, None),
        };
        if !is_name(name) {
            return Err(PackageError::Name);
        }
        if version.is_some_and(|v| !is_version(v)) {
            return Err(PackageError::Version);
        }
        Ok(Self { manager: manager.into(), name: name.into(), version: version.map(Into::into) })
    }
}

impl fmt::Display for PackageSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.manager, self.name_at_version())
    }
}

impl TryFrom<String> for PackageSpec {
    type Error = PackageError;

    fn try_from(text: String) -> Result<Self, PackageError> {
        text.parse()
    }
}

impl From<PackageSpec> for String {
    fn from(spec: PackageSpec) -> Self {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_with_and_without_scope_and_version() {
        for text in ["npm:left-pad", "npm:left-pad@1.3.0", "npm:@types/node", "npm:@types/node@20.1.0-rc.1+b"]
        {
            assert_eq!(text.parse::<PackageSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn shell_and_path_characters_are_refused() {
        let refused = [
            ("left-pad", PackageError::Shape),
            ("NPM:x", PackageError::Manager),
            ("npm:", PackageError::Name),
            ("npm:../x", PackageError::Name),
            ("npm:a/b", PackageError::Name),
            ("npm:--registry", PackageError::Name),
            ("npm:a;rm", PackageError::Name),
            ("npm:a b", PackageError::Name),
            ("npm:$(id)", PackageError::Name),
            ("npm:@a/../b", PackageError::Name),
            ("npm:a@", PackageError::Version),
            ("npm:a@file:/etc", PackageError::Version),
            ("npm:a@https://evil.invalid/x.tgz", PackageError::Version),
            ("npm:a@1.0 || 2", PackageError::Version),
        ];
        for (text, error) in refused {
            assert_eq!(text.parse::<PackageSpec>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_round_trips_and_holds_no_shell_character(text in "[a-z]{1,4}:[@a-z0-9./_ $;-]{0,20}") {
            if let Ok(spec) = text.parse::<PackageSpec>() {
                prop_assert_eq!(spec.to_string(), text.clone());
                prop_assert!(!text.contains([' ', '$', ';']));
            }
        }
    }
}
