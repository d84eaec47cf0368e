//! One participant as the load generator plays it: sends a recording, checks every number that it receives, authenticates one
//! packet in sixteen, and reports arrivals and reception as a browser does.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use halloo_sfu::{
    client::{Client, Received},
    net::{Clock, Filled, Receiver, SendOutcome, Socket},
    rtp::{AudioLevel, ExtensionIds, OutgoingHeader, RtpHeader},
    srtp::MAX_RTCP_OVERHEAD,
};
use halloo_transport::{
    PayloadType, Ssrc, Timestamp,
    reports::{self, SenderInfo},
    twcc::ArrivalLog,
};
use rtcp::reception_report::ReceptionReport;
use shared::marshal::Marshal;

use crate::{
    floor::{Key, TAG},
    janus::Responder,
    traffic::{Playback, Stream},
};

pub(crate) const IDS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    rid: None,
    repaired_rid: None,
    transport_cc: Some(3),
    abs_send_time: Some(2),
    audio_level: Some(1),
    dependency_descriptor: Some(5),
    video_orientation: None,
};
pub(crate) const OPUS: PayloadType = PayloadType(111);
pub(crate) const AV1: PayloadType = PayloadType(45);
pub(crate) const AV1_RTX: PayloadType = PayloadType(46);
const AUTHENTICATED: u64 = 16;
/// Bytes at the start of a payload that say when it was sent.
const STAMP: usize = 8;
const PICTURE_LOSS: u8 = 206;
const BUFFER: usize = 1 << 12;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Any wall clock will do.
const NTP_AT_ZERO: Duration = Duration::from_secs(3_900_000_000);

/// How its packets are protected.
pub(crate) enum Protection {
    /// ICE, DTLS and SRTP.
    Client(Box<Client>),
    /// Keys of the floor.
    Floor {
        /// What it sends with.
        out: Box<Key>,
        /// What it receives with.
        into: Box<Key>,
    },
}

/// What a peer counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Packets of media sent.
    pub(crate) sent: u64,
    /// Packets of media received.
    pub(crate) received: u64,
    /// Retransmissions and probes received.
    pub(crate) extra: u64,
    /// Numbers left out, less those that came late.
    pub(crate) missing: i64,
    /// Packets that were not genuine.
    pub(crate) forged: u64,
    /// Packets that were authenticated.
    pub(crate) authenticated: u64,
    /// Packets that arrived at those who came later.
    pub(crate) joined: u64,
    /// Sends that the kernel refused.
    pub(crate) refused: u64,
}

/// What of a packet matters to [`Peer::follow_key_frame`].
#[derive(Clone, Copy, Debug)]
struct KeyFramePart {
    ssrc: u32,
    seq: u16,
    starts: bool,
    marker: bool,
}

/// A participant.
pub(crate) struct Peer {
    pub(crate) socket: Socket,
    pub(crate) server: SocketAddr,
    pub(crate) protection: Protection,
    pub(crate) counts: Counts,
    /// Answers the server's own checks, where it makes some.
    pub(crate) responder: Option<Responder>,
    /// What it sends, where it sends.
    pub(crate) playback: Option<Playback>,
    /// SSRC of the microphone; the camera's is the next.
    ssrc: u32,
    next: [u16; 2],
    transport_seq: u16,
    /// Highest number of each stream that arrived.
    streams: HashMap<u32, u16>,
    arrivals: ArrivalLog,
    seen: u64,
    next_report: Timestamp,
    buffer: Box<[u8]>,
    clock: Clock,
    /// Nanoseconds on the way, of authenticated packets.
    pub(crate) delays: Vec<u64>,
    /// When media could flow.
    pub(crate) connected_at: Option<Timestamp>,
    /// When all of a first key frame was there.
    pub(crate) first_picture_at: Option<Timestamp>,
    /// The key frame that arrives: stream and next number.
    key_frame: Option<(u32, u16)>,
}

impl Peer {
    pub(crate) fn new(socket: Socket, server: SocketAddr, protection: Protection, clock: Clock, number: u32) -> Self {
        Self {
            socket,
            server,
            protection,
            counts: Counts::default(),
            responder: None,
            playback: None,
            ssrc: 0x1000 + 2 * number,
            next: [1; 2],
            transport_seq: 1,
            streams: HashMap::new(),
            arrivals: ArrivalLog::new(),
            seen: 0,
            // Not all at once.
            next_report: Timestamp::from_millis(31 * u64::from(number)),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            clock,
            delays: Vec::new(),
            connected_at: None,
            first_picture_at: None,
            key_frame: None,
        }
    }

