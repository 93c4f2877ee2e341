//! Access: keys, tenants, and tenants' ceilings.
//!
//! Invariants: the record keeps of a key's secret only a hash; it is compared in constant time, and a wrong, expired,
//! revoked or unknown key all get the same answer after the same work. A key is shown once. What changes anything does so on a task of the host's.

use std::pin::pin;
use std::sync::Arc;

use bytesize::ByteSize;
use ltmc_model::caller::{Caller, Role};
use ltmc_model::journal::{Change, Placed};
use ltmc_model::tenancy::{Ceiling, DiskUsage, Key, Tenant};
use ltmc_model::{Digest, KeyId, RunId, Seq, TenantId, Timestamp};
use ltmc_policy::Action;
use ltmc_ports::{Clock, Entropy, ReadCatalog, ReadJournal};
use subtle::ConstantTimeEq as _;

use crate::authority::KEY_BELIEVED;
use crate::{Authority, Error, Read};

/// A page of linear memory: no component runs in less.
const LEAST_MEMORY: ByteSize = ByteSize::kib(64);
/// With less on disk a tenant could not keep its keys and the journal of a call.
const LEAST_DISK: ByteSize = ByteSize::mib(1);
/// The most of a ceiling's numbers.
const MAX_CONCURRENCY: u32 = 100_000;

/// The use cases.
pub struct Access {
    ports: Ports,
}

/// What they need.
pub struct Ports {
    /// To look things up.
    pub catalog: Arc<dyn ReadCatalog>,
    /// To read the ledger.
    pub journal: Arc<dyn ReadJournal>,
    /// To ask, and to change things.
    pub authority: Arc<Authority>,
    /// For times.
    pub clock: Arc<dyn Clock>,
    /// For keys.
    pub entropy: Arc<dyn Entropy>,
    /// The most linear memory that the sandbox can give to a call, in bytes: no ceiling is higher.
    pub max_memory: u64,
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// For which tenant; none: the caller's own.
    pub tenant: Option<TenantId>,
    /// What it may do.
    pub role: Role,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

/// The keys of a host's first start, as texts.
#[derive(Debug, Clone)]
pub struct FirstKeys {
    /// The operator's key.
    pub operator: String,
    /// A key of the tenant `default`, with the role `admin`.
    pub default: String,
}

impl Access {
    /// Over these ports.
    pub fn new(ports: Ports) -> Self {
        Self { ports }
    }

    /// Who comes with this key, `ltmc_<id>_<secret>`.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], whatever is wrong with it.
    pub async fn authenticate(&self, text: &str) -> Result<Caller, Error> {
        let (id, secret) = split(text).ok_or(Error::Unauthorized)?;
        let hash = Digest::of(&secret).0;
        let is_right = |key: Option<&Key>| bool::from(hash.ct_eq(&key.map_or([0; 32], |key| key.hash)));
        let caller = |key: &Key| Caller { tenant: key.tenant.clone(), key: id.clone(), role: key.role, cause: None };
        // Who comes with a good key that is remembered waits for nothing. Everybody else is looked up in the record once, whether
        // there is such a key or not, and whatever is remembered: how long that takes says nothing about it.
        if let Some(key) = self.ports.authority.remembered_key(&id)
            && is_right(Some(&key))
            && self.is_good(&key)
        {
            return Ok(caller(&key));
        }
        let found = self.ports.catalog.key(&id).await?;
        let is_right = is_right(found.as_ref());
        let Some(key) = found else {
            // There is no tenant whose audit it would be in.
            metrics::counter!("ltmc_wrong_keys_total").increment(1);
            return Err(Error::Unauthorized);
        };
        if is_right && self.is_good(&key) {
            // Remembered from now on; it may have been taken back in the meantime.
            let known = self.ports.authority.key(&id).await?;
            return known.filter(|key| self.is_good(key)).map(|key| caller(&key)).ok_or(Error::Unauthorized);
        }
        let why = match (is_right, key.revoked_at) {
            (false, _) => "the secret is wrong",
            (true, Some(_)) => "the key was taken back",
            (true, None) => "the key has expired",
        };
        self.ports.authority.came_in_vain(&key.tenant, &id, why);
        Err(Error::Unauthorized)
    }

