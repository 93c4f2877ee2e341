//! ltmc-ports
