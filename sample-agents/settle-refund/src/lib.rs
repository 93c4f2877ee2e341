//! Holds a conversation about money: looks an order up, and settles its refund, once.
//!
//! Invariant: what is to be paid back for an order is kept under `refunds/ORDER`, which is written where it is absent: whoever asks again, in this
//! conversation or another one, is told what was settled before.

use desk::{About, Case};
use ltmc::memory::{self, Precondition, PutOptions, Scope};
use ltmc::{Agent, Error, Failure, Task, hand_off};

/// Where orders are, by their numbers: what was paid, in cents.
const ORDERS: &str = "orders/";
/// Where refunds are, by the numbers of their orders: what is paid back, in cents.
const REFUNDS: &str = "refunds/";

/// The agent.
#[derive(Default)]
#[ltmc::agent]
pub struct SettleRefund;

impl Agent for SettleRefund {
    type Input = String;
    type Output = String;

    fn execute(&self, message: String, _task: &Task) -> Result<String, Failure> {
        let mut case = Case::read()?.with(&message);
        if About::of(&message) == Some(About::Trouble) {
            case.write()?;
            hand_off::to_with("solve-problem", "now it is about something that does not work", case.summary(&message))?;
            return Ok(String::new());
        }
        let Some(order) = case.order.clone() else {
            case.write()?;
            return Ok("Which order is it about? Its number has four digits or more.".to_owned());
        };
        let shop = memory::open(Scope::Global)?;
        let Some(paid) = shop.get_json::<u64>(&format!("{ORDERS}{order}"))? else {
            case.order = None;
            case.write()?;
            return Ok(format!("There is no order {order}. Which one do you mean?"));
        };
        let answer = match shop.put_json_with(
            &format!("{REFUNDS}{order}"),
            &paid,
            PutOptions { precondition: Precondition::Absent, ttl: None },
        ) {
            Ok(_) => {
                case.done.push(format!("refund of order {order}"));
                format!("Order {order} is paid back: {}.{:02} €, within three days.", paid / 100, paid % 100)
            }
            Err(Error::Conflict(_)) => format!("The refund of order {order} is settled already; it is on its way."),
            Err(error) => return Err(error.into()),
        };
        case.write()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> ltmc::testing::Host {
        let desk = ["triage-request", "settle-refund", "solve-problem"];
        let host = ltmc::testing::Host::new().agent("settle-refund").holds(&desk);
        let host = host.grant("memory:read:session").grant("memory:write:session");
        host.grant("memory:read:global").grant("memory:write:global").grant("hand-off:solve-problem")
    }

    #[test]
    fn a_refund_is_settled_once_whoever_asks() {
        let host = host();
        host.within(|| memory::open(Scope::Global)?.put_json("orders/4711", &1_950)).unwrap();
        let ask = |message: &str| host.call::<SettleRefund>(message.into()).unwrap();
        assert!(ask("I want my money back").starts_with("Which order"));
        assert_eq!(ask("it is order 4711"), "Order 4711 is paid back: 19.50 €, within three days.");
        assert_eq!(ask("please, my refund"), "The refund of order 4711 is settled already; it is on its way.");
        let other = host.clone().session("another");
        assert!(other.call::<SettleRefund>("refund order 4711".into()).unwrap().contains("already"));
        assert!(other.call::<SettleRefund>("refund order 9999".into()).unwrap().starts_with("There is no order 9999"));
    }

    #[test]
    fn what_does_not_work_is_somebody_elses() {
        let host = host();
        host.call::<SettleRefund>("the app crashes".into()).unwrap();
        assert_eq!(host.hand_offs()[0].to, "solve-problem");
    }
}
