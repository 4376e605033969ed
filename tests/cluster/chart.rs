//! The Helm chart, on a real API server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::Value;
use sha2::{Digest, Sha256};
use town_operator::lifecycle::ChildKind;
use town_operator::resources::Install;

use crate::common::account::{NAME, NAMESPACE};
use crate::common::chart::{render, try_render};
use crate::common::operator::INSTALL_ID;
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::stage::Stories;

/// Policies of the chart.
const POLICIES: usize = 10;

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(api_server_accepts_the_chart_without_warnings);
    stories.with_the_operator(chart_policies_match_the_policies_of_the_test_cluster);
    stories.with_the_operator(kinds_that_the_operator_may_create_are_known_child_kinds);
    stories.plain(policies_can_be_left_out);
    stories.plain(pod_of_the_operator_names_no_user_and_asks_for_its_token);
    stories.plain(chart_demands_a_name_when_it_makes_no_service_account);
    stories.plain(chart_asks_for_the_version_that_the_operator_asks_for);
    stories.plain(readme_of_the_chart_describes_every_value);
    stories.plain(install_id_is_cut_when_the_default_is_long_or_has_a_dot);
}

async fn api_server_accepts_the_chart_without_warnings(story: Story) {
    for values in [
        &[][..],
        &[
            "metrics.service.enabled=true",
            "admissionPolicies.administrators.groups={town admins,O=x&y}",
            "admissionPolicies.administrators.serviceAccounts[0].namespace=velero",
            "admissionPolicies.administrators.serviceAccounts[0].name=velero",
            "admissionPolicies.podAddresses=true",
            "networkPolicy.enabled=true",
            "networkPolicy.from[0].namespaceSelector.matchLabels.team=monitoring",
            "podDisruptionBudget.enabled=true",
            "deploymentAnnotations.team=blue",
            "volumes[0].name=more",
            "volumeMounts[0].name=more",
            "volumeMounts[0].mountPath=/more",
            "extraArgs={--concurrency=3}",
            "volumeGroup=1000680000",
            "replicas=2",
        ],
    ] {
        let all = render(NAME, NAMESPACE, &[], values);
        let on_trial = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--warnings-as-errors",
            "-f",
            "-",
        ];
        let said = story.cluster.try_kubectl(&on_trial, &all).unwrap();
        for kind in
            ["deployment.apps", "clusterrole", "customresourcedefinition", "validatingadmissionpolicy."]
        {
            assert!(said.contains(kind), "{kind}: {said}");
        }
    }
}

async fn chart_policies_match_the_policies_of_the_test_cluster(story: Story) {
    let policies = policies(&[&format!("installId={INSTALL_ID}")]);
    let specs = |arguments: &[&str]| {
        let text = story.cluster.try_kubectl(&[arguments, &["-o", "json", "-f", "-"]].concat(), &policies);
        let list: Value = serde_json::from_str(&text.unwrap()).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        let spec = |item: &Value| {
            (item["metadata"]["name"].to_string() + &item["kind"].to_string(), item["spec"].clone())
        };
        items.map(spec).collect::<BTreeMap<_, _>>()
    };
    let wanted = specs(&["apply", "--server-side", "--force-conflicts", "--dry-run=server"]);
    assert_eq!(wanted.len(), 2 * POLICIES, "each with its binding");
    assert_eq!(specs(&["get"]), wanted);

    // The controller manager checks the types of their expressions against the schemas of our kinds, and reports no
    // warning.
    let found: Api<ValidatingAdmissionPolicy> = Api::all(story.client());
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={NAME}"));
    until("the expressions are checked", PATIENCE, async || {
        let found = found.list(&ours).await.map_err(|error| error.to_string())?;
        assert_eq!(found.items.len(), POLICIES, "and no others");
        for policy in &found {
            let status = policy.status.clone().unwrap_or_default();
            let objections = status.type_checking.clone().and_then(|check| check.expression_warnings);
            assert_eq!(objections, None, "{}", policy.name_any());
            if status.type_checking.is_none() || status.observed_generation != policy.metadata.generation {
                return Err(format!("{}: {status:?}", policy.name_any()));
            }
        }
        Ok(())
    })
    .await;
}

// The stories run with these rights. The API server would refuse the create of any other kind.
async fn kinds_that_the_operator_may_create_are_known_child_kinds(story: Story) {
    let role = story.cluster.kubectl(&["get", "clusterrole", NAME, "-o", "json"]);
    let role: Value = serde_json::from_str(&role).unwrap();
    let words = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let rules = role["rules"].as_array().unwrap().iter();
    let creates = rules.filter(|rule| words(&rule["verbs"]).contains(&"create".to_owned()));
    let may_create: BTreeSet<String> = creates.flat_map(|rule| words(&rule["resources"])).collect();
    let table = ChildKind::MADE.map(|kind| format!("{}s", kind.as_str().to_lowercase()));
    // Records and events remain after a town, and are not a part of it. Reviews are not stored.
    let wanted = table
        .into_iter()
        .chain(["tombstones", "events", "tokenreviews", "subjectaccessreviews"].map(str::to_owned))
        .collect();
    assert_eq!(may_create, wanted);
}

