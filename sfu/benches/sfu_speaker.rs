//! How soon the dominant speaker switches after speech starts, and whether short bursts make it switch.
//!
//! Levels are computed as RFC 6464 asks from recorded speech (the words that Debian's alsa-utils brings), 20 ms at a time. In
//! each of many rooms people take turns after a pause of random length, beginning at a random word, over the background noise
//! of everybody else; the time counts from the first 20 ms above the background. A burst is a piece of such speech of up to
//! 400 ms, or as much steady noise, in a pause or over the speaker. A mistake is a switch to somebody who did not speak.
//!
//! Background noise is steady (within 6 dB), or it varies by 20 dB: from one 20 ms to the next, or in swells of 2 to 6 seconds as
//! of cars that pass. What varies is louder, up to -46 dBov, and speech counts from above it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure stops")]
#![allow(unreachable_pub, missing_docs, reason = "a program")]

use std::{f64::consts::TAU, fs, process::exit};

use halloo_sfu::speaker::Dominant;
use halloo_transport::{Timestamp, random::Random};

const FOLDER: &str = "/usr/share/sounds/alsa";
const WORDS: [&str; 8] =
    ["Front_Center", "Front_Left", "Front_Right", "Rear_Center", "Rear_Left", "Rear_Right", "Side_Left", "Side_Right"];
const TICK_MS: u64 = 20;
const TICK_SAMPLES: usize = 960;
/// Above this level (a smaller number) is speech.
const BACKGROUND: u8 = 60;
/// The loudest background.
const QUIET: u64 = 66;
/// The loudest background that varies.
const LOUD: u8 = 46;
const PEOPLE: usize = 6;
const ROOMS: u64 = 500;
const REACH_P95_MS: f64 = 1_000.0;

fn main() {
    let words: Vec<Vec<u8>> = WORDS.iter().filter_map(|word| levels(&format!("{FOLDER}/{word}.wav"))).collect();
    if words.len() < WORDS.len() {
        eprintln!("recorded words are missing in {FOLDER} (Debian: apt-get install alsa-utils): nothing is measured");
        exit(1);
    }
    measure(&words, Noise::Steady, "");
    measure(&words, Noise::Fast, "_in_fast_noise");
    measure(&words, Noise::Swelling, "_in_swelling_noise");
}

fn measure(words: &[Vec<u8>], noise: Noise, suffix: &str) {
    let turns: Vec<Turns> = (0..ROOMS).map(|seed| Room::new(seed, noise).take_turns(words, 6)).collect();
    let mut delays: Vec<u64> = turns.iter().flat_map(|turns| turns.delays.iter().copied()).collect();
    delays.sort_unstable();
    let p95 = delays[delays.len() * 95 / 100] as f64;
    let median = delays[delays.len() / 2] as f64;
    let unit = "ms from the start of speech";
    row(&format!("speaker_switch_p95{suffix}"), p95, unit, "their median", median, REACH_P95_MS);
    let mistakes = turns.iter().map(|turns| turns.mistakes).sum::<usize>() as f64;
    row(&format!("speaker_mistakes{suffix}"), mistakes, "switches to noise", "turns", delays.len() as f64, 0.0);
    let switches = (0..ROOMS).map(|seed| Room::new(seed, noise).bursts(words, 20)).sum::<usize>() as f64;
    let (name, asked) = (format!("speaker_switches_by_bursts{suffix}"), ROOMS as f64 * 20.0);
    row(&name, switches, "switches by bursts of up to 400 ms", "bursts", asked, 0.0);
}

/// RFC 6464 levels of a WAV file of 48 kHz, mono, 16 bits, in steps of 20 ms.
fn levels(path: &str) -> Option<Vec<u8>> {
    let file = fs::read(path).ok()?;
    let data = file.windows(4).position(|window| window == b"data")? + 8;
    let samples: Vec<f64> =
        file.get(data..)?.chunks_exact(2).map(|b| f64::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0).collect();
    let level = |tick: &[f64]| {
        let power = tick.iter().map(|sample| sample * sample).sum::<f64>() / tick.len() as f64;
        (-10.0 * power.max(1e-13).log10()).clamp(0.0, 127.0) as u8
    };
    Some(samples.chunks_exact(TICK_SAMPLES).map(level).collect())
}

/// The background of everybody who does not speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Noise {
    Steady,
    Fast,
    Swelling,
}

/// What came of people who took turns.
struct Turns {
    /// How long each switch took.
    delays: Vec<u64>,
    /// Switches to somebody who did not speak.
    mistakes: usize,
}

/// People in a room, 20 ms after 20 ms.
struct Room {
    dominant: Dominant,
    random: Random,
    tick: u64,
    noise: Noise,
    /// Everybody's background at its loudest.
    noises: [u8; PEOPLE],
    /// The period, in seconds, and the phase in which it swells.
    swells: [(f64, f64); PEOPLE],
    /// When somebody became dominant, and who.
    switches: Vec<(u64, usize)>,
}

