//! Finds what is said to be signed of an artifact: under cosign's `.sig` tag, and among the referrers (the registry's list of
//! them, or the tag that stands in for it). What is found is hostile until a key has said otherwise: the number of
//! signatures and their sizes are bounded.

use http::header::{ACCEPT, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use super::bundle::{BUNDLE, Bundle};
use super::payload::{SIGNATURE, SIMPLE_SIGNING, SimpleSigning};
use super::{PublicKey, SignatureError};
use crate::auth::Action;
use crate::digest::Digest;
use crate::error::OciError;
use crate::manifest::{Descriptor, Document, INDEX, Index, Manifest};
use crate::reference::Pinned;
use crate::registry::{Call, Registry};
use crate::transport::Limit;

/// One signature of either kind.
pub(super) enum Found {
    Simple(SimpleSigning),
    Bundle(Bundle),
}

/// More than these are not looked at, and not passed over in silence either.
pub(super) const MAX_SIGNATURES: usize = 64;
const MAX_PAYLOAD: u64 = 64 << 10;
const MAX_BUNDLE: u64 = 1 << 20;
/// The signatures that cosign stored as a referrer while it was trying that out.
const SIGNATURE_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

impl Found {
    pub(super) fn is_by(&self, key: &PublicKey, digest: &Digest) -> bool {
        match self {
            Self::Simple(signing) => signing.is_by(key, digest),
            Self::Bundle(bundle) => bundle.is_by(key, digest),
        }
    }
}

impl Registry {
    /// The manifest under the `.sig` tag, if there is one.
    pub(super) async fn signature_manifest(&self, at: &Pinned) -> Result<Option<Manifest>, OciError> {
        let tag = at.reference().tag_of(&at.digest(), ".sig");
        Ok(match self.tagged(&tag).await?.map(|fetched| fetched.document) {
            Some(Document::Manifest(manifest)) => Some(*manifest),
            Some(Document::Index(_)) | None => None,
        })
    }

    pub(super) async fn tagged_signatures(&self, at: &Pinned) -> Result<Vec<Found>, OciError> {
        match self.signature_manifest(at).await? {
            Some(manifest) => self.signatures_in(at, &manifest).await,
            None => Ok(Vec::new()),
        }
    }

    pub(super) async fn referred_signatures(&self, at: &Pinned) -> Result<Vec<Found>, OciError> {
        let is_signature = |entry: &&Descriptor| {
            let kind = entry.artifact_type.as_deref().unwrap_or_default();
            kind.starts_with(BUNDLE) || kind == SIGNATURE_ARTIFACT
        };
        let entries = self.referrers(at).await?.manifests;
        let entries: Vec<_> = entries.iter().filter(is_signature).collect();
        if entries.len() > MAX_SIGNATURES {
            return Err(SignatureError::TooMany(MAX_SIGNATURES).into());
        }
        let mut found = Vec::new();
        for entry in entries {
            let manifest = self.member(at.reference(), entry).await?;
            found.extend(self.signatures_in(at, &manifest).await?);
        }
        Ok(found)
    }

    async fn signatures_in(&self, at: &Pinned, manifest: &Manifest) -> Result<Vec<Found>, OciError> {
        if manifest.layers.len() > MAX_SIGNATURES {
            return Err(SignatureError::TooMany(MAX_SIGNATURES).into());
        }
        let mut found = Vec::new();
        for layer in &manifest.layers {
            let what = "a signature";
            if layer.media_type == SIMPLE_SIGNING {
                let Some(annotation) = layer.annotations.get(SIGNATURE) else { continue };
                let limit = Limit { what, bytes: MAX_PAYLOAD, key: "" };
                let payload = self.blob(at.reference(), layer, limit).await?;
                found.extend(SimpleSigning::new(payload.into(), annotation).map(Found::Simple));
            } else if layer.media_type.starts_with(BUNDLE) {
                let limit = Limit { what, bytes: MAX_BUNDLE, key: "" };
                let bundle = self.blob(at.reference(), layer, limit).await?;
                found.extend(Bundle::parse(&bundle).map(Found::Bundle));
            }
        }
        Ok(found)
    }

    async fn referrers(&self, at: &Pinned) -> Result<Index, OciError> {
        let what = "the referrers";
        let call = Call {
            method: Method::GET,
            url: self.url(at.reference(), &format!("referrers/{}", at.digest()))?,
            action: Action::Pull,
            what,
            headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(INDEX))]),
            body: bytes::Bytes::new(),
            is_blob: false,
        };
        let answer = self.call(at.reference(), call).await?;
        let document = match answer.response.status() {
            StatusCode::OK => {
                let (bytes, sent) = self.ok_body(answer, what).await?;
                Some(Document::parse(&bytes, sent.as_deref())?)
            }
            // A registry of before there were referrers, whose users keep the list under a tag.
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => {
                self.tagged(&at.reference().tag_of(&at.digest(), "")).await?.map(|fetched| fetched.document)
            }
            _ => return Err(self.unexpected(answer, what).await),
        };
        Ok(match document {
            Some(Document::Index(index)) => index,
            Some(Document::Manifest(_)) | None => Index::default(),
        })
    }
}
