//! `spin.toml`: which routes there are, which component answers each, and what each may import.
//!
//! Spin's manifest version 2, with our grants in `[component.X.tool.lanner]`, a table that Spin ignores. Of our own table
//! every key is known or refused; of Spin's, what we do not serve (other triggers, outbound hosts, stores) is refused by
//! name rather than left out in silence.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lanner_core::Name;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    spin_manifest_version: u32,
    #[expect(dead_code, reason = "part of the form; who wrote it is nothing that we act on")]
    application: toml::Table,
    trigger: Triggers,
    component: BTreeMap<Name, Component>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Triggers {
    http: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub route: String,
    pub component: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Component {
    source: Source,
    #[expect(dead_code, reason = "part of the form; nothing is built from it here")]
    #[serde(default)]
    build: toml::Table,
    #[expect(dead_code, reason = "part of the form; for people")]
    #[serde(default)]
    description: String,
    #[serde(default)]
    tool: Tool,
}

/// Where a component is, as Spin's manifest says it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a source is a path, { url, digest }, or { registry, package, version }")]
pub enum Source {
    Path(PathBuf),
    Url(UrlSource),
    Registry(RegistrySource),
}

/// A file on the web, which never changes: its digest is named with it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlSource {
    pub url: String,
    /// `sha256:…`
    pub digest: String,
}

/// An artifact in a registry. The version is a tag: what it names is looked up, and looked up again; or it is a digest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySource {
    pub registry: String,
    pub package: String,
    pub version: String,
}

impl FromStr for RegistrySource {
    type Err = ManifestError;

    /// `REGISTRY/REPOSITORY:TAG`, or `REGISTRY/REPOSITORY@sha256:…`.
    fn from_str(text: &str) -> Result<Self, ManifestError> {
        let bad =
            || ManifestError::Reference(lanner_core::text::escaped(&lanner_core::text::bounded(text, 200)));
        let (registry, rest) = text.split_once('/').ok_or_else(bad)?;
        let (package, version) = rest.split_once('@').or_else(|| rest.rsplit_once(':')).ok_or_else(bad)?;
        if [registry, package, version].iter().any(|part| part.is_empty()) {
            return Err(bad());
        }
        Ok(Self { registry: registry.to_owned(), package: package.to_owned(), version: version.to_owned() })
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Tool {
    #[serde(default)]
    lanner: Grants,
}

/// What a component may import and take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Requests that one instance serves, one after another; 1 makes every request meet a fresh instance.
    pub reuse: Option<usize>,
    pub memory_mib: Option<usize>,
    /// Wall clock time until a response begins, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// A request that a new revision must answer before anybody else's.
    pub health: Option<Health>,
}

/// A GET without side effects, and the status that says that all is well.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    pub path: String,
    #[serde(default = "ok")]
    pub status: u16,
}

fn ok() -> u16 {
    200
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    Jobs,
    Sources,
    Alerts,
    Logging,
}

/// One function as the app wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub name: Name,
    pub source: Source,
    pub grants: Grants,
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{0} cannot be read")]
    Read(String, #[source] std::io::Error),
    #[error("{0} is no manifest that can be served")]
    Parse(String, #[source] Box<toml::de::Error>),
    #[error("spin_manifest_version is {0}; 2 is known")]
    Version(u32),
    #[error("the route {0} names the component {1:?}, which is not there")]
    NoComponent(String, String),
    #[error("the route {0:?} does not begin with a slash, or has `...` elsewhere than at its end")]
    BadRoute(String),
    #[error("{0} is no artifact: write REGISTRY/REPOSITORY:TAG")]
    Reference(String),
    #[error("component {0}: `reuse` is from 1 to 1000")]
    Reuse(Name),
    #[error("component {0}: `health.path` begins with a slash")]
    Health(Name),
}

impl Manifest {
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| ManifestError::Read(name.clone(), e))?;
        Self::parse(&name, &text)
    }

    pub fn parse(name: &str, text: &str) -> Result<Self, ManifestError> {
        let manifest: Self =
            toml::from_str(text).map_err(|e| ManifestError::Parse(name.to_owned(), Box::new(e)))?;
        if manifest.spin_manifest_version != 2 {
            return Err(ManifestError::Version(manifest.spin_manifest_version));
        }
        for route in manifest.routes() {
            let good = route.route.starts_with('/') && !route.route.trim_end_matches("/...").contains("...");
            if !good {
                return Err(ManifestError::BadRoute(route.route.clone()));
            }
            if !manifest.component.keys().any(|name| name.as_str() == route.component) {
                return Err(ManifestError::NoComponent(route.route.clone(), route.component.clone()));
            }
        }
        for function in manifest.functions() {
            if function.grants.reuse.is_some_and(|r| !(1..=1000).contains(&r)) {
                return Err(ManifestError::Reuse(function.name));
            }
            if function.grants.health.is_some_and(|h| !h.path.starts_with('/')) {
                return Err(ManifestError::Health(function.name));
            }
        }
        Ok(manifest)
    }

    pub fn routes(&self) -> &[Route] {
        &self.trigger.http
    }

    pub fn functions(&self) -> impl Iterator<Item = Function> {
        self.component.iter().map(|(name, component)| Function {
            name: name.clone(),
            source: component.source.clone(),
            grants: component.tool.lanner.clone(),
        })
    }
}

