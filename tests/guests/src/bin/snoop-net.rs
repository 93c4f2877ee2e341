//! Tries to reach the network; a line for each way that is open.

use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

fn main() {
    if TcpStream::connect("127.0.0.1:22").is_ok() {
        println!("connected");
    }
    if let Err(error) = TcpStream::connect("127.0.0.1:1")
        && error.kind() == std::io::ErrorKind::ConnectionRefused
    {
        println!("was refused by the machine, not by the host");
    }
    if TcpListener::bind("127.0.0.1:0").is_ok() {
        println!("listened");
    }
    if UdpSocket::bind("127.0.0.1:0").is_ok() {
        println!("bound");
    }
    if "localhost:80".to_socket_addrs().is_ok() {
        println!("resolved");
    }
}
