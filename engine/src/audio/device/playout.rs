//! The audio thread's end of the speaker: a ring that it keeps just full enough for the next callback.

use super::callback::Gauge;
use crate::{
    audio::{drift::DriftResampler, pace::Demand, thread::PlayoutPort},
    media::BLOCK_SAMPLES,
};
use crossbeam_queue::ArrayQueue;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// The audio thread's end of a playout stream.
pub(super) struct PlayoutEnd {
    pub(super) ring: rtrb::Producer<f32>,
    /// Of the ring, in frames.
    pub(super) capacity: usize,
    pub(super) rate: u32,
    pub(super) gauge: Arc<Gauge>,
    /// Only where the device does not run at 48 kHz.
    pub(super) resampler: Option<DriftResampler>,
}

/// Where the supervisor leaves the end of each stream that it opens.
pub(super) type PlayoutEnds = Arc<ArrayQueue<PlayoutEnd>>;

/// The port that outlives streams: a device may go and another come.
pub(super) struct PlayoutRing {
    ends: PlayoutEnds,
    end: Option<PlayoutEnd>,
    /// Frames that the largest callback of late took.
    largest_callback: usize,
    resampled: Vec<f32>,
}

impl PlayoutRing {
    pub(super) fn new() -> (PlayoutEnds, Self) {
        let ends: PlayoutEnds = Arc::new(ArrayQueue::new(2));
        let ring = Self { ends: Arc::clone(&ends), end: None, largest_callback: 0, resampled: Vec::new() };
        (ends, ring)
    }

    fn fill(&self) -> usize {
        self.end.as_ref().map_or(0, |end| end.capacity - end.ring.slots() / 2)
    }

    /// Frames that should be there when the device calls back.
    fn target(&self) -> usize {
        let block = self.end.as_ref().map_or(BLOCK_SAMPLES, |end| end.rate as usize / 100);
        self.largest_callback.clamp(block, block * 8)
    }
}

impl PlayoutPort for PlayoutRing {
    fn demand(&mut self) -> Demand {
        while let Some(end) = self.ends.pop() {
            self.resampled.clear();
            self.resampled.resize(end.resampler.as_ref().map_or(0, DriftResampler::most_frames) * 2, 0.0);
            self.largest_callback = 0;
            self.end = Some(end);
        }
        let Some(end) = &self.end else { return Demand::NoDevice };
        if end.ring.is_abandoned() {
            self.end = None;
            return Demand::NoDevice;
        }
        self.largest_callback = end.gauge.take_most().max(self.largest_callback);
        if self.fill() < self.target() { Demand::Hungry } else { Demand::Fed }
    }

    fn write(&mut self, mix: &[f32]) {
        // Forgotten over seconds, so that one large callback at the start does not cost delay for good.
        self.largest_callback -= self.largest_callback / 256;
        let full = self.fill() >= self.target();
        let Some(end) = &mut self.end else { return };
        if full {
            return; // A deadline leads because the device stalls: what it cannot play now is not played late.
        }
        let samples = match &mut end.resampler {
            None => mix,
            Some(resampler) => {
                let frames = resampler.process(mix, &mut self.resampled);
                &self.resampled[..frames * 2]
            }
        };
        if end.ring.slots() < samples.len() {
            return;
        }
        for sample in samples {
            let _ = end.ring.push(*sample);
        }
    }

    fn delay(&self) -> Duration {
        let Some(end) = &self.end else { return Duration::ZERO };
        let waiting = Duration::from_secs_f64(self.fill() as f64 / f64::from(end.rate.max(1)));
        waiting + end.gauge.delay().min(Duration::from_secs(1))
    }

    fn frames_missed(&self) -> u64 {
        self.end.as_ref().map_or(0, |end| end.gauge.slipped.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{device::callback::PlayoutCallback, test_alloc::allocations_in};

    fn stream(rate: u32) -> (PlayoutCallback, PlayoutRing) {
        let (ends, port) = PlayoutRing::new();
        let capacity = rate as usize / 5;
        let (producer, consumer) = rtrb::RingBuffer::new(capacity * 2);
        let gauge = Arc::new(Gauge::default());
        let resampler = (rate != 48_000).then(|| DriftResampler::from_blocks(rate, 2).unwrap());
        let end = PlayoutEnd { ring: producer, capacity, rate, gauge: Arc::clone(&gauge), resampler };
        assert!(ends.push(end).is_ok());
        (PlayoutCallback { ring: consumer, channels: 2, gauge, waker: std::thread::current() }, port)
    }

    #[test]
    fn demand_keeps_one_callback_in_hand_and_nothing_is_missed() {
        for rate in [48_000, 44_100] {
            let (mut callback, mut port) = stream(rate);
            let mix = [0.25; BLOCK_SAMPLES * 2];
            let mut out = vec![0.0_f32; rate as usize / 100 * 2];
            let mut blocks = 0;
            for i in 0..1_000 {
                while port.demand() == Demand::Hungry {
                    port.write(&mix);
                    blocks += 1;
                }
                assert!(port.fill() < rate as usize / 100 * 2 + 10, "{} frames wait", port.fill());
                callback.fill(&mut out, Duration::ZERO);
                assert!(i < 5 || out.iter().all(|s| *s > 0.2), "{rate} Hz: a hole in callback {i}");
            }
            assert!((999..=1_003).contains(&blocks), "{rate} Hz: {blocks} blocks for 1000 callbacks");
        }
    }

    #[test]
    fn a_stalled_device_costs_no_delay_afterwards() {
        let (_callback, mut port) = stream(48_000);
        let mix = [0.25; BLOCK_SAMPLES * 2];
        assert_eq!(port.demand(), Demand::Hungry);
        for _ in 0..100 {
            port.write(&mix);
        }
        assert_eq!(port.fill(), BLOCK_SAMPLES);
        assert_eq!(port.demand(), Demand::Fed);
    }

    #[test]
    fn a_stream_that_is_gone_is_no_device() {
        let (callback, mut port) = stream(48_000);
        assert_eq!(port.demand(), Demand::Hungry);
        drop(callback);
        assert_eq!(port.demand(), Demand::NoDevice);
        port.write(&[0.0; BLOCK_SAMPLES * 2]);
        assert_eq!(port.delay(), Duration::ZERO);
    }

    #[test]
    fn writing_does_not_allocate() {
        let (mut callback, mut port) = stream(44_100);
        let mix = [0.25; BLOCK_SAMPLES * 2];
        let mut out = vec![0.0_f32; 882];
        for _ in 0..10 {
            port.demand();
            port.write(&mix);
            callback.fill(&mut out, Duration::ZERO);
        }
        let allocations = allocations_in(|| {
            port.demand();
            port.write(&mix);
        });
        assert_eq!(allocations, 0);
    }
}
