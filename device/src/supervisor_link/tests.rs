//! The link on a line that loses, repeats, delays and restarts.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const RUNGS: u8 = 4;
const VALID: TimeSpan = TimeSpan::from_nanoseconds(3_000_000_000);

fn at(milliseconds: u64) -> TimeSpan {
    TimeSpan::from_nanoseconds(milliseconds * 1_000_000)
}

fn decision(session: u32, number: u32, rung: u8, mode: Mode) -> CompanionReport<'static> {
    CompanionReport::Decision {
        session,
        number,
        rung,
        pace: TimeSpan::from_nanoseconds(0),
        binding: Binding::Temperature.name(),
        mode: mode.name(),
        valid: VALID,
        temperature: None,
        power: None,
    }
}

/// An open link with terms, and the session of its hello.
fn open() -> (Link, u32) {
    let mut link = Link::new(u32::MAX - 1);
    link.set_terms(9, RUNGS, at(0));
    link.opened(at(0));
    let session = hello(&mut link, at(0)).expect("a hello is due");
    (link, session)
}

fn hello(link: &mut Link, now: TimeSpan) -> Option<u32> {
    match link.due(now) {
        Some(Due::Hello { session }) => Some(session),
        _ => None,
    }
}

/// A link that has been in use since 0 and went silent at 3 s, in its next session.
fn lost() -> (Link, u32) {
    let (mut link, session) = open();
    link.receive(&decision(session, 1, 2, Mode::Normal), at(0));
    assert_eq!(link.state(), LinkState::InUse);
    link.tick(at(3000));
    let next = hello(&mut link, at(3000)).expect("a hello is due");
    assert_ne!(next, session);
    (link, next)
}

#[test]
fn the_first_decision_counts_until_it_is_no_longer_valid() {
    let (mut link, session) = open();
    assert_eq!((link.state(), link.advice(at(0))), (LinkState::Silent, None));
    link.receive(&decision(session, 1, 2, Mode::Normal), at(100));
    let advice = link.advice(at(200)).expect("the link is in use");
    assert_eq!((advice.revision, advice.rung, advice.binding), (9, 2, Binding::Temperature));
    assert_eq!(advice.valid, at(2900));
    link.tick(at(3099));
    assert_eq!(link.state(), LinkState::InUse);
    // Even before the next tick nothing counts that is not valid.
    assert_eq!(link.advice(at(3100)), None);
    link.tick(at(3100));
    assert_eq!(link.state(), LinkState::Silent);
}

#[test]
fn hellos_are_repeated_and_each_begins_a_session() {
    let (mut link, first) = open();
    assert_eq!(link.due(at(1999)), None);
    let second = hello(&mut link, at(2000)).expect("again");
    link.receive(&decision(first, 1, 2, Mode::Normal), at(2001));
    assert_eq!((link.state(), link.counts().stale), (LinkState::Silent, 1));
    link.receive(&decision(second, 1, 2, Mode::Normal), at(2002));
    assert_eq!(link.state(), LinkState::InUse);
    assert_eq!(link.due(at(4000)), Some(Due::Telemetry { session: second }));
    assert_eq!(link.due(at(4000)), None);
    assert_eq!(link.due(at(5000)), Some(Due::Telemetry { session: second }));
}

#[test]
fn old_numbers_are_void_and_gaps_are_counted() {
    let (mut link, session) = open();
    for (number, rung) in [(1, 1), (5, 2), (3, 0), (5, 0)] {
        link.receive(&decision(session, number, rung, Mode::Normal), at(10));
    }
    assert_eq!(link.advice(at(10)).map(|advice| advice.rung), Some(2));
    assert_eq!(link.counts(), FrameCounts { good: 2, bad: 0, stale: 2, lost: 3 });
}

#[test]
fn what_makes_no_sense_is_bad_and_changes_nothing() {
    let (mut link, session) = open();
    let CompanionReport::Decision { number, pace, mode, valid, temperature, power, .. } =
        decision(session, 1, 0, Mode::Normal)
    else {
        unreachable!()
    };
    let wrong = [
        decision(session, 1, RUNGS, Mode::Normal),
        decision(session, 0, 1, Mode::Normal),
        CompanionReport::Decision { session, number, rung: 0, pace, binding: "mood", mode, valid, temperature, power },
        CompanionReport::Decision {
            session,
            number,
            rung: 0,
            pace,
            binding: "power",
            mode: "",
            valid,
            temperature,
            power,
        },
        CompanionReport::Decision {
            session,
            number,
            rung: 0,
            pace,
            binding: "power",
            mode,
            valid: at(0),
            temperature,
            power,
        },
    ];
    wrong.iter().for_each(|report| link.receive(report, at(1)));
    assert_eq!((link.state(), link.counts().bad), (LinkState::Silent, 5));
    // A decision that wants to hold for ever holds for as long as any may.
    let valid = TimeSpan::from_nanoseconds(u64::MAX);
    let binding = "power";
    let for_ever =
        CompanionReport::Decision { session, number, rung: 0, pace, binding, mode, valid, temperature, power };
    link.receive(&for_ever, at(1));
    assert_eq!(link.advice(at(1)).map(|advice| advice.valid), Some(MAX_VALIDITY));
}

