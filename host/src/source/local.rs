//! Components of this program, of this machine's files, and of the web by their digest. Files and answers are bounded; what
//! the web sends counts only if it has the digest that was named with its address.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Origin, OriginError, Source};
use crate::engine::Wasm;
use crate::manifest::UrlSource;

pub struct Local {
    pub max_bytes: u64,
    /// Whether the operator wants signatures, which only a registry holds: the names that want one, as they end in `*`.
    pub signed_only: Vec<String>,
}

/// From the first byte of a request to the last of its answer.
const TIMEOUT: Duration = Duration::from_secs(120);

impl Origin for Local {
    fn resolve(&self, source: Source) -> BoxFuture<'_, Result<String, OriginError>> {
        match source {
            // Its digest was named, so nobody has to be asked.
            Source::Url(url) => async move { Ok(url.digest) }.boxed(),
            other => async move { Ok(self.read(other).await?.digest().to_owned()) }.boxed(),
        }
    }

    fn pull(&self, source: Source, resolved: String) -> BoxFuture<'_, Result<Wasm, OriginError>> {
        async move {
            let what = source.to_string();
            let wasm = self.read(source).await?;
            if wasm.digest() == resolved {
                return Ok(wasm);
            }
            Err(OriginError::bad(format!(
                "{what} is not what its digest says: expected {resolved}, got {}",
                wasm.digest()
            )))
        }
        .boxed()
    }

    fn verify(
        &self,
        source: Source,
        _resolved: String,
    ) -> BoxFuture<'_, Result<Option<String>, OriginError>> {
        let name = source.to_string();
        let answer = match self.wants_one(&source) {
            true => Err(OriginError::bad(format!(
                "{name} cannot be signed: only artifacts of a registry can (verify.required_for)"
            ))),
            false => Ok(None),
        };
        async move { answer }.boxed()
    }

    fn trusts(&self, source: &Source, _found: Option<&str>) -> bool {
        !self.wants_one(source)
    }
}

/// Whether one of the patterns is this name, or its beginning where the pattern ends in `*`.
pub fn wants(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    })
}

impl Local {
    fn wants_one(&self, source: &Source) -> bool {
        !matches!(source, Source::BuiltIn(_)) && wants(&self.signed_only, &source.to_string())
    }

    async fn read(&self, source: Source) -> Result<Wasm, OriginError> {
        let max = self.max_bytes;
        let read = tokio::task::spawn_blocking(move || match source {
            Source::BuiltIn(wasm) => Ok(wasm),
            Source::Path(path) => file(&path, max).map(Wasm::new),
            Source::Url(url) => web(&url, max).map(Wasm::new),
            Source::Registry(_) => Err(OriginError::bad("a registry is asked elsewhere")),
        });
        read.await.map_err(|e| OriginError::bad(e.to_string()))?
    }
}

fn file(path: &Path, max: u64) -> Result<Bytes, OriginError> {
    use std::io::Read;
    let away = |source: std::io::Error| OriginError::Away {
        what: format!("{} cannot be read", path.display()),
        source: Some(source.into()),
    };
    let file = std::fs::File::open(path).map_err(away)?;
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(away)?;
    if bytes.len() as u64 > max {
        return Err(OriginError::bad(format!("{} has more than {max} bytes", path.display())));
    }
    Ok(bytes.into())
}