/// How well a route fits a path; nothing if it does not. More literal parts win, as in Spin.
pub fn fit(route: &str, path: &str) -> Option<usize> {
    let (route, open) = match route.strip_suffix("/...") {
        Some(route) => (route, true),
        None => (route, false),
    };
    let parts = |text: &str| text.split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (wanted, given) = (parts(route), parts(path));
    let long_enough = if open { given.len() >= wanted.len() } else { given.len() == wanted.len() };
    let fits = wanted.iter().zip(&given).all(|(w, g)| w.starts_with(':') || w == g);
    (long_enough && fits)
        .then(|| wanted.iter().filter(|w| !w.starts_with(':')).count() * 2 + usize::from(!open))
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "
        spin_manifest_version = 2
        [application]
        name = \"a\"
        [[trigger.http]]
        route = \"/v1/scans/:id\"
        component = \"c\"
        [component.c]
        source = \"c.wasm\"
        [component.c.tool.lanner]
        capabilities = [\"jobs\"]
    ";

    #[test]
    fn routes_and_grants_are_read() {
        let manifest = Manifest::parse("a", APP).unwrap();
        assert_eq!(manifest.routes()[0].component, "c");
        assert_eq!(manifest.functions().next().unwrap().grants.capabilities, [Capability::Jobs]);
    }

    #[test]
    fn a_mistyped_grant_or_an_unserved_table_is_refused_by_name() {
        let refused = |from: &str, to: &str| {
            let error = Manifest::parse("a", &APP.replace(from, to)).unwrap_err();
            format!(
                "{error}: {}",
                std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
            )
        };
        assert!(refused("\"jobs\"", "\"job\"").contains("unknown variant `job`"));
        assert!(refused("capabilities", "capabilitys").contains("unknown field `capabilitys`"));
        assert!(
            refused("source =", "allowed_outbound_hosts = []\nsource =").contains("allowed_outbound_hosts")
        );
        assert!(refused("version = 2", "version = 1").contains("spin_manifest_version is 1"));
        assert!(refused("component = \"c\"", "component = \"d\"").contains("names the component \"d\""));
        assert!(refused("[component.c]", "[component.C]").contains("lower-case letters"));
        let health = "health = { path = \"x\" }\ncapabilities";
        assert!(refused("capabilities", health).contains("component c: `health.path` begins with a slash"));
        assert!(refused("\"c.wasm\"", "{ url = \"https://a\" }").contains("{ url, digest }"));
    }

    #[test]
    fn a_source_is_a_path_a_url_or_a_package() {
        let source = |text: &str| {
            let app = APP.replace("\"c.wasm\"", text);
            Manifest::parse("a", &app).unwrap().functions().next().unwrap().source
        };
        assert_eq!(source("\"c.wasm\""), Source::Path("c.wasm".into()));
        let url = source("{ url = \"https://a/c.wasm\", digest = \"sha256:0\" }");
        assert_eq!(url, Source::Url(UrlSource { url: "https://a/c.wasm".into(), digest: "sha256:0".into() }));
        let package = source("{ registry = \"r\", package = \"n:c\", version = \"1.0.0\" }");
        let (registry, package_is, version) = ("r".into(), "n:c".into(), "1.0.0".into());
        assert_eq!(package, Source::Registry(RegistrySource { registry, package: package_is, version }));
    }

    #[test]
    fn the_most_literal_route_wins() {
        assert_eq!(fit("/v1/scans", "/v1/scans/"), Some(5));
        assert_eq!(fit("/v1/scans/:id", "/v1/scans/abc"), Some(5));
        assert_eq!(fit("/v1/scans/:id/alerts", "/v1/scans/abc/alerts"), Some(7));
        assert_eq!(fit("/v1/scans/:id", "/v1/scans"), None);
        assert_eq!(fit("/", "/"), Some(1));
        assert!(fit("/a/...", "/a/b/c") < fit("/a/:x/c", "/a/b/c"));
    }
}
