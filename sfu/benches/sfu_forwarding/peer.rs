//! One participant as the load generator plays it: sends what its camera and microphone give, checks every number that it
//! receives, authenticates one packet in sixteen, and reports arrivals as a browser does.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use halloo_sfu::{
    client::{Client, Received},
    net::{Filled, Receiver, SendOutcome, Socket},
    rtp::{AudioLevel, ExtensionIds, OutgoingHeader, RtpHeader},
};
use halloo_transport::{PayloadType, Ssrc, Timestamp, twcc::ArrivalLog};
use shared::marshal::Marshal;

use crate::{
    floor::{Key, TAG, header_len},
    traffic::{Camera, VideoPacket},
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
const PICTURE_LOSS: u8 = 206;
const BUFFER: usize = 1 << 16;

/// How its packets are protected.
pub(crate) enum Protection {
    /// ICE, DTLS and SRTP.
    Client(Box<Client>),
    /// Keys of the floor.
    Floor {
        /// What it sends with.
        out: Key,
        /// What it receives with.
        into: Key,
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
    /// Sends that the kernel refused.
    pub(crate) refused: u64,
}

/// A participant.
pub(crate) struct Peer {
    pub(crate) socket: Socket,
    pub(crate) server: SocketAddr,
    pub(crate) protection: Protection,
    pub(crate) counts: Counts,
    pub(crate) camera: Camera,
    /// SSRC of the microphone; the camera's is the next.
    ssrc: u32,
    next: [u16; 2],
    times: [u32; 2],
    transport_seq: u16,
    /// Highest number of each stream that arrived.
    streams: HashMap<u32, u16>,
    arrivals: ArrivalLog,
    seen: u64,
    frame: Vec<VideoPacket>,
    buffer: Box<[u8]>,
}

impl Peer {
    pub(crate) fn new(socket: Socket, server: SocketAddr, protection: Protection, number: u32) -> Self {
        Self {
            socket,
            server,
            protection,
            counts: Counts::default(),
            camera: Camera::new(u64::from(number) + 1),
            ssrc: 0x1000 + 2 * number,
            next: [1; 2],
            times: [0; 2],
            transport_seq: 1,
            streams: HashMap::new(),
            arrivals: ArrivalLog::new(),
            seen: 0,
            frame: Vec::new(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
        }
    }

    /// Begins to count anew.
    pub(crate) fn reset(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Sends a packet of the microphone.
    pub(crate) fn speak(&mut self) {
        let len = self.camera.opus_packet();
        self.times[0] = self.times[0].wrapping_add(960);
        let mut header = self.header(0, OPUS);
        header.audio_level = Some(AudioLevel { level: 20, voice: true });
        let len = self.write(&header, 0, len);
        self.send(len, len);
    }

    /// Sends the camera's next frame, as a burst.
    pub(crate) fn film(&mut self) {
        let mut frame = std::mem::take(&mut self.frame);
        self.camera.next_frame(&mut frame);
        let (mut used, mut segment) = (0, 0);
        self.times[1] = self.times[1].wrapping_add(3_000);
        for packet in &frame {
            let mut header = self.header(1, AV1);
            header.marker = packet.marker;
            header.dependency_descriptor = Some(packet.descriptor());
            let len = self.write(&header, used, packet.payload);
            if used > 0 && len > segment || segment > 0 && used % segment > 0 {
                self.send(used, segment);
                self.buffer.copy_within(used..used + len, 0);
                used = 0;
            }
            if used == 0 {
                segment = len;
            }
            used += len;
        }
        if used > 0 {
            self.send(used, segment);
        }
        self.frame = frame;
    }

    fn header(&mut self, stream: usize, payload_type: PayloadType) -> OutgoingHeader<'static> {
        let seq = self.next[stream];
        self.next[stream] = seq.wrapping_add(1);
        self.transport_seq = self.transport_seq.wrapping_add(1);
        self.counts.sent += 1;
        let timestamp = self.times[stream];
        OutgoingHeader {
            transport_seq: Some(self.transport_seq),
            ..OutgoingHeader::new(Ssrc(self.ssrc + stream as u32), payload_type, seq, timestamp, &IDS)
        }
    }

    /// Writes a sealed packet at `at`; its length.
    fn write(&mut self, header: &OutgoingHeader<'_>, at: usize, payload: usize) -> usize {
        const BYTES: [u8; 1_500] = [0x18; 1_500];
        let room = &mut self.buffer[at..];
        let layout = header.write_packet(&BYTES[..payload], room).expect("room");
        match &mut self.protection {
            Protection::Client(client) => client.protect_rtp(room, layout.len).expect("sealed"),
            Protection::Floor { out, .. } => {
                out.seal(room, layout.header_len, layout.len);
                layout.len + TAG
            }
        }
    }

    fn send(&mut self, len: usize, segment: usize) {
        if self.socket.send(self.server, None, &self.buffer[..len], segment) != SendOutcome::Sent {
            self.counts.refused += 1;
        }
    }

    /// Receives all that is there.
    pub(crate) fn receive(&mut self, now: Timestamp, receiver: &mut Receiver) {
        while receiver.receive(&self.socket).expect("a socket that works") != Filled::Nothing {
            for batch in receiver.batches() {
                for packet in batch.bytes.chunks_mut(batch.segment) {
                    self.take(now, packet);
                }
            }
        }
        self.flush();
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        for message in self.arrivals.poll(now, Ssrc(self.ssrc), Ssrc(self.ssrc)) {
            let bytes = message.marshal().expect("RTCP");
            self.buffer[..bytes.len()].copy_from_slice(&bytes);
            let len = match &mut self.protection {
                Protection::Client(client) => client.protect_rtcp(&mut self.buffer, bytes.len()).expect("sealed"),
                // The floor does not look at it; only its length and first bytes matter.
                Protection::Floor { .. } => bytes.len() + 20,
            };
            self.send(len, len);
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
        self.arrivals.next_timeout().unwrap_or(far).min(client)
    }

    fn flush(&mut self) {
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
        if self.seen.is_multiple_of(AUTHENTICATED) {
            self.counts.authenticated += 1;
            let genuine = match &mut self.protection {
                Protection::Client(client) => matches!(client.handle_datagram(now, packet), Received::Rtp(_)),
                Protection::Floor { into, .. } => into.open(packet, header_len(packet).max(len)),
            };
            self.counts.forged += u64::from(!genuine);
        }
    }

    /// ICE, DTLS, RTCP: only key-frame requests matter.
    fn take_other(&mut self, now: Timestamp, packet: &mut [u8]) {
        let Protection::Client(client) = &mut self.protection else { return };
        let mut wanted = false;
        if let Received::Rtcp(mut rtcp) = client.handle_datagram(now, packet) {
            while let [first, kind, high, low, ..] = *rtcp {
                wanted |= kind == PICTURE_LOSS && first & 0x1f == 1;
                let len = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
                rtcp = rtcp.get(len..).unwrap_or_default();
            }
        }
        if wanted {
            self.camera.ask_for_key_frame();
        }
    }
}
