//! One call from its first ring to its report: publishes, records, shows status, and hangs up when told to.

use super::{
    media::Sending,
    report::{CallReport, Moments, Recordings, Sample},
    status::Status,
};
use crate::{cli::MediaArgs, exit::Exit};
use halloo_engine::{
    Call, CallEnded, CallEvent, CallEvents, CallStats, Direction, MediaEvent, Timestamp, audio::AudioSettings, clock,
    video::window::WindowHandle,
};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How often figures are taken.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// What a conversation needs to know.
pub struct Conversation<'a> {
    /// What to send and where to put what comes.
    pub media: &'a MediaArgs,
    /// Opened sources.
    pub sending: Sending,
    /// Who one is.
    pub user: String,
    /// The first call of this process is 1.
    pub number: usize,
    /// When the call was made or taken.
    pub started: Timestamp,
    /// Where pictures are shown, if anywhere.
    pub window: Option<WindowHandle>,
}

/// Why the loop ended.
enum Over {
    /// The call ended by itself.
    Ended(CallEnded),
    /// This side wants to leave.
    Leave,
}

struct Progress {
    state: &'static str,
    connected: Option<(Timestamp, Instant)>,
    notices: Vec<String>,
    samples: Vec<Sample>,
    last: CallStats,
    cpu_at_start: Option<f64>,
}

impl Conversation<'_> {
    /// Talks until the call is over, its duration has passed, or Ctrl-C.
    pub async fn hold(self, call: Call, status: &mut Status) -> CallReport {
        let mut events = call.events();
        call.publish_audio(self.sending.audio, AudioSettings::default());
        if let Some((source, settings)) = self.sending.video {
            call.publish_video(source, settings);
        }
        let mut progress = Progress {
            state: "ringing",
            connected: None,
            notices: Vec::new(),
            samples: Vec::new(),
            last: CallStats::default(),
            cpu_at_start: cpu_seconds(),
        };
        let plan = Plan { media: self.media, number: self.number, window: self.window };
        let over = plan.talk(&call, &mut events, &mut progress, status).await;
        let stats = call.stats().await;
        let (id, peer, direction) = (call.id().to_owned(), call.peer().to_owned(), call.direction());
        let ended = match over {
            Over::Ended(ended) => ended,
            Over::Leave => call.hang_up().await,
        };
        let ended_at = clock::now();
        let clock = Moments {
            started_ns: self.started.as_nanos(),
            connected_ns: progress.connected.map(|(at, _)| at.as_nanos()),
            ended_ns: ended_at.as_nanos(),
        };
        let connected = clock.connected_ns.is_some();
        let exit = Exit::of_call(&ended, connected);
        status.say(farewell(&ended, &clock));
        CallReport {
            version: 1,
            call: id,
            user: self.user,
            peer,
            direction,
            connected,
            connect_ms: clock.connect_ms(),
            duration_s: clock.duration_s(),
            reason: ended.reason,
            error: ended.error,
            code: ended.code,
            clock,
            recordings: plan.recordings(connected),
            notices: progress.notices,
            samples: progress.samples,
            stats,
            cpu_seconds: cpu_seconds().zip(progress.cpu_at_start).map(|(now, then)| now - then),
            exit,
        }
    }
}

struct Plan<'a> {
    media: &'a MediaArgs,
    number: usize,
    window: Option<WindowHandle>,
}

