//! How the protobuf files must look: buf's STANDARD rules and our own, checked on the compiled descriptors, so that no
//! further program is needed. Each rule has a name; `offences/` holds a file that breaks every one of them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, FileDescriptor, Kind,
    MessageDescriptor, MethodDescriptor, ServiceDescriptor, Syntax,
};

#[path = "lint/http.rs"]
mod http;
#[path = "lint/words.rs"]
mod words;

use words::{is_lower_snake, is_pascal, is_upper_snake, upper_snake};

/// The package that people's programs use; the rules about resources and HTTP hold here only.
const PUBLIC: &str = "taf.v1";

/// Mutations that take no `request_id`, and why a repeat is harmless without.
const WITHOUT_REQUEST_ID: [(&str, &str); 7] = [
    (
        "taf.v1.CheckService.CheckCatalog",
        "it only reads; a repeat checks anew",
    ),
    (
        "taf.v1.CheckService.RepairCatalog",
        "a repeat finds nothing left to put right, and says so",
    ),
    (
        "taf.v1.DumpService.DumpVersion",
        "a stream can't be given again; a call that breaks ends its job, and a repeat is another dump",
    ),
    (
        "taf.v1.IdentityService.Login",
        "a kept answer would keep a token in clear; a repeat makes another token",
    ),
    (
        "taf.v1.IdentityService.Logout",
        "a repeat finds the token revoked, which is what was asked for",
    ),
    (
        "taf.v1.IdentityService.CreateFirstAdministrator",
        "there is only one first account, so a repeat is refused",
    ),
    (
        "taf.v1.EnrolmentService.Enrol",
        "the token itself is used once, and nobody is signed in yet whose request it could be",
    ),
];

