//! Signed bundles and the devices that trust them: real programs, real files.

mod agent;
mod bytes;
mod keys;
mod openssl;
mod refusals;
mod rollback;
mod workshop;
