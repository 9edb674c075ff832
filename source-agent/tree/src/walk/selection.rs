//! Which paths were chosen, as a tree of names.
//!
//! A chosen directory is taken whole, so whatever is chosen below it adds nothing. Directories above a chosen path
//! are entered for their one child's sake.

use std::collections::BTreeMap;

use crate::path;

/// A node: everything below is chosen, or only what its children say.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) whole: bool,
    pub(super) children: BTreeMap<Vec<u8>, usize>,
}

/// The tree of chosen paths; node 0 is the top.
#[derive(Debug)]
pub(super) struct Selection {
    nodes: Vec<Node>,
}

impl Selection {
    /// From absolute paths. Doubled and trailing slashes are forgiven, `.` and `..` are not.
    pub(super) fn new(roots: &[Vec<u8>]) -> Result<Self, (Vec<u8>, path::Error)> {
        let mut nodes = vec![Node::default()];
        for root in roots {
            if root.first() != Some(&b'/') {
                return Err((root.clone(), path::Error::Empty));
            }
            let mut at = 0;
            for name in root
                .split(|byte| *byte == b'/')
                .filter(|name| !name.is_empty())
            {
                path::check_name(name).map_err(|error| (root.clone(), error))?;
                if nodes[at].whole {
                    break;
                }
                at = if let Some(&child) = nodes[at].children.get(name) {
                    child
                } else {
                    nodes.push(Node::default());
                    let child = nodes.len() - 1;
                    nodes[at].children.insert(name.to_vec(), child);
                    child
                };
            }
            nodes[at].whole = true;
            nodes[at].children.clear();
        }
        Ok(Self { nodes })
    }

    pub(super) fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }
}
