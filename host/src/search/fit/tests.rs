use std::convert::Infallible;

use super::*;
use crate::search::synthetic::Synthetic;
use crate::search::{CheckpointError, Xnes, XnesOptions};

type Outcome = Result<Fitted, FitError<Infallible>>;

static NEVER: AtomicBool = AtomicBool::new(false);

fn xnes(problem: &Problem<'_>, seed: u64) -> Xnes {
    Xnes::new(XnesOptions::new(problem.start.values().to_vec(), seed)).expect("valid options")
}

fn run(model: &Synthetic, options: &FitOptions<'_>) -> Outcome {
    let problem = model.problem();
    fit(&problem, xnes(&problem, 5), &mut model.runner(), options, &mut |_| {})
}

fn best(history: &[f64]) -> f64 {
    history.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

#[test]
fn finds_that_later_blocks_matter_more() {
    let model = Synthetic::new();
    let fitted = run(&model, &FitOptions { evaluations: 150, ..FitOptions::new(&NEVER) }).expect("runs");
    let (start, found) = (fitted.history[0], fitted.fitness.expect("evaluated"));
    assert!(found > start + 0.2, "from {start} to {found}");
    assert!(fitted.factors.mlp(2) > fitted.factors.mlp(0));
    assert_eq!(fitted.stop, StopReason::BudgetSpent);
    assert_eq!(fitted.history.len(), 150);
    assert_eq!(found, best(&fitted.history));
    assert_eq!(found, fitted.similarities.iter().sum::<f64>() / 2.0);
}

#[test]
fn the_first_evaluation_is_the_start() {
    let model = Synthetic::new();
    let fitted = run(&model, &FitOptions { evaluations: 1, ..FitOptions::new(&NEVER) }).expect("runs");
    assert_eq!(fitted.factors, *model.problem().start);
    assert_eq!(fitted.history, [fitted.fitness.expect("evaluated")]);
}

#[test]
fn equal_sub_networks_are_run_once_and_the_events_say_so() {
    let model = Synthetic::new();
    let problem = model.problem();
    let mut runner = model.runner();
    let mut embedded = 0;
    let mut last = None;
    let options = FitOptions { evaluations: 120, ..FitOptions::new(&NEVER) };
    // Small steps, so that sub-networks come back in later generations.
    let mean = problem.start.values().to_vec();
    let xnes = Xnes::new(XnesOptions { sigma: 0.02, ..XnesOptions::new(mean, 1) }).expect("valid options");
    let fitted = fit(&problem, xnes, &mut runner, &options, &mut |event| match event {
        FitEvent::Embedded { .. } => embedded += 1,
        FitEvent::Evaluated { evaluated, best, statistics, .. } => last = Some((evaluated, best, statistics)),
        _ => {}
    });
    let fitted = fitted.expect("runs");
    assert_eq!(fitted.statistics.asked, 2 * 120);
    assert!(fitted.statistics.saved() > 100, "{:?}", fitted.statistics);
    assert_eq!(fitted.statistics.embedded, embedded);
    // One more for the dense model.
    assert_eq!(runner.run.len(), embedded + 1);
    runner.run.sort();
    runner.run.dedup();
    assert_eq!(runner.run.len(), embedded + 1, "a sub-network was run twice");
    assert_eq!(last, Some((120, fitted.fitness.expect("evaluated"), fitted.statistics)));
}

#[test]
fn ends_at_the_target_or_when_nothing_improves() {
    let model = Synthetic::new();
    let whole = run(&model, &FitOptions { evaluations: 200, ..FitOptions::new(&NEVER) }).expect("runs");
    let target = whole.history[0] + 0.01;
    let reached = FitOptions { target: Some(target), evaluations: 200, ..FitOptions::new(&NEVER) };
    let reached = run(&model, &reached).expect("runs");
    assert_eq!(reached.stop, StopReason::TargetReached);
    let first = whole.history.iter().position(|fitness| *fitness >= target).expect("reached in the whole fit");
    assert_eq!(reached.history, whole.history[..=first]);

    let stagnation = Some(Stagnation { generations: 2, tolerance: 1.0 });
    let stagnated = FitOptions { stagnation, evaluations: 200, ..FitOptions::new(&NEVER) };
    let stagnated = run(&model, &stagnated).expect("runs");
    assert_eq!(stagnated.stop, StopReason::Stagnated);
    // No gain from the start on can be as large: the start and two generations of 4 + floor(3 ln 15) points.
    assert_eq!(stagnated.history, whole.history[..1 + 2 * 12]);
}

fn thirty(interrupt: &AtomicBool, checkpoint: CheckpointFile) -> FitOptions<'_> {
    FitOptions { evaluations: 30, checkpoint: Some(checkpoint), ..FitOptions::new(interrupt) }
}

