//! The report as one page that needs nothing beside it: style, plots, pictures and sound are inside.

use super::{
    Side,
    contact_sheet::{Thumbnail, thumbnails},
    figures, matrix,
    plot::{Line, Plot},
};
use crate::{
    demo::{
        DemoReport,
        call::CallMeasured,
        group::{FOLDER, GroupMeasured},
    },
    endpoint::report::Sample,
    measure::{
        audio_log::{AudioLog, mixed},
        wav,
    },
};
use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use halloo_engine::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::path::Path;

const STYLE: &str = include_str!("page.css");
/// Pictures of each side.
const PICTURES: usize = 6;
/// Larger recordings are linked, not carried.
const CARRIED: usize = 8_000_000;

/// Renders it; `out` holds a folder of recordings for each endpoint.
///
/// # Errors
/// Where a recording cannot be read.
pub fn page(report: &DemoReport, out: &Path) -> Result<String> {
    let call = report.call.as_ref().map(|call| of_call(call, out)).transpose()?;
    let group = report.group.as_ref().map(|group| of_group(group, out)).transpose()?;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Halloo: what was heard and seen" }
                style { (PreEscaped(STYLE)) }
            }
            body { main {
                h1 { "What was heard and seen" }
                @if report.passed {
                    p.verdict.ok { "All heard and saw one another" }
                } @else {
                    p.verdict.bad { "Not as it should be" }
                    ul { @for failure in &report.failures { li { (failure) } } }
                }
                @if let Some(call) = call { (call) }
                @if let Some(group) = group { (group) }
                h2 { "How it was measured" }
                p.small {
                    "Every block of sound and every numbered picture was logged with the machine's monotonic clock where it was captured \
                     and where it was played or shown. Mouth to ear is found by correlating what was heard with what was said; glass to glass \
                     by the number read from each picture when it was shown."
                }
            } }
        }
    };
    Ok(markup.into_string())
}

fn of_call(call: &CallMeasured, out: &Path) -> Result<Markup> {
    let sides = [Received::read("alice", "bob", out)?, Received::read("bob", "alice", out)?];
    Ok(html! {
        h2.part { "A call" }
        p.lead { (lead(call)) }
        (table(call))
        div.plots { @for plot in plots(call) { (plot.draw()) } }
        @for side in &sides { (side.show()) }
    })
}

fn of_group(group: &GroupMeasured, out: &Path) -> Result<Markup> {
    Ok(html! {
        h2.part { "A meeting" }
        p.lead { (matrix::lead(group)) }
        (matrix::table(group, out)?)
        @if let Some(first) = group.participants.first() {
            h3 { "What " (first.name) " heard of the meeting" }
            audio controls src=(heard_by(&first.name, group, out)?) aria-label=(format!("what {} heard of the meeting", first.name)) {}
        }
        table.figures {
            @for (name, value) in matrix::figures(group) { tr { th scope="row" { (name) } td { (value) } } }
        }
    })
}

/// All that somebody heard, mixed.
fn heard_by(name: &str, group: &GroupMeasured, out: &Path) -> Result<String> {
    let folder = out.join(FOLDER).join(name);
    let others = group.participants.iter().filter(|member| member.name != name);
    let logs = others.map(|other| AudioLog::read(&folder.join(&other.name).join("heard.log")));
    let wav = folder.join("heard.wav");
    wav::write_mono(&wav, &mixed(&logs.collect::<Result<Vec<_>>>()?))?;
    sound(&wav, &format!("{FOLDER}/{name}/heard.wav"))
}

/// A recording for the page: carried, or linked to where it is large.
fn sound(wav: &Path, link: &str) -> Result<String> {
    let bytes = std::fs::read(wav).with_context(|| format!("could not read {}", wav.display()))?;
    Ok(if bytes.len() <= CARRIED {
        format!("data:audio/wav;base64,{}", STANDARD.encode(bytes))
    } else {
        link.to_owned()
    })
}

fn lead(call: &CallMeasured) -> String {
    match call.connect_ms {
        Some(ms) => format!("alice called bob: connected in {ms:.0} ms, talked for {:.1} s.", call.duration_s),
        None => "alice called bob, and the two were never connected.".to_owned(),
    }
}

fn table(call: &CallMeasured) -> Markup {
    html! {
        table {
            tr { th { span.small { "what each side heard and saw" } } th { "alice" } th { "bob" } }
            @for figure in figures(call) {
                tr { th scope="row" { (figure.name) } td { (figure.alice) } td { (figure.bob) } }
            }
        }
    }
}

fn plots(call: &CallMeasured) -> Vec<Plot> {
    let sides = [("alice", &call.alice), ("bob", &call.bob)];
    let plot = |title, unit, points: &dyn Fn(&Side) -> Vec<(f64, f64)>| Plot {
        title,
        unit,
        lines: sides.iter().map(|&(name, side)| Line { name, points: points(side) }).collect(),
    };
    let sampled = |value: fn(&Sample) -> f64| move |side: &Side| side.samples.iter().map(|s| (s.t, value(s))).collect();
    vec![
        plot("Mouth to ear", "ms", &|side| {
            side.measured.delays.iter().map(|d| (seconds(side, d.heard_at), d.milliseconds)).collect()
        }),
        plot("Glass to glass", "ms", &|side| {
            side.measured.shown.iter().map(|s| (seconds(side, s.shown_at), s.milliseconds)).collect()
        }),
        plot("Received", "kbit/s", &sampled(|s| s.audio_in_kbps + s.video_in_kbps)),
        plot("Pictures decoded", "per second", &sampled(|s| s.fps_in)),
        plot("Packets lost", "%", &sampled(|s| s.loss * 100.0)),
        plot("Sound made up", "%", &sampled(|s| s.concealed * 100.0)),
    ]
}

fn seconds(side: &Side, at: Timestamp) -> f64 {
    at.seconds_from(Timestamp::from_nanos(side.connected_ns))
}

/// What a side recorded, ready for the page.
struct Received {
    name: &'static str,
    from: &'static str,
    pictures: Vec<Thumbnail>,
    sound: String,
}

impl Received {
    fn read(name: &'static str, from: &'static str, out: &Path) -> Result<Self> {
        let folder = out.join(name);
        let pictures = thumbnails(&folder.join("received.y4m"), PICTURES, &folder)?;
        let sound = sound(&folder.join("received.wav"), &format!("{name}/received.wav"))?;
        Ok(Self { name, from, pictures, sound })
    }

    fn show(&self) -> Markup {
        html! {
            h3 { "What " (self.name) " received from " (self.from) }
            div.sheet {
                @for picture in &self.pictures {
                    figure {
                        img src=(picture.uri) alt=(format!("received picture at {:.1} s", picture.at));
                        figcaption {
                            (format!("{:.1} s", picture.at))
                            @if let Some(number) = picture.number { " · frame " (number) }
                        }
                    }
                }
            }
            audio controls src=(self.sound) aria-label=(format!("what {} heard", self.name)) {}
        }
    }
}
