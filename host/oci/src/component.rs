//! One component as an artifact.
//!
//! Written in the CNCF's layout for Wasm: an image manifest whose config is `application/vnd.wasm.config.v0+json` and whose
//! one layer is `application/wasm`. Read in that one and in those that Spin, Kubewarden, wasmCloud and `oras` push: any
//! config, and exactly one layer of a type for Wasm. It does not judge the component: imports, grants and validity are
//! the engine's business.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::app::locked::{self, LOCKED_APP};
use crate::digest::Digest;
use crate::error::OciError;
use crate::manifest::{
    Annotations, Descriptor, Document, Index, MANIFEST, Manifest, ManifestError, check_annotations,
};
use crate::reference::{Pinned, Reference};
use crate::registry::Registry;
use crate::transport::Limit;
use crate::wasm;

/// A component that was pulled: its bytes have `component` as digest, and it belongs to the manifest that was asked for.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// As asked for: of the manifest, or of the list that led to it.
    pub digest: Digest,
    /// Of the bytes.
    pub component: Digest,
    pub bytes: Bytes,
    pub annotations: Annotations,
    /// Where the artifact has the CNCF's config.
    pub config: Option<WasmConfig>,
}

/// A component to be pushed.
#[derive(Clone, Debug)]
pub struct Component {
    pub bytes: Bytes,
    pub annotations: Annotations,
    /// Part of the artifact, and so of its digest: the same component with the same time is the same artifact.
    pub created: Timestamp,
}

/// The CNCF's config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WasmConfig {
    pub created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    pub architecture: String,
    pub os: String,
    pub layer_digests: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentConfig {
    #[serde(default)]
    pub exports: Vec<String>,
    #[serde(default)]
    pub imports: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

pub(crate) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub(crate) const WASM: &str = "application/wasm";
/// Before there was a common layout: Spin and Kubewarden, wasmCloud, runwasi.
const LEGACY_WASM: [&str; 4] = [
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.wasm.component.layer.v0+wasm",
];

impl Registry {
    /// Pulls the component of this digest and no other.
    pub async fn pull(&self, at: &Pinned) -> Result<Artifact, OciError> {
        self.within(self.pull_component(at)).await
    }

    async fn pull_component(&self, at: &Pinned) -> Result<Artifact, OciError> {
        let manifest = self.one_manifest(at).await?;
        let layer = only_wasm(&manifest)?;
        let what = format!("the component of {at}");
        let limit = self.component_limit(&what);
        let config = self.config(at.reference(), &manifest).await?;
        let bytes = self.blob(at.reference(), layer, limit).await?;
        if !wasm::begins_as_wasm(&bytes) {
            return Err(ManifestError::NotWasm.into());
        }
        let component = layer.digest;
        Ok(Artifact { digest: at.digest(), component, bytes, annotations: manifest.annotations, config })
    }

    /// Pushes, and returns the digest of the manifest.
    pub async fn push(&self, at: &Reference, component: &Component) -> Result<Digest, OciError> {
        self.within(self.push_component(at, component)).await
    }

    async fn push_component(&self, at: &Reference, component: &Component) -> Result<Digest, OciError> {
        if at.digest().is_some() {
            return Err(OciError::PushToDigest(at.to_string()));
        }
        check_annotations(&component.annotations)?;
        let what = "the component";
        if component.bytes.len() as u64 > self.settings.limits.component_bytes {
            let limit = self.settings.limits.component_bytes;
            return Err(OciError::TooLarge { what: what.to_owned(), limit, key: "component_bytes" });
        }
        let config = Bytes::from(json(&WasmConfig::of(component)?)?);
        let layer = Descriptor::of(WASM, &component.bytes).titled("component.wasm");
        let manifest =
            Manifest::new(Descriptor::of(WASM_CONFIG, &config), vec![layer], component.annotations.clone());
        self.store_blob(at, &component.bytes).await?;
        self.store_blob(at, &config).await?;
        self.store_manifest(at, MANIFEST, json(&manifest)?).await
    }

    /// The manifest of a digest, through a list if it has exactly one entry for Wasm.
    pub(crate) async fn one_manifest(&self, at: &Pinned) -> Result<Manifest, OciError> {
        match self.manifest(at).await?.document {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(index) => self.member(at.reference(), only_entry(&index)?).await,
        }
    }

    pub(crate) fn component_limit<'a>(&self, what: &'a str) -> Limit<'a> {
        Limit { what, bytes: self.settings.limits.component_bytes, key: "component_bytes" }
    }

    async fn config(&self, at: &Reference, manifest: &Manifest) -> Result<Option<WasmConfig>, OciError> {
        if manifest.config.media_type != WASM_CONFIG {
            return Ok(None);
        }
        let limit =
            Limit { what: "the config", bytes: self.settings.limits.manifest_bytes, key: "manifest_bytes" };
        let bytes = self.blob(at, &manifest.config, limit).await?;
        let config = WasmConfig::parse(&bytes)?;
        let layers = manifest.layers.iter().map(|layer| layer.digest);
        match layers.eq(config.layer_digests.iter().copied()) {
            true => Ok(Some(config)),
            false => Err(ManifestError::ConfigLayers.into()),
        }
    }
}

