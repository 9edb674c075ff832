//! Which directories get something when their turn is over.
//!
//! Who unpacks an archive gives a directory its times and mode when what is next lies elsewhere. In the order of one archive nothing
//! more comes for it then. Of several archives, and of further names of a file, it does, and its time would be that of the
//! unpacking: such directories are told of once more at the end.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use taf_tree::path::split;

/// See the module. Remembers what is out of order, and nothing else.
#[derive(Debug, Default)]
pub struct Order {
    last: Vec<u8>,
    count: u64,
    /// By a hash of the directory: when something last came for it that was not its turn.
    late: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Order {
    /// The next member. Gives its number.
    pub fn next(&mut self, path: &[u8]) -> u64 {
        self.count += 1;
        let mut rest = path;
        while let Some((directory, _)) = split(rest)
            && !is_within(&self.last, directory)
        {
            let key = self.hasher.hash_one(directory);
            self.late.insert(key, self.count);
            rest = directory;
        }
        self.last.clear();
        self.last.extend_from_slice(path);
        self.count
    }

    /// Whether something came for a directory, out of its turn, behind the member with this number.
    pub fn came_later(&self, directory: &[u8], number: u64) -> bool {
        let late = self.late.get(&self.hasher.hash_one(directory));
        late.is_some_and(|late| *late > number)
    }
}

fn is_within(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_out_of_turn_is_remembered() {
        let mut order = Order::default();
        let walk: [&[u8]; 6] = [b"a", b"a/x", b"a/b", b"a/b/y", b"c", b"c/z"];
        let numbers = walk.map(|path| order.next(path));
        for (path, number) in walk.iter().zip(numbers) {
            assert!(!order.came_later(path, number));
        }
        assert!(order.late.is_empty());
        order.next(b"a/b/late");
        assert!(order.came_later(b"a", numbers[0]) && order.came_later(b"a/b", numbers[2]));
        assert!(!order.came_later(b"c", numbers[4]));
        // A directory that comes behind what is in it needs no second word.
        order.next(b"d/e/f");
        let number = order.next(b"d");
        assert!(!order.came_later(b"d", number));
        // Neighbours whose names begin alike are not within each other.
        order.next(b"g");
        order.next(b"gg");
        order.next(b"g/x");
        assert!(order.came_later(b"g", 10));
    }
}
