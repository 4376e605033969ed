//! A leader and a standby: I12, and K23 of the failures of a leader.

use std::time::{Duration, Instant};

use bed::Component;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use serde_json::json;
use town_operator::api::names;
use town_operator::cluster::lease_name;

use crate::common::account::{Account, LEASE_NAMESPACE};
use crate::common::operator::{INSTALL_ID, Operator, answers};
use crate::common::relay::Relay;
use crate::common::requests::Requests;
use crate::common::seen::Seen;
use crate::common::story::Story;
use crate::common::wait::{CREATES_SETTLE, until};
use crate::stage::Stories;
use crate::words::{Told, asleep, idle, polecat, works, workshop, workshop_with};

/// Terms that are short for the test, and long enough for a busy machine.
const TERMS: [&str; 4] = [
    "--lease-duration=9s",
    "--lease-renew-deadline=6s",
    "--lease-retry-period=1s",
    // A destruction waits this long for the creates of the former leader.
    "--apiserver-request-timeout=5s",
];
/// The longest time for the expiry of a lease and the next leader.
const TAKEN_OVER: Duration = Duration::from_mins(1);

pub fn add(stories: &mut Stories) {
    stories.alone(standby_leads_after_the_lease_of_a_killed_leader_expires);
    stories.alone(paused_leader_exits_without_writes_after_it_resumes);
    stories.alone(disconnected_leader_exits_and_its_late_writes_have_no_effect);
    stories.alone(leader_exits_while_the_api_server_is_frozen);
    stories.alone(leader_exits_when_its_lease_is_deleted_or_taken);
    stories.alone(standby_waits_for_the_old_term_when_the_lease_is_recreated_empty);
    stories.alone(reinstalled_release_waits_for_the_term_of_the_previous_leader);
    stories.alone(sigterm_hands_over_the_lease_without_overlapping_writes);
}

/// A leader and a standby.
struct Two {
    leader: Operator,
    standby: Operator,
}

impl Two {
    async fn start(story: &Story) -> Self {
        let account = Account::create(&story.cluster).await;
        let leader = Operator::start(account.kubeconfig(), &TERMS).await;
        leads(&leader).await;
        let standby = Operator::start(account.kubeconfig(), &TERMS).await;
        assert!(!gauge(&standby, "leader 1"), "two lead");
        Self { leader, standby }
    }

    /// The former leader must have written nothing after the first write of the new one.
    fn took_turns(&self, story: &Story) {
        let (old, new) = (Requests::by(story, &self.leader), Requests::by(story, &self.standby));
        let (old, new) = (old.write_times(), new.write_times());
        let (last, first) = (old.last().expect("it led"), new.first().expect("it leads"));
        assert!(last < first, "the old leader wrote at {last}, the new one from {first} on");
    }

    /// The standby becomes leader, and the work continues.
    async fn second_leads(&self, story: &Story) {
        until("the other one leads", TAKEN_OVER, async || {
            if gauge(&self.standby, "leader 1") { Ok(()) } else { Err(self.standby.log()) }
        })
        .await;
        story.create_town("new", workshop()).await;
        story.town("new").until("is idle", idle).await;
        assert!(self.standby.runs());
    }
}

async fn leads(operator: &Operator) {
    until(
        "it leads",
        TAKEN_OVER,
        async || {
            if gauge(operator, "leader 1") { Ok(()) } else { Err(operator.log()) }
        },
    )
    .await;
}

fn gauge(operator: &Operator, line: &str) -> bool {
    operator.metrics().lines().any(|l| l == format!("town_operator_{line}"))
}

fn lease(story: &Story) -> Seen<Lease> {
    Seen::new(story.client(), LEASE_NAMESPACE, &lease_name(INSTALL_ID))
}

fn delete_lease(story: &Story) {
    story.cluster.kubectl(&["delete", "lease", &lease_name(INSTALL_ID), "-n", LEASE_NAMESPACE]);
}

fn holder(lease: &Lease) -> String {
    lease.spec.clone().and_then(|spec| spec.holder_identity).unwrap_or_default()
}

/// Checks that the process exited with an error, and that its last line has the reason.
pub fn ended_because(operator: &Operator, why: &str) {
    assert_ne!(operator.await_end(), 0);
    let log = operator.log();
    let last = log.lines().last().unwrap_or_default();
    let is_lost = format!("lease {LEASE_NAMESPACE}/{} is lost", lease_name(INSTALL_ID));
    assert!(last.contains(&is_lost) && last.contains(why), "{log}");
}

