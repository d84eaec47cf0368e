//! The demo's second part: six meet in a room, each a process of its own, and everybody receives everybody.

use super::{
    actors::{Finished, finish},
    fresh_folder, say,
    speech::{MEETING, Voice},
    verdict,
};
use crate::{
    endpoint::conversation::cpu_seconds_of,
    measure::reception::{Ends, Reception},
    own_server::{OwnServer, halloo},
};
use anyhow::{Context, Result, anyhow};
use halloo_engine::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::process::Child;

/// What each sends.
pub const PICTURE_SIZE: (u32, u32) = (320, 180);
/// Pictures a second.
pub const PICTURE_RATE: u32 = 15;
/// Pictures a second of recordings: enough to look at, without filling the disk with thirty recordings.
const RECORD_RATE: u32 = 3;
/// The folder within the demo's.
pub const FOLDER: &str = "group";
const ROOM: &str = "demo";

/// The measurements of the meeting. docs/report.md explains each field.
#[derive(Debug, Serialize)]
pub struct GroupMeasured {
    /// How long the meeting took, in seconds: from when the first was there until the last left.
    pub duration_s: f64,
    /// CPU seconds of the server, which forwards, over the meeting's seconds.
    pub server_cpu_cores: Option<f64>,
    /// Everybody.
    pub participants: Vec<Member>,
    /// Everybody with everybody else.
    pub pairs: Vec<Pair>,
}

/// Somebody who was there.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    /// Who.
    pub name: String,
    /// From asking to join until media flowed, in milliseconds.
    pub connect_ms: Option<f64>,
    /// CPU seconds over the seconds there.
    pub cpu_cores: Option<f64>,
    /// How many of the others noticed them as the one who speaks.
    pub noticed_by: usize,
    /// When media flowed and when they left, in nanoseconds of the monotonic clock.
    #[serde(skip)]
    pub there: (u64, u64),
}

/// What one received of another.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Who received.
    pub receiver: String,
    /// Who sent.
    pub sender: String,
    /// What came.
    #[serde(flatten)]
    pub received: Reception,
    /// What was not as it should be, in words.
    pub failures: Vec<String>,
}

impl GroupMeasured {
    /// What was not as it should be, in words.
    pub(super) fn failures(&self) -> Vec<String> {
        let unnoticed =
            self.participants.iter().filter_map(|member| verdict::of_member(member, self.participants.len()));
        self.pairs.iter().flat_map(|pair| pair.failures.clone()).chain(unnoticed).collect()
    }

    /// What `receiver` received of `sender`.
    pub fn pair(&self, receiver: &str, sender: &str) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.receiver == receiver && pair.sender == sender)
    }
}

/// Lets them meet, and measures what each received of each.
pub(super) async fn run(server: &OwnServer, voices: Vec<Voice>, out: &Path) -> Result<GroupMeasured> {
    let out = out.join(FOLDER);
    for voice in &voices {
        fresh_folder(&out.join(voice.name))?;
    }
    say(&format!(
        "{} meet in a room for {} s, {}x{} at {PICTURE_RATE} pictures a second, and speak in turn",
        voices.len(),
        MEETING.as_secs(),
        PICTURE_SIZE.0,
        PICTURE_SIZE.1
    ));
    let used = || cpu_seconds_of(&server.pid()?.to_string());
    let cpu_before = used();
    let all = meet(server, &voices, &out).await?;
    let server_cpu = used().zip(cpu_before).map(|(now, before)| now - before);
    say("measuring what each received of each");
    let members = members(&voices, &all);
    let first = members.iter().map(|member| member.there.0).min().unwrap_or(0);
    let last = members.iter().map(|member| member.there.1).max().unwrap_or(0);
    let duration_s = last.saturating_sub(first) as f64 / 1e9;
    let (pairs, participants) = tokio::task::spawn_blocking(move || {
        let pairs = measure(&voices, &members, &out);
        pairs.map(|pairs| (pairs, members))
    })
    .await??;
    let server_cpu_cores = server_cpu.map(|seconds| seconds / duration_s.max(1e-3));
    Ok(GroupMeasured { duration_s, server_cpu_cores, participants, pairs })
}

