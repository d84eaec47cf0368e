//! Processors: who runs where, and how much time a thread used.

use std::{fs, time::Duration};

use rustix::thread::{CpuSet, gettid, sched_setaffinity};

/// Keeps the calling thread on one processor.
pub(crate) fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).expect("two processors");
}

/// A thread of this process, as the kernel counts its time.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    counters: String,
}

impl Thread {
    /// The calling thread.
    pub(crate) fn current() -> Self {
        Self { counters: format!("/proc/self/task/{}/schedstat", gettid().as_raw_nonzero()) }
    }

    /// The thread with this name.
    pub(crate) fn named(name: &str) -> Self {
        let tasks = fs::read_dir("/proc/self/task").expect("procfs");
        let task = tasks
            .filter_map(|task| Some(task.ok()?.path()))
            .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name))
            .expect("the thread");
        Self { counters: task.join("schedstat").display().to_string() }
    }

    /// Processor time used so far.
    pub(crate) fn time(&self) -> Duration {
        let counters = fs::read_to_string(&self.counters).expect("a kernel that counts processor time");
        Duration::from_nanos(counters.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a count"))
    }
}