async fn standby_leads_after_the_lease_of_a_killed_leader_expires(story: Story) {
    let two = Two::start(&story).await;
    story.create_town("gas", workshop()).await;
    story.create_agent("ann", "gas", polecat("b-1")).await;
    let ann = story.agent("ann").until("works", works).await;
    // The standby is ready, knows all objects, and writes nothing.
    assert!(answers(two.standby.health(), "/readyz"));
    assert_eq!(Requests::by(&story, &two.standby).writes(), [""; 0]);
    assert!(!two.standby.metrics().contains("town_operator_towns{"), "only the leader counts towns");
    two.leader.kill();
    let killed = Instant::now();
    // The work of the agent ends, and new work arrives, while no process leads.
    story.players.succeed(&ann.child(), "").await;
    story.create_agent("bob", "gas", polecat("b-1")).await;
    two.second_leads(&story).await;
    println!("a leader that was killed was followed after {:?}", killed.elapsed());
    story.agent("ann").until("is done", |agent| agent.phase() == "Done").await;
    story.agent("bob").until("works", works).await;
    assert!(gauge(&two.standby, "lease_transitions 2"), "{}", two.standby.metrics());
    two.took_turns(&story);
}

async fn sigterm_hands_over_the_lease_without_overlapping_writes(story: Story) {
    let mut two = Two::start(&story).await;
    let account = Account::create(&story.cluster).await;
    for turn in 0..3 {
        let town = format!("gas-{turn}");
        story.create_town(&town, workshop()).await;
        story.create_agent(&format!("{town}-ann"), &town, polecat("b-1")).await;
        // The leader is in the middle of its work.
        story.town(&town).until("is adopted", |town| town.metadata.finalizers.is_some()).await;
        let told = Instant::now();
        assert_eq!(two.leader.terminate().0, 0, "{}", two.leader.log());
        let ended = told.elapsed();
        leads(&two.standby).await;
        println!("handed over within {:?}, {:?} of it to finish", told.elapsed(), ended);
        story.agent(&format!("{town}-ann")).until("works", works).await;
        two.took_turns(&story);
        // Starts the next standby, so that the other process can hand over, too.
        let next = Operator::start(account.kubeconfig(), &TERMS).await;
        two = Two { leader: two.standby, standby: next };
    }
    // The standby watches the Lease and does not poll it.
    let lease = Requests::of_the_lease(&story);
    let watches =
        lease.0.iter().filter(|r| r["verb"] == "watch" && r["responseStatus"]["code"] == 200).count();
    assert!(watches >= 3, "{}", lease.named());
    let reads = lease.0.iter().filter(|r| r["verb"] == "get").count();
    assert!(reads <= 10, "{}", lease.named());
}

// I-leader-overlap.
async fn paused_leader_exits_without_writes_after_it_resumes(story: Story) {
    let two = Two::start(&story).await;
    story.create_town("gas", workshop()).await;
    story.create_agent("ann", "gas", polecat("b-1")).await;
    let ann = story.agent("ann").until("works", works).await;
    two.leader.pause();
    // Changes that the leader will want to write as soon as it can.
    story.players.succeed(&ann.child(), "").await;
    story.create_town("meanwhile", workshop()).await;
    story.create_agent("bob", "gas", polecat("b-1")).await;
    two.second_leads(&story).await;
    story.town("meanwhile").until("is idle", idle).await;
    story.agent("ann").until("is done", |agent| agent.phase() == "Done").await;
    story.agent("bob").until("works", works).await;
    // A change that no process has handled yet.
    story.town("meanwhile").merge(json!({"spec": {"suspend": true}})).await;
    two.leader.resume();
    ended_because(&two.leader, "");
    story.town("meanwhile").until("sleeps", asleep).await;
    two.took_turns(&story);
    story.pod(&ann.child()).gone_within(CREATES_SETTLE).await;
    assert_eq!(story.pods(names::AGENT_UID, &ann.id()).await.len(), 0, "what is done stays done");
}

async fn disconnected_leader_exits_and_its_late_writes_have_no_effect(story: Story) {
    let account = Account::create(&story.cluster).await;
    let relay = Relay::before(&story.cluster, account.kubeconfig()).await;
    let leader = Operator::start(relay.kubeconfig(), &TERMS).await;
    leads(&leader).await;
    let standby = Operator::start(account.kubeconfig(), &TERMS).await;
    let two = Two { leader, standby };
    // The sleep of the town is due while the leader is cut off: the relay holds its writes.
    story.create_town("tired", workshop_with(json!({"sleepAfter": "10s"}))).await;
    let tired = story.town("tired").until("is idle", idle).await;
    story.create_town("goes", workshop()).await;
    let goes = story.town("goes").until("is idle", idle).await;
    relay.cut().await;
    story.town("goes").delete().await;
    ended_because(&two.leader, "not be renewed in time");
    two.second_leads(&story).await;
    story.town("goes").gone().await;
    story.town("tired").until("sleeps", asleep).await;
    story.town("tired").merge(json!({"spec": {"wakeRequest": "again", "alwaysOn": true}})).await;
    let awake = story.town("tired").until("is awake", |town| idle(town) && town.is("Ready")).await;
    // The relay releases the writes only now.
    relay.mend();
    let same = |town: &town_operator::api::Town| idle(town) && town.pod_uid() == awake.pod_uid();
    story.town("tired").stays(Duration::from_secs(3), "stays awake in its pod", same).await;
    assert_eq!(story.pods(names::TOWN_UID, &tired.id()).await.len(), 1);
    assert_eq!(story.children(&goes.id()).await, [""; 0], "nothing comes back");
}

