//! What a process believes a database that follows the record to have been told, tenant by tenant; and the pieces in which it is told
//! more. The same for every such database.
//!
//! Invariant: where a database turns out to hold less than is believed, it was wiped or went back to an older state, and is not told
//! on as if nothing had happened: nothing is believed any more ([`Told::forget`]), until it has been asked ([`Told::asked`]).
//!
//! | what is known | by | until |
//! | --- | --- | --- |
//! | nothing | the start; [`Told::forget`] | it is asked how far it is |
//! | [`Known::Building`] | asked, it knows nothing of the tenant | [`Told::applied`] after the build; it is emptied meanwhile |
//! | [`Known::Applied`] | asked, or told more ([`Told::applied`]) | it holds less |

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ltmc_model::delta::Logged;
use ltmc_model::{Position, TenantId};

/// What is known of a tenant there. `B`: by what the database knows a build again that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known<B> {
    /// It has been told up to here.
    Applied(Position),
    /// It is being built.
    Building(B),
}

/// What is known of every tenant.
#[derive(Debug)]
pub struct Told<B> {
    tenants: Mutex<HashMap<TenantId, Known<B>>>,
}

impl<B> Default for Told<B> {
    fn default() -> Self {
        Self { tenants: Mutex::default() }
    }
}

impl<B: Clone> Told<B> {
    /// What is known of a tenant; none: the database is to be asked.
    pub fn get(&self, tenant: &TenantId) -> Option<Known<B>> {
        self.lock().get(tenant).cloned()
    }

    /// Up to where the database has been told, as far as is known.
    pub fn known(&self, tenant: &TenantId) -> Option<Position> {
        match self.lock().get(tenant) {
            Some(Known::Applied(at)) => Some(*at),
            _ => None,
        }
    }

    /// The build of a tenant that is under way.
    pub fn building(&self, tenant: &TenantId) -> Option<B> {
        match self.lock().get(tenant) {
            Some(Known::Building(build)) => Some(build.clone()),
            _ => None,
        }
    }

    /// The database was asked: it has been told so far, or a build of it began.
    pub fn asked(&self, tenant: &TenantId, found: Known<B>) {
        self.lock().insert(tenant.clone(), found);
    }

    /// The database has been told up to `to`; never less than was known.
    pub fn applied(&self, tenant: &TenantId, to: Position) {
        let mut tenants = self.lock();
        let at = match tenants.get(tenant) {
            Some(Known::Applied(at)) => to.max(*at),
            _ => to,
        };
        tenants.insert(tenant.clone(), Known::Applied(at));
    }

    /// The build that is under way has come further.
    pub fn built(&self, tenant: &TenantId, further: impl FnOnce(&mut B)) {
        if let Some(Known::Building(build)) = self.lock().get_mut(tenant) {
            further(build);
        }
    }

    /// Nothing is known any more; what was.
    pub fn forget(&self, tenant: &TenantId) -> Option<Known<B>> {
        self.lock().remove(tenant)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Known<B>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much a database is told at once: it serves nobody else meanwhile, or keeps all of it in memory.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// At most so many rows.
    pub rows: usize,
    /// At most so many bytes.
    pub bytes: usize,
}

impl Piece {
    /// Divides things into pieces in their order, each of one thing at least. `weight`: as how many rows one counts.
    pub fn divide<T>(self, mut all: &[T], weight: impl Fn(&T) -> usize, size: impl Fn(&T) -> usize) -> Vec<&[T]> {
        let mut pieces = Vec::new();
        while !all.is_empty() {
            let (mut rows, mut bytes) = (0, 0);
            let fits = |one: &&T| {
                rows += weight(one);
                bytes += size(one);
                rows <= self.rows && bytes <= self.bytes
            };
            let (piece, rest) = all.split_at(all.iter().take_while(fits).count().max(1));
            pieces.push(piece);
            all = rest;
        }
        pieces
    }

