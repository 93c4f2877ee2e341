//! The connection: one that is shared, made when it is first wanted.
//!
//! Invariant: every command may be sent twice, and none of them blocks.

use std::time::Duration;

use ltmc_ports::StoreError;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, Pipeline, RedisError, Script,
    ServerErrorKind, Value,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error;

/// After a connection failed, no other is tried for so long: those who ask are told the same.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct Link {
    client: Client,
    address: String,
    timeout: Duration,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    manager: Option<ConnectionManager>,
    failed: Option<(Instant, RedisError)>,
}

/// What is sent.
enum Words<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
    Script(&'a Script, &'a Cmd),
}

impl Link {
    pub(crate) fn new(client: Client, address: String, timeout: Duration) -> Self {
        Self { client, address, timeout, shared: Mutex::default() }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Sends a command.
    pub(crate) async fn ask<T: FromRedisValue>(&self, op: &'static str, cmd: &Cmd) -> Result<T, StoreError> {
        self.send(op, Words::One(cmd)).await
    }

    /// Sends several.
    pub(crate) async fn ask_all<T: FromRedisValue>(&self, op: &'static str, pipe: &Pipeline) -> Result<T, StoreError> {
        self.send(op, Words::Many(pipe)).await
    }

    /// Runs a script: `call` is made by [`call`].
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        op: &'static str,
        script: &Script,
        call: &Cmd,
    ) -> Result<T, StoreError> {
        self.send(op, Words::Script(script, call)).await
    }

    async fn send<T: FromRedisValue>(&self, op: &'static str, words: Words<'_>) -> Result<T, StoreError> {
        let failed = |error: RedisError| error::store(op, &self.address, &error);
        let mut again = true;
        loop {
            let mut manager = self.manager().await.map_err(failed)?;
            let error = match words.say(&mut manager).await {
                Ok(answer) => return redis::from_redis_value(answer).map_err(|error| failed(error.into())),
                Err(error) => error,
            };
            // The manager connects again by itself where a connection broke, but not where it was refused.
            if matches!(
                error.kind(),
                ErrorKind::AuthenticationFailed | ErrorKind::Parse | ErrorKind::InvalidClientConfig
            ) {
                self.shared.lock().await.manager = None;
            }
            if !(again && error.is_io_error() && !error.is_timeout()) {
                return Err(failed(error));
            }
            again = false;
        }
    }

    async fn manager(&self) -> Result<ConnectionManager, RedisError> {
        let mut shared = self.shared.lock().await;
        if let Some(manager) = &shared.manager {
            return Ok(manager.clone());
        }
        if let Some((when, error)) = &shared.failed
            && when.elapsed() < PAUSE
        {
            return Err(error.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        match ConnectionManager::new_with_config(self.client.clone(), config).await {
            Ok(manager) => {
                *shared = Shared { manager: Some(manager.clone()), failed: None };
                Ok(manager)
            }
            Err(error) => {
                shared.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// A new connection, shared with nobody.
    pub(crate) async fn apart(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }
}

impl Words<'_> {
    async fn say(&self, connection: &mut ConnectionManager) -> Result<Value, RedisError> {
        match self {
            Self::One(cmd) => cmd.query_async(connection).await,
            Self::Many(pipe) => pipe.query_async(connection).await,
            Self::Script(script, call) => match call.query_async(connection).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    script.load_async(connection).await?;
                    call.query_async(connection).await
                }
                answer => answer,
            },
        }
    }
}

/// A call of a script with one key, to which arguments are added.
pub(crate) fn call(script: &Script, key: &str) -> Cmd {
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(script.get_hash()).arg(1).arg(key);
    cmd
}