impl Room {
    fn new(seed: u64, noise: Noise) -> Self {
        let mut random = Random::new(seed + 1);
        let noises = std::array::from_fn(|_| match noise {
            Noise::Steady => (QUIET + random.next_u64() % 15) as u8,
            Noise::Fast | Noise::Swelling => LOUD + (random.next_u64() % 8) as u8,
        });
        // A steady room draws no more than it did before others were measured, so that its figures stay comparable.
        let mut swell = |_| (2.0 + 4.0 * random.next_f64(), TAU * random.next_f64());
        let swells = if noise == Noise::Steady { [(1.0, 0.0); PEOPLE] } else { std::array::from_fn(&mut swell) };
        Self { dominant: Dominant::new(), random, tick: 0, noise, noises, swells, switches: Vec::new() }
    }

    /// The level of somebody's background.
    fn background(&mut self, person: usize) -> u8 {
        let loudest = self.noises[person];
        match self.noise {
            Noise::Steady => loudest + self.below(7) as u8,
            Noise::Fast => loudest + self.below(21) as u8,
            Noise::Swelling => {
                let (period, phase) = self.swells[person];
                let seconds = (TICK_MS * self.tick) as f64 / 1_000.0;
                let swell = 10.0 + 10.0 * (TAU * seconds / period + phase).sin();
                loudest + swell as u8 + self.below(4) as u8
            }
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    /// 20 ms in which these are at these levels, and everybody else makes background noise.
    fn tick(&mut self, voices: &[(usize, u8)]) {
        self.tick += 1;
        let now = Timestamp::from_millis(TICK_MS * self.tick);
        for person in 0..PEOPLE {
            let noise = self.background(person);
            let voice = voices.iter().find(|(who, _)| *who == person).map(|(_, level)| *level);
            let level = voice.map_or(noise, |level| level.min(noise));
            self.dominant.on_level(now, person, (TICK_SAMPLES as u64 * self.tick) as u32, level);
        }
        if let Some(speaker) = self.dominant.poll(now) {
            self.switches.push((TICK_MS * self.tick, speaker));
        }
    }

    fn pause(&mut self, ms: u64) {
        (0..ms / TICK_MS).for_each(|_| self.tick(&[]));
    }

    /// Speech of about so many milliseconds from random words; when the first sound above the background came.
    fn speak(&mut self, words: &[Vec<u8>], who: usize, ms: u64) -> u64 {
        let until = self.tick + ms / TICK_MS;
        let background = if self.noise == Noise::Steady { BACKGROUND } else { LOUD };
        let mut start = None;
        while self.tick < until {
            let word = &words[self.below(words.len() as u64) as usize];
            for level in word {
                if *level < background {
                    start.get_or_insert(TICK_MS * self.tick);
                }
                self.tick(&[(who, *level)]);
            }
        }
        start.expect("speech is above the background")
    }

    /// Lets people speak in turn.
    fn take_turns(&mut self, words: &[Vec<u8>], turns: usize) -> Turns {
        let mut speaker = 0;
        self.speak(words, speaker, 4_000);
        let (mut delays, mut mistakes) = (Vec::new(), 0);
        for _ in 0..turns {
            self.switches.clear();
            let pause = self.below(1_000);
            self.pause(pause);
            let before = speaker;
            speaker = (speaker + 1 + self.below(PEOPLE as u64 - 1) as usize) % PEOPLE;
            let start = self.speak(words, speaker, 4_000);
            mistakes += self.switches.iter().filter(|(_, who)| *who != speaker && *who != before).count();
            let at = self.switches.iter().find(|(_, who)| *who == speaker).map(|(at, _)| *at);
            // One that never came counts as long as was waited.
            delays.push(at.map_or(TICK_MS * self.tick - start, |at| at.saturating_sub(start)));
        }
        Turns { delays, mistakes }
    }

    /// Bursts of others in pauses and over the speaker; how many of them made a switch.
    fn bursts(&mut self, words: &[Vec<u8>], count: usize) -> usize {
        self.speak(words, 0, 4_000);
        self.switches.clear();
        for _ in 0..count {
            let other = 1 + self.below(PEOPLE as u64 - 1) as usize;
            let ticks = 1 + self.below(400 / TICK_MS);
            let over = self.below(2) == 0;
            let word = words[self.below(words.len() as u64) as usize].clone();
            let steady = self.below(2) == 0;
            let loudest = word.iter().position(|level| Some(level) == word.iter().min()).unwrap_or_default();
            let own = words[self.below(words.len() as u64) as usize].clone();
            for n in 0..ticks {
                let level = if steady { 25 } else { word[(loudest + n as usize).min(word.len() - 1)] };
                let speaker = (0, own[n as usize % own.len()]);
                if over { self.tick(&[(other, level), speaker]) } else { self.tick(&[(other, level)]) }
            }
            self.pause(300);
            self.speak(words, 0, 2_000);
            let pause = self.below(1_000);
            self.pause(pause);
        }
        self.switches.iter().filter(|(_, who)| *who != 0).count()
    }
}

fn row(name: &str, value: f64, unit: &str, reference: &str, reference_value: f64, reach: f64) {
    let reached = value <= reach;
    println!(
        r#"{{"name":"{name}","value":{value},"unit":"{unit}","reference":"{reference}","reference_value":{reference_value},"reach":{reach},"reached":{reached}}}"#
    );
}
