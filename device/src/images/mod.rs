//! Decoding and preprocessing of image files.
