//! The start of the operator, its refusals to start, and its end.

use std::time::Duration;

use serde_json::json;
use town_operator::api::{SCHEMA_REVISION, names};

use crate::common::account::Account;
use crate::common::operator::{INSTALL_ID, Operator, answers, get_with};
use crate::common::story::{Story, operator_command};
use crate::stage::Stories;
use crate::words::{Told, workshop};

pub fn add(stories: &mut Stories) {
    stories.plain(help_documents_every_flag);
    stories.plain(bad_flags_are_refused_by_name);
    stories.plain(operator_reports_a_missing_kubeconfig_in_one_line);
    stories.alone(operator_exits_when_crds_are_missing_or_outdated);
    stories.alone(operator_exits_when_the_install_id_of_the_cluster_differs);
    stories.alone(metrics_are_served_only_with_an_authorized_token);
    stories.alone(operator_exits_within_10_seconds_after_sigterm_and_continues_after_a_restart);
}

async fn help_documents_every_flag() {
    let help = operator_command().arg("--help").output().unwrap();
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    let flags = [
        ("--install-id", "TOWN_OPERATOR_INSTALL_ID"),
        ("--lease-namespace", "TOWN_OPERATOR_LEASE_NAMESPACE"),
        ("--release", "TOWN_OPERATOR_RELEASE"),
        ("--identity", "TOWN_OPERATOR_IDENTITY"),
        ("--pod-uid", "TOWN_OPERATOR_POD_UID"),
        ("--lease-duration", "TOWN_OPERATOR_LEASE_DURATION"),
        ("--lease-renew-deadline", "TOWN_OPERATOR_LEASE_RENEW_DEADLINE"),
        ("--lease-retry-period", "TOWN_OPERATOR_LEASE_RETRY_PERIOD"),
        ("--log-format", "TOWN_OPERATOR_LOG_FORMAT"),
        ("--log", "TOWN_OPERATOR_LOG"),
        ("--health-addr", "TOWN_OPERATOR_HEALTH_ADDR"),
        ("--metrics-addr", "TOWN_OPERATOR_METRICS_ADDR"),
        ("--metrics-auth", "TOWN_OPERATOR_METRICS_AUTH"),
        ("--concurrency", "TOWN_OPERATOR_CONCURRENCY"),
        ("--deletion-blocked-after", "TOWN_OPERATOR_DELETION_BLOCKED_AFTER"),
        ("--apiserver-request-timeout", "TOWN_OPERATOR_APISERVER_REQUEST_TIMEOUT"),
        ("--max-concurrent-starts", "TOWN_OPERATOR_MAX_CONCURRENT_STARTS"),
        ("--max-concurrent-probes", "TOWN_OPERATOR_MAX_CONCURRENT_PROBES"),
        ("--volume-group", "TOWN_OPERATOR_VOLUME_GROUP"),
        ("--attach-max-hold", "TOWN_OPERATOR_ATTACH_MAX_HOLD"),
        ("--probe-cidrs", "TOWN_OPERATOR_PROBE_CIDRS"),
        ("--tombstone-max-retention", "TOWN_OPERATOR_TOMBSTONE_MAX_RETENTION"),
        ("--tombstones-per-namespace", "TOWN_OPERATOR_TOMBSTONES_PER_NAMESPACE"),
    ];
    for (flag, variable) in flags {
        assert!(help.contains(&format!("{flag} <")), "{flag}: {help}");
        assert!(help.contains(&format!("[env: {variable}=")), "{variable}: {help}");
    }
    // The help has no flag outside of this list.
    let shown = help.lines().filter(|line| line.trim_start().starts_with("--") && line.contains('<')).count();
    assert_eq!(shown, flags.len(), "{help}");
    assert!(help.contains("Print help"), "{help}");
}

async fn bad_flags_are_refused_by_name() {
    let table: [(&[&str], &[&str]); 13] = [
        (&[], &["--install-id", "required"]),
        (&["--install-id=a", "--lease-namespace="], &["--lease-namespace", "required"]),
        (&["--install-id=-a-", "--lease-namespace=x"], &["--install-id", "'-a-'", "is not an install id"]),
        (&["--deletion-blocked-after=10 min"], &["--deletion-blocked-after", "10 min", "90s or 1h30m"]),
        (&["--concurrency=0"], &["--concurrency", "1..=256"]),
        (&["--max-concurrent-starts=0"], &["--max-concurrent-starts", "1..=10000"]),
        (
            &["--install-id=a", "--lease-namespace=x", "--lease-duration=10s"],
            &["--lease-duration 10s", "longer than", "--lease-renew-deadline 10s"],
        ),
        (
            &["--install-id=a", "--lease-namespace=x", "--lease-duration=15500ms"],
            &["--lease-duration 15500ms", "whole seconds"],
        ),
        (
            &["--install-id=a", "--lease-namespace=x", "--lease-retry-period=9500ms"],
            &["--lease-renew-deadline 10s", "longer than", "--lease-retry-period 9500ms", "500ms"],
        ),
        (
            &["--install-id=a", "--lease-namespace=x", "--lease-retry-period=0s"],
            &["--lease-retry-period 0s", "longer than zero"],
        ),
        (&["--install-id=a", "--lease-namespace=x", "--log=a=b=c"], &["--log", "a=b=c"]),
        (
            &["--install-id=a", "--lease-namespace=x", "--tombstone-max-retention=8761h"],
            &["--tombstone-max-retention 8761h", "from 0s to 8760h", "spec.tombstone.retention"],
        ),
        (&["--tombstones-per-namespace=0"], &["--tombstones-per-namespace", "1..=100000"]),
    ];
    for (flags, wanted) in table {
        let output = operator_command().args(flags).env_remove("KUBECONFIG").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{flags:?}");
        assert!(wanted.iter().all(|fragment| said.contains(fragment)), "{flags:?}: {said}");
    }
}

