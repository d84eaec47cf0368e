//! Media that is in no repository: speech at odd rates and formats, numbered pictures at odd sizes.

use halloo::measure::{signal::resample, wav};
use halloo_engine::{Timestamp, media::VideoFrame, video::pattern};
use std::{io::Write, path::Path};

/// Recorded words of Debian's alsa-utils.
pub(crate) fn speech(words: &[&str]) -> Vec<f32> {
    words
        .iter()
        .flat_map(|word| {
            let path = Path::new("/usr/share/sounds/alsa").join(format!("{word}.wav"));
            wav::read_mono(&path).expect("recorded speech: apt-get install alsa-utils")
        })
        .collect()
}

/// 16-bit stereo at this rate.
pub(crate) fn write_stereo_16(path: &Path, samples: &[f32], rate: u32) {
    let spec =
        hound::WavSpec { channels: 2, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in resample(samples, 48_000, rate) {
        for _ in 0..2 {
            writer.write_sample((sample.clamp(-1.0, 1.0) * 32_767.0) as i16).unwrap();
        }
    }
    writer.finalize().unwrap();
}

/// Float mono at this rate.
pub(crate) fn write_mono_float(path: &Path, samples: &[f32], rate: u32) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in resample(samples, 48_000, rate) {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
}

/// Numbered pictures.
pub(crate) fn write_y4m(path: &Path, (width, height): (u32, u32), rate: &str, frames: u64) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    writeln!(file, "YUV4MPEG2 W{width} H{height} F{rate} Ip A1:1 C420jpeg").unwrap();
    for number in 0..frames {
        let frame: VideoFrame = pattern::draw(width, height, number, Timestamp::ZERO).unwrap();
        writeln!(file, "FRAME").unwrap();
        for plane in 0..3 {
            for y in 0..frame.plane_size(plane).1 {
                file.write_all(frame.row(plane, y)).unwrap();
            }
        }
    }
    file.flush().unwrap();
}
