//! What is asked for again, repeated, padded and paced, and how much of it at most.

use super::{super::VideoWish, Command, Link, Meeting, Outbox, SourceKind};
use crate::{av1::synthetic::Mode, room::SlotKind};
use halloo_transport::{Bitrate, SeqNo, Timestamp};
use std::time::Duration;

const ALL_LARGE: u32 = 720;

fn meeting(people: usize, mode: Mode) -> Meeting {
    let mut meeting = Meeting::new(4, Link::CLEAN);
    for _ in 0..people {
        meeting.join(mode, 2, 8);
    }
    meeting
}

#[test]
fn what_is_lost_on_the_way_in_is_asked_for_once_for_all_who_miss_it() {
    let mut meeting = meeting(8, Mode::L1T3);
    meeting.run(500);
    meeting.clients[0].up.link = Link { loss: 0.1, ..Link::CLEAN };
    meeting.run(8_000);
    let lost = meeting.clients[0].up.lost;
    let asked = meeting.clients[0].sender.nacked;
    assert!(lost > 30, "{lost}");
    // Retransmissions are lost too, and what was lost last is not missed yet. Sound is not asked for.
    assert!((lost / 4..lost * 3 / 2).contains(&asked), "{asked} asked for, {lost} lost");
}

#[test]
fn who_asks_for_everything_again_and_again_gets_a_share() {
    let mut meeting = meeting(4, Mode::L3T3);
    meeting.run(2_000);
    let (id, before) = (meeting.clients[0].id, meeting.clients[0].other_bytes);
    let slots: Vec<_> = meeting.clients[0]
        .receiver
        .slots
        .iter()
        .filter(|s| s.config.kind == SlotKind::Video)
        .map(|s| s.config.ssrc)
        .collect();
    for _ in 0..300 {
        for ssrc in &slots {
            let newest = meeting.clients[0].receiver.newest(*ssrc);
            let Some(newest) = newest else { continue };
            let all: Vec<SeqNo> = (newest.saturating_sub(300)..=newest).map(SeqNo).collect();
            let nack = super::super::messages::negative_acknowledgement(halloo_transport::Ssrc(1), ssrc.0, &all);
            let mut out = Outbox::default();
            meeting.room.handle_rtcp(meeting.now, id, &nack, &mut out);
            meeting.carry(out);
        }
        meeting.run(10);
    }
    let repeated = meeting.clients[0].other_bytes - before;
    let target = meeting.room.subscribers[0].as_ref().unwrap().congestion.target();
    let most = target.scale(0.25).bytes_in(Duration::from_millis(3_500)) as usize + 10_000;
    assert!((most / 10..most).contains(&repeated), "{repeated} bytes of {most}");
}

#[test]
fn padding_goes_out_only_where_more_is_wanted() {
    let mut meeting = Meeting::new(5, Link::CLEAN);
    meeting.limits.start_receive = Bitrate::from_kbps(500);
    for _ in 0..4 {
        meeting.join(Mode::L3T3, 2, 8);
    }
    let show = |meeting: &mut Meeting, height: u32| {
        let wish = |of| VideoWish {
            source: meeting.source(of, SourceKind::Camera),
            width: height * 16 / 9,
            height,
            pinned: false,
        };
        let wishes = (1..4).map(wish).collect();
        meeting.command(Command::Show { by: meeting.clients[0].id, wishes, others: (0, 0) });
    };
    let padding = |meeting: &Meeting| meeting.room.subscribers[0].as_ref().unwrap().counts.padding;
    show(&mut meeting, 90);
    meeting.run(4_000);
    let small = padding(&meeting);
    meeting.run(6_000);
    assert_eq!(padding(&meeting), small, "small pictures fit what is known");
    show(&mut meeting, ALL_LARGE);
    meeting.run(4_000);
    let large = padding(&meeting);
    assert!(large > small, "larger ones have to be probed for");
    meeting.run(6_000);
    assert_eq!(padding(&meeting), large, "and once they fit there is nothing to probe for");
}

#[test]
fn a_large_key_frame_is_spread_over_a_narrow_link() {
    let mut meeting = Meeting::new(6, Link::CLEAN);
    meeting.limits.start_receive = Bitrate::from_kbps(500);
    for _ in 0..2 {
        let index = meeting.join(Mode::L1T3, 2, 2);
        let sender = &mut meeting.clients[index].sender;
        // 400 kbit/s, with key frames of 50 kB.
        (sender.picture_bytes, sender.key_factor) = (1_600, 30);
    }
    meeting.set_links(0, Link::narrow(1_500));
    meeting.run(5_000);
    let from = meeting.now;
    for _ in 0..4 {
        meeting.clients[1].sender.key_wanted = true;
        meeting.run(2_000);
    }
    let down = &meeting.clients[0].down;
    let longest = down.waits.iter().filter(|(at, _)| *at > from).map(|(_, wait)| *wait).max().unwrap();
    assert!(longest < Duration::from_millis(120), "50 kB would take 270 ms at once: {longest:?}");
    let frames = |from: Timestamp| {
        let slots = meeting.clients[0].receiver.slots.iter();
        slots.flat_map(|s| s.check(meeting.now).times).filter(|(at, _)| *at > from).count()
    };
    let rate = frames(from) as f64 / meeting.now.since(from).as_secs_f64();
    assert!(rate > 20.0, "{rate} frames a second");
}
