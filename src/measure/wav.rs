//! WAV files as mono samples at 48 kHz, for measuring.

use super::signal::resample;
use anyhow::{Context, Result, bail};
use halloo_engine::media::SAMPLE_RATE;
use std::path::Path;

/// Reads any 8- to 32-bit integer or float WAV, averages its channels and resamples to 48 kHz.
///
/// # Errors
/// Where the file cannot be read or is not such a WAV.
pub fn read_mono(path: &Path) -> Result<Vec<f32>> {
    let mut reader =
        hound::WavReader::open(path).with_context(|| format!("could not read {} as WAV", path.display()))?;
    let spec = reader.spec();
    let channels = usize::from(spec.channels.max(1));
    if spec.sample_rate == 0 {
        bail!("{} gives its sample rate as 0", path.display());
    }
    let samples: Result<Vec<f32>, hound::Error> = match spec.sample_format {
        hound::SampleFormat::Float => reader.samples::<f32>().collect(),
        hound::SampleFormat::Int => {
            let scale = 1.0 / (1_i64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
            reader.samples::<i32>().map(|s| s.map(|s| s as f32 * scale)).collect()
        }
    };
    let samples = samples.with_context(|| format!("could not read the samples of {}", path.display()))?;
    let mono: Vec<f32> = samples.chunks_exact(channels).map(|c| c.iter().sum::<f32>() / channels as f32).collect();
    Ok(resample(&mono, spec.sample_rate, SAMPLE_RATE))
}

/// Writes mono samples at 48 kHz as 16-bit WAV.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_mono(path: &Path, samples: &[f32]) -> Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let write = || -> Result<(), hound::Error> {
        let mut writer = hound::WavWriter::create(path, spec)?;
        for &sample in samples {
            writer.write_sample((sample.clamp(-1.0, 1.0) * 32_767.0).round() as i16)?;
        }
        writer.finalize()
    };
    write().with_context(|| format!("could not write {}", path.display()))
}
