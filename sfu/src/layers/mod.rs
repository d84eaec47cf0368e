//! Which layers of a layered source a subscriber gets, and how bandwidth is divided.
