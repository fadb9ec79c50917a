//! How a long job tells what it is doing.
//!
//! Libraries report to the [`Progress`] trait; the program draws. On a terminal
//! that is a bar for each stage, elsewhere a plain line every few seconds, so
//! that logs stay readable. All of it goes to stderr.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use headroom_device::lock::lock;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What a long job reports. Stages follow each other; they do not nest.
pub trait Progress: Sync {
    /// A stage begins that will handle `total` of `unit` (such as `images`).
    fn begin(&self, stage: &str, total: u64, unit: &'static str);
    /// So many are done since the stage began.
    fn done(&self, count: u64);
    /// The stage has ended; `summary` says what came of it.
    fn end(&self, summary: &str);
    /// Something worth knowing that is no stage.
    fn note(&self, text: &str);
}

/// Says nothing: `--quiet`, and tests.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _stage: &str, _total: u64, _unit: &'static str) {}
    fn done(&self, _count: u64) {}
    fn end(&self, _summary: &str) {}
    fn note(&self, _text: &str) {}
}

/// The time between two plain lines where stderr is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Draws on stderr.
#[derive(Default)]
pub struct Drawn {
    stage: Mutex<Option<Stage>>,
}

struct Stage {
    name: String,
    total: u64,
    unit: &'static str,
    begun: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Drawn {
    fn with_stage(&self, action: impl FnOnce(&mut Option<Stage>)) {
        // A panic in another thread leaves a stage that can still be drawn.
        action(&mut lock(&self.stage));
    }
}

impl Progress for Drawn {
    fn begin(&self, stage: &str, total: u64, unit: &'static str) {
        let bar = std::io::stderr().is_terminal().then(|| bar(stage, total, unit));
        if bar.is_none() {
            anstream::eprintln!("{stage}: {total} {unit}");
        }
        let now = Instant::now();
        let name = stage.to_owned();
        self.with_stage(|slot| *slot = Some(Stage { name, total, unit, begun: now, last_line: now, bar }));
    }

    fn done(&self, count: u64) {
        self.with_stage(|slot| {
            let Some(stage) = slot else { return };
            if let Some(bar) = &stage.bar {
                bar.set_position(count);
            } else if stage.last_line.elapsed() >= LINE_INTERVAL && count < stage.total {
                stage.last_line = Instant::now();
                anstream::eprintln!("{}", line(stage, count, stage.begun.elapsed()));
            }
        });
    }

    fn end(&self, summary: &str) {
        self.with_stage(|slot| {
            if let Some(stage) = slot.take() {
                if let Some(bar) = &stage.bar {
                    bar.finish_and_clear();
                }
                anstream::eprintln!("{}: {summary} ({:.1} s)", stage.name, stage.begun.elapsed().as_secs_f64());
            }
        });
    }

    fn note(&self, text: &str) {
        self.with_stage(|slot| match slot.as_ref().and_then(|stage| stage.bar.as_ref()) {
            Some(bar) => bar.suspend(|| anstream::eprintln!("{text}")),
            None => anstream::eprintln!("{text}"),
        });
    }
}

fn bar(stage: &str, total: u64, unit: &str) -> ProgressBar {
    let template =
        format!("{{prefix:<12}} {{bar:30}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{elapsed}} elapsed, {{eta}} left");
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.set_prefix(stage.to_owned());
    bar
}

fn line(stage: &Stage, count: u64, elapsed: Duration) -> String {
    let rate = count as f64 / elapsed.as_secs_f64().max(1e-9);
    let left = if rate > 0.0 { (stage.total - count) as f64 / rate } else { f64::INFINITY };
    format!("{}: {count}/{} {}, {rate:.1}/s, {left:.0} s left", stage.name, stage.total, stage.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_rate_and_time_left() {
        let now = Instant::now();
        let stage =
            Stage { name: "importance".into(), total: 100, unit: "images", begun: now, last_line: now, bar: None };
        let text = line(&stage, 20, Duration::from_secs(4));
        assert_eq!(text, "importance: 20/100 images, 5.0/s, 16 s left");
    }
}
