//! What is given to a registry: blobs that it does not have yet, then the manifest that holds them together.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::auth::Action;
use crate::digest::Digest;
use crate::error::OciError;
use crate::fetch::DIGEST_HEADER;
use crate::place::{name, same_origin};
use crate::reference::Reference;
use crate::registry::{Call, Registry};

impl Registry {
    pub(crate) async fn store_blob(&self, at: &Reference, bytes: &Bytes) -> Result<(), OciError> {
        let digest = Digest::of(bytes);
        let what = format!("the blob {digest}");
        let call = |method, url, body| Call {
            method,
            url,
            action: Action::Push,
            what: &what,
            headers: HeaderMap::new(),
            body,
            is_blob: true,
        };
        let url = self.url(at, &format!("blobs/{digest}"))?;
        let there = self.call(at, call(Method::HEAD, url, Bytes::new())).await?;
        match there.response.status() {
            StatusCode::OK => return Ok(()),
            StatusCode::NOT_FOUND => {}
            _ => return Err(self.unexpected(there, &what).await),
        }
        let begin = self.url(at, "blobs/uploads/")?;
        let begun = self.call(at, call(Method::POST, begin.clone(), Bytes::new())).await?;
        if begun.response.status() != StatusCode::ACCEPTED {
            return Err(self.unexpected(begun, &what).await);
        }
        let place = begun.response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
        let mut place = self.upload_place(&begin, place, &what)?;
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let mut put = call(Method::PUT, place, bytes.clone());
        put.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let done = self.call(at, put).await?;
        match done.response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.unexpected(done, &what).await),
        }
    }

    /// Under the reference's tag, or under its own digest where it has none.
    pub(crate) async fn store_manifest(
        &self,
        at: &Reference,
        media_type: &'static str,
        bytes: Vec<u8>,
    ) -> Result<Digest, OciError> {
        let digest = Digest::of(&bytes);
        let what = format!("the manifest of {at}");
        let name = at.tag().map_or_else(|| digest.to_string(), str::to_owned);
        let call = Call {
            method: Method::PUT,
            url: self.url(at, &format!("manifests/{name}"))?,
            action: Action::Push,
            what: &what,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]),
            body: bytes.into(),
            is_blob: false,
        };
        let answer = self.call(at, call).await?;
        if !matches!(answer.response.status(), StatusCode::CREATED | StatusCode::OK) {
            return Err(self.unexpected(answer, &what).await);
        }
        // A registry that stored something else says so here, if it says anything.
        let said = answer.response.headers().get(DIGEST_HEADER);
        match said.and_then(|v| v.to_str().ok()?.parse::<Digest>().ok()) {
            Some(found) if found != digest => Err(OciError::DigestMismatch { what, expected: digest, found }),
            _ => Ok(digest),
        }
    }

    /// Where to upload to is the registry's to say, but it is at the registry.
    fn upload_place(&self, from: &Url, place: Option<&str>, what: &str) -> Result<Url, OciError> {
        let host = name(from);
        let refuse =
            |why: &str| OciError::Redirect { host: host.clone(), what: what.to_owned(), why: why.to_owned() };
        let place = place.ok_or_else(|| refuse("without saying where to upload to"))?;
        let url = from.join(place).map_err(|_| refuse("the address cannot be read"))?;
        match same_origin(&url, from) {
            true => Ok(url),
            false => Err(refuse("and nothing is written elsewhere")),
        }
    }
}
