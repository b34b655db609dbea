//! Callers of the cluster that scans run on: what their tokens must be made for, and who of them may do what. What is wrong in
//! it is told by the gate, as with credentials.

use serde::Deserialize;

use super::Role;

/// Tokens of service accounts as credentials, beside those of `[[credentials]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountsConfig {
    /// What a token must have been made for; `lanner`, if not given.
    audience: Option<String>,
    #[serde(default)]
    pub roles: Vec<RoleRule>,
}

/// Roles of one account, or of everybody in a group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleRule {
    /// As the API server names it: `system:serviceaccounts:NAMESPACE` are all accounts of a namespace.
    pub group: Option<String>,
    /// `NAMESPACE/NAME`.
    pub account: Option<String>,
    pub roles: Vec<Role>,
}

impl AccountsConfig {
    pub fn audience(&self) -> &str {
        self.audience.as_deref().unwrap_or("lanner")
    }
}
