//! What each role may ask for: one table.

use std::fmt;

use ltmc_model::caller::{Caller, Role};

/// What a use case does, as far as policy tells use cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Make a tenant.
    CreateTenant,
    /// Delete a tenant.
    DeleteTenant,
    /// List tenants.
    ListTenants,
    /// Set a tenant's ceiling.
    SetCeiling,
    /// See any tenant's ceiling.
    ReadCeiling,
    /// See the own tenant's ceiling.
    ReadOwnCeiling,
    /// Make, list and revoke keys.
    ManageKeys,
    /// Push an agent.
    PushAgent,
    /// See agents.
    ReadAgents,
    /// See what agents ask for and are granted, and what workflows' documents say.
    ReadDefinitions,
    /// Delete an agent.
    DeleteAgent,
    /// Change an agent's grants.
    SetGrants,
    /// Put or delete a workflow.
    PutWorkflow,
    /// See workflows.
    ReadWorkflows,
    /// Call an agent, run a workflow, cancel and resume runs.
    Run,
    /// Answer questions that runs ask; which, says the question.
    Answer,
    /// See runs; a caller only those of its own key.
    ReadRuns,
    /// See shared context: memory, graph, recall, messages.
    ReadContext,
    /// Change shared context.
    WriteContext,
    /// Release an agent's state, or set it by hand.
    MendState,
    /// Compare the databases with the record, and mend them.
    Repair,
    /// See what was done to the own tenant's things; the operator: to the host's.
    ReadAudit,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::CreateTenant,
        Self::DeleteTenant,
        Self::ListTenants,
        Self::SetCeiling,
        Self::ReadCeiling,
        Self::ReadOwnCeiling,
        Self::ManageKeys,
        Self::PushAgent,
        Self::ReadAgents,
        Self::ReadDefinitions,
        Self::DeleteAgent,
        Self::SetGrants,
        Self::PutWorkflow,
        Self::ReadWorkflows,
        Self::Run,
        Self::Answer,
        Self::ReadRuns,
        Self::ReadContext,
        Self::WriteContext,
        Self::MendState,
        Self::Repair,
        Self::ReadAudit,
    ];

    /// The roles whose keys may do it.
    pub fn roles(self) -> &'static [Role] {
        use Role::{Admin, Author, Caller, Operator, Viewer};
        match self {
            Self::CreateTenant | Self::DeleteTenant | Self::ListTenants | Self::SetCeiling | Self::Repair => {
                &[Operator]
            }
            Self::ReadCeiling | Self::ManageKeys | Self::ReadAudit => &[Operator, Admin],
            Self::DeleteAgent | Self::SetGrants | Self::MendState => &[Admin],
            Self::PushAgent | Self::PutWorkflow | Self::WriteContext => &[Admin, Author],
            // A caller has its own runs, and nothing of what others share.
            Self::ReadContext | Self::ReadDefinitions => &[Admin, Author, Viewer],
            Self::Run | Self::Answer => &[Admin, Author, Caller],
            Self::ReadOwnCeiling | Self::ReadAgents | Self::ReadWorkflows | Self::ReadRuns => {
                &[Admin, Author, Caller, Viewer]
            }
        }
    }

    /// For people: "make a tenant".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateTenant => "make a tenant",
            Self::DeleteTenant => "delete a tenant",
            Self::ListTenants => "list tenants",
            Self::SetCeiling => "set a ceiling",
            Self::ReadCeiling | Self::ReadOwnCeiling => "see a ceiling",
            Self::ManageKeys => "manage keys",
            Self::PushAgent => "push an agent",
            Self::ReadAgents => "see agents",
            Self::ReadDefinitions => "see grants and workflows' documents",
            Self::DeleteAgent => "delete an agent",
            Self::SetGrants => "change grants",
            Self::PutWorkflow => "change a workflow",
            Self::ReadWorkflows => "see workflows",
            Self::Run => "run anything",
            Self::Answer => "answer questions of runs",
            Self::ReadRuns => "see runs",
            Self::ReadContext => "see shared context",
            Self::WriteContext => "change shared context",
            Self::MendState => "release or set an agent's state",
            Self::Repair => "look at or repair the databases",
            Self::ReadAudit => "see the audit",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a caller may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key of the role `{role}` may not {action}: that takes {wanted}")]
pub struct Denied {
    /// What it came as.
    pub role: Role,
    /// What it asked for.
    pub action: Action,
    wanted: String,
}

/// Whether a caller may.
///
/// # Errors
/// Why not, and which roles may.
pub fn authorize(caller: &Caller, action: Action) -> Result<(), Denied> {
    let roles = action.roles();
    if roles.contains(&caller.role) {
        return Ok(());
    }
    Err(Denied { role: caller.role, action, wanted: listed(roles) })
}

/// The roles whose questions a role may answer: its own, and those of smaller ones.
pub fn may_answer_for(role: Role) -> &'static [Role] {
    match role {
        Role::Admin => &[Role::Admin, Role::Author, Role::Caller],
        Role::Author => &[Role::Author, Role::Caller],
        Role::Caller => &[Role::Caller],
        Role::Operator | Role::Viewer => &[],
    }
}

/// Whether a caller may answer a question that takes at least the role `of`.
///
/// # Errors
/// Why not, and which roles may.
pub fn may_answer(caller: &Caller, of: Role) -> Result<(), Denied> {
    if may_answer_for(caller.role).contains(&of) {
        return Ok(());
    }
    let all = [Role::Admin, Role::Author, Role::Caller];
    let may: Vec<Role> = all.into_iter().filter(|role| may_answer_for(*role).contains(&of)).collect();
    Err(Denied { role: caller.role, action: Action::Answer, wanted: listed(&may) })
}

fn listed(roles: &[Role]) -> String {
    roles.iter().map(|role| format!("`{role}`")).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 5] = [Role::Operator, Role::Admin, Role::Author, Role::Caller, Role::Viewer];

    fn caller(role: Role) -> Caller {
        Caller { tenant: "acme".parse().unwrap(), key: "abcdefghijkl".parse().unwrap(), role, cause: None }
    }

    #[test]
    fn the_operator_has_no_way_to_a_tenants_data() {
        let may: Vec<Action> =
            Action::ALL.into_iter().filter(|a| authorize(&caller(Role::Operator), *a).is_ok()).collect();
        let wanted = [
            Action::CreateTenant,
            Action::DeleteTenant,
            Action::ListTenants,
            Action::SetCeiling,
            Action::ReadCeiling,
            Action::ManageKeys,
            Action::Repair,
            Action::ReadAudit,
        ];
        assert_eq!(may, wanted);
    }

    #[test]
    fn inside_a_tenant_each_role_may_what_the_smaller_one_may() {
        for pair in ROLES[1..].windows(2) {
            // A caller has its own runs alone.
            let others = [Action::ReadContext, Action::ReadDefinitions];
            for action in Action::ALL.into_iter().filter(|action| !others.contains(action)) {
                let (larger, smaller) = (caller(pair[0]), caller(pair[1]));
                assert!(authorize(&smaller, action).is_err() || authorize(&larger, action).is_ok(), "{action:?}");
            }
        }
    }

    #[test]
    fn a_refusal_says_what_it_takes() {
        let denied = authorize(&caller(Role::Viewer), Action::PushAgent).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "a key of the role `viewer` may not push an agent: that takes `admin` or `author`"
        );
    }
}
