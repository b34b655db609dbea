//! A function that tests make into many: the 16 bytes behind `SHIFTY:` are replaced in the built component. They are the
//! answer to every request; `trap…` fails one request in a hundred, `slow…` works 50 times as long, `sick…` fails its
//! health request.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use spin_sdk::http::{IntoResponse, Request, Response, StatusCode};
use spin_sdk::http_service;

static MARKED: [u8; 23] = *b"SHIFTY:good 0          ";

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    // Read as it lies in memory, not as the compiler knew it.
    let marked = unsafe { std::ptr::read_volatile(&raw const MARKED) };
    let name = String::from_utf8_lossy(&marked[7..]).trim_end().to_owned();
    let path = request.uri().path();
    let mut status = StatusCode::OK;
    if name.starts_with("trap") && RandomState::new().build_hasher().finish() % 100 == 0 {
        panic!("on purpose");
    }
    if path == "/health" && name.starts_with("sick") {
        status = StatusCode::SERVICE_UNAVAILABLE;
    }
    if path == "/work" {
        work(if name.starts_with("slow") { 50 } else { 1 });
    }
    if path == "/long" {
        work(700);
    }
    Response::builder().status(status).body(name)
}

fn work(ms: u64) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(ms) {
        std::hint::black_box(());
    }
}
