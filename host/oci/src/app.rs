//! A whole app (a `spin.toml` and its components) as one artifact, in the layout that `spin registry push` writes: a layer
//! with the locked app, and a layer for each component. Ours carries the `spin.toml` itself as well, because the locked
//! form leaves our grants out; Spin passes over that layer.
//!
//! It knows routes and components by name. What a component may import, and whether a route can be served, is for the
//! reader of the manifest to say.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::app::locked::{LOCKED_APP, LockedApp, is_app};
use crate::component::{is_wasm, json};
use crate::digest::Digest;
use crate::error::OciError;
use crate::manifest::{Annotations, Descriptor, MANIFEST, Manifest, check_annotations};
use crate::reference::{Pinned, Reference};
use crate::registry::Registry;
use crate::text::shown;
use crate::transport::Limit;
use crate::wasm;

pub(crate) mod locked;
mod source;

/// An app that was pulled.
#[derive(Clone, Debug)]
pub struct App {
    /// Of the artifact's manifest, as asked for.
    pub digest: Digest,
    /// The app's `spin.toml`: as its author wrote it where the artifact carries it, else made of the locked app, and then
    /// without grants. Its sources are names to people; the components are these here, by id.
    pub manifest: String,
    pub components: BTreeMap<String, AppComponent>,
    pub annotations: Annotations,
}

#[derive(Clone, Debug)]
pub struct AppComponent {
    pub digest: Digest,
    pub bytes: Bytes,
}