#[test]
fn cut_anywhere_and_resumed_it_gives_the_same_bytes() {
    let model = Synthetic::new();
    let problem = model.problem();
    let folder = tempfile::tempdir().expect("a folder");
    let kept_at = |name: &str, resume| CheckpointFile { path: folder.path().join(name), resume };
    let whole = run(&model, &thirty(&NEVER, kept_at("whole", false))).expect("runs");
    let whole_bytes = std::fs::read(folder.path().join("whole")).expect("written");
    let mut cuts = 0;
    for forwards in 1..=whole.statistics.embedded {
        let flag = AtomicBool::new(false);
        let mut runner = model.interrupted(forwards, &flag);
        let name = format!("cut-{forwards}");
        let cut = fit(&problem, xnes(&problem, 5), &mut runner, &thirty(&flag, kept_at(&name, false)), &mut |_| {});
        let cut = cut.expect("an interruption is no error");
        cuts += usize::from(cut.stop == StopReason::Interrupted);
        assert!(whole.history.starts_with(&cut.history));
        assert_eq!(cut.fitness, (!cut.history.is_empty()).then(|| best(&cut.history)));

        let resumed = run(&model, &thirty(&NEVER, kept_at(&name, true))).expect("resumes");
        assert_eq!(resumed, whole, "cut during forward {forwards}");
        assert_eq!(std::fs::read(folder.path().join(&name)).expect("written"), whole_bytes);
    }
    assert!(cuts > 20, "{cuts}");
}

#[test]
fn a_resumed_fit_may_go_on_for_longer() {
    let model = Synthetic::new();
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = Some(CheckpointFile { path: folder.path().join("fit"), resume: true });
    let run_to =
        |evaluations, checkpoint| run(&model, &FitOptions { evaluations, checkpoint, ..FitOptions::new(&NEVER) });
    run_to(17, checkpoint.clone()).expect("runs");
    assert_eq!(run_to(41, checkpoint).expect("resumes"), run_to(41, None).expect("runs"));
}

#[test]
fn interrupted_before_anything_it_gives_the_start() {
    let model = Synthetic::new();
    let fitted = run(&model, &FitOptions::new(&AtomicBool::new(true))).expect("an interruption is no error");
    assert_eq!((fitted.stop, fitted.fitness), (StopReason::Interrupted, None));
    assert_eq!(fitted.factors, *model.problem().start);
}

#[test]
fn a_checkpoint_of_another_fit_is_refused_and_named() {
    let model = Synthetic::new();
    let problem = model.problem();
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = Some(CheckpointFile { path: folder.path().join("fit"), resume: true });
    let options = FitOptions { evaluations: 3, checkpoint, ..FitOptions::new(&NEVER) };
    run(&model, &options).expect("runs");
    let sparsities = "0.3".parse().expect("a sparsity");
    let problem = Problem { sparsities: &sparsities, ..problem };
    let refused = fit(&problem, xnes(&problem, 6), &mut model.runner(), &options, &mut |_| {}).expect_err("refused");
    let FitError::Checkpoint(CheckpointError::Foreign { differences, .. }) = &refused else { panic!("{refused}") };
    assert_eq!(
        differences.iter().map(|difference| difference.name.as_str()).collect::<Vec<_>>(),
        ["search", "sparsities"]
    );
    let message = refused.to_string();
    assert!(message.contains("sparsities: 0.25/0.1,0.6/0.5 in the checkpoint, 0.3/0.3 in this run"), "{message}");
    assert!(message.contains("seed 5") && message.contains("seed 6"), "{message}");
}

#[test]
fn sparsities_beyond_the_floors_are_refused() {
    let model = Synthetic::new();
    let sparsities = "0.5,0.9".parse().expect("sparsities");
    let problem = Problem { sparsities: &sparsities, ..model.problem() };
    let refused = fit(&problem, xnes(&problem, 0), &mut model.runner(), &FitOptions::new(&NEVER), &mut |_| {});
    assert!(matches!(refused, Err(FitError::Ranking(crate::ranking::RankingError::BeyondFloors { .. }))));
}

/// A model on a device that is lost after so many forwards.
struct Failing<'a> {
    runner: crate::search::synthetic::Runner<'a>,
    left: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("the device is lost")]
struct Lost;

impl Embedder for Failing<'_> {
    type Error = Lost;

    fn dimensions(&self) -> usize {
        self.runner.dimensions()
    }

    fn embed(&mut self, kept: &Selection) -> Result<Option<Vec<f32>>, Lost> {
        self.left = self.left.checked_sub(1).ok_or(Lost)?;
        let Ok(embeddings) = self.runner.embed(kept);
        Ok(embeddings)
    }
}

#[test]
fn a_lost_device_leaves_the_best_so_far() {
    let model = Synthetic::new();
    let problem = model.problem();
    let after = |left: usize| {
        let mut embedder = Failing { runner: model.runner(), left };
        let options = FitOptions { evaluations: 40, ..FitOptions::new(&NEVER) };
        fit(&problem, xnes(&problem, 5), &mut embedder, &options, &mut |_| {}).expect_err("the device is lost")
    };
    // The dense model and a part of the first evaluation: there is nothing yet.
    for left in [0, 1, 2] {
        assert!(matches!(after(left), FitError::Embedder(Lost)), "{left}");
    }
    let FitError::Midway { best, .. } = after(21) else { panic!("there is a best") };
    assert_eq!(best.stop, StopReason::Failed);
    assert!(best.history.len() >= 10, "{}", best.history.len());
    assert_eq!(best.fitness, Some(self::best(&best.history)));
    // The same as that of a job which was allowed no more.
    let whole = run(&model, &FitOptions { evaluations: best.history.len(), ..FitOptions::new(&NEVER) }).expect("runs");
    assert_eq!((whole.factors, whole.history), (best.factors, best.history));
}
