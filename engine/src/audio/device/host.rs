//! The one door to `cpal`: lists devices and opens streams on them.
//!
//! Streams ask for buffers of 10 ms: the systems' own defaults reach two seconds. 48 kHz is taken where the device has it,
//! otherwise its own rate, and resampled on the audio thread.

use super::{
    DeviceChoice, DeviceError, DeviceInfo, DeviceKind,
    callback::{CaptureCallback, Gauge, PlayoutCallback},
    capture::{CaptureEnd, CaptureEnds},
    playout::{PlayoutEnd, PlayoutEnds},
};
use crate::{audio::drift::DriftResampler, media::SAMPLE_RATE};
use cpal::{
    BufferSize, ErrorKind, SampleFormat, StreamConfig,
    traits::{DeviceTrait, HostTrait, StreamTrait},
};
use std::{sync::Arc, thread::Thread, time::Duration};

/// How long a driver may take to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// What rings hold: 200 ms.
const RINGS_PER_SECOND: u32 = 5;

/// The system's sound service.
pub(super) struct Host {
    host: cpal::Host,
}

/// A device that was found.
pub(super) struct Found {
    device: cpal::Device,
    pub(super) info: DeviceInfo,
}

/// An open stream: it runs until this is dropped.
pub(super) struct OpenStream {
    stream: Option<cpal::Stream>,
}

impl Drop for OpenStream {
    /// Closing waits for the driver, and where PulseAudio took the device away it waits for good (cpal joins a thread whose
    /// stream never reports its end). So that costs a thread of its own and never the supervisor.
    fn drop(&mut self) {
        let stream = self.stream.take();
        // Where there is no thread to be had the stream is closed here.
        let _ = std::thread::Builder::new().name("halloo-close".into()).spawn(move || drop(stream));
    }
}

/// Called where a stream has ended by itself, with the reason.
pub(super) type Broke = Box<dyn FnMut(String) + Send>;

impl Host {
    /// The service that is running now.
    pub(super) fn connect() -> Self {
        Self { host: cpal::default_host() }
    }

    pub(super) fn list(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
        let mut all = self.list_kind(DeviceKind::Input)?;
        all.extend(self.list_kind(DeviceKind::Output)?);
        Ok(all.into_iter().map(|found| found.info).collect())
    }

    fn list_kind(&self, kind: DeviceKind) -> Result<Vec<Found>, DeviceError> {
        let default = self.default_id(kind);
        let fail = |e: cpal::Error| DeviceError::Host(e.to_string());
        let all: Vec<cpal::Device> = match kind {
            DeviceKind::Input => self.host.input_devices().map_err(fail)?.collect(),
            DeviceKind::Output => self.host.output_devices().map_err(fail)?.collect(),
        };
        Ok(all.into_iter().filter_map(|device| describe(device, kind, default.as_deref())).collect())
    }

    fn default_device(&self, kind: DeviceKind) -> Option<cpal::Device> {
        match kind {
            DeviceKind::Input => self.host.default_input_device(),
            DeviceKind::Output => self.host.default_output_device(),
        }
    }

    fn default_id(&self, kind: DeviceKind) -> Option<String> {
        self.default_device(kind)?.id().ok().map(|id| id.to_string())
    }

    /// Whether the device with this id is still there.
    pub(super) fn has(&self, kind: DeviceKind, id: &str) -> bool {
        self.list_kind(kind).is_ok_and(|all| all.iter().any(|found| found.info.id == id))
    }

    pub(super) fn find(&self, kind: DeviceKind, choice: &DeviceChoice) -> Result<Found, DeviceError> {
        let mut all = self.list_kind(kind)?;
        let at = match choice {
            DeviceChoice::Default => {
                let at = all.iter().position(|found| found.info.is_default);
                at.or(if all.is_empty() { None } else { Some(0) })
            }
            DeviceChoice::Named(name) => {
                let lower = name.to_lowercase();
                let has = |text: &str| text.to_lowercase().contains(&lower);
                all.iter()
                    .position(|found| found.info.id == *name || found.info.name == *name)
                    .or_else(|| all.iter().position(|found| has(&found.info.name)))
                    .or_else(|| all.iter().position(|found| has(&found.info.id)))
            }
        };
        match at {
            Some(at) => Ok(all.swap_remove(at)),
            None => Err(DeviceError::NotFound {
                kind,
                choice: choice.clone(),
                there: all.into_iter().map(|found| found.info.name).collect(),
            }),
        }
    }

    pub(super) fn open_capture(
        &self,
        found: &Found,
        ends: &CaptureEnds,
        broke: Broke,
    ) -> Result<OpenStream, DeviceError> {
        let (config, format) = configure(found, 1)?;
        let (producer, ring) = rtrb::RingBuffer::new((config.sample_rate / RINGS_PER_SECOND) as usize);
        let gauge = Arc::new(Gauge::default());
        let resampler = DriftResampler::to_blocks(config.sample_rate, 1).map_err(|e| refused(found, &e))?;
        let callback =
            CaptureCallback { ring: producer, channels: usize::from(config.channels), gauge: Arc::clone(&gauge) };
        let stream = match format {
            SampleFormat::I16 => capture::<i16>(found, config, callback, broke),
            SampleFormat::I32 => capture::<i32>(found, config, callback, broke),
            SampleFormat::U8 => capture::<u8>(found, config, callback, broke),
            _ => capture::<f32>(found, config, callback, broke),
        }?;
        let _ = ends.force_push(CaptureEnd { ring, rate: config.sample_rate, gauge, resampler });
        stream.play().map_err(|e| refused(found, &e))?;
        Ok(OpenStream { stream: Some(stream) })
    }

