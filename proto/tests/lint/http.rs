//! The HTTP mapping of RPCs: templates, their variables, bodies.

use std::collections::BTreeMap;

use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, ReflectMessage,
};

use super::{Findings, PUBLIC, option};

const VERBS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// Verb and path template of a rule.
pub fn route(rule: &DynamicMessage) -> Option<(&'static str, String)> {
    VERBS.into_iter().find_map(|verb| {
        let field = rule.descriptor().get_field_by_name(verb)?;
        rule.has_field(&field).then(|| (verb, text(rule, verb)))
    })
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message
        .get_field_by_name(field)
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The variables of a template, and the template with their patterns in their place. Nothing if it is malformed.
fn template(path: &str) -> Option<(Vec<&str>, String)> {
    let (mut variables, mut plain, mut rest) = (Vec::new(), String::new(), path);
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, behind) = after.split_once('}')?;
        let (variable, pattern) = inside.split_once('=').unwrap_or((inside, "*"));
        plain.push_str(before);
        plain.push_str(pattern);
        variables.push(variable);
        rest = behind;
    }
    plain.push_str(rest);
    let verb_last = plain.rsplit('/').skip(1).all(|part| !part.contains(':'));
    let filled = plain.split('/').skip(1).all(|part| !part.is_empty());
    (!plain.contains(['{', '}', ' ', '?', '#']) && verb_last && filled)
        .then_some((variables, plain))
}

/// Whether the dotted name leads to a single string.
fn names_text(message: &MessageDescriptor, dotted: &str) -> bool {
    let (first, rest) = dotted.split_once('.').unwrap_or((dotted, ""));
    let Some(field) = message.get_field_by_name(first).filter(|f| !f.is_list()) else {
        return false;
    };
    match field.kind() {
        Kind::String => rest.is_empty(),
        Kind::Message(of) => names_text(&of, rest),
        _ => false,
    }
}

pub(super) fn check_rule(found: &mut Findings, method: &MethodDescriptor, rule: &DynamicMessage) {
    let name = method.full_name();
    let parsed = route(rule);
    let (verb, path) = parsed.clone().unwrap_or(("", String::new()));
    let template = template(&path).filter(|_| path.starts_with("/v1/"));
    found.expect(
        template.is_some(),
        "HTTP_PATH",
        name,
        &format!("\"{path}\" is no path template below /v1/"),
    );
    for variable in template.iter().flat_map(|(variables, _)| variables) {
        found.expect(
            names_text(&method.input(), variable),
            "HTTP_VARIABLE",
            name,
            &format!("{{{variable}}} is no single string of the request"),
        );
    }
    let body = text(rule, "body");
    let good = match verb {
        "get" | "delete" => body.is_empty(),
        _ => body == "*" || method.input().get_field_by_name(&body).is_some(),
    };
    found.expect(
        good,
        "HTTP_BODY",
        name,
        &format!("{verb} with body \"{body}\""),
    );
}

/// No two RPCs may answer to the same request.
pub(super) fn check_routes(found: &mut Findings, pool: &DescriptorPool) {
    let mut taken = BTreeMap::new();
    for service in pool.services().filter(|s| s.package_name() == PUBLIC) {
        for method in service.methods() {
            let rule = option(pool, &method, "google.api.http");
            let route = rule.as_ref().and_then(|rule| route(rule.as_message()?));
            let Some((verb, path)) = route else { continue };
            let Some((_, plain)) = template(&path) else {
                continue;
            };
            let before = taken.insert((verb, plain.clone()), method.full_name().to_owned());
            found.expect(
                before.is_none(),
                "HTTP_UNIQUE",
                method.full_name(),
                &format!("{verb} {plain} is also {}", before.unwrap_or_default()),
            );
        }
    }
}
