//! A call with natural pictures of 1280x720, 30 a second, at 1.5 Mbit/s in both directions: what it costs and what arrives.
//!
//! Reference: the same clips sent for as long between two endpoints of libwebrtc (`tests/browser/libwebrtc.mjs`), AV1 by libaom and
//! dav1d as here, asked for the same bitrate. Neither side of either records while CPU is measured; the pictures are compared in a
//! second call of each, which is recorded. Figures are of the worse side.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure stops")]

#[path = "../tests/support/mod.rs"]
mod support;

use halloo::measure::{wav, y4m::Frames};
use halloo_engine::{
    media::VideoFrame,
    video::{frame_number, ssim},
};
use rustix::process::geteuid;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::{Process, Server, clips, halloo};

const KBPS: f64 = 1_500.0;
const SECONDS: f64 = 20.0;
/// Congestion control and the encoder have settled.
const STEADY_FROM: f64 = 3.0;
/// Calls made at most for one of libwebrtc that reached its bitrate.
const ATTEMPTS: usize = 4;
/// Of so many different pictures, one is compared.
const COMPARE_EVERY: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Halloo,
    Libwebrtc,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Recording {
    On,
    Off,
}

/// What both kinds of endpoints send and whom they sign in with.
struct Setting {
    server: Server,
    dir: tempfile::TempDir,
    says: PathBuf,
    clip: PathBuf,
}

fn main() {
    let setting = Setting::prepare();
    let ours = Call::measure(&setting, Kind::Halloo);
    let theirs = Call::measure(&setting, Kind::Libwebrtc);
    let clip: Vec<VideoFrame> = Frames::open(&setting.clip).and_then(Iterator::collect).expect("the clip");
    let (our_ssim, their_ssim) = (setting.likeness(Kind::Halloo, &clip), setting.likeness(Kind::Libwebrtc, &clip));
    let alike = our_ssim >= their_ssim - 0.01;
    row("call_720p_cpu", "cores (nothing recorded)", ours.cores, ("a core", 1.0), 0.8, ours.cores < 0.8);
    row(
        "call_720p_cpu_vs_libwebrtc",
        "cores (at an SSIM no more than 0.01 below)",
        ours.cores,
        (&format!("libwebrtc, {:.2} of it in JavaScript", theirs.javascript_cores), theirs.cores),
        theirs.cores,
        ours.cores <= theirs.cores && alike,
    );
    row(
        "call_720p_frame_rate",
        "pictures/s over the whole call",
        ours.frame_rate,
        ("libwebrtc", theirs.frame_rate),
        28.5,
        ours.frame_rate >= 28.5,
    );
    row(
        "call_720p_bitrate",
        &format!("kbit/s of 1500 ± 10 % after {STEADY_FROM} s ({:.0} over the whole call)", ours.whole_kbps),
        ours.steady_kbps,
        (&format!("libwebrtc; {:.0} over the whole call", theirs.whole_kbps), theirs.steady_kbps),
        0.9 * KBPS,
        (0.9 * KBPS..=1.1 * KBPS).contains(&ours.steady_kbps),
    );
    row("call_720p_ssim", "SSIM of luma", our_ssim, ("libwebrtc", their_ssim), their_ssim - 0.01, alike);
}

fn row(name: &str, unit: &str, value: f64, (reference, reference_value): (&str, f64), reach: f64, reached: bool) {
    println!(
        "{}",
        json!({
            "name": name, "value": value, "unit": unit, "reference": reference, "reference_value": reference_value,
            "reach": reach, "reached": reached,
        })
    );
}

impl Setting {
    fn prepare() -> Self {
        let (server, dir) = (Server::start(), tempfile::tempdir().expect("a folder"));
        let says = dir.path().join("says.wav");
        wav::write_mono(&says, &clips::speech(&["Front_Center", "Side_Left"])).expect("a clip");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/bench-clip.sh");
        let made = Command::new(script).stderr(Stdio::inherit()).output().expect("scripts/bench-clip.sh");
        assert!(made.status.success(), "scripts/bench-clip.sh made no clip");
        let clip = PathBuf::from(String::from_utf8(made.stdout).expect("a path").trim());
        Self { server, dir, says, clip }
    }

    /// Both sides' reports of a call. Now and then libwebrtc stays at the 300 kbit/s that it usually begins with: such a call is
    /// no reference, and another is made.
    fn call(&self, kind: Kind, recording: Recording) -> [Value; 2] {
        let mut reports = self.call_once(kind, recording);
        for _ in 1..ATTEMPTS {
            if kind == Kind::Halloo || reports.iter().all(|report| steady_kbps(report) > KBPS / 2.0) {
                break;
            }
            reports = self.call_once(kind, recording);
        }
        reports
    }

