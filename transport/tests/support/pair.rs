//! Two endpoints in a call: each sends sound and pictures that follow its target, and notes what it receives.

use super::link::{Datagram, Link, LinkConfig};
use bytes::{BufMut, Bytes, BytesMut};
use halloo_transport::{
    Bitrate, Event, Mid, PayloadType, RecvStream, RtpTime, SendStream, SeqNo, Session, SessionConfig, Ssrc, Timestamp,
    Transmit,
    session::{AudioLevel, ExtensionIds, MAX_PAYLOAD, MediaKind, MediaUnit, Rtx, SendError},
};
use shared::marshal::{Marshal, Unmarshal};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

pub(crate) const IDS: ExtensionIds = ExtensionIds {
    transport_cc: Some(3),
    mid: Some(4),
    abs_send_time: Some(2),
    audio_level: Some(1),
    dependency_descriptor: Some(5),
};

const AUDIO_PAYLOAD: usize = 80;
const FRAME: Duration = Duration::from_nanos(33_333_333);

/// A packet of media as the receiver's owner got it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Got {
    pub(crate) seq: SeqNo,
    /// When its unit was handed to the sender, on the simulation's clock.
    pub(crate) sent_at: Timestamp,
    pub(crate) delay: Duration,
    pub(crate) retransmitted: bool,
}

pub(crate) struct Endpoint {
    pub(crate) session: Session,
    base: u32,
    /// Its clock is ahead of the simulation's by this.
    offset: Duration,
    pub(crate) video: bool,
    /// Share of the target that the encoder uses, and whether it wants key frames.
    pub(crate) usage: f64,
    next_audio: Timestamp,
    next_video: Timestamp,
    target: Bitrate,
    key_frame: bool,
    units: u64,
    /// Ids of the video and audio packets that went into the session, with the time.
    pub(crate) sent_video: HashMap<u64, Timestamp>,
    pub(crate) sent_audio: HashMap<u64, Timestamp>,
    pub(crate) got_video: Vec<Got>,
    pub(crate) got_audio: Vec<Got>,
    got_ids: HashSet<u64>,
    pub(crate) repeated: usize,
    pub(crate) targets: Vec<(Timestamp, Bitrate)>,
    pub(crate) key_frames_asked: Vec<Timestamp>,
    pub(crate) sender_reports: usize,
    pub(crate) byes: usize,
    pub(crate) refused: usize,
    /// When each media or padding packet was given to the link, with its bytes.
    pub(crate) departures: Vec<(Timestamp, usize)>,
}

impl Endpoint {
    fn new(base: u32, offset: Duration, start_kbps: u64, max_kbps: u64) -> Self {
        let mut session = Session::new(SessionConfig {
            feedback_ssrc: Ssrc(base),
            cname: format!("endpoint-{base}"),
            start_bitrate: Bitrate::from_kbps(start_kbps),
            min_bitrate: Bitrate::from_kbps(60),
            max_bitrate: Bitrate::from_kbps(max_kbps),
            seed: u64::from(base) + 7,
            ntp_at_zero: Duration::from_secs(3_900_000_000),
        });
        session.add_send_stream(SendStream {
            kind: MediaKind::Audio,
            ssrc: Ssrc(base + 1),
            payload_type: PayloadType(111),
            clock_rate: 48_000,
            mid: Some(Mid("0".to_owned())),
            rtx: None,
            extensions: IDS,
        });
        session.add_send_stream(SendStream {
            kind: MediaKind::Video,
            ssrc: Ssrc(base + 2),
            payload_type: PayloadType(45),
            clock_rate: 90_000,
            mid: Some(Mid("1".to_owned())),
            rtx: Some(Rtx { ssrc: Some(Ssrc(base + 3)), payload_type: PayloadType(46) }),
            extensions: IDS,
        });
        for (kind, payload_type, clock_rate, mid, rtx) in
            [(MediaKind::Audio, 111, 48_000, "0", None), (MediaKind::Video, 45, 90_000, "1", Some(46))]
        {
            session.add_recv_stream(RecvStream {
                kind,
                ssrc: None,
                payload_type: PayloadType(payload_type),
                clock_rate,
                mid: Some(Mid(mid.to_owned())),
                rtx: rtx.map(|pt| Rtx { ssrc: None, payload_type: PayloadType(pt) }),
                nack: kind == MediaKind::Video,
                extensions: IDS,
            });
        }
        Self {
            session,
            base,
            offset,
            video: true,
            usage: 0.97,
            next_audio: Timestamp::from_millis(1),
            next_video: Timestamp::from_millis(3),
            target: Bitrate::from_kbps(start_kbps),
            key_frame: true,
            units: 0,
            sent_video: HashMap::new(),
            sent_audio: HashMap::new(),
            got_video: Vec::new(),
            got_audio: Vec::new(),
            got_ids: HashSet::new(),
            repeated: 0,
            targets: Vec::new(),
            key_frames_asked: Vec::new(),
            sender_reports: 0,
            byes: 0,
            refused: 0,
            departures: Vec::new(),
        }
    }

