//! Microphone and camera of one client: the clip, in time, under the client's own numbers; answers to NACK and to requests for
//! key frames.

use crate::load::{
    clip::{Clip, Position},
    departures::Departures,
    figures::Figures,
    offer::{AV1, AV1_RTX, IDS, Identity, OPUS},
    turns::Turns,
};
use bytes::Bytes;
use halloo_sfu::rtp::OutgoingHeader;
use halloo_transport::{
    RtpTime, Ssrc, Timestamp,
    av1::{FrameDependencies, FrameToSend, Indication, Resolution, TemplateStructure},
    random::Random,
    reports::SenderInfo,
};
use std::{sync::Arc, time::Duration};

/// Between two key frames that were asked for.
pub const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);
const SOUND_INTERVAL: Duration = Duration::from_millis(20);
const SOUND_TICKS: u32 = 960;
/// What is later than this is not sent any more.
const TOO_LATE: Duration = Duration::from_millis(100);
/// Packets of the camera that can be sent again.
const HISTORY: usize = 1_024;

/// The sources of one client.
#[derive(Debug)]
pub struct Publisher {
    clip: Arc<Clip>,
    departures: Arc<Departures>,
    turns: Turns,
    microphone: Stream,
    camera: Stream,
    rtx: Stream,
    sound: usize,
    /// The next picture of the clip.
    picture: usize,
    picture_number: u16,
    layers: TemplateStructure,
    picture_interval: Duration,
    key_frame_wanted: bool,
    last_key_frame: Option<Timestamp>,
    next_sound: Timestamp,
    next_picture: Timestamp,
    filming: bool,
    history: Box<[Option<Sent>]>,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    ssrc: Ssrc,
    seq: u16,
    timestamp: u32,
    packets: u64,
    bytes: u64,
}

impl Stream {
    fn new(ssrc: Ssrc, random: &mut Random) -> Self {
        let timestamp = random.next_u64() as u32;
        Self { ssrc, seq: random.first_sequence_number(), timestamp, packets: 0, bytes: 0 }
    }

    fn take_seq(&mut self, bytes: usize) -> u16 {
        self.packets += 1;
        self.bytes += bytes as u64;
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        seq
    }
}

/// A packet of the camera that was sent.
#[derive(Clone, Debug)]
struct Sent {
    seq: u16,
    timestamp: u32,
    position: Position,
    marker: bool,
    descriptor: Bytes,
}

impl Publisher {
    /// Sources that begin with [`Publisher::start`].
    pub fn new(
        own: &Identity,
        clip: Arc<Clip>,
        departures: Arc<Departures>,
        turns: Turns,
        random: &mut Random,
    ) -> Self {
        let picture_interval = Duration::from_secs(1) / clip.video.fps.max(1);
        Self {
            turns,
            microphone: Stream::new(own.microphone, random),
            camera: Stream::new(own.camera, random),
            rtx: Stream::new(own.camera_rtx, random),
            sound: (random.next_u64() % 100) as usize,
            picture: 0,
            picture_number: 0,
            layers: no_layers(clip.video.size),
            picture_interval,
            key_frame_wanted: false,
            last_key_frame: None,
            next_sound: Timestamp::MAX,
            next_picture: Timestamp::MAX,
            filming: true,
            history: vec![None; HISTORY].into_boxed_slice(),
            clip,
            departures,
        }
    }

    /// Begins a little after `now`, not in step with others.
    pub fn start(&mut self, now: Timestamp, random: &mut Random) {
        self.next_sound = now + SOUND_INTERVAL.mul_f64(random.next_f64());
        self.next_picture = now + self.picture_interval.mul_f64(random.next_f64());
    }

    /// Sends nothing new from now on; what was sent can still be asked for.
    pub fn stop(&mut self) {
        self.next_sound = Timestamp::MAX;
        self.next_picture = Timestamp::MAX;
    }