impl Plan<'_> {
    async fn talk(&self, call: &Call, events: &mut CallEvents, progress: &mut Progress, status: &mut Status) -> Over {
        let mut tick = interval(SAMPLE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut interrupted = std::pin::pin!(interrupted());
        loop {
            let deadline = progress.connected.zip(self.media.duration).map(|((_, at), d)| at + d);
            let leave_at = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
            tokio::select! {
                event = events.next() => match event {
                    Some(CallEvent::Ended(ended)) => return Over::Ended(ended),
                    Some(event) => self.note(call, event, progress, status),
                    None => return Over::Ended(call.ended().await),
                },
                _ = tick.tick() => self.sample(call, progress, status).await,
                () = sleep_until(leave_at), if deadline.is_some() => return Over::Leave,
                () = &mut interrupted => {
                    status.say("hanging up");
                    return Over::Leave;
                }
            }
        }
    }

    fn note(&self, call: &Call, event: CallEvent, progress: &mut Progress, status: &mut Status) {
        let said = match event {
            CallEvent::Ringing => format!("ringing {}", call.peer()),
            CallEvent::Answered => {
                progress.state = "connecting";
                match call.direction() {
                    Direction::Outgoing => format!("{} answered", call.peer()),
                    Direction::Incoming => "connecting".to_owned(),
                }
            }
            CallEvent::Connected => {
                progress.state = "connected";
                if progress.connected.is_none() {
                    progress.connected = Some((clock::now(), Instant::now()));
                    self.attach(call, progress, status);
                }
                format!("connected with {}", call.peer())
            }
            CallEvent::Reconnecting => {
                progress.state = "reconnecting";
                "the path broke: reconnecting".to_owned()
            }
            CallEvent::Reconnected => {
                progress.state = "connected";
                "reconnected".to_owned()
            }
            CallEvent::Signaling { connected: false } => "the server is away; the call goes on".to_owned(),
            CallEvent::Signaling { connected: true } => "the server is back".to_owned(),
            CallEvent::PeerMedia(media) if media.audio_muted => format!("{} muted the microphone", call.peer()),
            CallEvent::Media(MediaEvent::SourceEnded) => "a file has been played to its end".to_owned(),
            CallEvent::Media(MediaEvent::Problem(text) | MediaEvent::DeviceChanged(text)) => text,
            _ => return,
        };
        status.say(&said);
        progress.notices.push(said);
    }

    /// Recordings begin when media flows.
    fn attach(&self, call: &Call, progress: &mut Progress, status: &mut Status) {
        let folder = (self.number > 1).then(|| self.number.to_string());
        let attached = self.media.open_sinks(folder.as_deref(), self.window.as_ref()).and_then(|receiving| {
            for sink in receiving.audio {
                call.remote_audio().attach(sink)?;
            }
            for sink in receiving.video {
                call.remote_video().attach(sink)?;
            }
            Ok(())
        });
        if let Err(error) = attached {
            let said = format!("not everything is recorded: {error:#}");
            status.say(&said);
            progress.notices.push(said);
        }
    }

    async fn sample(&self, call: &Call, progress: &mut Progress, status: &mut Status) {
        let now = call.stats().await;
        let duration = progress.connected.map_or(Duration::ZERO, |(at, _)| clock::now().since(at));
        let sample = Sample::between(&progress.last, &now, duration.as_secs_f64());
        status.show(progress.state, duration, &sample);
        if progress.connected.is_some() {
            progress.samples.push(sample);
        }
        progress.last = now;
    }

    fn recordings(&self, connected: bool) -> Recordings {
        let Some(dir) = self.media.record.as_ref().filter(|_| connected) else { return Recordings::default() };
        let dir = if self.number > 1 { dir.join(self.number.to_string()) } else { dir.clone() };
        Recordings { audio: Some(dir.join("received.wav")), video: Some(dir.join("received.y4m")) }
    }
}

fn farewell(ended: &CallEnded, clock: &Moments) -> String {
    let why = ended.error.as_ref().map_or_else(String::new, |e| format!(": {e}"));
    let reason = serde_json::to_value(ended.reason).ok().and_then(|v| v.as_str().map(|s| s.replace('_', " ")));
    let reason = reason.unwrap_or_else(|| "ended".to_owned());
    match clock.connected_ns {
        Some(_) => format!("{reason} after {:.1} s{why}", clock.duration_s()),
        None => format!("{reason}{why}"),
    }
}

/// Ctrl-C, or being asked to end.
pub async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// CPU time that this process has used, where the system says it.
pub(super) fn cpu_seconds() -> Option<f64> {
    cpu_seconds_of("self")
}

/// CPU time that a process (its number, or `self`) has used: `/proc/PROCESS/stat`, in ticks of 10 ms.
pub(crate) fn cpu_seconds_of(process: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold spaces; user and system time are the 12th and 13th fields after it.
    let mut times = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((user + system) as f64 / 100.0)
}
