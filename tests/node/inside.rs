//! The inside of a container: its files, its minimal rights, and its network address.

use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use town_operator::api::Agent;

use crate::common::wait::until;
use crate::scene::{Lives, PATIENCE, STAY, Scene, agent_image, is_ready, runs};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.add(credentials_and_tokens_are_read_only_files_in_non_root_containers);
    stories.add(minimal_template_runs_under_the_restricted_pod_security_standard);
    stories.add(town_service_reaches_the_town_pod_before_and_after_a_wake);
}

/// Prints the result of a write to and a read from a file of the container.
const TRY_TO_WRITE: &str =
    "touch /var/run/gastown/new 2>&1 || touch /var/run/gastown/git/new 2>&1 || echo read-only";

async fn credentials_and_tokens_are_read_only_files_in_non_root_containers(scene: Scene) {
    scene.create_secret("deploy-key", "password", "xyzzy").await;
    scene.create_secret("door", "token", "sesame").await;
    let rig = json!({
        "name": "orchard", "gitUrl": "https://git.test/orchard", "branch": "ripe",
        "credentialsSecretName": "deploy-key",
    });
    let town = json!({"rigs": [rig], "template": runs(STAY), "activityProbe": {"port": 8000}});
    scene.create_town("alpha", town).await;
    let refinery = json!({
        "townName": "alpha", "role": "Refinery", "rig": "orchard", "template": runs(STAY),
        "hook": {"bead": "m-1", "title": "Press the apples"},
        "activityProbe": {"port": 8000, "tokenSecretName": "door"},
    });
    scene.create::<Agent>("press", refinery).await;

    let press = scene.ready_pod("press", None).await.name_any();
    let read = |file: &str| scene.exec(&press, &format!("cat /var/run/gastown/{file}"));
    assert_eq!(read("git/password"), "xyzzy");
    assert_eq!(read("token"), "sesame");
    assert_eq!(read("hook.json"), r#"{"bead":"m-1","title":"Press the apples"}"#);
    assert_eq!(
        scene.exec(&press, "echo $GASTOWN_RIG_URL $GASTOWN_RIG_BRANCH"),
        "https://git.test/orchard ripe\n"
    );
    let square = scene.town_pod("alpha").await.name_any();
    let own = scene.exec(&square, "cat /var/run/gastown/token");
    assert!(own.len() == 64 && own.chars().all(|c| c.is_ascii_hexdigit()), "one that we made: {own}");
    scene.exec(&square, "! test -e /var/run/gastown/git");
    for pod in [&press, &square] {
        assert!(scene.exec(pod, TRY_TO_WRITE).ends_with("read-only\n"));
        assert_eq!(scene.exec(pod, "id -u"), "1000\n");
        scene.exec(pod, "! test -e /var/run/secrets");
        // The kernel's view of the defaults: no capabilities, no privilege escalation, and filtered system calls.
        let status = scene.exec(pod, "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status");
        let words: Vec<&str> = status.split_whitespace().collect();
        let none = "0000000000000000";
        assert_eq!(words, ["CapEff:", none, "CapBnd:", none, "NoNewPrivs:", "1", "Seccomp:", "2"]);
    }

    // A change of a Secret reaches running containers; the kubelet updates the volume about once a minute.
    scene
        .seen::<k8s_openapi::api::core::v1::Secret>("door")
        .merge(json!({"stringData": {"token": "open"}}))
        .await;
    until("the new token is in the container", PATIENCE * 2, async || match read("token") {
        token if token == "open" => Ok(()),
        token => Err(token),
    })
    .await;
}

async fn minimal_template_runs_under_the_restricted_pod_security_standard(scene: Scene) {
    let namespaces: Api<Namespace> = Api::all(scene.client());
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let merged = namespaces.patch(&scene.namespace, &PatchParams::default(), &Patch::Merge(labels)).await;
    merged.unwrap();

    // The default user of the image is root, so that the template must set another one.
    let says = |script: &str| {
        json!({"spec": {"containers": [{
            "name": "main", "image": agent_image(), "command": ["sh", "-c", script],
            "securityContext": {"runAsUser": 1000},
        }]}})
    };
    let who = "id -u > /dev/termination-log";
    let town = json!({"storage": {"size": "16Mi"}, "template": says(STAY), "agentTemplate": says(who)});
    scene.create_town("alpha", town).await;
    let polecat = json!({"townName": "alpha", "role": "Polecat", "rig": "orchard", "hook": {"bead": "a-1"}});
    scene.create::<Agent>("ada", polecat).await;
    assert_eq!(scene.done("ada", "a-1").await.message, "1000");
    let square = scene.town_pod("alpha").await;
    scene.assert_runs(std::slice::from_ref(&square)).await;
    scene.exec(&square.name_any(), "echo here > /town/note");

    // The API server refuses a template with more rights than the namespace allows, and the status has its message.
    let mut bold = says(STAY);
    bold["spec"]["containers"][0]["securityContext"]["privileged"] = true.into();
    scene.create_town("bold", json!({"template": bold})).await;
    let bold = scene.town("bold");
    let refused =
        bold.until_within(PATIENCE, "is refused", |town| town.is("Degraded") || town.is("Stalled")).await;
    let said = refused.message("Ready");
    assert!(
        said.contains("violates PodSecurity \"restricted:latest\"") && said.contains("privileged"),
        "{said}"
    );

    // The kubelet refuses a template without a user, because the user of its image is root.
    let silent: Value = json!({"spec": {"containers": [{
        "name": "main", "image": agent_image(), "command": ["sh", "-c", STAY],
    }]}});
    scene.create_town("silent", json!({"template": silent})).await;
    let silent = scene.town("silent");
    let what = "names the user";
    let named = silent.until_within(PATIENCE, what, |town| town.is_degraded_by("ContainerFailed")).await;
    assert!(named.message("Degraded").contains("runAsNonRoot"), "{}", named.message("Degraded"));
}

async fn town_service_reaches_the_town_pod_before_and_after_a_wake(scene: Scene) {
    // The name of a Service must not begin with a digit; the name of a town can.
    let serves =
        runs("mkdir -p /town/www; hostname -i > /town/www/where; exec httpd -f -p 8000 -h /town/www");
    let town = json!({
        "storage": {"size": "16Mi"}, "template": serves, "ports": [{"name": "web", "port": 8000}],
    });
    scene.create_town("2nd", town).await;
    scene.create_mayor("mayor", "2nd", STAY).await;
    let square = scene.town_pod("2nd").await;
    let town = scene.town("2nd").get().await;
    let name = town.status.unwrap().service.expect("the name of its Service");
    let service = scene.seen::<Service>(&name).get().await;
    let address = service.spec.as_ref().unwrap().cluster_ip.clone().unwrap();
    let office = scene.ready_pod("mayor", None).await.name_any();
    let host = scene.exec(&office, "echo $GASTOWN_TOWN_HOST");
    // kubectl may print a warning after the output.
    assert_eq!(host.lines().next(), Some(format!("{name}.{}.svc", scene.namespace).as_str()));

    let ask = async |office: &str, of: &str| {
        let wget = format!("timeout 3 wget -q -O - http://{address}:8000/where");
        until("the town's pod answers", PATIENCE, async || match scene.try_exec(office, &wget)?.trim() {
            answer if answer == of => Ok(()),
            answer => Err(answer.to_owned()),
        })
        .await;
    };
    ask(&office, &square.status.unwrap().pod_ip.unwrap()).await;

    // After the wake the town has another pod at the same address.
    scene.suspend("2nd", true).await;
    scene.asleep("2nd").await;
    scene.suspend("2nd", false).await;
    let square = scene.town_pod("2nd").await;
    assert!(is_ready(&square));
    let office = scene.ready_pod("mayor", None).await.name_any();
    ask(&office, &square.status.unwrap().pod_ip.unwrap()).await;
    assert_eq!(scene.seen::<Service>(&name).get().await.uid(), service.uid());

    scene.town("2nd").merge(json!({"spec": {"ports": null}})).await;
    scene.seen::<Service>(&name).gone_within(PATIENCE).await;
}
