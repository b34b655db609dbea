//! Projects in an S3-compatible bucket: put there before a scan's Job is made, read by its pod from an address that is signed
//! for it, and deleted when the scan is over.
//!
//! What goes wrong is a sentence that names the bucket and what was asked of it. A signed address opens a project, so it goes to
//! the pod and nowhere else: into no error and no log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lanner_core::ScanId;
use lanner_core::text::escaped;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::buffered::BufWriter;
use object_store::signer::Signer;
use object_store::{Certificate, ClientOptions, RetryConfig};
use tokio::io::AsyncWriteExt;

use super::project::{No, agent};

pub struct BucketConfig {
    pub name: String,
    /// What the names in it begin with.
    pub prefix: String,
    /// Of others than AWS.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Access key and secret key; without, the identity that the environment or the instance has.
    pub keys: Option<(String, String)>,
    /// In PEM.
    pub authority: Option<String>,
    pub allow_http: bool,
}

pub struct Bucket {
    store: Arc<AmazonS3>,
    /// As sentences name it.
    shown: String,
    prefix: String,
    authority: String,
    is_address: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the bucket {bucket} {what}: {why}")]
pub struct BucketError {
    bucket: String,
    what: &'static str,
    /// Without what a server says beside its code: some repeat the signature in it.
    why: String,
}

/// Of one project.
const PUT: Duration = Duration::from_secs(300);
/// To sign an address, for which an identity may have to be fetched, and to delete.
const ASK: Duration = Duration::from_secs(30);
/// Of one request: a part of a project at most.
const REQUEST: Duration = Duration::from_secs(60);
const TRIES: usize = 3;
/// Smaller projects are put in one piece; the least that S3 takes as a part is 5 MiB.
const PART: usize = 8 << 20;
const MAX_SAID: usize = 300;

impl Bucket {
    pub fn open(config: BucketConfig) -> Result<Self, BucketError> {
        let shown = match config.prefix.as_str() {
            "" => format!("s3://{}", config.name),
            prefix => format!("s3://{}/{prefix}", config.name),
        };
        let store = store(&config).map_err(|e| error(&shown, "cannot be used", said(&e)))?;
        let is_address = config.endpoint.as_deref().is_some_and(lanner_kubernetes::job::is_address);
        let authority = config.authority.unwrap_or_default();
        Ok(Self { store: Arc::new(store), shown, prefix: config.prefix, authority, is_address })
    }

    /// The authority of its certificate, in PEM; empty: the system's.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether pods find it without a name server.
    pub(super) fn is_address(&self) -> bool {
        self.is_address
    }

    pub(super) async fn put(&self, scan: &ScanId, from: &Path) -> Result<(), BucketError> {
        let failed = |why| self.error("did not take the project", why);
        let file = tokio::fs::File::open(from).await;
        let file = file.map_err(|e| failed(format!("it cannot be read: {e}")))?;
        let mut file = tokio::io::BufReader::with_capacity(1 << 20, file);
        let mut writer = BufWriter::with_capacity(self.store.clone(), self.path(scan), PART);
        let deadline = tokio::time::Instant::now() + PUT;
        let copied = tokio::time::timeout_at(deadline, tokio::io::copy_buf(&mut file, &mut writer)).await;
        let why = match copied {
            Ok(Ok(_)) => None,
            Ok(Err(e)) => Some(said(&e)),
            Err(_) => Some(late(PUT)),
        };
        if let Some(why) = why {
            // Parts that are left lie there unseen, and are paid for.
            let _ = tokio::time::timeout(ASK, writer.abort()).await;
            return Err(failed(why));
        }
        match tokio::time::timeout_at(deadline, writer.shutdown()).await {
            Ok(put) => put.map_err(|e| failed(said(&e))),
            Err(_) => Err(failed(late(PUT))),
        }
    }

