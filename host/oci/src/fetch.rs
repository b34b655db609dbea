//! What a registry holds, read and checked: the digest behind a tag, manifests, blobs. Nothing leaves here that does not
//! have the digest and the size that it was asked for by.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Method, StatusCode};

use crate::auth::Action;
use crate::digest::Digest;
use crate::error::OciError;
use crate::manifest::{ACCEPT as MANIFESTS, Descriptor, Document, Manifest, ManifestError};
use crate::reference::{Pinned, Reference};
use crate::registry::{Answer, Call, Registry};
use crate::transport::Limit;

pub(crate) const DIGEST_HEADER: HeaderName = HeaderName::from_static("docker-content-digest");

/// A manifest as it was sent, and what it says.
pub(crate) struct Fetched {
    pub(crate) size: u64,
    pub(crate) document: Document,
}

impl Registry {
    /// The digest behind a reference now. A reference that has a digest is its own answer, without a question.
    ///
    /// `known` is what was found the last time; a registry that still has it answers without counting it as a pull.
    pub async fn resolve(&self, at: &Reference, known: Option<&Digest>) -> Result<Digest, OciError> {
        match at.digest() {
            Some(digest) => Ok(digest),
            None => self.within(self.resolve_tag(at, known)).await,
        }
    }

    async fn resolve_tag(&self, at: &Reference, known: Option<&Digest>) -> Result<Digest, OciError> {
        let what = format!("the digest of {at}");
        let mut call = self.manifest_call(at, at.tag().unwrap_or_default(), &what)?;
        call.method = Method::HEAD;
        if let Some(known) = known {
            let tag = HeaderValue::from_str(&format!("\"{known}\"")).ok();
            call.headers.extend(tag.map(|tag| (IF_NONE_MATCH, tag)));
        }
        let answer = self.call(at, call).await?;
        match (answer.response.status(), known) {
            (StatusCode::NOT_MODIFIED, Some(known)) => return Ok(*known),
            (StatusCode::OK, _) => {}
            // Not every registry answers HEAD; whether it is there is for GET to say.
            (StatusCode::METHOD_NOT_ALLOWED, _) => return self.hash_tag(at, &what).await,
            _ => return Err(self.unexpected(answer, &what).await),
        }
        // A word only: what is pulled by it is checked against it.
        match answer.response.headers().get(DIGEST_HEADER).and_then(|v| v.to_str().ok()?.parse().ok()) {
            Some(digest) => Ok(digest),
            None => self.hash_tag(at, &what).await,
        }
    }

    async fn hash_tag(&self, at: &Reference, what: &str) -> Result<Digest, OciError> {
        let call = self.manifest_call(at, at.tag().unwrap_or_default(), what)?;
        let answer = self.call(at, call).await?;
        let (bytes, _) = self.ok_body(answer, what).await?;
        Ok(Digest::of(&bytes))
    }

    /// The manifest of this digest. Bytes that have another one are refused.
    pub(crate) async fn manifest(&self, at: &Pinned) -> Result<Fetched, OciError> {
        let what = format!("the manifest of {at}");
        let call = self.manifest_call(at.reference(), &at.digest().to_string(), &what)?;
        let answer = self.call(at.reference(), call).await?;
        let (bytes, sent) = self.ok_body(answer, &what).await?;
        let found = Digest::of(&bytes);
        if found != at.digest() {
            return Err(OciError::DigestMismatch { what, expected: at.digest(), found });
        }
        let document = Document::parse(&bytes, sent.as_deref())?;
        Ok(Fetched { size: bytes.len() as u64, document })
    }

    /// The manifest under a tag, or nothing where the tag is not there.
    pub(crate) async fn tagged(&self, at: &Reference) -> Result<Option<Fetched>, OciError> {
        let what = format!("the manifest of {at}");
        let call = self.manifest_call(at, at.tag().unwrap_or_default(), &what)?;
        let answer = self.call(at, call).await?;
        if answer.response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let (bytes, sent) = self.ok_body(answer, &what).await?;
        let document = Document::parse(&bytes, sent.as_deref())?;
        Ok(Some(Fetched { size: bytes.len() as u64, document }))
    }

    /// The manifest of a member of a list, with its size checked too.
    pub(crate) async fn member(&self, at: &Reference, entry: &Descriptor) -> Result<Manifest, OciError> {
        let fetched = self.manifest(&at.at(entry.digest)).await?;
        if fetched.size != entry.size {
            let what = format!("the manifest {}", entry.digest);
            return Err(OciError::SizeMismatch { what, declared: entry.size, found: fetched.size });
        }
        match fetched.document {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(_) => Err(ManifestError::Nested.into()),
        }
    }

    /// The blob that a descriptor means: its digest, its size, and no byte more than `limit`.
    pub(crate) async fn blob(
        &self,
        at: &Reference,
        blob: &Descriptor,
        limit: Limit<'_>,
    ) -> Result<Bytes, OciError> {
        let what = limit.what;
        if blob.size > limit.bytes {
            return Err(OciError::TooLarge { what: what.to_owned(), limit: limit.bytes, key: limit.key });
        }
        let call = Call {
            method: Method::GET,
            url: self.url(at, &format!("blobs/{}", blob.digest))?,
            action: Action::Pull,
            what,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            is_blob: true,
        };
        let answer = self.call(at, call).await?;
        if answer.response.status() != StatusCode::OK {
            return Err(self.unexpected(answer, what).await);
        }
        // One byte more than was declared is enough to know that the declaration is a lie.
        let bound = Limit { bytes: blob.size + 1, ..limit };
        let read = self.transport.read(&answer.host, answer.response, bound).await;
        let wrong_size = |found| OciError::SizeMismatch { what: what.to_owned(), declared: blob.size, found };
        let bytes = match read {
            Err(OciError::TooLarge { .. }) => return Err(wrong_size(blob.size + 1)),
            other => other?,
        };
        if bytes.len() as u64 != blob.size {
            return Err(wrong_size(bytes.len() as u64));
        }
        match Digest::of(&bytes) {
            found if found == blob.digest => Ok(bytes),
            found => Err(OciError::DigestMismatch { what: what.to_owned(), expected: blob.digest, found }),
        }
    }

    fn manifest_call<'a>(&self, at: &Reference, name: &str, what: &'a str) -> Result<Call<'a>, OciError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MANIFESTS))]);
        Ok(Call {
            method: Method::GET,
            url: self.url(at, &format!("manifests/{name}"))?,
            action: Action::Pull,
            what,
            headers,
            body: Bytes::new(),
            is_blob: false,
        })
    }

    /// A manifest's bytes and the type that they were sent as.
    pub(crate) async fn ok_body(
        &self,
        answer: Answer,
        what: &str,
    ) -> Result<(Bytes, Option<String>), OciError> {
        if answer.response.status() != StatusCode::OK {
            return Err(self.unexpected(answer, what).await);
        }
        let sent = answer.response.headers().get(CONTENT_TYPE);
        let sent = sent.and_then(|v| v.to_str().ok()).map(str::to_owned);
        let limit = Limit { what, bytes: self.settings.limits.manifest_bytes, key: "manifest_bytes" };
        let bytes = self.transport.read(&answer.host, answer.response, limit).await?;
        Ok((bytes, sent))
    }
}
