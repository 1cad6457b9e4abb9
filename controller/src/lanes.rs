//! Lanes: the assignment of namespaces to tail inputs.
//!
//! An input remembers how far it has read each file. So a namespace stays with
//! its input for as long as it has sinks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The lane of each namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Lanes(BTreeMap<String, u16>);

impl Lanes {
    /// Assigns lanes: a namespace keeps its lane, and a new one gets the lane with the
    /// fewest namespaces.
    #[must_use]
    pub fn assign<'n>(&self, namespaces: impl Iterator<Item = &'n str>, max: u16) -> Self {
        let mut load = vec![0_usize; usize::from(max.max(1))];
        let (mut assigned, mut new) = (BTreeMap::new(), Vec::new());
        for namespace in namespaces {
            match self.0.get(namespace) {
                Some(lane) => {
                    // There may have been more lanes once.
                    if let Some(load) = load.get_mut(usize::from(*lane)) {
                        *load += 1;
                    }
                    assigned.insert(namespace.to_owned(), *lane);
                }
                None => new.push(namespace),
            }
        }
        for namespace in new {
            let emptiest = (0..load.len()).min_by_key(|lane| load[*lane]).unwrap_or(0);
            load[emptiest] += 1;
            assigned.insert(namespace.to_owned(), emptiest as u16);
        }
        Self(assigned)
    }

    /// Groups namespaces by lane.
    #[must_use]
    pub fn by_lane<'n>(
        &self,
        namespaces: impl Iterator<Item = &'n str>,
    ) -> BTreeMap<u16, Vec<&'n str>> {
        let mut lanes: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
        for namespace in namespaces {
            if let Some(lane) = self.0.get(namespace) {
                lanes.entry(*lane).or_default().push(namespace);
            }
        }
        lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign(lanes: &Lanes, namespaces: &[&str], max: u16) -> Lanes {
        lanes.assign(namespaces.iter().copied(), max)
    }

    fn by_lane(lanes: &Lanes) -> BTreeMap<u16, Vec<&str>> {
        lanes.by_lane(lanes.0.keys().map(String::as_str))
    }

    #[test]
    fn a_namespace_keeps_its_lane() {
        let first = assign(&Lanes::default(), &["a", "b", "c"], 2);
        assert_eq!(
            by_lane(&first),
            BTreeMap::from([(0, vec!["a", "c"]), (1, vec!["b"])])
        );
        let second = assign(&first, &["aa", "b", "c"], 2);
        assert_eq!(
            by_lane(&second),
            BTreeMap::from([(0, vec!["aa", "c"]), (1, vec!["b"])])
        );
    }

    #[test]
    fn namespaces_keep_their_lanes_if_the_maximum_shrinks() {
        let first = assign(&Lanes::default(), &["a", "b", "c"], 3);
        let second = assign(&first, &["a", "b", "c", "d"], 1);
        assert_eq!(by_lane(&second)[&2], ["c"]);
        assert_eq!(by_lane(&second)[&0], ["a", "d"]);
    }
}
