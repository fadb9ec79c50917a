//! The bounded queue between clients and workers.
//!
//! First come, first served, across all clients. Two bounds hold: of all jobs that wait, and of those of one client,
//! so that no client can fill the queue alone. What happens to a job for which there is no room is the client's
//! [`WhenFull`].

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::lock::{lock, wait, wait_for};

/// What happens to a request for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// Newest wins, for cameras: the oldest waiting request of the same client is answered
    /// [`Dropped`](super::Refusal::Dropped) and its place taken. Where the client has none waiting, because others
    /// fill the queue, the new one is refused.
    #[default]
    DropOldest,
    /// The new request is answered [`QueueFull`](super::Refusal::QueueFull): back-pressure without waiting.
    Refuse,
    /// The caller waits for room: back-pressure for files and pipes.
    Wait,
}

/// The jobs that wait, and when the next may start.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// A job has come, the pace has changed, or the queue was closed.
    changed: Condvar,
    /// A job has left, or the queue was closed.
    room: Condvar,
    capacity: usize,
}

struct State<T> {
    waiting: VecDeque<Waiting<T>>,
    closed: bool,
    /// The least time between two starts.
    pace: Duration,
    last_start: Option<Instant>,
}

struct Waiting<T> {
    client: u64,
    job: T,
}

/// What became of a pushed job.
#[derive(Debug, PartialEq)]
pub(super) enum Pushed<T> {
    Accepted,
    /// Instead of an older one of the same client, which is given back.
    AcceptedInsteadOf(T),
    /// No room; the job is given back.
    Full(T),
    /// No job is accepted any more; the job is given back.
    Closed(T),
}

