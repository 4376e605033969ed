//! The events of the operator about objects.

pub(crate) mod notices;
pub(crate) mod object_reports;
pub(crate) mod publisher;
