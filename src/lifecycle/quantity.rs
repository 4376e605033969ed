//! Comparison of sizes in the Kubernetes format.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Whether `a` is larger than `b`. An unreadable quantity is never larger.
pub(super) fn larger(a: &Quantity, b: &Quantity) -> bool {
    matches!((bytes(&a.0), bytes(&b.0)), (Some(a), Some(b)) if a > b)
}

/// The numeric value of a quantity.
fn bytes(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 14] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("", 1.0),
    ];
    // The texts "1e3" and "1E3" are numbers. The text "1E" has a unit.
    if let Ok(number) = text.parse::<f64>() {
        return Some(number);
    }
    UNITS.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_larger(a: &str, b: &str) -> bool {
        larger(&Quantity(a.into()), &Quantity(b.into()))
    }

    #[test]
    fn quantities_are_compared_by_value() {
        assert!(is_larger("2Gi", "1Gi") && is_larger("1Gi", "1G") && is_larger("1.5Gi", "1536000Ki"));
        assert!(is_larger("1e9", "999M") && is_larger("1E", "1P") && is_larger("1", "999m"));
        for (a, b) in [("1Gi", "1024Mi"), ("1Gi", "1073741824"), ("1k", "1000"), ("1Gi", "2Gi")] {
            assert!(!is_larger(a, b), "{a} {b}");
        }
    }

    #[test]
    fn unreadable_quantity_is_never_larger() {
        assert!(!is_larger("much", "1Gi") && !is_larger("1Gi", "little"));
    }
}
