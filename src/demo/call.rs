//! The demo's first part: two endpoints call each other.

use super::{
    actors::{Finished, finish},
    fresh_folder, say,
    speech::{Clip, Clips},
    verdict,
};
use crate::{
    measure::{Summary, Traces},
    own_server::{OwnServer, START, halloo},
    report::Side,
};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::timeout,
};

/// The measurements of the call. docs/report.md explains each field.
#[derive(Debug, Serialize)]
pub struct CallMeasured {
    /// From calling until media flowed, in milliseconds.
    pub connect_ms: Option<f64>,
    /// How long media flowed, in seconds.
    pub duration_s: f64,
    /// The side that called: what it heard and saw.
    pub alice: Side,
    /// The side that answered.
    pub bob: Side,
}

/// Lets alice call bob for so many seconds, and measures it.
pub(super) async fn run(server: &OwnServer, clips: &Clips, out: &Path, seconds: u64) -> Result<CallMeasured> {
    for side in ["alice", "bob"] {
        fresh_folder(&out.join(side))?;
    }
    say(&format!(
        "two endpoints call each other for {seconds} s: alice says {:?}, bob says {:?}",
        clips.alice.words, clips.bob.words
    ));
    let plan = Plan { seconds, out: out.to_owned(), server: server.url.clone() };
    let (alice, bob) = plan.call(clips).await?;
    say("measuring what each heard and saw");
    let (by_alice, by_bob) = measure(clips, out).await?;
    Ok(CallMeasured {
        connect_ms: alice.report["connect_ms"].as_f64(),
        duration_s: alice.report["duration_s"].as_f64().unwrap_or(0.0),
        alice: Side::new(alice.report, by_alice),
        bob: Side::new(bob.report, by_bob),
    })
}

impl CallMeasured {
    /// What was not as it should be, in words.
    pub(super) fn failures(&self) -> Vec<String> {
        verdict::of_call(&[("alice", &self.alice), ("bob", &self.bob)])
    }
}

async fn measure(clips: &Clips, out: &Path) -> Result<(Summary, Summary)> {
    let (alice_clip, bob_clip) = (clips.alice.samples()?, clips.bob.samples()?);
    let (a, b) = (out.join("alice"), out.join("bob"));
    let direction = |speaker: &Path, listener: &Path, clip: &Option<Vec<f32>>, wrong_clip: &Option<Vec<f32>>| {
        let (clip, wrong_clip) = (clip.as_deref(), wrong_clip.as_deref());
        Summary::measure(&Traces { speaker, listener, recordings: listener, clip, wrong_clip })
    };
    tokio::task::spawn_blocking(move || {
        let by_alice =
            direction(&b, &a, &bob_clip, &alice_clip).context("could not measure what alice heard and saw")?;
        let by_bob = direction(&a, &b, &alice_clip, &bob_clip).context("could not measure what bob heard and saw")?;
        Ok((by_alice, by_bob))
    })
    .await?
}

struct Plan {
    seconds: u64,
    out: PathBuf,
    server: String,
}

impl Plan {
    async fn call(&self, clips: &Clips) -> Result<(Finished, Finished)> {
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