/// Over TLS, or from this machine.
fn web(source: &UrlSource, max: u64) -> Result<Bytes, OriginError> {
    let url = &source.url;
    let uri: http::Uri =
        url.parse().map_err(|_| OriginError::bad(format!("{} is no URL", super::shown(url))))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let near = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if uri.scheme_str() != Some("https") && !(near && uri.scheme_str() == Some("http")) {
        return Err(OriginError::bad(format!("{} is not https", super::shown(url))));
    }
    let away = |error: ureq::Error| OriginError::Away {
        what: format!("{} cannot be had", super::shown(url)),
        source: Some(Box::new(error)),
    };
    let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        // Nobody leads us from this machine elsewhere, or from https to http.
        .max_redirects(if near { 0 } else { 5 })
        .https_only(!near)
        .tls_config(tls)
        .build()
        .new_agent();
    let mut response = agent.get(url).call().map_err(away)?;
    let read = response.body_mut().with_config().limit(max).read_to_vec();
    match read {
        Ok(bytes) => Ok(bytes.into()),
        Err(ureq::Error::BodyExceedsLimit(_)) => {
            let what = super::shown(url);
            Err(OriginError::bad(format!("{what} has more than {max} bytes")))
        }
        Err(error) => Err(away(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    const LOCAL: fn() -> Local = || Local { max_bytes: 8, signed_only: vec!["http*".into()] };

    fn url(url: &str, content: &[u8]) -> Source {
        Source::Url(UrlSource { url: url.into(), digest: Wasm::new(content.to_vec()).digest().to_owned() })
    }

    #[tokio::test]
    async fn a_file_is_bounded_and_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wasm");
        let source = Source::Path(path.clone());
        let away = LOCAL().resolve(source.clone()).await.unwrap_err();
        assert!(away.is_transient() && away.to_string().ends_with("a.wasm cannot be read"), "{away}");
        std::fs::write(&path, b"one").unwrap();
        let one = LOCAL().resolve(source.clone()).await.unwrap();
        assert_eq!(*LOCAL().pull(source.clone(), one.clone()).await.unwrap(), *b"one");
        std::fs::write(&path, b"two").unwrap();
        let changed = LOCAL().pull(source.clone(), one).await.unwrap_err();
        assert!(!changed.is_transient() && changed.to_string().contains("is not what its digest says"));
        std::fs::write(&path, b"123456789").unwrap();
        let large = LOCAL().resolve(source).await.unwrap_err().to_string();
        assert!(large.ends_with("has more than 8 bytes"), "{large}");
    }

    #[tokio::test]
    async fn the_web_is_asked_over_tls_and_believed_by_digest() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            for answer in ["3\r\n\r\none", "3\r\n\r\ntwo", "9\r\n\r\n123456789", "5\r\n\r\non"] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 2048]).unwrap();
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ";
                stream.write_all(format!("{head}{answer}").as_bytes()).unwrap();
            }
        });
        let at = format!("http://{address}/c.wasm");
        let pull = async |content: &[u8]| {
            let source = url(&at, content);
            LOCAL().pull(source.clone(), LOCAL().resolve(source).await.unwrap()).await
        };
        assert_eq!(*pull(b"one").await.unwrap(), *b"one");
        let other = pull(b"one").await.unwrap_err();
        assert!(
            !other.is_transient() && other.to_string().contains("is not what its digest says"),
            "{other}"
        );
        let large = pull(b"one").await.unwrap_err().to_string();
        assert!(large.ends_with("has more than 8 bytes"), "{large}");
        assert!(pull(b"one").await.unwrap_err().is_transient(), "it broke off");
        serving.join().unwrap();
        for bad in ["http://a.example/c.wasm", "file:///etc/passwd", "c.wasm", "\u{1b}"] {
            let error =
                LOCAL().pull(url(bad, b""), Wasm::new(&b""[..]).digest().to_owned()).await.unwrap_err();
            assert!(!error.is_transient(), "{error}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_signed_is_refused_where_a_signature_is_wanted() {
        let refused = LOCAL().verify(url("https://a/c", b""), String::new()).await.unwrap_err().to_string();
        assert!(refused.starts_with("https://a/c cannot be signed"), "{refused}");
        assert!(
            !LOCAL().trusts(&url("https://a/c", b""), None)
                && LOCAL().trusts(&Source::Path("c".into()), None)
        );
        assert_eq!(LOCAL().verify(Source::Path("c".into()), String::new()).await.unwrap(), None);
        assert!(
            wants(&["*".into()], "c") && wants(&["r/a".into()], "r/a") && !wants(&["r/a".into()], "r/ab")
        );
    }
}
