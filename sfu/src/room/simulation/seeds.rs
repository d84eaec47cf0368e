//! Meetings of people who act at random, one a seed: a list of operations is drawn, played, and printed where something that
//! must hold does not.
//!
//! `HALLOO_SEEDS` sets how many are run (a few hundred by default in each of the three kinds of networks), `HALLOO_SEED` runs
//! one.

use super::{super::VideoWish, Command, Grants, Link, Meeting, SourceId, SourceKind};
use crate::av1::synthetic::Mode;
use halloo_transport::{Timestamp, random::Random};
use std::time::Duration;

/// What happens in a meeting.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Operation {
    /// Somebody speaks, and everybody else is silent.
    Speak(usize),
    Mute(usize, SourceKind, bool),
    Publish(usize, SourceKind, bool),
    /// Somebody shows another's camera pinned, at this height, and the first one's.
    Show(usize, usize, u32),
    /// A camera sends pictures, or none.
    Camera(usize),
    Join(Mode, Grants),
    Leave(usize),
    /// The transport of somebody goes down and comes back.
    Reconnect(usize),
    /// The network to somebody changes.
    Network(usize, Link),
}

/// What networks a meeting's people have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Networks {
    Clean,
    /// They lose and reorder.
    Lossy,
    /// Some are narrow.
    Narrow,
}

impl Networks {
    fn draw(self, random: &mut Random) -> Link {
        let one_of = |random: &mut Random, values: &[u64]| values[(random.next_u64() % values.len() as u64) as usize];
        match self {
            Self::Clean => Link { delay_ms: 10, ..Link::CLEAN },
            Self::Lossy => {
                let loss = one_of(random, &[1, 3, 8]) as f64 / 100.0;
                Link { loss, delay_ms: 10, jitter_ms: 15, ..Link::CLEAN }
            }
            Self::Narrow => {
                let kbps = one_of(random, &[0, 250, 600, 1_500, 4_000]);
                Link { queue_ms: one_of(random, &[100, 300, 800]), delay_ms: 20, kbps, ..Link::CLEAN }
            }
        }
    }
}

const MAX_PEOPLE: usize = 8;

fn draw(random: &mut Random, people: usize, networks: Networks) -> Operation {
    let mut below = |n: usize| (random.next_u64() % n as u64) as usize;
    let (who, other, yes) = (below(people), below(people), below(2) == 0);
    let video = if below(4) == 0 { SourceKind::Screen } else { SourceKind::Camera };
    let kind = [video, SourceKind::Microphone][below(2)];
    match below(12) {
        0 | 1 => Operation::Speak(who),
        2 => Operation::Mute(who, kind, yes),
        3 => Operation::Publish(who, kind, yes),
        4..=6 => Operation::Show(who, other, [0, 90, 180, 360, 720][below(5)]),
        7 => Operation::Camera(who),
        8 => Operation::Leave(who),
        9 | 10 if people < MAX_PEOPLE => {
            let grants = match below(6) {
                0 => Grants { subscribe: false, ..Grants::ALL },
                1 => Grants { microphone: false, camera: false, ..Grants::ALL },
                _ => Grants::ALL,
            };
            Operation::Join(Mode::ALL[below(4)], grants)
        }
        11 if networks == Networks::Narrow => Operation::Network(who, networks.draw(random)),
        _ => Operation::Reconnect(who),
    }
}

