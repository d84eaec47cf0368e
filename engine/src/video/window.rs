//! A window that shows one or more tracks, each letterboxed in its cell of a grid.
//!
//! Only the newest picture of a track waits for the window: what comes faster than it draws is replaced. Where the platform wants
//! windows on the main thread (macOS, and any other system by choice) use [`WindowHost::run_on_main`]; on Linux [`WindowHost::spawn`]
//! gives the window a thread of its own. A process can have one host in its life, which is the window library's rule.

use super::{
    convert::{PixelOrder, to_packed},
    scale::{fit, scale},
};
use crate::{
    Timestamp,
    media::{MediaError, VideoFrame, VideoSink},
};
use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use winit::{
    application::ApplicationHandler,
    dpi::LogicalSize,
    error::EventLoopError,
    event::WindowEvent,
    event_loop::{ActiveEventLoop, EventLoop, EventLoopProxy},
    window::{Window, WindowId},
};

/// How a window looks and whom it tells.
pub struct WindowOptions {
    /// Its title.
    pub title: String,
    /// Its first size, in logical pixels.
    pub size: (u32, u32),
    /// Called, once, when the user closes it. The tracks go on.
    pub on_close: Box<dyn Fn() + Send>,
}

impl std::fmt::Debug for WindowOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowOptions").field("title", &self.title).field("size", &self.size).finish_non_exhaustive()
    }
}

/// Opens the window and runs its events.
#[derive(Debug)]
pub struct WindowHost;

impl WindowHost {
    /// Opens a window on this thread, which must be the main one, and stays until it is closed. `use_it` gets the handle on another
    /// thread, to attach tracks and close the window.
    ///
    /// # Errors
    /// Where there is no display, or the process had a window host before.
    pub fn run_on_main(
        options: WindowOptions,
        use_it: impl FnOnce(WindowHandle) + Send + 'static,
    ) -> Result<(), MediaError> {
        let event_loop = EventLoop::<Request>::with_user_event().build().map_err(|e| no_event_loop(&e))?;
        let handle = WindowHandle::new(event_loop.create_proxy());
        let application = Application::new(options, Arc::clone(&handle.tiles));
        std::thread::Builder::new()
            .name("window-user".into())
            .spawn(move || use_it(handle))
            .map_err(|e| no_window(&e))?;
        run(event_loop, application)
    }

    /// Opens a window on a thread of its own.
    ///
    /// # Errors
    /// Where there is no display, or the process had a window host before.
    #[cfg(target_os = "linux")]
    pub fn spawn(options: WindowOptions) -> Result<WindowHandle, MediaError> {
        use winit::platform::{wayland::EventLoopBuilderExtWayland, x11::EventLoopBuilderExtX11};
        let (ready, opened) = std::sync::mpsc::channel();
        let thread = move || {
            let mut builder = EventLoop::<Request>::with_user_event();
            EventLoopBuilderExtX11::with_any_thread(&mut builder, true);
            EventLoopBuilderExtWayland::with_any_thread(&mut builder, true);
            match builder.build() {
                Err(e) => drop(ready.send(Err(no_event_loop(&e)))),
                Ok(event_loop) => {
                    let handle = WindowHandle::new(event_loop.create_proxy());
                    let application = Application::new(options, Arc::clone(&handle.tiles));
                    let _ = ready.send(Ok(handle));
                    if let Err(e) = run(event_loop, application) {
                        tracing::warn!(%e, "the window ended");
                    }
                }
            }
        };
        std::thread::Builder::new().name("window".into()).spawn(thread).map_err(|e| no_window(&e))?;
        opened.recv().unwrap_or_else(|e| Err(no_window(&e)))
    }
}

fn run(event_loop: EventLoop<Request>, mut application: Application) -> Result<(), MediaError> {
    event_loop.run_app(&mut application).map_err(|e| no_event_loop(&e))?;
    application.failure.map_or(Ok(()), Err)
}

fn no_window(why: &dyn std::fmt::Display) -> MediaError {
    MediaError::new(format!("no window can be shown: {why}"))
}