/// An app to be pushed.
#[derive(Clone, Debug)]
pub struct AppSource {
    /// The text of `spin.toml`.
    pub manifest: String,
    /// What its sources hold, by the component's id.
    pub components: BTreeMap<String, Bytes>,
    pub annotations: Annotations,
}

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("the artifact is no app: it has no layer of the type {LOCKED_APP}")]
    NoApp,
    #[error("the artifact has {0} more than once")]
    Twice(&'static str),
    #[error("the locked app cannot be read")]
    Json(#[source] serde_json::Error),
    #[error("the locked app cannot be written")]
    Write(#[source] serde_json::Error),
    // Its message alone: the whole text would quote lines of the file as they are.
    #[error("the app's spin.toml cannot be read: {}", shown(.0.message()))]
    Toml(Box<toml::de::Error>),
    #[error("the app's spin.toml is no UTF-8")]
    Utf8,
    #[error("the app's spin.toml cannot be written")]
    WriteToml(#[source] toml::ser::Error),
    #[error("spin_lock_version is {0}; 0 and 1 are known")]
    LockVersion(u32),
    #[error("spin_manifest_version is {0}; 2 is known")]
    ManifestVersion(u32),
    #[error("the app asks for {}, which is not served here", shown(.0))]
    Unserved(String),
    #[error("component {}: it asks for `{}`, which is not served here", shown(.0), .1)]
    ComponentUnserved(String, &'static str),
    #[error("component {}: the id is no name: 1 to 64 letters, digits and `-`, beginning with a letter", shown(.0))]
    Id(String),
    #[error("the trigger of type {} is not served here, only http", shown(.0))]
    Trigger(String),
    #[error("a route names the component {}, which is not there", shown(.0))]
    NoComponent(String),
    #[error("the app has more than {0} {1}")]
    TooMany(usize, &'static str),
    #[error("component {}: no layer for Wasm has its digest", shown(.0))]
    NoLayer(String),
    #[error("component {}: it does not begin as Wasm does", shown(.0))]
    NotWasm(String),
    #[error("component {}: spin.toml names it, and its bytes are not given", shown(.0))]
    NoBytes(String),
    #[error(
        "the artifact's spin.toml and its locked app say different things, so that two hosts would serve two apps"
    )]
    Disagree,
}

/// `spin.toml` as its author wrote it.
const APP_MANIFEST: &str = "application/vnd.lanner.app.manifest.v1+toml";
const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

impl Registry {
    /// Pulls the app of this digest and no other.
    pub async fn pull_app(&self, at: &Pinned) -> Result<App, OciError> {
        self.within(self.pull_whole_app(at)).await
    }

    async fn pull_whole_app(&self, at: &Pinned) -> Result<App, OciError> {
        let manifest = self.one_manifest(at).await?;
        if !is_app(&manifest) {
            return Err(AppError::NoApp.into());
        }
        let place = at.reference();
        let limit = |what| Limit { what, bytes: self.settings.limits.manifest_bytes, key: "manifest_bytes" };
        let layers = || manifest.layers.iter().chain([&manifest.config]);
        let locked = only(layers(), LOCKED_APP, "a locked app")?.ok_or(AppError::NoApp)?;
        let locked = LockedApp::parse(&self.blob(place, locked, limit("the locked app")).await?)?;
        let text = match only(layers(), APP_MANIFEST, "a spin.toml")? {
            None => source::write(&locked)?,
            Some(layer) => {
                let bytes = self.blob(place, layer, limit("the app's spin.toml")).await?;
                let text = String::from_utf8(bytes.into()).map_err(|_| AppError::Utf8)?;
                source::agrees(&text, &locked)?;
                text
            }
        };
        let components = self.app_components(place, &manifest, &locked).await?;
        Ok(App { digest: at.digest(), manifest: text, components, annotations: manifest.annotations })
    }

    async fn app_components(
        &self,
        at: &Reference,
        manifest: &Manifest,
        locked: &LockedApp,
    ) -> Result<BTreeMap<String, AppComponent>, OciError> {
        let limits = &self.settings.limits;
        if locked.components().len() > limits.components {
            return Err(AppError::TooMany(limits.components, "components (`components`)").into());
        }
        let mut left = limits.app_bytes;
        let mut pulled: BTreeMap<Digest, Bytes> = BTreeMap::new();
        let mut components = BTreeMap::new();
        for (id, digest) in locked.components() {
            let bytes = match pulled.get(&digest) {
                Some(bytes) => bytes.clone(),
                None => {
                    let layer = manifest.layers.iter().find(|l| l.digest == digest && is_wasm(l));
                    let layer = layer.ok_or_else(|| AppError::NoLayer(id.to_owned()))?;
                    let what = format!("the component {id}");
                    if layer.size > left {
                        let (what, limit) = ("the app".to_owned(), limits.app_bytes);
                        return Err(OciError::TooLarge { what, limit, key: "app_bytes" });
                    }
                    left -= layer.size;
                    self.blob(at, layer, self.component_limit(&what)).await?
                }
            };
            if !wasm::begins_as_wasm(&bytes) {
                return Err(AppError::NotWasm(id.to_owned()).into());
            }
            pulled.insert(digest, bytes.clone());
            components.insert(id.to_owned(), AppComponent { digest, bytes });
        }
        Ok(components)
    }

    /// Pushes, and returns the digest of the manifest.
    pub async fn push_app(&self, at: &Reference, app: &AppSource) -> Result<Digest, OciError> {
        self.within(self.push_whole_app(at, app)).await
    }

    async fn push_whole_app(&self, at: &Reference, app: &AppSource) -> Result<Digest, OciError> {
        if at.digest().is_some() {
            return Err(OciError::PushToDigest(at.to_string()));
        }
        check_annotations(&app.annotations)?;
        let locked = source::lock(&app.manifest, &app.components)?;
        let mut layers: Vec<(Descriptor, Bytes)> = Vec::new();
        for (id, digest) in locked.components() {
            // The lock was made of these very bytes.
            let bytes = app.components.get(id).ok_or_else(|| AppError::NoBytes(id.to_owned()))?;
            if bytes.len() as u64 > self.settings.limits.component_bytes {
                let (what, limit) = (format!("the component {id}"), self.settings.limits.component_bytes);
                return Err(OciError::TooLarge { what, limit, key: "component_bytes" });
            }
            if !layers.iter().any(|(known, _)| known.digest == digest) {
                let layer = Descriptor::of(LEGACY_COMPONENT, bytes).titled(&format!("{id}.wasm"));
                layers.push((layer, bytes.clone()));
            }
        }
        let locked = locked.write()?;
        let config = image_config(&locked)?;
        let toml = app.manifest.as_bytes();
        layers.push((Descriptor::of(LOCKED_APP, &locked), locked.into()));
        layers.push((Descriptor::of(APP_MANIFEST, toml).titled("spin.toml"), Bytes::copy_from_slice(toml)));
        for (_, bytes) in &layers {
            self.store_blob(at, bytes).await?;
        }
        let layers = layers.into_iter().map(|(layer, _)| layer).collect();
        let manifest = Manifest::new(Descriptor::of(IMAGE_CONFIG, &config), layers, app.annotations.clone());
        self.store_blob(at, &config).await?;
        self.store_manifest(at, MANIFEST, json(&manifest)?).await
    }
}

/// By which name Spin knows a component's layer.
const LEGACY_COMPONENT: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// The one layer of a type, or none.
fn only<'m>(
    layers: impl Iterator<Item = &'m Descriptor>,
    media_type: &str,
    what: &'static str,
) -> Result<Option<&'m Descriptor>, AppError> {
    let mut found = layers.filter(|layer| layer.media_type == media_type);
    match (found.next(), found.next()) {
        (one, None) => Ok(one),
        (_, Some(_)) => Err(AppError::Twice(what)),
    }
}

/// An image's config as container tools want it. The label makes it another one for another app.
fn image_config(locked: &[u8]) -> Result<Bytes, OciError> {
    let label = Digest::of(locked).to_string();
    let config = serde_json::json!({
        "architecture": "wasm",
        "config": { "Labels": { "com.fermyon.spin.lockedAppDigest": label } },
        "os": "wasip1",
        "rootfs": { "diff_ids": [], "type": "layers" },
    });
    Ok(json(&config)?.into())
}
