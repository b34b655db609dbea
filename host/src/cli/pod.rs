//! `lanner pod`: what a Job's manifest runs in a scan's pod. Nobody types it.

use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;
use lanner_kubernetes::job::{SCAN_FOLDER, WORK};

use super::Exit;
use crate::config::environment;
use crate::runner::kubernetes::inside::{Pod, attend};

#[derive(Debug, Subcommand)]
pub(super) enum PodCommand {
    /// Copy this program to a place that the package manager's image sees
    Install {
        to: PathBuf,
        /// Also writes `passwd` and `group` beside it, with this name for the pod's user
        #[arg(long)]
        user: String,
    },
    /// Come to the host by the scan's token, and run its agent
    Run,
    /// Try whether the API server can be reached: for `lanner doctor`
    Reach,
}

/// The exit code of `reach` if it can be; 0 if not.
pub(in crate::cli) const REACHED: u8 = 10;
/// Longer than a packet that is dropped on the way is asked for again.
const REACH: Duration = Duration::from_secs(5);
/// A new pod's rules come a moment after it, in either direction: the last of so many tries counts.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_secs(1);

pub(super) fn run(command: &PodCommand) -> anyhow::Result<Exit> {
    match command {
        PodCommand::Install { to, user } => install(to, user),
        PodCommand::Run => attended(),
        PodCommand::Reach => reach(),
    }
}

fn install(to: &Path, user: &str) -> anyhow::Result<Exit> {
    let own = std::env::current_exe().context("this program's own path is unknown")?;
    std::fs::copy(&own, to).with_context(|| format!("{} cannot be written", to.display()))?;
    let mode = std::fs::Permissions::from_mode(0o555);
    std::fs::set_permissions(to, mode)
        .with_context(|| format!("{} cannot be made executable", to.display()))?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let home = Path::new(WORK).join(SCAN_FOLDER).join("home").join(user);
    let passwd = format!(
        "root:x:0:0:root:/root:/bin/sh\n{user}:x:{uid}:{gid}:{user}:{}:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        home.display()
    );
    let group = format!("root:x:0:\n{user}:x:{gid}:\nnogroup:x:65534:\n");
    for (name, text) in [("passwd", passwd), ("group", group)] {
        let file = to.with_file_name(name);
        std::fs::write(&file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(Exit::Clean)
}

fn reach() -> anyhow::Result<Exit> {
    let env = environment();
    let given = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let (Some(host), Some(port)) = (given("KUBERNETES_SERVICE_HOST"), given("KUBERNETES_SERVICE_PORT"))
    else {
        bail!("this is no pod: the API server's address is in no variable");
    };
    let port = port.parse().context("the API server's port is none")?;
    let address = (host, port).to_socket_addrs().context("the API server's address is none")?.next();
    let address = address.context("the API server has no address")?;
    let mut last = TcpStream::connect_timeout(&address, REACH);
    for _ in 1..TRIES {
        std::thread::sleep(BETWEEN);
        last = TcpStream::connect_timeout(&address, REACH);
    }
    match last {
        Ok(_) => Ok(Exit::Reached),
        Err(error) => {
            println!("{address}: {error}");
            Ok(Exit::Clean)
        }
    }
}

fn attended() -> anyhow::Result<Exit> {
    // The package runs as the same user: it must not read the key from this process's memory.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context("this process cannot be closed to others")?;
    let (ours, env): (Vec<_>, Vec<_>) =
        environment().into_iter().partition(|(name, _)| name.starts_with("LANNER_POD_"));
    let given = |name: &str| match ours.iter().find(|(n, v)| n == name && !v.is_empty()) {
        Some((_, value)) => Ok(value.clone()),
        None => bail!("{name} is not set: this is run by a scan's Job"),
    };
    let pod = Pod {
        url: given("LANNER_POD_URL")?,
        authority: given("LANNER_POD_AUTHORITY")?,
        token: given("LANNER_POD_TOKEN")?,
        work_dir: WORK.into(),
        program: std::env::current_exe().context("this program's own path is unknown")?,
        env,
    };
    // One thread: the agent dies with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("the asynchronous runtime cannot start")?;
    runtime.block_on(attend(pod))?;
    Ok(Exit::Clean)
}
