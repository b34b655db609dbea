//! `lanner-cluster [--enforced] FOLDER [IMAGE.tar...]`: a Kubernetes of one node with those images, for as long as it runs:
//! until SIGINT, SIGTERM or the end of its input.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lanner_tests::cluster::{Cluster, Network};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).peekable();
    let enforced = args.next_if(|a| a == "--enforced").is_some();
    let network = if enforced { Network::Enforced } else { Network::Plain };
    let folder = args.next().context("usage: lanner-cluster [--enforced] FOLDER [IMAGE.tar...]")?;
    let end = end()?;
    let begun = Instant::now();
    let Some(cluster) = Cluster::start_with(Path::new(&folder), network)? else {
        std::process::exit(2);
    };
    for image in args {
        cluster.import(Path::new(&image))?;
    }
    println!("kubeconfig {}", cluster.kubeconfig.display());
    println!("gateway {}", cluster.gateway());
    println!("containerd {}", cluster.socket().display());
    if enforced {
        println!("namespace {}", cluster.namespace().display());
    }
    eprintln!("ready after {:.1} s", begun.elapsed().as_secs_f64());
    end.recv()?;
    let begun = Instant::now();
    drop(cluster);
    eprintln!("stopped after {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Says when it is time. Signals wait until the start is over, so that nothing is left half made.
fn end() -> Result<Receiver<()>> {
    // SAFETY: zeros are a valid set, and the calls write to nothing else.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        ensure!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) == 0, "signals");
        set
    };
    let (now, end) = channel();
    let by_signal = now.clone();
    std::thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: both outlive the call.
        unsafe { libc::sigwait(&raw const set, &raw mut signal) };
        let _ = by_signal.send(());
    });
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = now.send(());
    });
    Ok(end)
}
