//! What a subscriber behind a narrow or a bad link gets in a room of nine, and that nobody else notices.

use super::{super::VideoWish, Command, Link, Meeting, SourceKind};
use crate::{av1::synthetic::Mode, room::Limits};
use halloo_transport::{Bitrate, Timestamp};
use std::time::Duration;

const PEOPLE: usize = 9;
/// Whose link it is, and whom it pins.
const NARROW: usize = 0;
const PINNED: usize = 1;

/// Nine people with three spatial and three temporal layers each, of 130, 260 and 500 kbit/s; all of them speak. The first one
/// joins last, over `link`, pins the second and shows the rest small.
struct Nine {
    meeting: Meeting,
    joined: Timestamp,
}

impl Nine {
    fn new(seed: u64, link: Link) -> Self {
        let mut meeting = Meeting::new(seed, Link { delay_ms: 10, ..Link::CLEAN });
        meeting.limits = Limits { publish: Bitrate::from_kbps(50_000), ..Limits::default() };
        let add = |meeting: &mut Meeting| {
            let index = meeting.join(Mode::L3T3, 3, 8);
            let sender = &mut meeting.clients[index].sender;
            (sender.picture_bytes, sender.key_factor) = (450, 6);
            index
        };
        // Places in the table are in order of joining: the narrow one's is taken first, and its media starts later.
        add(&mut meeting);
        meeting.set_links(NARROW, link);
        meeting.command(Command::Disconnected(meeting.clients[NARROW].id));
        for _ in 1..PEOPLE {
            add(&mut meeting);
        }
        meeting.run(3_000);
        let mut nine = Self { joined: meeting.now, meeting };
        let id = nine.meeting.clients[NARROW].id;
        nine.meeting.command(Command::Connected(id));
        nine.show(PINNED);
        nine
    }

    fn show(&mut self, pinned: usize) {
        let wish = |of: usize| {
            let height = if of == pinned { 720 } else { 180 };
            let source = self.meeting.source(of, SourceKind::Camera);
            VideoWish { source, width: height * 16 / 9, height, pinned: of == pinned }
        };
        let wishes = (1..PEOPLE).map(wish).collect();
        self.meeting.command(Command::Show { by: self.meeting.clients[NARROW].id, wishes, others: (0, 0) });
    }

    /// Seconds since the first one joined.
    fn at(&self, seconds: u64) -> Timestamp {
        self.joined + Duration::from_secs(seconds)
    }

    fn run_to(&mut self, seconds: u64) {
        while self.at(seconds) > self.meeting.now {
            self.meeting.run(100);
            if std::env::var_os("HALLOO_TRACE").is_some() {
                self.trace();
            }
        }
    }

    /// With `HALLOO_TRACE` set: the first one's state ten times a second.
    fn trace(&self) {
        let now = self.meeting.now;
        let snapshot = self.meeting.room.snapshot(now);
        let receives = &snapshot.participants[NARROW].receives;
        let of = self.meeting.source(PINNED, SourceKind::Camera).participant().get();
        let pinned = receives.slots.iter().find(|s| s.kind == "video" && s.shows.is_some_and(|s| s.participant == of));
        let wait = self.meeting.clients[NARROW].down.waits.last().map(|(_, wait)| wait.as_millis());
        let layers = |l: Option<crate::room::snapshot::Layers>| l.map(|l| (l.spatial, l.temporal));
        println!(
            "{:6.1} s: target {:4.0} capacity {:?} audio {:.0} link queue {wait:?} ms, seen {:.0} ms, paced {} B, {}{}padding {} \
             cut {} loss {:.2}: {:?} of {:?}, {}",
            now.since(self.joined).as_secs_f64(),
            receives.target_kbps,
            receives.capacity_kbps,
            receives.audio_kbps,
            receives.queue_ms,
            receives.paced_bytes,
            if receives.draining { "draining " } else { "" },
            if receives.application_limited { "limited " } else { "" },
            receives.padding,
            receives.cut,
            receives.loss,
            pinned.and_then(|s| layers(s.current)),
            pinned.and_then(|s| layers(s.given)),
            pinned.map_or("", |s| s.why),
        );
    }

