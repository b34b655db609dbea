//! The package managers: one entry each. A new one is an entry here and a sample in `tests/packages`; the host stays as
//! it is.

/// How a package manager is recognised, asked and run.
pub struct Manager {
    pub name: &'static str,
    /// A project has one of these at its root.
    pub manifests: &'static [&'static str],
    pub tools: &'static [&'static str],
    /// `config get` keys, and what becomes of each answer.
    pub probe: &'static [(&'static str, Use)],
    /// For a project with one of these files, and for one without.
    pub locked: (&'static [&'static str], &'static [&'static str]),
    pub unlocked: &'static [&'static str],
    /// The package's name and version follow.
    pub package: &'static [&'static str],
    /// Written into the empty project that a package is installed into.
    pub project_file: (&'static str, &'static str),
    pub env: &'static [(&'static str, &'static str)],
    pub proxy_env: &'static [&'static str],
    pub package_roots: &'static [&'static str],
}

pub enum Use {
    Registry(&'static str),
    CaFile(&'static str),
    Folder(&'static str, &'static str),
}

pub const MANAGERS: &[Manager] = &[Manager {
    name: "npm",
    manifests: &["package.json"],
    tools: &["npm", "node"],
    probe: &[
        ("registry", Use::Registry("npm_config_registry")),
        ("cafile", Use::CaFile("npm_config_cafile")),
        // Headers for native builds: node-gyp would fetch them from a host that is on no list.
        ("nodedir", Use::Folder("npm_config_nodedir", "include/node/node_version.h")),
        ("prefix", Use::Folder("npm_config_nodedir", "include/node/node_version.h")),
    ],
    // Flags beat every configuration file, so a project cannot switch its own scripts off while it is looked at.
    locked: (
        &["package-lock.json", "npm-shrinkwrap.json"],
        &["npm", "ci", "--ignore-scripts=false", "--foreground-scripts=false"],
    ),
    unlocked: &["npm", "install", "--ignore-scripts=false", "--foreground-scripts=false"],
    package: &["npm", "install", "--ignore-scripts=false", "--foreground-scripts=false", "--save-exact"],
    project_file: ("package.json", "{\"name\":\"app\",\"version\":\"1.0.0\",\"private\":true}\n"),
    env: &[
        ("npm_config_audit", "false"),
        ("npm_config_fund", "false"),
        ("npm_config_update_notifier", "false"),
        ("npm_config_loglevel", "warn"),
        ("npm_config_progress", "false"),
        // Everything goes the one way out, a registry on loopback too.
        ("npm_config_noproxy", ""),
        ("NO_PROXY", ""),
        ("no_proxy", ""),
    ],
    proxy_env: &[
        "npm_config_proxy",
        "npm_config_https_proxy",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    ],
    package_roots: &["node_modules"],
}];

pub fn by_name(name: &str) -> Option<&'static Manager> {
    MANAGERS.iter().find(|m| m.name == name)
}

/// By the files at the project's root.
pub fn by_files(top_level: &[String]) -> Option<&'static Manager> {
    MANAGERS.iter().find(|m| m.fits(top_level))
}

pub fn names() -> String {
    MANAGERS.iter().map(|m| m.name).collect::<Vec<_>>().join(", ")
}

impl Manager {
    pub fn fits(&self, top_level: &[String]) -> bool {
        self.manifests.iter().any(|f| top_level.iter().any(|t| t == f))
    }

    pub fn project_argv(&self, top_level: &[String]) -> &'static [&'static str] {
        let locked = self.locked.0.iter().any(|f| top_level.iter().any(|t| t == f));
        if locked { self.locked.1 } else { self.unlocked }
    }
}
