//! Which packets of a video source one subscriber gets (RTP Payload Format For AV1, appendix A.6; simulcast by encoding).
//!
//! A frame goes out where the current decode target needs it. Another target is taken up only where its frames can be decoded:
//! at a key frame; at a frame that is a switch point for it and refers to frames that went out; or at any frame where the
//! current target contains it, which makes dropping temporal layers free. Another encoding starts at its key frame.

use super::frame_window::{FrameWindow, Place};
use crate::av1::{Descriptor, Indication, Structure};

/// What a subscriber is to get.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Goal {
    /// Which encoding, from 0 for the smallest picture.
    pub encoding: u8,
    /// Highest spatial layer.
    pub spatial: u8,
    /// Highest temporal layer.
    pub temporal: u8,
}

impl Goal {
    /// What decides the picture's size: encoding and spatial layer.
    pub const fn size(&self) -> (u8, u8) {
        (self.encoding, self.spatial)
    }
}

/// What a packet says of layers.
#[derive(Clone, Copy, Debug)]
pub struct PacketLayers<'a> {
    /// Its encoding.
    pub encoding: u8,
    /// Its descriptor and its stream's structure; `None` for a stream that has none and is forwarded whole.
    pub descriptor: Option<(&'a Descriptor, &'a Structure)>,
    /// The decode targets that its sender produces.
    pub active_targets: u32,
    /// It is the first packet of a key frame.
    pub starts_key_frame: bool,
    /// Its marker bit.
    pub marker: bool,
}

/// A packet's fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// It goes out.
    Forward {
        /// The stream starts here: at a key frame of an encoding that was not shown before.
        starts: bool,
        /// The marker bit for the subscriber: the last packet of its temporal unit.
        marker: bool,
        /// The decode targets that the subscriber can decode, where they are not all that are produced.
        active_targets: Option<u32>,
    },
    /// It does not, though its stream does.
    LeaveOut,
    /// It is of a stream that is not shown.
    NotShown,
}

/// Selects layers for one slot.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    goal: Option<Goal>,
    current: Option<Current>,
    frames: FrameWindow,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    encoding: u8,
    target: u8,
    /// The goal that `target` is the best for.
    reached: Goal,
}

impl Selector {
    /// Shows nothing, and wants nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is wanted from now on; `None` to stop at the next frame.
    pub fn set_goal(&mut self, goal: Option<Goal>) {
        self.goal = goal;
    }

    /// What is wanted.
    pub const fn goal(&self) -> Option<Goal> {
        self.goal
    }

    /// Forgets the stream: another source follows, or the stream went on elsewhere. Starts again at a key frame.
    pub fn restart(&mut self) {
        self.current = None;
        self.frames = FrameWindow::default();
    }

    /// The encoding whose packets go out.
    pub fn encoding(&self) -> Option<u8> {
        self.current.map(|c| c.encoding)
    }

    /// What goes out now, as the goal that it satisfies.
    pub fn reached(&self) -> Option<Goal> {
        self.current.map(|c| c.reached)
    }

    /// The encoding that a key frame is needed of before the goal can be reached.
    pub fn needs_key_frame(&self) -> Option<u8> {
        let goal = self.goal?;
        match self.current {
            Some(current) if current.encoding == goal.encoding => {
                (current.reached.spatial != goal.spatial).then_some(goal.encoding)
            }
            _ => Some(goal.encoding),
        }
    }

