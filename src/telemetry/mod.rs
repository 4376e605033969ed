//! What people and machines see of the process itself: logs and health.

mod health;
mod logs;

pub use health::{Health, serve};
pub use logs::init;
