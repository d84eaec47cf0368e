//! A receive slot: one continuous stream for the decoder whatever source it shows.
//!
//! ```text
//!  packet -> Selector: which layers? -> SequenceRewriter, Timeline, frame numbers -> Sent
//!                                                                        SentRing <--+   (made again for a NACK)
//! ```
//!
//! Nothing of a video source goes out before a key frame. A change of source goes unnoticed by the decoder: the next number,
//! a later timestamp, and frame numbers that continue by one constant offset.

mod sent;
mod sequence;
mod timeline;

pub use sent::{Sent, SentRing};
pub use sequence::SequenceRewriter;
pub use timeline::Timeline;

use crate::layers::{Choice, PacketLayers, Selector};
use halloo_transport::{SeqNo, Timestamp};

/// A packet of a source, as far as a slot looks at it.
#[derive(Clone, Copy, Debug)]
pub struct SourcePacket<'a> {
    /// The stream it is of, as its owner numbers streams.
    pub stream: u8,
    /// Its number there.
    pub seq: SeqNo,
    /// Its timestamp.
    pub timestamp: u32,
    /// The CSRC for it.
    pub csrc: u32,
    /// Its marker bit.
    pub marker: bool,
    /// What it says of layers; `None` for audio.
    pub layers: Option<PacketLayers<'a>>,
}

/// What a slot makes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes out like this.
    Forward {
        /// The rewrite.
        sent: Sent,
        /// The slot's stream went over to this source here: packets after this one that came before it are worth offering again.
        starts: bool,
    },
    /// An empty packet goes out in its place, since its number was left open.
    Fill(Sent),
    /// Nothing goes out.
    Nothing,
}

/// One slot's stream.
#[derive(Clone, Debug)]
pub struct SlotStream {
    selector: Selector,
    sequence: SequenceRewriter,
    timeline: Timeline,
    /// `None` where nothing is ever asked for again.
    sent: Option<SentRing>,
    /// Audio of another source starts with its next packet.
    audio_starts: bool,
    frame_offset: u16,
    newest_frame: Option<u16>,
    /// The receiver was told of fewer decode targets than there are.
    told_fewer: bool,
}

impl SlotStream {
    /// A slot that showed nothing yet. Its stream starts at `seq` and `timestamp`, of a clock of `clock_rate` ticks a second.
    pub fn new(seq: SeqNo, timestamp: u32, clock_rate: u32) -> Self {
        Self {
            selector: Selector::new(),
            sequence: SequenceRewriter::new(seq),
            timeline: Timeline::new(clock_rate, timestamp),
            sent: Some(SentRing::new()),
            audio_starts: true,
            frame_offset: 0,
            newest_frame: None,
            told_fewer: false,
        }
    }

    /// Remembers nothing of what was sent: for a slot without retransmission.
    #[must_use]
    pub fn without_memory(self) -> Self {
        Self { sent: None, ..self }
    }

    /// Asks for what the next packet is written to beside this value itself.
    pub(crate) fn prefetch(&self) {
        self.sent.iter().for_each(SentRing::prefetch);
    }

    /// Another source follows, or the same one went on elsewhere: what comes next starts anew.
    pub fn restart(&mut self) {
        self.selector.restart();
        self.sequence.stop();
        self.audio_starts = true;
    }

    /// Which layers go out; for video.
    pub fn selector(&mut self) -> &mut Selector {
        &mut self.selector
    }

    /// Which layers go out.
    pub const fn selected(&self) -> &Selector {
        &self.selector
    }

    /// Takes a packet of the source that the slot shows.
    pub fn offer(&mut self, now: Timestamp, packet: &SourcePacket<'_>) -> Verdict {
        let choice = match &packet.layers {
            Some(layers) => self.selector.select(layers),
            None => Choice::Forward {
                starts: std::mem::take(&mut self.audio_starts),
                marker: packet.marker,
                active_targets: None,
            },
        };
        match choice {
            Choice::Forward { starts, marker, active_targets } => {
                self.forward(now, packet, starts, marker, active_targets)
            }
            Choice::LeaveOut => match self.sequence.leave_out(packet.seq) {
                Some(seq) => Verdict::Fill(self.rewrite(now, packet, seq, false, None)),
                None => Verdict::Nothing,
            },
            Choice::NotShown => Verdict::Nothing,
        }
    }

