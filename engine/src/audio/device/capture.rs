//! A microphone as a source: the ring from its callback, brought onto the audio thread's clock.
//!
//! The two clocks drift apart by up to some hundred ppm. What is in the ring just before each block, smoothed, says by how
//! much; the resampler's ratio follows so that the ring neither runs dry nor fills. How much is kept depends on how far the fill
//! has been seen to dip below its mean: callbacks may come evenly or in bunches, and as the clocks slide past each other a block
//! now and then finds one callback less.

use super::{
    DeviceChoice, DeviceError, DeviceKind,
    callback::Gauge,
    supervisor::{DeviceEvent, Supervisor},
};
use crate::{
    audio::drift::DriftResampler,
    media::{AudioFrame, AudioRead, AudioSource, BLOCK_SAMPLES, MediaError},
};
use crossbeam_queue::ArrayQueue;
use halloo_transport::Timestamp;
use std::{sync::Arc, time::Duration};

/// Kept in the ring beyond that, in seconds: what scheduling costs.
const MARGIN: f64 = 0.002;
/// How far the fill is first taken to dip (in seconds), how slowly a dip is forgotten (a share of it with each block), how much
/// is added when the ring ran dry after all, and the most there is.
const FIRST_DIP: f64 = 0.010;
const FORGET_DIP: f64 = 1e-5;
const RAN_DRY: f64 = 0.003;
const MOST_DIP: f64 = 0.050;
/// This much above the target (in seconds) is thrown away rather than drained.
const MOST_EXCESS: f64 = 0.060;
/// How fast the smoothed fill follows: about one second of blocks.
const SMOOTHING: f64 = 0.01;
/// How hard the ratio answers: a fill 1 ms off moves it by this much at once, and by this much more with each block. The second
/// finds the drift itself, so that in the end nothing is off.
const PPM_PER_MS: f64 = 300.0;
const PPM_PER_MS_AND_BLOCK: f64 = 0.1;
/// Real clocks drift less than this.
const MOST_DRIFT_PPM: f64 = 1_000.0;

/// The audio thread's end of a capture stream.
pub(super) struct CaptureEnd {
    pub(super) ring: rtrb::Consumer<f32>,
    pub(super) rate: u32,
    pub(super) gauge: Arc<Gauge>,
    pub(super) resampler: DriftResampler,
}

/// Where the supervisor leaves the end of each stream that it opens.
pub(super) type CaptureEnds = Arc<ArrayQueue<CaptureEnd>>;

/// A microphone. Follows the system's default where that was chosen, falls back to it when the device is unplugged, and
/// gives silence while there is none.
pub struct DeviceSource {
    ends: CaptureEnds,
    capture: Option<Capture>,
    _supervisor: Supervisor,
}

impl std::fmt::Debug for DeviceSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceSource").field("capturing", &self.capture.is_some()).finish()
    }
}

impl DeviceSource {
    /// Opens a microphone; `events` is called from a thread of its own when it is lost, replaced or back.
    ///
    /// Waits for the driver: not for an async task.
    ///
    /// # Errors
    /// Where there is no such device (the text lists those there are) or it cannot be opened.
    pub fn open(choice: DeviceChoice, events: impl Fn(DeviceEvent) + Send + 'static) -> Result<Self, DeviceError> {
        let ends: CaptureEnds = Arc::new(ArrayQueue::new(2));
        let to = Arc::clone(&ends);
        let supervisor = Supervisor::start(
            DeviceKind::Input,
            choice,
            move |host, found, broke| host.open_capture(found, &to, broke),
            events,
        )?;
        Ok(Self { ends, capture: None, _supervisor: supervisor })
    }
}

impl AudioSource for DeviceSource {
    fn read(&mut self, now: Timestamp, block: &mut AudioFrame) -> Result<AudioRead, MediaError> {
        while let Some(end) = self.ends.pop() {
            self.capture = Some(Capture::new(end));
        }
        let Some(capture) = &mut self.capture else { return Ok(AudioRead::Silence) };
        block.channels = 1;
        block.samples.resize(BLOCK_SAMPLES, 0.0);
        if !capture.read(&mut block.samples) {
            return Ok(AudioRead::Silence);
        }
        block.at = now - capture.delay();
        Ok(AudioRead::Filled)
    }
}

/// One stream: ring, resampler, and the control of its ratio.
struct Capture {
    end: CaptureEnd,
    input: Vec<f32>,
    /// How far the fill dips below its mean, in frames.
    dip: f64,
    smoothed: f64,
    drift_ppm: f64,
    primed: bool,
}

impl Capture {
    fn new(end: CaptureEnd) -> Self {
        let input = vec![0.0; end.resampler.most_frames()];
        let dip = f64::from(end.rate) * FIRST_DIP;
        Self { end, input, dip, smoothed: 0.0, drift_ppm: 0.0, primed: false }
    }