async fn leader_exits_while_the_api_server_is_frozen(story: Story) {
    let two = Two::start(&story).await;
    story.create_town("tired", workshop_with(json!({"sleepAfter": "10s"}))).await;
    story.town("tired").until("is idle", idle).await;
    let plane = story.cluster.plane();
    plane.freeze(Component::ApiServer).unwrap();
    ended_because(&two.leader, "not be renewed in time");
    plane.thaw(Component::ApiServer).unwrap();
    two.second_leads(&story).await;
    story.town("tired").until("sleeps", asleep).await;
    two.took_turns(&story);
}

async fn leader_exits_when_its_lease_is_deleted_or_taken(story: Story) {
    let two = Two::start(&story).await;
    story.create_town("gas", workshop()).await;
    let town = story.town("gas").until("is idle", idle).await;
    delete_lease(&story);
    ended_because(&two.leader, "");
    // The next leader creates a new Lease, and waits until no process can hold the old one.
    let made = lease(&story).until("is made anew", |lease| !holder(lease).is_empty()).await;
    assert_eq!(made.annotations()[names::INSTALL], INSTALL_ID, "it still says whose it is");
    assert!(made.spec.is_some_and(|spec| spec.acquire_time.is_none()), "nobody leads yet");
    two.second_leads(&story).await;
    let held =
        lease(&story).until("is held", |l| l.spec.as_ref().is_some_and(|s| s.acquire_time.is_some())).await;
    assert!(holder(&held).contains(two.standby.pod_uid()), "{}", holder(&held));
    two.took_turns(&story);

    // A client writes itself as the holder. The leader ends. After its restart it leads again when that
    // entry has expired.
    lease(&story).merge(json!({"spec": {"holderIdentity": "mallory"}})).await;
    ended_because(&two.standby, "'mallory' holds it now");
    two.standby.restart().await;
    leads(&two.standby).await;
    assert_eq!(story.town("gas").get().await.pod_uid(), town.pod_uid(), "the town has noticed nothing");
}

// C4. A GitOps tool that prunes unknown objects and applies its own copy leaves an empty Lease.
async fn standby_waits_for_the_old_term_when_the_lease_is_recreated_empty(story: Story) {
    let two = Two::start(&story).await;
    story.create_town("gas", workshop()).await;
    story.town("gas").until("is idle", idle).await;
    two.leader.pause();
    two.standby.pause();
    delete_lease(&story);
    let metadata = json!({"name": lease_name(INSTALL_ID), "namespace": LEASE_NAMESPACE});
    let empty = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata});
    story.cluster.try_kubectl(&["create", "-f", "-"], &empty.to_string()).unwrap();
    let recreated = Instant::now();
    two.standby.resume();
    two.second_leads(&story).await;
    // The last term of the paused leader had ended by then.
    assert!(recreated.elapsed() > Duration::from_secs(6), "it led after {:?}", recreated.elapsed());
    two.leader.resume();
    ended_because(&two.leader, "");
    two.took_turns(&story);
}

// C4. `helm uninstall` and `helm install`, with the operator of the first release still there.
async fn reinstalled_release_waits_for_the_term_of_the_previous_leader(story: Story) {
    let account = Account::create(&story.cluster).await;
    let leader = Operator::start(account.kubeconfig(), &TERMS).await;
    leads(&leader).await;
    story.create_town("gas", workshop()).await;
    story.town("gas").until("is idle", idle).await;
    leader.pause();
    Account::uninstall(&story.cluster);
    // Release name and namespace differ: the install id alone identifies the installation.
    let account = Account::create(&story.cluster).await;
    let flags = [&TERMS[..], &["--release=elsewhere/another-name"]].concat();
    let installed = Instant::now();
    let standby = Operator::start(account.kubeconfig(), &flags).await;
    let two = Two { leader, standby };
    two.second_leads(&story).await;
    assert!(installed.elapsed() > Duration::from_secs(6), "it led after {:?}", installed.elapsed());
    two.leader.resume();
    ended_because(&two.leader, "");
    two.took_turns(&story);
}
