//! `lanner serve`: flags over the configuration, then the host serves until it is told to stop.

use std::time::Duration;

use anyhow::Context;

use super::{Exit, ServeArgs};
use crate::{app, telemetry};

pub(super) fn run(args: ServeArgs) -> anyhow::Result<Exit> {
    let mut config = args.common.config()?;
    config.data_dir = args.data_dir.unwrap_or(config.data_dir);
    config.listen = args.listen.unwrap_or(config.listen);
    config.admin_listen = args.admin_listen.unwrap_or(config.admin_listen);
    config.bench_native = args.bench_native;
    telemetry::init(&config.env, "info");
    let runtime = tokio::runtime::Runtime::new().context("the asynchronous runtime cannot start")?;
    let served = runtime.block_on(app::serve(&config));
    // What is still blocked on a disk after the drain must not hold the end back.
    runtime.shutdown_timeout(Duration::from_secs(2));
    served.map(|()| Exit::Clean)
}
