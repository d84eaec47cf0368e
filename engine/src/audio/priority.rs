//! Real-time scheduling for the calling thread, where the system allows it.

/// Whether threads that this one starts get the priority too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inherit {
    /// They do.
    #[cfg_attr(not(feature = "devices"), allow(dead_code, reason = "for the threads that drivers start"))]
    Yes,
    /// They are ordinary.
    No,
}

/// Round-robin at a low real-time priority: ahead of ordinary threads, behind the sound server's.
#[cfg(target_os = "linux")]
const PRIORITY: i32 = 5;

/// Raises the calling thread's priority. Where that is not permitted the thread stays as it is.
#[cfg(target_os = "linux")]
pub(crate) fn raise(inherit: Inherit) {
    let policy = match inherit {
        Inherit::Yes => libc::SCHED_RR,
        Inherit::No => libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
    };
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: `parameters` lives through the call, which only reads it; 0 names the calling thread.
    let refused = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if refused != 0 {
        tracing::debug!("a sound thread runs without real-time priority");
    }
}

/// Raises the calling thread's priority: not known how on this system, so it stays as it is.
#[cfg(not(target_os = "linux"))]
pub(crate) fn raise(_inherit: Inherit) {}