    /// Where the project can be read for so long, by whoever has this address.
    pub(super) async fn url(&self, scan: &ScanId, within: Duration) -> Result<String, BucketError> {
        let signed = self.signed(http::Method::GET, scan, within).await;
        signed.map_err(|why| self.error("has no signed address for the project", why))
    }

    /// What is not there is deleted. Not by the library: it asks for many at once, which not every store knows, and an answer
    /// about something else makes it panic.
    pub(super) async fn delete(&self, scan: &ScanId) -> Result<(), BucketError> {
        let failed = |why| self.error("did not delete the project", why);
        let url = self.signed(http::Method::DELETE, scan, 2 * ASK).await.map_err(failed)?;
        let authority = self.authority.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let agent = agent(&authority, ASK, ureq::Proxy::try_from_env())?;
            let answer = agent.delete(&url).call().map_err(No::Asked)?;
            let status = answer.status();
            let is_gone = status.is_success() || status == http::StatusCode::NOT_FOUND;
            if is_gone { Ok(()) } else { Err(No::Status(status.as_u16())) }
        });
        asked.await.map_err(|e| failed(e.to_string()))?.map_err(|no| failed(no.text()))
    }

    async fn signed(&self, method: http::Method, scan: &ScanId, within: Duration) -> Result<String, String> {
        let path = self.path(scan);
        match tokio::time::timeout(ASK, self.store.signed_url(method, &path, within)).await {
            Ok(Ok(url)) => Ok(url.into()),
            Ok(Err(e)) => Err(said(&e)),
            Err(_) => Err(late(ASK)),
        }
    }

    fn path(&self, scan: &ScanId) -> object_store::path::Path {
        format!("{}/{scan}.tgz", self.prefix).into()
    }

    fn error(&self, what: &'static str, why: String) -> BucketError {
        error(&self.shown, what, why)
    }
}

fn error(bucket: &str, what: &'static str, why: String) -> BucketError {
    BucketError { bucket: bucket.to_owned(), what, why }
}

fn store(config: &BucketConfig) -> object_store::Result<AmazonS3> {
    let mut options = ClientOptions::new()
        .with_allow_http(config.allow_http)
        .with_timeout(REQUEST)
        .with_connect_timeout(ASK / 3);
    if let Some(authority) = &config.authority {
        for certificate in Certificate::from_pem_bundle(authority.as_bytes())? {
            options = options.with_root_certificate(certificate);
        }
    }
    let builder = match &config.keys {
        Some((access, secret)) => {
            AmazonS3Builder::new().with_access_key_id(access).with_secret_access_key(secret)
        }
        None => AmazonS3Builder::from_env(),
    };
    let retry = RetryConfig { max_retries: TRIES, retry_timeout: ASK, ..RetryConfig::default() };
    let mut builder = builder.with_bucket_name(&config.name).with_client_options(options).with_retry(retry);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    builder.build()
}

fn late(within: Duration) -> String {
    format!("it took longer than {} s", within.as_secs())
}

