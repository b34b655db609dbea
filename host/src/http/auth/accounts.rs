//! Service accounts as callers: how one is named, and which roles it has. Whose a token is, `review` finds out.
//!
//! An account owns what it submits as `NAMESPACE/NAME`. A credential's name has no slash, so neither is taken for the other.

use std::fmt;

use lanner_core::Owner;
use lanner_core::text::{bounded, escaped};

use crate::config::{AccountsConfig, Role, RoleRule};

/// A service account of the cluster, by a name as Kubernetes spells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    namespace: String,
    name: String,
}

/// Who has which roles.
#[derive(Debug)]
pub(super) struct RoleMap(Vec<(Subject, Vec<Role>)>);

#[derive(Debug)]
enum Subject {
    Group(String),
    Account(Account),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountsError {
    #[error("kubernetes.auth has no roles: add [[kubernetes.auth.roles]], or leave kubernetes.auth out")]
    Nobody,
    #[error(
        "kubernetes.auth.audience has 1 to {MAX_WORD} printable characters without spaces; {0:?} has not"
    )]
    Audience(String),
    #[error("kubernetes.auth.roles, entry {0}: name either a group or an account")]
    Subject(usize),
    #[error(
        "kubernetes.auth.roles, entry {0}: an account is NAMESPACE/NAME as Kubernetes spells them; {1:?} is not"
    )]
    Account(usize, String),
    #[error(
        "kubernetes.auth.roles, entry {0}: a group has 1 to {MAX_WORD} printable characters without spaces; {1:?} has not"
    )]
    Group(usize, String),
    #[error("kubernetes.auth.roles, entry {0}: there are no roles; give some of submit, read, admin")]
    NoRoles(usize),
}

const USER: &str = "system:serviceaccount:";
const MAX_NAMESPACE: usize = 63;
const MAX_NAME: usize = 253;
const MAX_WORD: usize = 253;
const MAX_SHOWN: usize = 120;

impl Account {
    /// Of the name by which the API server knows its users.
    pub(super) fn of_user(user: &str) -> Option<Self> {
        let (namespace, name) = user.strip_prefix(USER)?.split_once(':')?;
        Self::new(namespace, name)
    }

    fn of_rule(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        Self::new(namespace, name)
    }

