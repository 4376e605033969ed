//! A foreign webhook delays the operator's creates while their owners are deleted.

use bed::Options;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use town_operator::api::{Agent, BlockedBy, DestroyStatus, Town, names};

use crate::common::account::Account;
use crate::common::checkpoints::{Checkpoints, Side};
use crate::common::operator::Operator;
use crate::common::requests::Requests;
use crate::common::story::Story;
use crate::common::webhook::{Review, Webhook};
use crate::remains::{busy_town, is_destroyed, is_gone_whole};
use crate::stage::Stories;
use crate::words::{Told, polecat, works, workshop_with};

/// The two timeouts are equal: the value exceeds the API server's timeout for webhooks, and is below the default.
const API_SERVER: &str = "--request-timeout=45s";
const OPERATOR: &str = "--apiserver-request-timeout=45s";

pub fn add(stories: &mut Stories) {
    let patient = Options { api_server_args: vec![API_SERVER.into()], ..Options::default() };
    stories.alone_on(patient, late_webhook_answer_leaves_no_pod_of_a_deleted_town);
}

async fn late_webhook_answer_leaves_no_pod_of_a_deleted_town(story: Story) {
    let account = Account::create(&story.cluster).await;
    let way = Checkpoints::before(&story.cluster, account.kubeconfig()).await;
    let operator = Operator::start(way.kubeconfig(), &[OPERATOR]).await;
    let fates = ["timely", "dropped", "late"];
    let (other, _) = tokio::join!(
        busy_town(&story, "other", &["ann"]),
        join_all(fates.map(async |fate| busy_town(&story, &format!("{fate}-home"), &[]).await)),
    );
    let webhook = Webhook::of_pods(&story).await;
    // For the last of these the API server continues after the operator gave up; for the others it is cancelled.
    for owner in ["late-alone", "late-cat"] {
        way.set(owner, "create pods", 1, Side::Neither);
    }
    let going = join_all(fates.map(|fate| Box::pin(Going::under_review(&story, &webhook, fate)))).await;
    let [timely, dropped, late] = &going[..] else { unreachable!() };

    // Another town lives meanwhile and is deleted after the others.
    story.create_agent("bob", "other", polecat("b-2")).await;
    story.agent("bob").until("works", works).await;
    assert_eq!(webhook.review("bob"), Some(Review::Answered));
    story.town("other").delete().await;
    is_gone_whole(&story, &other).await;
    for going in going.iter().flatten() {
        going.is_as_it_was(&story, &webhook).await;
    }

    // The webhook answers while the operator waits.
    for going in timely {
        webhook.release(&going.owner);
    }
    for going in timely {
        going.goes_whole(&story, 1).await;
    }

    // The webhook answers after the operator gave up.
    for going in dropped {
        webhook.until(&going.owner, Review::GivenUp).await;
        webhook.release(&going.owner);
    }
    // Only the pending create is left of both.
    let [alone, cat] = late;
    story.seen::<PersistentVolumeClaim>(&alone.pod).gone().await;
    alone.comes_after_all(&story, &webhook).await;
    let deleted = |agent: &Agent| agent.metadata.deletion_timestamp.is_some();
    story.agent(&cat.owner).until("is deleted by its town", deleted).await;
    cat.comes_after_all(&story, &webhook).await;

    let town = |town: &Town| waits(town.status.as_ref().and_then(|status| status.destroy.as_ref()));
    story.town("dropped-alone").until("waits for what may come late", town).await;
    let agent = |agent: &Agent| waits(agent.status.as_ref().and_then(|status| status.destroy.as_ref()));
    story.agent("dropped-cat").until("waits for what may come late", agent).await;
    for going in late {
        story.players.release(&going.pod).await;
    }
    for (which, made) in [(dropped, 0), (late, 1)] {
        for going in which {
            going.goes_whole(&story, made).await;
        }
    }
    let pods = story.api::<Pod>().list(&ListParams::default()).await.unwrap();
    assert!(pods.items.is_empty(), "{pods:?}");
    assert!(operator.runs());
}

