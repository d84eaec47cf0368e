//! Sound from and to WAV files.
//!
//! A [`WavSource`] is read, resampled and folded to at most two channels when it is opened, so that reading a block copies
//! memory and sample positions map exactly. A [`WavSink`] hands blocks to a writer thread, which brings the header up to date
//! twice a second: whatever happens to the process, the file on disk can be played.

mod sink;

pub use sink::WavSink;

use super::resample::clip_to_48k;
use crate::media::{AudioFrame, AudioRead, AudioSource, BLOCK_SAMPLES, MediaError, SAMPLE_RATE};
use halloo_transport::Timestamp;
use std::{
    fs::File,
    io::{BufReader, Cursor, Read},
    path::Path,
    sync::Arc,
};

/// Rates that a WAV file may have.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;
/// Most memory for a file's samples: three hours of mono or half of that in stereo.
const MAX_SAMPLES: u64 = 48_000 * 3_600 * 3;
/// A data size that a program writes which cannot go back to correct it: the sound goes on to the file's end.
const OPEN_ENDED: u32 = 0x7fff_f000;

const SUPPORTED: &str = "supported are WAV files of 8, 16, 24 or 32-bit integers or 32-bit float at 4 to 384 kHz; \
                         convert others, for example with: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav";

/// What happens at a file's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Repeat {
    /// The source ends; the track goes on in silence.
    #[default]
    Once,
    /// It starts again without a gap.
    Loop,
}

/// A WAV file as a source.
#[derive(Debug, Clone)]
pub struct WavSource {
    samples: Arc<[f32]>,
    channels: usize,
    repeat: Repeat,
    /// In samples.
    position: usize,
}

impl WavSource {
    /// Reads the file at `path`. Mono and stereo stay so, more channels become stereo.
    ///
    /// # Errors
    /// Where it cannot be read, is of another format (which is named), is cut short, or is longer than three hours.
    pub fn open(path: impl AsRef<Path>, repeat: Repeat) -> Result<Self, MediaError> {
        let path = path.as_ref();
        let fail = |what: String| MediaError::new(format!("cannot play {}: {what}", path.display()));
        let file = open_repaired(path).map_err(|e| fail(e.to_string()))?;
        let reader = hound::WavReader::new(file).map_err(|e| fail(explain(path, &e)))?;
        let spec = reader.spec();
        if !RATES.contains(&spec.sample_rate) {
            return Err(fail(format!("its rate is {} Hz; {SUPPORTED}", spec.sample_rate)));
        }
        let declared = u64::from(reader.len());
        if declared * u64::from(SAMPLE_RATE) / u64::from(spec.sample_rate) > MAX_SAMPLES {
            return Err(fail("it is too long to be held in memory; cut it to three hours of mono sound".into()));
        }
        let mut pcm: Vec<f32> = Vec::with_capacity(declared as usize);
        let scale = 1.0 / (1_i64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
        let ended = match spec.sample_format {
            hound::SampleFormat::Float => collect(reader.into_samples::<f32>(), &mut pcm, |s| s),
            hound::SampleFormat::Int => collect(reader.into_samples::<i32>(), &mut pcm, |s| s as f32 * scale),
        };
        if let Err(e) = ended {
            if !is_early_end(&e) {
                return Err(fail(explain(path, &e)));
            }
            let have = pcm.len();
            return Err(fail(format!("it is cut short: its header promises {declared} samples, {have} are there")));
        }
        if pcm.iter().any(|s| !s.is_finite()) {
            pcm.iter_mut().filter(|s| !s.is_finite()).for_each(|s| *s = 0.0);
        }
        let channels = usize::from(spec.channels.max(1));
        pcm.truncate(pcm.len() / channels * channels);
        let (pcm, channels) = fold_to_stereo(pcm, channels);
        let samples = clip_to_48k(pcm, channels, spec.sample_rate).map_err(|e| fail(e.to_string()))?;
        if samples.is_empty() {
            return Err(fail("it holds no sound".into()));
        }
        Ok(Self { samples: samples.into(), channels, repeat, position: 0 })
    }

    /// Its samples at 48 kHz, interleaved.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// 1 or 2.
    pub fn channels(&self) -> u8 {
        self.channels as u8
    }
}

/// The file, its data size made right where a program that could not go back left it open.
fn open_repaired(path: &Path) -> std::io::Result<impl Read> {
    const HEAD: u64 = 4_096;
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head)?;
    repair_data_size(&mut head, len);
    Ok(Cursor::new(head).chain(file))
}

