//! The group of a record, for `identity group`: the input writes a container's identity, node
//! and labels once for all of its records.

use positions::Group;

use crate::chunk::{Fields, GroupMetadata, Map};
use crate::identity::{Identity, Source};
use crate::scope::Scope;

/// The group at the current position in a chunk.
#[derive(Debug)]
pub(super) struct CurrentGroup<'a> {
    /// Whether records have the metadata of their group instead of their own.
    is_used: bool,
    kubernetes: Option<Map<'a>>,
    is_damaged: bool,
    /// Whether the output wants none of the group's records.
    is_skipped: bool,
}

impl<'a> CurrentGroup<'a> {
    pub(super) fn new(identity: Source) -> Self {
        Self {
            is_used: identity == Source::Group,
            kubernetes: None,
            is_damaged: false,
            is_skipped: false,
        }
    }

    /// Begins a group with this metadata, if the output wants it and its container is in the
    /// scope. After damage there are no groups any more: the reader may be in the text of a
    /// container, which could contain one.
    pub(super) fn start(
        &mut self,
        metadata: GroupMetadata<'a>,
        scope: Option<&Scope>,
        mut wants: impl FnMut(&Group<'a>) -> bool,
    ) {
        let GroupMetadata { kubernetes, place } = metadata;
        self.kubernetes = kubernetes.filter(|_| !self.is_damaged);
        let place = place.filter(|_| self.is_used && !self.is_damaged);
        let is_wanted = place.is_none_or(|place| wants(&place));
        let is_in_scope = || {
            let identity = self.kubernetes.and_then(Identity::from_record);
            scope.is_none_or(|scope| scope.contains(identity))
        };
        self.is_skipped = self.is_used && !(is_wanted && is_in_scope());
    }

    /// Ends the group.
    pub(super) const fn end(&mut self) {
        self.kubernetes = None;
        self.is_skipped = false;
    }

    /// Returns whether the output wants none of the records.
    pub(super) const fn is_skipped(&self) -> bool {
        self.is_skipped
    }

    /// Notes that a part of the chunk cannot be read.
    pub(super) const fn damage(&mut self) {
        self.is_damaged = true;
        self.end();
    }

    /// Gives a record the metadata of its group.
    pub(super) const fn assign(&self, fields: &mut Fields<'a>) {
        if self.is_used {
            fields.container.kubernetes = self.kubernetes;
            fields.container.is_ambiguous = false;
        }
    }

    /// Returns the map that templates refer to instead of the record's. Without a group it is
    /// empty.
    pub(super) fn for_templates(&self) -> Option<Map<'a>> {
        self.is_used.then(|| self.kubernetes.unwrap_or_default())
    }
}
