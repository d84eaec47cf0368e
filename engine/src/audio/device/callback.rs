//! What runs inside a device's callback: convert samples, move them through a wait-free ring, wake the audio thread.
//!
//! Invariant: no allocation, no lock, no log, and no syscall but the wake (a futex). Shared counters are relaxed atomics. A
//! test runs each callback under an allocator that counts.

use cpal::{FromSample, SizedSample};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::Thread,
    time::Duration,
};

/// What a callback tells the audio thread.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Most frames that one call moved since this was last taken.
    most: AtomicUsize,
    /// Frames that were missing (playout) or did not fit (capture).
    pub(super) slipped: AtomicU64,
    /// How long the device itself takes, in microseconds.
    delay_us: AtomicU64,
}

impl Gauge {
    fn moved(&self, frames: usize, slipped: usize, delay: Duration) {
        self.most.fetch_max(frames, Ordering::Relaxed);
        self.delay_us.store(delay.as_micros() as u64, Ordering::Relaxed);
        if slipped > 0 {
            self.slipped.fetch_add(slipped as u64, Ordering::Relaxed);
        }
    }

    /// Most frames in one call since the last time.
    pub(super) fn take_most(&self) -> usize {
        self.most.swap(0, Ordering::Relaxed)
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_micros(self.delay_us.load(Ordering::Relaxed))
    }
}

/// From the microphone into the ring, as mono.
pub(super) struct CaptureCallback {
    pub(super) ring: rtrb::Producer<f32>,
    pub(super) channels: usize,
    pub(super) gauge: Arc<Gauge>,
}

impl CaptureCallback {
    /// Takes interleaved samples that were captured `delay` ago.
    pub(super) fn take<T>(&mut self, data: &[T], delay: Duration)
    where
        T: SizedSample,
        f32: FromSample<T>,
    {
        let share = 1.0 / self.channels as f32;
        let mut slipped = 0;
        for frame in data.chunks_exact(self.channels) {
            let sum: f32 = frame.iter().map(|s| f32::from_sample_(*s)).sum();
            slipped += usize::from(self.ring.push(sum * share).is_err());
        }
        self.gauge.moved(data.len() / self.channels, slipped, delay);
    }
}

/// From the ring, which holds stereo, to the speaker.
pub(super) struct PlayoutCallback {
    pub(super) ring: rtrb::Consumer<f32>,
    pub(super) channels: usize,
    pub(super) gauge: Arc<Gauge>,
    pub(super) waker: Thread,
}

impl PlayoutCallback {
    /// Fills interleaved samples that will be heard `delay` from now. What the ring does not have is silence.
    pub(super) fn fill<T>(&mut self, data: &mut [T], delay: Duration)
    where
        T: SizedSample + FromSample<f32>,
    {
        let mut slipped = 0;
        for frame in data.chunks_exact_mut(self.channels) {
            let (left, right) = if self.ring.slots() >= 2 {
                (self.ring.pop().unwrap_or(0.0), self.ring.pop().unwrap_or(0.0))
            } else {
                slipped += 1;
                (0.0, 0.0)
            };
            match frame {
                [mono] => *mono = T::from_sample_(0.5 * (left + right)),
                [first, second, others @ ..] => {
                    *first = T::from_sample_(left);
                    *second = T::from_sample_(right);
                    others.fill(T::from_sample_(0.0));
                }
                [] => {}
            }
        }
        self.gauge.moved(data.len() / self.channels, slipped, delay);
        self.waker.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::test_alloc::allocations_in;

    #[test]
    fn capture_folds_to_mono_and_neither_allocates_nor_waits_when_full() {
        let (ring, mut out) = rtrb::RingBuffer::new(8);
        let gauge = Arc::new(Gauge::default());
        let mut callback = CaptureCallback { ring, channels: 2, gauge: Arc::clone(&gauge) };
        let data: Vec<i16> = [16_384, 0].repeat(12);
        let allocations = allocations_in(|| callback.take(&data, Duration::from_millis(5)));
        assert_eq!(allocations, 0);
        assert!((out.pop().unwrap() - 0.25).abs() < 1e-4);
        assert_eq!(gauge.slipped.load(Ordering::Relaxed), 4);
        assert_eq!(gauge.take_most(), 12);
        assert_eq!(gauge.take_most(), 0);
        assert_eq!(gauge.delay(), Duration::from_millis(5));
    }

    #[test]
    fn playout_maps_channels_fills_gaps_and_does_not_allocate() {
        for channels in [1, 2, 6] {
            let (mut ring_in, ring) = rtrb::RingBuffer::new(8);
            for sample in [0.5, 0.25, 0.5, 0.25] {
                ring_in.push(sample).unwrap();
            }
            let gauge = Arc::new(Gauge::default());
            let waker = std::thread::current();
            let mut callback = PlayoutCallback { ring, channels, gauge: Arc::clone(&gauge), waker };
            let mut data = vec![9.0_f32; channels * 3];
            let allocations = allocations_in(|| callback.fill(&mut data, Duration::ZERO));
            assert_eq!(allocations, 0);
            let first: &[f32] = match channels {
                1 => &[0.375],
                2 => &[0.5, 0.25],
                _ => &[0.5, 0.25, 0.0, 0.0, 0.0, 0.0],
            };
            assert_eq!(&data[..channels], first);
            assert!(data[channels * 2..].iter().all(|s| *s == 0.0));
            assert_eq!(gauge.slipped.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn the_allocator_that_guards_this_does_count() {
        assert!(allocations_in(|| drop(std::hint::black_box(vec![1_u8; 100]))) > 0);
    }
}
