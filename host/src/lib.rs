//! Makes a pretrained Vision Transformer elastic, once, on a workstation.
//!
//! | module | job |
//! |---|---|
//! | [`checkpoint`] | opens what the hubs ship; writes permuted checkpoints; one file per family |
//! | [`calibration`] | images from a folder or made procedurally; random views of them |
//! | [`executor`] | the model in candle, for gradients and on GPUs |
//! | [`importance`] | the local importance of heads and neurons: a self-supervised Fisher term |
//! | [`scores`] | published SnapViT scores, in place of importance and search |
//! | [`sensitivity`] | what removing a structure costs in fidelity, in one unit for all |
//! | [`head_basis`] | a basis inside heads, in which single dimensions are worth ranking |
//! | [`search`] | factors that make blocks comparable: an evolution strategy |
//! | [`ranking`] | one order of removal over all quanta, and the sub-networks along it |
//! | [`ladder`], [`embedder`] | which sub-networks become rungs, and how faithful they are |
//! | [`bundle`] | writes what a device needs, all of it or nothing |
//! | [`compensation`] | matrices that make up for what the rungs remove |
//! | [`quantisation`] | embeddings in eight-bit integers, with the engine that the device runs |
//! | [`prune`] | the job of `host-prune`: these stages in order |
//! | [`eval`] | the job of `host-eval`: how good rungs are at classifying |
//! | [`check`] | the job of `host-check`: everything on one machine, compared and timed |
//! | [`flash`] | the job of `host-flash`: from a bundle to a device that serves it |
//! | [`signing`] | keys and signatures: `host-flash keygen`, `sign`, `verify` |
//! | [`baseline`] | other methods' scores, to compare with |
//! | [`boards`], [`demo`], [`shape`], [`chart`], [`progress`], [`interrupt`] | what the jobs need around them |
//!
//! Terms: a *structure* is an attention head or an MLP neuron; a *quantum* is
//! what one *step* of the *ranking* removes, a head, eight neurons or eight
//! dimensions of every head of a block; a
//! *sub-network* is what is left after some steps; a *rung* is one that was
//! measured; *fidelity* is the mean cosine similarity to the dense embedding.
//!
//! On the CPU search, ladder and evaluation run with the engine that the device
//! runs, on GPUs with candle; importance, head basis and compensation run with
//! candle everywhere.
//!
//! Limits: integers run on the CPU, as do the sums of the head basis; head basis and compensation use the first
//! of several GPUs. `cuda` has been run on one H200 (`docs/gpu.md`), not on several GPUs at once.
#![deny(unsafe_code)]

pub mod baseline;
pub mod boards;
pub mod bundle;
pub mod calibration;
pub mod chart;
pub mod check;
pub mod checkpoint;
pub mod compensation;
pub mod demo;
pub mod embedder;
pub mod eval;
pub mod executor;
pub mod flash;
pub mod flash_image;
pub mod head_basis;
pub mod importance;
pub mod interrupt;
pub mod ladder;
pub mod progress;
pub mod prune;
pub mod quantisation;
pub mod ranking;
pub mod scores;
pub mod search;
pub mod sensitivity;
pub mod shape;
pub mod signing;