    fn new(namespace: &str, name: &str) -> Option<Self> {
        let is_namespace = namespace.len() <= MAX_NAMESPACE && is_label(namespace);
        let is_name = name.len() <= MAX_NAME && name.split('.').all(is_label);
        (is_namespace && is_name).then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    pub(super) fn owner(&self) -> Owner {
        Owner(self.to_string())
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl RoleMap {
    pub(super) fn new(config: &AccountsConfig) -> Result<Self, AccountsError> {
        if !is_word(config.audience()) {
            return Err(AccountsError::Audience(shown(config.audience())));
        }
        if config.roles.is_empty() {
            return Err(AccountsError::Nobody);
        }
        let rules = config.roles.iter().zip(1..).map(|(rule, entry)| read(rule, entry));
        Ok(Self(rules.collect::<Result<_, _>>()?))
    }

    /// All that an account has, by its name and by its groups.
    pub(super) fn roles(&self, account: &Account, groups: &[String]) -> Vec<Role> {
        let is_meant = |subject: &Subject| match subject {
            Subject::Group(group) => groups.contains(group),
            Subject::Account(name) => name == account,
        };
        let rules = self.0.iter().filter(|(subject, _)| is_meant(subject));
        let given: Vec<Role> = rules.flat_map(|(_, roles)| roles.iter().copied()).collect();
        [Role::Submit, Role::Read, Role::Admin].into_iter().filter(|role| given.contains(role)).collect()
    }
}

fn read(rule: &RoleRule, entry: usize) -> Result<(Subject, Vec<Role>), AccountsError> {
    let subject = match (&rule.group, &rule.account) {
        (Some(group), None) if is_word(group) => Subject::Group(group.clone()),
        (Some(group), None) => return Err(AccountsError::Group(entry, shown(group))),
        (None, Some(text)) => Subject::Account(
            Account::of_rule(text).ok_or_else(|| AccountsError::Account(entry, shown(text)))?,
        ),
        _ => return Err(AccountsError::Subject(entry)),
    };
    if rule.roles.is_empty() {
        return Err(AccountsError::NoRoles(entry));
    }
    Ok((subject, rule.roles.clone()))
}

/// Of RFC 1123, as Kubernetes has it.
fn is_label(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(good) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_word(text: &str) -> bool {
    (1..=MAX_WORD).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// A name that somebody chose, fit for an answer and a log line.
pub(super) fn shown(text: &str) -> String {
    escaped(&bounded(text, MAX_SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> AccountsConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_name_that_kubernetes_would_not_give_is_no_accounts() {
        let account = Account::of_user("system:serviceaccount:ci:builder.v1").unwrap();
        assert_eq!(account.owner(), Owner("ci/builder.v1".into()));
        let long = "a".repeat(64);
        for hostile in [
            "",
            "admin",
            "ci/builder",
            "system:serviceaccount:",
            "system:serviceaccount:ci",
            "system:serviceaccount:ci:",
            "system:serviceaccount::builder",
            "system:serviceaccount:ci:builder:more",
            "system:serviceaccount:ci:builder/admin",
            "system:serviceaccount:ci/x:builder",
            "system:serviceaccount:ci.x:builder",
            "system:serviceaccount:CI:builder",
            "system:serviceaccount:ci:-builder",
            "system:serviceaccount:ci:a..b",
            "system:serviceaccount:ci:bui\u{202e}lder",
            "system:serviceaccount:ci:builder\n",
            " system:serviceaccount:ci:builder",
            "SYSTEM:serviceaccount:ci:builder",
            &format!("system:serviceaccount:{long}:builder"),
            &format!("system:serviceaccount:ci:{}", [long.as_str(); 4].join(".")),
        ] {
            assert_eq!(Account::of_user(hostile), None, "{hostile}");
        }
    }

    #[test]
    fn roles_add_up_over_the_name_and_the_groups_and_are_nobody_elses() {
        let map = RoleMap::new(&config(
            "roles = [{ group = 'system:serviceaccounts:ci', roles = ['submit'] },
                      { account = 'ci/builder', roles = ['read', 'submit'] },
                      { account = 'ops/root', roles = ['admin'] }]",
        ))
        .unwrap();
        let roles = |user: &str, groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
            map.roles(&Account::of_user(&format!("{USER}{user}")).unwrap(), &groups)
        };
        let ci = ["system:serviceaccounts", "system:serviceaccounts:ci"];
        assert_eq!(roles("ci:builder", &ci), [Role::Submit, Role::Read]);
        assert_eq!(roles("ci:other", &ci), [Role::Submit]);
        assert_eq!(roles("ops:root", &["system:serviceaccounts:ops"]), [Role::Admin]);
        assert_eq!(roles("ops:builder", &["system:serviceaccounts:ops"]), []);
        assert_eq!(roles("ci-x:builder", &["system:serviceaccounts:ci-x", "ci/builder"]), []);
    }

    #[test]
    fn a_map_that_cannot_be_meant_is_refused_with_the_key_to_change() {
        let refused = |text: &str| RoleMap::new(&config(text)).unwrap_err().to_string();
        assert!(refused("").starts_with("kubernetes.auth has no roles: add [[kubernetes.auth.roles]]"));
        assert!(refused("audience = 'a b'\nroles = []").starts_with("kubernetes.auth.audience has"));
        assert!(refused("audience = ''").starts_with("kubernetes.auth.audience has"));
        let either = "kubernetes.auth.roles, entry 2: name either a group or an account";
        let good = "{ group = 'g', roles = ['read'] }";
        assert_eq!(refused(&format!("roles = [{good}, {{ roles = ['read'] }}]")), either);
        let both = "{ group = 'g', account = 'a/b', roles = ['read'] }";
        assert_eq!(refused(&format!("roles = [{good}, {both}]")), either);
        for bad in ["builder", "ci/", "/builder", "ci/b/c", "Ci/b", "system:serviceaccount:ci:b"] {
            let said = refused(&format!("roles = [{{ account = '{bad}', roles = ['read'] }}]"));
            assert!(said.contains(&format!("{bad:?} is not")), "{said}");
        }
        assert!(refused("roles = [{ group = '', roles = ['read'] }]").contains("a group has 1 to 253"));
        let none = "kubernetes.auth.roles, entry 1: there are no roles; give some of submit, read, admin";
        assert_eq!(refused("roles = [{ group = 'g', roles = [] }]"), none);
        assert!(toml::from_str::<AccountsConfig>("role = []").is_err(), "an unknown key");
    }
}
