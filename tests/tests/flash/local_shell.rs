//! The device's scripts run by the shell of this machine: recorded, and cut
//! where a test wants it.

use std::io::Read;
use std::process::Command;
use std::sync::Mutex;

use headroom_host::flash::child::{self, Held};
use headroom_host::flash::script::Script;
use headroom_host::flash::transport::{ANSWERS, Call, Output, Transport, TransportError};

use crate::device::FakeDevice;

/// Put before a script: every tool that changes something counts down before
/// and after its work, a write in its middle too, and at zero the shell dies as
/// by `kill -9`. The disk is not waited for.
const CUT: &str = r#"
cut() {
    cut_left=$((cut_left - 1))
    if [ "$cut_left" = 0 ]; then kill -9 $$; fi
}
cut_around() {
    cut
    code=0
    command "$@" || code=$?
    cut
    return "$code"
}
mkdir() { cut_around mkdir "$@"; }
rm() { cut_around rm "$@"; }
mv() { cut_around mv "$@"; }
ln() { cut_around ln "$@"; }
cp() { cut_around cp "$@"; }
chmod() { cut_around chmod "$@"; }
timeout() { cut_around timeout "$@"; }
cat() {
    cut
    if [ "$cut_left" = 1 ]; then head -c 3; fi
    cut_around cat "$@"
}
sync() { cut; }
sleep() { :; }
"#;

/// The shell of this machine as a device.
pub struct LocalShell<'a> {
    device: &'a FakeDevice,
    shell: &'static [&'static str],
    /// The calls that change something, where they are recorded.
    record: Option<Mutex<Vec<Recorded>>>,
}

/// A call that changes something, and the device before it.
pub struct Recorded {
    pub script: Script,
    /// Without the root.
    arguments: Vec<String>,
    input: Vec<u8>,
    device: FakeDevice,
}

impl Recorded {
    /// Repeats the call on a copy of the device and kills it at its step
    /// `step`, from 1 on; returns the copy and whether it was killed.
    pub fn cut(&self, step: u32) -> (FakeDevice, bool) {
        let device = self.device.copy();
        let root = device.root_text();
        let arguments: Vec<&str> =
            [root.as_str()].into_iter().chain(self.arguments.iter().map(String::as_str)).collect();
        let text = format!("cut_left={step}\n{CUT}{}", self.script.text());
        let mut command = command(&device, &["sh"], &text, &arguments);
        let output = child::run(&mut command, &mut &*self.input, None).unwrap();
        (device, output.code.is_none())
    }
}

impl<'a> LocalShell<'a> {
    pub fn new(device: &'a FakeDevice) -> Self {
        Self { device, shell: &["sh"], record: None }
    }

    /// Another shell than `sh`.
    pub fn with(device: &'a FakeDevice, shell: &'static [&'static str]) -> Self {
        Self { shell, ..Self::new(device) }
    }

    /// Records what changes something.
    pub fn recording(device: &'a FakeDevice) -> Self {
        Self { record: Some(Mutex::default()), ..Self::new(device) }
    }

    /// What was recorded.
    pub fn recorded(self) -> Vec<Recorded> {
        self.record.unwrap().into_inner().unwrap()
    }

    fn command(&self, call: &Call<'_>, input: &[u8]) -> Command {
        let changes = !matches!(call.script, Script::Probe | Script::Status | Script::Inventory);
        if let (true, Some(record)) = (changes, &self.record) {
            record.lock().unwrap().push(Recorded {
                script: call.script,
                arguments: call.arguments[1..].iter().map(|&argument| argument.to_owned()).collect(),
                input: input.to_owned(),
                device: self.device.copy(),
            });
        }
        command(self.device, self.shell, &call.script.text(), call.arguments)
    }
}

fn command(device: &FakeDevice, shell: &[&str], text: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg("-c").arg(text).arg("headroom").args(arguments);
    command.envs(device.environment()).current_dir(device.path("state"));
    command
}

impl Transport for LocalShell<'_> {
    fn run(&self, call: &Call<'_>, input: &mut dyn Read) -> Result<Output, TransportError> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(TransportError::Input)?;
        child::run(&mut self.command(call, &bytes), &mut &*bytes, call.limit)
    }

    fn hold(&self, call: &Call<'_>) -> Result<Held, TransportError> {
        Held::start(&mut self.command(call, &[]), &ANSWERS)
    }
}