async fn policies_can_be_left_out() {
    assert_ne!(policies(&[]), "");
    assert_eq!(policies(&["admissionPolicies.enabled=false"]), "");
}

async fn install_id_is_cut_when_the_default_is_long_or_has_a_dot() {
    let id = |release: &str, namespace: &str, values: &[&str]| {
        let deployment = render(release, namespace, &["deployment"], values);
        let argument = |line: &str| line.trim().strip_prefix("- --install-id=").map(str::to_owned);
        deployment.lines().find_map(argument).expect("the operator is told its id")
    };
    assert_eq!(id("town-operator", "town-system", &[]), "town-system-town-operator");
    assert_eq!(id("r", "ns", &["installId=team-a"]), "team-a");
    let fits = "n".repeat(43);
    assert_eq!(id("r", &fits, &[]), format!("{fits}-r"));
    for (release, namespace) in [("rr", fits.as_str()), ("a.b", "ns"), ("a.b", &fits)] {
        let whole = format!("{namespace}-{release}");
        let digest = Sha256::digest(&whole);
        let digest = digest.iter().take(4).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let start: String = whole.chars().take(36).collect();
        let id = id(release, namespace, &[]);
        assert_eq!(id, format!("{}-{digest}", start.replace('.', "-")));
        assert_eq!(Install::id_error(&id), None, "the operator takes it");
    }
}

/// The policies of the chart, and their bindings.
fn policies(values: &[&str]) -> String {
    let all = render(NAME, NAMESPACE, &[], values);
    let is_one = |document: &&str| document.contains("kind: ValidatingAdmissionPolicy");
    all.split("\n---\n").filter(is_one).collect::<Vec<_>>().join("\n---\n")
}

// C3, S13.
async fn pod_of_the_operator_names_no_user_and_asks_for_its_token() {
    let values = ["extraArgs={--concurrency=3}"];
    let deployment = render(NAME, NAMESPACE, &["deployment"], &values);
    for wanted in [
        "runAsNonRoot: true",
        "automountServiceAccountToken: true",
        "kubernetes.io/os: linux",
        "- --volume-group=65532\n",
        "- --admission-policies\n",
    ] {
        assert!(deployment.contains(wanted), "{wanted}: {deployment}");
    }
    for refused in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert!(!deployment.contains(refused), "OpenShift refuses a fixed {refused}: {deployment}");
    }
    let own = deployment.find("--concurrency=16").unwrap();
    let extra = deployment.find("--concurrency=3").unwrap();
    assert!(own < extra, "the operator takes the last value");
    let account = render(NAME, NAMESPACE, &["serviceaccount"], &[]);
    assert!(account.contains("automountServiceAccountToken: false"), "{account}");
    let none = render(NAME, NAMESPACE, &["deployment"], &["volumeGroup=", "admissionPolicies.enabled=false"]);
    assert!(none.contains("- --volume-group=\n"), "{none}");
    assert!(!none.contains("--admission-policies"), "{none}");
    let large = render(NAME, NAMESPACE, &["deployment"], &["volumeGroup=1000680000"]);
    assert!(large.contains("- --volume-group=1000680000\n"), "{large}");
}

// S13: the rights would go to the account `default`, which every pod of the namespace has.
async fn chart_demands_a_name_when_it_makes_no_service_account() {
    let none = try_render(NAME, NAMESPACE, &[], &["serviceAccount.create=false"]).unwrap_err();
    assert!(none.contains("serviceAccount"), "{none}");
    let named =
        render(NAME, NAMESPACE, &["rbac"], &["serviceAccount.create=false", "serviceAccount.name=mine"]);
    assert!(named.contains("name: mine\n"), "{named}");
}

// C1.
async fn chart_asks_for_the_version_that_the_operator_asks_for() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/town-operator/Chart.yaml");
    let chart = std::fs::read_to_string(chart).unwrap();
    assert!(chart.contains("kubeVersion: \">=1.32.0-0\""), "{chart}");
}

async fn readme_of_the_chart_describes_every_value() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/town-operator");
    let read = |file: &str| std::fs::read_to_string(chart.join(file)).unwrap();
    let (values, readme, schema) = (read("values.yaml"), read("README.md"), read("values.schema.json"));
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let keys = values.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()));
    let keys: Vec<&str> = keys.map(|line| line.split(':').next().unwrap()).collect();
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys {
        assert!(readme.contains(&format!("`{key}")), "README.md does not describe {key}");
        assert!(schema["properties"].get(key).is_some(), "values.schema.json does not have {key}");
    }
}
