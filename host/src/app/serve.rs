//! `lanner serve`: listeners around a host, from the first bind to the last drained connection.
//!
//! The order matters: addresses are taken before anything is opened, so that a second start fails without touching the
//! first one's data; on a stop the listeners close first, then requests end, then running scans.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::cluster::Cluster;
use super::{Host, accounts, falco, filters};
use crate::config::Config;
use crate::http::admin::Admin;
use crate::http::auth::Gate;
use crate::http::metrics::{Metrics, register_sizes};
use crate::http::policies::Policies;
use crate::http::router::{BodyLimits, LISTENERS, Router};
use crate::intake::Intake;
use crate::net::{self, Bounds};
use crate::tasks::{OnError, OnStop, Signals, Supervisor, TaskKind};

const SCANS: TaskKind = TaskKind { name: "scans", on_error: OnError::Stop, on_stop: OnStop::Finish };
const RECYCLE: TaskKind = TaskKind { name: "recycle", on_error: OnError::Log, on_stop: OnStop::Abort };
const RETRY: TaskKind = TaskKind { name: "filter retry", on_error: OnError::Log, on_stop: OnStop::Abort };
const SOURCES: TaskKind =
    TaskKind { name: "function source", on_error: OnError::Log, on_stop: OnStop::Abort };
const FILTERS: TaskKind = TaskKind { name: "filter source", on_error: OnError::Log, on_stop: OnStop::Abort };
const REJUDGE: TaskKind =
    TaskKind { name: "rejudge, resumed", on_error: OnError::Log, on_stop: OnStop::Finish };
const CLIENTS: TaskKind = TaskKind { name: "listener", on_error: OnError::Stop, on_stop: OnStop::Finish };
const OPERATORS: TaskKind =
    TaskKind { name: "admin listener", on_error: OnError::Stop, on_stop: OnStop::Finish };

/// Probes and scrapers are few.
const ADMIN_CONNECTIONS: usize = 64;

/// Serves until a signal, or until something that it needs fails.
pub async fn serve(config: &Config) -> anyhow::Result<()> {
    let mut gate = Gate::load(&config.credentials, config.accounts())?;
    gate.may_listen(config.listen)?;
    let mut signals = Signals::new().context("signals cannot be waited for")?;
    let listener = net::bind(config.listen, "--listen").await?;
    let admin_listener = net::bind(config.admin_listen, "--admin-listen").await?;
    let entrance = falco::entrance(config).await?;
    let supervisor = Supervisor::new();
    let cluster = Cluster::connect(config, supervisor.stop()).await?;
    if let (Some(accounts), Some(cluster)) = (config.accounts(), &cluster) {
        gate.ask(accounts::reviewer(cluster.client(), accounts.audience()));
    }
    let host = Host::open_on(config, &config.data_dir, cluster.as_ref()).await?;
    resume_rejudge(&host, &supervisor).await?;

    tracing::info!(address = %listener.local_addr()?, "listening");
    tracing::info!(address = %admin_listener.local_addr()?, "health and metrics");
    if let Some(cluster) = cluster {
        if let Some(objects) = config.objects() {
            filters::watch(cluster.client(), objects, config, host.policy.clone(), &supervisor);
        }
        cluster.start(&supervisor)?;
    }
    let instances = falco::instances(&config.falco.instances)?;
    let has_door = entrance.is_some() || !config.falco.instances.is_empty() || config.falco.pods.is_some();
    let intake = has_door.then(|| falco::pump(&host, &supervisor));
    if let Some(intake) = &intake {
        falco::subscribe(instances, intake, &supervisor);
        falco::discover(&config.falco, intake, &supervisor).await?;
        if let Some(entrance) = entrance {
            falco::listen(config, intake, &supervisor, entrance)?;
        }
    }
    start(config, &host, gate, &supervisor, intake, listener, admin_listener);
    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "stopping: a second signal leaves at once"),
        () = supervisor.stop().cancelled() => {}
    }
    host.scans.stop_accepting();
    supervisor.stop().cancel();
    drain(&supervisor, &mut signals, config.http.drain).await?;
    match supervisor.failed() {
        Some(task) => anyhow::bail!("the task \"{task}\" failed; the log says why"),
        None => Ok(()),
    }
}

