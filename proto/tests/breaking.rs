//! What was released stays: the present API is compared with the descriptors of the last release, kept beside the
//! protobuf files. Additions pass; whatever an old program, an old tape or an old REST client would stumble over fails.
//!
//! `TAF_RELEASE=1 cargo test -p taf-proto --test breaking` makes the present API the released one.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind,
    MessageDescriptor, MethodDescriptor, ServiceDescriptor, Value,
};

/// Public, or on tape for ever. `taf.agent.v1` is not: controller and agents are upgraded together.
const KEPT: [&str; 2] = ["taf.v1", "taf.tape.v1"];

fn kept(package: &str) -> bool {
    KEPT.contains(&package)
}

fn released_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("released/taf.v1.bin")
}

/// The kept packages and what they import, without comments and positions.
fn snapshot(descriptor_set: &[u8]) -> Vec<u8> {
    let pool = DescriptorPool::decode(descriptor_set).unwrap();
    let mut names = BTreeSet::new();
    let mut open: Vec<FileDescriptor> = pool.files().filter(|f| kept(f.package_name())).collect();
    while let Some(file) = open.pop() {
        if names.insert(file.name().to_owned()) {
            open.extend(file.dependencies());
        }
    }
    // Through reflection, because the plain types drop our options.
    let set = pool
        .get_message_by_name("google.protobuf.FileDescriptorSet")
        .unwrap();
    let mut set = DynamicMessage::decode(set, descriptor_set).unwrap();
    let files = set
        .get_field_by_name_mut("file")
        .unwrap()
        .as_list_mut()
        .unwrap();
    files.retain(|file| names.contains(&name_of(file.as_message().unwrap())));
    for file in files {
        let Value::Message(file) = file else {
            unreachable!("a file is a message")
        };
        file.clear_field_by_name("source_code_info");
    }
    set.encode_to_vec()
}

fn name_of(file: &DynamicMessage) -> String {
    let name = file.get_field_by_name("name").unwrap();
    name.as_str().unwrap().to_owned()
}

/// What breaks between `old` and `new`, one sentence each.
fn breaks(old: &DescriptorPool, new: &DescriptorPool) -> Vec<String> {
    let mut found = Vec::new();
    for message in old.all_messages().filter(|m| kept(m.package_name())) {
        match new.get_message_by_name(message.full_name()) {
            Some(now) => message_breaks(&mut found, &message, &now),
            None => found.push(format!("message {} is gone", message.full_name())),
        }
    }
    for kind in old.all_enums().filter(|e| kept(e.package_name())) {
        match new.get_enum_by_name(kind.full_name()) {
            Some(now) => enum_breaks(&mut found, &kind, &now),
            None => found.push(format!("enum {} is gone", kind.full_name())),
        }
    }
    for service in old.services().filter(|s| kept(s.package_name())) {
        match new.get_service_by_name(service.full_name()) {
            Some(now) => service_breaks(&mut found, old, &service, new, &now),
            None => found.push(format!("service {} is gone", service.full_name())),
        }
    }
    for option in old.all_extensions().filter(|e| kept(e.package_name())) {
        let now = new.get_extension_by_name(option.full_name());
        let same = now.is_some_and(|now| {
            now.number() == option.number() && type_of(&now.kind()) == type_of(&option.kind())
        });
        if !same {
            found.push(format!("option {} is gone or changed", option.full_name()));
        }
    }
    found
}

fn message_breaks(found: &mut Vec<String>, old: &MessageDescriptor, new: &MessageDescriptor) {
    for field in old.fields() {
        let Some(now) = new.get_field(field.number()) else {
            found.push(match new.get_field_by_name(field.name()) {
                Some(now) => format!(
                    "field {} was number {} and is {}",
                    field.full_name(),
                    field.number(),
                    now.number()
                ),
                None => format!("field {} is gone", field.full_name()),
            });
            continue;
        };
        for (what, was, is) in shape(&field)
            .into_iter()
            .zip(shape(&now))
            .map(|(a, b)| (a.0, a.1, b.1))
        {
            if was != is {
                found.push(format!(
                    "field {} (number {}) had {what} {was} and has {is}",
                    field.full_name(),
                    field.number()
                ));
            }
        }
    }
}

