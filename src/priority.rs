//! Whoever waits for a reply comes first: work that nobody waits for by the millisecond is done on threads that say so.

/// This thread, and those that it starts, get what others leave.
pub fn yield_to_requests() {
    const NICE: libc::c_int = 5;
    // SAFETY: no pointers; 0 is the calling thread. Without success it runs as before.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
    }
}