/// Goes on with what an earlier life of this host began to judge again.
async fn resume_rejudge(host: &Host, supervisor: &Supervisor) -> anyhow::Result<()> {
    if let Some(rest) = host.scans.resume_rejudge().await? {
        let (scans, stop) = (host.scans.clone(), supervisor.stop().clone());
        supervisor.spawn(REJUDGE, scans.rejudge(rest, stop).map(Ok::<_, std::convert::Infallible>));
    }
    Ok(())
}

fn start(
    config: &Config,
    host: &Host,
    gate: Gate,
    supervisor: &Supervisor,
    intake: Option<Intake>,
    listener: TcpListener,
    admin_listener: TcpListener,
) {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    register_sizes(&mut registry, host.scans.clone());
    if let Some(intake) = &intake {
        intake.register(&mut registry);
    }
    let stop = supervisor.stop().clone();
    let router = Arc::new(Router {
        functions: Arc::new(host.functions.clone()),
        revisions: host.functions.clone(),
        scans: host.scans.clone(),
        policies: Policies {
            policy: host.policy.clone(),
            scans: host.scans.clone(),
            supervisor: supervisor.clone(),
            max_bytes: config.policy.max_bytes,
        },
        gate,
        metrics,
        limits: BodyLimits {
            max_bytes: config.max_body_bytes,
            pause: config.http.body_pause,
            pace: config.http.body_pace,
        },
        stop: stop.clone(),
        listeners: Arc::new(Semaphore::new(LISTENERS)),
        intake,
        bench_native: config.bench_native,
    });
    let admin = Arc::new(Admin { registry, data_dir: config.data_dir.clone(), stop: stop.clone() });
    let bounds = Bounds {
        connections: config.http.connections,
        head: config.http.header_timeout,
        pause: config.http.body_pause,
    };
    let (scans, recycling) = (host.scans.clone(), host.scans.clone());
    let run_stop = stop.clone();
    supervisor.spawn(SCANS, async move {
        scans.run(run_stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
    supervisor.spawn(
        RETRY,
        host.policy.clone().retry_regularly(stop.clone()).map(Ok::<_, std::convert::Infallible>),
    );
    for name in host.policy.sourced().map(|(name, _)| name.clone()) {
        let watched = host.policy.clone().watch(name, stop.clone());
        supervisor.spawn(FILTERS, watched.map(Ok::<_, std::convert::Infallible>));
    }
    for name in host.functions.names().cloned() {
        let watched = host.functions.clone().watch(name, stop.clone());
        supervisor.spawn(SOURCES, watched.map(Ok::<_, std::convert::Infallible>));
    }
    supervisor.spawn(RECYCLE, async move {
        recycling.recycle_regularly(stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
    let answer = move |request| {
        let router = router.clone();
        async move { router.answer(request).await }
    };
    supervisor.spawn(CLIENTS, net::serve(listener, None, bounds, supervisor.clone(), answer));
    let bounds = Bounds { connections: ADMIN_CONNECTIONS, ..bounds };
    let answer = move |request| {
        let admin = admin.clone();
        async move { admin.answer(request).await }
    };
    supervisor.spawn(OPERATORS, net::serve(admin_listener, None, bounds, supervisor.clone(), answer));
}

async fn drain(supervisor: &Supervisor, signals: &mut Signals, deadline: Duration) -> anyhow::Result<()> {
    tokio::select! {
        drained = supervisor.finish(deadline) => {
            if !drained {
                tracing::warn!(left = supervisor.len(), "the drain deadline is over: leaving with tasks undone");
            }
            Ok(())
        }
        signal = signals.next() => anyhow::bail!("left at once on a second {signal}"),
    }
}
