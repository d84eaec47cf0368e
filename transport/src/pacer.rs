//! When queued packets leave: a leaky bucket with priorities (the pacing part of draft-ietf-rmcat-gcc-02, section 4).
//!
//! Sound leaves at once and is only charged for; then come retransmissions, then pictures, then padding, each as the bucket
//! allows: at most [`MAX_BURST`] of the pacing rate at a time. The queue is bounded by the time it takes to drain and by
//! bytes: a unit of pictures that does not fit is refused whole, before it has sequence numbers.
//!
//! During a probe packets leave at the probe's rate instead, whatever their kind, and padding fills what media leaves open.

use crate::{time::Timestamp, twcc::ProbeId, units::Bitrate};
use std::{collections::VecDeque, time::Duration};

/// Most that leaves back to back, as time at the pacing rate.
pub const MAX_BURST: Duration = Duration::from_millis(5);
/// What is owed at a rate that fell is forgiven beyond this.
const MAX_DEBT: Duration = Duration::from_millis(100);
/// Bounds of the queue: a unit is refused while what waits needs longer, or is larger.
const MAX_QUEUE_TIME: Duration = Duration::from_millis(250);
const MAX_QUEUE_BYTES: usize = 2_000_000;
/// Retransmissions that may wait; the peer asks again for what is dropped.
const MAX_RETRANSMISSION_BYTES: usize = 200_000;
/// A probe that could not be completed within this time is given up.
const MAX_PROBE_TIME: Duration = Duration::from_millis(500);
/// A bound against a caller that sends sound without ever polling.
const MAX_AUDIO_PACKETS: usize = 200;

/// What a queued packet is, in falling priority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// Sound: never waits.
    Audio,
    /// Asked for by the peer.
    Retransmission,
    /// Pictures.
    Video,
}

/// A burst at a known rate, to see whether the path carries it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeCluster {
    /// Its name, given back with each of its packets.
    pub id: ProbeId,
    /// The rate to send at.
    pub rate: Bitrate,
    /// Bytes that make it complete.
    pub bytes: usize,
    /// Packets that it needs at least.
    pub packets: u32,
}

/// What may leave now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure<T> {
    /// A queued packet.
    Packet {
        /// The packet.
        item: T,
        /// The probe that it is part of.
        probe: Option<ProbeId>,
    },
    /// A packet that only fills the path: the caller makes it, and reports its size to [`Pacer::on_padding_sent`], or calls
    /// [`Pacer::cancel_probe`] when it has none.
    Padding {
        /// About how large.
        size: usize,
        /// The probe that it is for.
        probe: ProbeId,
    },
}

#[derive(Clone, Debug)]
struct ActiveProbe {
    cluster: ProbeCluster,
    started: Option<Timestamp>,
    bytes: usize,
    packets: u32,
}

impl ActiveProbe {
    fn next_at(&self) -> Option<Timestamp> {
        self.started.map(|at| at + self.cluster.rate.time_for(self.bytes))
    }

    fn is_complete(&self) -> bool {
        self.bytes >= self.cluster.bytes && self.packets >= self.cluster.packets
    }
}

#[derive(Clone, Debug)]
struct Queue<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Queue<T> {
    const fn new() -> Self {
        Self { items: VecDeque::new(), bytes: 0 }
    }

    fn push(&mut self, item: T, size: usize) {
        self.items.push_back((item, size));
        self.bytes += size;
    }

    fn retain(&mut self, keep: impl Fn(&T) -> bool) -> usize {
        let (before, bytes) = (self.items.len(), &mut self.bytes);
        self.items.retain(|(item, size)| {
            let kept = keep(item);
            *bytes -= if kept { 0 } else { *size };
            kept
        });
        before - self.items.len()
    }

    fn pop(&mut self) -> Option<(T, usize)> {
        let (item, size) = self.items.pop_front()?;
        self.bytes -= size;
        Some((item, size))
    }
}

/// Queues packets and says when each may leave.
#[derive(Clone, Debug)]
pub struct Pacer<T> {
    rate: Bitrate,
    audio: Queue<T>,
    retransmissions: Queue<T>,
    video: Queue<T>,
    /// When the bucket will be empty.
    empty_at: Timestamp,
    probe: Option<ActiveProbe>,
}