    /// Whether the key that a caller came with is still good, for whoever has kept it waiting.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] where it was taken back, or has expired.
    pub async fn confirm(&self, caller: &Caller) -> Result<(), Error> {
        let known = self.ports.authority.key(&caller.key).await?;
        known.filter(|key| self.is_good(key)).map(drop).ok_or(Error::Unauthorized)
    }

    /// Ends once the key that a caller came with is not good any more: at once where it is taken back by this host, within
    /// twenty seconds where another does it, or it expires.
    pub async fn lapse(&self, caller: &Caller) {
        loop {
            let mut news = pin!(self.ports.authority.news());
            // Before it is looked: what changes afterwards is told.
            news.as_mut().enable();
            // A record that does not answer says nothing about the key.
            if let Err(Error::Unauthorized) = self.confirm(caller).await {
                return;
            }
            // Whether it is news or time: it is looked again.
            drop(tokio::time::timeout(KEY_BELIEVED, news).await);
        }
    }

    /// What `work` gives, as long as the key that a caller came with is good.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] as soon as it is not any more.
    pub async fn while_good<T>(&self, caller: &Caller, work: impl Future<Output = T>) -> Result<T, Error> {
        let done = tokio::select! {
            biased;
            done = work => done,
            () = self.lapse(caller) => return Err(Error::Unauthorized),
        };
        self.confirm(caller).await?;
        Ok(done)
    }

    fn is_good(&self, key: &Key) -> bool {
        self.ports.authority.is_good(key)
    }

    /// Whether a caller may do this at all: for a door that asks before it reads what is sent. The use case asks again.
    ///
    /// # Errors
    /// `Denied`, saying which roles may.
    pub async fn may(&self, caller: &Caller, action: Action) -> Result<(), Error> {
        self.ports.authority.authorize(caller, action).await
    }

    /// Makes a tenant.
    ///
    /// # Errors
    /// `Conflict` where it is there already.
    pub async fn create_tenant(self: &Arc<Self>, caller: &Caller, name: TenantId) -> Result<Tenant, Error> {
        let (access, by) = (self.clone(), caller.clone());
        let work = async move {
            let tenant = Tenant { name, created_at: access.ports.clock.now() };
            let change = Change::TenantCreated(tenant.clone());
            let created = access.ports.authority.act(&by.tenant, Some(&by.key), change).await;
            created.map_err(Error::from).map_err(|e| {
                let message = format!("tenant `{}` is there already", tenant.name);
                if e.is_conflict() { Error::Conflict { code: "conflict", message } } else { e }
            })?;
            Ok(tenant)
        };
        self.ports.authority.perform(caller, Action::CreateTenant, work).await
    }

    /// All tenants, by name, after `after`.
    ///
    /// # Errors
    /// For others than the operator; the record's.
    pub async fn tenants(&self, caller: &Caller, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, Error> {
        self.ports.authority.authorize(caller, Action::ListTenants).await?;
        Ok(self.ports.catalog.tenants(after, limit).await?)
    }

    /// Makes a key, and its text, which is nowhere else ever after.
    ///
    /// # Errors
    /// Where the role does not fit the tenant, or the tenant is not there.
    pub async fn create_key(self: &Arc<Self>, caller: &Caller, new: NewKey) -> Result<(Key, String), Error> {
        let (access, by) = (self.clone(), caller.clone());
        let work = async move { access.make_key(&by, new).await };
        self.ports.authority.perform(caller, Action::ManageKeys, work).await
    }

    async fn make_key(&self, caller: &Caller, new: NewKey) -> Result<(Key, String), Error> {
        let tenant = self.managed(caller, new.tenant.as_ref()).await?;
        let for_host = tenant == TenantId::host();
        if for_host != (new.role == Role::Operator) {
            let message = match (for_host, caller.role) {
                (true, _) => "a key without a tenant has the role `operator`: name a tenant, or that role",
                (false, Role::Operator) => "an operator's key belongs to no tenant: leave `tenant` out",
                (false, _) => "the role is one of admin, author, caller, viewer",
            };
            return Err(Error::invalid("bad-json", "role", message));
        }
        let now = self.ports.clock.now();
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(Error::invalid("bad-json", "expires", "the key would have expired already: name a later time"));
        }
        let (key, text) = self.draw(tenant.clone(), new.role, new.expires_at);
        self.ports.authority.act(&tenant, Some(&caller.key), Change::KeyCreated(key.clone())).await?;
        Ok((key, text))
    }