    /// The packet with this number on the wire, to be sent again, at most once in `interval`.
    pub fn resend(&mut self, now: Timestamp, wire: u16, interval: std::time::Duration) -> Option<Sent> {
        self.sent.as_mut()?.resend(now, wire, interval)
    }

    /// A recent packet whose repetition serves as padding.
    pub fn recent(&mut self, turn: u64) -> Option<Sent> {
        self.sent.as_mut()?.recent(turn)
    }

    /// The slot's timestamp for the source's `timestamp`.
    pub const fn timestamp_at(&self, timestamp: u32) -> u32 {
        self.timeline.at(timestamp)
    }

    fn forward(
        &mut self,
        now: Timestamp,
        packet: &SourcePacket<'_>,
        starts: bool,
        marker: bool,
        active_targets: Option<u32>,
    ) -> Verdict {
        let frame = packet.layers.as_ref().and_then(|l| l.descriptor).map(|(descriptor, _)| descriptor.frame_number);
        let active_targets = self.mask(packet, active_targets);
        if starts {
            self.sequence.start(packet.seq);
            self.timeline.start(now, packet.timestamp);
            if let Some(frame) = frame {
                self.frame_offset = self.newest_frame.map_or(0, |newest| newest.wrapping_add(1).wrapping_sub(frame));
            }
        }
        let Some(seq) = self.sequence.forward(packet.seq) else { return Verdict::Nothing };
        let mut sent = self.rewrite(now, packet, seq, marker, active_targets);
        if let Some(frame) = frame {
            let number = frame.wrapping_add(self.frame_offset);
            if self.newest_frame.is_none_or(|newest| (number.wrapping_sub(newest) as i16) > 0) {
                self.newest_frame = Some(number);
            }
            sent.frame_number = Some(number);
        }
        if let Some(memory) = &mut self.sent {
            memory.insert(now, &sent);
        }
        Verdict::Forward { sent, starts }
    }

    /// The decode targets to tell: a receiver keeps what it was told, so once in a temporal unit is enough.
    fn mask(&mut self, packet: &SourcePacket<'_>, active_targets: Option<u32>) -> Option<u32> {
        let layers = packet.layers.as_ref()?;
        let (descriptor, _) = layers.descriptor?;
        let tells = descriptor.has_structure || (descriptor.start_of_frame && descriptor.spatial == 0);
        if !tells {
            return None;
        }
        match active_targets {
            Some(mask) => {
                self.told_fewer = true;
                Some(mask)
            }
            // A structure takes back what was told before.
            None => {
                let repeat = self.told_fewer && !descriptor.has_structure;
                self.told_fewer &= !descriptor.has_structure;
                repeat.then_some(layers.active_targets)
            }
        }
    }

    fn rewrite(
        &mut self,
        now: Timestamp,
        packet: &SourcePacket<'_>,
        seq: SeqNo,
        marker: bool,
        active_targets: Option<u32>,
    ) -> Sent {
        Sent {
            stream: packet.stream,
            source_seq: packet.seq,
            seq,
            timestamp: self.timeline.rewrite(now, packet.timestamp),
            csrc: packet.csrc,
            marker,
            frame_number: None,
            active_targets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        av1::{
            Descriptor, Structure,
            synthetic::{self, Frame, Mode},
        },
        layers::Goal,
    };
    use std::time::Duration;

    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;

    fn audio(stream: u8, seq: u64, timestamp: u32) -> SourcePacket<'static> {
        SourcePacket { stream, seq: SeqNo(seq), timestamp, csrc: stream.into(), marker: false, layers: None }
    }

    fn sent(verdict: Verdict) -> Sent {
        match verdict {
            Verdict::Forward { sent, .. } => sent,
            other => panic!("{other:?}"),
        }
    }

