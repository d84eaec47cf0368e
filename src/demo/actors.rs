//! The demo's processes: one server, two endpoints. Each is killed with the demo.

use super::speech::{Clip, Clips};
use anyhow::{Context, Result, bail};
use std::{path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long anything may take to start.
const START: Duration = Duration::from_secs(15);

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

/// The call.
#[derive(Debug)]
pub(super) struct Plan {
    /// How long it takes.
    pub seconds: u64,
    /// Where each side's folder is.
    pub out: PathBuf,
    /// Where to sign in.
    pub server: String,
}

impl Plan {
    /// Lets alice call bob, and waits for both.
    pub(super) async fn call(&self, clips: &Clips) -> Result<(Finished, Finished)> {
        let mut bob = self.endpoint("bob", &["answer", "--as", "bob", "--once"], &clips.bob)?;
        let bob_says = bob.stderr.take().context("bob has no output")?;
        let mut lines = BufReader::new(bob_says).lines();
        timeout(START, async {
            while let Some(line) = lines.next_line().await? {
                if line.contains("waiting for calls") {
                    return Ok(());
                }
                eprintln!("    bob: {line}");
            }
            bail!("bob did not come online")
        })
        .await
        .context("bob did not come online within 15 s")??;
        let seconds = format!("{}s", self.seconds);
        let alice =
            self.endpoint("alice", &["call", "--as", "alice", "--to", "bob", "--duration", &seconds], &clips.alice)?;
        let limit = Duration::from_secs(self.seconds + 30);
        let echo = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("    bob: {line}");
            }
        });
        let (alice, bob) = tokio::join!(finish("alice", alice, limit), finish("bob", bob, limit));
        echo.abort();
        Ok((alice?, bob?))
    }

    fn endpoint(&self, name: &str, command: &[&str], clip: &Clip) -> Result<Child> {
        let folder = self.out.join(name);
        halloo()?
            .args(command)
            .args(["--server", &self.server, "--video-in", "pattern", "--json", "--audio-out", "none"])
            .args(["--audio-in", &clip.path_or("device")])
            .arg("--record")
            .arg(&folder)
            .arg("--media-log")
            .arg(&folder)
            .stdout(Stdio::piped())
            .stderr(if name == "bob" { Stdio::piped() } else { Stdio::inherit() })
            .spawn()
            .with_context(|| format!("could not start {name}"))
    }
}

async fn finish(name: &str, mut child: Child, limit: Duration) -> Result<Finished> {
    let mut stdout = child.stdout.take().with_context(|| format!("{name} has no output"))?;
    let mut text = String::new();
    let done = timeout(limit, async {
        stdout.read_to_string(&mut text).await?;
        child.wait().await
    })
    .await;
    let status = done.with_context(|| format!("{name} did not finish in time"))??;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    let report = serde_json::from_str(&text).with_context(|| format!("{name}'s report is not JSON: {text:?}"))?;
    Ok(Finished { report })
}

/// This very program.
fn halloo() -> Result<Command> {
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