/// A server's own text goes as far as its code: the rest of it may repeat what was signed.
fn said(error: &dyn std::error::Error) -> String {
    let whole = error.to_string();
    // The library's own account of tries and times comes before a dash.
    let request = whole.split_once("Error performing ").and_then(|(_, rest)| rest.split_once(" - "));
    let text = request.map_or(whole.as_str(), |(_, text)| text).split(['<', '?']).next().unwrap_or_default();
    let mut text = text.trim_end_matches([' ', ':']).to_owned();
    if let Some(code) = whole.split("<Code>").nth(1) {
        let code: String = code.chars().take_while(char::is_ascii_alphanumeric).take(64).collect();
        text = format!("{text}: {code}");
    }
    let mut cause = error.source();
    while let Some(next) = cause.and_then(std::error::Error::source) {
        cause = Some(next);
    }
    // What a refused connection is, only the last one says.
    if let Some(cause) = cause.map(ToString::to_string)
        && !whole.contains(&cause)
        && !cause.contains(['<', '?'])
    {
        text = format!("{text}: {cause}");
    }
    escaped(&text.chars().take(MAX_SAID).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    fn bucket(at: SocketAddr) -> Bucket {
        let keys = Some(("accesskey".into(), "wordofmine".into()));
        let endpoint = Some(format!("http://{at}"));
        let (name, prefix, region) = ("projects".into(), "ci".into(), Some("us-east-1".into()));
        Bucket::open(BucketConfig { name, prefix, endpoint, region, keys, authority: None, allow_http: true })
            .unwrap()
    }

    /// Nobody listens there.
    fn nowhere() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    /// Answers one request so.
    fn server(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let mut line = String::new();
                assert_ne!(stream.read_line(&mut line).unwrap(), 0);
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            stream.read_exact(&mut vec![0; length]).unwrap();
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            head
        });
        (at, served)
    }

    fn file() -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"a project").unwrap();
        file
    }

    #[tokio::test]
    async fn a_signed_address_is_good_for_as_long_as_it_is_waited_for() {
        let (scan, at) = (ScanId::new(1, [1; 10]), nowhere());
        let url = bucket(at).url(&scan, Duration::from_secs(660)).await.unwrap();
        let (address, query) = url.split_once('?').unwrap();
        assert_eq!(address, format!("http://{at}/projects/ci/{scan}.tgz"));
        let has = |wanted: &str| query.split('&').any(|pair| pair.starts_with(wanted));
        assert!(has("X-Amz-Expires=660") && has("X-Amz-Signature="), "{query}");
        assert!(!url.contains("wordofmine"));
    }

    #[tokio::test]
    async fn a_server_that_says_no_is_quoted_without_what_was_signed() {
        let no = "HTTP/1.1 403 Forbidden\r\nContent-Length: 179\r\n\r\n<?xml version=\"1.0\"?><Error>\
                  <Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>accesskey</AWSAccessKeyId>\
                  <SignatureProvided>feedface</SignatureProvided><Key>wordofmine</Key></Error>";
        let (at, served) = server(no);
        let scan = ScanId::new(1, [1; 10]);
        let error = bucket(at).put(&scan, file().path()).await.unwrap_err().to_string();
        assert!(served.join().unwrap().starts_with(&format!("PUT /projects/ci/{scan}.tgz HTTP/1.1")));
        let whole = "the bucket s3://projects/ci did not take the project: Server returned non-2xx status code: \
                     403 Forbidden: SignatureDoesNotMatch";
        assert_eq!(error, whole);
        for secret in ["accesskey", "feedface", "wordofmine", "Signature="] {
            assert!(!error.contains(secret), "{error}");
        }
    }

    #[tokio::test]
    async fn a_bucket_that_is_away_is_named_with_what_was_asked_of_it() {
        let (scan, bucket) = (ScanId::new(1, [1; 10]), bucket(nowhere()));
        let put = bucket.put(&scan, file().path()).await.unwrap_err().to_string();
        assert!(put.starts_with("the bucket s3://projects/ci did not take the project: "), "{put}");
        assert!(put.contains("Connection refused"), "{put}");
        let deleted = bucket.delete(&scan).await.unwrap_err().to_string();
        assert!(deleted.starts_with("the bucket s3://projects/ci did not delete the project: "), "{deleted}");
        for secret in ["accesskey", "wordofmine"] {
            assert!(!put.contains(secret) && !deleted.contains(secret), "{put} {deleted}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_need_not_be_deleted_and_what_stays_is_told() {
        let scan = ScanId::new(1, [1; 10]);
        for answer in ["204 No Content", "404 Not Found"] {
            let (at, served) = server(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").leak());
            bucket(at).delete(&scan).await.unwrap();
            assert!(served.join().unwrap().starts_with(&format!("DELETE /projects/ci/{scan}.tgz?X-Amz-")));
        }
        let (at, _) = server("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        let refused = bucket(at).delete(&scan).await.unwrap_err().to_string();
        assert_eq!(refused, "the bucket s3://projects/ci did not delete the project: the answer is 403");
    }
}