/// All of a field that old bytes or old JSON depend on.
fn shape(field: &FieldDescriptor) -> [(&'static str, String); 5] {
    let oneof = field
        .containing_oneof()
        .filter(|oneof| !oneof.is_synthetic());
    [
        ("name", field.name().to_owned()),
        ("JSON name", field.json_name().to_owned()),
        ("type", type_of(&field.kind())),
        (
            "cardinality",
            format!(
                "{:?}{}",
                field.cardinality(),
                if field.supports_presence() {
                    " with presence"
                } else {
                    ""
                }
            ),
        ),
        (
            "oneof",
            oneof.map_or("none".to_owned(), |oneof| oneof.name().to_owned()),
        ),
    ]
}

fn type_of(kind: &Kind) -> String {
    match kind {
        Kind::Message(of) => of.full_name().to_owned(),
        Kind::Enum(of) => of.full_name().to_owned(),
        scalar => format!("{scalar:?}"),
    }
}

fn enum_breaks(found: &mut Vec<String>, old: &EnumDescriptor, new: &EnumDescriptor) {
    for value in old.values() {
        match new.get_value_by_name(value.name()) {
            None => found.push(format!("enum value {} is gone", value.full_name())),
            Some(now) if now.number() != value.number() => found.push(format!(
                "enum value {} was {} and is {}",
                value.full_name(),
                value.number(),
                now.number()
            )),
            Some(_) => {}
        }
    }
}

fn service_breaks(
    found: &mut Vec<String>,
    old_pool: &DescriptorPool,
    old: &ServiceDescriptor,
    new_pool: &DescriptorPool,
    new: &ServiceDescriptor,
) {
    for method in old.methods() {
        let Some(now) = new.methods().find(|now| now.name() == method.name()) else {
            found.push(format!("RPC {} is gone", method.full_name()));
            continue;
        };
        let (was, is) = (signature(&method), signature(&now));
        if was != is {
            found.push(format!("RPC {} was {was} and is {is}", method.full_name()));
        }
        let (was, is) = (http(old_pool, &method), http(new_pool, &now));
        if was != is {
            found.push(format!(
                "RPC {} was HTTP {} and is {}",
                method.full_name(),
                was.unwrap_or_default(),
                is.unwrap_or_default()
            ));
        }
    }
}

fn signature(method: &MethodDescriptor) -> String {
    let stream = |streams| if streams { "stream " } else { "" };
    format!(
        "({}{}) returns ({}{})",
        stream(method.is_client_streaming()),
        method.input().full_name(),
        stream(method.is_server_streaming()),
        method.output().full_name()
    )
}

/// The HTTP mapping as text; further mappings may be added freely.
fn http(pool: &DescriptorPool, method: &MethodDescriptor) -> Option<String> {
    let extension = pool.get_extension_by_name("google.api.http")?;
    let options = method.options();
    let rule = options.get_extension(&extension);
    let mut rule = rule.as_message()?.clone();
    rule.clear_field_by_name("additional_bindings");
    let fields: Vec<String> = rule
        .fields()
        .map(|(field, value)| format!("{} {value}", field.name()))
        .collect();
    Some(fields.join(" "))
}

#[test]
fn what_was_released_is_unbroken() {
    let present = snapshot(taf_proto::DESCRIPTOR_SET);
    if std::env::var_os("TAF_RELEASE").is_some() {
        std::fs::write(released_path(), &present).unwrap();
    }
    let released = std::fs::read(released_path()).unwrap();
    let old = DescriptorPool::decode(released.as_slice()).unwrap();
    let new = DescriptorPool::decode(present.as_slice()).unwrap();
    assert!(
        KEPT.iter()
            .all(|package| old.files().any(|f| f.package_name() == *package))
    );
    let found = breaks(&old, &new);
    assert!(
        found.is_empty(),
        "\n{}\nbring it back, or add beside it and mark the old deprecated; see proto/README.md",
        found.join("\n")
    );
}

/// The present API after `change` of the raw descriptors.
fn doctored(change: impl FnOnce(&mut prost_types::FileDescriptorSet)) -> Vec<String> {
    let present = snapshot(taf_proto::DESCRIPTOR_SET);
    let old = prost_types::FileDescriptorSet::decode(present.as_slice()).unwrap();
    let mut new = old.clone();
    change(&mut new);
    breaks(
        &DescriptorPool::from_file_descriptor_set(old).unwrap(),
        &DescriptorPool::from_file_descriptor_set(new).unwrap(),
    )
}

fn message<'a>(
    set: &'a mut prost_types::FileDescriptorSet,
    name: &str,
) -> &'a mut prost_types::DescriptorProto {
    let files = set.file.iter_mut().filter(|f| f.package() == "taf.v1");
    let mut messages = files.flat_map(|f| &mut f.message_type);
    messages.find(|m| m.name() == name).unwrap()
}

