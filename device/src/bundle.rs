//! Opening a bundle.