    /// Begins to count anew.
    pub(crate) fn reset(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Sends what is due of the recording.
    pub(crate) fn play(&mut self, now: Timestamp) {
        while let Some(packet) = self.playback.as_mut().and_then(|playback| playback.poll(now)) {
            let (stream, payload_type) = match packet.stream {
                Stream::Audio => (0, OPUS),
                Stream::Video => (1, AV1),
            };
            let mut header = self.header(stream, payload_type, packet.timestamp);
            header.marker = packet.marker;
            match packet.stream {
                Stream::Audio => header.audio_level = Some(AudioLevel { level: 20, voice: true }),
                Stream::Video => header.dependency_descriptor = Some(&packet.descriptor),
            }
            let len = self.write(&header, packet.payload);
            self.send(len);
        }
    }

    fn header(&mut self, stream: usize, payload_type: PayloadType, timestamp: u32) -> OutgoingHeader<'static> {
        let seq = self.next[stream];
        self.next[stream] = seq.wrapping_add(1);
        self.transport_seq = self.transport_seq.wrapping_add(1);
        self.counts.sent += 1;
        OutgoingHeader {
            transport_seq: Some(self.transport_seq),
            ..OutgoingHeader::new(Ssrc(self.ssrc + stream as u32), payload_type, seq, timestamp, &IDS)
        }
    }

    /// Writes a sealed packet; its length.
    fn write(&mut self, header: &OutgoingHeader<'_>, payload: usize) -> usize {
        let mut bytes = [0x18; 1_500];
        bytes[..STAMP].copy_from_slice(&self.clock.now().as_nanos().to_be_bytes());
        let room = &mut self.buffer;
        let layout = header.write_packet(&bytes[..payload.max(STAMP)], room).expect("room");
        match &mut self.protection {
            Protection::Client(client) => client.protect_rtp(room, layout.len).expect("sealed"),
            Protection::Floor { out, .. } => {
                out.seal(room, layout.header_len, layout.len);
                layout.len + TAG
            }
        }
    }

    fn send(&mut self, len: usize) {
        if self.socket.send(self.server, None, &self.buffer[..len], len) != SendOutcome::Sent {
            self.counts.refused += 1;
        }
    }

    /// Sends RTCP, given in the clear in the buffer.
    fn send_rtcp(&mut self, len: usize) {
        let len = match &mut self.protection {
            Protection::Client(client) => client.protect_rtcp(&mut self.buffer, len).expect("sealed"),
            // The floor does not look at it; only its length and first bytes matter.
            Protection::Floor { .. } => len + MAX_RTCP_OVERHEAD,
        };
        self.send(len);
    }

    /// The regular report: of what it sends and of what it receives.
    fn report(&mut self, now: Timestamp) {
        let ntp = reports::to_ntp(NTP_AT_ZERO + now.since(Timestamp::ZERO));
        let senders: Vec<_> = self.playback.iter().flat_map(|playback| playback.senders(now)).collect();
        let senders: Vec<_> = senders
            .iter()
            .enumerate()
            .map(|(stream, (rtp_time, packets, bytes))| SenderInfo {
                ssrc: Ssrc(self.ssrc + stream as u32),
                rtp_time: *rtp_time,
                packets: *packets,
                bytes: *bytes,
            })
            .collect();
        let block = |(ssrc, seq): (&u32, &u16)| ReceptionReport {
            ssrc: *ssrc,
            last_sequence_number: u32::from(*seq),
            ..ReceptionReport::default()
        };
        let blocks: Vec<_> = self.streams.iter().map(block).collect();
        let mut at = 0;
        for packet in reports::compound(ntp, &senders, Ssrc(self.ssrc), &blocks, "generator") {
            let bytes = packet.marshal().expect("RTCP");
            self.buffer[at..at + bytes.len()].copy_from_slice(&bytes);
            at += bytes.len();
        }
        self.send_rtcp(at);
    }

    /// Receives all that is there.
    pub(crate) fn receive(&mut self, now: Timestamp, receiver: &mut Receiver) {
        loop {
            let filled = receiver.receive(&self.socket).expect("a socket that works");
            if filled == Filled::Nothing {
                break;
            }
            for batch in receiver.batches() {
                for packet in batch.bytes.chunks_mut(batch.segment) {
                    self.take(now, packet);
                }
            }
            if filled == Filled::Part {
                break;
            }
        }
        self.flush();
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        for message in self.arrivals.poll(now, Ssrc(self.ssrc), Ssrc(self.ssrc)) {
            let bytes = message.marshal().expect("RTCP");
            self.buffer[..bytes.len()].copy_from_slice(&bytes);
            self.send_rtcp(bytes.len());
        }
        if self.is_connected() && self.next_report <= now {
            self.next_report = now + REPORT_INTERVAL;
            self.report(now);
        }
        if let Protection::Client(client) = &mut self.protection {
            client.handle_timeout(now);
        }
        self.flush();
    }

