//! Sources and sinks as the command line names them, opened before anybody is called: a bad file is the caller's problem
//! alone.

use crate::{
    cli::MediaArgs,
    measure::{
        audio_log::{LoggedAudioSink, LoggedAudioSource},
        video_log::{LoggedVideoSink, LoggedVideoSource},
    },
};
use anyhow::{Context, Result, anyhow, bail};
use halloo_engine::{
    Bitrate, VideoState,
    audio::{DeviceChoice, DeviceSource, Playout, Repeat as AudioRepeat, Silence, WavSink, WavSource},
    clock,
    media::{AudioFrame, AudioSink, AudioSource, MediaError, VideoFrame, VideoSink, VideoSource},
    video::{
        Content, PatternSource, Repeat as VideoRepeat, VideoSettings, Y4mSink, Y4mSinkOptions, Y4mSource,
        window::{WindowHandle, WindowHost, WindowOptions},
    },
};
use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// Sound to send.
#[derive(Clone, Debug)]
pub enum AudioIn {
    /// A microphone.
    Device(DeviceChoice),
    /// Nothing.
    Silence,
    /// A WAV file.
    File(PathBuf),
}

/// Where sound goes.
#[derive(Clone, Debug)]
pub enum AudioOut {
    /// A speaker.
    Device(DeviceChoice),
    /// Nowhere.
    None,
    /// A WAV file.
    File(PathBuf),
}

/// Pictures to send.
#[derive(Clone, Debug)]
pub enum VideoIn {
    /// The camera with this path or name, or the first.
    Camera(Option<String>),
    /// The screen.
    Screen,
    /// The test pattern.
    Pattern,
    /// None.
    None,
    /// A Y4M file.
    File(PathBuf),
}

/// Where pictures go.
#[derive(Clone, Debug)]
pub enum VideoOut {
    /// A window.
    Window,
    /// Nowhere.
    None,
    /// A Y4M file.
    File(PathBuf),
}

impl FromStr for AudioIn {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "silence" | "none" => Self::Silence,
            _ => device(text).map_or_else(|| Self::File(text.into()), Self::Device),
        })
    }
}

impl FromStr for AudioOut {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "none" => Self::None,
            _ => device(text).map_or_else(|| Self::File(text.into()), Self::Device),
        })
    }
}

fn device(text: &str) -> Option<DeviceChoice> {
    match text.split_once(':') {
        None if text == "device" => Some(DeviceChoice::Default),
        Some(("device", name)) => Some(DeviceChoice::Named(name.to_owned())),
        _ => None,
    }
}

impl FromStr for VideoIn {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "camera" => Self::Camera(None),
            "screen" => Self::Screen,
            "pattern" => Self::Pattern,
            "none" => Self::None,
            other => match other.strip_prefix("camera:") {
                Some(name) => Self::Camera(Some(name.to_owned())),
                None => Self::File(other.into()),
            },
        })
    }
}

impl FromStr for VideoOut {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "window" => Self::Window,
            "none" => Self::None,
            file => Self::File(file.into()),
        })
    }
}

/// Reads `10s`, `1.5m`, `500ms`, `2h`, or seconds without a unit.
///
/// # Errors
/// Where it is not such a duration, or not above zero.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        other => return Err(format!("{other:?} is no unit of time: use ms, s, m or h")),
    };
    let seconds = number.parse::<f64>().map_err(|_| format!("{text:?} is not a duration like 10s"))? * factor;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("{text:?} is not a duration above zero")),
    }
}

/// Reads `640x360`.
///
/// # Errors
/// Where it is not such a size.
pub fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let size = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match size {
        Some((w @ 16..=4_096, h @ 16..=4_096)) => Ok((w, h)),
        _ => Err(format!("{text:?} is not a picture size like 640x360 (16 to 4096 a side)")),
    }
}

/// What is sent.
pub struct Sending {
    /// Sound.
    pub audio: Box<dyn AudioSource>,
    /// Pictures, and how they are coded.
    pub video: Option<(Box<dyn VideoSource>, VideoSettings)>,
}

/// What is received, and where to. Attached when media flows, so that recordings are as long as the call.
#[derive(Default)]
pub struct Receiving {
    /// For sound.
    pub audio: Vec<Box<dyn AudioSink>>,
    /// For pictures.
    pub video: Vec<Box<dyn VideoSink>>,
}

impl MediaArgs {
    /// What the other side is told of our picture before it comes.
    pub fn video_state(&self) -> VideoState {
        match self.video_in {
            VideoIn::None => VideoState::Off,
            VideoIn::Screen => VideoState::Screen,
            _ => VideoState::Camera,
        }
    }

    /// The speaker, if one is wanted. Where nothing was said: the default speaker for a live microphone, else nowhere.
    pub fn playout(&self) -> Playout {
        match (&self.audio_out, &self.audio_in) {
            (Some(AudioOut::Device(choice)), _) => Playout::Device(choice.clone()),
            (None, AudioIn::Device(_)) => Playout::Device(DeviceChoice::Default),
            _ => Playout::None,
        }
    }