    fn change(&mut self, link: Link) {
        self.meeting.clients[NARROW].down.link = link;
    }

    fn target(&self) -> Bitrate {
        self.meeting.room.subscribers[NARROW].as_ref().unwrap().congestion.target()
    }

    /// The largest number of kilobits that were sent to the first one in any second.
    fn busiest_second(&self, from: Timestamp) -> f64 {
        let mut window = std::collections::VecDeque::new();
        let (mut most, mut sum) = (0, 0);
        for (at, size) in self.meeting.clients[NARROW].sent.iter().filter(|(at, _)| *at >= from) {
            window.push_back((*at, *size));
            sum += size;
            while window.front().is_some_and(|(then, _)| at.since(*then) >= Duration::from_secs(1)) {
                sum -= window.pop_front().map_or(0, |(_, size)| size);
            }
            most = most.max(sum);
        }
        most as f64 * 8.0 / 1_000.0
    }

    /// Frames a second that a client could decode of another's camera.
    fn frame_rate(&self, by: usize, of: usize, from: Timestamp, until: Timestamp) -> f64 {
        let csrc = self.meeting.source(of, SourceKind::Camera).csrc();
        let mut times = Vec::new();
        for slot in &self.meeting.clients[by].receiver.slots {
            let decoded = slot.check(until);
            assert_eq!(decoded.broken, 0);
            // Spatial layers of one picture come together.
            times.extend(decoded.times.iter().filter(|(at, c)| *c == csrc && *at >= from).map(|(at, _)| *at));
        }
        times.sort_unstable();
        times.dedup_by(|a, b| a.since(*b) < Duration::from_millis(12));
        times.len() as f64 / until.since(from).as_secs_f64()
    }

    /// Longest time without a picture of another's camera.
    fn longest_freeze(&self, of: usize, from: Timestamp, until: Timestamp) -> Duration {
        let csrc = self.meeting.source(of, SourceKind::Camera).csrc();
        let slots = self.meeting.clients[NARROW].receiver.slots.iter();
        let mut times: Vec<Timestamp> =
            slots.flat_map(|s| s.check(until).times).filter(|t| t.1 == csrc).map(|t| t.0).collect();
        times.sort_unstable();
        let inside = times.into_iter().filter(|at| *at >= from).chain([until]);
        let (_, longest) = inside.fold((from, Duration::ZERO), |(last, longest), at| (at, longest.max(at.since(last))));
        longest
    }

    /// Share of sound that a jitter buffer conceals: what never came, and what came later than the buffer waits, which follows
    /// the slowest packet lately by a hundredth of the time.
    fn concealed(&self, from: Timestamp, until: Timestamp) -> f64 {
        let (mut all, mut bad) = (0, 0);
        for slot in self.meeting.clients[NARROW].receiver.slots.iter().take(3) {
            let (came, missing) = slot.received_and_missing(from, until);
            let delay = |p: &super::receiver::Packet| p.arrived.as_millis_f64() - f64::from(p.timestamp) / 48.0;
            let packets = slot.packets.values().filter(|p| (from..until).contains(&p.arrived));
            let delays: Vec<f64> = packets.map(delay).collect();
            let (mut waits, mut late) = (delays.first().copied().unwrap_or_default() + 40.0, 0);
            for delay in delays {
                if delay > waits {
                    late += 1;
                    waits = delay;
                } else {
                    waits = (waits - 0.2).max(delay + 40.0);
                }
            }
            all += came + missing;
            bad += missing + late;
        }
        assert!(all as f64 > until.since(from).as_secs_f64() * 100.0, "{all} packets of sound");
        bad as f64 / all as f64
    }

    /// Pictures that the others got of each other.
    fn others_frames(&self, from: Timestamp, until: Timestamp) -> usize {
        let frames = |of: usize| {
            let slots = self.meeting.clients[of].receiver.slots.iter();
            slots.flat_map(|s| s.check(until).times).filter(|(at, _)| *at >= from).count()
        };
        (1..PEOPLE).map(frames).sum()
    }

    fn key_requests(&self) -> usize {
        self.meeting.clients[1..].iter().map(|c| c.sender.key_requests).sum()
    }
}