fn perform(meeting: &mut Meeting, operation: Operation) {
    let present = |meeting: &Meeting, who: usize| meeting.clients.get(who).is_some_and(|c| c.present);
    match operation {
        Operation::Join(mode, grants) => {
            meeting.join_with(mode, 2, 3, grants);
        }
        Operation::Speak(who) => {
            meeting.clients.iter_mut().for_each(|c| c.sender.level = 100);
            meeting.clients[who].sender.level = 30;
        }
        Operation::Camera(who) => meeting.clients[who].camera ^= true,
        Operation::Network(who, link) => meeting.clients[who].down.link = link,
        Operation::Mute(who, kind, muted) if present(meeting, who) => {
            meeting.command(Command::Mute { source: meeting.source(who, kind), muted });
        }
        Operation::Publish(who, kind, published) if present(meeting, who) => {
            meeting.command(Command::Publish { source: meeting.source(who, kind), published });
        }
        Operation::Show(who, other, height) if present(meeting, who) => {
            let wish = |source: SourceId, pinned| VideoWish { source, width: height * 16 / 9, height, pinned };
            let camera = |of| meeting.source(of, SourceKind::Camera);
            let wishes = vec![wish(camera(other), true), wish(camera(0), false)];
            meeting.command(Command::Show { by: meeting.clients[who].id, wishes, others: (320, 180) });
        }
        Operation::Leave(who) if present(meeting, who) && meeting.room.len() > 3 => meeting.leave(who),
        Operation::Reconnect(who) if present(meeting, who) => {
            let id = meeting.clients[who].id;
            meeting.disturbed(who);
            meeting.command(Command::Connected(id));
        }
        _ => {}
    }
}

/// Plays one meeting and checks it; gives how many frames could be decoded.
fn play(seed: u64, networks: Networks, ms: u64) -> usize {
    const PAUSE: u64 = 250;
    let mut random = Random::new(seed ^ 0x5eed);
    let mut meeting = Meeting::new(seed, Networks::Clean.draw(&mut random));
    println!("seed {seed}, {networks:?}");
    for i in 0..4 {
        let index = meeting.join(Mode::ALL[(seed as usize + i) % 4], 2, 3);
        meeting.set_links(index, networks.draw(&mut random));
    }
    for _ in 0..ms / PAUSE {
        meeting.run(PAUSE);
        let operation = draw(&mut random, meeting.clients.len(), networks);
        println!("{:?} {operation:?}", meeting.now);
        let before = meeting.clients.len();
        perform(&mut meeting, operation);
        if meeting.clients.len() > before {
            meeting.set_links(before, networks.draw(&mut random));
        }
        check_bounds(&meeting);
    }
    meeting.run(800);
    meeting.check_sent();
    let mut frames = 0;
    let until = meeting.now - Duration::from_millis(800);
    for client in &meeting.clients {
        for slot in &client.receiver.slots {
            let decoded = slot.check(until);
            assert_eq!(decoded.broken, 0, "{:?} {decoded:?}", slot.config.ssrc);
            assert!(networks != Networks::Clean || decoded.lost == 0, "{:?} {decoded:?}", slot.config.ssrc);
            frames += decoded.frames;
        }
    }
    frames
}

/// What the room holds, and what it sends to each, stays within bounds.
fn check_bounds(meeting: &Meeting) {
    let bytes = meeting.room.history_bytes();
    assert!(bytes < 12 << 20, "{bytes} bytes of history");
    let second_ago = Timestamp::from_micros(meeting.now.as_micros().saturating_sub(1_000_000));
    for client in meeting.clients.iter().filter(|c| c.present) {
        let sent: usize = client.sent.iter().rev().take_while(|(at, _)| *at > second_ago).map(|(_, size)| size).sum();
        // The highest target, what may be sent at once over it, and sound, which never waits.
        let most = meeting.limits.max_receive.bytes_in(Duration::from_secs(1)) as usize * 5 / 4 + 40_000;
        assert!(sent < most, "{sent} bytes in a second to {:?}", client.id);
        let other = client.other_bytes;
        assert!(other < client.media_bytes / 2 + 600_000, "{other} bytes beside {} of media", client.media_bytes);
    }
}

fn run(networks: Networks, default: u64, ms: u64, least: usize) {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("HALLOO_SEED") {
        play(seed, networks, ms);
        return;
    }
    for seed in 0..number("HALLOO_SEEDS").unwrap_or(default) {
        let frames = play(seed, networks, ms);
        assert!(frames > least, "seed {seed}: {frames} frames");
    }
}

#[test]
fn meetings_on_clean_links() {
    run(Networks::Clean, 700, 2_500, 100);
}

#[test]
fn meetings_on_links_that_lose_and_reorder() {
    run(Networks::Lossy, 700, 2_500, 40);
}

#[test]
fn meetings_on_links_that_are_narrow() {
    run(Networks::Narrow, 600, 3_000, 5);
}
