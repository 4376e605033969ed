//! The fates of calls between a client and the server.

use kube::api::{Api, ListParams, PostParams};
use town_operator::api::Town;

use super::{Stage, refused, town};
use crate::server::access::Grant;
use crate::server::call::{Call, Verb};
use crate::server::refusal::Refusal;
use crate::server::wire::{Fate, Wire};

/// A wire that gives every create this fate.
fn wire(stage: &Stage, fate: Fate) -> Wire {
    let faults = move |_, call: &Call| if call.verb == Verb::Create { fate.clone() } else { Fate::Pass };
    Wire::new(&stage.world, "operator", faults)
}

async fn there(stage: &Stage) -> bool {
    Api::<Town>::default_namespaced(stage.client.clone()).get_opt("gas").await.unwrap().is_some()
}

#[tokio::test]
async fn refused_create_takes_effect_only_when_handled_before_the_refusal() {
    for (fate, happens) in
        [(Fate::Refuse(Refusal::timeout()), false), (Fate::HandleAndRefuse(Refusal::timeout()), true)]
    {
        let stage = Stage::new();
        let towns: Api<Town> = Api::default_namespaced(wire(&stage, fate).client());
        assert_eq!(
            refused(towns.create(&PostParams::default(), &town("gas")).await),
            (504, "Timeout".into())
        );
        assert_eq!(there(&stage).await, happens);
    }
}

#[tokio::test]
async fn lost_answer_is_an_error_without_a_status() {
    for (fate, happens) in [(Fate::Break, false), (Fate::HandleAndBreak, true), (Fate::Delay, false)] {
        let stage = Stage::new();
        let wire = wire(&stage, fate);
        let towns: Api<Town> = Api::default_namespaced(wire.client());
        let error = towns.create(&PostParams::default(), &town("gas")).await.unwrap_err();
        assert!(!matches!(error, kube::Error::Api(_)), "{error}");
        assert_eq!(there(&stage).await, happens);
        for (number, call) in wire.held() {
            assert_eq!(call.to_string(), "create towns default/");
            wire.release(number);
            assert!(there(&stage).await, "what was under way arrives");
        }
    }
}

#[tokio::test]
async fn hanging_request_waits_until_released() {
    for (fate, happens) in [(Fate::Hang, false), (Fate::HandleAndHang, true)] {
        let stage = Stage::new();
        let wire = wire(&stage, fate);
        let towns: Api<Town> = Api::default_namespaced(wire.client());
        let create = tokio::spawn(async move { towns.create(&PostParams::default(), &town("gas")).await });
        while wire.held().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(there(&stage).await, happens);
        assert!(!create.is_finished());
        wire.release(1);
        assert!(create.await.unwrap().is_ok());
        assert!(there(&stage).await);
    }
}

#[tokio::test]
async fn cut_wire_passes_no_requests() {
    let stage = Stage::new();
    let wire = wire(&stage, Fate::Pass);
    let towns: Api<Town> = Api::default_namespaced(wire.client());
    towns.list(&ListParams::default()).await.unwrap();
    wire.cut();
    towns.list(&ListParams::default()).await.unwrap_err();
    towns.create(&PostParams::default(), &town("gas")).await.unwrap_err();
    assert!(!there(&stage).await);
    assert_eq!(wire.calls(), 1, "what does not arrive is not counted");
}

#[tokio::test]
async fn rights_of_a_user_can_be_restricted_and_restored() {
    let stage = Stage::new();
    let towns: Api<Town> = Api::default_namespaced(wire(&stage, Fate::Pass).client());
    stage.world().access.restrict("operator", vec![Grant::everywhere(&["get", "list"], &["*"], &["*"])]);
    towns.list(&ListParams::default()).await.unwrap();
    let denied = towns.create(&PostParams::default(), &town("gas")).await;
    assert_eq!(refused(denied), (403, "Forbidden".into()));
    stage.world().access.free("operator");
    towns.create(&PostParams::default(), &town("gas")).await.unwrap();
}
