//! The keys that the configurations of data planes and workers share.

use service::ConfigError;

use crate::is_address;

/// Maximum length of a peer's name. With the number of a hollow node, it stays below the length of a host name.
const MAX_NAME_BYTES: usize = 200;

/// Checks the `name` of a data plane or worker, which may be empty, and the addresses of its control planes.
///
/// # Errors
/// The first key that is out of bounds.
pub fn check_peer_config(name: &str, control_planes: &[String]) -> Result<(), ConfigError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = name.len() <= MAX_NAME_BYTES && name.bytes().all(is_plain);
    ConfigError::unless(fits, "name", "(--name): expected at most 200 letters, digits, '.', '_' or '-'")?;
    ConfigError::unless(!control_planes.is_empty(), "control_planes", "must name at least one host:port")?;
    let are_addresses = control_planes.iter().all(|address| is_address(address));
    let problem = "(--control-plane): expected HOST:PORT of a control plane's stream, without http://";
    ConfigError::unless(are_addresses, "control_planes", problem)
}