/// Walks the chunks to `data`; where its size is open, writes how many whole frames the file holds.
fn repair_data_size(head: &mut [u8], file_len: u64) {
    let word = |head: &[u8], at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let (mut at, mut frame) = (12, 1_u64);
    while let (Some(id), Some(size)) = (head.get(at..at + 4), word(head, at + 4)) {
        if id == b"data" {
            if size >= OPEN_ENDED {
                let there = file_len.saturating_sub(at as u64 + 8);
                let whole = u32::try_from(there / frame * frame).unwrap_or(size);
                head[at + 4..at + 8].copy_from_slice(&whole.to_le_bytes());
            }
            return;
        }
        if id == b"fmt " {
            // Bytes per frame, at the thirteenth byte of the format.
            frame = head.get(at + 20..at + 22).map_or(1, |b| u64::from(u16::from_le_bytes([b[0], b[1]]))).max(1);
        }
        at = at.saturating_add(8).saturating_add(size as usize).saturating_add(size as usize & 1);
    }
}

fn collect<S>(
    samples: impl Iterator<Item = hound::Result<S>>,
    pcm: &mut Vec<f32>,
    convert: impl Fn(S) -> f32,
) -> hound::Result<()> {
    for sample in samples {
        pcm.push(convert(sample?));
    }
    Ok(())
}

impl AudioSource for WavSource {
    fn read(&mut self, now: Timestamp, block: &mut AudioFrame) -> Result<AudioRead, MediaError> {
        let want = BLOCK_SAMPLES * self.channels;
        block.channels = self.channels as u8;
        block.at = now;
        block.samples.clear();
        while block.samples.len() < want {
            let rest = &self.samples[self.position..];
            if rest.is_empty() {
                if self.repeat == Repeat::Once {
                    break;
                }
                self.position = 0;
                continue;
            }
            let take = rest.len().min(want - block.samples.len());
            block.samples.extend_from_slice(&rest[..take]);
            self.position += take;
        }
        if block.samples.is_empty() {
            return Ok(AudioRead::Ended);
        }
        block.samples.resize(want, 0.0);
        Ok(AudioRead::Filled)
    }
}

/// More than two channels become the first two plus an even share of the others.
fn fold_to_stereo(pcm: Vec<f32>, channels: usize) -> (Vec<f32>, usize) {
    if channels <= 2 {
        return (pcm, channels);
    }
    let others = 0.707 / (channels - 2) as f32;
    let folded = pcm
        .chunks_exact(channels)
        .flat_map(|frame| {
            let shared: f32 = frame[2..].iter().sum::<f32>() * others;
            [0.6 * (frame[0] + shared), 0.6 * (frame[1] + shared)]
        })
        .collect();
    (folded, 2)
}

/// What is wrong with a file that hound would not read.
fn explain(path: &Path, error: &hound::Error) -> String {
    if let hound::Error::IoError(e) = error
        && !is_early_end(error)
    {
        return e.to_string();
    }
    let mut head = [0_u8; 64];
    let len = File::open(path).and_then(|mut file| file.read(&mut head)).unwrap_or(0);
    match foreign_format(&head[..len]) {
        Some(name) => format!("it is {name}, not a WAV file; {SUPPORTED}"),
        None => match error {
            _ if is_early_end(error) => format!("its header is cut short; {SUPPORTED}"),
            hound::Error::Unsupported => format!("it is a WAV file of a kind that is not supported; {SUPPORTED}"),
            other => format!("{other}; {SUPPORTED}"),
        },
    }
}

/// Whether the file ended before what its header promised.
fn is_early_end(error: &hound::Error) -> bool {
    use std::io::ErrorKind;
    // hound's own end of file is an error of the kind `Other`; the operating system's errors never are.
    matches!(error, hound::Error::IoError(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::Other))
}

/// The name of the format that a file begins like, where it is not WAV.
fn foreign_format(head: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 12] = [
        (b"ID3", "an MP3 file"),
        (b"YUV4MPEG2", "a Y4M video"),
        (b"OggS", "an Ogg file (Opus or Vorbis)"),
        (b"fLaC", "a FLAC file"),
        (b"FORM", "an AIFF file"),
        (b"RF64", "an RF64 file"),
        (b"RIFX", "a big-endian RIFX file"),
        (b".snd", "a Sun audio file"),
        (b"\x1a\x45\xdf\xa3", "a Matroska or WebM file"),
        (b"\x89PNG", "a PNG picture"),
        (b"#!AMR", "an AMR file"),
        (b"%PDF", "a PDF document"),
    ];
    if head.is_empty() {
        return Some("empty");
    }
    if let Some((_, name)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(name);
    }
    if head.starts_with(b"RIFF") {
        return (head.len() >= 12 && &head[8..12] != b"WAVE").then_some("a RIFF file without sound (AVI or WebP)");
    }
    if head.len() >= 8 && &head[4..8] == b"ftyp" {
        return Some("an MP4 or M4A file");
    }
    if head.len() >= 2 && head[0] == 0xff && head[1] & 0xe0 == 0xe0 {
        return Some("an MP3 or AAC file");
    }
    let text = std::str::from_utf8(head).is_ok_and(|s| s.chars().all(|c| !c.is_control() || c.is_whitespace()));
    text.then_some("a text file")
}

#[cfg(test)]
mod tests;
