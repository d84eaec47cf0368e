//! A camera as a source (Video4Linux). Drivers block, so a thread of its own waits for pictures; only the newest one waits for the
//! video thread.

mod convert;

use crate::{
    Timestamp, clock,
    media::{MediaError, SourceWaker, VideoFrame, VideoPoll, VideoSource},
};
use convert::{Layout, to_frame};
use linuxvideo::{
    BufType, CapabilityFlags, Device, Fract,
    format::{PixFormat, PixelFormat},
    stream::ReadStream,
};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A camera that can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraInfo {
    /// Its device file, as `/dev/video0`.
    pub path: PathBuf,
    /// What its driver calls it.
    pub name: String,
}

/// The cameras of this machine, by path. Devices that cannot be opened (no permission, unplugged) are left out.
pub fn list() -> Vec<CameraInfo> {
    let devices = linuxvideo::list().into_iter().flatten().flatten();
    let mut cameras: Vec<CameraInfo> = devices.filter_map(|device| describe(&device)).collect();
    cameras.sort_by(|a, b| a.path.cmp(&b.path));
    cameras
}

fn describe(device: &Device) -> Option<CameraInfo> {
    let capabilities = device.capabilities().ok()?;
    if !capabilities.device_capabilities().contains(CapabilityFlags::VIDEO_CAPTURE) {
        return None;
    }
    Some(CameraInfo { path: device.path().ok()?, name: capabilities.card().to_owned() })
}

/// What to ask of a camera; it gives the nearest that it has.
#[derive(Clone, Copy, Debug)]
pub struct CameraOptions {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames per second.
    pub frame_rate: u32,
}

impl Default for CameraOptions {
    fn default() -> Self {
        Self { width: 1_280, height: 720, frame_rate: 30 }
    }
}

/// A camera that is open.
pub struct CameraSource {
    name: String,
    frame_rate: f64,
    stream: Option<(ReadStream, Layout)>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for CameraSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CameraSource").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Shared {
    newest: Mutex<Newest>,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
enum Newest {
    #[default]
    None,
    Frame(VideoFrame),
    Failed(MediaError),
}

/// Formats in order of preference for pictures up to 640x480, and above: uncompressed ones exceed USB 2 there.
const SMALL: [[u8; 4]; 4] = [*b"NV12", *b"YU12", *b"YUYV", *b"MJPG"];
const LARGE: [[u8; 4]; 4] = [*b"MJPG", *b"NV12", *b"YU12", *b"YUYV"];

impl CameraSource {
    /// Opens the camera with this path or (part of a) name, or the first there is.
    ///
    /// # Errors
    /// Where there is none or no such one (the text lists those there are), it is in use, or has no supported format.
    pub fn open(which: Option<&str>, options: CameraOptions) -> Result<Self, MediaError> {
        let info = choose(which, &list())?;
        let cannot = |e: &dyn std::fmt::Display| {
            MediaError::new(format!("the camera {} ({}) cannot be used: {e}", info.name, info.path.display()))
        };
        let device = Device::open(&info.path).map_err(|e| cannot(&e))?;
        let offered: Vec<PixelFormat> =
            device.formats(BufType::VIDEO_CAPTURE).filter_map(Result::ok).map(|f| f.pixel_format()).collect();
        let wanted = if options.width * options.height > 640 * 480 { LARGE } else { SMALL };
        let format = wanted
            .into_iter()
            .map(PixelFormat::from_fourcc)
            .find(|f| offered.contains(f))
            .ok_or_else(|| cannot(&format!("it offers {offered:?}; YUYV, NV12, YU12 and MJPG are supported")))?;
        let device = device
            .video_capture(PixFormat::new(options.width, options.height, format))
            .map_err(|e| cannot(&busy(e)))?;
        let chosen = device.format();
        let layout = Layout {
            width: chosen.width(),
            height: chosen.height(),
            stride: chosen.bytes_per_line() as usize,
            fourcc: chosen.pixel_format().as_fourcc(),
        };
        // Not every driver can: then it gives what it gives.
        let interval = device.set_frame_interval(Fract::new(1, options.frame_rate.max(1)));
        let frame_rate = interval.map_or(30.0, |i| f64::from(i.denominator()) / f64::from(i.numerator().max(1)));
        let stream = device.into_stream().map_err(|e| cannot(&busy(e)))?;
        Ok(Self { name: info.name, frame_rate, stream: Some((stream, layout)), shared: Arc::default() })
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.shared.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn choose(which: Option<&str>, cameras: &[CameraInfo]) -> Result<CameraInfo, MediaError> {
    let Some(first) = cameras.first() else {
        return Err(MediaError::new("no camera found: plug one in, or check the permissions of /dev/video*"));
    };
    let Some(which) = which else { return Ok(first.clone()) };
    let by_path = cameras.iter().find(|camera| camera.path.as_os_str() == which);
    let by_name = || cameras.iter().find(|camera| camera.name.to_lowercase().contains(&which.to_lowercase()));
    by_path.or_else(by_name).cloned().ok_or_else(|| {
        let known: Vec<String> = cameras.iter().map(|c| format!("{} ({})", c.name, c.path.display())).collect();
        MediaError::new(format!("there is no camera {which:?}; there are: {}", known.join(", ")))
    })
}

fn busy(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ResourceBusy => "another program uses it; close that and try again".into(),
        _ => error.to_string(),
    }
}

impl VideoSource for CameraSource {
    fn start(&mut self, waker: SourceWaker) -> Result<(), MediaError> {
        let Some((stream, layout)) = self.stream.take() else { return Ok(()) };
        let (shared, name) = (Arc::clone(&self.shared), self.name.clone());
        std::thread::Builder::new()
            .name("camera".into())
            .spawn(move || capture(stream, layout, &name, &shared, &waker))
            .map(drop)
            .map_err(|e| MediaError::new(format!("the camera's thread cannot be started: {e}")))
    }

