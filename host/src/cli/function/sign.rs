//! `lanner function sign` and `verify`, for those without cosign: what one signs the other accepts.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use lanner_oci::{Need, Reference, SigningKey, Verify};

use super::super::Exit;
use super::{RegistryArgs, block_on, pinned};
use crate::oci;

#[derive(Debug, Args)]
pub(in crate::cli) struct SignArgs {
    /// REGISTRY/REPOSITORY:TAG or …@sha256:…; a tag is signed as what it names now
    artifact: Reference,
    /// The private key: PKCS#8, or cosign's own form
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A file with the key's password; COSIGN_PASSWORD otherwise
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    /// REGISTRY/REPOSITORY:TAG or …@sha256:…
    artifact: Reference,
    /// A public key; may be given several times
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// All of the keys must have signed, not only one
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) fn sign(args: &SignArgs) -> anyhow::Result<Exit> {
    let (registry, config) = args.registry.open()?;
    let pem = std::fs::read_to_string(&args.key)
        .with_context(|| format!("the key {} cannot be read", args.key.display()))?;
    let of_environment = || config.env.iter().find(|(n, _)| n == "COSIGN_PASSWORD").map(|(_, v)| v.clone());
    let password = match &args.password_file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("the password file {} cannot be read", file.display()))?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        None => of_environment(),
    };
    let key = SigningKey::from_pem(&pem, password.as_deref())
        .with_context(|| format!("the key {} cannot be used", args.key.display()))?;
    let at = block_on(async {
        let at = pinned(&registry, &args.artifact).await?;
        registry.sign(&at, &key).await?;
        Ok(at)
    })?;
    println!("{at} is signed by {}", key.public().id());
    Ok(Exit::Clean)
}

pub(super) fn verify(args: &VerifyArgs) -> anyhow::Result<Exit> {
    let (registry, _) = args.registry.open()?;
    let keys = args.keys.iter().map(|path| oci::public_key(path)).collect::<Result<Vec<_>, _>>()?;
    let verify = Verify::new(keys, if args.all { Need::AllOf } else { Need::AnyOf })?;
    let (at, verified) = block_on(async {
        let at = pinned(&registry, &args.artifact).await?;
        let verified = registry.verify(&at, &verify).await?;
        Ok((at, verified))
    })?;
    for id in &verified.keys {
        println!("{at} is signed by {id}");
    }
    Ok(Exit::Clean)
}