impl<T> Pacer<T> {
    /// An empty pacer.
    pub const fn new(rate: Bitrate) -> Self {
        Self {
            rate,
            audio: Queue::new(),
            retransmissions: Queue::new(),
            video: Queue::new(),
            empty_at: Timestamp::ZERO,
            probe: None,
        }
    }

    /// Sets the pacing rate; what the bucket holds drains at the new one.
    pub fn set_rate(&mut self, now: Timestamp, rate: Bitrate) {
        if rate == self.rate {
            return;
        }
        let owed = self.rate.bytes_in(self.empty_at.since(now));
        self.rate = rate;
        self.empty_at = now + rate.time_for(owed as usize).min(MAX_DEBT);
    }

    /// Whether a unit of pictures may be queued: what waits already drains soon enough.
    pub fn has_room(&self) -> bool {
        let waiting = self.retransmissions.bytes + self.video.bytes;
        waiting <= MAX_QUEUE_BYTES && (waiting == 0 || self.rate.time_for(waiting) <= MAX_QUEUE_TIME)
    }

    /// Queues a packet; gives one back where a bound is met: sound drops its oldest, a retransmission is not taken.
    /// Pictures are always taken: ask [`Pacer::has_room`] once per unit.
    pub fn push(&mut self, priority: Priority, item: T, size: usize) -> Option<T> {
        match priority {
            Priority::Audio => {
                self.audio.push(item, size);
                if self.audio.items.len() > MAX_AUDIO_PACKETS {
                    return self.audio.pop().map(|(item, _)| item);
                }
            }
            Priority::Retransmission if self.retransmissions.bytes + size > MAX_RETRANSMISSION_BYTES => {
                return Some(item);
            }
            Priority::Retransmission => self.retransmissions.push(item, size),
            Priority::Video => self.video.push(item, size),
        }
        None
    }

    /// Starts a probe with the next packet that leaves. Replaces one that runs.
    pub fn start_probe(&mut self, cluster: ProbeCluster) {
        self.probe = Some(ActiveProbe { cluster, started: None, bytes: 0, packets: 0 });
    }

    /// Starts a probe now, with padding where no packet waits: for a sender that sends little because it may send little.
    pub fn start_probe_at_once(&mut self, now: Timestamp, cluster: ProbeCluster) {
        self.probe = Some(ActiveProbe { cluster, started: Some(now), bytes: 0, packets: 0 });
    }

    /// Charges for a packet that left past the pacer, as part of the probe that runs: what is queued waits for it.
    pub fn on_sent_past(&mut self, now: Timestamp, size: usize) {
        self.charge(now, size);
    }

