//! What is said: recorded speech that the system brings, different words for each, and in a group different voices too.

use crate::measure::{signal::resample, wav};
use anyhow::{Result, bail};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Where Debian's alsa-utils puts its recorded words.
const FOLDER: &str = "/usr/share/sounds/alsa";
const RATE: u32 = 48_000;
/// No word is said by both.
const ALICE: [&str; 2] = ["Front_Center", "Rear_Center"];
const BOB: [&str; 2] = ["Side_Left", "Side_Right"];

/// Those who meet in a room: their words, and the rate that these are played at. One speaker recorded them all at 48 kHz; other
/// rates make other voices of it, so that nobody's speech is like another's.
const GROUP: [(&str, &str, u32); 6] = [
    ("alice", "Front_Center", 42_000),
    ("bob", "Rear_Center", 48_000),
    ("carol", "Side_Left", 60_000),
    ("dave", "Front_Right", 64_000),
    ("erin", "Rear_Left", 50_000),
    ("frank", "Side_Right", 44_000),
];
/// Before the first turn: everybody is there by then.
const LEAD: Duration = Duration::from_millis(2_000);
/// Only the loudest few are heard at once: so they speak one after the other, each in a turn of this length.
const TURN: Duration = Duration::from_millis(2_000);
/// After the last turn: what was said last still arrives.
const TAIL: Duration = Duration::from_millis(1_000);

/// How long a meeting lasts in which everybody has a turn.
pub(super) const MEETING: Duration = LEAD.saturating_add(TURN.saturating_mul(GROUP.len() as u32)).saturating_add(TAIL);

/// What one side says.
#[derive(Clone, Debug)]
pub(super) struct Clip {
    /// For people.
    pub words: String,
    /// The WAV file; `None` for the microphone.
    pub path: Option<PathBuf>,
}

impl Clip {
    /// Its samples; `None` for the microphone.
    pub(super) fn samples(&self) -> Result<Option<Vec<f32>>> {
        self.path.as_deref().map(wav::read_mono).transpose()
    }

    /// As `--audio-in` takes it.
    pub(super) fn path_or(&self, otherwise: &str) -> String {
        self.path.as_ref().map_or_else(|| otherwise.to_owned(), |p| p.display().to_string())
    }
}

/// What both say.
#[derive(Clone, Debug)]
pub(super) struct Clips {
    /// The caller.
    pub alice: Clip,
    /// The callee.
    pub bob: Clip,
}

/// Joins words to one clip a side, in `out`.
pub(super) fn clips(out: &Path, microphone: bool) -> Result<Clips> {
    let bob = join(&BOB, &out.join("bob-says.wav"))?;
    let alice = if microphone {
        Clip { words: "whatever you say".into(), path: None }
    } else {
        join(&ALICE, &out.join("alice-says.wav"))?
    };
    Ok(Clips { alice, bob })
}

/// One of those who meet in a room.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    /// Who.
    pub name: &'static str,
    /// What is said in the turn, at 48 kHz.
    pub said: Vec<f32>,
    /// The WAV file: silence, the turn, silence, as long as the meeting.
    pub path: PathBuf,
}

/// What each of the group says, in `out`.
pub(super) fn voices(out: &Path) -> Result<Vec<Voice>> {
    let samples = |time: Duration| (time.as_secs_f64() * f64::from(RATE)) as usize;
    let voice = |(turn, (name, word, rate)): (usize, (&'static str, &str, u32))| {
        let said = resample(&recorded(word)?, rate, RATE);
        let mut file = vec![0.0; samples(MEETING)];
        let from = samples(LEAD + TURN * turn as u32);
        for (sample, said) in file.iter_mut().skip(from).zip(&said) {
            *sample = *said;
        }
        let path = out.join(format!("{name}-says.wav"));
        wav::write_mono(&path, &file)?;
        Ok(Voice { name, said, path })
    };
    GROUP.into_iter().enumerate().map(voice).collect()
}

fn join(words: &[&str], to: &Path) -> Result<Clip> {
    let mut samples = Vec::new();
    for word in words {
        samples.extend(recorded(word)?);
    }
    wav::write_mono(to, &samples)?;
    Ok(Clip { words: words.join(", ").replace('_', " ").to_lowercase(), path: Some(to.to_owned()) })
}

fn recorded(word: &str) -> Result<Vec<f32>> {
    let path = Path::new(FOLDER).join(format!("{word}.wav"));
    if !path.exists() {
        bail!(
            "the demo speaks with recorded words that are not on this machine: {} is missing. Install them with \
             `apt-get install alsa-utils`",
            path.display()
        );
    }
    wav::read_mono(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::heard_correlation;

    #[test]
    fn each_has_a_turn_of_its_own_and_a_voice_like_no_others() {
        let out = tempfile::tempdir().unwrap();
        let voices = voices(out.path()).unwrap();
        for (turn, voice) in voices.iter().enumerate() {
            let file = wav::read_mono(&voice.path).unwrap();
            assert_eq!(file.len(), MEETING.as_secs() as usize * 48_000);
            let loud = |range: std::ops::Range<usize>| file[range].iter().any(|s| s.abs() > 0.01);
            let (from, to) = (96_000 * (turn + 1), 96_000 * (turn + 2));
            assert!(loud(from..to) && !loud(0..from) && !loud(to..file.len()), "{}", voice.name);
            for other in &voices {
                let heard = heard_correlation(&other.said, &file);
                assert_eq!(heard > 0.9, other.name == voice.name, "{} of {}: {heard}", other.name, voice.name);
                assert!(!(0.5..=0.9).contains(&heard), "{} of {}: {heard}", other.name, voice.name);
            }
        }
    }
}