    pub(crate) fn local(&self, sim: Timestamp) -> Timestamp {
        sim + self.offset
    }

    fn next_wake(&self) -> Timestamp {
        let session = self.session.next_timeout().map_or(Timestamp::MAX, |at| at - self.offset);
        let video = if self.video { self.next_video } else { Timestamp::MAX };
        session.min(self.next_audio).min(video)
    }

    fn payload(&mut self, sim: Timestamp, size: usize) -> (u64, Bytes) {
        self.units += 1;
        let mut payload = BytesMut::with_capacity(size);
        payload.put_u64(self.units);
        payload.put_u64(sim.as_nanos());
        payload.resize(size.max(16), 0x5a);
        (self.units, payload.freeze())
    }

    fn produce(&mut self, sim: Timestamp) {
        let now = self.local(sim);
        if self.next_audio <= sim {
            self.next_audio += Duration::from_millis(20);
            let (id, payload) = self.payload(sim, AUDIO_PAYLOAD);
            self.sent_audio.insert(id, sim);
            let unit = self.unit(now, 48_000, vec![payload], false);
            self.session.send(now, Ssrc(self.base + 1), unit).unwrap();
        }
        if self.video && self.next_video <= sim {
            self.next_video += FRAME;
            let audio = Bitrate::from_bytes_over(AUDIO_PAYLOAD as u64, Duration::from_millis(20));
            let rate = self.target.as_bps().saturating_sub(audio.as_bps()) as f64 * self.usage;
            let key_frame = std::mem::take(&mut self.key_frame);
            let bytes =
                (Bitrate::from_bps(rate as u64).bytes_in(FRAME) as usize).max(200) * if key_frame { 5 } else { 1 };
            let sizes = (0..bytes.div_ceil(MAX_PAYLOAD)).map(|_| bytes / bytes.div_ceil(MAX_PAYLOAD));
            let made: Vec<(u64, Bytes)> = sizes.collect::<Vec<_>>().into_iter().map(|s| self.payload(sim, s)).collect();
            let ids: Vec<u64> = made.iter().map(|(id, _)| *id).collect();
            let unit = self.unit(now, 90_000, made.into_iter().map(|(_, p)| p).collect(), key_frame);
            match self.session.send(now, Ssrc(self.base + 2), unit) {
                Ok(()) => self.sent_video.extend(ids.into_iter().map(|id| (id, sim))),
                Err(SendError::QueueFull(_)) => {
                    self.refused += 1;
                    self.key_frame = true;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn unit(&self, now: Timestamp, clock_rate: u32, payloads: Vec<Bytes>, key_frame: bool) -> MediaUnit {
        let ticks = u128::from(now.as_nanos()) * u128::from(clock_rate) / 1_000_000_000;
        MediaUnit {
            rtp_time: RtpTime::new(ticks as u64 + (1 << 32), clock_rate),
            captured_at: now,
            payloads,
            marker: clock_rate == 90_000,
            key_frame,
            audio_level: (clock_rate == 48_000).then_some(AudioLevel { level: 40, voice: true }),
            dependency_descriptors: Vec::new(),
        }
    }

    fn take_events(&mut self, sim: Timestamp) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Media(packet) => {
                    let id = u64::from_be_bytes(packet.payload[..8].try_into().unwrap());
                    let sent_at = Timestamp::from_nanos(u64::from_be_bytes(packet.payload[8..16].try_into().unwrap()));
                    let (seq, retransmitted) = (packet.seq, packet.retransmitted);
                    let got = Got { seq, sent_at, delay: sim.since(sent_at), retransmitted };
                    self.repeated += usize::from(!self.got_ids.insert(id));
                    match packet.kind {
                        MediaKind::Audio => {
                            assert_eq!(packet.audio_level, Some(AudioLevel { level: 40, voice: true }));
                            self.got_audio.push(got);
                        }
                        MediaKind::Video => self.got_video.push(got),
                    }
                }
                Event::TargetBitrate(target) => {
                    self.target = target;
                    self.targets.push((sim, target));
                }
                Event::KeyFrameRequested(_) => {
                    self.key_frame = true;
                    self.key_frames_asked.push(sim);
                }
                Event::SenderReport { .. } => self.sender_reports += 1,
                Event::Bye(_) => self.byes += 1,
                _ => {}
            }
        }
    }

    /// The target at a time.
    pub(crate) fn target_at(&self, at: Timestamp) -> Bitrate {
        self.targets.iter().take_while(|(t, _)| *t <= at).last().map_or(Bitrate::ZERO, |(_, target)| *target)
    }

    /// When the target first reached `rate` at or after `from`.
    pub(crate) fn reached(&self, from: Timestamp, rate: Bitrate) -> Option<Duration> {
        self.targets.iter().find(|(at, target)| *at >= from && *target >= rate).map(|(at, _)| at.since(from))
    }

    /// When the target first was at or below `rate` after `from`.
    pub(crate) fn reached_down(&self, from: Timestamp, rate: Bitrate) -> Option<Duration> {
        self.targets.iter().find(|(at, target)| *at >= from && *target <= rate).map(|(at, _)| at.since(from))
    }
}

/// Two endpoints and the links between them.
pub(crate) struct Pair {
    pub(crate) now: Timestamp,
    pub(crate) alice: Endpoint,
    pub(crate) bob: Endpoint,
    /// From alice to bob, and back.
    pub(crate) forth: Link,
    pub(crate) back: Link,
}

impl Pair {
    pub(crate) fn new(forth: LinkConfig, back: LinkConfig, seed: u64) -> Self {
        Self::with_rates(forth, back, seed, 300, 2_500)
    }