    fn poll(&mut self, _now: Timestamp) -> Result<VideoPoll, MediaError> {
        match std::mem::take(&mut *self.newest()) {
            Newest::Frame(frame) => Ok(VideoPoll::Frame(frame)),
            Newest::None => Ok(VideoPoll::Wait(Timestamp::MAX)),
            Newest::Failed(e) => Err(e),
        }
    }

    fn frame_rate(&self) -> f64 {
        self.frame_rate
    }
}

impl Drop for CameraSource {
    fn drop(&mut self) {
        // The thread sees it with the next picture. It is not waited for: a driver may block for good.
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn capture(mut stream: ReadStream, layout: Layout, name: &str, shared: &Shared, waker: &SourceWaker) {
    while !shared.stop.load(Ordering::Relaxed) {
        let result = stream.dequeue(|buffer| {
            let at = clock::now();
            if buffer.is_error() { Ok(None) } else { Ok(Some(to_frame(&layout, &buffer, at))) }
        });
        let newest = match result {
            Ok(Some(Ok(frame))) => Newest::Frame(frame),
            // One damaged picture, as cameras give on a poor cable: the next may be whole.
            Ok(Some(Err(e))) => {
                tracing::debug!(%e, camera = name, "a picture was skipped");
                continue;
            }
            Ok(None) => continue,
            Err(e) => {
                Newest::Failed(MediaError::new(format!("the camera {name} stopped: {e}. Is it still plugged in?")))
            }
        };
        let failed = matches!(newest, Newest::Failed(_));
        *shared.newest.lock().unwrap_or_else(PoisonError::into_inner) = newest;
        waker.wake();
        if failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cameras() -> Vec<CameraInfo> {
        [("/dev/video0", "Integrated Camera"), ("/dev/video2", "USB Cam")]
            .map(|(path, name)| CameraInfo { path: path.into(), name: name.into() })
            .to_vec()
    }

    #[test]
    fn cameras_are_chosen_by_path_by_name_or_as_the_first() {
        let path = |which| choose(which, &cameras()).unwrap().path;
        assert_eq!(path(None), PathBuf::from("/dev/video0"));
        assert_eq!(path(Some("/dev/video2")), PathBuf::from("/dev/video2"));
        assert_eq!(path(Some("usb")), PathBuf::from("/dev/video2"));
    }

    #[test]
    fn missing_cameras_are_told_in_words() {
        assert!(choose(None, &[]).unwrap_err().to_string().contains("no camera found"));
        let error = choose(Some("Logi"), &cameras()).unwrap_err().to_string();
        assert!(error.contains("Logi") && error.contains("USB Cam (/dev/video2)"), "{error}");
    }
}
