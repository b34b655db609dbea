//! Manifests and indexes as registries keep them: read strictly, written the same way every time.
//!
//! These are our own types and not a crate's for two reasons: a digest is checked while it is read, and annotations are
//! kept in order, so that the same artifact has the same bytes, and with them the same digest, each time it is pushed.
//! It knows no network and nothing of Wasm.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::text::shown;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// What we ask a registry for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

const TITLE: &str = "org.opencontainers.image.title";

const MAX_LAYERS: usize = 1000;
const MAX_ANNOTATIONS: usize = 256;

pub type Annotations = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub manifests: Vec<Descriptor>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest cannot be read")]
    Json(#[source] serde_json::Error),
    #[error("the manifest is of the type {}, which is not known here", shown(.0))]
    Type(String),
    #[error("the manifest calls itself {} and is sent as {}", shown(.said), shown(.sent))]
    TwoTypes { said: String, sent: String },
    #[error("the manifest has both layers and manifests, so that two readers might see two things")]
    Ambiguous,
    #[error("the manifest has schemaVersion {0}; 2 is known")]
    Schema(u32),
    #[error("the manifest has more than {0} {1}")]
    TooMany(usize, &'static str),
    #[error("the manifest list holds {found} entries for Wasm, one is needed: name its digest")]
    List { found: usize },
    #[error("a manifest list leads to another manifest list")]
    Nested,
    #[error("no layer is a Wasm component ({})", .0)]
    NoWasm(String),
    #[error("{0} layers are Wasm, one is needed")]
    ManyWasm(usize),
    #[error("this is an app, not a component: pull it as an app")]
    IsApp,
    #[error("the layer does not begin as Wasm does")]
    NotWasm,
    #[error("the config cannot be read")]
    Config(#[source] serde_json::Error),
    #[error("the config lists other layers than the manifest")]
    ConfigLayers,
    #[error("the component cannot be read")]
    Component(#[source] wasmparser::BinaryReaderError),
    #[error("the annotation {} is too long or too many: at most {MAX_ANNOTATIONS}, of 4096 bytes each", shown(.0))]
    Annotation(String),
}

impl Descriptor {
    pub(crate) fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            annotations: Annotations::new(),
            artifact_type: None,
            platform: None,
        }
    }

    /// The file's name that other tools give to what they pull.
    pub(crate) fn titled(mut self, name: &str) -> Self {
        self.annotations.insert(TITLE.to_owned(), name.to_owned());
        self
    }
}

impl Manifest {
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>, annotations: Annotations) -> Self {
        let media_type = Some(MANIFEST.to_owned());
        Self {
            schema_version: 2,
            media_type,
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations,
        }
    }
}

impl Document {
    /// `sent` is the type by which the registry sent it; it must not contradict the type inside.
    pub fn parse(bytes: &[u8], sent: Option<&str>) -> Result<Self, ManifestError> {
        let head: Head = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if head.manifests.is_some() && (head.layers.is_some() || head.config.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        // `text/plain` and the like come from stores that know no better; a manifest's type must agree.
        let sent = sent.map(|s| s.split(';').next().unwrap_or(s).trim()).filter(|s| is_known(s));
        if let (Some(said), Some(sent)) = (&head.media_type, sent)
            && said != sent
        {
            return Err(ManifestError::TwoTypes { said: said.clone(), sent: sent.to_owned() });
        }
        let document = match head.media_type.as_deref().or(sent) {
            Some(MANIFEST | DOCKER_MANIFEST) => Self::manifest(bytes)?,
            Some(INDEX | DOCKER_LIST) => Self::index(bytes)?,
            Some(other) => return Err(ManifestError::Type(other.to_owned())),
            None if head.manifests.is_some() => Self::index(bytes)?,
            None => Self::manifest(bytes)?,
        };
        match document.schema() {
            2 => Ok(document),
            other => Err(ManifestError::Schema(other)),
        }
    }

    fn manifest(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(ManifestError::TooMany(MAX_LAYERS, "layers"));
        }
        check_annotations(&manifest.annotations)?;
        Ok(Self::Manifest(Box::new(manifest)))
    }

    fn index(bytes: &[u8]) -> Result<Self, ManifestError> {
        let index: Index = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        match index.manifests.len() {
            0..=MAX_LAYERS => Ok(Self::Index(index)),
            _ => Err(ManifestError::TooMany(MAX_LAYERS, "manifests")),
        }
    }

    fn schema(&self) -> u32 {
        match self {
            Self::Manifest(manifest) => manifest.schema_version,
            Self::Index(index) => index.schema_version,
        }
    }
}

pub(crate) fn check_annotations(annotations: &Annotations) -> Result<(), ManifestError> {
    let bad = annotations
        .iter()
        .enumerate()
        .find(|(i, (key, value))| *i >= MAX_ANNOTATIONS || key.len() > 4096 || value.len() > 4096);
    match bad {
        Some((_, (key, _))) => Err(ManifestError::Annotation(key.clone())),
        None => Ok(()),
    }
}

/// Enough to tell what a document is. The bodies are only asked whether they are there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    media_type: Option<String>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

fn is_known(media_type: &str) -> bool {
    [MANIFEST, DOCKER_MANIFEST, INDEX, DOCKER_LIST].contains(&media_type)
}

/// Writers in Go write `null` for an empty list or map.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
