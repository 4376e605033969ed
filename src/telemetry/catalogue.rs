//! Metrics with their documentation: every registered metric is documented.
//!
//! Invariant kept here: the value of a label is one of its listed words, or `Other`. Therefore the number of series
//! is fixed, whatever objects the cluster has.

use std::array;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

/// The prefix of every name.
const PREFIX: &str = "town_operator";

/// The value of a label for an unlisted word.
pub(super) const OTHER: &str = "Other";

/// A label with its possible values.
#[derive(Clone, Copy)]
pub(super) struct Label {
    /// Name of the label.
    pub(super) name: &'static str,
    /// The possible values. An empty list means one value, which is fixed at build time.
    pub(super) words: &'static [&'static str],
    /// Whether [`OTHER`] is a possible value too.
    pub(super) other: bool,
}

impl Label {
    /// Every possible value.
    pub(super) fn values(&self) -> Vec<&'static str> {
        self.words.iter().copied().chain(self.other.then_some(OTHER)).collect()
    }

    fn say(&self, word: &str) -> &'static str {
        self.words.iter().find(|listed| **listed == word).copied().unwrap_or(OTHER)
    }
}

/// Names and values of the labels of one series.
type Series<const N: usize> = [(&'static str, &'static str); N];

/// A metric for every combination of the label values.
pub(super) struct Labelled<M, const N: usize, C = fn() -> M> {
    labels: [Label; N],
    family: Family<Series<N>, M, C>,
}

/// A constructor of histograms with these upper bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// A counter of fractional values.
pub(super) type Sum = Counter<f64, AtomicU64>;

/// Histograms by label.
pub(super) type Histograms<const N: usize> = Labelled<Histogram, N, Buckets>;

impl<M: Clone, const N: usize, C: MetricConstructor<M>> Labelled<M, N, C> {
    /// The metric with these label values.
    pub(super) fn of(&self, words: [&str; N]) -> M {
        self.family.get_or_create_owned(&self.series(words))
    }

    fn series(&self, words: [&str; N]) -> Series<N> {
        array::from_fn(|i| (self.labels[i].name, self.labels[i].say(words[i])))
    }

    /// Every combination of the label values.
    fn all(&self) -> impl Iterator<Item = Series<N>> {
        let values = self.labels.map(|label| label.values());
        let combinations = values.iter().map(Vec::len).product();
        (0..combinations).map(move |number: usize| {
            let mut rest = number;
            array::from_fn(|i| {
                let word = values[i][rest % values[i].len()];
                rest /= values[i].len();
                (self.labels[i].name, word)
            })
        })
    }

    /// Creates every combination at the start, so that the first event of a combination counts as a change.
    fn shown(self) -> Self {
        self.all().for_each(|series| drop(self.family.get_or_create(&series)));
        self
    }
}

impl<const N: usize> Labelled<Gauge, N> {
    /// Sets the count of each combination, also of those with zero.
    pub(super) fn count<'a>(&self, found: impl Iterator<Item = [&'a str; N]>) {
        let mut counts: HashMap<Series<N>, i64> = self.all().map(|series| (series, 0)).collect();
        for words in found {
            *counts.entry(self.series(words)).or_default() += 1;
        }
        for (series, count) in counts {
            self.family.get_or_create(&series).set(count);
        }
    }
}

/// A line of the documentation.
struct Line {
    name: String,
    kind: String,
    labels: Vec<Label>,
    help: &'static str,
}

/// The metrics and their names.
pub(super) struct Catalogue {
    registry: Registry,
    lines: Vec<Line>,
}

impl Catalogue {
    /// A catalogue without metrics.
    pub(super) fn new() -> Self {
        Self { registry: Registry::with_prefix(PREFIX), lines: Vec::new() }
    }

    /// Adds a metric. `name` has no prefix, unit or suffix; `help` is a sentence without its period.
    pub(super) fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        labels: &[Label],
        metric: impl Metric,
    ) {
        let kind = metric.metric_type().as_str().to_owned();
        let suffix = match kind.as_str() {
            "counter" => Some("total"),
            "info" => Some("info"),
            _ => None,
        };
        let parts = [Some(PREFIX), Some(name), unit.as_ref().map(Unit::as_str), suffix];
        let full = parts.into_iter().flatten().collect::<Vec<_>>().join("_");
        self.lines.push(Line { name: full, kind, labels: labels.to_vec(), help });
        match unit {
            Some(unit) => self.registry.register_with_unit(name, help, unit, metric),
            None => self.registry.register(name, help, metric),
        }
    }

    /// A counter.
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let counter = Counter::default();
        self.add(name, help, None, &[], counter.clone());
        counter
    }

    /// Counters by label.
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [Label; N],
    ) -> Labelled<Counter, N> {
        let family = Family::default();
        self.add(name, help, None, &labels, family.clone());
        Labelled { labels, family }.shown()
    }

    /// A gauge.
    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        let gauge = Gauge::default();
        self.add(name, help, None, &[], gauge.clone());
        gauge
    }

    /// Gauges by label. A gauge is exposed only after its first count, because before that its value is unknown.
    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [Label; N],
    ) -> Labelled<Gauge, N> {
        let family = Family::default();
        self.add(name, help, None, &labels, family.clone());
        Labelled { labels, family }
    }

    /// A counter of seconds.
    pub(super) fn sum_of_seconds(&mut self, name: &'static str, help: &'static str) -> Sum {
        let sum = Sum::default();
        self.add(name, help, Some(Unit::Seconds), &[], sum.clone());
        sum
    }

    /// A histogram of seconds.
    pub(super) fn seconds(
        &mut self,
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
    ) -> Histogram {
        let histogram = Buckets(bounds).new_metric();
        self.add(name, help, Some(Unit::Seconds), &[], histogram.clone());
        histogram
    }

    /// Histograms of seconds by label.
    pub(super) fn seconds_by<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [Label; N],
        bounds: &'static [f64],
    ) -> Histograms<N> {
        let family = Family::new_with_constructor(Buckets(bounds));
        self.add(name, help, Some(Unit::Seconds), &labels, family.clone());
        Labelled { labels, family }.shown()
    }

    /// Encodes all metrics in the OpenMetrics text format.
    pub(super) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// A table of all metrics for users, in Markdown.
    pub(super) fn table(&self) -> Result<String, fmt::Error> {
        let mut text = "| name | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
        for Line { name, kind, labels, help } in &self.lines {
            let labels: Vec<String> = labels.iter().map(in_words).collect();
            writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join("<br>"))?;
        }
        Ok(text)
    }
}

fn in_words(label: &Label) -> String {
    let words: Vec<String> = label.values().iter().map(|word| format!("`{word}`")).collect();
    let colon = if words.is_empty() { "" } else { ": " };
    format!("`{}`{colon}{}", label.name, words.join(" "))
}
