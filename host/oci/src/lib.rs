//! Functions, filters and apps in OCI registries: a tag resolved to a digest, an artifact pulled by digest, pushed, signed,
//! verified.
//!
//! A registry is hostile: every size that it declares may lie, every byte may be another one, every answer may be slow,
//! endless, or lead elsewhere. What leaves this crate has the digest that was asked for. It does not decide what runs: it
//! knows no engine, no grant and no life cycle, it keeps nothing on disk, and it reads no environment variable.
//!
//! One way in: [`Registry`], whose verbs are `resolve`, `pull`, `push`, `pull_app`, `push_app`, `sign`, `verify`.

#![forbid(unsafe_code)]

mod address;
mod app;
mod auth;
mod component;
mod credentials;
mod digest;
mod error;
mod fetch;
mod manifest;
mod place;
mod reference;
mod registry;
mod settings;
mod sign;
mod store;
mod text;
mod transport;
mod wasm;

pub use app::locked::LockedApp;
pub use app::{App, AppComponent, AppError, AppSource};
pub use component::{Artifact, Component, ComponentConfig, WasmConfig, only_entry, only_wasm};
pub use credentials::{CredentialsError, DockerConfig};
pub use digest::{Digest, DigestError};
pub use error::OciError;
pub use manifest::{Annotations, Descriptor, Document, Index, Manifest, ManifestError, Platform};
pub use reference::{Pinned, Reference, ReferenceError};
pub use registry::Registry;
pub use settings::{BlobRedirects, Limits, Settings};
pub use sign::bundle::Bundle;
pub use sign::payload::SimpleSigning;
pub use sign::{KeyId, Need, PublicKey, SignatureError, SigningKey, Verified, Verify};