    /// When [`Peer::handle_timeout`] is next wanted.
    pub(crate) fn next_timeout(&self, now: Timestamp) -> Timestamp {
        let far = now + Duration::from_secs(1);
        let client = match &self.protection {
            Protection::Client(client) => client.next_timeout(),
            Protection::Floor { .. } => far,
        };
        let report = if self.is_connected() { self.next_report } else { far };
        self.arrivals.next_timeout().unwrap_or(far).min(client).min(report)
    }

    /// Whether media can flow.
    pub(crate) fn is_connected(&self) -> bool {
        match &self.protection {
            Protection::Client(client) => client.is_connected(),
            Protection::Floor { .. } => true,
        }
    }

    fn flush(&mut self) {
        if self.connected_at.is_none() && self.is_connected() {
            self.connected_at = Some(self.clock.now());
        }
        let Protection::Client(client) = &mut self.protection else { return };
        while let Some(datagram) = client.poll_transmit() {
            if self.socket.send(self.server, None, &datagram, datagram.len()) != SendOutcome::Sent {
                self.counts.refused += 1;
            }
        }
    }

    fn take(&mut self, now: Timestamp, packet: &mut [u8]) {
        if !matches!(packet, [128..=191, 0..=191 | 224..=255, ..]) {
            self.take_other(now, packet);
            return;
        }
        let Ok(header) = RtpHeader::parse(packet) else { return };
        if let Some(seq) = header.transport_seq(IDS.transport_cc) {
            self.arrivals.on_packet(now, seq, packet.len());
        }
        let (ssrc, seq, len) = (header.ssrc(), header.seq(), header.header_len());
        // A structure comes with the first packet of a key frame.
        let starts = header.extension(IDS.dependency_descriptor).is_some_and(|d| d.len() > 3 && d[0] & 0x80 != 0);
        let part = KeyFramePart { ssrc, seq, starts, marker: header.marker() && header.payload_type() == AV1.0 };
        if header.payload_type() == AV1_RTX.0 {
            self.counts.extra += 1;
            return;
        }
        self.counts.received += 1;
        self.seen += 1;
        let highest = self.streams.entry(ssrc).or_insert(seq.wrapping_sub(1));
        let step = seq.wrapping_sub(*highest) as i16;
        if step > 0 {
            self.counts.missing += i64::from(step) - 1;
            *highest = seq;
        } else {
            self.counts.missing -= 1;
        }
        self.follow_key_frame(now, part);
        if self.seen.is_multiple_of(AUTHENTICATED) {
            self.authenticate(now, packet, len);
        }
    }

    fn authenticate(&mut self, now: Timestamp, packet: &mut [u8], header: usize) {
        self.counts.authenticated += 1;
        let genuine = match &mut self.protection {
            Protection::Client(client) => matches!(client.handle_datagram(now, packet), Received::Rtp(_)),
            Protection::Floor { into, .. } => into.open(packet, header),
        };
        self.counts.forged += u64::from(!genuine);
        if let Some(stamp) = packet.get(header..).and_then(|payload| payload.first_chunk::<STAMP>()).filter(|_| genuine)
        {
            let sent_at = Timestamp::from_nanos(u64::from_be_bytes(*stamp));
            self.delays.push(self.clock.now().since(sent_at).as_nanos() as u64);
        }
    }

    /// Notes when the first key frame is complete.
    fn follow_key_frame(&mut self, now: Timestamp, packet: KeyFramePart) {
        if self.first_picture_at.is_some() {
            return;
        }
        if packet.starts {
            self.key_frame = Some((packet.ssrc, packet.seq));
        }
        let Some((ssrc, next)) = self.key_frame else { return };
        if ssrc == packet.ssrc && next == packet.seq {
            self.key_frame = Some((ssrc, next.wrapping_add(1)));
            if packet.marker {
                self.first_picture_at = Some(now);
            }
        }
    }

    /// ICE, DTLS, RTCP: only key-frame requests matter.
    fn take_other(&mut self, now: Timestamp, packet: &mut [u8]) {
        if let ([0, 1, ..], Some(responder)) = (&*packet, &self.responder) {
            let answer = responder.answer(packet, self.server).expect("a check");
            self.socket.send(self.server, None, &answer, answer.len());
            return;
        }
        let Protection::Client(client) = &mut self.protection else { return };
        let mut wanted = false;
        if let Received::Rtcp(mut rtcp) = client.handle_datagram(now, packet) {
            while let [first, kind, high, low, ..] = *rtcp {
                wanted |= kind == PICTURE_LOSS && first & 0x1f == 1;
                let len = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
                rtcp = rtcp.get(len..).unwrap_or_default();
            }
        }
        if let Some(playback) = self.playback.as_mut().filter(|_| wanted) {
            playback.restart(now);
        }
    }
}