    /// Offers the `index`th frame since the key frame of a stream of one packet a frame.
    fn video(
        slot: &mut SlotStream,
        now: Timestamp,
        stream: u8,
        index: usize,
        number: u16,
        structure: &mut Option<Structure>,
    ) -> Verdict {
        let bytes = synthetic::descriptor(&Frame { mode: Mode::L1T3, index, first: true, last: true, number });
        let descriptor = Descriptor::read(&bytes, structure).unwrap();
        let structure = structure.as_ref().unwrap();
        let layers = PacketLayers {
            encoding: 0,
            descriptor: Some((&descriptor, structure)),
            active_targets: 7,
            starts_key_frame: descriptor.starts_key_frame(),
            marker: true,
        };
        let seq = SeqNo(100_000 * u64::from(stream) + index as u64);
        let timestamp = u32::from(stream) * 1_000 + index as u32 * 3_000;
        slot.offer(
            now,
            &SourcePacket { stream, seq, timestamp, csrc: stream.into(), marker: true, layers: Some(layers) },
        )
    }

    #[test]
    fn speakers_follow_each_other_in_one_stream() {
        let mut slot = SlotStream::new(SeqNo(65_534), 7, 48_000);
        for i in 0..3 {
            let out = sent(slot.offer(MS(20 * i), &audio(1, 500 + i, 960 * i as u32)));
            assert_eq!((out.seq.0, out.timestamp, out.csrc), (65_534 + i, 7 + 960 * i as u32, 1));
        }
        slot.restart();
        let out = sent(slot.offer(MS(60), &audio(2, 9, 5_555)));
        assert_eq!((out.seq.0, out.timestamp, out.csrc), (65_537, 7 + 3 * 960, 2));
        assert_eq!(slot.offer(MS(61), &audio(2, 8, 4_595)), Verdict::Nothing, "from before the switch");
    }

    #[test]
    fn pictures_wait_for_a_key_frame_and_frame_numbers_go_on_by_one_offset() {
        let mut slot = SlotStream::new(SeqNo(65_536), 0, 90_000);
        slot.selector().set_goal(Some(Goal { encoding: 0, spatial: 0, temporal: 2 }));
        let (mut one, mut two) = (None, None);
        for i in 0..4u16 {
            let out =
                sent(video(&mut slot, MS(33 * u64::from(i)), 1, usize::from(i), 65_534u16.wrapping_add(i), &mut one));
            assert_eq!(out.frame_number, Some(65_534u16.wrapping_add(i)));
        }
        slot.restart();
        two.clone_from(&one);
        assert_eq!(video(&mut slot, MS(140), 2, 3, 800, &mut two), Verdict::Nothing);
        let out = sent(video(&mut slot, MS(170), 2, 0, 801, &mut two));
        assert_eq!((out.seq.0, out.frame_number), (65_540, Some(2)));
        let out = sent(video(&mut slot, MS(200), 2, 1, 802, &mut two));
        assert_eq!((out.seq.0, out.frame_number), (65_541, Some(3)));
    }

    #[test]
    fn layers_left_out_leave_no_gap_and_a_late_one_fills_its_number() {
        let mut slot = SlotStream::new(SeqNo(65_536), 0, 90_000);
        slot.selector().set_goal(Some(Goal { encoding: 0, spatial: 0, temporal: 0 }));
        let mut structure = None;
        assert_eq!(sent(video(&mut slot, MS(0), 1, 0, 0, &mut structure)).seq.0, 65_536);
        assert_eq!(video(&mut slot, MS(33), 1, 1, 1, &mut structure), Verdict::Nothing);
        // Picture 2 is late.
        assert_eq!(video(&mut slot, MS(99), 1, 3, 3, &mut structure), Verdict::Nothing);
        assert_eq!(sent(video(&mut slot, MS(132), 1, 4, 4, &mut structure)).seq.0, 65_538);
        match video(&mut slot, MS(140), 1, 2, 2, &mut structure) {
            Verdict::Fill(fill) => assert_eq!((fill.seq.0, fill.marker), (65_537, false)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_packet_is_made_again_the_same() {
        let mut slot = SlotStream::new(SeqNo(65_536), 0, 48_000);
        let out = sent(slot.offer(MS(0), &audio(1, 500, 3)));
        slot.restart();
        slot.offer(MS(20), &audio(2, 7, 3));
        let rtt = Duration::from_millis(50);
        assert_eq!(slot.resend(MS(30), out.seq.wire(), rtt), Some(out));
        assert_eq!(slot.resend(MS(40), out.seq.wire(), rtt), None);
    }
}