/// What was found, as (rule, sentence).
#[derive(Default)]
struct Findings(Vec<(&'static str, String)>);

impl Findings {
    fn expect(&mut self, good: bool, rule: &'static str, subject: &str, says: &str) {
        if !good {
            self.0.push((rule, format!("{subject}: {says}")));
        }
    }

    /// Every element carries a comment directly above it.
    fn comment(&mut self, file: &FileDescriptor, path: &[i32], subject: &str) {
        let good = file
            .file_descriptor_proto()
            .source_code_info
            .iter()
            .flat_map(|info| &info.location)
            .any(|place| place.path == path && !place.leading_comments().trim().is_empty());
        self.expect(good, "COMMENT", subject, "has no comment above it");
    }
}

fn check(pool: &DescriptorPool) -> Vec<(&'static str, String)> {
    let mut found = Findings::default();
    for file in pool.files().filter(|f| ours(f.package_name())) {
        check_file(&mut found, &file);
    }
    for message in pool.all_messages().filter(|m| ours(m.package_name())) {
        if !message.is_map_entry() {
            check_message(&mut found, &message);
        }
    }
    for kind in pool.all_enums().filter(|e| ours(e.package_name())) {
        check_enum(&mut found, &kind);
    }
    for option in pool.all_extensions().filter(|e| ours(e.package_name())) {
        found.comment(&option.parent_file(), option.path(), option.full_name());
    }
    let mut uses = BTreeMap::<String, u32>::new();
    for service in pool.services().filter(|s| ours(s.package_name())) {
        check_service(&mut found, &service);
        for method in service.methods() {
            check_method(&mut found, pool, &service, &method);
            for side in [method.input(), method.output()] {
                *uses.entry(side.full_name().to_owned()).or_default() += 1;
            }
        }
    }
    for (message, count) in uses {
        found.expect(
            count == 1,
            "RPC_MESSAGE_UNIQUE",
            &message,
            "is used by several RPCs",
        );
    }
    http::check_routes(&mut found, pool);
    found.0
}

fn ours(package: &str) -> bool {
    package.split('.').next() == Some("taf")
}

fn check_file(found: &mut Findings, file: &FileDescriptor) {
    let name = file.name();
    let (folder, base) = name.rsplit_once('/').unwrap_or(("", name));
    found.expect(
        folder.replace('/', ".") == file.package_name(),
        "PACKAGE_FOLDER",
        name,
        "the folder is not the package",
    );
    let parts: Vec<&str> = file.package_name().split('.').collect();
    let version = parts.last().and_then(|last| last.strip_prefix('v'));
    found.expect(
        parts.iter().all(|part| is_lower_snake(part))
            && version.is_some_and(|v| v.parse::<u32>().is_ok()),
        "PACKAGE_NAME",
        name,
        "the package is not lower case ending in a version",
    );
    found.expect(
        base.strip_suffix(".proto").is_some_and(is_lower_snake),
        "FILE_NAME",
        name,
        "the file name is not lower_snake.proto",
    );
    found.expect(
        file.syntax() == Syntax::Proto3,
        "SYNTAX",
        name,
        "is not proto3",
    );
    found.expect(
        file.public_dependencies().len() == 0,
        "IMPORT_PUBLIC",
        name,
        "imports publicly",
    );
    // 12 is the syntax line, the first of a file.
    found.comment(file, &[12], name);
    let used = used_files(file);
    for import in file.dependencies() {
        found.expect(
            used.contains(import.name()),
            "IMPORT_USED",
            name,
            &format!("does not use its import {}", import.name()),
        );
    }
}

/// The files that define what `file` mentions.
fn used_files(file: &FileDescriptor) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let mut messages: Vec<MessageDescriptor> = file.messages().collect();
    while let Some(message) = messages.pop() {
        messages.extend(message.child_messages());
        for field in message.fields() {
            match field.kind() {
                Kind::Message(of) => used.insert(of.parent_file().name().to_owned()),
                Kind::Enum(of) => used.insert(of.parent_file().name().to_owned()),
                _ => false,
            };
        }
    }
    for option in file.extensions() {
        let extended = option.containing_message();
        used.insert(extended.parent_file().name().to_owned());
    }
    for method in file
        .services()
        .flat_map(|s| s.methods().collect::<Vec<_>>())
    {
        for side in [method.input(), method.output()] {
            used.insert(side.parent_file().name().to_owned());
        }
        for (option, _) in method.options().extensions() {
            used.insert(option.parent_file().name().to_owned());
        }
    }
    used
}

fn check_message(found: &mut Findings, message: &MessageDescriptor) {
    let file = message.parent_file();
    let name = message.full_name();
    found.comment(&file, message.path(), name);
    found.expect(
        is_pascal(message.name()),
        "MESSAGE_NAME",
        name,
        "is not PascalCase",
    );
    for field in message.fields() {
        found.comment(&file, field.path(), field.full_name());
        found.expect(
            is_lower_snake(field.name()),
            "FIELD_NAME",
            field.full_name(),
            "is not lower_snake",
        );
        found.expect(
            field.cardinality() != Cardinality::Required,
            "FIELD_REQUIRED",
            field.full_name(),
            "is required",
        );
    }
    for oneof in message.oneofs().filter(|o| !o.is_synthetic()) {
        found.comment(&file, oneof.path(), oneof.full_name());
        found.expect(
            is_lower_snake(oneof.name()),
            "ONEOF_NAME",
            oneof.full_name(),
            "is not lower_snake",
        );
    }
}

fn check_enum(found: &mut Findings, kind: &prost_reflect::EnumDescriptor) {
    let file = kind.parent_file();
    let name = kind.full_name();
    found.comment(&file, kind.path(), name);
    found.expect(
        is_pascal(kind.name()),
        "ENUM_NAME",
        name,
        "is not PascalCase",
    );
    let prefix = format!("{}_", upper_snake(kind.name()));
    let mut numbers = BTreeSet::new();
    for value in kind.values() {
        found.comment(&file, value.path(), value.full_name());
        found.expect(
            is_upper_snake(value.name()),
            "ENUM_VALUE_NAME",
            value.full_name(),
            "is not UPPER_SNAKE",
        );
        found.expect(
            value.name().starts_with(&prefix),
            "ENUM_VALUE_PREFIX",
            value.full_name(),
            &format!("does not begin with {prefix}"),
        );
        found.expect(
            numbers.insert(value.number()),
            "ENUM_ALIAS",
            value.full_name(),
            "has a number that another value has",
        );
        found.expect(
            value.number() != 0 || value.name() == format!("{prefix}UNSPECIFIED"),
            "ENUM_ZERO",
            value.full_name(),
            &format!("is zero and not {prefix}UNSPECIFIED"),
        );
    }
}

fn check_service(found: &mut Findings, service: &ServiceDescriptor) {
    let name = service.full_name();
    found.comment(&service.parent_file(), service.path(), name);
    found.expect(
        is_pascal(service.name()) && service.name().ends_with("Service"),
        "SERVICE_NAME",
        name,
        "is not PascalCase ending in Service",
    );
}

fn check_method(
    found: &mut Findings,
    pool: &DescriptorPool,
    service: &ServiceDescriptor,
    method: &MethodDescriptor,
) {
    let name = method.full_name();
    found.comment(&service.parent_file(), method.path(), name);
    found.expect(
        is_pascal(method.name()),
        "RPC_NAME",
        name,
        "is not PascalCase",
    );
    for (side, suffix) in [(method.input(), "Request"), (method.output(), "Response")] {
        found.expect(
            side.full_name() == format!("{}.{}{suffix}", service.package_name(), method.name()),
            "RPC_MESSAGE_NAME",
            name,
            &format!("{} is not {}{suffix}", side.full_name(), method.name()),
        );
    }
    let permission = option(pool, method, "taf.v1.permission").and_then(|v| v.as_enum_number());
    found.expect(
        permission.is_some_and(|number| number != 0),
        "RPC_PERMISSION",
        name,
        "has no option (taf.v1.permission)",
    );
    if service.package_name() != PUBLIC {
        return;
    }
    let rule = option(pool, method, "google.api.http");
    let rule = rule.as_ref().and_then(|value| value.as_message());
    found.expect(
        rule.is_some(),
        "RPC_HTTP",
        name,
        "has no option (google.api.http)",
    );
    if let Some(rule) = rule {
        http::check_rule(found, method, rule);
        check_request_id(found, method, rule);
    }
    if method.name().starts_with("List") {
        check_list(found, method);
    }
}

fn option(
    pool: &DescriptorPool,
    method: &MethodDescriptor,
    name: &str,
) -> Option<prost_reflect::Value> {
    let options = method.options();
    let extension = pool.get_extension_by_name(name)?;
    options
        .has_extension(&extension)
        .then(|| options.get_extension(&extension).into_owned())
}

/// Whatever is not a GET changes something, and is repeated when an answer is lost.
fn check_request_id(found: &mut Findings, method: &MethodDescriptor, rule: &DynamicMessage) {
    let excepted = WITHOUT_REQUEST_ID
        .iter()
        .any(|(name, _)| *name == method.full_name());
    let mutates = http::route(rule).is_some_and(|(verb, _)| verb != "get");
    let has = is_text(method.input().get_field_by_name("request_id"));
    found.expect(
        has == (mutates && !excepted),
        "REQUEST_ID",
        method.full_name(),
        "a mutation needs `string request_id`, a read and a listed exception must not have it",
    );
}

fn is_text(field: Option<FieldDescriptor>) -> bool {
    field.is_some_and(|f| f.kind() == Kind::String && !f.is_list())
}

fn check_list(found: &mut Findings, method: &MethodDescriptor) {
    let (input, output) = (method.input(), method.output());
    let size = input.get_field_by_name("page_size");
    found.expect(
        size.is_some_and(|f| f.kind() == Kind::Int32 && !f.is_list())
            && is_text(input.get_field_by_name("page_token"))
            && is_text(output.get_field_by_name("next_page_token")),
        "LIST_PAGES",
        method.full_name(),
        "lacks one of int32 page_size, string page_token, string next_page_token",
    );
    found.expect(
        output.fields().filter(FieldDescriptor::is_list).count() == 1,
        "LIST_ROWS",
        method.full_name(),
        "does not answer with exactly one repeated field",
    );
}

#[test]
fn the_published_files_keep_every_rule() {
    let found = check(&DescriptorPool::decode(taf_proto::DESCRIPTOR_SET).unwrap());
    let said: Vec<String> = found
        .iter()
        .map(|(rule, at)| format!("{rule} {at}"))
        .collect();
    assert!(said.is_empty(), "\n{}", said.join("\n"));
}

#[test]
fn the_exceptions_exist() {
    let pool = DescriptorPool::decode(taf_proto::DESCRIPTOR_SET).unwrap();
    for (name, _) in WITHOUT_REQUEST_ID {
        let (service, method) = name.rsplit_once('.').unwrap();
        let service = pool.get_service_by_name(service).unwrap();
        assert!(service.methods().any(|m| m.name() == method), "{name}");
    }
}

#[test]
fn every_rule_finds_its_offence() {
    let mut compiler = protox::Compiler::new(["tests/offences", "."]).unwrap();
    compiler.include_source_info(true).include_imports(true);
    compiler
        .open_files([
            "tests/offences/taf/v1/Offences.proto",
            "tests/offences/taf/v1/legacy.proto",
        ])
        .unwrap();
    let pool = DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap();
    let found = check(&pool);
    let broken: BTreeSet<&str> = found.iter().map(|(rule, _)| *rule).collect();
    let rules = BTreeSet::from([
        "COMMENT",
        "ENUM_ALIAS",
        "ENUM_NAME",
        "ENUM_VALUE_NAME",
        "ENUM_VALUE_PREFIX",
        "ENUM_ZERO",
        "FIELD_NAME",
        "FIELD_REQUIRED",
        "FILE_NAME",
        "HTTP_BODY",
        "HTTP_PATH",
        "HTTP_UNIQUE",
        "HTTP_VARIABLE",
        "IMPORT_PUBLIC",
        "IMPORT_USED",
        "LIST_PAGES",
        "LIST_ROWS",
        "MESSAGE_NAME",
        "ONEOF_NAME",
        "PACKAGE_FOLDER",
        "PACKAGE_NAME",
        "REQUEST_ID",
        "RPC_HTTP",
        "RPC_MESSAGE_NAME",
        "RPC_MESSAGE_UNIQUE",
        "RPC_NAME",
        "RPC_PERMISSION",
        "SERVICE_NAME",
        "SYNTAX",
    ]);
    assert_eq!(broken, rules, "{found:#?}");
}
