//! Registries that are slow, silent or busy.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lanner_oci::{Limits, OciError, Registry, Settings};

use crate::server::{Reply, Server};
use crate::stocked;

fn patient(server: &Server, stall_ms: u64, deadline_ms: u64) -> Registry {
    let limits = Limits {
        stall: Duration::from_millis(stall_ms),
        deadline: Duration::from_millis(deadline_ms),
        ..Limits::default()
    };
    Registry::new(Settings { limits, ..server.settings() }).unwrap()
}

/// What is said about the registry, which has another port each time.
fn said(server: &Server, error: &OciError) -> String {
    crate::said(error).replace(&server.address.to_string(), "HOST")
}

async fn pulled(server: &Server, registry: &Registry, digest: lanner_oci::Digest) -> OciError {
    registry.pull(&server.at("a:1").at(digest)).await.expect_err("it was pulled")
}

#[tokio::test]
async fn a_silent_registry_is_given_up() {
    let (server, digest) = stocked(Server::with(|_| {
        Some(Reply::raw(|_| {
            std::thread::sleep(Duration::from_secs(2));
            Ok(())
        }))
    }));
    let error = pulled(&server, &patient(&server, 200, 10_000), digest).await;
    assert_eq!(said(&server, &error), "HOST sent nothing for 0.2 s (`stall`)");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let (server, digest) = stocked(Server::with(|asked| {
        asked.is_blob().then(|| {
            Reply::raw(|to| {
                to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\0")?;
                to.flush()?;
                std::thread::sleep(Duration::from_secs(2));
                Ok(())
            })
        })
    }));
    let error = pulled(&server, &patient(&server, 200, 10_000), digest).await;
    assert_eq!(said(&server, &error), "HOST sent nothing for 0.2 s (`stall`)");
}

#[tokio::test]
async fn a_body_that_trickles_meets_the_deadline() {
    let (server, digest) = stocked(Server::with(|asked| {
        asked.is_blob().then(|| {
            Reply::raw(|to| {
                to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n")?;
                for byte in *b"\0asm\x0d\0\x01" {
                    to.write_all(&[byte])?;
                    to.flush()?;
                    std::thread::sleep(Duration::from_millis(400));
                }
                Ok(())
            })
        })
    }));
    let error = pulled(&server, &patient(&server, 20_000, 1200), digest).await;
    assert_eq!(error.to_string(), "not done after 1.2 s (`deadline`)");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_busy_registry_is_waited_for_as_long_as_it_asks() {
    let count = AtomicUsize::new(0);
    let (server, digest) = stocked(Server::with(move |_| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| Reply::Full(429, vec![("retry-after", "1".to_owned())], Vec::new()))
    }));
    let began = Instant::now();
    let artifact = server.registry().pull(&server.at("a:1").at(digest)).await;
    artifact.expect("after the wait it is pulled");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_registry_that_is_always_busy_is_left() {
    for status in [429, 503] {
        let (server, digest) = stocked(Server::with(move |_| {
            Some(Reply::Full(status, vec![("retry-after", "0".to_owned())], Vec::new()))
        }));
        let error = pulled(&server, &server.registry(), digest).await;
        assert_eq!(said(&server, &error), "HOST is busy and asks us to come back later, again and again");
        assert!(error.is_transient());
        assert_eq!(server.seen().len(), 4);
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_not_begun() {
    let (server, digest) = stocked(Server::with(|_| {
        Some(Reply::Full(429, vec![("retry-after", "86400".to_owned())], Vec::new()))
    }));
    let error = pulled(&server, &server.registry(), digest).await;
    let expected = "HOST is busy and asks us to come back in 86400 s, longer than we wait (`retry_after`)";
    assert_eq!(said(&server, &error), expected);
    assert!(
        matches!(error, OciError::Busy { after: Some(after), .. } if after == Duration::from_secs(86400))
    );
}

#[tokio::test]
async fn what_a_registry_says_about_its_failure_is_passed_on_escaped() {
    let (server, digest) = stocked(Server::with(|_| {
        let body = "{\"errors\":[{\"code\":\"UNKNOWN\",\"message\":\"no \\u001b[31mroom\"}]}";
        Some(Reply::Full(500, Vec::new(), body.into()))
    }));
    let error = pulled(&server, &server.registry(), digest).await;
    let text = said(&server, &error);
    assert!(text.ends_with("with status 500: \"no \\u{1b}[31mroom\""), "{text}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_registry_that_is_away_is_unreachable_and_no_verdict() {
    let (server, digest) = stocked(Server::honest());
    let (at, registry) = (server.at("a:1").at(digest), server.registry());
    drop(server);
    let error = registry.pull(&at).await.unwrap_err();
    assert!(error.to_string().ends_with(" cannot be reached"), "{error}");
    assert!(error.is_transient());
}
