//! Publishers, a room and subscribers on virtual time, over links that lose and reorder, with people who come, go, speak and
//! mute at random. Each seed is one meeting; what must hold always is checked for every packet.

mod receiver;
mod sender;

pub(in crate::room) use receiver::Receiver;
pub(in crate::room) use sender::{IDS, Sender};

use super::{
    Command, Egress, Event, Grants, Limits, ParticipantConfig, ParticipantId, Room, RoomConfig, SourceId, SourceKind,
    VideoWish,
};
use crate::{
    av1::synthetic::Mode,
    rtp::{OutgoingHeader, RtpHeader},
};
use halloo_transport::{Bitrate, Ssrc, Timestamp, random::Random};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// What the room sent in one call.
#[derive(Debug, Default)]
pub(in crate::room) struct Outbox {
    pub(in crate::room) rtp: Vec<(ParticipantId, Vec<u8>)>,
    pub(in crate::room) rtcp: Vec<(ParticipantId, Vec<u8>)>,
}

impl Egress for Outbox {
    fn rtp(&mut self, to: ParticipantId, header: &OutgoingHeader<'_>, payload: &[u8]) {
        let mut out = vec![0; 4_000];
        let layout = header.write_packet(payload, &mut out).unwrap();
        out.truncate(layout.len);
        self.rtp.push((to, out));
    }

    fn rtcp(&mut self, to: ParticipantId, packet: &[u8]) {
        assert!(!packet.is_empty());
        self.rtcp.push((to, packet.to_vec()));
    }
}

/// How a link treats packets.
#[derive(Clone, Copy, Debug)]
pub(in crate::room) struct Link {
    pub(in crate::room) loss: f64,
    pub(in crate::room) delay_ms: u64,
    pub(in crate::room) jitter_ms: u64,
}

#[derive(Debug)]
enum Message {
    RtpToRoom(usize, Vec<u8>),
    RtcpToRoom(usize, Vec<u8>),
    RtpToClient(usize, Vec<u8>),
    RtcpToClient(usize, Vec<u8>),
}

/// A client: both halves, and whether it is there.
#[derive(Debug)]
pub(in crate::room) struct Client {
    pub(in crate::room) id: ParticipantId,
    pub(in crate::room) sender: Sender,
    pub(in crate::room) receiver: Receiver,
    pub(in crate::room) present: bool,
    pub(in crate::room) camera: bool,
    /// What the room got of each stream, by SSRC: extended numbers.
    delivered: HashMap<u32, HashMap<u64, Timestamp>>,
}

/// A media packet that the room sent: its number on the wire, the source's SSRC and number, and when.
type Sent = (u16, Option<(u32, u64)>, Timestamp);

/// A meeting on virtual time.
pub(in crate::room) struct Meeting {
    pub(in crate::room) room: Room,
    pub(in crate::room) now: Timestamp,
    pub(in crate::room) clients: Vec<Client>,
    pub(in crate::room) events: Vec<Event>,
    random: Random,
    link: Link,
    wire: BTreeMap<(Timestamp, u64), Message>,
    count: u64,
    /// Media that the room sent, by SSRC: the numbers on the wire, and which source packet each carries.
    sent: HashMap<u32, Vec<Sent>>,
    /// When slots were given another source, by SSRC.
    changes: HashMap<u32, Vec<Timestamp>>,
}

impl Meeting {
    pub(in crate::room) fn new(seed: u64, link: Link) -> Self {
        Self {
            room: Room::new(RoomConfig::default()),
            now: Timestamp::from_millis(1),
            clients: Vec::new(),
            events: Vec::new(),
            random: Random::new(seed),
            link,
            wire: BTreeMap::new(),
            count: 0,
            sent: HashMap::new(),
            changes: HashMap::new(),
        }
    }

    pub(in crate::room) fn join(&mut self, mode: Mode, audio: u32, video: u32) -> usize {
        let index = self.clients.len();
        let sender = Sender::new(index as u32, mode, self.random.next_u64());
        let receiver = Receiver::new(index as u32, audio, video);
        let config = ParticipantConfig {
            published: sender.sections(),
            slots: receiver.slots.iter().map(|s| s.config.clone()).collect(),
            incoming_extensions: IDS,
            outgoing_extensions: IDS,
            grants: Grants::ALL,
            limits: Limits {
                start_receive: Bitrate::from_kbps(8_000),
                publish: Bitrate::from_kbps(50_000),
                ..Limits::default()
            },
            feedback_ssrc: Ssrc(7),
            cname: "room".into(),
            seed: self.random.next_u64(),
        };
        let id = self.room.join(self.now, config).unwrap();
        self.clients.push(Client { id, sender, receiver, present: true, camera: true, delivered: HashMap::new() });
        self.command(Command::Connected(id));
        index
    }

    pub(in crate::room) fn command(&mut self, command: Command) {
        let mut out = Outbox::default();
        self.room.command(self.now, command, &mut out);
        self.carry(out);
    }

