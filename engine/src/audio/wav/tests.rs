use super::*;
use crate::{audio::test_signal::speech_like, media::AudioSink};
use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("halloo-wav-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn sine(rate: u32, i: u32) -> f64 {
    (std::f64::consts::TAU * 500.0 * f64::from(i) / f64::from(rate)).sin() * 0.5
}

fn write(path: &Path, rate: u32, channels: u16, bits: u16, format: hound::SampleFormat) {
    let spec = hound::WavSpec { channels, sample_rate: rate, bits_per_sample: bits, sample_format: format };
    let mut file = hound::WavWriter::create(path, spec).unwrap();
    for i in 0..rate {
        for _ in 0..channels {
            match format {
                hound::SampleFormat::Float => file.write_sample(sine(rate, i) as f32).unwrap(),
                hound::SampleFormat::Int => {
                    let full = ((1_i64 << (bits - 1)) - 1) as f64;
                    file.write_sample((sine(rate, i) * full) as i32).unwrap();
                }
            }
        }
    }
    file.finalize().unwrap();
}

fn read_all(source: &mut WavSource) -> Vec<f32> {
    let mut block = AudioFrame::silence(Timestamp::ZERO);
    let mut all = Vec::new();
    while source.read(Timestamp::ZERO, &mut block).unwrap() == AudioRead::Filled {
        assert_eq!(block.samples.len(), BLOCK_SAMPLES * usize::from(block.channels));
        all.extend(block.samples.chunks_exact(usize::from(block.channels)).map(|f| f[0]));
    }
    all
}

#[test]
fn every_sample_format_and_rate_is_read_in_place() {
    let folder = Folder::new();
    for (rate, channels, bits, format) in [
        (48_000, 1, 16, hound::SampleFormat::Int),
        (48_000, 2, 24, hound::SampleFormat::Int),
        (44_100, 1, 32, hound::SampleFormat::Int),
        (44_100, 2, 32, hound::SampleFormat::Float),
        (8_000, 1, 8, hound::SampleFormat::Int),
        (16_000, 1, 16, hound::SampleFormat::Int),
        (96_000, 1, 32, hound::SampleFormat::Float),
    ] {
        let path = folder.file("in.wav");
        write(&path, rate, channels, bits, format);
        let heard = read_all(&mut WavSource::open(&path, Repeat::Once).unwrap());
        assert_eq!(heard.len(), 48_000);
        let worst = (2_000..46_000).map(|i| (f64::from(heard[i]) - sine(48_000, i as u32)).abs()).fold(0.0, f64::max);
        assert!(worst < 0.015, "{rate} Hz, {bits} bit, {channels} channels: off by {worst}");
    }
}

#[test]
fn six_channels_become_two_without_clipping() {
    let folder = Folder::new();
    let path = folder.file("surround.wav");
    write(&path, 48_000, 6, 16, hound::SampleFormat::Int);
    let mut source = WavSource::open(&path, Repeat::Once).unwrap();
    assert_eq!(source.channels(), 2);
    let peak = read_all(&mut source).iter().fold(0.0_f32, |a, s| a.max(s.abs()));
    assert!((0.4..0.6).contains(&peak), "{peak}");
}

#[test]
fn looping_has_no_gap() {
    let folder = Folder::new();
    let path = folder.file("loop.wav");
    write(&path, 48_000, 1, 16, hound::SampleFormat::Int);
    let mut source = WavSource::open(&path, Repeat::Loop).unwrap();
    let mut block = AudioFrame::silence(Timestamp::ZERO);
    let mut all = Vec::new();
    for _ in 0..250 {
        assert_eq!(source.read(Timestamp::ZERO, &mut block).unwrap(), AudioRead::Filled);
        all.extend_from_slice(&block.samples);
    }
    assert_eq!(all[..48_000], all[48_000..96_000]);
}

#[test]
fn other_formats_are_named_and_the_supported_ones_told() {
    let folder = Folder::new();
    let path = folder.file("odd");
    for (content, name) in [
        (&b"ID3\x04\x00\x00\x00\x00\x00\x00"[..], "MP3"),
        (b"\xff\xfb\x90\x64\x00\x00\x00\x00\x00\x00\x00\x00", "MP3"),
        (b"YUV4MPEG2 W352 H288 F30:1\nFRAME\n", "Y4M"),
        (b"Dear diary,\nnothing happened today.\n", "text"),
        (b"RIFF\x10\x00\x00\x00AVI LIST", "RIFF file without sound"),
        (b"OggS\x00\x02\x00\x00\x00\x00", "Ogg"),
        (b"", "empty"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00", "cut short"),
    ] {
        std::fs::write(&path, content).unwrap();
        let text = WavSource::open(&path, Repeat::Once).unwrap_err().to_string();
        assert!(text.contains(name), "{name} in: {text}");
        assert!(text.contains("16, 24 or 32-bit"), "{text}");
    }
    let text = WavSource::open(folder.file("missing.wav"), Repeat::Once).unwrap_err().to_string();
    assert!(text.contains("missing.wav") && text.contains("No such file"), "{text}");
}

#[test]
fn a_file_cut_short_is_refused_with_how_much_is_missing() {
    let folder = Folder::new();
    let path = folder.file("cut.wav");
    write(&path, 48_000, 1, 16, hound::SampleFormat::Int);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let text = WavSource::open(&path, Repeat::Once).unwrap_err().to_string();
    assert!(text.contains("cut short") && text.contains("48000"), "{text}");
}

#[test]
fn a_streamed_file_without_length_is_read_to_its_end() {
    let folder = Folder::new();
    let path = folder.file("piped.wav");
    write(&path, 48_000, 1, 16, hound::SampleFormat::Int);
    let mut bytes = std::fs::read(&path).unwrap();
    let data = bytes.windows(4).position(|w| w == b"data").unwrap();
    bytes[data + 4..data + 8].fill(0xff);
    bytes[4..8].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(read_all(&mut WavSource::open(&path, Repeat::Once).unwrap()).len(), 48_000);
}

#[test]
fn a_recording_is_read_back_as_it_was() {
    let folder = Folder::new();
    let path = folder.file("out.wav");
    let speech = speech_like(48_000);
    let mut sink = WavSink::create(&path).unwrap();
    for chunk in speech.chunks_exact(BLOCK_SAMPLES) {
        sink.write(&AudioFrame { channels: 1, samples: chunk.to_vec(), at: Timestamp::ZERO }).unwrap();
    }
    sink.finish().unwrap();
    assert!(sink.write(&AudioFrame::silence(Timestamp::ZERO)).is_err());
    let heard = read_all(&mut WavSource::open(&path, Repeat::Once).unwrap());
    let worst = heard.iter().zip(&speech).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert_eq!(heard.len(), speech.len());
    assert!(worst < 1e-4, "{worst}");
}

#[test]
fn a_recording_that_is_never_finished_can_be_played() {
    let folder = Folder::new();
    let path = folder.file("killed.wav");
    let mut sink = WavSink::create(&path).unwrap();
    for _ in 0..300 {
        sink.write(&AudioFrame::silence(Timestamp::ZERO)).unwrap();
    }
    // The writer has everything once the queue is empty; what a kill leaves is what is on disk before the file is closed.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let seen = hound::WavReader::open(&path).unwrap().duration();
        if seen == 300 * 480 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "only {seen} samples on disk");
        std::thread::yield_now();
    }
    std::mem::forget(sink);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let text = WavSink::create("/nonexistent/folder/x.wav").unwrap_err().to_string();
    assert!(text.contains("/nonexistent/folder/x.wav"), "{text}");
}
