//! Tests of the room as a whole: what control is told, and who gets what.