    /// A tenant's keys, by id, after `after`; the caller's own tenant where none is named.
    ///
    /// # Errors
    /// Where the caller may not manage that tenant's keys, or the record does not answer.
    pub async fn keys(
        &self,
        caller: &Caller,
        tenant: Option<&TenantId>,
        after: Option<&KeyId>,
        limit: u32,
    ) -> Result<Vec<Key>, Error> {
        self.ports.authority.authorize(caller, Action::ManageKeys).await?;
        let tenant = self.managed(caller, tenant).await?;
        self.ports.authority.note_read(&tenant, &caller.key, Read::Keys);
        Ok(self.ports.catalog.keys(&tenant, after, limit).await?)
    }

    /// Takes a key back: it is refused from now on.
    ///
    /// # Errors
    /// Where it is not there, or not the caller's to take.
    pub async fn revoke_key(self: &Arc<Self>, caller: &Caller, id: &KeyId) -> Result<(), Error> {
        let (access, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            let missing = || Error::not_found(format!("key `{id}`"));
            let key = access.ports.catalog.key(&id).await?.ok_or_else(missing)?;
            if by.role != Role::Operator && key.tenant != by.tenant {
                return Err(missing());
            }
            if key.revoked_at.is_some() {
                return Ok(());
            }
            let change = Change::KeyRevoked { key: id, at: access.ports.clock.now() };
            Ok(access.ports.authority.act(&key.tenant, Some(&by.key), change).await?)
        };
        self.ports.authority.perform(caller, Action::ManageKeys, work).await
    }

    /// The number of the newest entry of the caller's tenant's ledger: what was done to its things. The operator's tenant is the
    /// host.
    ///
    /// # Errors
    /// For roles other than admin and operator; the record's.
    pub async fn ledger_end(&self, caller: &Caller) -> Result<Seq, Error> {
        self.ports.authority.authorize(caller, Action::ReadAudit).await?;
        Ok(self.ports.journal.last(&caller.tenant, RunId::ledger()).await?)
    }

    /// Entries of that ledger after number `after`, in order: at most `limit`, and about 1 MiB, of them, one at least.
    ///
    /// # Errors
    /// As [`Self::ledger_end`].
    pub async fn ledger(&self, caller: &Caller, after: Seq, limit: u32) -> Result<Vec<Placed>, Error> {
        const BYTES: usize = 1 << 20;
        self.ports.authority.authorize(caller, Action::ReadAudit).await?;
        self.ports.authority.note_read(&caller.tenant, &caller.key, Read::Audit);
        Ok(self.ports.journal.page(&caller.tenant, RunId::ledger(), after, limit, BYTES).await?)
    }

    /// A tenant's ceiling; the caller's own where none is named.
    ///
    /// # Errors
    /// Where the tenant is not there, or another's.
    pub async fn ceiling(&self, caller: &Caller, tenant: Option<&TenantId>) -> Result<Ceiling, Error> {
        let action = if tenant.is_some() { Action::ReadCeiling } else { Action::ReadOwnCeiling };
        self.ports.authority.authorize(caller, action).await?;
        let tenant = match tenant {
            Some(_) => self.managed(caller, tenant).await?,
            None => caller.tenant.clone(),
        };
        self.note_operator(caller, &tenant);
        Ok(Ceiling::clone(&*self.ports.authority.ceiling(&tenant).await?))
    }

    /// How much a tenant has on disk, and may have; the caller's own tenant where none is named.
    ///
    /// # Errors
    /// Where the tenant is not there, or another's.
    pub async fn disk_usage(&self, caller: &Caller, tenant: Option<&TenantId>) -> Result<DiskUsage, Error> {
        let action = if tenant.is_some() { Action::ReadCeiling } else { Action::ReadOwnCeiling };
        self.ports.authority.authorize(caller, action).await?;
        let tenant = self.managed(caller, tenant).await?;
        self.note_operator(caller, &tenant);
        Ok(self.ports.catalog.disk_usage(&tenant).await?)
    }