    pub(super) fn open_playout(
        &self,
        found: &Found,
        waker: Thread,
        ends: &PlayoutEnds,
        broke: Broke,
    ) -> Result<OpenStream, DeviceError> {
        let (config, format) = configure(found, 2)?;
        let rate = config.sample_rate;
        let capacity = (rate / RINGS_PER_SECOND) as usize;
        let (ring, consumer) = rtrb::RingBuffer::new(capacity * 2);
        let gauge = Arc::new(Gauge::default());
        let resampler = match rate {
            SAMPLE_RATE => None,
            _ => Some(DriftResampler::from_blocks(rate, 2).map_err(|e| refused(found, &e))?),
        };
        let callback = PlayoutCallback {
            ring: consumer,
            channels: usize::from(config.channels),
            gauge: Arc::clone(&gauge),
            waker: waker.clone(),
        };
        let stream = match format {
            SampleFormat::I16 => playout::<i16>(found, config, callback, broke),
            SampleFormat::I32 => playout::<i32>(found, config, callback, broke),
            SampleFormat::U8 => playout::<u8>(found, config, callback, broke),
            _ => playout::<f32>(found, config, callback, broke),
        }?;
        // The audio thread fills the ring before the device first asks.
        let _ = ends.force_push(PlayoutEnd { ring, capacity, rate, gauge, resampler });
        waker.unpark();
        stream.play().map_err(|e| refused(found, &e))?;
        Ok(OpenStream { stream: Some(stream) })
    }
}

fn describe(device: cpal::Device, kind: DeviceKind, default: Option<&str>) -> Option<Found> {
    let id = device.id().ok()?.to_string();
    let name = device.description().map_or_else(|_| id.clone(), |d| d.name().to_owned());
    let is_default = default == Some(id.as_str());
    Some(Found { device, info: DeviceInfo { kind, id, name, is_default } })
}

fn refused(found: &Found, reason: &dyn std::fmt::Display) -> DeviceError {
    DeviceError::Open { kind: found.info.kind, name: found.info.name.clone(), reason: reason.to_string() }
}

/// 48 kHz, the wished number of channels and float where the device has them; otherwise what it has.
fn configure(found: &Found, channels: u16) -> Result<(StreamConfig, SampleFormat), DeviceError> {
    let ranges: Vec<cpal::SupportedStreamConfigRange> = match found.info.kind {
        DeviceKind::Input => found.device.supported_input_configs().map(Iterator::collect),
        DeviceKind::Output => found.device.supported_output_configs().map(Iterator::collect),
    }
    .map_err(|e| refused(found, &e))?;
    let usable = [SampleFormat::F32, SampleFormat::I16, SampleFormat::I32, SampleFormat::U8];
    let cost = |range: &cpal::SupportedStreamConfigRange| {
        let format = usable.iter().position(|f| *f == range.sample_format())?;
        let has_rate = (range.min_sample_rate()..=range.max_sample_rate()).contains(&SAMPLE_RATE);
        Some((!has_rate, range.channels().abs_diff(channels), format))
    };
    let best = ranges.iter().filter_map(|range| Some((cost(range)?, range))).min_by_key(|(cost, _)| *cost);
    let Some((_, range)) = best else {
        return Err(refused(found, &"it has no sample format that is supported (float, 8, 16 or 32 bit)"));
    };
    let rate = SAMPLE_RATE.clamp(range.min_sample_rate(), range.max_sample_rate());
    let config =
        StreamConfig { channels: range.channels(), sample_rate: rate, buffer_size: BufferSize::Fixed(rate / 100) };
    Ok((config, range.sample_format()))
}

fn capture<T>(
    found: &Found,
    config: StreamConfig,
    mut callback: CaptureCallback,
    broke: Broke,
) -> Result<cpal::Stream, DeviceError>
where
    T: cpal::SizedSample,
    f32: cpal::FromSample<T>,
{
    found
        .device
        .build_input_stream::<T, _, _>(
            config,
            move |data, info| {
                let at = info.timestamp();
                callback.take(data, at.callback.checked_duration_since(at.capture).unwrap_or_default());
            },
            on_error(broke),
            Some(OPEN_TIMEOUT),
        )
        .map_err(|e| refused(found, &e))
}

fn playout<T>(
    found: &Found,
    config: StreamConfig,
    mut callback: PlayoutCallback,
    broke: Broke,
) -> Result<cpal::Stream, DeviceError>
where
    T: cpal::SizedSample + cpal::FromSample<f32>,
{
    found
        .device
        .build_output_stream::<T, _, _>(
            config,
            move |data, info| {
                let at = info.timestamp();
                callback.fill(data, at.playback.checked_duration_since(at.callback).unwrap_or_default());
            },
            on_error(broke),
            Some(OPEN_TIMEOUT),
        )
        .map_err(|e| refused(found, &e))
}

/// What a stream survives is only logged.
fn on_error(mut broke: Broke) -> impl FnMut(cpal::Error) + Send {
    move |error| match error.kind() {
        ErrorKind::Xrun | ErrorKind::RealtimeDenied | ErrorKind::DeviceChanged => {
            tracing::debug!(%error, "sound device");
        }
        _ => broke(error.to_string()),
    }
}