    /// Divides rows of the log, with the place up to which each piece goes, and the last of them up to `to`. It is one piece at least.
    pub fn divide_log(
        self,
        rows: &[Logged],
        to: Position,
        weight: impl Fn(&Logged) -> usize,
    ) -> Vec<(&[Logged], Position)> {
        let ends = |rows: &[Logged]| rows.last().map_or(to, |row| row.position);
        let pieces = self.divide(rows, weight, |row| row.delta.size()).into_iter();
        let mut pieces: Vec<(&[Logged], Position)> = pieces.map(|piece| (piece, ends(piece))).collect();
        match pieces.last_mut() {
            Some((_, end)) => *end = to,
            None => pieces.push((&[], to)),
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::Revision;
    use ltmc_model::delta::Delta;

    use super::*;

    const PIECE: Piece = Piece { rows: 1_000, bytes: 8 << 20 };

    #[test]
    fn pieces_are_bounded_have_one_row_at_least_and_leave_nothing_out() {
        let lengths = |weights: &[usize]| -> Vec<usize> {
            let pieces = PIECE.divide(weights, |weight| *weight, |_| 10);
            assert_eq!(pieces.concat(), weights);
            pieces.iter().map(|piece| piece.len()).collect()
        };
        assert_eq!(lengths(&[1; 1_500]), [1_000, 500]);
        assert_eq!(lengths(&[600, 300, 200]), [2, 1]);
        assert_eq!(lengths(&[5_000, 1]), [1, 1]);
        assert_eq!(lengths(&[]), Vec::<usize>::new());
        let sizes: Vec<usize> = (0..2_500).map(|n| if n == 1_200 { 9 << 20 } else { 1 << 10 }).collect();
        let pieces = PIECE.divide(&sizes, |_| 1, |size| *size);
        assert_eq!(pieces.concat(), sizes);
        assert_eq!(pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(), [1_000, 200, 1, 1_000, 299]);
    }

    #[test]
    fn each_piece_of_the_log_goes_up_to_its_last_row_and_the_last_up_to_where_all_of_it_does() {
        let row = |number: u64| {
            let delta = Delta::NoteForgotten { id: "n".into(), revision: Revision(number) };
            Logged { position: Position(number), tenant: "acme".parse().unwrap(), delta }
        };
        let rows: Vec<Logged> = (1..=5).map(row).collect();
        let pieces = Piece { rows: 2, ..PIECE }.divide_log(&rows, Position(9), |_| 1);
        let found: Vec<(usize, u64)> = pieces.iter().map(|(rows, to)| (rows.len(), to.0)).collect();
        assert_eq!(found, [(2, 2), (2, 4), (1, 9)]);
        let none = PIECE.divide_log(&[], Position(9), |_| 1);
        assert_eq!((none.len(), none[0].1), (1, Position(9)), "also where there are no rows it is told how far it is");
    }

    #[test]
    fn what_is_known_never_goes_back_unless_it_is_forgotten() {
        let (told, acme) = (Told::<u32>::default(), "acme".parse().unwrap());
        assert_eq!(told.get(&acme), None);
        told.asked(&acme, Known::Building(1));
        told.built(&acme, |calls| *calls += 1);
        assert_eq!((told.building(&acme), told.known(&acme)), (Some(2), None));
        told.applied(&acme, Position(5));
        told.applied(&acme, Position(3));
        told.built(&acme, |calls| *calls += 1);
        assert_eq!((told.building(&acme), told.known(&acme)), (None, Some(Position(5))));
        assert_eq!(told.forget(&acme), Some(Known::Applied(Position(5))));
        told.applied(&acme, Position(3));
        assert_eq!(told.known(&acme), Some(Position(3)));
        told.asked(&acme, Known::Applied(Position(1)));
        assert_eq!(told.known(&acme), Some(Position(1)), "the database itself says so");
    }
}
