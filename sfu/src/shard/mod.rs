//! One thread, one socket, its rooms.