/// Whether a destruction reports that nothing is left except a create that can still take effect.
fn waits(destroy: Option<&DestroyStatus>) -> bool {
    let late = |item: &BlockedBy| item.kind == "Request" && item.message.contains("may take effect until");
    destroy.is_some_and(|destroy| destroy.blocked_by.iter().any(late))
}

/// A town that is deleted while the webhook reviews a pod: that of the town or of its agent.
struct Going {
    town: Town,
    /// The owner of the pod, and its name.
    owner: String,
    pod: String,
    /// The prefixes of the UIDs. Each name of an object of the town contains one.
    uids: [String; 2],
    /// The objects of the town during the review.
    had: Vec<String>,
}

impl Going {
    /// Creates a town, and an agent of another existing town; deletes both towns when their pods have reached the
    /// webhook.
    async fn under_review(story: &Story, webhook: &Webhook, fate: &str) -> [Self; 2] {
        let [alone, cat, home] = ["alone", "cat", "home"].map(|name| format!("{fate}-{name}"));
        for owner in [&alone, &cat] {
            webhook.hold(owner);
        }
        let home = story.town(&home).get().await;
        let agent = story.create_agent(&cat, &home.name_any(), polecat("b-1")).await;
        let town = story.create_town(&alone, workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
        let alone = Self::deleted(story, webhook, &town, &town).await;
        [alone, Self::deleted(story, webhook, &home, &agent).await]
    }

    async fn deleted(story: &Story, webhook: &Webhook, town: &Town, owner: &impl Told) -> Self {
        webhook.until(&owner.name_any(), Review::Awaited).await;
        let had = story.children(&town.id()).await;
        story.town(&town.name_any()).delete().await;
        let uids = [town.id(), owner.id()].map(|uid| uid[..8].to_owned());
        Self { town: town.clone(), owner: owner.name_any(), pod: owner.child(), uids, had }
    }

    /// Checks that nothing is deleted during the review, and that no record exists yet.
    async fn is_as_it_was(&self, story: &Story, webhook: &Webhook) {
        let name = self.town.name_any();
        assert!(story.tombstone(&self.town).find().await.is_none(), "{name} has its record");
        let town = story.town(&name).get().await;
        assert!(!town.annotations().contains_key(names::TOMBSTONE), "{town:?}");
        assert_eq!(story.children(&self.town.id()).await, self.had, "of {name}");
        let writes = self.writes(story);
        assert!(!writes.iter().any(|write| write.starts_with("delete ")), "{writes:?}");
        assert_eq!(webhook.review(&self.owner), Some(Review::Awaited), "of the pod of {}", self.owner);
    }

    /// Releases the pod after the operator gave up, and waits until the operator deletes it.
    async fn comes_after_all(&self, story: &Story, webhook: &Webhook) {
        story.players.hold(&self.pod).await;
        assert_eq!(webhook.review(&self.owner), Some(Review::Awaited), "of the pod of {}", self.owner);
        webhook.release(&self.owner);
        let asked_to_end = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        story.pod(&self.pod).until("comes after all, and is asked to end", asked_to_end).await;
    }

    /// Waits until the town is gone with all its objects and the pod, which was created this number of times. The
    /// operator sends no create after the record.
    async fn goes_whole(&self, story: &Story, made: usize) {
        let pod = format!("Pod/{}", self.pod);
        let had: Vec<String> = self.had.iter().cloned().chain(std::iter::repeat_n(pod, made)).collect();
        is_destroyed(story, &self.town, &had).await;
        let mut creates = self.writes(story);
        creates.retain(|write| write.starts_with("create "));
        assert!(creates.last().is_some_and(|last| last.starts_with("create tombstones ")), "{creates:?}");
        let pod = format!("create pods {} -> 201", self.pod);
        assert_eq!(creates.iter().filter(|create| **create == pod).count(), made, "{creates:?}");
    }

    /// The writes to the objects of the town and to its record, in order.
    fn writes(&self, story: &Story) -> Vec<String> {
        Requests::since(story, 0).about(&self.uids).in_order_of_arrival().writes()
    }
}