    /// Whether anybody receives the camera: else nothing of it is sent.
    pub fn set_filming(&mut self, filming: bool) {
        if filming && !self.filming {
            self.key_frame_wanted = true;
        }
        self.filming = filming;
    }

    /// A key frame is wanted.
    pub fn ask_for_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    /// When [`Publisher::poll`] is next wanted.
    pub fn next_timeout(&self) -> Timestamp {
        self.next_sound.min(self.next_picture)
    }

    /// Gives what is due to `send`: header and payload.
    pub fn poll(&mut self, now: Timestamp, figures: &mut Figures, mut send: impl FnMut(&OutgoingHeader<'_>, &[u8])) {
        if take_due(now, &mut self.next_sound, SOUND_INTERVAL, figures) {
            self.send_sound(now, figures, &mut send);
        }
        if take_due(now, &mut self.next_picture, self.picture_interval, figures) && self.filming {
            self.send_picture(now, figures, &mut send);
        }
    }

    fn send_sound(&mut self, now: Timestamp, figures: &mut Figures, send: &mut impl FnMut(&OutgoingHeader<'_>, &[u8])) {
        let position = self.clip.sound(self.sound);
        self.sound += 1;
        let payload = self.clip.payload(position);
        self.microphone.timestamp = self.microphone.timestamp.wrapping_add(SOUND_TICKS);
        let (ssrc, timestamp) = (self.microphone.ssrc, self.microphone.timestamp);
        let seq = self.microphone.take_seq(payload.len());
        let mut header = OutgoingHeader::new(ssrc, OPUS, seq, timestamp, &IDS);
        header.audio_level = Some(self.turns.level(now));
        self.departures.set(position, now);
        figures.counts.packets_sent += 1;
        send(&header, payload);
    }

    fn send_picture(
        &mut self,
        now: Timestamp,
        figures: &mut Figures,
        send: &mut impl FnMut(&OutgoingHeader<'_>, &[u8]),
    ) {
        if self.key_frame_wanted && self.last_key_frame.is_none_or(|last| now.since(last) >= KEY_FRAME_INTERVAL) {
            self.picture = 0;
        }
        let key_frame = self.picture == 0;
        if key_frame {
            self.key_frame_wanted = false;
            self.last_key_frame = Some(now);
        }
        let packets = self.clip.picture(self.picture);
        self.picture = (self.picture + 1) % self.clip.pictures().max(1);
        self.camera.timestamp = self.camera.timestamp.wrapping_add(90_000 / self.clip.video.fps.max(1));
        let number = self.picture_number;
        self.picture_number = number.wrapping_add(1);
        figures.counts.pictures_sent += 1;
        let frame = FrameToSend {
            number,
            dependencies: picture_of(key_frame),
            active_targets: None,
            brings_structure: key_frame,
        };
        let descriptors = self.layers.descriptors(&frame, packets.len());
        for (index, descriptor) in packets.clone().zip(descriptors) {
            let (position, marker) = (index as Position, index + 1 == packets.end);
            let payload = self.clip.payload(position);
            let seq = self.camera.take_seq(payload.len());
            let timestamp = self.camera.timestamp;
            self.departures.set(position, now);
            figures.counts.packets_sent += 1;
            let mut header = OutgoingHeader::new(self.camera.ssrc, AV1, seq, timestamp, &IDS);
            header.marker = marker;
            header.dependency_descriptor = Some(&descriptor);
            send(&header, payload);
            if let Some(place) = self.history.get_mut(usize::from(seq) % HISTORY) {
                *place = Some(Sent { seq, timestamp, position, marker, descriptor });
            }
        }
    }

    /// Sends a packet of the camera again, if it is still known.
    pub fn send_again(&mut self, seq: u16, send: impl FnOnce(&OutgoingHeader<'_>, &[u8])) {
        let known = self.history.get(usize::from(seq) % HISTORY).and_then(Option::as_ref);
        let Some(sent) = known.filter(|sent| sent.seq == seq) else { return };
        let payload = self.clip.payload(sent.position);
        let own = self.rtx.take_seq(payload.len());
        let mut header = OutgoingHeader::new(self.rtx.ssrc, AV1_RTX, own, sent.timestamp, &IDS);
        header.marker = sent.marker;
        header.original_seq = Some(seq);
        header.dependency_descriptor = Some(&sent.descriptor);
        send(&header, payload);
    }

    /// The camera's SSRC.
    pub const fn camera(&self) -> Ssrc {
        self.camera.ssrc
    }

    /// What sender reports say.
    pub fn senders(&self, now: Timestamp) -> Vec<SenderInfo> {
        let info = |stream: &Stream, rate: u32, next: Timestamp, interval: Duration| {
            // The timestamp is that of the last due time.
            let since = now.since(next) + interval.saturating_sub(next.since(now));
            let ticks = (since.as_nanos() * u128::from(rate) / 1_000_000_000) as u32;
            let rtp_time = RtpTime::new(u64::from(stream.timestamp.wrapping_add(ticks)), rate);
            SenderInfo { ssrc: stream.ssrc, rtp_time, packets: stream.packets, bytes: stream.bytes }
        };
        let all = [
            info(&self.microphone, 48_000, self.next_sound, SOUND_INTERVAL),
            info(&self.camera, 90_000, self.next_picture, self.picture_interval),
        ];
        all.into_iter().filter(|sender| sender.packets > 0).collect()
    }
}

/// Pictures of one layer, each of which refers to the one before, as browsers describe them.
fn no_layers((width, height): (u32, u32)) -> TemplateStructure {
    TemplateStructure {
        target_chains: vec![0],
        chains: 1,
        templates: vec![picture_of(true), picture_of(false)],
        resolutions: vec![Resolution { width, height }],
    }
}

fn picture_of(key_frame: bool) -> FrameDependencies {
    let (diffs, chain_diffs) = if key_frame { (vec![], vec![0]) } else { (vec![1], vec![1]) };
    FrameDependencies { spatial: 0, temporal: 0, indications: vec![Indication::Switch], diffs, chain_diffs }
}

/// Whether something is due, and not too late; sets when the next is.
fn take_due(now: Timestamp, due: &mut Timestamp, interval: Duration, figures: &mut Figures) -> bool {
    if *due > now {
        return false;
    }
    let late = now.since(*due);
    *due += interval;
    figures.late.record(late);
    if late < TOO_LATE {
        return true;
    }
    let missed = (late.as_nanos() / interval.as_nanos().max(1)) as u32;
    *due += interval * missed;
    figures.counts.skipped += i64::from(missed) + 1;
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{clip, offer};
    use halloo_transport::av1::Descriptor as Read;

    fn publisher() -> Publisher {
        let clip = Arc::new(clip::tests::made_up());
        let departures = Arc::new(Departures::new(clip.len()));
        let turns = Turns { publishers: 1, place: 0, room: 0 };
        let mut random = Random::new(1);
        let mut publisher = Publisher::new(&offer::tests::identity(), clip, departures, turns, &mut random);
        publisher.start(Timestamp::ZERO, &mut random);
        publisher
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Out {
        ssrc: u32,
        seq: u16,
        timestamp: u32,
        marker: bool,
        key: bool,
        original: Option<u16>,
    }

    fn run(publisher: &mut Publisher, until: Timestamp, figures: &mut Figures) -> Vec<Out> {
        let mut sent = Vec::new();
        while publisher.next_timeout() <= until {
            publisher.poll(publisher.next_timeout(), figures, |header, payload| sent.push(out(header, payload)));
        }
        sent
    }

    fn out(header: &OutgoingHeader<'_>, payload: &[u8]) -> Out {
        assert!(!payload.is_empty());
        let key = header
            .dependency_descriptor
            .is_some_and(|d| Read::read(d, &mut None).is_ok_and(|descriptor| descriptor.starts_key_frame()));
        let (ssrc, timestamp) = (header.ssrc.0, header.timestamp);
        Out { ssrc, seq: header.seq, timestamp, marker: header.marker, key, original: header.original_seq }
    }

    #[test]
    fn a_second_has_fifty_sounds_and_all_pictures_and_each_loop_begins_with_a_key_frame() {
        let (mut publisher, mut figures) = (publisher(), Figures::default());
        let sent = run(&mut publisher, Timestamp::from_millis(999), &mut figures);
        let of = |ssrc: u32| sent.iter().filter(|out| out.ssrc == ssrc).copied().collect::<Vec<_>>();
        let (sounds, pictures) = (of(1), of(2));
        assert_eq!((sounds.len(), pictures.len()), (50, 20));
        assert!(sounds.windows(2).all(|w| w[1].timestamp.wrapping_sub(w[0].timestamp) == 960));
        assert!(pictures.windows(2).all(|w| w[1].seq == w[0].seq.wrapping_add(1)));
        let keys: Vec<usize> = (0..20).filter(|n| pictures[*n].key).collect();
        assert_eq!(keys, [0, 6, 12, 18]);
        assert!(pictures.iter().enumerate().all(|(n, out)| out.marker == (n % 2 == 1)));
        assert_eq!((figures.counts.packets_sent, figures.counts.pictures_sent), (70, 10));
        assert_eq!(publisher.senders(Timestamp::from_millis(999)).len(), 2);
    }

    #[test]
    fn a_key_frame_follows_a_request_but_not_too_soon_after_another() {
        let (mut publisher, mut figures) = (publisher(), Figures::default());
        run(&mut publisher, Timestamp::from_millis(150), &mut figures);
        publisher.ask_for_key_frame();
        let sent = run(&mut publisher, Timestamp::from_millis(1_000), &mut figures);
        let starts: Vec<_> = sent.iter().filter(|out| out.ssrc == 2 && !out.marker).collect();
        // The clip has three pictures: a key frame at 0, 300 ms and on, as it does without being asked.
        assert!(starts.iter().filter(|out| out.key).count() >= 2);
        assert!(!publisher.key_frame_wanted);
    }

    #[test]
    fn what_was_sent_is_sent_again_with_its_number_and_what_was_not_is_not() {
        let (mut publisher, mut figures) = (publisher(), Figures::default());
        let sent = run(&mut publisher, Timestamp::from_millis(500), &mut figures);
        let lost = sent.iter().rfind(|out| out.ssrc == 2).unwrap();
        let mut again = None;
        publisher.send_again(lost.seq, |header, payload| again = Some(out(header, payload)));
        let again = again.unwrap();
        assert_eq!((again.ssrc, again.original, again.timestamp), (3, Some(lost.seq), lost.timestamp));
        publisher.send_again(lost.seq.wrapping_add(1), |_, _| panic!("never sent"));
    }

    #[test]
    fn nothing_is_filmed_for_nobody_and_a_key_frame_comes_first_afterwards() {
        let (mut publisher, mut figures) = (publisher(), Figures::default());
        run(&mut publisher, Timestamp::from_millis(100), &mut figures);
        publisher.set_filming(false);
        let sent = run(&mut publisher, Timestamp::from_millis(1_000), &mut figures);
        assert!(sent.iter().all(|out| out.ssrc == 1) && !sent.is_empty());
        publisher.set_filming(true);
        let sent = run(&mut publisher, Timestamp::from_millis(1_200), &mut figures);
        assert!(sent.iter().find(|out| out.ssrc == 2).unwrap().key);
    }

    #[test]
    fn who_is_far_behind_skips() {
        let (mut publisher, mut figures) = (publisher(), Figures::default());
        publisher.poll(Timestamp::from_millis(1_000), &mut figures, |_, _| panic!("too late"));
        assert!((55..=62).contains(&figures.counts.skipped), "{}", figures.counts.skipped);
        assert!(publisher.next_timeout() > Timestamp::from_millis(1_000));
    }
}
