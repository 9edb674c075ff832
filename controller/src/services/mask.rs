//! Updates by field mask: what of a message is taken from a request, and the rest as it was.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage as _};
use std::sync::LazyLock;

use super::status::Violations;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(taf_proto::DESCRIPTOR_SET)
        .expect("the descriptors that were compiled into this program are whole")
});

/// A mask, of nothing but fields that may change. What is wrong with it goes to `bad`.
pub(super) fn read(
    mask: Option<&prost_types::FieldMask>,
    changeable: &[&str],
    bad: &mut Violations,
) -> Vec<String> {
    let paths = mask.map_or(&[][..], |mask| &mask.paths);
    if paths.is_empty() {
        bad.add("update_mask", "must name what is to change");
    }
    for path in paths {
        if !changeable.contains(&path.as_str()) {
            bad.add("update_mask", format!("{path} can't be changed"));
        }
    }
    paths.to_vec()
}

/// `known` with the fields of the mask as `wanted` has them. `name` is the message's, without package.
pub(super) fn merge<M: Message + Default>(
    name: &str,
    known: &M,
    wanted: &M,
    mask: &[String],
) -> Result<M, prost::DecodeError> {
    let descriptor = descriptor(name);
    let open = |message: &M| {
        DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice())
    };
    let (mut merged, wanted) = (open(known)?, open(wanted)?);
    for path in mask {
        let Some(field) = merged.descriptor().get_field_by_name(path) else {
            continue;
        };
        if wanted.has_field(&field) {
            merged.set_field(&field, wanted.get_field(&field).into_owned());
        } else {
            merged.clear_field(&field);
        }
    }
    merged.transcode_to()
}

fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(&format!("taf.v1.{name}"))
        .expect("only messages of the API are changed by mask")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use taf_proto::v1;

    #[test]
    fn only_what_is_masked_changes() {
        let known = v1::Pool {
            name: "pools/a".into(),
            block_size: 1,
            auto_label: "*".into(),
            ..Default::default()
        };
        let wanted = v1::Pool {
            block_size: 2,
            part_size: 3,
            ..Default::default()
        };
        let mask = ["block_size", "auto_label"].map(String::from);
        let merged = merge("Pool", &known, &wanted, &mask).unwrap();
        let expected = v1::Pool {
            block_size: 2,
            auto_label: String::new(),
            ..known
        };
        assert_eq!(merged, expected);
    }

    #[test]
    fn what_may_not_change_is_named() {
        let mut bad = Violations::new();
        let mask = prost_types::FieldMask {
            paths: vec!["name".into()],
        };
        read(Some(&mask), &["block_size"], &mut bad);
        read(None, &["block_size"], &mut bad);
        let said = bad.check().unwrap_err();
        assert!(said.message().contains("name can't be changed"), "{said:?}");
        assert!(said.message().contains("must name"), "{said:?}");
    }
}
