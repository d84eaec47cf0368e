//! The server under load: a child process of our own, or one that runs already; and what it costs, as the kernel counts it.

use crate::own_server::OwnServer;
use anyhow::Result;
use std::{fs, path::Path, time::Duration};

/// A server.
#[derive(Debug)]
pub struct Server {
    own: Option<OwnServer>,
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
        let shards = shards.map(|shards| shards.to_string());
        let mut arguments = vec!["--connections-per-address", "100000"];
        arguments.extend(shards.iter().flat_map(|shards| ["--media-shards", shards]));
        let own = OwnServer::start(&arguments).await?;
        Ok(Self { url: own.url.clone(), pid: own.pid(), own: Some(own) })
    }

    /// A server that runs already.
    pub fn attach(url: String, pid: Option<u32>) -> Self {
        Self { own: None, url, pid }
    }

    /// Whether it was started here.
    pub fn is_ours(&self) -> bool {
        self.own.is_some()
    }

    /// What it has used; `None` where its process is not known or gone.
    pub fn usage(&self) -> Option<Usage> {
        usage(self.pid?)
    }

    /// Stops it, if it was started here.
    pub async fn stop(self) {
        if let Some(own) = self.own {
            own.stop().await;
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