    pub(in crate::room) fn leave(&mut self, index: usize) {
        let mut out = Outbox::default();
        self.clients[index].present = false;
        for slot in &self.clients[index].receiver.slots {
            self.changes.entry(slot.config.ssrc.0).or_default().push(self.now);
        }
        self.room.leave(self.now, self.clients[index].id, &mut out);
        self.carry(out);
    }

    pub(in crate::room) fn source(&self, index: usize, kind: SourceKind) -> SourceId {
        SourceId::new(self.clients[index].id, kind)
    }

    /// Lets `ms` milliseconds pass, in steps of one.
    pub(in crate::room) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            self.step();
        }
    }

    fn step(&mut self) {
        let ms = self.now.as_micros() / 1_000;
        for index in 0..self.clients.len() {
            let now = self.now;
            let client = &mut self.clients[index];
            if !client.present {
                continue;
            }
            let mut packets = Vec::new();
            if (ms + 3 * index as u64).is_multiple_of(20) {
                packets.push(client.sender.sound(now));
            }
            if client.camera && (ms + 7 * index as u64).is_multiple_of(33) {
                packets.extend(client.sender.picture(now));
            }
            let feedback = if ms.is_multiple_of(10) { client.receiver.feedback(now) } else { Vec::new() };
            packets.into_iter().for_each(|packet| self.post(Message::RtpToRoom(index, packet)));
            feedback.into_iter().for_each(|packet| self.post(Message::RtcpToRoom(index, packet)));
        }
        while let Some(entry) = self.wire.first_entry().filter(|e| e.key().0 <= self.now) {
            let message = entry.remove();
            self.deliver(message);
        }
        let mut out = Outbox::default();
        self.room.forward(self.now, &mut out);
        self.carry(out);
        if self.room.next_timeout().is_some_and(|due| due <= self.now) {
            let mut out = Outbox::default();
            self.room.handle_timeout(self.now, &mut out);
            self.carry(out);
        }
        while let Some(event) = self.room.poll_event() {
            self.note_change(&event);
            self.events.push(event);
        }
    }

    fn note_change(&mut self, event: &Event) {
        let Event::SlotsChanged { subscriber, changes } = event else { return };
        let Some(client) = self.clients.iter().find(|c| c.id == *subscriber) else { return };
        for change in changes {
            let ssrc = client.receiver.slots[usize::from(change.slot.0)].config.ssrc.0;
            self.changes.entry(ssrc).or_default().push(self.now);
        }
    }

    fn post(&mut self, message: Message) {
        if self.random.next_f64() < self.link.loss {
            return;
        }
        let delay = self.link.delay_ms + self.random.next_u64() % (self.link.jitter_ms + 1);
        self.count += 1;
        self.wire.insert((self.now + Duration::from_millis(delay), self.count), message);
    }

    fn deliver(&mut self, message: Message) {
        let mut out = Outbox::default();
        match message {
            Message::RtpToRoom(index, packet) => {
                let client = &mut self.clients[index];
                if client.present {
                    let header = RtpHeader::parse(&packet).unwrap();
                    let payload = header.payload().unwrap();
                    // A retransmission has two bytes in front.
                    let payload = if header.payload_type() == 46 { &payload[2..] } else { payload };
                    let stamp = sender::Stamp::read(payload).unwrap();
                    client.delivered.entry(stamp.ssrc).or_default().entry(stamp.seq).or_insert(self.now);
                }
                self.room.handle_rtp(self.now, client.id, &packet, &mut out);
            }
            Message::RtcpToRoom(index, packet) => {
                self.room.handle_rtcp(self.now, self.clients[index].id, &packet, &mut out);
            }
            Message::RtpToClient(index, packet) => self.clients[index].receiver.on_packet(self.now, &packet),
            Message::RtcpToClient(index, packet) => {
                let again = self.clients[index].sender.on_rtcp(&packet);
                again.into_iter().for_each(|packet| self.post(Message::RtpToRoom(index, packet)));
            }
        }
        self.carry(out);
    }

    fn carry(&mut self, out: Outbox) {
        let index = |clients: &[Client], id| clients.iter().position(|c| c.id == id).filter(|i| clients[*i].present);
        for (to, packet) in out.rtp {
            let Some(index) = index(&self.clients, to) else { panic!("a packet for somebody who left") };
            let header = RtpHeader::parse(&packet).unwrap();
            if header.payload_type() != 98 {
                let stamp = sender::Stamp::read(header.payload().unwrap()).map(|s| (s.ssrc, s.seq));
                self.sent.entry(header.ssrc()).or_default().push((header.seq(), stamp, self.now));
            }
            self.post(Message::RtpToClient(index, packet));
        }
        for (to, packet) in out.rtcp {
            if let Some(index) = index(&self.clients, to) {
                self.post(Message::RtcpToClient(index, packet));
            }
        }
    }

    /// What the room sent has no number twice, and a gap only where the source's packet never reached the room.
    pub(in crate::room) fn check_sent(&self) {
        for (ssrc, packets) in &self.sent {
            let mut seqs = halloo_transport::units::SeqUnwrapper::new();
            let mut by_seq = BTreeMap::new();
            for (wire, stamp, at) in packets {
                let seq = seqs.unwrap(u64::from(*wire));
                assert!(by_seq.insert(seq, (*stamp, *at)).is_none(), "{ssrc} sent {seq} twice");
            }
            let changes = self.changes.get(ssrc).map(Vec::as_slice).unwrap_or_default();
            for ((a, (from, at)), (b, (to, _))) in by_seq.iter().zip(by_seq.iter().skip(1)) {
                if a + 1 == *b {
                    continue;
                }
                let (Some((source, from)), Some((other, to))) = (from, to) else { continue };
                assert_eq!(source, other, "a gap at a switch: {a} to {b} of {ssrc}");
                let got = self.clients.iter().find_map(|c| c.delivered.get(source)).unwrap();
                // What comes after the slot went over to something else is too late.
                let goes_on = |came: &Timestamp| {
                    let of_it = |(stamp, at): &&(Option<(u32, u64)>, Timestamp)| {
                        at > came && stamp.is_some_and(|(ssrc, seq)| ssrc == *source && seq < to + 200)
                    };
                    by_seq.range(b..).map(|(_, sent)| sent).any(|sent| of_it(&sent))
                };
                let in_time =
                    |came: &Timestamp| goes_on(came) && !changes.iter().any(|change| (at..=&came).contains(&change));
                let lost = (from + 1..*to).filter(|seq| !got.get(seq).is_some_and(in_time)).count() as u64;
                assert!(b - a - 1 <= lost, "{ssrc}: {} numbers between {a} and {b}, {lost} lost", b - a - 1);
            }
        }
    }

    fn random_act(&mut self) {
        let count = self.clients.len();
        let who = (self.random.next_u64() % count as u64) as usize;
        if !self.clients[who].present {
            return;
        }
        let other = (self.random.next_u64() % count as u64) as usize;
        match self.random.next_u64() % 8 {
            0..=2 => {
                self.clients.iter_mut().for_each(|c| c.sender.level = 100);
                self.clients[who].sender.level = 30;
            }
            3 => {
                let kind = if self.random.next_f64() < 0.5 { SourceKind::Camera } else { SourceKind::Microphone };
                let muted = self.random.next_f64() < 0.5;
                self.command(Command::Mute { source: self.source(who, kind), muted });
            }
            4 | 5 => {
                let height = [0, 90, 180, 360, 720][(self.random.next_u64() % 5) as usize];
                let wish = |source, pinned| VideoWish { source, width: height * 16 / 9, height, pinned };
                let wishes = vec![
                    wish(self.source(other, SourceKind::Camera), true),
                    wish(self.source(0, SourceKind::Camera), false),
                ];
                self.command(Command::Show { by: self.clients[who].id, wishes, others: (320, 180) });
            }
            6 if self.clients.iter().filter(|c| c.present).count() > 3 => self.leave(who),
            6 => self.clients[who].camera ^= true,
            _ if count < 9 => {
                let mode = Mode::ALL[(self.random.next_u64() % 4) as usize];
                self.join(mode, 2, 3);
            }
            _ => {}
        }
    }
}

