//! A function that misbehaves as its path says.

use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::http_service;

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let body = match request.uri().path() {
        "/trap" => panic!("on purpose"),
        "/loop" => loop {
            std::hint::black_box(());
        },
        "/memory" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1u8; 1 << 20]);
                std::hint::black_box(&hoard);
            }
        }
        "/outbound" => match std::env::vars().next() {
            Some(_) => "an environment".to_owned(),
            None => "nothing".to_owned(),
        },
        _ => "good".to_owned(),
    };
    Response::new(body)
}
