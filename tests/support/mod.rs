//! What the whole-system tests share: processes that are watched line by line, clips, and an impaired network.
#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

pub(crate) mod clips;
pub(crate) mod proxy;
pub(crate) mod relay;

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Generous: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) fn halloo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halloo"));
    command.env_remove("HALLOO_SERVER").env_remove("HALLOO_TOKEN").stdin(Stdio::null());
    command
}

/// A process whose standard error is collected and can be waited for. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    said: Arc<(Mutex<Vec<String>>, Condvar)>,
    stdout: Option<JoinHandle<String>>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("halloo starts");
        let said = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (stderr, shared) = (child.stderr.take().unwrap(), said.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                shared.0.lock().unwrap().push(line);
                shared.1.notify_all();
            }
        });
        let mut stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        });
        Self { child, said, stdout: Some(reader) }
    }

    /// Waits until it has said something that contains `text`.
    pub(crate) fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.said.0.lock().unwrap();
        while !lines.iter().any(|line| line.contains(text)) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {text:?} within {PATIENCE:?}; it said:\n{}", lines.join("\n"));
            lines = self.said.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    pub(crate) fn said(&self) -> String {
        self.said.0.lock().unwrap().join("\n")
    }

    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    pub(crate) fn kill(&self) {
        self.signal("-KILL");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        let deadline = Instant::now() + PATIENCE + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end; it said:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        };
        let stdout = self.stdout.take().unwrap().join().unwrap();
        Finished { status, stdout, said: self.said() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) said: String,
}

impl Finished {
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Its `--json` report.
    pub(crate) fn report(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {:?}; it said:\n{}", self.stdout, self.said))
    }

    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "it said:\n{}", self.said);
        self
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    data: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments.
    pub(crate) fn start_with(more: &[&str]) -> Self {
        Self::start_on(0, tempfile::tempdir().unwrap(), more)
    }

    fn start_on(port: u16, data: tempfile::TempDir, more: &[&str]) -> Self {
        let mut child = halloo()
            .args(["serve", "--json", "--port", &port.to_string()])
            .args(more)
            .arg("--data")
            .arg(data.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let banner: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        Self { child, url: banner["url"].as_str().unwrap().to_owned(), data }
    }

    pub(crate) fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap()
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    pub(crate) fn kill(mut self) -> (u16, tempfile::TempDir) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let port = self.port();
        let data = std::mem::replace(&mut self.data, tempfile::tempdir().unwrap());
        (port, data)
    }

    /// The same server again, after [`Server::kill`].
    pub(crate) fn restart((port, data): (u16, tempfile::TempDir)) -> Self {
        Self::start_on(port, data, &[])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An endpoint's command: `answer` or `call`, with everything that all tests give.
pub(crate) fn endpoint(command: &str, name: &str, server: &str, folder: &Path) -> Command {
    let mut endpoint = halloo();
    endpoint.args([command, "--as", name, "--server", server, "--json", "--audio-out", "none", "--record"]).arg(folder);
    endpoint
}
