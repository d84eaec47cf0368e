//! Sockets: batches of datagrams in and out.