    /// Sets a tenant's ceiling, whole.
    ///
    /// # Errors
    /// Where the tenant is not there, or the ceiling is higher than the sandbox.
    pub async fn set_ceiling(self: &Arc<Self>, caller: &Caller, tenant: &TenantId, to: Ceiling) -> Result<(), Error> {
        let (access, by, tenant) = (self.clone(), caller.clone(), tenant.clone());
        let work = async move { access.change_ceiling(&by, &tenant, to).await };
        self.ports.authority.perform(caller, Action::SetCeiling, work).await
    }

    async fn change_ceiling(&self, caller: &Caller, tenant: &TenantId, ceiling: Ceiling) -> Result<(), Error> {
        let tenant = self.managed(caller, Some(tenant)).await?;
        let wrong = |field: &'static str, message: String| Err(Error::invalid("bad-json", field, message));
        if let Some(memory) = ceiling.limits.memory {
            let most = ByteSize(self.ports.max_memory);
            if memory > most {
                let message = format!("{memory} of memory is more than `sandbox.max_memory` of this host, {most}");
                return wrong("limits.memory", message);
            }
            if memory < LEAST_MEMORY {
                return wrong("limits.memory", format!("{memory} is no memory to run in: at least {LEAST_MEMORY}"));
            }
        }
        if let Some(disk) = ceiling.disk.filter(|disk| *disk < LEAST_DISK) {
            return wrong("disk", format!("{disk} is no room on the disk to work with: at least {LEAST_DISK}"));
        }
        if !(1..=MAX_CONCURRENCY).contains(&ceiling.concurrency) {
            let message = format!("`concurrency` is 1 to {MAX_CONCURRENCY}");
            return Err(Error::invalid("bad-json", "concurrency", message));
        }
        let change = Change::CeilingSet { tenant: tenant.clone(), ceiling };
        Ok(self.ports.authority.act(&tenant, Some(&caller.key), change).await?)
    }

    /// At a host's first start: makes the operator's key, the tenant `default` and its admin's key. `keep` is given the
    /// keys before they are recorded: what was recorded can be lost, what nobody kept cannot be found again.
    ///
    /// # Errors
    /// The record's, and those of `keep`.
    pub async fn bootstrap(&self, keep: impl FnOnce(&FirstKeys) -> Result<(), String> + Send) -> Result<bool, Error> {
        // The tenant is recorded last: where it is, the keys are.
        if !self.ports.catalog.tenants(None, 1).await?.is_empty() {
            return Ok(false);
        }
        let name: TenantId =
            "default".parse().map_err(|_| Error::Internal { message: "`default` is a name".into() })?;
        let (operator, operator_text) = self.draw(TenantId::host(), Role::Operator, None);
        let (admin, admin_text) = self.draw(name.clone(), Role::Admin, None);
        keep(&FirstKeys { operator: operator_text, default: admin_text })
            .map_err(|message| Error::Internal { message })?;
        let authority = &self.ports.authority;
        authority.act(&TenantId::host(), None, Change::KeyCreated(operator)).await?;
        authority.act(&name, None, Change::KeyCreated(admin)).await?;
        let tenant = Tenant { name, created_at: self.ports.clock.now() };
        authority.act(&TenantId::host(), None, Change::TenantCreated(tenant)).await?;
        Ok(true)
    }

    /// What the operator looks at of a tenant is in that tenant's audit.
    fn note_operator(&self, caller: &Caller, tenant: &TenantId) {
        if caller.tenant != *tenant {
            self.ports.authority.note_read(tenant, &caller.key, Read::Tenant);
        }
    }

    /// The tenant that a caller may manage under this name.
    async fn managed(&self, caller: &Caller, tenant: Option<&TenantId>) -> Result<TenantId, Error> {
        let Some(tenant) = tenant else { return Ok(caller.tenant.clone()) };
        let missing = || Error::not_found(format!("tenant `{tenant}`"));
        if caller.role != Role::Operator && *tenant != caller.tenant {
            return Err(missing());
        }
        self.ports.catalog.tenant(tenant).await?.map(|tenant| tenant.name).ok_or_else(missing)
    }

