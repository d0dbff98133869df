//! What is recorded, set aside and widened at the border.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use super::operation::{Format, Kind, Operation};

/// One for the whole program, as burn's tuning is.
#[derive(Debug)]
pub(super) struct State {
    pub(super) recorded: Option<BTreeSet<Operation>>,
    pub(super) set_aside: BTreeSet<(Kind, Format)>,
    pub(super) all_set_aside: bool,
    pub(super) widened: BTreeSet<Kind>,
    /// Whether there is a fault at the border, for which everything must cross it.
    #[cfg(feature = "planted-faults")]
    pub(super) has_fault: bool,
}

impl State {
    fn new() -> Self {
        Self {
            recorded: None,
            set_aside: BTreeSet::new(),
            all_set_aside: false,
            widened: BTreeSet::new(),
            #[cfg(feature = "planted-faults")]
            has_fault: std::env::var_os(FAULT).is_some(),
        }
    }

    /// Whether anything is at the border.
    fn is_in_use(&self) -> bool {
        let is_changed = self.all_set_aside || !self.set_aside.is_empty() || !self.widened.is_empty();
        #[cfg(feature = "planted-faults")]
        let is_changed = is_changed || self.has_fault;
        is_changed || self.recorded.is_some()
    }
}

/// The variable of the environment that plants a fault.
#[cfg(feature = "planted-faults")]
pub(super) const FAULT: &str = "GHOSTNET_PLANTED_FAULT";

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| Mutex::new(State::new()));

/// Whether the networks' operations cross the border rather than call burn directly.
static IN_USE: LazyLock<AtomicBool> = LazyLock::new(|| AtomicBool::new(State::new().is_in_use()));

pub(super) fn is_in_use() -> bool {
    IN_USE.load(Ordering::SeqCst)
}

/// Reads or changes the state, and keeps [`is_in_use`] true to it.
pub(super) fn change<T>(change: impl FnOnce(&mut State) -> T) -> T {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    let result = change(&mut state);
    IN_USE.store(state.is_in_use(), Ordering::SeqCst);
    result
}
