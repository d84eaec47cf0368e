//! What the two sides say: recorded speech that the system brings, different words for each.

use crate::measure::wav;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Where Debian's alsa-utils puts its recorded words.
const FOLDER: &str = "/usr/share/sounds/alsa";
/// No word is said by both.
const ALICE: [&str; 2] = ["Front_Center", "Rear_Center"];
const BOB: [&str; 2] = ["Side_Left", "Side_Right"];

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

fn join(words: &[&str], to: &Path) -> Result<Clip> {
    let mut samples = Vec::new();
    for word in words {
        let path = Path::new(FOLDER).join(format!("{word}.wav"));
        if !path.exists() {
            bail!(
                "the demo speaks with recorded words that are not on this machine: {} is missing. Install them with \
                 `apt-get install alsa-utils`, or speak yourself with --mic",
                path.display()
            );
        }
        samples.extend(wav::read_mono(&path)?);
    }
    wav::write_mono(to, &samples)?;
    Ok(Clip { words: words.join(", ").replace('_', " ").to_lowercase(), path: Some(to.to_owned()) })
}