    fn draw(&self, tenant: TenantId, role: Role, expires_at: Option<Timestamp>) -> (Key, String) {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let mut random = [0_u8; 12];
        self.ports.entropy.fill(&mut random);
        let id: String = random.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect();
        let mut secret = [0_u8; 32];
        self.ports.entropy.fill(&mut secret);
        let text = format!("ltmc_{id}_{}", hex::encode(secret));
        let key = Key {
            id: id.parse().expect("made of the letters an id is made of"),
            tenant,
            role,
            hash: Digest::of(&secret).0,
            created_at: self.ports.clock.now(),
            expires_at,
            revoked_at: None,
        };
        (key, text)
    }
}

/// A key's id and secret.
fn split(text: &str) -> Option<(KeyId, [u8; 32])> {
    let (id, secret) = text.strip_prefix("ltmc_")?.split_once('_')?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(secret, &mut bytes).ok()?;
    Some((id.parse().ok()?, bytes))
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ltmc_ports::testing::{ManualClock, MemoryRecord, SeededEntropy};

    use super::*;

    fn access(record: &Arc<MemoryRecord>) -> (Arc<Access>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::default()));
        let authority = Arc::new(Authority::new(record.clone(), record.clone(), clock.clone()));
        let ports = Ports {
            catalog: record.clone(),
            journal: record.clone(),
            authority,
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(1)),
            max_memory: 64 << 20,
        };
        (Arc::new(Access::new(ports)), clock)
    }

    #[tokio::test]
    async fn a_ceiling_in_which_nothing_can_run_is_refused() {
        let record = MemoryRecord::new();
        let (access, _) = access(&record);
        let mut keys = None;
        let keep = |first: &FirstKeys| {
            keys = Some(first.clone());
            Ok(())
        };
        assert!(access.bootstrap(keep).await.unwrap());
        let operator = access.authenticate(&keys.unwrap().operator).await.unwrap();
        let tenant: TenantId = "default".parse().unwrap();
        let set = async |memory: Option<u64>, disk: Option<u64>| {
            let mut ceiling = Ceiling { disk: disk.map(ByteSize), ..Ceiling::default() };
            ceiling.limits.memory = memory.map(ByteSize);
            access.set_ceiling(&operator, &tenant, ceiling).await
        };
        set(Some(64 << 10), Some(1 << 20)).await.unwrap();
        set(None, None).await.unwrap();
        for (memory, disk, words) in [
            (Some(0), None, "64.0 KiB"),
            (Some((64 << 10) - 1), None, "64.0 KiB"),
            (Some(1 << 30), None, "`sandbox.max_memory` of this host, 64.0 MiB"),
            (None, Some(0), "1.0 MiB"),
        ] {
            let error = set(memory, disk).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn whoever_comes_in_vain_costs_the_same_whether_there_is_such_a_key_or_not() {
        let record = MemoryRecord::new();
        let (access, clock) = access(&record);
        let mut keys = None;
        let keep = |first: &FirstKeys| {
            keys = Some(first.clone());
            Ok(())
        };
        assert!(access.bootstrap(keep).await.unwrap());
        let good = keys.unwrap().default;
        let id = split(&good).unwrap().0;
        let admin = access.authenticate(&good).await.unwrap();
        let new = |expires_at| NewKey { tenant: None, role: Role::Viewer, expires_at };
        let (expired, expired_text) = access.create_key(&admin, new(Some(Timestamp::from_millis(1)))).await.unwrap();
        let (revoked, revoked_text) = access.create_key(&admin, new(None)).await.unwrap();
        access.revoke_key(&admin, &revoked.id).await.unwrap();
        clock.advance(Duration::from_secs(1));
        let wrong = |id: &KeyId| format!("ltmc_{id}_{}", "00".repeat(32));
        let unknown: KeyId = "abcdefghijkl".parse().unwrap();
        let cost = async |text: &str| {
            let before = record.keys_read();
            assert!(matches!(access.authenticate(text).await, Err(Error::Unauthorized)));
            record.keys_read() - before
        };
        // What is remembered of the good key, and of none of the others, makes no difference.
        for _ in 0..3 {
            access.authenticate(&good).await.unwrap();
            for text in [wrong(&id), wrong(&unknown), wrong(&expired.id), expired_text.clone(), revoked_text.clone()] {
                assert_eq!(cost(&text).await, 1, "{text}");
            }
        }
        let before = record.keys_read();
        access.authenticate(&good).await.unwrap();
        assert_eq!(record.keys_read(), before, "a good one that is remembered is not looked up");
    }
}