    /// Decides about a packet.
    pub fn select(&mut self, packet: &PacketLayers<'_>) -> Choice {
        if self.starts_at(packet) {
            return self.start(packet);
        }
        let Some(current) = self.current.filter(|c| c.encoding == packet.encoding) else { return Choice::NotShown };
        let Some((descriptor, structure)) = packet.descriptor else {
            if self.goal.is_none() {
                self.restart();
                return Choice::NotShown;
            }
            return Choice::Forward { starts: false, marker: packet.marker, active_targets: None };
        };
        let frame = descriptor.frame_number;
        let forwarded = match self.frames.place(frame) {
            Place::Decided { forwarded } => forwarded,
            Place::Forgotten => return Choice::LeaveOut,
            Place::Late => {
                // The target may have changed since: what refers to a frame that was left out is of no use.
                let forward = descriptor.indication(current.target) != Indication::NotPresent
                    && !self.frames.lacks_reference(frame, descriptor.diffs());
                self.frames.decide(frame, forward);
                forward
            }
            Place::New => {
                let Some(target) = self.move_on(current, packet, descriptor, structure) else {
                    self.restart();
                    return Choice::NotShown;
                };
                let forward = descriptor.indication(target) != Indication::NotPresent;
                self.frames.decide(frame, forward);
                forward
            }
        };
        if forwarded { self.forward(packet, false) } else { Choice::LeaveOut }
    }

    /// Whether this packet begins what is wanted.
    fn starts_at(&self, packet: &PacketLayers<'_>) -> bool {
        let wanted = self.goal.is_some_and(|goal| goal.encoding == packet.encoding);
        packet.starts_key_frame && wanted && self.encoding() != Some(packet.encoding)
    }

    fn start(&mut self, packet: &PacketLayers<'_>) -> Choice {
        let Some(goal) = self.goal else { return Choice::NotShown };
        self.frames = FrameWindow::default();
        let target = packet
            .descriptor
            .and_then(|(_, structure)| structure.best_target(packet.active_targets, goal.spatial, goal.temporal));
        if let Some((descriptor, _)) = packet.descriptor {
            self.frames.decide(descriptor.frame_number, true);
        }
        self.current = Some(Current { encoding: packet.encoding, target: target.unwrap_or_default(), reached: goal });
        self.forward(packet, true)
    }

    /// The target from this new frame on; `None` where nothing is wanted any more.
    fn move_on(
        &mut self,
        mut current: Current,
        packet: &PacketLayers<'_>,
        descriptor: &Descriptor,
        structure: &Structure,
    ) -> Option<u8> {
        let goal = self.goal?;
        // Another encoding was asked for: until its key frame comes this one goes on as it is.
        let goal = if goal.encoding == current.encoding { goal } else { current.reached };
        let wanted = structure.best_target(packet.active_targets, goal.spatial, goal.temporal)?;
        let can_switch = |target: u8| {
            structure.contained_in(current.target) & (1 << target) != 0
                || (descriptor.indication(target) == Indication::Switch
                    && self.frames.has_references(descriptor.frame_number, descriptor.diffs()))
        };
        if packet.starts_key_frame || wanted == current.target || can_switch(wanted) {
            (current.target, current.reached) = (wanted, goal);
        } else if structure.spatial(wanted) < structure.spatial(current.target) {
            // Going down a spatial layer has to wait: until then at least the temporal layers go.
            let lowest =
                structure.best_target(structure.contained_in(current.target), structure.spatial(current.target), 0);
            if let Some(lowest) = lowest.filter(|t| structure.spatial(*t) == structure.spatial(current.target)) {
                current.target = lowest;
                current.reached.temporal = 0;
            }
        }
        self.current = Some(current);
        Some(current.target)
    }