/// What the window library says of a system's errors is for who works on it: it names its own source files.
fn no_event_loop(why: &EventLoopError) -> MediaError {
    tracing::debug!(%why, "no event loop for windows");
    match why {
        EventLoopError::Os(_) | EventLoopError::NotSupported(_) => {
            no_window(&no_display(|name| std::env::var(name).ok().filter(|value| !value.is_empty())))
        }
        EventLoopError::RecreationAttempt => no_window(&"this process has had a window before, and can have one only"),
        EventLoopError::ExitFailure(code) => no_window(&format!("its events ended with code {code}")),
    }
}

/// Why there is no display, and what to do about it.
fn no_display(variable: impl Fn(&str) -> Option<String>) -> String {
    match (variable("WAYLAND_DISPLAY"), variable("DISPLAY")) {
        (Some(display), _) => {
            format!("the display WAYLAND_DISPLAY={display} cannot be opened: check that it is there, and this user's")
        }
        (None, Some(display)) => {
            format!("the display DISPLAY={display} cannot be opened: check that it is there, and this user's")
        }
        (None, None) => "there is no display; set DISPLAY (X11) or WAYLAND_DISPLAY to one".to_owned(),
    }
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Redraw,
    Close,
}

type Tiles = Arc<Mutex<Vec<Tile>>>;

/// One track's cell.
#[derive(Debug)]
struct Tile {
    id: u64,
    frame: Option<VideoFrame>,
}

fn lock(tiles: &Tiles) -> MutexGuard<'_, Vec<Tile>> {
    tiles.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A window that is open, or was.
#[derive(Clone, Debug)]
pub struct WindowHandle {
    tiles: Tiles,
    proxy: EventLoopProxy<Request>,
}

impl WindowHandle {
    fn new(proxy: EventLoopProxy<Request>) -> Self {
        Self { tiles: Arc::default(), proxy }
    }

    /// A cell of the window, as a sink for a track. It goes when the sink does.
    pub fn sink(&self) -> WindowSink {
        let mut tiles = lock(&self.tiles);
        let id = tiles.last().map_or(0, |tile| tile.id + 1);
        tiles.push(Tile { id, frame: None });
        WindowSink { id, window: self.clone() }
    }

    /// Closes the window.
    pub fn close(&self) {
        // Closed already: nothing to do.
        let _ = self.proxy.send_event(Request::Close);
    }
}

/// A cell of a window, as a sink for a track.
#[derive(Debug)]
pub struct WindowSink {
    id: u64,
    window: WindowHandle,
}

impl VideoSink for WindowSink {
    fn write(&mut self, _now: Timestamp, frame: &VideoFrame) -> Result<(), MediaError> {
        let mut waiting = false;
        if let Some(tile) = lock(&self.window.tiles).iter_mut().find(|tile| tile.id == self.id) {
            tile.frame = Some(frame.clone());
            waiting = true;
        }
        if waiting {
            // A window that the user closed stays closed; the track goes on.
            let _ = self.window.proxy.send_event(Request::Redraw);
        }
        Ok(())
    }
}

impl Drop for WindowSink {
    fn drop(&mut self) {
        lock(&self.window.tiles).retain(|tile| tile.id != self.id);
        let _ = self.window.proxy.send_event(Request::Redraw);
    }
}

type Surface = softbuffer::Surface<Arc<Window>, Arc<Window>>;

/// What the event loop owns.
struct Application {
    options: WindowOptions,
    tiles: Tiles,
    open: Option<(Arc<Window>, Surface)>,
    pixels: Vec<u8>,
    failure: Option<MediaError>,
}

impl Application {
    fn new(options: WindowOptions, tiles: Tiles) -> Self {
        Self { options, tiles, open: None, pixels: Vec::new(), failure: None }
    }

    fn open(&self, event_loop: &ActiveEventLoop) -> Result<(Arc<Window>, Surface), MediaError> {
        let (width, height) = self.options.size;
        let attributes = Window::default_attributes()
            .with_title(&self.options.title)
            .with_inner_size(LogicalSize::new(width, height));
        let window = Arc::new(event_loop.create_window(attributes).map_err(|_| no_window(&"the display opens none"))?);
        let context = softbuffer::Context::new(Arc::clone(&window)).map_err(|e| no_window(&e))?;
        let surface = softbuffer::Surface::new(&context, Arc::clone(&window)).map_err(|e| no_window(&e))?;
        Ok((window, surface))
    }