    pub(crate) fn with_rates(forth: LinkConfig, back: LinkConfig, seed: u64, start_kbps: u64, max_kbps: u64) -> Self {
        Self {
            now: Timestamp::ZERO,
            alice: Endpoint::new(0x1000, Duration::from_secs(50), start_kbps, max_kbps),
            bob: Endpoint::new(0x2000, Duration::from_secs(9_000), start_kbps, max_kbps),
            forth: Link::new(forth, seed),
            back: Link::new(back, seed ^ 0xffff),
        }
    }

    /// Runs to `until`; fails when a session wants to be woken for a time that it has dealt with.
    pub(crate) fn run_until(&mut self, until: Timestamp) {
        loop {
            let arrivals = [self.forth.next_arrival(), self.back.next_arrival()];
            let arrival = arrivals.into_iter().flatten().min().unwrap_or(Timestamp::MAX);
            let next = self.alice.next_wake().min(self.bob.next_wake()).min(arrival).max(self.now);
            if next > until {
                self.now = until;
                return;
            }
            self.now = next;
            deliver(&mut self.forth, &mut self.bob, next);
            deliver(&mut self.back, &mut self.alice, next);
            drive(&mut self.alice, &mut self.forth, next);
            drive(&mut self.bob, &mut self.back, next);
        }
    }
}

fn deliver(link: &mut Link, to: &mut Endpoint, sim: Timestamp) {
    let now = to.local(sim);
    while let Some(datagram) = link.receive(sim) {
        match datagram {
            Datagram::Rtp(mut bytes) => to.session.handle_rtp(now, rtp::Packet::unmarshal(&mut bytes).unwrap()),
            Datagram::Rtcp(mut bytes) => {
                to.session.handle_rtcp(now, &rtcp::packet::unmarshal(&mut bytes).unwrap());
            }
        }
    }
}

fn drive(endpoint: &mut Endpoint, link: &mut Link, sim: Timestamp) {
    let now = endpoint.local(sim);
    endpoint.produce(sim);
    endpoint.session.handle_timeout(now);
    while let Some(transmit) = endpoint.session.poll_transmit(now) {
        match transmit {
            Transmit::Rtp(packet) => {
                let wire = packet.marshal().unwrap().freeze();
                // IPv6, UDP and SRTP's tag must fit too.
                assert!(wire.len() + 40 + 8 + 16 <= 1_280, "{} bytes", wire.len());
                endpoint.departures.push((sim, wire.len()));
                link.send(sim, Datagram::Rtp(wire));
            }
            Transmit::Rtcp(packets) => {
                let wire = rtcp::packet::marshal(&packets).unwrap().freeze();
                assert!(wire.len() <= 1_200, "{} bytes", wire.len());
                link.send(sim, Datagram::Rtcp(wire));
            }
        }
    }
    endpoint.take_events(sim);
    let next = endpoint.session.next_timeout();
    assert!(next.is_none_or(|at| at > now), "woken again at {now:?} for {next:?}");
}

/// The value below which `share` of `values` lie.
pub(crate) fn percentile(mut values: Vec<Duration>, share: f64) -> Duration {
    values.sort_unstable();
    values.get(((values.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or_default()
}
