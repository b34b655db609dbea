//! The status route answered by the host itself: the baseline that the function `status` is measured against. Only
//! routed in the hidden benchmark mode; no feature may live here.

use http::Response;
use lanner_core::ScanId;

use super::{Body, Caller, Code, document};
use crate::capability::view;
use crate::scan::ports::StoreError;
use crate::scan::{QueryError, Scans};

/// The same JSON as `GET /v1/scans/{id}`.
pub async fn native_status(scans: &Scans, caller: &Caller, id: &str) -> Response<Body> {
    let Ok(id) = id.parse::<ScanId>() else { return of_query(&QueryError::Unknown) };
    match scans.get(&caller.reach, &id).await {
        Ok(scan) => document("application/json", view::scan(&scan).to_string()),
        Err(error) => of_query(&error),
    }
}

pub(super) fn of_query(error: &QueryError) -> Response<Body> {
    match error {
        QueryError::Unknown => Code::NotFound.answer("there is no such scan"),
        QueryError::Store(error) => of_store(error),
    }
}

pub(super) fn of_store(error: &StoreError) -> Response<Body> {
    tracing::error!(error = error as &dyn std::error::Error, "the store failed");
    match error {
        StoreError::Full => Code::DiskFull.answer("the disk is full: try again later"),
        StoreError::Failed(_) => Code::Failed.answer("the service could not do this; its log says why"),
    }
}
