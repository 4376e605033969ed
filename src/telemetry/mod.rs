//! What people and machines see of the process itself: logs, health and metrics.

mod catalogue;
mod health;
mod logs;
mod metrics;

pub use health::{Health, serve};
pub use logs::init;
pub use metrics::Metrics;
