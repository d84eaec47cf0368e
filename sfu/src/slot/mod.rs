//! A receive slot: one continuous stream for the decoder whatever source it shows.