#[test]
fn after_a_silence_decisions_must_be_confirmed_and_more_so_the_more_often() {
    let (mut link, mut session) = lost();
    let mut now = 3000;
    for needed in [3, 6, 12, 24, 48, 48] {
        for number in 1..=needed {
            assert_eq!(link.advice(at(now)), None, "{number} of {needed}");
            link.receive(&decision(session, number, 2, Mode::Normal), at(now));
            now += 1000;
        }
        assert!(link.advice(at(now)).is_some(), "{needed}");
        now += 3000;
        link.tick(at(now));
        session = hello(&mut link, at(now)).expect("silent again");
    }
    // A link that was steady starts from the beginning.
    for number in 1..=48 + 60 {
        link.receive(&decision(session, number, 2, Mode::Normal), at(now));
        now += 1000;
    }
    now += 3000;
    link.tick(at(now));
    let session = hello(&mut link, at(now)).expect("silent again");
    (1..=3).for_each(|number| link.receive(&decision(session, number, 2, Mode::Normal), at(now)));
    assert_eq!(link.state(), LinkState::InUse);
}

#[test]
fn an_emergency_is_believed_before_it_is_confirmed() {
    let (mut link, session) = lost();
    link.receive(&decision(session, 1, 3, Mode::Emergency), at(3100));
    assert_eq!((link.state(), link.advice(at(3100)).map(|advice| advice.rung)), (LinkState::Returning, Some(3)));
    link.receive(&decision(session, 2, 1, Mode::Normal), at(3200));
    assert_eq!(link.advice(at(3200)), None);
}

#[test]
fn firmware_that_was_reset_is_in_use_again_without_a_silence() {
    let (mut link, session) = open();
    link.receive(&decision(session, 1, 2, Mode::Normal), at(0));
    link.receive(&CompanionReport::NoSession { session }, at(1000));
    let next = hello(&mut link, at(1000)).expect("at once");
    assert_eq!(link.advice(at(1100)).map(|advice| advice.rung), Some(2), "what was decided holds on");
    link.receive(&CompanionReport::NoSession { session }, at(1150));
    assert_eq!(hello(&mut link, at(1150)), None, "an answer to old telemetry");
    link.receive(&decision(next, 1, 1, Mode::Normal), at(1200));
    assert_eq!((link.state(), link.advice(at(1200)).map(|advice| advice.rung)), (LinkState::InUse, Some(1)));
}

#[test]
fn other_terms_void_the_decision_and_keep_the_link() {
    let (mut link, session) = open();
    link.receive(&decision(session, 1, 3, Mode::Normal), at(0));
    link.set_terms(10, 2, at(1000));
    assert_eq!((link.state(), link.advice(at(1000))), (LinkState::InUse, None));
    link.receive(&decision(session, 2, 1, Mode::Normal), at(1010));
    assert_eq!(link.advice(at(1010)), None, "it was for the old terms");
    let next = hello(&mut link, at(1020)).expect("at once");
    link.receive(&decision(next, 1, 1, Mode::Normal), at(1050));
    assert_eq!(link.advice(at(1050)).map(|advice| advice.revision), Some(10));
    // Firmware that does not answer is lost as ever.
    link.set_terms(11, 2, at(2000));
    link.tick(at(5000));
    assert_eq!(link.state(), LinkState::Silent);
}

#[test]
fn a_refusal_is_asked_again_rarely_and_at_once_for_other_terms() {
    let (mut link, session) = open();
    link.receive(&CompanionReport::Refused { session, text: "no sensor" }, at(10));
    assert_eq!((link.state(), link.due(at(29_000))), (LinkState::Refused, None));
    assert!(hello(&mut link, at(30_010)).is_some());
    link.refused(at(30_020));
    link.set_terms(10, RUNGS, at(30_030));
    let session = hello(&mut link, at(30_030)).expect("for the new terms");
    let (board, version) = ("x", VERSION + 1);
    let newer = CompanionReport::Accepted { version, session, board, watches_temperature: true, watches_power: false };
    link.receive(&newer, at(30_040));
    link.receive(&decision(session, 1, 0, Mode::Normal), at(30_050));
    assert_eq!((link.state(), link.advice(at(30_050))), (LinkState::Refused, None));
}

