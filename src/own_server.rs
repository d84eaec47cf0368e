//! A server of this command's own: `halloo serve` on free ports as a child process, that ends with it.

use anyhow::{Context, Result};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long anything may take to start.
pub(crate) const START: Duration = Duration::from_secs(15);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// A running `halloo serve`, killed when dropped.
#[derive(Debug)]
pub(crate) struct OwnServer {
    child: Child,
    /// Where it listens.
    pub(crate) url: String,
}

impl OwnServer {
    /// Starts one with more arguments. What is set in the environment for a real server on this machine is not for this one.
    ///
    /// # Errors
    /// Where it does not start.
    pub(crate) async fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = halloo()?
            .args(["serve", "--json", "--port", "0"])
            .args(arguments)
            .env_remove("HALLOO_CONFIG")
            .env_remove("HALLOO_BIND")
            .env_remove("HALLOO_KEY")
            .stdout(Stdio::piped())
            .spawn()
            .context("could not start the server")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        let read = timeout(START, BufReader::new(stdout).read_line(&mut line)).await;
        read.context("the server did not say within 15 s where it listens")??;
        let banner: serde_json::Value = serde_json::from_str(&line)
            .with_context(|| format!("the server did not say where it listens, but: {line:?}"))?;
        let url = banner["url"].as_str().context("the server did not say its address")?.to_owned();
        Ok(Self { child, url })
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Stops it.
    pub(crate) async fn stop(mut self) {
        interrupt(&self.child);
        if timeout(STOP, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// This very program, as a child that is killed when dropped.
pub(crate) fn halloo() -> Result<Command> {
    let program = std::env::current_exe().context("could not find this program's own file")?;
    let mut command = Command::new(program);
    command.kill_on_drop(true).stdin(Stdio::null());
    Ok(command)
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    if let Some(pid) = child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

#[cfg(not(unix))]
fn interrupt(_: &Child) {}
