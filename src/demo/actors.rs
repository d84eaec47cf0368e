//! The demo's processes: one server, and endpoints. Each is killed with the demo.

use crate::endpoint::conversation::cpu_seconds_of;
use anyhow::{Context, Result, bail};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long anything may take to start.
pub(super) const START: Duration = Duration::from_secs(15);

/// A running `halloo serve`.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    /// Where it listens.
    pub url: String,
}

impl Server {
    /// Starts one on a free port, with a data folder of its own.
    pub(super) async fn start() -> Result<Self> {
        let mut child = halloo()?
            .args(["serve", "--port", "0", "--json"])
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

    /// CPU time that it has used so far, in seconds, where the system says it.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        cpu_seconds_of(&self.child.id()?.to_string())
    }

    /// Stops it.
    pub(super) async fn stop(mut self) {
        interrupt(&self.child);
        if timeout(Duration::from_secs(3), self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// What an endpoint left.
#[derive(Debug)]
pub(super) struct Finished {
    /// Its report, as `--json` printed it.
    pub report: serde_json::Value,
}

/// Waits for an endpoint's end and its report. What it said on a standard error that is piped and still there is told where it
/// failed.
pub(super) async fn finish(name: &str, mut child: Child, limit: Duration) -> Result<Finished> {
    let mut stdout = child.stdout.take().with_context(|| format!("{name} has no output"))?;
    let mut stderr = child.stderr.take();
    let (mut text, mut said) = (String::new(), String::new());
    let done = timeout(limit, async {
        let listen = async {
            match &mut stderr {
                Some(stderr) => stderr.read_to_string(&mut said).await,
                None => Ok(0),
            }
        };
        tokio::try_join!(stdout.read_to_string(&mut text), listen)?;
        child.wait().await
    })
    .await;
    for line in said.lines().filter(|_| !matches!(&done, Ok(Ok(status)) if status.success())) {
        eprintln!("    {name}: {line}");
    }
    let status = done.with_context(|| format!("{name} did not finish in time"))??;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    let report = serde_json::from_str(&text).with_context(|| format!("{name}'s report is not JSON: {text:?}"))?;
    Ok(Finished { report })
}

/// This very program.
pub(super) fn halloo() -> Result<Command> {
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
