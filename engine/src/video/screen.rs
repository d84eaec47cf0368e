//! The screen, or one window of it, as a source (X11).
//!
//! The server writes into shared memory (MIT-SHM 1.2, a sealed file both sides hold) where it can, else it sends the pixels. The
//! file is read, not mapped: the server may write at any time, and reading makes that harmless.

use super::{
    convert::{Packed, PixelOrder, from_packed},
    pace::Pace,
};
use crate::{
    Timestamp,
    media::{MediaError, VideoFrame, VideoPoll, VideoSource},
};
use std::{fs::File, os::unix::fs::FileExt};
use x11rb::{
    connection::Connection,
    errors::ReplyError,
    protocol::{
        shm::{self, ConnectionExt as _},
        xproto::{ConnectionExt as _, ImageFormat, ImageOrder, Window},
    },
    rust_connection::RustConnection,
};

/// What is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScreenTarget {
    /// All of the screen.
    Whole,
    /// One window, by its X11 id, as far as it lies within the screen.
    Window(u32),
}

/// A screen that is being captured.
#[derive(Debug)]
pub struct ScreenSource {
    connection: RustConnection,
    root: Window,
    target: Window,
    pace: Pace,
    shared: Option<SharedMemory>,
    pixels: Vec<u8>,
}

#[derive(Debug)]
struct SharedMemory {
    segment: shm::Seg,
    file: File,
    len: usize,
}

/// Part of the target that can be captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Area {
    x: i16,
    y: i16,
    width: u16,
    height: u16,
}

impl ScreenSource {
    /// Connects to the display that `DISPLAY` names.
    ///
    /// # Errors
    /// Where there is none, it has no 24-bit colours, or the window does not exist.
    pub fn open(target: ScreenTarget, frame_rate: f64) -> Result<Self, MediaError> {
        Self::open_display(None, target, frame_rate)
    }

    /// Connects to a display by name, as `:0`.
    ///
    /// # Errors
    /// As [`ScreenSource::open`].
    pub fn open_display(display: Option<&str>, target: ScreenTarget, frame_rate: f64) -> Result<Self, MediaError> {
        let pace = Pace::new(frame_rate)?;
        let (connection, screen) = x11rb::connect(display).map_err(|e| {
            let name = display.map(str::to_owned).or_else(|| std::env::var("DISPLAY").ok());
            let name = name.unwrap_or_else(|| "none: DISPLAY is not set".into());
            MediaError::new(format!("the screen cannot be captured: no X11 display ({name}): {e}"))
        })?;
        let setup = connection.setup();
        let screen = setup.roots.get(screen).ok_or_else(|| MediaError::new("the X11 display has no such screen"))?;
        let packed = setup.pixmap_formats.iter().any(|f| f.depth == screen.root_depth && f.bits_per_pixel == 32);
        if !packed || screen.root_depth < 24 || setup.image_byte_order != ImageOrder::LSB_FIRST {
            return Err(MediaError::new(format!(
                "the screen has {} bits of colour; only 24 in 4 bytes, blue first, can be captured",
                screen.root_depth
            )));
        }
        let root = screen.root;
        let target = match target {
            ScreenTarget::Whole => root,
            ScreenTarget::Window(window) => window,
        };
        let mut source = Self { connection, root, target, pace, shared: None, pixels: Vec::new() };
        source.area()?;
        source.shared = source.share(0).ok();
        Ok(source)
    }

    /// Whether pixels come through shared memory.
    pub fn uses_shared_memory(&self) -> bool {
        self.shared.is_some()
    }

    fn area(&self) -> Result<Area, MediaError> {
        let geometry = |window| -> Result<_, ReplyError> { self.connection.get_geometry(window)?.reply() };
        let gone = |e: ReplyError| {
            MediaError::new(format!("the window 0x{:x} cannot be captured (any more): {e}", self.target))
        };
        let own = geometry(self.target).map_err(gone)?;
        if self.target == self.root {
            return Ok(Area { x: 0, y: 0, width: own.width, height: own.height });
        }
        let root = geometry(self.root).map_err(gone)?;
        let position = || -> Result<_, ReplyError> {
            self.connection.translate_coordinates(self.target, self.root, 0, 0)?.reply()
        };
        let position = position().map_err(gone)?;
        let visible = |at: i16, length: u16, limit: u16| {
            let (from, to) = (i32::from(at).max(0), (i32::from(at) + i32::from(length)).min(limit.into()));
            ((from - i32::from(at)) as i16, (to - from).max(0) as u16)
        };
        let (x, width) = visible(position.dst_x, own.width, root.width);
        let (y, height) = visible(position.dst_y, own.height, root.height);
        Ok(Area { x, y, width, height })
    }

