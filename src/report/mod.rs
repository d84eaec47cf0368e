//! The demo's report: on the terminal, and as one self-contained page.

mod contact_sheet;
mod matrix;
mod page;
mod plot;

pub use page::page;

use crate::{
    demo::{DemoReport, call::CallMeasured},
    endpoint::report::Sample,
    measure::Summary,
};
use serde::Serialize;
use serde_json::Value;

/// One side of the call: what it measured about itself, and what was measured from outside about what it heard and saw.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Measured from outside.
    #[serde(flatten)]
    pub measured: Summary,
    /// Share of played sound that was made up, 0 to 1.
    pub audio_concealed_ratio: f64,
    /// Pictures decoded.
    pub video_frames_decoded: u64,
    /// Packets lost on the way here, of all.
    pub packets_lost: i64,
    /// Mean received payload in kilobits per second.
    pub received_kbps: f64,
    /// CPU seconds used, over the call's seconds: how much of one core.
    pub cpu_cores: Option<f64>,
    /// When media flowed, in nanoseconds of the monotonic clock.
    #[serde(skip)]
    pub connected_ns: u64,
    /// Figures over time.
    pub samples: Vec<Sample>,
}

impl Side {
    /// From an endpoint's own report and what was measured.
    pub fn new(report: Value, measured: Summary) -> Self {
        let stats = &report["stats"];
        let (audio, video) = (&stats["inbound_audio"], &stats["inbound_video"]);
        let number = |v: &Value| v.as_f64().unwrap_or(0.0);
        let duration = number(&report["duration_s"]);
        let over = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        Self {
            audio_concealed_ratio: over(number(&audio["concealed_samples"]), number(&audio["total_samples_received"])),
            video_frames_decoded: video["frames_decoded"].as_u64().unwrap_or(0),
            packets_lost: audio["packets_lost"].as_i64().unwrap_or(0) + video["packets_lost"].as_i64().unwrap_or(0),
            received_kbps: over(
                (number(&audio["bytes_received"]) + number(&video["bytes_received"])) * 8.0 / 1e3,
                duration,
            ),
            cpu_cores: report["cpu_seconds"].as_f64().map(|s| over(s, duration)),
            connected_ns: report["clock"]["connected_ns"].as_u64().unwrap_or(0),
            samples: serde_json::from_value(report["samples"].clone()).unwrap_or_default(),
            measured,
        }
    }
}

/// A figure as both the terminal and the page show it.
struct Figure {
    name: &'static str,
    alice: String,
    bob: String,
}

fn figures(call: &CallMeasured) -> Vec<Figure> {
    let row = |name, value: &dyn Fn(&Side) -> String| Figure { name, alice: value(&call.alice), bob: value(&call.bob) };
    let or_dash = |v: Option<f64>, text: &dyn Fn(f64) -> String| v.map_or_else(|| "-".to_owned(), text);
    let pair = |median: Option<f64>, high: Option<f64>| match median.zip(high) {
        Some((m, p)) => format!("{m:.0} ms (p95 {p:.0})"),
        None => "-".to_owned(),
    };
    vec![
        row("heard what was said", &|s| or_dash(s.measured.heard_correlation, &|v| format!("{v:.3}"))),
        row("heard what was not said", &|s| or_dash(s.measured.wrong_clip_correlation, &|v| format!("{v:.3}"))),
        row("mouth to ear", &|s| pair(s.measured.mouth_to_ear_ms, s.measured.mouth_to_ear_p95_ms)),
        row("glass to glass", &|s| pair(s.measured.glass_to_glass_ms, s.measured.glass_to_glass_p95_ms)),
        row("pictures shown", &|s| {
            format!("{} ({:.1} %)", s.measured.video_frames_shown, s.measured.distinct_frame_ratio * 100.0)
        }),
        row("picture likeness (SSIM)", &|s| or_dash(s.measured.ssim, &|v| format!("{v:.3}"))),
        row("freezes", &|s| format!("{} ({:.1} s)", s.measured.video_freezes, s.measured.video_freeze_seconds)),
        row("sound made up", &|s| format!("{:.2} %", s.audio_concealed_ratio * 100.0)),
        row("packets lost", &|s| s.packets_lost.to_string()),
        row("received", &|s| format!("{:.0} kbit/s", s.received_kbps)),
        row("CPU", &|s| or_dash(s.cpu_cores, &|v| format!("{v:.2} core"))),
    ]
}

/// Prints it.
pub fn print(report: &DemoReport) {
    if let Some(call) = &report.call {
        print_call(call);
    }
    if let Some(group) = &report.group {
        println!("\n{}", matrix::text(group));
    }
    println!();
    if report.passed {
        println!("All heard and saw one another.");
    }
    for failure in &report.failures {
        println!("FAILED: {failure}");
    }
}

fn print_call(call: &CallMeasured) {
    println!();
    match call.connect_ms {
        Some(ms) => println!("A call: connected in {ms:.0} ms; talked for {:.1} s.", call.duration_s),
        None => println!("A call: the two were never connected."),
    }
    println!("  {:<26}{:>22}{:>22}", "", "alice", "bob");
    for figure in figures(call) {
        println!("  {:<26}{:>22}{:>22}", figure.name, figure.alice, figure.bob);
    }
}
