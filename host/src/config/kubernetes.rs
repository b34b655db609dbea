//! Scans as Jobs of a cluster, as configured: where pods come in, what they are like, and how they come to their projects.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{AccountsConfig, BucketConfig, ConfigError};

/// Scans as Jobs, and the port of this host that their pods come to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// Tells the Jobs of several hosts in one namespace apart; `lanner`, if not given.
    instance: Option<String>,
    /// Where pods come in.
    pub listen: SocketAddr,
    /// `https://HOST:PORT`: the same, as pods reach it.
    pub url: String,
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// The certificate's authority, which pods are given.
    pub authority_file: PathBuf,
    /// The folder of the volume that `pods.source_claim` claims, as this host has it; projects are kept there.
    pub sources: Option<PathBuf>,
    /// Where projects are put for their pods; they are fetched from this host, if neither this nor the volume is given.
    pub bucket: Option<BucketConfig>,
    /// Seconds from a Job's creation until its pod has to come.
    start_deadline: Option<u64>,
    pub pods: lanner_kubernetes::job::PodConfig,
    /// Whose tokens of the cluster are taken as credentials; nobody's, if not given.
    pub(super) auth: Option<AccountsConfig>,
    /// Filters as objects of the cluster; none, if not given.
    pub(super) filters: Option<ObjectsConfig>,
}

/// `AlertFilter` objects as filters, beside those of this file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectsConfig {
    /// Where they are; the host's own namespace, if not given.
    pub namespace: Option<String>,
}

impl KubernetesConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.pods.namespace.is_empty() {
            return Err(ConfigError::NoNamespace);
        }
        if self.sources.is_some() != self.pods.source_claim.is_some() {
            return Err(ConfigError::HalfVolume);
        }
        match &self.bucket {
            Some(_) if self.sources.is_some() => Err(ConfigError::BucketAndVolume),
            Some(bucket) => bucket.check(),
            None => Ok(()),
        }
    }

    pub fn instance(&self) -> String {
        self.instance.clone().unwrap_or_else(|| "lanner".into())
    }

    pub fn start_deadline(&self) -> Duration {
        Duration::from_secs(self.start_deadline.unwrap_or(300))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn what_does_not_fit_together_is_refused_with_its_sentence() {
        let refused = |keys: &str, namespace: &str, pods: &str| {
            let files = "certificate_file = \"c\"\nkey_file = \"k\"\nauthority_file = \"a\"\n";
            let top = format!("[kubernetes]\nlisten = \"0.0.0.0:1\"\nurl = \"https://h:1\"\n{files}{keys}");
            let text = format!(
                "{top}[kubernetes.pods]\nnamespace = \"{namespace}\"\nimage = \"i\"\nimages = {{}}\n{pods}"
            );
            let file = toml::from_str(&text).unwrap();
            Config::from_file(file, vec![("HOME".into(), "/home/me".into())]).unwrap_err().to_string()
        };
        let half = "kubernetes.sources and kubernetes.pods.source_claim are two ends of one volume: set both or neither";
        assert_eq!(refused("sources = \"/s\"\n", "scans", ""), half);
        assert_eq!(refused("", "scans", "source_claim = \"s\"\n"), half);
        let both = "kubernetes.bucket and kubernetes.sources are two ways for projects: set one of them";
        let bucket = "sources = \"/s\"\n[kubernetes.bucket]\nurl = \"s3://a/b\"\n";
        assert_eq!(refused(bucket, "scans", "source_claim = \"s\"\n"), both);
        let no_place = refused("[kubernetes.bucket]\nurl = \"a\"\n", "scans", "");
        assert_eq!(no_place, "kubernetes.bucket.url is not s3://BUCKET/PREFIX: a");
        let nowhere = "kubernetes.pods.namespace is empty: say where scans run as Jobs";
        assert_eq!(refused("", "", ""), nowhere);
    }
}
