//! What may go wrong with a request, and with what a watch brings.

use std::fmt;

use kube::Resource;
use town_operator::api::Town;

use crate::server::call::{Call, Verb};
use crate::server::refusal::Refusal;
use crate::server::world::Answer;

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The operator is killed before the request leaves it.
    CrashBefore,
    /// The operator is killed when the request has taken effect, before the answer is there.
    CrashAfter,
    /// The answer is this error, and nothing happened.
    Refused(u16),
    /// The answer is 504, and it took effect.
    TimeoutAfter,
    /// The connection breaks before the request takes effect, which it never does.
    ResetBefore,
    /// The connection breaks after it took effect.
    ResetAfter,
    /// No answer comes. It takes effect so many seconds later.
    Late(u8),
    /// The operator is killed. The request takes effect so many seconds later.
    CrashThenLate(u8),
}

/// Errors that the API server answers with.
const REFUSALS: [u16; 7] = [403, 404, 409, 422, 429, 500, 504];
/// How much later a create may take effect: soon, or nearly as late as the API server lets it. What is later than
/// that no request is.
const LATER: [u8; 2] = [1, 59];

impl Fault {
    /// All that may go wrong with a request.
    pub fn of(call: &Call) -> Vec<Self> {
        let refused = REFUSALS.into_iter().map(Self::Refused);
        let mut all = vec![Self::CrashBefore];
        if call.is_write() {
            all.push(Self::ResetBefore);
            all.extend([Self::CrashAfter, Self::TimeoutAfter, Self::ResetAfter]);
            // What changes or deletes names a version or a UID; a create names nothing.
            let later = if call.verb == Verb::Create { &LATER[..] } else { &LATER[..1] };
            all.extend(later.iter().flat_map(|after| [Self::Late(*after), Self::CrashThenLate(*after)]));
            all.extend(refused);
        } else {
            // A read neither conflicts nor is invalid, and has no effect: an answer that is lost is one more error.
            all.extend([Self::Refused(403), Self::Refused(404), Self::Refused(500), Self::ResetBefore]);
        }
        all
    }

    /// Those that matter for what only tells people something.
    pub fn of_a_word() -> Vec<Self> {
        vec![Self::CrashBefore, Self::CrashAfter, Self::Refused(500), Self::ResetAfter]
    }

    /// Whether the operator may do something else about it than about any other fault: it does not tell apart errors
    /// that say that nothing happened, nor those that leave it open. The tests of the operator's errors hold it to that.
    pub fn is_of_its_own_sort(self, call: &Call) -> bool {
        match self {
            Self::Refused(422 | 429 | 504) | Self::TimeoutAfter | Self::ResetBefore => false,
            Self::Refused(403) => call.is_write(),
            // That a path is not served is told apart where a kind of ours may not be installed.
            Self::Refused(404) => call.group == Town::group(&()),
            Self::ResetAfter => call.resource != "events",
            _ => true,
        }
    }

    /// Whether the operator does not survive it.
    pub fn kills(self) -> bool {
        matches!(self, Self::CrashBefore | Self::CrashAfter | Self::CrashThenLate(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrashBefore => f.write_str("the operator is killed before it is sent"),
            Self::CrashAfter => {
                f.write_str("it takes effect, and the operator is killed before the answer comes")
            }
            Self::Refused(code) => write!(f, "answered {code}"),
            Self::TimeoutAfter => f.write_str("it takes effect, answered 504"),
            Self::ResetBefore => f.write_str("the connection breaks on the way there"),
            Self::ResetAfter => f.write_str("it takes effect, and the connection breaks on the way back"),
            Self::Late(seconds) => write!(f, "no answer; it takes effect {seconds} s later"),
            Self::CrashThenLate(seconds) => {
                write!(f, "the operator is killed; it takes effect {seconds} s later")
            }
        }
    }
}

/// The error that is answered, in the words of the API server. A 404 is the one of a path that is not served, as
/// while definitions are being installed: of an object that is there the API server does not say that it is not.
pub fn refusal(call: &Call, code: u16) -> Answer {
    let conflict = if call.verb == Verb::Create { "AlreadyExists" } else { "Conflict" };
    Answer::from(match code {
        403 => Refusal::new(403, "Forbidden", "forbidden: User \"operator\" cannot do this"),
        404 => Refusal::new(404, "", "404 page not found"),
        409 => Refusal::new(
            409,
            conflict,
            "the object has been modified; please apply your changes to the latest",
        ),
        422 => Refusal::new(422, "Invalid", "admission webhook \"other.example\" denied the request"),
        429 => Refusal::too_many_requests(1),
        500 => Refusal::internal("etcdserver: leader changed"),
        _ => Refusal::timeout(),
    })
}

/// What goes wrong with what a watch brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blindness {
    /// It comes so many moves later, and so does all that comes after it by that watch.
    Late(u16),
    /// It comes so many seconds later, and so does all that comes after it by that watch.
    LateBy(u8),
    /// It never comes; so many seconds later the watch lists anew.
    Lost(u8),
}

impl fmt::Display for Blindness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(moves) => write!(f, "held back for {moves} moves"),
            Self::LateBy(seconds) => write!(f, "held back for {seconds} s"),
            Self::Lost(seconds) => write!(f, "lost; the watch lists anew {seconds} s later"),
        }
    }
}
