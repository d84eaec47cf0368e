//! Who received whom: the matrix of a meeting, on the terminal and on the page. A row receives, a column sends.

use super::contact_sheet::thumbnail;
use crate::{
    demo::{
        group::{FOLDER, GroupMeasured, Member, PICTURE_RATE, PICTURE_SIZE, Pair},
        verdict::RATE,
    },
    measure::{
        reception::{LEAVING, SETTLING},
        signal::percentile,
    },
};
use anyhow::Result;
use maud::{Markup, html};
use std::{fmt::Write, path::Path};

/// For the terminal: pictures a second and heard correlation of each pair, then a line of what is true for all.
pub(super) fn text(group: &GroupMeasured) -> String {
    let names: Vec<&str> = group.participants.iter().map(|member| member.name.as_str()).collect();
    let mut text = format!("A meeting: {}\n", lead(group));
    text.push_str(
        "  Who received whom (rows receive, columns send): pictures a second, and likeness of what was heard\n",
    );
    let _ = write!(text, "  {:<8}", "");
    for name in &names {
        let _ = write!(text, "{name:>11}");
    }
    for receiver in &names {
        let _ = write!(text, "\n  {receiver:<8}");
        for sender in &names {
            let cell = group.pair(receiver, sender).map_or_else(|| "-".to_owned(), short);
            let _ = write!(text, "{cell:>11}");
        }
    }
    for (name, value) in figures(group) {
        let _ = write!(text, "\n  {name:<26}{value}");
    }
    text
}

fn short(pair: &Pair) -> String {
    let received = &pair.received;
    let mark = if pair.failures.is_empty() { "" } else { "!" };
    format!("{mark}{:.1} {:.2}", received.frames_per_second, received.heard_correlation)
}

/// In a sentence.
pub(super) fn lead(group: &GroupMeasured) -> String {
    let (width, height) = PICTURE_SIZE;
    format!(
        "{} met in a room for {:.0} s, each sending {width}x{height} at {PICTURE_RATE} pictures a second through the server.",
        group.participants.len(),
        group.duration_s
    )
}

/// What is said of the meeting as a whole.
pub(super) fn figures(group: &GroupMeasured) -> Vec<(&'static str, String)> {
    let over = |values: Vec<f64>, text: &dyn Fn(f64, f64) -> String| {
        let (middle, most) = (percentile(&values, 0.5), percentile(&values, 1.0));
        middle.zip(most).map_or_else(|| "-".to_owned(), |(middle, most)| text(middle, most))
    };
    let pairs = |value: fn(&Pair) -> Option<f64>| group.pairs.iter().filter_map(value).collect();
    let members = |value: fn(&Member) -> Option<f64>| group.participants.iter().filter_map(value).collect();
    let ms = |middle: f64, most: f64| format!("{middle:.0} ms ({most:.0} at most)");
    let cores = |middle: f64, most: f64| format!("{middle:.2} core ({most:.2} at most)");
    let others = group.participants.len().saturating_sub(1);
    let noticed = group.participants.iter().filter(|member| member.noticed_by == others).count();
    vec![
        ("joined in", over(members(|m| m.connect_ms), &ms)),
        ("mouth to ear", over(pairs(|p| p.received.mouth_to_ear_ms), &ms)),
        ("glass to glass", over(pairs(|p| p.received.glass_to_glass_ms), &ms)),
        ("noticed when speaking", format!("{noticed} of {} by everybody", group.participants.len())),
        ("CPU of each", over(members(|m| m.cpu_cores), &cores)),
        ("CPU of the server", group.server_cpu_cores.map_or_else(|| "-".to_owned(), |v| format!("{v:.2} core"))),
    ]
}

