//! `lanner serve`.

use super::{Exit, ServeArgs};

pub(super) fn run(args: ServeArgs) -> anyhow::Result<Exit> {
    let mut config = args.common.config()?;
    config.data_dir = args.data_dir.unwrap_or(config.data_dir);
    config.listen = args.listen.unwrap_or(config.listen);
    config.admin_listen = args.admin_listen.unwrap_or(config.admin_listen);
    config.bench_native = args.bench_native;
    anyhow::bail!("not wired yet")
}
