//! `halloo demo`: a server and two endpoints as processes of their own, a call between them, and a report of what each heard
//! and saw. It measures from outside: from recordings and media logs.

mod actors;
mod speech;
mod verdict;

use crate::{
    cli::DemoArgs,
    exit::Exit,
    measure::{Summary, Traces},
    report::{self, Side},
};
use actors::{Finished, Plan, Server};
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::PathBuf;

/// The measurements that `--json` writes. docs/report.md explains each field.
#[derive(Debug, Serialize)]
pub struct DemoReport {
    /// Version of this format: 1.
    pub version: u32,
    /// From calling until media flowed, in milliseconds.
    pub connect_ms: Option<f64>,
    /// How long media flowed, in seconds.
    pub duration_s: f64,
    /// Whether both sides really heard and saw each other.
    pub passed: bool,
    /// What was not as it should be.
    pub failures: Vec<String>,
    /// The side that called: what it heard and saw.
    pub alice: Side,
    /// The side that answered.
    pub bob: Side,
}

/// Runs the demo.
///
/// # Errors
/// Where something could not be started or measured; a call that was not good enough is [`Exit::Failed`].
pub async fn run(args: DemoArgs) -> Result<Exit> {
    let out = fresh_folder(&args.out)?;
    let clips = speech::clips(&out, args.mic)?;
    say("starting a server");
    let server = Server::start().await?;
    say(&format!(
        "two endpoints call each other for {} s: alice says {:?}, bob says {:?}",
        args.seconds, clips.alice.words, clips.bob.words
    ));
    let plan = Plan { seconds: args.seconds, out: out.clone(), server: server.url.clone() };
    let (alice, bob) = plan.call(&clips).await?;
    server.stop().await;
    say("measuring what each heard and saw");
    let measured = {
        let (alice_clip, bob_clip) = (clips.alice.samples()?, clips.bob.samples()?);
        let out = out.clone();
        tokio::task::spawn_blocking(move || -> Result<(Summary, Summary)> {
            let (a, b) = (out.join("alice"), out.join("bob"));
            let traces = Traces {
                speaker: &b,
                listener: &a,
                recordings: &a,
                clip: bob_clip.as_deref(),
                wrong_clip: alice_clip.as_deref(),
            };
            let by_alice = Summary::measure(&traces).context("could not measure what alice heard and saw")?;
            let traces = Traces {
                speaker: &a,
                listener: &b,
                recordings: &b,
                clip: alice_clip.as_deref(),
                wrong_clip: bob_clip.as_deref(),
            };
            let by_bob = Summary::measure(&traces).context("could not measure what bob heard and saw")?;
            Ok((by_alice, by_bob))
        })
        .await??
    };
    let report = assemble(&alice, &bob, measured);
    let page = out.join("report.html");
    std::fs::write(&page, report::page(&report, &out)?)
        .with_context(|| format!("could not write {}", page.display()))?;
    if let Some(path) = &args.json {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    report::print(&report);
    println!("\nReport with plots, pictures and both recordings: {}", page.display());
    println!("Try it yourself:\n  halloo serve                      then open the address it prints in a browser");
    println!("  halloo answer --as bob --video-in pattern --audio-in {}", clips.bob.path_or("silence"));
    println!("and call bob from the page.");
    Ok(if report.passed { Exit::Done } else { Exit::Failed })
}

fn assemble(alice: &Finished, bob: &Finished, (by_alice, by_bob): (Summary, Summary)) -> DemoReport {
    let side = |finished: &Finished, summary| Side::new(finished.report.clone(), summary);
    let (alice_side, bob_side) = (side(alice, by_alice), side(bob, by_bob));
    let failures = verdict::failures(&[("alice", &alice_side), ("bob", &bob_side)]);
    DemoReport {
        version: 1,
        connect_ms: alice.report["connect_ms"].as_f64(),
        duration_s: alice.report["duration_s"].as_f64().unwrap_or(0.0),
        passed: failures.is_empty(),
        failures,
        alice: alice_side,
        bob: bob_side,
    }
}

/// The folder, without what an earlier demo left in it.
fn fresh_folder(out: &std::path::Path) -> Result<PathBuf> {
    for side in ["alice", "bob"] {
        let dir = out.join(side);
        if dir.join("spoken.log").exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("could not empty {}", dir.display()))?;
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("could not create the folder {}", dir.display()))?;
    }
    Ok(out.to_owned())
}

fn say(text: &str) {
    eprintln!("==> {text}");
}
