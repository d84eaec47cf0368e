//! The server under load: a child process of our own, or one that runs already; and what it costs, as the kernel counts it.

use anyhow::{Context, Result};
use std::{fs, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long it may take to start.
const START: Duration = Duration::from_secs(15);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// A server.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    /// Where it listens.
    pub url: String,
    /// Its process, where it is on this machine and known.
    pub pid: Option<u32>,
}

/// What a process has used.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all its threads.
    pub cpu: Duration,
    /// Of these, the threads that forward media.
    pub shards: Duration,
    /// Memory that it has in RAM.
    pub rss_bytes: u64,
}

impl Server {
    /// Starts `halloo serve` on free ports of this machine.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start(shards: Option<usize>) -> Result<Self> {
        let program = std::env::current_exe().context("could not find this program's own file")?;
        let mut command = Command::new(program);
        command.args(["serve", "--json", "--port", "0", "--connections-per-address", "100000"]);
        // What is set for a real server on this machine is not for this one.
        command.env_remove("HALLOO_CONFIG").env_remove("HALLOO_BIND").env_remove("HALLOO_KEY");
        if let Some(shards) = shards {
            command.args(["--media-shards", &shards.to_string()]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("could not start the server")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        let read = timeout(START, BufReader::new(stdout).read_line(&mut line)).await;
        read.context("the server did not say within 15 s where it listens")??;
        let banner: serde_json::Value = serde_json::from_str(&line)
            .with_context(|| format!("the server did not say where it listens, but: {line:?}"))?;
        let url = banner["url"].as_str().context("the server did not say its address")?.to_owned();
        let pid = child.id();
        Ok(Self { child: Some(child), url, pid })
    }

    /// A server that runs already.
    pub fn attach(url: String, pid: Option<u32>) -> Self {
        Self { child: None, url, pid }
    }

    /// Whether it was started here.
    pub fn is_ours(&self) -> bool {
        self.child.is_some()
    }

    /// What it has used; `None` where its process is not known or gone.
    pub fn usage(&self) -> Option<Usage> {
        usage(self.pid?)
    }

    /// Stops it, if it was started here.
    pub async fn stop(self) {
        let Some(mut child) = self.child else { return };
        if let Some(pid) = child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if timeout(STOP, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}

/// What a process has used, by procfs.
pub fn usage(pid: u32) -> Option<Usage> {
    let process = Path::new("/proc").join(pid.to_string());
    let mut usage =
        Usage { rss_bytes: resident(&fs::read_to_string(process.join("status")).ok()?)?, ..Usage::default() };
    for task in fs::read_dir(process.join("task")).ok()?.flatten() {
        // A thread may end while it is looked at.
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let time = on_processor(&read("schedstat"));
        usage.cpu += time;
        if read("comm").starts_with("sfu-shard") {
            usage.shards += time;
        }
    }
    Some(usage)
}

/// The first figure of `schedstat`: nanoseconds on a processor.
fn on_processor(schedstat: &str) -> Duration {
    Duration::from_nanos(schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}

/// `VmRSS` of `status`, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_uses_is_read_and_grows() {
        let before = usage(std::process::id()).unwrap();
        let ballast = vec![1u8; 32 << 20];
        let sum: u64 = (0..20u64).map(|_| ballast.iter().map(|byte| u64::from(*byte)).sum::<u64>()).sum();
        let after = usage(std::process::id()).unwrap();
        assert_eq!(sum, 20 * (32 << 20));
        assert!(after.cpu > before.cpu);
        assert!(after.rss_bytes >= before.rss_bytes + (16 << 20), "{before:?} {after:?}");
        assert_eq!(usage(u32::MAX), None);
    }

    #[test]
    fn kernel_files_are_read_by_their_form() {
        assert_eq!(on_processor("57680099 58088413 193\n"), Duration::from_nanos(57_680_099));
        assert_eq!(on_processor(""), Duration::ZERO);
        assert_eq!(resident("Name:\thalloo\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(resident("Name:\thalloo\n"), None);
    }
}