impl<T> Queue<T> {
    /// With room for `capacity` jobs, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        let state = State { waiting: VecDeque::new(), closed: false, pace: Duration::ZERO, last_start: None };
        Self { state: Mutex::new(state), changed: Condvar::new(), room: Condvar::new(), capacity: capacity.max(1) }
    }

    /// Adds a job of `client`, of which at most `most` wait at a time.
    pub(super) fn push(&self, client: u64, most: usize, when_full: WhenFull, job: T) -> Pushed<T> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return Pushed::Closed(job);
            }
            let own = state.waiting.iter().filter(|waiting| waiting.client == client).count();
            if own < most.max(1) && state.waiting.len() < self.capacity {
                state.waiting.push_back(Waiting { client, job });
                self.changed.notify_one();
                return Pushed::Accepted;
            }
            match when_full {
                WhenFull::Refuse => return Pushed::Full(job),
                WhenFull::Wait => state = wait(&self.room, state),
                WhenFull::DropOldest => {
                    let oldest = state.waiting.iter().position(|waiting| waiting.client == client);
                    let Some(dropped) = oldest.and_then(|oldest| state.waiting.remove(oldest)) else {
                        return Pushed::Full(job);
                    };
                    state.waiting.push_back(Waiting { client, job });
                    return Pushed::AcceptedInsteadOf(dropped.job);
                }
            }
        }
    }

    /// The oldest job, once there is one and the pace allows a start; `None` once the queue is closed.
    pub(super) fn take(&self) -> Option<T> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return None;
            }
            if state.waiting.is_empty() {
                state = wait(&self.changed, state);
                continue;
            }
            let now = Instant::now();
            let early =
                state.last_start.map_or(Duration::ZERO, |last| (last + state.pace) - now.min(last + state.pace));
            if !early.is_zero() {
                state = wait_for(&self.changed, state, early);
                continue;
            }
            state.last_start = Some(now);
            let taken = state.waiting.pop_front();
            // Each waiting producer may be of another client, whose own bound still holds.
            self.room.notify_all();
            return taken.map(|waiting| waiting.job);
        }
    }

    /// The least time between the starts of two jobs from now on.
    pub(super) fn set_pace(&self, pace: Duration) {
        let mut state = lock(&self.state);
        if state.pace != pace {
            state.pace = pace;
            self.changed.notify_all();
        }
    }

    /// Takes every waiting job of `client` out.
    pub(super) fn take_all_of(&self, client: u64) -> Vec<T> {
        let mut state = lock(&self.state);
        let (of_client, others) = state.waiting.drain(..).partition(|waiting| waiting.client == client);
        state.waiting = others;
        self.room.notify_all();
        let of_client: VecDeque<Waiting<T>> = of_client;
        of_client.into_iter().map(|waiting| waiting.job).collect()
    }

    /// Accepts and hands out nothing any more, and gives back what was waiting.
    pub(super) fn close(&self) -> Vec<T> {
        let mut state = lock(&self.state);
        state.closed = true;
        self.changed.notify_all();
        self.room.notify_all();
        state.waiting.drain(..).map(|waiting| waiting.job).collect()
    }

    /// Jobs that wait.
    pub(super) fn len(&self) -> usize {
        lock(&self.state).waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn the_newest_wins_within_one_client_only() {
        let queue = Queue::new(3);
        assert_eq!(queue.push(1, 1, WhenFull::DropOldest, "a1"), Pushed::Accepted);
        assert_eq!(queue.push(2, 2, WhenFull::DropOldest, "b1"), Pushed::Accepted);
        assert_eq!(queue.push(1, 1, WhenFull::DropOldest, "a2"), Pushed::AcceptedInsteadOf("a1"));
        assert_eq!(queue.push(2, 2, WhenFull::DropOldest, "b2"), Pushed::Accepted);
        assert_eq!(queue.push(3, 1, WhenFull::DropOldest, "c1"), Pushed::Full("c1"));
        assert_eq!([queue.take(), queue.take(), queue.take()], [Some("b1"), Some("a2"), Some("b2")]);
    }

    #[test]
    fn a_refusing_client_keeps_what_it_has() {
        let queue = Queue::new(8);
        assert_eq!(queue.push(1, 1, WhenFull::Refuse, 1), Pushed::Accepted);
        assert_eq!(queue.push(1, 1, WhenFull::Refuse, 2), Pushed::Full(2));
        assert_eq!(queue.take(), Some(1));
        assert_eq!(queue.push(1, 1, WhenFull::Refuse, 3), Pushed::Accepted);
    }

    #[test]
    fn a_waiting_client_gets_all_its_jobs_through_in_order() {
        let queue = Arc::new(Queue::new(2));
        let producer = Arc::clone(&queue);
        let pushing =
            thread::spawn(move || (0..1000).all(|job| producer.push(1, 2, WhenFull::Wait, job) == Pushed::Accepted));
        assert!((0..1000).all(|job| queue.take() == Some(job)));
        assert!(pushing.join().expect("no panic"));
    }

    #[test]
    fn closing_gives_back_what_waits_and_wakes_whoever_waits() {
        let queue = Arc::new(Queue::new(1));
        assert_eq!(queue.push(1, 1, WhenFull::Refuse, 1), Pushed::Accepted);
        let waiting = Arc::clone(&queue);
        let pushing = thread::spawn(move || waiting.push(2, 1, WhenFull::Wait, 2));
        assert_eq!(queue.close(), [1]);
        assert_eq!(pushing.join().expect("no panic"), Pushed::Closed(2));
        assert_eq!(queue.take(), None);
        assert_eq!(queue.push(1, 1, WhenFull::DropOldest, 3), Pushed::Closed(3));
    }

    #[test]
    fn a_client_that_leaves_takes_its_jobs_along() {
        let queue = Queue::new(4);
        for (client, job) in [(1, 'a'), (2, 'b'), (1, 'c')] {
            assert_eq!(queue.push(client, 4, WhenFull::Refuse, job), Pushed::Accepted);
        }
        assert_eq!(queue.take_all_of(1), ['a', 'c']);
        assert_eq!(queue.take(), Some('b'));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn starts_keep_the_pace() {
        let queue = Queue::new(8);
        let pace = Duration::from_millis(20);
        queue.set_pace(pace);
        for job in 0..3 {
            assert_eq!(queue.push(1, 8, WhenFull::Refuse, job), Pushed::Accepted);
        }
        let begin = Instant::now();
        for job in 0..3 {
            assert_eq!(queue.take(), Some(job));
        }
        // Never too early; how late depends on the machine.
        assert!(begin.elapsed() >= pace * 2);
    }
}
