//! Compiling apart: in a child process under limits, because Cranelift can be neither cancelled nor held to an amount
//! of memory inside this one. The child is this program again, as `lanner compile`: WebAssembly in, machine code out.
//!
//! What comes back is run as code, so it is trusted as our own compiler's word is; the limits are there for its
//! time and memory, not against itself. It knows nothing of what the component is for.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmtime::component::Component;

use super::config;

/// How to compile apart.
#[derive(Clone, Debug)]
pub struct Apart {
    /// This program.
    pub program: PathBuf,
    pub memory_bytes: u64,
    pub cpu: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum ApartError {
    #[error("the compiler could not be started")]
    Start(#[source] std::io::Error),
    #[error("it does not compile: {0}")]
    Invalid(String),
    #[error("compiling it takes more than {} s of CPU time", .0.as_secs())]
    Time(Duration),
    #[error(
        "compiling it takes more than {memory_mib} MiB of memory, or breaks the compiler (signal {signal})"
    )]
    Broke { memory_mib: u64, signal: i32 },
    #[error("its compiled code has more than {} MiB", .0 >> 20)]
    Large(u64),
}

/// Compiled code is larger than WebAssembly, by a small factor.
const MAX_CODE: u64 = 512 << 20;
const MAX_MESSAGE: u64 = 2048;
/// Beyond its CPU time, a child may wait for the processor.
const PATIENCE: u32 = 4;

impl Apart {
    /// Compiles in a child; the code is for an engine of the same settings as [`super::Engine`].
    pub(super) async fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, ApartError> {
        let mut child = self.start().map_err(ApartError::Start)?;
        let (mut stdin, mut stdout, mut stderr) =
            match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
                (Some(i), Some(o), Some(e)) => (i, o.take(MAX_CODE + 1), e.take(MAX_MESSAGE)),
                _ => return Err(ApartError::Start(std::io::Error::other("it has no pipes"))),
            };
        let (mut code, mut message) = (Vec::new(), Vec::new());
        let work = async {
            let send = async {
                // A child that refuses early closes its end; what it says then counts.
                let _ = stdin.write_all(wasm).await;
                drop(stdin);
            };
            let (_, read, _) =
                tokio::join!(send, stdout.read_to_end(&mut code), stderr.read_to_end(&mut message));
            read.map(|_| ())
        };
        let finished = tokio::time::timeout(self.cpu * PATIENCE, work).await;
        if code.len() as u64 > MAX_CODE {
            return Err(ApartError::Large(MAX_CODE));
        }
        match finished {
            Ok(read) => read.map_err(ApartError::Start)?,
            Err(_) => return Err(ApartError::Time(self.cpu)),
        }
        let status = child.wait().await.map_err(ApartError::Start)?;
        if status.success() { Ok(code) } else { Err(self.failed(status, &message)) }
    }

    #[expect(clippy::disallowed_methods, reason = "the engine's own child: this program as compiler")]
    fn start(&self) -> std::io::Result<tokio::process::Child> {
        tokio::process::Command::new(&self.program)
            .arg("compile")
            .arg(self.memory_bytes.to_string())
            .arg(self.cpu.as_secs().max(1).to_string())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }

    fn failed(&self, status: std::process::ExitStatus, message: &[u8]) -> ApartError {
        use std::os::unix::process::ExitStatusExt;
        match status.signal() {
            Some(libc::SIGXCPU | libc::SIGKILL) => ApartError::Time(self.cpu),
            Some(signal) => ApartError::Broke { memory_mib: self.memory_bytes >> 20, signal },
            None => ApartError::Invalid(String::from_utf8_lossy(message).trim().to_owned()),
        }
    }
}

/// `lanner compile MEMORY-BYTES CPU-SECONDS`: the child.
pub fn main(arguments: &[String]) -> ExitCode {
    match compile(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compile(arguments: &[String]) -> anyhow::Result<()> {
    let number = |at: usize| arguments.get(at).and_then(|a| a.parse::<u64>().ok());
    let (Some(memory), Some(cpu)) = (number(0), number(1)) else {
        anyhow::bail!("usage: lanner compile MEMORY-BYTES CPU-SECONDS < COMPONENT > CODE")
    };
    for (resource, most) in [(Resource::As, memory), (Resource::Cpu, cpu), (Resource::Core, 0)] {
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    // Requests and scans go first.
    let _ = rustix::process::nice(10);
    let mut wasm = Vec::new();
    std::io::stdin().read_to_end(&mut wasm)?;
    // On demand: the pool of the serving engine would reserve terabytes of address space here.
    let engine = wasmtime::Engine::new(&config()).map_err(anyhow::Error::from)?;
    let component = Component::from_binary(&engine, &wasm).map_err(anyhow::Error::from)?;
    let code = component.serialize().map_err(anyhow::Error::from)?;
    std::io::stdout().write_all(&code)?;
    Ok(())
}
