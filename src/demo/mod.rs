//! `halloo demo`: a server and endpoints as processes of their own, a call of two and a meeting of six between them, and a report of
//! what each heard and saw. It measures from outside: from recordings and media logs.

mod actors;
pub mod call;
pub mod group;
mod speech;
pub mod verdict;

use crate::{
    cli::{DemoArgs, DemoPart},
    exit::Exit,
    own_server::OwnServer,
    report,
};
use anyhow::{Context, Result};
use call::CallMeasured;
use group::GroupMeasured;
use serde::Serialize;
use std::path::Path;

/// The measurements that `--json` writes. docs/report.md explains each field.
#[derive(Debug, Serialize)]
pub struct DemoReport {
    /// Version of this format: 1.
    pub version: u32,
    /// Whether all really heard and saw one another.
    pub passed: bool,
    /// What was not as it should be.
    pub failures: Vec<String>,
    /// The call.
    #[serde(flatten)]
    pub call: Option<CallMeasured>,
    /// The meeting.
    pub group: Option<GroupMeasured>,
}

/// Runs the demo.
///
/// # Errors
/// Where something could not be started or measured; media that was not good enough is [`Exit::Failed`].
pub async fn run(args: DemoArgs) -> Result<Exit> {
    let out = &args.out;
    std::fs::create_dir_all(out).with_context(|| format!("could not create the folder {}", out.display()))?;
    let clips = wanted(&args, DemoPart::Call).then(|| speech::clips(out, args.mic)).transpose()?;
    let voices = wanted(&args, DemoPart::Group)
        .then(|| {
            let folder = out.join(group::FOLDER);
            std::fs::create_dir_all(&folder)?;
            speech::voices(&folder)
        })
        .transpose()?;
    say("starting a server");
    let server = OwnServer::start(&[]).await?;
    let call = match &clips {
        Some(clips) => Some(call::run(&server, clips, out, args.seconds).await?),
        None => None,
    };
    let group = match voices {
        Some(voices) => Some(group::run(&server, voices, out).await?),
        None => None,
    };
    server.stop().await;
    let mut failures = call.as_ref().map(CallMeasured::failures).unwrap_or_default();
    failures.extend(group.iter().flat_map(GroupMeasured::failures));
    let report = DemoReport { version: 1, passed: failures.is_empty(), failures, call, group };
    let says = clips.as_ref().map_or_else(|| "silence".to_owned(), |clips| clips.bob.path_or("silence"));
    write(&report, &args, &says)?;
    Ok(if report.passed { Exit::Done } else { Exit::Failed })
}

fn wanted(args: &DemoArgs, part: DemoPart) -> bool {
    args.only.is_none_or(|only| only == part)
}

fn write(report: &DemoReport, args: &DemoArgs, says: &str) -> Result<()> {
    let page = args.out.join("report.html");
    std::fs::write(&page, report::page(report, &args.out)?)
        .with_context(|| format!("could not write {}", page.display()))?;
    if let Some(path) = &args.json {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(report)? + "\n")
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    report::print(report);
    println!("\nReport with plots, pictures and recordings: {}", page.display());
    println!("Try it yourself:\n  halloo serve        then open the address it prints in a browser, and one of");
    println!("  halloo answer --as bob --video-in pattern --audio-in {says}");
    println!("  halloo join --as bob --room demo --video-in pattern --audio-in {says}");
    println!("then call bob from the page, or join the room demo there.");
    Ok(())
}

/// A folder of an endpoint, without what an earlier demo left in it.
fn fresh_folder(dir: &Path) -> Result<()> {
    if dir.join("spoken.log").exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("could not empty {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("could not create the folder {}", dir.display()))
}

fn say(text: &str) {
    eprintln!("==> {text}");
}
