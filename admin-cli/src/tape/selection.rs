//! Which paths of an archive are wanted.

/// Paths without a leading slash; none means everything.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    wanted: Vec<(Vec<u8>, bool)>,
}

/// What a path is to a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Wanted, or below what is wanted.
    Within,
    /// A directory on the way to what is wanted.
    Above,
    /// Neither.
    Outside,
}

impl Selection {
    /// These absolute paths, as the API writes them.
    pub fn new(paths: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let wanted = paths
            .into_iter()
            .map(|path| (path.strip_prefix(b"/").unwrap_or(&path).to_vec(), false))
            .collect();
        Self { wanted }
    }

    /// What a path is to it; what is found is noted.
    pub fn relation(&mut self, path: &[u8]) -> Relation {
        if self.wanted.is_empty() {
            return Relation::Within;
        }
        let mut relation = Relation::Outside;
        for (wanted, found) in &mut self.wanted {
            if is_at_or_below(path, wanted) {
                *found = true;
                relation = Relation::Within;
            } else if relation == Relation::Outside && is_at_or_below(wanted, path) {
                relation = Relation::Above;
            }
        }
        relation
    }

    /// Whether a path is wanted, without noting it.
    pub fn holds(&self, path: &[u8]) -> bool {
        self.wanted.is_empty()
            || self
                .wanted
                .iter()
                .any(|(wanted, _)| is_at_or_below(path, wanted))
    }

    /// What was wanted and never found.
    pub fn missing(&self) -> Vec<Vec<u8>> {
        self.wanted
            .iter()
            .filter(|(_, found)| !found)
            .map(|(wanted, _)| [b"/", wanted.as_slice()].concat())
            .collect()
    }
}

fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    top.is_empty()
        || path
            .strip_prefix(top)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_wanted_with_all_below_it() {
        let mut selection = Selection::new([b"/srv/a".to_vec(), b"/srv/gone".to_vec()]);
        assert_eq!(selection.relation(b"srv"), Relation::Above);
        assert_eq!(selection.relation(b"srv/a"), Relation::Within);
        assert_eq!(selection.relation(b"srv/a/b"), Relation::Within);
        assert_eq!(selection.relation(b"srv/ab"), Relation::Outside);
        assert_eq!(selection.missing(), [b"/srv/gone".to_vec()]);
        assert!(Selection::default().holds(b"anything"));
        assert_eq!(
            Selection::new([b"/".to_vec()]).relation(b"x"),
            Relation::Within
        );
    }
}
