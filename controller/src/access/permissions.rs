//! The permission that each RPC needs, read from the `taf.v1.permission` option in the embedded descriptors. There is
//! no second list that could differ from the published one.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, MethodDescriptor, Value};
use taf_proto::v1::Permission;

const OPTION: &str = "taf.v1.permission";

/// Open to anybody: what load balancers and tools ask before they are anybody.
const PUBLIC: [&str; 3] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// Why the permissions can't be told; the controller does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The descriptors are damaged.
    #[error("the API's descriptors can't be read: {0}")]
    Descriptors(#[from] prost_reflect::DescriptorError),
    /// The descriptors do not define the option.
    #[error("the API's descriptors do not define the option {OPTION}")]
    Option,
    /// These RPCs say nothing, or something unknown, about who may call them.
    #[error("these RPCs have no option {OPTION} and would be open to nobody or everybody: {}", .0.join(", "))]
    Missing(Vec<String>),
}

/// From the path of a request (`/package.Service/Method`) to the permission that it needs.
#[derive(Debug, Clone)]
pub struct Permissions(HashMap<String, Permission>);

impl Permissions {
    /// Reads an encoded `FileDescriptorSet`. Every RPC of ours must have its option.
    pub fn read(descriptor_set: &[u8]) -> Result<Self, Error> {
        let pool = DescriptorPool::decode(descriptor_set)?;
        let option = pool.get_extension_by_name(OPTION).ok_or(Error::Option)?;
        let permission = |method: &MethodDescriptor| {
            let options = method.options();
            match options
                .has_extension(&option)
                .then(|| options.get_extension(&option).into_owned())
            {
                Some(Value::EnumNumber(number)) => Permission::try_from(number)
                    .ok()
                    .filter(|p| *p != Permission::Unspecified),
                _ => None,
            }
        };
        let mut found: HashMap<_, _> = PUBLIC
            .iter()
            .map(|path| ((*path).to_owned(), Permission::Public))
            .collect();
        let mut missing = Vec::new();
        for service in pool.services() {
            for method in service.methods() {
                match permission(&method) {
                    Some(permission) => {
                        let path = format!("/{}/{}", service.full_name(), method.name());
                        found.insert(path, permission);
                    }
                    None => missing.push(method.full_name().to_owned()),
                }
            }
        }
        if missing.is_empty() {
            Ok(Self(found))
        } else {
            Err(Error::Missing(missing))
        }
    }

    /// What a request to this path needs; nothing if there is no such RPC.
    pub fn of(&self, path: &str) -> Option<Permission> {
        self.0.get(path).copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn every_rpc_of_the_api_has_a_permission() {
        let permissions = Permissions::read(taf_proto::DESCRIPTOR_SET).unwrap();
        assert_eq!(
            permissions.of("/taf.v1.IdentityService/Login"),
            Some(Permission::Public)
        );
        assert_eq!(
            permissions.of("/taf.agent.v1.SessionService/Open"),
            Some(Permission::Agent)
        );
        assert_eq!(permissions.of("/taf.v1.IdentityService/Nonsense"), None);
        let set = prost_types::FileDescriptorSet::decode(taf_proto::DESCRIPTOR_SET).unwrap();
        let rpcs: usize = set
            .file
            .iter()
            .flat_map(|f| &f.service)
            .map(|s| s.method.len())
            .sum();
        assert_eq!(permissions.0.len(), rpcs + PUBLIC.len());
    }

    #[test]
    fn an_rpc_that_says_unspecified_stops_the_start() {
        // Field 50100 as a varint, its value PERMISSION_LOCAL: only one RPC has it.
        let key = [0xa0, 0xbb, 0x18, Permission::Local as u8];
        let mut doctored = taf_proto::DESCRIPTOR_SET.to_vec();
        let at = doctored
            .windows(4)
            .position(|window| window == key)
            .unwrap();
        doctored[at + 3] = 0;
        match Permissions::read(&doctored) {
            Err(Error::Missing(rpcs)) => {
                assert_eq!(rpcs, ["taf.v1.IdentityService.CreateFirstAdministrator"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rpcs_without_options_stop_the_start() {
        // The plain types drop options that they do not know.
        let mut set = prost_types::FileDescriptorSet::decode(taf_proto::DESCRIPTOR_SET).unwrap();
        for file in &mut set.file {
            for method in file.service.iter_mut().flat_map(|s| &mut s.method) {
                method.options = None;
            }
        }
        match Permissions::read(&set.encode_to_vec()) {
            Err(Error::Missing(rpcs)) => assert!(rpcs.len() > 20, "{rpcs:?}"),
            other => panic!("{other:?}"),
        }
    }
}