/// For the page: each cell with a received picture; `out` is the demo's folder.
///
/// # Errors
/// Where a recording cannot be read.
pub(super) fn table(group: &GroupMeasured, out: &Path) -> Result<Markup> {
    let names: Vec<&str> = group.participants.iter().map(|member| member.name.as_str()).collect();
    let mut rows = Vec::new();
    for receiver in &names {
        let mut cells = Vec::new();
        for sender in &names {
            cells.push(match group.pair(receiver, sender) {
                Some(pair) => cell(pair, &out.join(FOLDER).join(receiver).join(sender))?,
                None => html! { td.self aria-label="themselves" {} },
            });
        }
        rows.push(html! { tr { th scope="row" { (receiver) } @for cell in &cells { (cell) } } });
    }
    Ok(html! {
        div.wide {
            table.matrix {
                tr {
                    th { span.small { "receives ↓" br; "sends →" } }
                    @for sender in &names { th scope="col" { (sender) } }
                }
                @for row in &rows { (row) }
            }
        }
        p.small {
            "In each cell: a picture that the one on the left received of the one above; how many pictures a second were shown, of "
            (PICTURE_RATE) " (at least " (RATE) " are asked for, over the time both were there, without its first "
            (format!("{:.1}", SETTLING.as_secs_f64())) " s and last " (format!("{:.1}", LEAVING.as_secs_f64()))
            " s); and the likeness of what was heard to what was said, 0 to 1. Each speaks in turn, since the loudest few are heard at a time."
        }
    })
}

fn cell(pair: &Pair, folder: &Path) -> Result<Markup> {
    let received = &pair.received;
    let class = if pair.failures.is_empty() { "good" } else { "poor" };
    let seen = if received.frames_per_second >= RATE { "ok" } else { "bad" };
    let heard = if pair.failures.is_empty() || seen == "bad" { "" } else { "bad" };
    let share = (received.frames_per_second / f64::from(PICTURE_RATE)).clamp(0.0, 1.0) * 100.0;
    let title = match pair.failures.as_slice() {
        [] => format!(
            "{} of {}: glass to glass {} ms, mouth to ear {} ms",
            pair.receiver,
            pair.sender,
            rounded(received.glass_to_glass_ms),
            rounded(received.mouth_to_ear_ms)
        ),
        failures => failures.join("; "),
    };
    let picture = thumbnail(&folder.join("received.y4m"), folder)?;
    Ok(html! {
        td class=(class) title=(title) {
            @match picture {
                Some(uri) => img src=(uri) alt=(format!("{} as {} saw them", pair.sender, pair.receiver));,
                None => span.none { "no picture" }
            }
            span.rate { span class=(format!("bar {seen}")) style=(format!("width:{share:.0}%")) {} }
            strong class=(seen) { (format!("{:.1}", received.frames_per_second)) span.unit { " fps" } }
            span class=(format!("heard {heard}")) { (format!("{:.2}", received.heard_correlation)) span.unit { " heard" } }
        }
    })
}

fn rounded(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::reception::Reception;

    fn meeting() -> GroupMeasured {
        let member = |name: &str| Member {
            name: name.to_owned(),
            connect_ms: Some(120.0),
            cpu_cores: Some(0.1),
            noticed_by: 1,
            there: (0, 0),
        };
        let pair = |receiver: &str, sender: &str, rate: f64, failures: &[&str]| Pair {
            receiver: receiver.to_owned(),
            sender: sender.to_owned(),
            received: Reception { frames_per_second: rate, heard_correlation: 0.97, ..Reception::default() },
            failures: failures.iter().map(|text| (*text).to_owned()).collect(),
        };
        GroupMeasured {
            duration_s: 15.0,
            server_cpu_cores: Some(0.05),
            participants: vec![member("alice"), member("bob")],
            pairs: vec![pair("alice", "bob", 15.0, &[]), pair("bob", "alice", 9.0, &["too few"])],
        }
    }

    #[test]
    fn rows_receive_and_columns_send_and_what_failed_is_marked() {
        let text = text(&meeting());
        let row = |name: &str| text.lines().rfind(|line| line.trim_start().starts_with(name)).unwrap().to_owned();
        assert_eq!(row("alice ").split_whitespace().collect::<Vec<_>>(), ["alice", "-", "15.0", "0.97"]);
        assert_eq!(row("bob ").split_whitespace().collect::<Vec<_>>(), ["bob", "!9.0", "0.97", "-"]);
    }
}