async fn operator_reports_a_missing_kubeconfig_in_one_line() {
    let flags =
        ["--install-id=a", "--lease-namespace=x", "--health-addr=127.0.0.1:0", "--metrics-addr=127.0.0.1:0"];
    let output = operator_command().args(flags).env("KUBECONFIG", "/nowhere/kubeconfig").output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("town-operator: cannot create a client for the cluster: ")
            && last.contains("/nowhere/kubeconfig"),
        "{said}"
    );
}

async fn operator_exits_when_crds_are_missing_or_outdated(story: Story) {
    let account = Account::create(&story.cluster).await;
    let annotate = |revision: &str| {
        let patch = json!({"metadata": {"annotations": {names::SCHEMA_REVISION: revision}}}).to_string();
        story.cluster.kubectl(&["patch", "crd", "agents.gastown.dev", "--type=merge", "-p", &patch]);
    };
    let refused = |fragments: &[&str]| {
        let operator = Operator::launch(account.kubeconfig(), &[]);
        assert_ne!(operator.await_end(), 0);
        let log = operator.log();
        let last = log.lines().last().unwrap_or_default();
        assert!(fragments.iter().all(|fragment| last.contains(fragment)), "{fragments:?}: {log}");
    };
    annotate("0");
    refused(&["agents.gastown.dev", "schema revision 0", &format!("needs {SCHEMA_REVISION}")]);
    // Newer definitions are accepted: an older operator must continue to run while the definitions are upgraded first.
    annotate("99");
    let operator = Operator::start(account.kubeconfig(), &[]).await;
    assert_eq!(operator.terminate().0, 0);
    story.cluster.kubectl(&[
        "delete",
        "crd",
        "agents.gastown.dev",
        "tombstones.gastown.dev",
        "towns.gastown.dev",
    ]);
    refused(&["towns.gastown.dev", "not installed", "crds/"]);
}

async fn operator_exits_when_the_install_id_of_the_cluster_differs(story: Story) {
    let first = story.cluster.operator(&[]).await;
    assert_eq!(first.terminate().0, 0);
    let account = Account::create(&story.cluster).await;
    let other = Operator::launch(account.kubeconfig(), &["--install-id=somebody-else"]);
    assert_ne!(other.await_end(), 0);
    let log = other.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains(INSTALL_ID) && last.contains("somebody-else"), "it names both: {log}");
    // The same definitions as before are accepted.
    Operator::start(account.kubeconfig(), &[]).await;
}

// S10.
async fn metrics_are_served_only_with_an_authorized_token(story: Story) {
    let operator = story.cluster.operator(&["--metrics-auth=token"]).await;
    assert!(!answers(operator.health(), "/metrics"), "they have an address of their own");
    let token = |account: &str| {
        story.kubectl(&["create", "serviceaccount", account, "-n", &story.namespace]);
        story.kubectl(&["create", "token", account, "-n", &story.namespace]).trim().to_owned()
    };
    let scraped = |token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        get_with(operator.metrics_address(), "/metrics", &header).map_err(|error| error.to_string())
    };
    let (prometheus, tenant) = (token("prometheus"), token("tenant"));
    let subject = format!("--serviceaccount={}:prometheus", story.namespace);
    let role = format!("--clusterrole={}-metrics-reader", crate::common::account::NAME);
    story.kubectl(&["create", "clusterrolebinding", "metrics-story", &role, &subject]);
    assert!(scraped("forged").unwrap_err().starts_with("HTTP/1.1 401"));
    assert!(get_with(operator.metrics_address(), "/metrics", "").unwrap_err().to_string().contains(" 401 "));
    assert!(scraped(&tenant).unwrap_err().starts_with("HTTP/1.1 403"));
    assert!(scraped(&prometheus).unwrap().ends_with("# EOF\n"));
    story.kubectl(&["delete", "clusterrolebinding", "metrics-story"]);
}

async fn operator_exits_within_10_seconds_after_sigterm_and_continues_after_a_restart(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    assert!(answers(operator.health(), "/healthz") && answers(operator.health(), "/readyz"));
    story.create_town("gas", workshop()).await;
    story.town("gas").until("is adopted", |town| town.metadata.finalizers.is_some()).await;
    let (code, took) = operator.terminate();
    assert_eq!(code, 0, "{}", operator.log());
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    assert!(!answers(operator.health(), "/healthz"));
    operator.restart().await;
    story.town("gas").until("is idle", |town| town.phase() == "Idle").await;
    let errors = operator.log().lines().filter(|line| line.contains("\"level\":\"ERROR\"")).count();
    assert_eq!(errors, 0, "{}", operator.log());
}