#[test]
fn at_300_kbits_sound_is_whole_the_pinned_picture_moves_and_nobody_else_notices() {
    for seed in 0..6 {
        let mut nine = Nine::new(seed, Link::narrow(300));
        nine.run_to(30);
        let (from, until) = (nine.at(3), nine.at(30));
        let busiest = nine.busiest_second(from);
        let (all, settled) = (nine.concealed(nine.at(0), until), nine.concealed(from, until));
        let rate = nine.frame_rate(NARROW, PINNED, from, until);
        let freeze = nine.longest_freeze(PINNED, nine.at(0), until);
        let waits = &nine.meeting.clients[NARROW].down.waits;
        let mut waits: Vec<Duration> = waits.iter().filter(|(at, _)| *at > from).map(|(_, d)| *d).collect();
        waits.sort_unstable();
        let p95 = waits[waits.len() * 95 / 100];
        println!(
            "seed {seed}: busiest second {busiest:.0} kbit/s, concealed {:.2} % ({:.2} % from the start), pinned {rate:.1} fps, \
             longest freeze {freeze:?}, queue p95 {p95:?}, target {:?}",
            settled * 100.0,
            all * 100.0,
            nine.target()
        );
        assert!(busiest <= 300.0, "{busiest}");
        assert!(all < 0.02, "{all}");
        assert!(settled < 0.002, "{settled}");
        assert!(rate >= 7.0, "{rate}");
        assert!(freeze < Duration::from_millis(1_500), "{freeze:?}");
        assert!(p95 < Duration::from_millis(80), "{p95:?}");

        let mut free = Nine::new(seed, Link { delay_ms: 25, ..Link::CLEAN });
        free.run_to(30);
        let (beside, alone) = (nine.others_frames(from, until) as f64, free.others_frames(from, until) as f64);
        assert!((beside / alone - 1.0).abs() < 0.02, "{beside} frames of others beside it, {alone} without");
        let (asked, asked_without) = (nine.key_requests(), free.key_requests());
        assert!(asked <= asked_without + 12, "{asked} key frames asked for, {asked_without} without it");
    }
}

#[test]
fn a_joiner_reaches_what_it_can_use_in_seconds() {
    for (kbps, seconds, enough) in [(300, 2, 200), (1_000, 2, 700), (5_000, 3, 3_000)] {
        for seed in 0..4 {
            let mut nine = Nine::new(seed, Link::narrow(kbps));
            nine.run_to(seconds);
            let target = nine.target();
            println!("{kbps} kbit/s, seed {seed}: target {target:?} after {seconds} s");
            assert!((enough..kbps + kbps / 10).contains(&(target.as_bps() / 1_000)), "{kbps}: {target:?}");
            let first = nine.longest_freeze(PINNED, nine.at(0), nine.at(seconds));
            assert!(first < Duration::from_millis(1_500), "{kbps}: nothing for {first:?}");
        }
    }
}

#[test]
fn after_a_drop_to_300_kbits_and_back_pictures_are_back_within_seconds() {
    for seed in 0..6 {
        let mut nine = Nine::new(seed, Link::narrow(2_000));
        nine.run_to(8);
        assert!(nine.target() > Bitrate::from_kbps(1_400), "{:?}", nine.target());
        nine.change(Link::narrow(300));
        nine.run_to(24);
        let (from, until) = (nine.at(8), nine.at(24));
        let low = nine.target();
        let freeze = nine.longest_freeze(PINNED, from, until);
        let rate = nine.frame_rate(NARROW, PINNED, nine.at(12), until);
        let (concealed, busiest) = (nine.concealed(from, until), nine.busiest_second(nine.at(11)));
        nine.change(Link::narrow(2_000));
        let back = (24..40).find(|second| {
            nine.run_to(*second);
            nine.target() > Bitrate::from_kbps(1_500)
        });
        println!(
            "seed {seed}: low {low:?}, pinned {rate:.1} fps, longest freeze {freeze:?}, concealed {:.2} %, busiest {busiest:.0}, \
             back at {back:?} of 24 s",
            concealed * 100.0
        );
        assert!((Bitrate::from_kbps(200)..Bitrate::from_kbps(310)).contains(&low), "{low:?}");
        assert!(freeze < Duration::from_millis(2_500), "{freeze:?}");
        assert!(rate >= 7.0, "{rate}");
        assert!(concealed < 0.06, "{concealed}");
        // While it looks for more, a second may have a tenth over what the link carries.
        assert!(busiest <= 330.0, "{busiest}");
        assert!(back.is_some_and(|second| second <= 29), "{back:?}");
        let shown = (1..PEOPLE).filter(|of| {
            nine.run_to(40);
            nine.frame_rate(NARROW, *of, nine.at(33), nine.at(40)) > 5.0
        });
        assert_eq!(shown.count(), PEOPLE - 1, "all pictures are back");
    }
}

