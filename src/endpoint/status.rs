//! What a person sees during a call: one line that is redrawn on a terminal, plain lines elsewhere. All on standard error.

use super::report::Sample;
use std::{
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

/// Writes to standard error.
#[derive(Debug)]
pub struct Status {
    terminal: bool,
    line: bool,
}

impl Status {
    /// Redraws where standard error is a terminal.
    pub fn new() -> Self {
        Self { terminal: stderr().is_terminal(), line: false }
    }

    /// Says something that stays.
    pub fn say(&mut self, text: impl AsRef<str>) {
        self.clear();
        eprintln!("{}", text.as_ref());
    }

    /// Shows how the call is doing. Without a terminal, nothing: plain lines are for what happens.
    pub fn show(&mut self, state: &str, duration: Duration, sample: &Sample) {
        if self.terminal {
            eprint!("\r\x1b[K{}", line(state, duration, sample));
            let _ = stderr().flush();
            self.line = true;
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.line) {
            eprint!("\r\x1b[K");
        }
    }
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(state: &str, duration: Duration, s: &Sample) -> String {
    let seconds = duration.as_secs();
    let rtt = s.rtt_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
    format!(
        "{:02}:{:02} {state}  me {} them {}  in {:.0} out {:.0} kbit/s  {:.0} fps  loss {:.1} %  rtt {rtt} ms",
        seconds / 60,
        seconds % 60,
        bar(s.level_out),
        bar(s.level_in),
        s.audio_in_kbps + s.video_in_kbps,
        s.audio_out_kbps + s.video_out_kbps,
        s.fps_in,
        s.loss * 100.0,
    )
}

/// Loudness from -50 dBFS to full scale, as eight cells.
fn bar(level: f64) -> String {
    let decibel = 20.0 * level.max(1e-6).log10();
    let filled = ((decibel + 50.0) / 50.0 * 8.0).round().clamp(0.0, 8.0) as usize;
    format!("[{}{}]", "#".repeat(filled), ".".repeat(8 - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_runs_from_silence_to_full_scale() {
        assert_eq!(bar(0.0), "[........]");
        assert_eq!(bar(1.0), "[########]");
        assert_eq!(bar(0.056), "[####....]");
    }

    #[test]
    fn the_line_fits_a_terminal() {
        let sample = Sample {
            video_in_kbps: 15_000.0,
            video_out_kbps: 15_000.0,
            loss: 1.0,
            rtt_ms: Some(1_000.0),
            ..Sample::default()
        };
        assert!(line("connected", Duration::from_secs(3_599), &sample).len() < 110);
    }
}
