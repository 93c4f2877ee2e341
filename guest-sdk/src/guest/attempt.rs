//! The guest's side of the interface `ltmc:agent/attempt`.

use crate::Error;
use crate::bindings::host::ltmc::agent::attempt as wit;

pub(crate) fn checkpoint() -> Result<(), Error> {
    Ok(wit::checkpoint()?)
}