    /// Fills a block; false while the ring fills up first.
    fn read(&mut self, block: &mut [f32]) -> bool {
        let rate = f64::from(self.end.rate);
        let need = self.end.resampler.input_frames();
        let fill = self.end.ring.slots();
        let target = need as f64 + self.dip + rate * MARGIN;
        if !self.primed {
            if (fill as f64) < target {
                return false;
            }
            self.primed = true;
            self.smoothed = target;
            self.drop_excess(fill, target);
        } else if fill as f64 > target + rate * MOST_EXCESS {
            self.smoothed = target;
            self.drop_excess(fill, target);
        }
        let fill = self.end.ring.slots();
        self.smoothed += (fill as f64 - self.smoothed) * SMOOTHING;
        self.dip = (self.smoothed - fill as f64).max(self.dip * (1.0 - FORGET_DIP)).min(rate * MOST_DIP);
        let off_ms = (self.smoothed - target) / rate * 1e3;
        self.drift_ppm = (self.drift_ppm + off_ms * PPM_PER_MS_AND_BLOCK).clamp(-MOST_DRIFT_PPM, MOST_DRIFT_PPM);
        self.end.resampler.follow(self.drift_ppm + off_ms * PPM_PER_MS);
        // How much the block takes is known only once the ratio is set.
        let need = self.end.resampler.input_frames();
        if self.end.ring.slots() < need {
            // It ran dry: the device stalled. Fill up again before going on, else each block would be short.
            self.primed = false;
            self.dip = (self.dip + rate * RAN_DRY).min(rate * MOST_DIP);
            return false;
        }
        for sample in &mut self.input[..need] {
            *sample = self.end.ring.pop().unwrap_or(0.0);
        }
        self.end.resampler.process(&self.input[..need], block) == block.len()
    }

    fn drop_excess(&mut self, fill: usize, target: f64) {
        for _ in target.ceil() as usize..fill {
            let _ = self.end.ring.pop();
        }
    }

    /// How long ago the last sample read was captured.
    fn delay(&self) -> Duration {
        let waiting = self.end.ring.slots() as f64 / f64::from(self.end.rate.max(1));
        self.end.gauge.delay() + Duration::from_secs_f64(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{device::callback::CaptureCallback, test_alloc::allocations_in};

    fn stream(rate: u32) -> (CaptureCallback, Capture) {
        let (producer, consumer) = rtrb::RingBuffer::new(rate as usize / 5);
        let gauge = Arc::new(Gauge::default());
        let resampler = DriftResampler::to_blocks(rate, 1).unwrap();
        let callback = CaptureCallback { ring: producer, channels: 1, gauge: Arc::clone(&gauge) };
        (callback, Capture::new(CaptureEnd { ring: consumer, rate, gauge, resampler }))
    }

    /// Runs a device whose clock is `ppm` fast and that calls back in pieces of `piece` frames.
    fn run(rate: u32, ppm: f64, piece: usize, seconds: u32) -> (Capture, u32, f64) {
        let (mut callback, mut capture) = stream(rate);
        let (mut owed, mut phase, mut block) = (0.0_f64, 0_u64, vec![0.0; BLOCK_SAMPLES]);
        let (mut missed, mut worst) = (0, 0.0_f64);
        let mut last = 0.0_f32;
        for i in 0..seconds * 100 {
            owed += f64::from(rate) / 100.0 * (1.0 + ppm / 1e6);
            while owed >= piece as f64 {
                let data: Vec<f32> = (0..piece as u64)
                    .map(|k| ((phase + k) as f64 * 440.0 / f64::from(rate) * std::f64::consts::TAU).sin() as f32 * 0.5)
                    .collect();
                callback.take(&data, Duration::ZERO);
                phase += piece as u64;
                owed -= piece as f64;
            }
            if !capture.read(&mut block) {
                missed += u32::from(i > 20);
                continue;
            }
            if i > 30 {
                let step = std::iter::once(last).chain(block.iter().copied()).zip(&block).map(|(a, b)| (a - b).abs());
                worst = worst.max(f64::from(step.fold(0.0, f32::max)));
            }
            last = block[BLOCK_SAMPLES - 1];
        }
        (capture, missed, worst)
    }

    #[test]
    fn drift_is_followed_without_a_gap_or_a_click() {
        for (rate, ppm, piece) in
            [(48_000, 500.0, 480), (48_000, -500.0, 32), (44_100, 500.0, 441), (16_000, -300.0, 160)]
        {
            let (capture, missed, worst) = run(rate, ppm, piece, 60);
            assert_eq!(missed, 0, "{rate} Hz {ppm} ppm pieces of {piece}");
            // A 440 Hz sine of amplitude 0.5 moves by at most 0.029 a sample.
            assert!(worst < 0.04, "{rate} Hz {ppm} ppm pieces of {piece}: a step of {worst}");
            let fill_ms = capture.smoothed / f64::from(rate) * 1e3;
            assert!(fill_ms < 30.0, "{rate} Hz {ppm} ppm pieces of {piece}: {fill_ms} ms in the ring");
        }
    }

    #[test]
    fn reading_does_not_allocate() {
        let (mut callback, mut capture) = stream(44_100);
        let mut block = vec![0.0; BLOCK_SAMPLES];
        for _ in 0..50 {
            callback.take(&[0.1_f32; 441], Duration::ZERO);
            capture.read(&mut block);
        }
        callback.take(&[0.1_f32; 441], Duration::ZERO);
        assert_eq!(allocations_in(|| assert!(capture.read(&mut block))), 0);
    }

    #[test]
    fn a_device_that_stalls_is_silent_until_it_has_filled_up_again() {
        let (mut callback, mut capture) = stream(48_000);
        let mut block = vec![0.0; BLOCK_SAMPLES];
        for _ in 0..10 {
            callback.take(&[0.1_f32; 480], Duration::ZERO);
            capture.read(&mut block);
        }
        let dry = (0..10).filter(|_| !capture.read(&mut block)).count();
        assert!(dry >= 8);
        let back = (0..10).filter(|_| {
            callback.take(&[0.1_f32; 480], Duration::ZERO);
            capture.read(&mut block)
        });
        assert!(back.count() >= 6);
    }
}
