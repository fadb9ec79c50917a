//! What the application needs of a board.

use headroom_device::reading::{Measurement, Missing};
use headroom_shared::{Power, Temperature, TimeSpan};

/// A board. No method waits, but [`Board::write`] for as long as the line takes.
pub trait Board {
    /// The name of its profile, which an image must be for.
    const NAME: &'static str;

    /// The time since a fixed moment. It is asked again within seconds.
    fn now(&mut self) -> TimeSpan;

    /// A byte from the serial line, if one has come.
    fn read(&mut self) -> Option<u8>;

    /// Sends bytes over the serial line.
    fn write(&mut self, bytes: &[u8]);

    /// How warm the chip is; in companion mode, the place of the host that it watches.
    fn temperature(&mut self) -> Measurement<Temperature>;

    /// What the host draws, in companion mode, on a board that has a meter for it.
    fn power(&mut self) -> Measurement<Power> {
        Measurement::Missing(Missing::Absent)
    }

    /// Takes a temperature for one that was measured; `false` if the board has a thermometer.
    fn set_temperature(&mut self, temperature: Temperature) -> bool {
        let _ = temperature;
        false
    }

    /// Keeps the watchdog from resetting the board. It must bear the longest inference.
    fn feed_watchdog(&mut self);
}