    fn draw(&mut self) -> Result<(), MediaError> {
        let Some((window, surface)) = &mut self.open else { return Ok(()) };
        let size = window.inner_size();
        let (Some(width), Some(height)) = (NonZeroU32::new(size.width), NonZeroU32::new(size.height)) else {
            return Ok(());
        };
        surface.resize(width, height).map_err(|e| no_window(&e))?;
        let mut buffer = surface.buffer_mut().map_err(|e| no_window(&e))?;
        buffer.fill(0);
        let frames: Vec<Option<VideoFrame>> = lock(&self.tiles).iter().map(|tile| tile.frame.clone()).collect();
        for (index, frame) in frames.iter().enumerate() {
            let Some(frame) = frame else { continue };
            let cell = cell(index, frames.len(), (size.width, size.height));
            blit(frame, cell, &mut self.pixels, &mut buffer, size.width as usize)?;
        }
        window.pre_present_notify();
        buffer.present().map_err(|e| no_window(&e))
    }
}

/// A rectangle of the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cell {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

/// Cell `index` of `count` in a grid that is as square as it gets.
fn cell(index: usize, count: usize, (width, height): (u32, u32)) -> Cell {
    let columns = (1..).find(|c| c * c >= count).unwrap_or(1) as u32;
    let rows = (count as u32).div_ceil(columns).max(1);
    let (column, row) = (index as u32 % columns, index as u32 / columns);
    let (x, y) = (column * width / columns, row * height / rows);
    Cell { x, y, width: (column + 1) * width / columns - x, height: (row + 1) * height / rows - y }
}

fn blit(
    frame: &VideoFrame,
    cell: Cell,
    pixels: &mut Vec<u8>,
    out: &mut [u32],
    stride: usize,
) -> Result<(), MediaError> {
    if cell.width == 0 || cell.height == 0 {
        return Ok(());
    }
    let (w, h) = fit((frame.width(), frame.height()), (cell.width, cell.height));
    let picture = scale(frame, w, h)?;
    to_packed(&picture, PixelOrder::Bgra, pixels)?;
    let (left, top) = ((cell.x + (cell.width - w) / 2) as usize, (cell.y + (cell.height - h) / 2) as usize);
    let (w, h) = (w as usize, h as usize);
    for (y, row) in pixels.chunks_exact(w * 4).take(h).enumerate() {
        let at = (top + y) * stride + left;
        let Some(target) = out.get_mut(at..at + w) else { break };
        for (target, pixel) in target.iter_mut().zip(row.chunks_exact(4)) {
            *target = u32::from_le_bytes([pixel[0], pixel[1], pixel[2], 0]);
        }
    }
    Ok(())
}

impl ApplicationHandler<Request> for Application {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if self.open.is_some() {
            return;
        }
        match self.open(event_loop) {
            Ok(open) => self.open = Some(open),
            Err(e) => {
                self.failure = Some(e);
                event_loop.exit();
            }
        }
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, request: Request) {
        match request {
            Request::Redraw => {
                if let Some((window, _)) = &self.open {
                    window.request_redraw();
                }
            }
            Request::Close => event_loop.exit(),
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _id: WindowId, event: WindowEvent) {
        match event {
            WindowEvent::CloseRequested => {
                (self.options.on_close)();
                event_loop.exit();
            }
            WindowEvent::RedrawRequested => {
                if let Err(e) = self.draw() {
                    tracing::debug!(%e, "a picture was not drawn");
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_display_is_told_with_what_to_set() {
        let set = |which: &'static str| move |name: &str| (name == which).then(|| ":7".to_owned());
        assert!(no_display(|_| None).contains("set DISPLAY"));
        assert!(no_display(set("DISPLAY")).contains("DISPLAY=:7"));
        assert!(no_display(set("WAYLAND_DISPLAY")).contains("WAYLAND_DISPLAY=:7"));
    }

    #[test]
    fn cells_cover_the_window_without_overlap() {
        for count in 1..30 {
            let cells: Vec<Cell> = (0..count).map(|i| cell(i, count, (641, 359))).collect();
            let mut covered = vec![0_u8; 641 * 359];
            for cell in &cells {
                for y in cell.y..cell.y + cell.height {
                    for x in cell.x..cell.x + cell.width {
                        covered[(y * 641 + x) as usize] += 1;
                    }
                }
            }
            assert!(covered.iter().all(|&c| c <= 1), "{count}");
        }
        assert_eq!(cell(0, 1, (640, 360)), Cell { x: 0, y: 0, width: 640, height: 360 });
    }
}