impl WasmConfig {
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        serde_json::from_slice(bytes).map_err(ManifestError::Config)
    }

    fn of(component: &Component) -> Result<Self, ManifestError> {
        if !wasm::begins_as_wasm(&component.bytes) {
            return Err(ManifestError::NotWasm);
        }
        let outline = wasm::outline(&component.bytes).map_err(ManifestError::Component)?;
        let names = ComponentConfig { exports: outline.exports, imports: outline.imports, target: None };
        Ok(Self {
            created: component.created,
            author: None,
            architecture: "wasm".to_owned(),
            // By the layout's rule, which has no word for the preview itself: what is no component is called wasip1.
            os: if outline.is_component { "wasip2" } else { "wasip1" }.to_owned(),
            layer_digests: vec![Digest::of(&component.bytes)],
            component: outline.is_component.then_some(names),
        })
    }
}

pub(crate) fn is_wasm(layer: &Descriptor) -> bool {
    layer.media_type == WASM || LEGACY_WASM.contains(&layer.media_type.as_str())
}

/// The one layer that is Wasm. Layers of other kinds (a signature, a readme) are left where they are.
pub fn only_wasm(manifest: &Manifest) -> Result<&Descriptor, ManifestError> {
    if locked::is_app(manifest) {
        return Err(ManifestError::IsApp);
    }
    let mut found = manifest.layers.iter().filter(|layer| is_wasm(layer));
    match (found.next(), found.count()) {
        (Some(layer), 0) => Ok(layer),
        (Some(_), more) => Err(ManifestError::ManyWasm(more + 1)),
        (None, _) => {
            let kinds: Vec<_> =
                manifest.layers.iter().map(|l| crate::text::shown(&l.media_type)).take(5).collect();
            let kinds = if kinds.is_empty() { "it has none".to_owned() } else { kinds.join(", ") };
            Err(ManifestError::NoWasm(kinds))
        }
    }
}

/// The one entry of a list that is for Wasm.
pub fn only_entry(index: &Index) -> Result<&Descriptor, ManifestError> {
    let is_wasm = |entry: &&Descriptor| {
        let kind = entry.artifact_type.as_deref();
        entry.platform.as_ref().is_some_and(|p| p.architecture == "wasm")
            || kind.is_some_and(|k| k == WASM_CONFIG || k == WASM || k == LOCKED_APP)
    };
    let mut found = index.manifests.iter().filter(is_wasm);
    match (found.next(), found.count()) {
        (Some(entry), 0) => Ok(entry),
        (None, _) => Err(ManifestError::List { found: 0 }),
        (Some(_), more) => Err(ManifestError::List { found: more + 1 }),
    }
}

pub(crate) fn json(value: &impl Serialize) -> Result<Vec<u8>, ManifestError> {
    serde_json::to_vec(value).map_err(ManifestError::Json)
}
