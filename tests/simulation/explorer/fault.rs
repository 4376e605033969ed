//! The faults of requests and of watch events.

use std::fmt;

use kube::Resource;
use town_operator::api::Town;

use crate::server::call::{Call, Verb};
use crate::server::refusal::Refusal;
use crate::server::world::Answer;

/// A fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The operator is killed before it sends the request.
    CrashBefore,
    /// The operator is killed after the effect of the request, before the answer.
    CrashAfter,
    /// The answer is this error, and the request has no effect.
    Refused(u16),
    /// The answer is 504, and the request has taken effect.
    TimeoutAfter,
    /// The connection breaks, and the request has no effect.
    ResetBefore,
    /// The connection breaks after the request has taken effect.
    ResetAfter,
    /// The request has no answer. It takes effect after so many seconds.
    Late(u8),
    /// The operator is killed. The request takes effect after so many seconds.
    CrashThenLate(u8),
}

/// The errors of the API server.
const REFUSALS: [u16; 7] = [403, 404, 409, 422, 429, 500, 504];
/// The delays of a create in seconds: a short one, and one close to the limit of the API server. The API server drops a
/// request after the limit.
const LATER: [u8; 2] = [1, 59];

impl Fault {
    /// The faults that are possible for a request.
    pub fn of(call: &Call) -> Vec<Self> {
        let refused = REFUSALS.into_iter().map(Self::Refused);
        let mut all = vec![Self::CrashBefore];
        if call.is_write() {
            all.push(Self::ResetBefore);
            all.extend([Self::CrashAfter, Self::TimeoutAfter, Self::ResetAfter]);
            // An update or a delete has a precondition on a version or a UID, which makes a late effect harmless. A
            // create has no precondition.
            let later = if call.verb == Verb::Create { &LATER[..] } else { &LATER[..1] };
            all.extend(later.iter().flat_map(|after| [Self::Late(*after), Self::CrashThenLate(*after)]));
            all.extend(refused);
        } else {
            // A read has no conflict, is never invalid and has no effect. A lost answer to a read is equivalent to an
            // error.
            all.extend([Self::Refused(403), Self::Refused(404), Self::Refused(500), Self::ResetBefore]);
        }
        all
    }

    /// The faults for requests that only inform users.
    pub fn of_a_word() -> Vec<Self> {
        vec![Self::CrashBefore, Self::CrashAfter, Self::Refused(500), Self::ResetAfter]
    }

    /// Whether the operator can react to the fault in another way than to all other faults. The operator does not
    /// distinguish errors without an effect from each other, nor errors with an unknown effect. The tests of the
    /// operator's errors verify this.
    pub fn is_of_its_own_sort(self, call: &Call) -> bool {
        match self {
            Self::Refused(422 | 429 | 504) | Self::TimeoutAfter | Self::ResetBefore => false,
            Self::Refused(403) => call.is_write(),
            // The operator distinguishes a path that is not served only for our own kinds, whose definitions may be
            // missing.
            Self::Refused(404) => call.group == Town::group(&()),
            Self::ResetAfter => call.resource != "events",
            _ => true,
        }
    }

    /// Whether the fault ends the process.
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

/// The error with the text of the API server. A 404 has the text for a path that the server does not serve, as during the
/// installation of the definitions: the API server never answers 404 for an existing object.
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

/// A fault of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blindness {
    /// The event, and all later events of the watch, arrive after so many moves.
    Late(u16),
    /// The event, and all later events of the watch, arrive after so many seconds.
    LateBy(u8),
    /// The event is lost; the watch lists again after so many seconds.
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