    fn forward(&self, packet: &PacketLayers<'_>, starts: bool) -> Choice {
        let (Some(current), Some((descriptor, structure))) = (self.current, packet.descriptor) else {
            return Choice::Forward { starts, marker: packet.marker, active_targets: None };
        };
        let ends_unit = descriptor.end_of_frame && descriptor.spatial >= structure.spatial(current.target);
        let decodable = structure.contained_in(current.target) & packet.active_targets;
        Choice::Forward {
            starts,
            marker: packet.marker || ends_unit,
            active_targets: (decodable != packet.active_targets && decodable != 0).then_some(decodable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::av1::synthetic::{self, Frame, Mode};

    /// A stream of one packet a frame, seen by one selector.
    struct Stream {
        mode: Mode,
        structure: Option<Structure>,
        selector: Selector,
        since_key: usize,
        number: u16,
    }

    #[derive(Debug, PartialEq, Eq, Clone, Copy)]
    struct Seen {
        spatial: u8,
        temporal: u8,
        choice: Choice,
    }

    impl Stream {
        fn new(mode: Mode, goal: (u8, u8)) -> Self {
            let mut selector = Selector::new();
            selector.set_goal(Some(Goal { encoding: 0, spatial: goal.0, temporal: goal.1 }));
            Self { mode, structure: None, selector, since_key: 0, number: 65_500 }
        }

        fn goal(&mut self, spatial: u8, temporal: u8) {
            self.selector.set_goal(Some(Goal { encoding: 0, spatial, temporal }));
        }

        fn pictures(&mut self, count: usize) -> Vec<Seen> {
            (0..count * self.mode.spatial()).map(|_| self.frame()).collect()
        }

        fn frame(&mut self) -> Seen {
            let frame = Frame { mode: self.mode, index: self.since_key, first: true, last: true, number: self.number };
            let bytes = synthetic::descriptor(&frame);
            let descriptor = Descriptor::read(&bytes, &mut self.structure).unwrap();
            let structure = self.structure.as_ref().unwrap();
            let choice = self.selector.select(&PacketLayers {
                encoding: 0,
                descriptor: Some((&descriptor, structure)),
                active_targets: structure.all_targets(),
                starts_key_frame: descriptor.starts_key_frame(),
                marker: frame.spatial() + 1 == self.mode.spatial(),
            });
            self.since_key += 1;
            self.number = self.number.wrapping_add(1);
            Seen { spatial: descriptor.spatial, temporal: descriptor.temporal, choice }
        }

        fn key_frame(&mut self) {
            self.since_key = 0;
        }
    }

    fn forwarded(seen: &[Seen]) -> Vec<(u8, u8)> {
        let went = |s: &&Seen| matches!(s.choice, Choice::Forward { .. });
        seen.iter().filter(went).map(|s| (s.spatial, s.temporal)).collect()
    }

    #[test]
    fn nothing_goes_out_before_a_key_frame() {
        let mut stream = Stream::new(Mode::L1T3, (0, 2));
        stream.selector.set_goal(None);
        assert_eq!(forwarded(&stream.pictures(4)), []);
        stream.goal(0, 2);
        assert_eq!(stream.selector.needs_key_frame(), Some(0));
        assert_eq!(forwarded(&stream.pictures(4)), []);
        stream.key_frame();
        let seen = stream.pictures(2);
        assert!(matches!(seen[0].choice, Choice::Forward { starts: true, .. }));
        assert!(matches!(seen[1].choice, Choice::Forward { starts: false, .. }));
        assert_eq!(stream.selector.needs_key_frame(), None);
    }

    #[test]
    fn temporal_layers_go_at_once_and_come_back_at_a_switch_point() {
        let mut stream = Stream::new(Mode::L1T3, (0, 2));
        assert_eq!(forwarded(&stream.pictures(5)).len(), 5);
        stream.goal(0, 0);
        assert_eq!(forwarded(&stream.pictures(7)), [(0, 0)]);
        stream.goal(0, 2);
        assert_eq!(stream.selector.needs_key_frame(), None);
        assert_eq!(forwarded(&stream.pictures(4)), [(0, 0), (0, 2), (0, 1), (0, 2)]);
    }

    #[test]
    fn a_temporal_layer_is_not_taken_up_in_the_middle_of_its_references() {
        let mut stream = Stream::new(Mode::L1T3, (0, 0));
        stream.pictures(2);
        // Pictures 2 (layer 1) and 3 (layer 2, refers to 2) follow; 2 is a switch point and refers to picture 0, which went out.
        stream.goal(0, 2);
        assert_eq!(forwarded(&stream.pictures(2)), [(0, 1), (0, 2)]);
        stream.goal(0, 0);
        stream.pictures(3);
        stream.goal(0, 2);
        // Picture 7 refers to 6, which was left out.
        assert_eq!(forwarded(&stream.pictures(2)), [(0, 0)]);
    }

    #[test]
    fn spatial_layers_go_at_any_frame_and_come_back_at_a_key_frame() {
        let mut stream = Stream::new(Mode::L3T3, (2, 2));
        assert_eq!(forwarded(&stream.pictures(4)).len(), 12);
        stream.goal(0, 2);
        assert!(forwarded(&stream.pictures(4)).iter().all(|(spatial, _)| *spatial == 0));
        stream.goal(2, 2);
        assert_eq!(stream.selector.needs_key_frame(), Some(0));
        assert!(forwarded(&stream.pictures(4)).iter().all(|(spatial, _)| *spatial == 0));
        stream.key_frame();
        assert_eq!(forwarded(&stream.pictures(4)).len(), 12);
        assert_eq!(stream.selector.needs_key_frame(), None);
    }

    #[test]
    fn independent_spatial_layers_wait_for_a_key_frame_even_downwards_but_shed_temporal_ones() {
        let mut stream = Stream::new(Mode::L3T3Key, (2, 2));
        stream.pictures(8);
        stream.goal(0, 2);
        assert_eq!(stream.selector.needs_key_frame(), Some(0));
        assert_eq!(forwarded(&stream.pictures(4)), [(2, 0)], "only what the current target needs least");
        stream.key_frame();
        assert_eq!(forwarded(&stream.pictures(4)), [(0, 0), (0, 2), (0, 1), (0, 2)]);
    }

    #[test]
    fn the_marker_stands_on_the_last_forwarded_layer_and_the_mask_tells_what_is_left() {
        let mut stream = Stream::new(Mode::L3T3, (1, 2));
        for seen in stream.pictures(6) {
            match seen.choice {
                Choice::Forward { marker, active_targets, .. } => {
                    assert_eq!(marker, seen.spatial == 1);
                    assert_eq!(active_targets, Some(0b11_1111));
                }
                Choice::LeaveOut => assert_eq!(seen.spatial, 2),
                Choice::NotShown => panic!("shown"),
            }
        }
    }

    #[test]
    fn another_encoding_starts_at_its_key_frame_and_the_old_one_goes_on_until_then() {
        let mut selector = Selector::new();
        let goal = |encoding| Some(Goal { encoding, spatial: 0, temporal: 0 });
        let packet = |encoding, starts_key_frame| PacketLayers {
            encoding,
            descriptor: None,
            active_targets: 0,
            starts_key_frame,
            marker: true,
        };
        let forward = |starts| Choice::Forward { starts, marker: true, active_targets: None };
        selector.set_goal(goal(0));
        assert_eq!(selector.select(&packet(0, true)), forward(true));
        selector.set_goal(goal(2));
        assert_eq!(selector.needs_key_frame(), Some(2));
        assert_eq!(selector.select(&packet(2, false)), Choice::NotShown);
        assert_eq!(selector.select(&packet(0, true)), forward(false));
        assert_eq!(selector.select(&packet(2, true)), forward(true));
        assert_eq!(selector.select(&packet(0, false)), Choice::NotShown);
    }

    /// Whatever is asked for and when: what goes out refers only to what went out.
    #[test]
    fn every_forwarded_frame_can_be_decoded() {
        use halloo_transport::random::Random;
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let mode = Mode::ALL[(random.next_u64() % 4) as usize];
            let mut stream = Stream::new(mode, (2, 2));
            let mut out = std::collections::HashSet::new();
            for _ in 0..400 {
                if random.next_f64() < 0.05 {
                    stream.goal((random.next_u64() % 3) as u8, (random.next_u64() % 3) as u8);
                }
                if stream.since_key.is_multiple_of(mode.spatial()) && random.next_f64() < 0.01 {
                    stream.key_frame();
                }
                let (number, index) = (stream.number, stream.since_key);
                let frame = Frame { mode, index, first: true, last: true, number };
                let seen = stream.frame();
                if !matches!(seen.choice, Choice::Forward { .. }) {
                    continue;
                }
                let read = Descriptor::read(&synthetic::descriptor(&frame), &mut stream.structure.clone()).unwrap();
                for diff in read.diffs() {
                    assert!(out.contains(&number.wrapping_sub(*diff)), "seed {seed} {mode:?} frame {index}");
                }
                out.insert(number);
            }
            assert!(out.len() > 40, "seed {seed}: {} frames", out.len());
        }
    }
}
