//! `lanner policy push`: uploads a component, or names one in a registry, and shows what its trial changed.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use lanner_core::{Grant, Priority};
use serde_json::{Value, json};

use super::super::Exit;
use super::super::remote::{JSON, Remote};
use super::show;
use crate::manifest::RegistrySource;

#[derive(Debug, Args)]
pub(in crate::cli) struct PushArgs {
    /// The filter's name on the host
    name: String,
    /// The component, as `lanner policy build` writes it, or oci://REGISTRY/REPOSITORY:TAG
    component: String,
    /// A file with the filter's settings as JSON; without it they stay as they are
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Place among the filters, ascending
    #[arg(long)]
    order: Option<i32>,
    /// The largest part of a scan's alerts that it may suppress
    #[arg(long, value_name = "PERCENT", requires = "suppress_priority",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    suppress_percent: Option<u8>,
    /// The most urgent priority that it may suppress
    #[arg(long, value_name = "PRIORITY", requires = "suppress_percent")]
    suppress_priority: Option<Priority>,
    /// Judge along without changing anything; see `lanner policy diff`
    #[arg(long)]
    shadow: bool,
    /// Everything but putting it in
    #[arg(long)]
    dry_run: bool,
    /// Why; kept with the revision
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(args: &PushArgs) -> anyhow::Result<Exit> {
    let mut spec = json!({ "start": if args.shadow { "shadow" } else { "active" }, "note": args.note });
    let fields = spec.as_object_mut().context("a spec is an object")?;
    if let Some(file) = &args.settings {
        fields.insert("settings".into(), super::settings(file)?);
    }
    if let Some(order) = args.order {
        fields.insert("order".into(), order.into());
    }
    if let (Some(percent), Some(priority)) = (args.suppress_percent, args.suppress_priority) {
        fields.insert("may_suppress_up_to".into(), json!(Grant { percent, priority }));
    }
    let path = format!("/v1/policies/{}?dry-run={}", args.name, args.dry_run);
    let answer = match args.component.strip_prefix("oci://") {
        Some(reference) => {
            let source: RegistrySource = reference.parse()?;
            fields.insert("source".into(), json!(source));
            args.remote.ask("PUT", &path, JSON, spec.to_string().as_bytes())?
        }
        None => {
            let unread = || format!("{} cannot be read", args.component);
            let module = std::fs::read(&args.component).with_context(unread)?;
            let boundary = boundary()?;
            let kind = format!("multipart/form-data; boundary={boundary}");
            args.remote.ask("PUT", &path, &kind, &multipart(&boundary, &spec, &module))?
        }
    };
    show::pushed(&answer);
    Ok(Exit::Clean)
}

fn multipart(boundary: &str, spec: &Value, module: &[u8]) -> Vec<u8> {
    let part = |name: &str, kind: &str| {
        format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\ncontent-type: {kind}\r\n\r\n"
        )
    };
    let mut body = part("spec", "application/json").into_bytes();
    body.extend(spec.to_string().as_bytes());
    body.extend(b"\r\n");
    body.extend(part("module", "application/wasm").into_bytes());
    body.extend(module);
    body.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
    body
}

/// Nothing in a component can be made to look like it: it is drawn when the component is there already.
fn boundary() -> anyhow::Result<String> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).context("the kernel gives no random bytes")?;
    Ok(random.iter().map(|b| format!("{b:02x}")).collect())
}