/// A meeting of people who act at random; everything that must hold is checked.
fn meeting(seed: u64, link: Link, ms: u64) -> usize {
    println!("seed {seed}");
    let mut meeting = Meeting::new(seed, link);
    for i in 0..4 {
        let mode = Mode::ALL[(seed as usize + i) % 4];
        meeting.join(mode, 2, 3);
    }
    for _ in 0..ms / 500 {
        meeting.run(500);
        meeting.random_act();
    }
    meeting.run(1_000);
    meeting.check_sent();
    let bytes = meeting.room.history_bytes();
    assert!(bytes < 12 << 20, "{bytes} bytes of history");
    let mut frames = 0;
    let until = meeting.now - Duration::from_millis(800);
    for client in &meeting.clients {
        for slot in &client.receiver.slots {
            let decoded = slot.check(until);
            assert_eq!(decoded.broken, 0, "{:?} {decoded:?}", slot.config.ssrc);
            assert!(link.loss > 0.0 || decoded.lost == 0, "{:?} {decoded:?}", slot.config.ssrc);
            frames += decoded.frames;
        }
    }
    frames
}

#[test]
fn a_hundred_meetings_on_clean_links() {
    for seed in 0..100 {
        let frames = meeting(seed, Link { loss: 0.0, delay_ms: 10, jitter_ms: 0 }, 5_000);
        assert!(frames > 500, "seed {seed}: {frames} frames");
    }
}

#[test]
fn two_hundred_meetings_on_links_that_lose_and_reorder() {
    for seed in 0..200u64 {
        let loss = [0.01, 0.03, 0.08][(seed % 3) as usize];
        let frames = meeting(seed, Link { loss, delay_ms: 10, jitter_ms: 15 }, 5_000);
        assert!(frames > 300, "seed {seed}: {frames} frames");
    }
}
