//! Every field does something (T21, K35): for each field that the definitions have there is a story that shows its
//! effect. A field that is added without one, or a story that is gone, fails here.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::common::story::Story;
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.on_the_api(t21_every_field_of_a_town_has_a_story);
    stories.on_the_api(t21_every_field_of_an_agent_has_a_story);
}

/// Fields of a volume, of a town or an agent.
const STORAGE: &[(&str, &str)] = &[];

/// Each field of a town, and the story that shows what it does.
const OF_TOWN: &[(&str, &str)] = &[
    ("activityProbe", "f5_a_probes_secret_that_is_missing_is_named"),
];

/// Each field of an agent, and the story that shows what it does.
const OF_AGENT: &[(&str, &str)] = &[];

async fn t21_every_field_of_a_town_has_a_story(story: Story) {
    have_stories(&story, "towns.gastown.dev", OF_TOWN);
}

async fn t21_every_field_of_an_agent_has_a_story(story: Story) {
    have_stories(&story, "agents.gastown.dev", OF_AGENT);
}

fn have_stories(story: &Story, definition: &str, told: &[(&str, &str)]) {
    let text = story.cluster.kubectl(&["get", "crd", definition, "-o", "json"]);
    let crd: Value = serde_json::from_str(&text).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = BTreeSet::new();
    walk(spec, "", &mut fields);
    assert!(fields.len() > 20, "the definition was read: {fields:?}");

    let listed: BTreeSet<String> = told.iter().map(|(field, _)| (*field).to_owned()).collect();
    let untold: Vec<_> = fields.difference(&listed).collect();
    assert!(untold.is_empty(), "{definition}: no story shows what these fields do: {untold:#?}");
    let gone: Vec<_> = listed.difference(&fields).collect();
    assert!(gone.is_empty(), "{definition}: there are no such fields any more: {gone:#?}");

    let tests = sources();
    for (field, name) in told {
        assert!(tests.contains(&format!("fn {name}(")), "{field}: there is no test {name}");
    }
}

/// The paths of all fields below a schema that are not fields of Kubernetes' own: `rigs[].name`.
fn walk(schema: &Value, path: &str, fields: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, field) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            fields.insert(path.clone());
            // What a pod may have is not ours to show.
            if !name.to_lowercase().ends_with("template") {
                walk(field, &path, fields);
            }
        }
    }
    if let Some(items) = schema["items"].as_object() {
        walk(&Value::Object(items.clone()), &format!("{path}[]"), fields);
    }
}

/// All code in which tests may stand.
fn sources() -> String {
    fn read(directory: &Path, text: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for directory in ["tests", "src"] {
        read(&root.join(directory), &mut text);
    }
    text
}