    fn call_once(&self, kind: Kind, recording: Recording) -> [Value; 2] {
        let seconds = SECONDS.to_string();
        let callee = self.start(kind, recording, &["answer", "--as", "bob"]);
        callee.wait_for("waiting for calls");
        let caller =
            self.start(kind, recording, &["call", "--as", "alice", "--to", "bob", "--duration", seconds.as_str()]);
        [caller, callee].map(|process| process.finish().report())
    }

    fn start(&self, kind: Kind, recording: Recording, arguments: &[&str]) -> Process {
        let mut command = ordinary(match kind {
            Kind::Halloo => halloo(),
            Kind::Libwebrtc => {
                let mut node = Command::new("node");
                node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/libwebrtc.mjs"));
                node
            }
        });
        command.args(arguments).args(["--server", &self.server.url, "--video-kbps", &KBPS.to_string()]);
        command.arg("--audio-in").arg(&self.says).arg("--video-in").arg(&self.clip);
        if kind == Kind::Halloo {
            command.args(["--audio-out", "none", "--json"]);
            command.args(arguments.first().filter(|command| **command == "answer").map(|_| "--once"));
        }
        if recording == Recording::On {
            command.arg("--record").arg(self.folder(kind, arguments[2]));
        }
        Process::start(&mut command)
    }

    fn folder(&self, kind: Kind, name: &str) -> PathBuf {
        self.dir.path().join(if kind == Kind::Halloo { "halloo" } else { "libwebrtc" }).join(name)
    }

    /// Mean SSIM, in another call, of what arrived at the worse side.
    fn likeness(&self, kind: Kind, clip: &[VideoFrame]) -> f64 {
        self.call(kind, Recording::On);
        let at = |name| likeness(&self.folder(kind, name).join("received.y4m"), clip);
        at("alice").min(at("bob"))
    }
}

/// The same program without the right to real-time scheduling, which root has: libwebrtc would take it for its codecs too, and what
/// ordinary users get is to be compared.
fn ordinary(program: Command) -> Command {
    let mut command = if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]).arg(program.get_program());
        command
    } else {
        Command::new(program.get_program())
    };
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(program.get_args()).stdin(Stdio::null());
    command
}

/// Figures of a call's worse side.
struct Call {
    cores: f64,
    /// The part of `cores` that is not libwebrtc's but its driver's.
    javascript_cores: f64,
    frame_rate: f64,
    whole_kbps: f64,
    /// Of the side that is farther from what was asked for.
    steady_kbps: f64,
}

impl Call {
    fn measure(setting: &Setting, kind: Kind) -> Self {
        let reports = setting.call(kind, Recording::Off);
        let of = |figure: fn(&Value) -> f64, worse: fn(f64, f64) -> f64| {
            reports.iter().map(figure).reduce(worse).unwrap_or(f64::NAN)
        };
        Self {
            cores: of(|r| per_second(r, "/cpu_seconds"), f64::max),
            javascript_cores: of(|r| per_second(r, "/javascript_seconds"), f64::max),
            frame_rate: of(|r| per_second(r, "/stats/inbound_video/frames_decoded"), f64::min),
            whole_kbps: of(|r| per_second(r, "/stats/inbound_video/bytes_received") * 8e-3, f64::min),
            steady_kbps: of(steady_kbps, |a, b| if (a - KBPS).abs() > (b - KBPS).abs() { a } else { b }),
        }
    }
}

/// A report's total over the time that media flowed.
fn per_second(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).map_or(f64::NAN, number) / number(&report["duration_s"])
}

fn steady_kbps(report: &Value) -> f64 {
    let samples = report["samples"].as_array().expect("samples");
    let steady = samples.iter().filter(|sample| number(&sample["t"]) > STEADY_FROM);
    let rates: Vec<f64> = steady.map(|sample| number(&sample["video_in_kbps"])).collect();
    rates.iter().sum::<f64>() / rates.len() as f64
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// Mean SSIM of recorded pictures to those of the clip with the same number, once settled.
fn likeness(recording: &Path, clip: &[VideoFrame]) -> f64 {
    let frames = Frames::open(recording).expect("a recording");
    let settled = (STEADY_FROM * frames.frame_rate) as usize;
    let (mut last, mut different, mut found) = (None, 0, Vec::new());
    for frame in frames.skip(settled) {
        let frame = frame.expect("a picture");
        let number = frame_number::read(&frame);
        let (Some(number), true) = (number, number != last) else { continue };
        last = Some(number);
        different += 1;
        if different % COMPARE_EVERY == 0 {
            found.push(ssim(&clip[number as usize], &frame));
        }
    }
    assert!(found.len() >= 20, "only {different} pictures of {} were readable", recording.display());
    found.iter().sum::<f64>() / found.len() as f64
}
