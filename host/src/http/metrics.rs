//! Numbers for `/metrics`, in the text format of Prometheus. Every label comes from a closed set; sizes are taken when
//! they are asked for, never kept in step by hand.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::scan::Scans;

/// A handle: clones count into the same numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<Labels, Counter>,
    seconds: Family<RouteLabel, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    /// A pattern from the manifest or of the host's own routes, never a path that a client made up.
    route: String,
    method: MethodLabel,
    status: StatusLabel,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
enum MethodLabel {
    Get,
    Post,
    Delete,
    Other,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
enum StatusLabel {
    Success,
    Redirection,
    ClientError,
    ServerError,
}

const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0];

impl Metrics {
    pub fn new(registry: &mut Registry) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(BUCKETS);
        let this = Self { requests: Family::default(), seconds: Family::new_with_constructor(seconds) };
        let http = registry.sub_registry_with_prefix("lanner_http");
        http.register("requests", "Requests answered", this.requests.clone());
        http.register("request_seconds", "Time from the head to the answer's head", this.seconds.clone());
        this
    }

    pub(super) fn count(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let method = match *method {
            Method::GET | Method::HEAD => MethodLabel::Get,
            Method::POST => MethodLabel::Post,
            Method::DELETE => MethodLabel::Delete,
            _ => MethodLabel::Other,
        };
        let status = match status.as_u16() {
            ..300 => StatusLabel::Success,
            300..400 => StatusLabel::Redirection,
            400..500 => StatusLabel::ClientError,
            500.. => StatusLabel::ServerError,
        };
        let route = route.to_owned();
        self.requests.get_or_create(&Labels { route: route.clone(), method, status }).inc();
        self.seconds.get_or_create(&RouteLabel { route }).observe(took.as_secs_f64());
    }
}

/// Scans by what they wait for, and what this process takes from the machine.
pub fn register_sizes(registry: &mut Registry, scans: Scans) {
    registry.register_collector(Box::new(Sizes { scans }));
}

struct Sizes {
    scans: Scans,
}

impl std::fmt::Debug for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sizes")
    }
}

impl Collector for Sizes {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let load = self.scans.load();
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        gauge("lanner_scan_queued", "Scans that wait", count(load.queued))?;
        gauge("lanner_scan_running", "Scans that run", count(load.running))?;
        gauge("lanner_scan_queue_capacity", "Scans that may wait", count(load.capacity))?;
        gauge("lanner_scan_parallel", "Scans that may run at the same time", count(load.parallel))?;
        if let Some(bytes) = resident_bytes() {
            gauge("process_resident_memory_bytes", "Memory of the host in use", bytes)?;
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            gauge("process_open_fds", "Open file descriptors", count(files.count()))?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}