    /// Opens what is to be sent. Waits for drivers and files: not on an async task.
    ///
    /// # Errors
    /// Where a file or device cannot be opened; the text says which and what to do.
    pub fn open_sources(&self, notice: impl Fn(String) + Send + 'static) -> Result<Sending> {
        let mut audio: Box<dyn AudioSource> = match &self.audio_in {
            AudioIn::Silence => Box::new(Silence),
            AudioIn::File(path) => {
                let repeat = if self.play_once { AudioRepeat::Once } else { AudioRepeat::Loop };
                Box::new(WavSource::open(path, repeat).map_err(|error| not_a_source(error, path, SOUNDS))?)
            }
            AudioIn::Device(choice) => Box::new(
                DeviceSource::open(choice.clone(), move |event| notice(format!("microphone: {event:?}")))
                    .context("no microphone; try --audio-in silence or a WAV file, and `halloo devices`")?,
            ),
        };
        let mut video = self.open_video()?;
        if let Some(dir) = &self.media_log {
            create_folder(dir)?;
            audio = Box::new(LoggedAudioSource::new(audio, &dir.join("spoken.log"))?);
            if let Some(source) = video.take() {
                video = Some(Box::new(LoggedVideoSource::new(source, &dir.join("sent.jsonl"))?));
            }
        }
        let settings = VideoSettings {
            max_bitrate: Bitrate::from_kbps(self.video_kbps.into()),
            content: if matches!(self.video_in, VideoIn::Screen) { Content::Screen } else { Content::Camera },
            ..VideoSettings::default()
        };
        Ok(Sending { audio, video: video.map(|source| (source, settings)) })
    }

    fn open_video(&self) -> Result<Option<Box<dyn VideoSource>>> {
        Ok(match &self.video_in {
            VideoIn::None => None,
            VideoIn::Pattern => {
                let (width, height) = self.pattern_size;
                let pattern = PatternSource::new(width, height, self.pattern_rate.into())?;
                Some(Box::new(pattern.in_series(self.pattern_series)))
            }
            VideoIn::File(path) => {
                let repeat = if self.play_once { VideoRepeat::Once } else { VideoRepeat::Forever };
                Some(Box::new(Y4mSource::open(path, repeat).map_err(|error| not_a_source(error, path, PICTURES))?))
            }
            VideoIn::Camera(which) => Some(open_camera(which.as_deref())?),
            VideoIn::Screen => Some(open_screen()?),
        })
    }

    /// Checks that what is received can be written, and opens the window if one is wanted, before anybody is called.
    ///
    /// # Errors
    /// Where a folder cannot be created, or there is no display.
    pub fn prepare_sinks(&self) -> Result<Option<WindowHandle>> {
        if let Some(dir) = &self.record {
            create_folder(dir)?;
        }
        for path in [file_of(&self.audio_out), video_file_of(&self.video_out)].into_iter().flatten() {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !parent.is_dir() {
                bail!("cannot write {}: there is no folder {}", path.display(), parent.display());
            }
        }
        matches!(self.video_out, VideoOut::Window).then(open_window).transpose()
    }

    /// Opens what is received. Recordings and logs go into this folder within the ones that were named: a second call of one
    /// `answer` gets `DIR/2` and so on, a participant of a room `DIR/NAME`.
    ///
    /// # Errors
    /// Where a file cannot be created.
    pub fn open_sinks(&self, folder: Option<&str>, window: Option<&WindowHandle>) -> Result<Receiving> {
        let mut receiving = Receiving::default();
        if let Some(window) = window {
            receiving.video.push(Box::new(window.sink()));
        }
        let within = |dir: &Path| folder.map_or_else(|| dir.to_owned(), |folder| dir.join(folder));
        if let Some(dir) = &self.record {
            let dir = within(dir);
            create_folder(&dir)?;
            receiving.audio.push(Box::new(WavSink::create(dir.join("received.wav"))?));
            receiving.video.push(Box::new(self.y4m(&dir.join("received.y4m"))?));
        }
        if let Some(path) = file_of(&self.audio_out) {
            receiving.audio.push(Box::new(WavSink::create(path)?));
        }
        if let Some(path) = video_file_of(&self.video_out) {
            receiving.video.push(Box::new(self.y4m(path)?));
        }
        if let Some(dir) = &self.media_log {
            let dir = within(dir);
            create_folder(&dir)?;
            let (audio, video) = (receiving.audio.pop(), receiving.video.pop());
            let audio = audio.unwrap_or_else(|| Box::new(Nowhere));
            let video = video.unwrap_or_else(|| Box::new(Nowhere));
            receiving.audio.push(Box::new(LoggedAudioSink::new(audio, &dir.join("heard.log"))?));
            receiving.video.push(Box::new(LoggedVideoSink::new(video, &dir.join("shown.jsonl"))?));
        }
        Ok(receiving)
    }
}

