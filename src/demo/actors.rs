//! The demo's endpoints: processes whose report is waited for.

use anyhow::{Context, Result, bail};
use std::time::Duration;
use tokio::{io::AsyncReadExt, process::Child, time::timeout};

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
