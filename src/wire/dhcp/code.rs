//! DHCP option codes (RFC 2132 unless said otherwise).

pub const PAD: u8 = 0;
pub const SUBNET_MASK: u8 = 1;
pub const ROUTER: u8 = 3;
pub const DNS: u8 = 6;
pub const HOST_NAME: u8 = 12;
pub const DOMAIN: u8 = 15;
pub const MTU: u8 = 26;
pub const BROADCAST: u8 = 28;
pub const NTP: u8 = 42;
pub const VENDOR_SPECIFIC: u8 = 43;
pub const REQUESTED_IP: u8 = 50;
pub const LEASE_TIME: u8 = 51;
pub const OVERLOAD: u8 = 52;
pub const MESSAGE_TYPE: u8 = 53;
pub const SERVER_ID: u8 = 54;
pub const PARAMETER_LIST: u8 = 55;
pub const MESSAGE: u8 = 56;
pub const MAX_MESSAGE_SIZE: u8 = 57;
pub const RENEWAL_TIME: u8 = 58;
pub const REBINDING_TIME: u8 = 59;
pub const VENDOR_CLASS: u8 = 60;
pub const CLIENT_ID: u8 = 61;
pub const TFTP_SERVER: u8 = 66;
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
pub const END: u8 = 255;
