//! Work in other threads.

use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Does the same with each, all at once. If one panics, so does this: no result is left out.
pub(crate) fn each<T: Send, R: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Does what may never end, and waits for it no longer than that. A result that comes later is dropped.
pub(crate) fn within<R: Send + 'static>(patience: Duration, work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::each;

    #[test]
    fn no_result_is_left_out() {
        assert_eq!(each([1, 2, 3], |n| n * 2), [2, 4, 6]);
        assert!(catch_unwind(|| each([0, 1], |n| assert_eq!(n, 0))).is_err());
    }
}
