//! One stay in a room from entering it to its report: publishes, records each participant, shows status, and leaves when told.

use super::{
    conversation::{SAMPLE_EVERY, cpu_seconds, interrupted},
    media::Sending,
    meeting_report::{MeetingReport, ParticipantReport, TrackRecordings, as_call},
    report::{Moments, Sample},
    status::Status,
};
use crate::{cli::MediaArgs, exit::Exit};
use anyhow::Result;
use halloo_engine::{
    CallStats, MediaEvent, RemoteTrack, Room, RoomEnded, RoomEvent, RoomEvents, RoomParticipant, Timestamp, TrackKind,
    audio::AudioSettings, clock, video::window::WindowHandle,
};
use std::{collections::HashSet, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// See the module's text.
pub struct Meeting<'a> {
    media: &'a MediaArgs,
    /// Taken when the room is entered.
    sending: Option<Sending>,
    user: String,
    started: Timestamp,
    window: Option<WindowHandle>,
    state: &'static str,
    connected: Option<(Timestamp, Instant)>,
    interruptions: u32,
    notices: Vec<String>,
    samples: Vec<Sample>,
    participants: Vec<ParticipantReport>,
    last: CallStats,
}

/// Why the loop ended.
enum Over {
    /// The stay ended by itself.
    Ended(RoomEnded),
    /// This side wants to leave.
    Leave,
}

impl<'a> Meeting<'a> {
    /// Nothing has happened yet.
    pub fn new(
        media: &'a MediaArgs,
        sending: Sending,
        user: String,
        started: Timestamp,
        window: Option<WindowHandle>,
    ) -> Self {
        Self {
            media,
            sending: Some(sending),
            user,
            started,
            window,
            state: "connecting",
            connected: None,
            interruptions: 0,
            notices: Vec::new(),
            samples: Vec::new(),
            participants: Vec::new(),
            last: CallStats::default(),
        }
    }

    /// Stays until the room is over, the duration has passed, or Ctrl-C.
    pub async fn attend(mut self, room: Room, status: &mut Status) -> MeetingReport {
        let cpu_at_start = cpu_seconds();
        let mut events = room.events();
        if let Some(sending) = self.sending.take() {
            room.publish_audio(sending.audio, AudioSettings::default());
            if let Some((source, settings)) = sending.video {
                room.publish_video(source, settings);
            }
        }
        let over = self.talk(&room, &mut events, status).await;
        let stats = room.stats().await;
        self.keep_stats(&stats);
        let name = room.name().to_owned();
        let ended = match over {
            Over::Ended(ended) => ended,
            Over::Leave => room.leave().await,
        };
        let ended_at = clock::now();
        let clock = Moments {
            started_ns: self.started.as_nanos(),
            connected_ns: self.connected.map(|(at, _)| at.as_nanos()),
            ended_ns: ended_at.as_nanos(),
        };
        for participant in self.participants.iter_mut().filter(|participant| participant.left_s.is_none()) {
            participant.there_s = clock.duration_s() - participant.joined_s;
        }
        status.say(farewell(&ended, &clock));
        MeetingReport {
            version: 1,
            room: name,
            user: self.user,
            connected: clock.connected_ns.is_some(),
            connect_ms: clock.connect_ms(),
            duration_s: clock.duration_s(),
            reason: ended.reason,
            exit: Exit::of_room(&ended, clock.connected_ns.is_some()),
            error: ended.error,
            code: ended.code,
            clock,
            interruptions: self.interruptions,
            participants: self.participants,
            notices: self.notices,
            samples: self.samples,
            stats,
            cpu_seconds: cpu_seconds().zip(cpu_at_start).map(|(now, then)| now - then),
        }
    }

