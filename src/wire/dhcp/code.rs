//! DHCP option codes (RFC 2132 unless said otherwise).

/// One byte of filling, without a length (RFC 2132, 3.1).
pub const PAD: u8 = 0;
/// The subnet mask (RFC 2132, 3.3).
pub const SUBNET_MASK: u8 = 1;
/// Routers, the best first (RFC 2132, 3.5).
pub const ROUTER: u8 = 3;
/// Name servers, the best first (RFC 2132, 3.8).
pub const DNS: u8 = 6;
/// The client's host name (RFC 2132, 3.14).
pub const HOST_NAME: u8 = 12;
/// The domain for names without one (RFC 2132, 3.17).
pub const DOMAIN: u8 = 15;
/// The interface's MTU, in 16 bits (RFC 2132, 5.1).
pub const MTU: u8 = 26;
/// The broadcast address (RFC 2132, 5.3).
pub const BROADCAST: u8 = 28;
/// Time servers (RFC 2132, 8.3).
pub const NTP: u8 = 42;
/// Options of the vendor's own, in a list of its own (RFC 2132, 8.4).
pub const VENDOR_SPECIFIC: u8 = 43;
/// The address that a client asks for (RFC 2132, 9.1).
pub const REQUESTED_IP: u8 = 50;
/// The length of the lease in seconds, in 32 bits (RFC 2132, 9.2).
pub const LEASE_TIME: u8 = 51;
/// Whether `file` or `sname` hold options (RFC 2132, 9.3).
pub const OVERLOAD: u8 = 52;
/// What kind of message it is (RFC 2132, 9.6).
pub const MESSAGE_TYPE: u8 = 53;
/// The address of the server (RFC 2132, 9.7).
pub const SERVER_ID: u8 = 54;
/// The options that a client asks for (RFC 2132, 9.8).
pub const PARAMETER_LIST: u8 = 55;
/// Why a request was denied, as text (RFC 2132, 9.9).
pub const MESSAGE: u8 = 56;
/// The longest message that the client takes, in bytes (RFC 2132, 9.10).
pub const MAX_MESSAGE_SIZE: u8 = 57;
/// T1, when to renew, in seconds (RFC 2132, 9.11).
pub const RENEWAL_TIME: u8 = 58;
/// T2, when to ask any server, in seconds (RFC 2132, 9.12).
pub const REBINDING_TIME: u8 = 59;
/// What kind of client it is, such as `PXEClient:Arch:00000` (RFC 2132, 9.13).
pub const VENDOR_CLASS: u8 = 60;
/// How the client identifies itself (RFC 2132, 9.14).
pub const CLIENT_ID: u8 = 61;
/// The TFTP server, as text (RFC 2132, 9.4).
pub const TFTP_SERVER: u8 = 66;
/// The boot file, as text (RFC 2132, 9.5).
pub const BOOTFILE: u8 = 67;
/// RFC 3004.
pub const USER_CLASS: u8 = 77;
/// RFC 3046.
pub const RELAY_AGENT_INFO: u8 = 82;
/// RFC 4578.
pub const ARCHITECTURE: u8 = 93;
/// RFC 4578: the network interface identifier.
pub const INTERFACE_ID: u8 = 94;
/// RFC 4578.
pub const MACHINE_UUID: u8 = 97;
/// iPXE's encapsulated options.
pub const ETHERBOOT: u8 = 175;
/// The end of the options (RFC 2132, 3.2).
pub const END: u8 = 255;