    /// A segment of at least `len` bytes that the server can write to.
    fn share(&mut self, len: usize) -> Result<SharedMemory, MediaError> {
        let cannot = |e: &dyn std::fmt::Display| MediaError::new(format!("no shared memory with the X11 server: {e}"));
        let version = || -> Result<_, ReplyError> { self.connection.shm_query_version()?.reply() };
        let version = version().map_err(|e| cannot(&e))?;
        if (version.major_version, version.minor_version) < (1, 2) {
            return Err(cannot(&"MIT-SHM is older than 1.2"));
        }
        let fd = rustix::fs::memfd_create("halloo-screen", rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| cannot(&e))?;
        let file = File::from(fd);
        file.set_len(len.max(4_096) as u64).map_err(|e| cannot(&e))?;
        let theirs = file.try_clone().map_err(|e| cannot(&e))?;
        let segment = self.connection.generate_id().map_err(|e| cannot(&e))?;
        let attach = || -> Result<(), ReplyError> {
            self.connection.shm_attach_fd(segment, std::os::fd::OwnedFd::from(theirs), false)?.check()
        };
        attach().map_err(|e| cannot(&e))?;
        Ok(SharedMemory { segment, file, len: len.max(4_096) })
    }

    fn capture(&mut self, at: Timestamp) -> Result<Option<VideoFrame>, MediaError> {
        let area = self.area()?;
        if area.width == 0 || area.height == 0 {
            return Ok(None);
        }
        let stride = usize::from(area.width) * 4;
        let len = stride * usize::from(area.height);
        if self.shared.as_ref().is_some_and(|shared| shared.len < len) {
            if let Some(old) = self.shared.take() {
                // Its memory goes when both sides have let go.
                let _ = self.connection.shm_detach(old.segment);
            }
            self.shared = self.share(len).ok();
        }
        let fetched = match &self.shared {
            Some(shared) => self.fetch_shared(shared.segment, area),
            None => self.fetch(area),
        };
        match fetched {
            Ok(Some(data)) => self.pixels = data,
            Ok(None) => {
                self.pixels.resize(len, 0);
                if let Some(shared) = &self.shared {
                    let read = shared.file.read_exact_at(&mut self.pixels[..len], 0);
                    read.map_err(|e| MediaError::new(format!("the screen's shared memory cannot be read: {e}")))?;
                }
            }
            // The window moved or was hidden between the two requests: the next capture sees where it is.
            Err(ReplyError::X11Error(_)) => return Ok(None),
            Err(e) => return Err(MediaError::new(format!("the X11 display is gone: {e}"))),
        }
        let packed = Packed {
            width: area.width.into(),
            height: area.height.into(),
            data: &self.pixels,
            stride,
            order: PixelOrder::Bgra,
        };
        from_packed(packed, at).map(Some)
    }

    fn fetch_shared(&self, segment: shm::Seg, area: Area) -> Result<Option<Vec<u8>>, ReplyError> {
        let Area { x, y, width, height } = area;
        let format = ImageFormat::Z_PIXMAP.into();
        self.connection.shm_get_image(self.target, x, y, width, height, !0, format, segment, 0)?.reply()?;
        Ok(None)
    }

    fn fetch(&self, area: Area) -> Result<Option<Vec<u8>>, ReplyError> {
        let Area { x, y, width, height } = area;
        let image = self.connection.get_image(ImageFormat::Z_PIXMAP, self.target, x, y, width, height, !0)?.reply()?;
        Ok(Some(image.data))
    }
}

impl VideoSource for ScreenSource {
    fn poll(&mut self, now: Timestamp) -> Result<VideoPoll, MediaError> {
        if let Err(next) = self.pace.due(now) {
            return Ok(VideoPoll::Wait(next));
        }
        match self.capture(now)? {
            Some(frame) => Ok(VideoPoll::Frame(frame)),
            None => Ok(self.pace.due(now).map_or_else(VideoPoll::Wait, |_| VideoPoll::Wait(now))),
        }
    }

    fn frame_rate(&self) -> f64 {
        self.pace.frame_rate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_that_is_not_there_is_named() {
        let error = ScreenSource::open_display(Some(":4711"), ScreenTarget::Whole, 15.0).unwrap_err().to_string();
        assert!(error.contains(":4711"), "{error}");
    }
}