    async fn talk(&mut self, room: &Room, events: &mut RoomEvents, status: &mut Status) -> Over {
        let mut tick = interval(SAMPLE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut interrupted = std::pin::pin!(interrupted());
        loop {
            let deadline = self.connected.zip(self.media.duration).map(|((_, at), d)| at + d);
            let leave_at = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
            tokio::select! {
                event = events.next() => match event {
                    Some(RoomEvent::Ended(ended)) => return Over::Ended(ended),
                    Some(event) => self.note(room, event, status),
                    None => return Over::Ended(room.ended().await),
                },
                _ = tick.tick() => self.sample(room, status).await,
                () = sleep_until(leave_at), if deadline.is_some() => return Over::Leave,
                () = &mut interrupted => {
                    status.say("leaving");
                    return Over::Leave;
                }
            }
        }
    }

    fn note(&mut self, room: &Room, event: RoomEvent, status: &mut Status) {
        let said = match event {
            RoomEvent::Connected => {
                self.state = "connected";
                self.connected = Some((clock::now(), Instant::now()));
                for id in self.participants.iter().map(|participant| participant.id).collect::<Vec<_>>() {
                    self.record(room, id, status);
                }
                format!("connected to {}", room.name())
            }
            RoomEvent::Reconnecting => {
                self.state = "reconnecting";
                self.interruptions += 1;
                "the path broke: reconnecting".to_owned()
            }
            RoomEvent::Reconnected => {
                self.state = "connected";
                "reconnected".to_owned()
            }
            RoomEvent::ParticipantJoined(participant) => {
                let said = format!("{} is here", participant.user);
                self.welcome(room, &participant, status);
                said
            }
            RoomEvent::ParticipantLeft { participant, .. } => {
                let now = self.seconds();
                if let Some(known) = self.participants.iter_mut().find(|known| known.id == participant.id) {
                    (known.left_s, known.there_s) = (Some(now), now - known.joined_s);
                }
                format!("{} has left", participant.user)
            }
            RoomEvent::TrackStarted(RemoteTrack::Video(track)) if track.kind() == TrackKind::Screen => {
                let said = format!("{} shares a screen", track.participant());
                self.record_screens(room, status);
                said
            }
            RoomEvent::ActiveSpeaker(Some(speaker)) => {
                let id = speaker.id;
                self.participants.iter_mut().filter(|known| known.id == id).for_each(|known| known.spoke += 1);
                return;
            }
            RoomEvent::Muted(kind) => format!("a moderator muted your {}", name_of(kind)),
            RoomEvent::Policed(kind) => format!("your {} takes more than the room allows", name_of(kind)),
            RoomEvent::Locked(true) => "the room was locked".to_owned(),
            RoomEvent::Locked(false) => "the room is open".to_owned(),
            RoomEvent::Signaling { connected: false } => "the server is away; the meeting goes on".to_owned(),
            RoomEvent::Signaling { connected: true } => "the server is back".to_owned(),
            RoomEvent::Media(MediaEvent::SourceEnded) => "a file has been played to its end".to_owned(),
            RoomEvent::Media(MediaEvent::Problem(text) | MediaEvent::DeviceChanged(text)) => text,
            _ => return,
        };
        self.say(said, status);
    }

    fn say(&mut self, said: String, status: &mut Status) {
        status.say(&said);
        self.notices.push(said);
    }

    fn welcome(&mut self, room: &Room, participant: &RoomParticipant, status: &mut Status) {
        let taken: HashSet<&str> = self.participants.iter().map(|known| known.folder.as_str()).collect();
        let folder = folder_name(&participant.user, &taken);
        self.participants.push(ParticipantReport::new(participant, folder, self.seconds()));
        if self.connected.is_some() {
            self.record(room, participant.id, status);
        }
    }

    /// Recordings begin when media flows, or when somebody comes.
    fn record(&mut self, room: &Room, id: u32, status: &mut Status) {
        let Some(participant) = self.participants.iter_mut().find(|known| known.id == id) else { return };
        let attached = attach(self.media, room, participant, self.window.as_ref());
        if let Err(error) = attached {
            let said = format!("not everything of {} is recorded: {error:#}", participant.user);
            self.say(said, status);
        }
    }

    /// A screen is recorded from when it is shared first.
    fn record_screens(&mut self, room: &Room, status: &mut Status) {
        let mut failures = Vec::new();
        for participant in self.participants.iter_mut().filter(|known| known.recordings.screen.is_none()) {
            let sharing = room
                .participants()
                .into_iter()
                .any(|each| each.id == participant.id && each.media.screen != halloo_engine::SourceState::Off);
            if !sharing {
                continue;
            }
            if let Err(error) = attach_screen(self.media, room, participant, self.window.as_ref()) {
                failures.push(format!("the screen of {} is not recorded: {error:#}", participant.user));
            }
        }
        failures.into_iter().for_each(|said| self.say(said, status));
    }

    async fn sample(&mut self, room: &Room, status: &mut Status) {
        let stats = room.stats().await;
        self.keep_stats(&stats);
        let now = as_call(&stats);
        let duration = self.connected.map_or(Duration::ZERO, |(at, _)| clock::now().since(at));
        let sample = Sample::between(&self.last, &now, duration.as_secs_f64());
        status.show(self.state, duration, &sample);
        if self.connected.is_some() {
            self.samples.push(sample);
        }
        self.last = now;
    }

    /// Who leaves takes their figures along: the last ones are kept.
    fn keep_stats(&mut self, stats: &halloo_engine::RoomStats) {
        for participant in &mut self.participants {
            if let Some(now) = stats.participants.iter().find(|now| now.id == participant.id) {
                participant.stats = now.clone();
            }
        }
    }

    /// Since media flowed.
    fn seconds(&self) -> f64 {
        self.connected.map_or(0.0, |(at, _)| clock::now().since(at).as_secs_f64())
    }
}

fn attach(
    media: &MediaArgs,
    room: &Room,
    participant: &mut ParticipantReport,
    window: Option<&WindowHandle>,
) -> Result<()> {
    let receiving = media.open_sinks(Some(&participant.folder), window)?;
    if let Some(dir) = &media.record {
        let dir = dir.join(&participant.folder);
        participant.recordings.audio = Some(dir.join("received.wav"));
        participant.recordings.video = Some(dir.join("received.y4m"));
    }
    if let Some(track) = room.audio_of(participant.id) {
        for sink in receiving.audio {
            track.attach(sink)?;
        }
    }
    if let Some(track) = room.video_of(participant.id, TrackKind::Camera) {
        for sink in receiving.video {
            track.attach(sink)?;
        }
    }
    Ok(())
}

fn attach_screen(
    media: &MediaArgs,
    room: &Room,
    participant: &mut ParticipantReport,
    window: Option<&WindowHandle>,
) -> Result<()> {
    let Some(track) = room.video_of(participant.id, TrackKind::Screen) else { return Ok(()) };
    let (sinks, file) = media.open_screen_sinks(&participant.folder, window)?;
    participant.recordings = TrackRecordings { screen: file, ..participant.recordings.clone() };
    for sink in sinks {
        track.attach(sink)?;
    }
    Ok(())
}

/// A folder's name for a user: a file system gets nothing that means something to it, and nobody gets another's.
fn folder_name(user: &str, taken: &HashSet<&str>) -> String {
    let safe = if user.starts_with('.') { format!("_{user}") } else { user.to_owned() };
    let mut name = safe.clone();
    for number in 2.. {
        if !taken.contains(name.as_str()) {
            break;
        }
        name = format!("{safe}-{number}");
    }
    name
}

fn name_of(kind: TrackKind) -> &'static str {
    match kind {
        TrackKind::Microphone => "microphone",
        TrackKind::Screen => "screen",
        _ => "camera",
    }
}

fn farewell(ended: &RoomEnded, clock: &Moments) -> String {
    let why = ended.error.as_ref().map_or_else(String::new, |e| format!(": {e}"));
    let reason = serde_json::to_value(ended.reason).ok().and_then(|v| v.as_str().map(str::to_owned));
    let reason = reason.unwrap_or_else(|| "ended".to_owned());
    match clock.connected_ns {
        Some(_) => format!("{reason} after {:.1} s{why}", clock.duration_s()),
        None => format!("{reason}{why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_participant_gets_a_folder_of_its_own_within_the_one_given() {
        let taken = HashSet::from(["alice", "alice-2"]);
        assert_eq!(folder_name("bob", &taken), "bob");
        assert_eq!(folder_name("alice", &taken), "alice-3");
        assert_eq!(folder_name("..", &taken), "_..");
        assert_eq!(folder_name("a@b.example", &taken), "a@b.example");
    }
}
