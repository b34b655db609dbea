//! `lanner relay`: flags become a relay's configuration, and it carries until its source ends or a signal comes.

use anyhow::Context;

use super::{Exit, RelayArgs};
use crate::relay::{self, ClientFiles, RelayConfig, Source};
use crate::tasks::{Signals, Supervisor};

pub(super) fn run(args: RelayArgs) -> anyhow::Result<Exit> {
    crate::telemetry::init(&crate::config::environment(), "info");
    let secret = args.secret_file.as_deref().map(std::fs::read_to_string).transpose();
    let secret = secret.context("the file of --secret-file cannot be read")?;
    let config = RelayConfig {
        source: args.file.map_or(Source::Stdin, Source::File),
        to: args.to,
        tls: args.ca_file.map(|ca| ClientFiles { ca, own: args.certificate_file.zip(args.key_file) }),
        secret: secret.map(|s| s.trim_end().to_owned()),
        spool: args.spool,
        spool_bytes: args.spool_mib << 20,
        name: args.name,
    };
    let runtime = tokio::runtime::Runtime::new().context("the asynchronous runtime cannot start")?;
    let carried = runtime.block_on(async {
        let mut signals = Signals::new().context("signals cannot be waited for")?;
        tokio::select! {
            carried = relay::run(config, Supervisor::new()) => Ok(carried?),
            // What was read is on disk; the next start sends it.
            signal = signals.next() => {
                tracing::info!(signal, "stopping: what is not acknowledged stays in the spool");
                Ok(())
            }
        }
    });
    // The reader waits for its source; it has nothing to lose.
    runtime.shutdown_background();
    carried.map(|()| Exit::Clean)
}