#[test]
fn without_a_port_nothing_is_due_and_nothing_counts() {
    let (mut link, session) = open();
    link.receive(&decision(session, 1, 2, Mode::Normal), at(0));
    link.closed(at(10));
    assert_eq!((link.state(), link.advice(at(10)), link.due(at(60_000))), (LinkState::Closed, None, None));
    link.receive(&decision(session, 2, 2, Mode::Normal), at(20));
    assert_eq!(link.state(), LinkState::Closed);
    link.opened(at(60_000));
    assert!(hello(&mut link, at(60_000)).is_some());
}

/// What can happen to a link.
#[derive(Clone, Debug)]
enum Happening {
    Wait(u64),
    /// A decision of the last session (or an older one by so many), after or before the last number by so many.
    Decision {
        older: u32,
        step: i32,
        rung: u8,
        mode: usize,
    },
    Reset,
    Bad,
    Refused,
    Port(bool),
    Terms,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0u64..4000).prop_map(Happening::Wait),
        12 => (prop_oneof![4 => Just(0u32), 1 => 1u32..3], -2i32..5, 0..RUNGS + 1, 0usize..3)
            .prop_map(|(older, step, rung, mode)| Happening::Decision { older, step, rung, mode }),
        1 => Just(Happening::Reset),
        1 => Just(Happening::Bad),
        1 => Just(Happening::Refused),
        1 => any::<bool>().prop_map(Happening::Port),
        1 => Just(Happening::Terms),
    ]
}

proptest! {
    /// Whatever happens: nothing counts but the newest decision of the running session, for its time and no longer.
    #[test]
    fn only_the_newest_fresh_decision_counts(happenings in vec(happening(), 0..200)) {
        let (mut link, mut session) = open();
        let (mut now, mut revision, mut number) = (0u64, 9, 0u32);
        // The rung that may count, with its time.
        let mut newest: Option<(u8, u64)> = None;
        for happening in happenings {
            match happening {
                Happening::Wait(time) => now += time,
                Happening::Decision { older, step, rung, mode } => {
                    let sent = number.saturating_add_signed(step);
                    link.receive(&decision(session.wrapping_sub(older), sent, rung, Mode::ALL[mode]), at(now));
                    let is_new = older == 0 && sent > number && rung < RUNGS;
                    if is_new && !matches!(link.state(), LinkState::Closed | LinkState::Refused) {
                        number = sent;
                        newest = Some((rung, now + 3000));
                    }
                }
                Happening::Reset => link.receive(&CompanionReport::NoSession { session }, at(now)),
                Happening::Bad => link.bad(),
                Happening::Refused => link.receive(&CompanionReport::Refused { session, text: "" }, at(now)),
                Happening::Port(true) => link.opened(at(now)),
                Happening::Port(false) => link.closed(at(now)),
                Happening::Terms => {
                    revision += 1;
                    link.set_terms(revision, RUNGS, at(now));
                    newest = None;
                }
            }
            link.tick(at(now));
            while let Some(due) = link.due(at(now)) {
                if let Due::Hello { session: next } = due {
                    prop_assert_ne!(next, session);
                    (session, number) = (next, 0);
                }
            }
            if let Some(advice) = link.advice(at(now)) {
                let (rung, until) = newest.expect("something was decided");
                prop_assert_eq!((advice.rung, advice.revision), (rung, revision));
                prop_assert!(now < until && advice.valid == at(until - now));
                prop_assert!(matches!(link.state(), LinkState::Returning | LinkState::InUse));
                prop_assert!(link.state() == LinkState::InUse || advice.mode == Mode::Emergency);
            }
        }
        // A supervisor that is well is in use again within the most confirmations, whatever was before.
        link.closed(at(now));
        link.opened(at(now));
        let mut answering = None;
        for _ in 0..=2 * MOST_CONFIRMATIONS {
            if let Some((session, number)) = &mut answering {
                link.receive(&decision(*session, *number, 1, Mode::Normal), at(now));
                *number += 1;
            }
            while let Some(due) = link.due(at(now)) {
                if let Due::Hello { session } = due {
                    answering = Some((session, 1));
                }
            }
            now += 1000;
        }
        prop_assert_eq!(link.state(), LinkState::InUse);
    }
}