/// Where a participant's screen goes, and the file it is written to.
pub type ScreenSinks = (Vec<Box<dyn VideoSink>>, Option<PathBuf>);

impl MediaArgs {
    /// Opens what is received of a participant's screen.
    ///
    /// # Errors
    /// Where the file cannot be created.
    pub fn open_screen_sinks(&self, folder: &str, window: Option<&WindowHandle>) -> Result<ScreenSinks> {
        let mut sinks: Vec<Box<dyn VideoSink>> = Vec::new();
        if let Some(window) = window {
            sinks.push(Box::new(window.sink()));
        }
        let Some(dir) = &self.record else { return Ok((sinks, None)) };
        let dir = dir.join(folder);
        create_folder(&dir)?;
        let file = dir.join("screen.y4m");
        sinks.push(Box::new(self.y4m(&file)?));
        Ok((sinks, Some(file)))
    }

    /// A recording that begins now, black until the first picture.
    fn y4m(&self, path: &Path) -> Result<Y4mSink, MediaError> {
        let mut sink = Y4mSink::create(path, Y4mSinkOptions { frame_rate: self.record_rate })?;
        sink.start(clock::now());
        Ok(sink)
    }
}

#[cfg(target_os = "linux")]
fn open_camera(which: Option<&str>) -> Result<Box<dyn VideoSource>> {
    use halloo_engine::video::camera::{CameraOptions, CameraSource};
    Ok(Box::new(CameraSource::open(which, CameraOptions::default())?))
}

#[cfg(target_os = "linux")]
fn open_screen() -> Result<Box<dyn VideoSource>> {
    use halloo_engine::video::screen::{ScreenSource, ScreenTarget};
    Ok(Box::new(ScreenSource::open(ScreenTarget::Whole, 30.0)?))
}

#[cfg(target_os = "linux")]
fn open_window() -> Result<WindowHandle> {
    let on_close = Box::new(|| eprintln!("the window was closed; the call goes on (Ctrl-C hangs up)"));
    let options = WindowOptions { title: "Halloo".to_owned(), size: (960, 540), on_close };
    WindowHost::spawn(options).map_err(|why| anyhow!("{why}. Or do without a window: --video-out none, or a file"))
}

/// What can be sent, in words.
const SOUNDS: &str = "--audio-in takes `device`, `device:NAME`, `silence`, or a WAV file";
const PICTURES: &str = "--video-in takes `camera`, `camera:NAME`, `screen`, `pattern`, `none`, or a Y4M file";

/// Why a file cannot be sent; of a word that is no file, also what could have been meant.
fn not_a_source(error: MediaError, path: &Path, takes: &str) -> anyhow::Error {
    if path.exists() { error.into() } else { anyhow!("{error}. {takes}") }
}

#[cfg(not(target_os = "linux"))]
fn open_camera(_: Option<&str>) -> Result<Box<dyn VideoSource>> {
    bail!("cameras are supported on Linux only so far; try --video-in pattern")
}

#[cfg(not(target_os = "linux"))]
fn open_screen() -> Result<Box<dyn VideoSource>> {
    bail!("screen capture is supported on Linux (X11) only so far; try --video-in pattern")
}

#[cfg(not(target_os = "linux"))]
fn open_window() -> Result<WindowHandle> {
    bail!("windows are supported on Linux only so far; try --video-out FILE.y4m or --record DIR")
}

fn file_of(out: &Option<AudioOut>) -> Option<&Path> {
    match out {
        Some(AudioOut::File(path)) => Some(path),
        _ => None,
    }
}

fn video_file_of(out: &VideoOut) -> Option<&Path> {
    match out {
        VideoOut::File(path) => Some(path),
        _ => None,
    }
}

fn create_folder(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("could not create the folder {}", dir.display()))
}

struct Nowhere;

impl AudioSink for Nowhere {
    fn write(&mut self, _: &AudioFrame) -> Result<(), MediaError> {
        Ok(())
    }
}

impl VideoSink for Nowhere {
    fn write(&mut self, _: halloo_engine::Timestamp, _: &VideoFrame) -> Result<(), MediaError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "s", "0s", "-1s", "10 parsecs", "1e400"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_may_be_named_and_anything_else_is_a_file() {
        assert!(
            matches!("device:USB Mic".parse(), Ok(AudioIn::Device(DeviceChoice::Named(name))) if name == "USB Mic")
        );
        assert!(matches!("device".parse(), Ok(AudioIn::Device(DeviceChoice::Default))));
        assert!(matches!("devices.wav".parse(), Ok(AudioIn::File(_))));
        assert!(matches!("pattern.y4m".parse(), Ok(VideoIn::File(_))));
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(parse_size("641x361"), Ok((641, 361)));
        for bad in ["640", "0x0", "640x", "99999x2", "axb"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
