//! How many requests of somebody are on their way: a bound that makes whoever sends wait, instead of a buffer that grows.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::lock::lock;

/// Counts requests from being read until their answer is written.
pub(super) struct Unanswered {
    state: Mutex<State>,
    changed: Condvar,
    most: usize,
}

#[derive(Default)]
struct State {
    count: usize,
    closed: bool,
}

impl Unanswered {
    /// At most `most` at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), most }
    }

    /// Counts one more, once there is room; false once no more are to come.
    pub(super) fn begin(&self) -> bool {
        let full = |state: &mut State| state.count >= self.most && !state.closed;
        let mut state = self.changed.wait_while(lock(&self.state), full).unwrap_or_else(PoisonError::into_inner);
        state.count += usize::from(!state.closed);
        !state.closed
    }

    /// One less.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.count = state.count.saturating_sub(1);
        self.changed.notify_all();
    }

    /// No more are to come.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// No more are to come, and nobody takes the answers that are on their way.
    pub(super) fn abandon(&self) {
        *lock(&self.state) = State { count: 0, closed: true };
        self.changed.notify_all();
    }

    /// Waits until all are answered or abandoned.
    pub(super) fn wait_for_all(&self) {
        drop(self.changed.wait_while(lock(&self.state), |state| state.count > 0));
    }

    /// The same, for at most `time`.
    pub(super) fn wait_for_all_at_most(&self, time: Duration) {
        drop(self.changed.wait_timeout_while(lock(&self.state), time, |state| state.count > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_until_one_ends() {
        let unanswered = Unanswered::new(2);
        assert!(unanswered.begin() && unanswered.begin());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| unanswered.begin());
            unanswered.end();
            assert!(third.join().unwrap());
            let fourth = scope.spawn(|| unanswered.begin());
            unanswered.close();
            assert!(!fourth.join().unwrap());
        });
    }

    #[test]
    fn all_are_waited_for_unless_they_are_abandoned() {
        let unanswered = Unanswered::new(2);
        assert!(unanswered.begin());
        std::thread::scope(|scope| {
            let all = scope.spawn(|| unanswered.wait_for_all());
            unanswered.end();
            all.join().unwrap();
            assert!(unanswered.begin());
            unanswered.wait_for_all_at_most(Duration::from_millis(1));
            let all = scope.spawn(|| unanswered.wait_for_all());
            unanswered.abandon();
            all.join().unwrap();
        });
        assert!(!unanswered.begin());
    }
}