    /// Drops queued pictures and retransmissions that `keep` is false for; how many those were.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) -> usize {
        self.retransmissions.retain(&keep) + self.video.retain(&keep)
    }

    /// Gives the probe up: there is nothing to fill it with.
    pub fn cancel_probe(&mut self) {
        self.probe = None;
    }

    /// The probe that runs or waits for a packet to start with.
    pub fn probe(&self) -> Option<ProbeId> {
        self.probe.as_ref().map(|p| p.cluster.id)
    }

    /// What may leave at `now`.
    pub fn poll(&mut self, now: Timestamp) -> Option<Departure<T>> {
        if let Some((item, size)) = self.audio.pop() {
            let probe = self.charge(now, size);
            return Some(Departure::Packet { item, probe });
        }
        self.end_probe(now);
        if let Some(probe) = &self.probe
            && probe.started.is_some()
        {
            if probe.next_at().is_some_and(|at| at > now) {
                return None;
            }
            return Some(match self.pop_queued() {
                Some((item, size)) => Departure::Packet { item, probe: self.charge(now, size) },
                None => Departure::Padding { size: self.padding_size(), probe: self.probe.as_ref()?.cluster.id },
            });
        }
        if self.empty_at > now + MAX_BURST {
            return None;
        }
        let (item, size) = self.pop_queued()?;
        // A probe starts with a picture's packet: where the camera is off there is nothing that wants the rate.
        if let Some(probe) = &mut self.probe {
            probe.started = Some(now);
        }
        Some(Departure::Packet { item, probe: self.charge(now, size) })
    }

    /// Takes the size of the padding that [`Departure::Padding`] asked for.
    pub fn on_padding_sent(&mut self, now: Timestamp, size: usize) {
        self.charge(now, size.max(1));
    }

    /// When [`Pacer::poll`] next has something.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        if !self.audio.items.is_empty() {
            return Some(Timestamp::ZERO);
        }
        if let Some(at) = self.probe.as_ref().and_then(ActiveProbe::next_at) {
            return Some(at);
        }
        let waiting = self.retransmissions.bytes + self.video.bytes > 0;
        waiting.then(|| self.empty_at - MAX_BURST)
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.audio.bytes + self.retransmissions.bytes + self.video.bytes
    }

    fn pop_queued(&mut self) -> Option<(T, usize)> {
        self.retransmissions.pop().or_else(|| self.video.pop())
    }

    /// Puts a packet into the bucket, and into the probe where one runs.
    fn charge(&mut self, now: Timestamp, size: usize) -> Option<ProbeId> {
        self.empty_at = self.empty_at.max(now) + self.rate.time_for(size);
        let probe = self.probe.as_mut().filter(|p| p.started.is_some())?;
        probe.bytes += size;
        probe.packets += 1;
        let id = probe.cluster.id;
        if probe.is_complete() {
            self.finish_probe(now);
        }
        Some(id)
    }

    fn padding_size(&self) -> usize {
        // At low rates small packets, so that the packets that a probe needs do not fill a slow path.
        let rate = self.probe.as_ref().map_or(Bitrate::ZERO, |p| p.cluster.rate);
        (rate.bytes_in(Duration::from_millis(5)) as usize).clamp(200, 1_200)
    }

    fn end_probe(&mut self, now: Timestamp) {
        let stuck = |p: &ActiveProbe| p.started.is_some_and(|at| now.since(at) > MAX_PROBE_TIME);
        if self.probe.as_ref().is_some_and(stuck) {
            self.finish_probe(now);
        }
    }

    /// The probe's debt is not media's: what it sent above the pacing rate is forgiven.
    fn finish_probe(&mut self, now: Timestamp) {
        self.probe = None;
        self.empty_at = self.empty_at.min(now + MAX_BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;

    fn leave(pacer: &mut Pacer<u32>, until: Timestamp) -> Vec<(Timestamp, u32)> {
        let mut left = Vec::new();
        while let Some(at) = pacer.next_timeout().filter(|at| *at <= until) {
            let now = at.max(left.last().map_or(Timestamp::ZERO, |(t, _)| *t));
            match pacer.poll(now) {
                Some(Departure::Packet { item, .. }) => left.push((now, item)),
                Some(Departure::Padding { size, .. }) => pacer.on_padding_sent(now, size),
                None => panic!("woken for nothing at {now:?}"),
            }
        }
        left
    }

    #[test]
    fn pictures_leave_at_the_pacing_rate_in_small_bursts() {
        let mut pacer = Pacer::new(Bitrate::from_kbps(1_000));
        for i in 0..50 {
            pacer.push(Priority::Video, i, 1_000);
        }
        let left = leave(&mut pacer, MS(10_000));
        assert_eq!(left.len(), 50);
        assert!(left.is_sorted());
        let last = left[49].0;
        assert!((MS(380)..=MS(400)).contains(&last), "50 packets of 8 ms: {last:?}");
        assert!(left.iter().filter(|(at, _)| *at == Timestamp::ZERO).count() <= 2);
    }

    #[test]
    fn sound_leaves_at_once_and_retransmissions_go_before_pictures() {
        let mut pacer = Pacer::new(Bitrate::from_kbps(100));
        for i in 0..10 {
            pacer.push(Priority::Video, i, 1_000);
        }
        while pacer.poll(MS(0)).is_some() {}
        pacer.push(Priority::Retransmission, 100, 1_000);
        pacer.push(Priority::Audio, 200, 100);
        assert_eq!(pacer.poll(MS(1)), Some(Departure::Packet { item: 200, probe: None }));
        assert_eq!(pacer.poll(MS(1)), None);
        let at = pacer.next_timeout().unwrap();
        assert_eq!(pacer.poll(at), Some(Departure::Packet { item: 100, probe: None }));
    }

    #[test]
    fn a_full_queue_has_no_room_until_it_drains() {
        let mut pacer = Pacer::new(Bitrate::from_kbps(800));
        assert!(pacer.has_room());
        for i in 0..30 {
            pacer.push(Priority::Video, i, 1_000);
        }
        assert!(!pacer.has_room());
        leave(&mut pacer, MS(100));
        assert!(pacer.has_room());
    }

    #[test]
    fn a_probe_leaves_at_its_own_rate_and_padding_completes_it() {
        let mut pacer = Pacer::new(Bitrate::from_kbps(500));
        let cluster = ProbeCluster { id: ProbeId(3), rate: Bitrate::from_kbps(2_000), bytes: 8_000, packets: 5 };
        pacer.start_probe(cluster);
        assert_eq!(pacer.next_timeout(), None, "waits for a packet");
        pacer.push(Priority::Video, 1, 1_000);
        let (mut bytes, mut last) = (0, MS(0));
        while let Some(at) = pacer.next_timeout() {
            last = at;
            match pacer.poll(at) {
                Some(Departure::Packet { item, probe }) => {
                    assert_eq!((item, probe), (1, Some(ProbeId(3))));
                    bytes += 1_000;
                }
                Some(Departure::Padding { size, probe }) => {
                    assert_eq!(probe, ProbeId(3));
                    pacer.on_padding_sent(at, size);
                    bytes += size;
                }
                None => panic!("woken for nothing"),
            }
        }
        assert!(bytes >= 8_000);
        let rate = Bitrate::from_bytes_over(bytes as u64, last.since(MS(0))).as_kbps_f64();
        assert!((2_000.0..2_500.0).contains(&rate), "{rate}");
        assert_eq!(pacer.probe(), None);
    }

    #[test]
    fn a_probe_needs_no_media_where_it_starts_at_once() {
        let mut pacer: Pacer<u32> = Pacer::new(Bitrate::from_kbps(100));
        let cluster = ProbeCluster { id: ProbeId(1), rate: Bitrate::from_kbps(600), bytes: 1_500, packets: 5 };
        pacer.start_probe_at_once(MS(10), cluster);
        let (mut bytes, mut packets) = (0, 0);
        while let Some(at) = pacer.next_timeout() {
            let Some(Departure::Padding { size, probe: ProbeId(1) }) = pacer.poll(at) else { panic!("not padding") };
            pacer.on_padding_sent(at, size);
            (bytes, packets) = (bytes + size, packets + 1);
        }
        assert!((1_500..2_000).contains(&bytes) && packets >= 5, "{bytes} bytes in {packets}");
    }

    #[test]
    fn what_left_past_the_pacer_makes_the_queue_wait() {
        let mut pacer = Pacer::new(Bitrate::from_kbps(800));
        pacer.on_sent_past(MS(0), 2_000);
        pacer.push(Priority::Video, 1, 1_000);
        pacer.push(Priority::Video, 2, 1_000);
        assert_eq!(pacer.retain(|item| *item == 1), 1);
        assert_eq!(pacer.queued_bytes(), 1_000);
        assert_eq!(leave(&mut pacer, MS(100)), [(MS(15), 1)]);
    }

    #[test]
    fn bounds_hold_without_polling() {
        let mut pacer = Pacer::new(Bitrate::from_kbps(500));
        let dropped = (0..1_000).filter_map(|i| pacer.push(Priority::Audio, i, 100)).collect::<Vec<_>>();
        assert_eq!(dropped, (0..800).collect::<Vec<_>>());
        let refused = (0..1_000).filter_map(|i| pacer.push(Priority::Retransmission, i, 1_000)).count();
        assert_eq!(refused, 800);
    }
}