#[test]
fn pictures_return_although_every_one_was_taken_away() {
    for seed in 0..4 {
        let mut nine = Nine::new(seed, Link::narrow(1_500));
        nine.meeting.clients.iter_mut().for_each(|c| c.silent = true);
        nine.run_to(6);
        nine.change(Link { queue_ms: 200, ..Link::narrow(30) });
        nine.run_to(20);
        let (from, until) = (nine.at(14), nine.at(20));
        let shown: f64 = (1..PEOPLE).map(|of| nine.frame_rate(NARROW, of, from, until)).sum();
        nine.change(Link::narrow(1_500));
        nine.run_to(30);
        let back = nine.frame_rate(NARROW, PINNED, nine.at(26), nine.at(30));
        println!(
            "seed {seed}: {shown:.1} frames a second while at 30 kbit/s, then {back:.1}, target {:?}",
            nine.target()
        );
        assert!(shown < 8.0, "hardly anything fits into 30 kbit/s: {shown}");
        assert!(back >= 15.0, "{back}");
    }
}

#[test]
fn loss_jitter_and_reordering_cost_no_bitrate() {
    let lossy = |loss| Link { loss, delay_ms: 40, ..Link::CLEAN };
    let links = [lossy(0.05), lossy(0.10), Link { jitter_ms: 30, delay_ms: 20, ..Link::CLEAN }];
    for link in links {
        for seed in 0..3 {
            let mut nine = Nine::new(seed, link);
            // Loss is on the way down; what goes up is another matter.
            nine.meeting.clients[NARROW].up.link = Link { delay_ms: link.delay_ms, ..Link::CLEAN };
            nine.run_to(20);
            let (from, until) = (nine.at(4), nine.at(19));
            let rate = nine.frame_rate(NARROW, PINNED, from, until);
            let freeze = nine.longest_freeze(PINNED, from, until);
            let other =
                nine.meeting.clients[NARROW].other_bytes as f64 / nine.meeting.clients[NARROW].media_bytes as f64;
            println!(
                "{link:?} seed {seed}: pinned {rate:.1} fps, longest freeze {freeze:?}, target {:?}, {:.0} % repeated or padding",
                nine.target(),
                other * 100.0
            );
            assert!(nine.target() > Bitrate::from_kbps(2_000), "{link:?} {:?}", nine.target());
            assert!(rate > 28.0, "{link:?} {rate}");
            assert!(freeze < Duration::from_millis(700), "{link:?} {freeze:?}");
            assert!(other < link.loss * 1.6 + 0.06, "{link:?}: {other} repeated or padding");
        }
    }
}

#[test]
fn nothing_larger_than_the_limits_is_forwarded() {
    let mut nine = Nine::new(1, Link::CLEAN);
    nine.run_to(1);
    let subscriber = nine.meeting.room.subscribers[2].as_mut().unwrap();
    // What a room's limits say.
    (subscriber.limits.max_height, subscriber.limits.max_receive) = (180, Bitrate::from_kbps(100_000));
    let id = nine.meeting.clients[2].id;
    let source = nine.meeting.source(PINNED, SourceKind::Camera);
    let wishes = vec![VideoWish { source, width: 1_280, height: 720, pinned: true }];
    nine.meeting.command(Command::Show { by: id, wishes, others: (0, 0) });
    nine.run_to(3);
    let subscriber = nine.meeting.room.subscribers[2].as_ref().unwrap();
    let shown = subscriber.slots.iter().find(|s| s.showing == Some(source)).unwrap();
    assert_eq!(shown.stream.selected().reached().map(|goal| goal.spatial), Some(0));
}
