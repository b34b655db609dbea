//! Projects by way of an S3-compatible bucket: where it is and by which keys. What the bucket itself thinks of it is told when
//! the first project goes there.

use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// `s3://BUCKET/PREFIX`; the prefix may be left out.
    url: String,
    /// `https://HOST:PORT` for others than AWS, as this host and the pods reach it.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Both or neither: without, the identity that the environment or the instance has.
    pub access_key_file: Option<PathBuf>,
    pub secret_key_file: Option<PathBuf>,
    /// The authority of the endpoint's certificate, for pods too; the system's, if not given.
    pub authority_file: Option<PathBuf>,
    /// An endpoint without TLS: projects and their signed addresses can be read on the way.
    #[serde(default)]
    pub allow_http: bool,
}

impl BucketConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !is_place(&self.url) {
            return Err(ConfigError::BucketUrl(self.url.clone()));
        }
        if self.access_key_file.is_some() != self.secret_key_file.is_some() {
            return Err(ConfigError::HalfKey);
        }
        match &self.endpoint {
            Some(endpoint) if !is_endpoint(endpoint) => Err(ConfigError::BucketEndpoint),
            Some(endpoint) if endpoint.starts_with("http://") && !self.allow_http => {
                Err(ConfigError::BucketHttp)
            }
            _ => Ok(()),
        }
    }

    /// The bucket's name, and what the names in it begin with.
    pub fn place(&self) -> (&str, &str) {
        let place = self.url.strip_prefix("s3://").unwrap_or(&self.url);
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        (bucket, prefix.trim_end_matches('/'))
    }
}

/// In characters that need no escape in an address, so that it is called one thing everywhere.
fn is_place(url: &str) -> bool {
    let is_name = |part: &str| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        part.bytes().all(is_plain) && !part.bytes().all(|b| b == b'.')
    };
    url.strip_prefix("s3://").is_some_and(|place| place.trim_end_matches('/').split('/').all(is_name))
}

/// Without a path, a query, or a name and a password, which sentences would show.
fn is_endpoint(endpoint: &str) -> bool {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(keys: &str) -> BucketConfig {
        toml::from_str(keys).unwrap()
    }

    #[test]
    fn a_bucket_is_named_by_its_url() {
        for (url, place) in [
            ("s3://projects/lanner/ci", ("projects", "lanner/ci")),
            ("s3://projects/lanner/", ("projects", "lanner")),
            ("s3://projects", ("projects", "")),
        ] {
            let bucket = bucket(&format!("url = {url:?}\nendpoint = \"https://minio.example:9000\"\n"));
            assert!(bucket.check().is_ok(), "{url}");
            assert_eq!(bucket.place(), place);
        }
    }

    #[test]
    fn what_is_no_bucket_is_refused() {
        for url in ["projects", "s3://", "s3:///x", "s3://a//b", "s3://a/../b", "s3://a/b?c", "https://a/b"] {
            let refused = bucket(&format!("url = {url:?}\n")).check().unwrap_err().to_string();
            assert_eq!(refused, format!("kubernetes.bucket.url is not s3://BUCKET/PREFIX: {url}"));
        }
        let refused = |keys: &str| bucket(&format!("url = \"s3://a/b\"\n{keys}")).check().unwrap_err();
        let half = "kubernetes.bucket.access_key_file and secret_key_file are one key: set both or neither";
        assert_eq!(refused("access_key_file = \"a\"\n").to_string(), half);
        assert_eq!(refused("secret_key_file = \"s\"\n").to_string(), half);
        let nowhere = "kubernetes.bucket.endpoint is not https://HOST:PORT";
        for endpoint in
            ["minio:9000", "https://", "https://me:secret@minio", "https://minio/x", "ftp://minio"]
        {
            assert_eq!(refused(&format!("endpoint = {endpoint:?}\n")).to_string(), nowhere);
        }
        let plain = "endpoint = \"http://minio:9000\"\n";
        assert_eq!(
            refused(plain).to_string(),
            "kubernetes.bucket.endpoint is without TLS, so that projects and their signed addresses can be read on the \
             way: use https://, or set kubernetes.bucket.allow_http"
        );
        assert!(bucket(&format!("url = \"s3://a\"\n{plain}allow_http = true\n")).check().is_ok());
    }
}
