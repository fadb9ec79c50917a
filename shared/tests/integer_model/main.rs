//! The integer model, and the flash image that holds one, as their users see them: the formats and their refusals.

mod damage;
mod flash_image;
mod golden;
mod sample;
