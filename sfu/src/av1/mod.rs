//! What AV1 carries beside its payload: the dependency descriptor.
