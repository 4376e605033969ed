//! The public state of the process for users and machines: logs, health and metrics.

mod catalogue;
mod health;
mod listener;
mod logs;
mod metrics;
mod scrape;

pub use health::Health;
pub use listener::serve;
pub use logs::init;
pub use metrics::Metrics;
pub use scrape::{Admission, Admits, metrics_routes};
