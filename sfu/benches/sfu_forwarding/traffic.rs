//! What a publisher sends: recorded from a Chromium with camera and microphone (see `traffic.csv`), and played again and again.
//!
//! Each packet leaves when it left then, as long as it was then, in a call of its own as Chromium sends it. Only the frame
//! numbers of the descriptors go on counting, since a recording that begins anew is a key frame like any other.

use std::{sync::LazyLock, time::Duration};

use halloo_transport::{RtpTime, Timestamp};

const RECORDING: &str = include_str!("traffic.csv");
/// Ticks of the RTP clock between two packets of sound.
const AUDIO_TICKS: u32 = 960;
const VIDEO_CLOCK: u128 = 90_000;

/// The recording, read.
static TRACE: LazyLock<Trace> = LazyLock::new(|| Trace::read(RECORDING));

/// How long the recording is: a window of this length sees each of its packets once.
pub(crate) fn length() -> Duration {
    TRACE.length
}

/// Which of its streams a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Audio,
    Video,
}

/// A recorded packet.
#[derive(Clone, Debug)]
struct Recorded {
    at: Duration,
    stream: Stream,
    payload: usize,
    marker: bool,
    descriptor: Vec<u8>,
}

#[derive(Debug)]
struct Trace {
    packets: Vec<Recorded>,
    length: Duration,
    first_frame: u16,
    frames: u16,
}

impl Trace {
    fn read(recording: &str) -> Self {
        let lines = recording.lines().filter(|line| !line.starts_with('#'));
        let packets: Vec<_> = lines.map(|line| recorded(line).expect("a line of a recording")).collect();
        let frame = |packet: &Recorded| u16::from_be_bytes([packet.descriptor[1], packet.descriptor[2]]);
        let video = |packet: &&Recorded| packet.stream == Stream::Video;
        let first_frame = packets.iter().find(video).map(frame).expect("pictures");
        let last_frame = packets.iter().rfind(video).map(frame).expect("pictures");
        let end = packets.last().expect("packets").at;
        // The next beginning is a picture later.
        let length = end + Duration::from_millis(33);
        Self { length, first_frame, frames: last_frame.wrapping_sub(first_frame) + 1, packets }
    }
}

/// `microseconds,stream,payload,marker,descriptor`.
fn recorded(line: &str) -> Option<Recorded> {
    let fields: Vec<_> = line.split(',').collect();
    let [at, stream, payload, marker, descriptor] = fields[..] else { return None };
    let bytes = (0..descriptor.len()).step_by(2).map(|i| u8::from_str_radix(descriptor.get(i..i + 2)?, 16).ok());
    Some(Recorded {
        at: Duration::from_micros(at.parse().ok()?),
        stream: if stream == "audio" { Stream::Audio } else { Stream::Video },
        payload: payload.parse().ok()?,
        marker: marker == "1",
        descriptor: bytes.collect::<Option<_>>()?,
    })
}

/// A packet to send now.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) stream: Stream,
    pub(crate) payload: usize,
    pub(crate) marker: bool,
    pub(crate) timestamp: u32,
    pub(crate) descriptor: Vec<u8>,
}

/// One publisher's recording as it plays.
#[derive(Debug)]
pub(crate) struct Playback {
    speaks: bool,
    next: usize,
    began: Timestamp,
    /// Added to the recording's frame numbers.
    frame_offset: u16,
    audio_time: u32,
    video_time: u32,
    /// The next packet of pictures begins one.
    picture_begins: bool,
    sent: u64,
}

impl Playback {
    /// Begins with a key frame at `start`.
    pub(crate) const fn new(start: Timestamp, speaks: bool) -> Self {
        Self {
            speaks,
            next: 0,
            began: start,
            frame_offset: 0,
            audio_time: 0,
            video_time: 0,
            picture_begins: true,
            sent: 0,
        }
    }

    /// Begins anew at `start`, which is a key frame.
    pub(crate) fn restart(&mut self, start: Timestamp) {
        if self.next > 0 {
            self.frame_offset = self.frame_offset.wrapping_add(TRACE.frames);
        }
        (self.next, self.began, self.picture_begins) = (0, start, true);
    }

    /// Is so much later from now on.
    pub(crate) fn delay(&mut self, by: Duration) {
        self.began += by;
    }

    /// When the next packet is due.
    pub(crate) fn next_at(&self) -> Timestamp {
        self.began + TRACE.packets[self.next].at
    }

    /// The next packet that is due, if one is.
    pub(crate) fn poll(&mut self, now: Timestamp) -> Option<Packet> {
        while self.next_at() <= now {
            let recorded = &TRACE.packets[self.next];
            let wanted = recorded.stream == Stream::Video || self.speaks;
            let packet = wanted.then(|| self.packet(recorded, self.next_at()));
            self.next += 1;
            if self.next == TRACE.packets.len() {
                self.restart(self.began + TRACE.length);
            }
            if packet.is_some() {
                return packet;
            }
        }
        None
    }

    /// RTP time, packets and bytes of both streams, for reports.
    pub(crate) fn senders(&self, now: Timestamp) -> [(RtpTime, u64, u64); 2] {
        let ticks = |rate: u64| u64::from((u128::from(now.as_nanos()) * u128::from(rate) / 1_000_000_000) as u32);
        [48_000, 90_000].map(|rate| (RtpTime::new(ticks(rate), rate as u32), self.sent, 1_000 * self.sent))
    }

    fn packet(&mut self, recorded: &Recorded, at: Timestamp) -> Packet {
        let mut descriptor = recorded.descriptor.clone();
        self.sent += 1;
        let timestamp = match recorded.stream {
            Stream::Audio => {
                self.audio_time = self.audio_time.wrapping_add(AUDIO_TICKS);
                self.audio_time
            }
            Stream::Video => {
                if self.picture_begins {
                    self.video_time = (u128::from(at.as_nanos()) * VIDEO_CLOCK / 1_000_000_000) as u32;
                }
                self.picture_begins = recorded.marker;
                let number = u16::from_be_bytes([descriptor[1], descriptor[2]]);
                let number = number.wrapping_sub(TRACE.first_frame).wrapping_add(self.frame_offset);
                descriptor[1..3].copy_from_slice(&number.to_be_bytes());
                self.video_time
            }
        };
        Packet { stream: recorded.stream, payload: recorded.payload, marker: recorded.marker, timestamp, descriptor }
    }
}