fn service<'a>(
    set: &'a mut prost_types::FileDescriptorSet,
    name: &str,
) -> &'a mut prost_types::ServiceDescriptorProto {
    let mut services = set.file.iter_mut().flat_map(|f| &mut f.service);
    services.find(|s| s.name() == name).unwrap()
}

fn kind<'a>(
    set: &'a mut prost_types::FileDescriptorSet,
    name: &str,
) -> &'a mut prost_types::EnumDescriptorProto {
    let mut kinds = set.file.iter_mut().flat_map(|f| &mut f.enum_type);
    kinds.find(|e| e.name() == name).unwrap()
}

#[test]
fn fields_may_not_go_move_or_change() {
    use prost_types::field_descriptor_proto::{Label, Type};
    let one = |change: fn(&mut Vec<prost_types::FieldDescriptorProto>)| {
        doctored(|set| change(&mut message(set, "Pool").field)).join("; ")
    };
    assert_eq!(
        one(|f| drop(f.remove(1))),
        "field taf.v1.Pool.block_size is gone"
    );
    assert_eq!(
        one(|f| f[1].number = Some(99)),
        "field taf.v1.Pool.block_size was number 2 and is 99"
    );
    assert_eq!(
        one(|f| f[1].set_type(Type::Uint64)),
        "field taf.v1.Pool.block_size (number 2) had type uint32 and has uint64"
    );
    assert!(one(|f| f[1].set_label(Label::Repeated)).contains("had cardinality"));
    assert!(one(|f| f[1].name = Some("size".into())).contains("had name block_size and has size"));
}

#[test]
fn messages_and_enum_values_may_not_go_or_change() {
    // TapeFile is only GetVolumeResponse's.
    let found = doctored(|set| {
        message(set, "GetVolumeResponse").field.pop();
        for file in &mut set.file {
            file.message_type.retain(|m| m.name() != "TapeFile");
        }
    });
    assert!(
        found.contains(&"message taf.v1.TapeFile is gone".to_owned()),
        "{found:?}"
    );
    let found = doctored(|set| drop(kind(set, "JobState").value.pop()));
    assert_eq!(found, ["enum value taf.v1.JOB_STATE_CANCELLED is gone"]);
    let found = doctored(|set| kind(set, "JobState").value[6].number = Some(60));
    assert_eq!(
        found,
        ["enum value taf.v1.JOB_STATE_CANCELLED was 6 and is 60"]
    );
}

#[test]
fn rpcs_may_not_go_or_change() {
    let found = doctored(|set| drop(service(set, "DeviceService").method.remove(0)));
    assert_eq!(found, ["RPC taf.v1.DeviceService.ListDrives is gone"]);
    let found =
        doctored(|set| service(set, "DeviceService").method[0].server_streaming = Some(true));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("returns (stream taf.v1.ListDrivesResponse)"),
        "{found:?}"
    );
    let found = doctored(|set| service(set, "DeviceService").name = Some("UnitService".into()));
    assert_eq!(found, ["service taf.v1.DeviceService is gone"]);
}

#[test]
fn http_paths_may_not_change() {
    let old = snapshot(taf_proto::DESCRIPTOR_SET);
    let mut new = old.clone();
    let path = b"/v1/libraries";
    let at = new.windows(path.len()).position(|w| w == path).unwrap();
    new[at + path.len() - 1] = b'z';
    let pool = |bytes: &[u8]| DescriptorPool::decode(bytes).unwrap();
    let found = breaks(&pool(&old), &pool(&new));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("RPC taf.v1.DeviceService.ListLibraries was HTTP get"),
        "{found:?}"
    );
}

#[test]
fn additions_pass() {
    let found = doctored(|set| {
        let mut field = message(set, "Pool").field[1].clone();
        (field.name, field.json_name, field.number) = (Some("added".into()), None, Some(900));
        message(set, "Pool").field.push(field);
        let mut value = kind(set, "JobState").value[6].clone();
        (value.name, value.number) = (Some("JOB_STATE_ADDED".into()), Some(900));
        kind(set, "JobState").value.push(value);
        let mut method = service(set, "DeviceService").method[0].clone();
        method.name = Some("ListAdded".into());
        service(set, "DeviceService").method.push(method);
    });
    assert!(found.is_empty(), "{found:?}");
}
