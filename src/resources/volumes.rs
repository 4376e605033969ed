//! The volumes that the operator adds to a pod: the storage of the owner, and the files below `/var/run/gastown`.
//!
//! If the template has a volume with one of our names, the pod uses that volume instead of ours. A mount of a
//! container at one of our paths stays as it is.

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIProjection, DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath,
    ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSpec, ProjectedVolumeSource, SecretProjection,
    SecretVolumeSource, Volume, VolumeMount, VolumeProjection,
};

use super::secret::TOKEN_KEY;
use super::template::{containers, literal};
use crate::api::names;

/// The directory of `hook.json` and of the probe token.
const RUN_PATH: &str = "/var/run/gastown";
/// The volume of these files.
const FILES: &str = "gastown";
/// The directory of the rig credentials of an agent.
const GIT_PATH: &str = "/var/run/gastown/git";
/// The variable with the home of a user.
const HOME: &str = "HOME";
/// The home of a user that the template sets.
const HOME_PATH: &str = "/home/gastown";
/// The volume of that home.
const HOME_VOLUME: &str = "gastown-home";

/// Mounts a claim in every container.
pub(super) fn mount_claim(spec: &mut PodSpec, volume: &str, claim: &str, path: &str) {
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: None };
    let volume =
        Volume { name: volume.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() };
    mount(spec, volume, path, false);
}

/// Mounts one volume with all of these files.
pub(super) fn mount_files(spec: &mut PodSpec, sources: Vec<VolumeProjection>) {
    if sources.is_empty() {
        return;
    }
    let source = ProjectedVolumeSource { sources: Some(sources), default_mode: None };
    let volume = Volume { name: FILES.into(), projected: Some(source), ..Volume::default() };
    mount(spec, volume, RUN_PATH, true);
}

/// `hook.json`, from the annotation of the pod: a changed hook reaches a running container.
pub(super) fn hook_file() -> VolumeProjection {
    let file = DownwardAPIVolumeFile {
        path: "hook.json".into(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{}']", names::HOOK),
            api_version: None,
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let source = DownwardAPIProjection { items: Some(vec![file]) };
    VolumeProjection { downward_api: Some(source), ..VolumeProjection::default() }
}

/// `token`, from the Secret: the token can change while the container runs.
pub(super) fn token_file(secret: &str) -> VolumeProjection {
    let key = KeyToPath { key: TOKEN_KEY.into(), path: TOKEN_KEY.into(), mode: None };
    let source = SecretProjection { name: secret.to_owned(), items: Some(vec![key]), optional: None };
    VolumeProjection { secret: Some(source), ..VolumeProjection::default() }
}

/// The Secret with the token of a pod.
pub fn token_secret_of(spec: &PodSpec) -> Option<&str> {
    let files = spec.volumes.iter().flatten().find(|volume| volume.name == FILES)?.projected.as_ref()?;
    let secrets = files.sources.iter().flatten().filter_map(|source| source.secret.as_ref());
    let holds_token =
        |secret: &&SecretProjection| secret.items.iter().flatten().any(|item| item.path == TOKEN_KEY);
    secrets.into_iter().find(holds_token).map(|secret| secret.name.as_str())
}

/// Mounts all keys of a Secret, with any names. This needs a separate volume: among projected files a Secret can be
/// in a directory only if the volume lists every key. The mount point is in a volume that no container can write to.
/// The kubelet creates the mount point during the setup of that volume (`MakeNestedMountpoints`, since 1.11).
pub(super) fn mount_credentials(spec: &mut PodSpec, secret: &str) {
    let source = SecretVolumeSource { secret_name: Some(secret.to_owned()), ..SecretVolumeSource::default() };
    let volume = Volume { name: "gastown-git".into(), secret: Some(source), ..Volume::default() };
    mount(spec, volume, GIT_PATH, true);
}

/// Gives each container whose user the template sets a home that this user can write to: the home in the image
/// belongs to the user of the image. A template that sets `HOME` keeps it.
pub(super) fn mount_home(spec: &mut PodSpec) {
    let user_of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let lacks_home = |container: &Container| {
        let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
        own.or(user_of_pod).is_some_and(|user| user != 0)
            && !container.env.iter().flatten().any(|variable| variable.name == HOME)
    };
    let mut any = false;
    for container in containers(spec).filter(|container| lacks_home(container)) {
        any = true;
        container.env.get_or_insert_default().insert(0, literal(HOME, HOME_PATH));
        mount_into(container, HOME_VOLUME, HOME_PATH, false);
    }
    if any {
        let source = EmptyDirVolumeSource::default();
        add(spec, Volume { name: HOME_VOLUME.into(), empty_dir: Some(source), ..Volume::default() });
    }
}

fn mount(spec: &mut PodSpec, volume: Volume, path: &str, read_only: bool) {
    let name = volume.name.clone();
    add(spec, volume);
    for container in containers(spec) {
        mount_into(container, &name, path, read_only);
    }
}

fn add(spec: &mut PodSpec, volume: Volume) {
    let volumes = spec.volumes.get_or_insert_default();
    if !volumes.iter().any(|v| v.name == volume.name) {
        volumes.push(volume);
    }
}

fn mount_into(container: &mut Container, volume: &str, path: &str, read_only: bool) {
    let mounts = container.volume_mounts.get_or_insert_default();
    if !mounts.iter().any(|m| m.mount_path.trim_end_matches('/') == path) {
        mounts.push(VolumeMount {
            name: volume.to_owned(),
            mount_path: path.to_owned(),
            read_only: read_only.then_some(true),
            ..VolumeMount::default()
        });
    }
}
