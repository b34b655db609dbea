//! `alerts`: what was seen in a scan.

use wasmtime::component::{Accessor, HasSelf};

use super::State;
use super::generated::lanner::platform::alerts::{Host, HostWithStore};
use super::generated::lanner::platform::jobs::JobError;
use super::jobs::{of_query, on_behalf, parse};
use super::view;

impl Host for State {}

impl<T: Send> HostWithStore<T> for HasSelf<State> {
    async fn of_scan(
        accessor: &Accessor<T, Self>,
        id: String,
        include_suppressed: bool,
    ) -> Result<String, JobError> {
        let (scans, caller) = on_behalf(accessor)?;
        let alerts = scans.alerts(&caller.reach, &parse(&id)?).await.map_err(of_query)?;
        let shown = alerts.iter().filter(|a| include_suppressed || !a.suppressed());
        Ok(serde_json::Value::from_iter(shown.map(view::alert)).to_string())
    }
}