async fn meet(server: &OwnServer, voices: &[Voice], out: &Path) -> Result<Vec<Finished>> {
    let mut running = tokio::task::JoinSet::new();
    for (series, voice) in voices.iter().enumerate() {
        let child = join(&server.url, series, voice, &out.join(voice.name))?;
        let name = voice.name;
        running.spawn(async move { (series, finish(name, child, MEETING + Duration::from_secs(30)).await) });
    }
    let mut all = running.join_all().await;
    all.sort_unstable_by_key(|(series, _)| *series);
    all.into_iter().map(|(_, finished)| finished).collect()
}

fn join(server: &str, series: usize, voice: &Voice, folder: &Path) -> Result<Child> {
    let (width, height) = PICTURE_SIZE;
    halloo()?
        .args(["join", "--as", voice.name, "--room", ROOM, "--server", server, "--json", "--audio-out", "none"])
        .args(["--video-in", "pattern", "--pattern-size", &format!("{width}x{height}")])
        .args(["--pattern-rate", &PICTURE_RATE.to_string(), "--pattern-series", &series.to_string()])
        .args(["--duration", &format!("{}ms", MEETING.as_millis()), "--record-rate", &RECORD_RATE.to_string()])
        .arg("--audio-in")
        .arg(&voice.path)
        .args(["--play-once", "--record"])
        .arg(folder)
        .arg("--media-log")
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {}", voice.name))
}

fn members(voices: &[Voice], all: &[Finished]) -> Vec<Member> {
    let noticed = |report: &Value, who: &str| {
        let there = report["participants"].as_array().into_iter().flatten();
        there.filter(|each| each["user"] == who).any(|each| each["spoke"].as_u64() > Some(0))
    };
    let member = |(voice, finished): (&Voice, &Finished)| {
        let report = &finished.report;
        let clock = |field: &str| report["clock"][field].as_u64().unwrap_or(0);
        let duration = report["duration_s"].as_f64().unwrap_or(0.0).max(1e-3);
        Member {
            name: voice.name.to_owned(),
            connect_ms: report["connect_ms"].as_f64(),
            cpu_cores: report["cpu_seconds"].as_f64().map(|seconds| seconds / duration),
            noticed_by: all.iter().filter(|other| noticed(&other.report, voice.name)).count(),
            there: (clock("connected_ns"), clock("ended_ns")),
        }
    };
    voices.iter().zip(all).map(member).collect()
}

/// Measures every pair, on as many threads as there are processors.
fn measure(voices: &[Voice], members: &[Member], out: &Path) -> Result<Vec<Pair>> {
    let count = voices.len();
    let todo: Vec<(usize, usize)> =
        (0..count * count).map(|i| (i / count, i % count)).filter(|(receiver, sender)| receiver != sender).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(&(receiver, sender)) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(((receiver, sender), pair(voices, members, out, receiver, sender)));
        }
        done
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let done = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Result<Vec<_>, _>>()
    });
    let mut done: Vec<_> = done.map_err(|_| anyhow!("measuring failed"))?.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(pair, _)| *pair);
    done.into_iter().map(|(_, pair)| pair).collect()
}

fn pair(voices: &[Voice], members: &[Member], out: &Path, receiver: usize, sender: usize) -> Result<Pair> {
    let (to, from) = (&members[receiver], &members[sender]);
    let listener: PathBuf = out.join(&to.name).join(&from.name);
    let not_said: Vec<&[f32]> =
        voices.iter().filter(|voice| voice.name != from.name).map(|voice| voice.said.as_slice()).collect();
    let ends = Ends {
        speaker: &out.join(&from.name),
        listener: &listener,
        said: &voices[sender].said,
        not_said: &not_said,
        together: (
            Timestamp::from_nanos(to.there.0.max(from.there.0)),
            Timestamp::from_nanos(to.there.1.min(from.there.1)),
        ),
    };
    let received = Reception::measure(&ends)
        .with_context(|| format!("could not measure what {} received of {}", to.name, from.name))?;
    let failures = verdict::of_pair(&to.name, &from.name, &received);
    Ok(Pair { receiver: to.name.clone(), sender: from.name.clone(), received, failures })
}
