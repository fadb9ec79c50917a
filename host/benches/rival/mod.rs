//! PyTorch in a process of its own, which runs once for every line that it is sent.

use std::error::Error;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// `vit_cifar10_s` in PyTorch.
pub struct Rival {
    process: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// The model that both run, where it is there.
pub fn model() -> PathBuf {
    let models = std::env::var_os("HEADROOM_MODELS").map_or_else(|| "../shared/models".into(), PathBuf::from);
    repository().join(models).join("vit_cifar10_s.safetensors")
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Rival {
    /// Starts it with so many images and as many threads as rayon has, at the (MLP, heads) `sparsities`, one after the
    /// other; `None`, with a visible line, where the model or PyTorch is not there.
    pub fn start(images: usize, sparsities: &str) -> Result<Option<Self>, Box<dyn Error>> {
        let model = model();
        if !model.is_file() {
            println!("SKIPPED: no {}", model.display());
            return Ok(None);
        }
        let python = std::env::var_os("HEADROOM_PYTHON").unwrap_or_else(|| "python3".into());
        let mut process = Command::new(python)
            .arg(repository().join("host/benches/pytorch_forward.py"))
            .args([model.as_os_str(), model.with_extension("config.json").as_os_str()])
            .args([images.to_string(), rayon::current_num_threads().to_string(), sparsities.to_owned()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = process.stdin.take().ok_or("the rival has no input")?;
        let mut answers = BufReader::new(process.stdout.take().ok_or("the rival has no output")?).lines();
        let Some(ready) = answers.next() else {
            println!("SKIPPED: PyTorch did not start (set HEADROOM_PYTHON)");
            return Ok(None);
        };
        println!("{}", ready?);
        Ok(Some(Self { process, ask, answers }))
    }

    /// The seconds that all images take at all sparsities.
    pub fn run(&mut self) -> Result<f64, Box<dyn Error>> {
        writeln!(self.ask)?;
        Ok(self.answers.next().ok_or("the rival has ended")??.parse()?)
    }

    /// Ends it.
    pub fn stop(self) -> Result<(), Box<dyn Error>> {
        let Self { mut process, ask, .. } = self;
        drop(ask);
        process.wait()?;
        Ok(())
    }
}
